package raftlog

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	appendSeconds   prometheus.Histogram
	appendBytes     prometheus.Counter
	syncSeconds     prometheus.Histogram
	syncErrors      prometheus.Counter
	refused         *prometheus.CounterVec
	reopens         prometheus.Counter
	cacheHits       prometheus.Counter
	cacheMisses     prometheus.Counter
	snapshotSeconds prometheus.Histogram
	snapshotBytes   prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	buckets := []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .05, .25, 1}
	m := &metrics{
		appendSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "landbridge_raftlog_append_seconds", Buckets: buckets,
			Help: "Time to make a group of Raft entries durable."}),
		appendBytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "landbridge_raftlog_append_bytes_total",
			Help: "Bytes of Raft entries made durable."}),
		syncSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "landbridge_raftlog_sync_seconds", Buckets: buckets,
			Help: "Time of one fsync of a log segment."}),
		syncErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "landbridge_raftlog_sync_errors_total",
			Help: "Failed fsyncs. The first one stops the server."}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "landbridge_raftlog_refused_total",
			Help: "Groups of Raft entries that could not be appended, by reason."}, []string{"reason"}),
		reopens: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "landbridge_raftlog_reopens_total",
			Help: "Times the log was opened anew after a new segment could not be made."}),
		cacheHits: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "landbridge_raftlog_cache_hits_total",
			Help: "Raft entries read from memory."}),
		cacheMisses: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "landbridge_raftlog_cache_misses_total",
			Help: "Raft entries read from disk."}),
		snapshotSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "landbridge_raftlog_snapshot_seconds", Buckets: []float64{.001, .01, .1, .5, 1, 5, 10, 60, 300},
			Help: "Time from opening a snapshot file for writing until it is durable."}),
		snapshotBytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "landbridge_raftlog_snapshot_bytes",
			Help: "Size of the newest snapshot written or received by this process."}),
	}
	m.refused.WithLabelValues(reasonFull)
	m.refused.WithLabelValues(reasonOther)
	reg.MustRegister(m.appendSeconds, m.appendBytes, m.syncSeconds, m.syncErrors, m.refused, m.reopens,
		m.cacheHits, m.cacheMisses, m.snapshotSeconds, m.snapshotBytes)
	return m
}

const (
	reasonFull  = "disk_full"
	reasonOther = "other"
)
