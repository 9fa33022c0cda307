package endpoint

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"landbridge/forwarding/rpc"
	measure "landbridge/metrics"
)

type metrics struct {
	methods  byMethod
	blocking prometheus.Gauge
	wakeups  prometheus.Counter
	failover struct{ ok, empty, failed prometheus.Counter }
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		blocking: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "landbridge_endpoint_blocking_queries",
			Help: "Blocking queries that wait at this server.",
		}),
		wakeups: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "landbridge_endpoint_wakeups_total",
			Help: "Times a waiting query was woken by a change, whether or not that ended it.",
		}),
	}
	for _, d := range rpc.Methods() {
		if d.Write || d.ID == rpc.TxnRead || d.ID == rpc.QueryExecute {
			m.methods[d.ID].seconds = new(measure.Timing)
		}
	}
	failovers := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "landbridge_endpoint_query_failovers_total",
		Help: "Other datacenters that prepared queries asked for lack of own instances, by outcome.",
	}, []string{"outcome"})
	m.failover.ok = failovers.WithLabelValues("ok")
	m.failover.empty = failovers.WithLabelValues("empty")
	m.failover.failed = failovers.WithLabelValues("error")
	reg.MustRegister(failovers, m.blocking, m.wakeups, &m.methods)
	return m
}

var (
	requestsDesc = prometheus.NewDesc("landbridge_endpoint_requests_total",
		"Requests this server answered itself, by method and outcome; of methods that were asked for.", []string{"method", "outcome"}, nil)
	writeSeconds = prometheus.NewDesc("landbridge_endpoint_write_seconds",
		"Time this server took to answer writes, and reads that are as dear, by method; of methods that were asked for.", []string{"method"}, nil)
)

// byMethod is what is counted of each method. It is shown of those that were asked
// for, a dozen of all, and of KV.Apply, so that both families exist from the start.
type byMethod [maxMethod]struct {
	ok, failed atomic.Uint64
	seconds    *measure.Timing // of writes and what is as dear; nil for all others
}

func (t *byMethod) Describe(ch chan<- *prometheus.Desc) { ch <- requestsDesc; ch <- writeSeconds }

func (t *byMethod) Collect(ch chan<- prometheus.Metric) {
	for _, d := range rpc.Methods() {
		m := &t[d.ID]
		ok, failed := m.ok.Load(), m.failed.Load()
		if ok+failed == 0 && d.ID != rpc.KVApply {
			continue
		}
		ch <- prometheus.MustNewConstMetric(requestsDesc, prometheus.CounterValue, float64(ok), d.Name, "ok")
		ch <- prometheus.MustNewConstMetric(requestsDesc, prometheus.CounterValue, float64(failed), d.Name, "error")
		if m.seconds != nil {
			var s measure.Timings
			s.Add(m.seconds)
			ch <- s.Summary(writeSeconds, d.Name)
		}
	}
}
