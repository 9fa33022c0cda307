package consensus

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	commitSeconds prometheus.Histogram
	batchCommands prometheus.Histogram
	queued        prometheus.Gauge
	applied       *prometheus.CounterVec
	okCommands    prometheus.Counter
	leader        prometheus.Gauge
	leaderChanges prometheus.Counter
	leaseRefused  prometheus.Counter
	snapshots     *prometheus.CounterVec
	handovers     prometheus.Counter
}

// Outcomes of a command at Apply.
const (
	outcomeOK      = "applied"
	outcomeNotSent = "not_sent"
	outcomeUnknown = "unknown"
	outcomeRefused = "refused"
)

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		commitSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "landbridge_consensus_commit_seconds",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5},
			Help:    "Time from handing a group of commands to Raft until it is applied here."}),
		batchCommands: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "landbridge_consensus_group_commands", Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512},
			Help: "Commands joined into one Raft entry."}),
		queued: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "landbridge_consensus_queued_commands",
			Help: "Commands waiting to be joined into a Raft entry."}),
		applied: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "landbridge_consensus_commands_total",
			Help: "Commands given to this server as leader, by what became of them."}, []string{"outcome"}),
		leader: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "landbridge_consensus_is_leader",
			Help: "1 while this server leads its datacenter and has applied all of earlier terms."}),
		leaderChanges: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "landbridge_consensus_leader_changes_total",
			Help: "Times this server saw another leader, or none."}),
		leaseRefused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "landbridge_consensus_lease_refused_total",
			Help: "Reads on the leader that could not rely on its lease."}),
		snapshots: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "landbridge_consensus_size_snapshots_total",
			Help: "Snapshots taken because the log grew by its limit in bytes, by outcome."}, []string{"outcome"}),
		handovers: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "landbridge_consensus_stall_handovers_total",
			Help: "Times this leader asked another server to lead because its own disk did not take the log."}),
	}
	for _, o := range []string{outcomeOK, outcomeNotSent, outcomeUnknown, outcomeRefused} {
		m.applied.WithLabelValues(o)
	}
	m.okCommands = m.applied.WithLabelValues(outcomeOK)
	m.snapshots.WithLabelValues("ok")
	m.snapshots.WithLabelValues("failed")
	reg.MustRegister(m.commitSeconds, m.batchCommands, m.queued, m.applied, m.leader, m.leaderChanges,
		m.leaseRefused, m.snapshots, m.handovers)
	return m
}
