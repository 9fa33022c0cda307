package endpoint

import (
	"github.com/prometheus/client_golang/prometheus"

	"landbridge/forwarding/rpc"
	measure "landbridge/metrics"
)

type metrics struct {
	ok, failed [maxMethod]prometheus.Counter // by method; nil for unknown ones
	seconds    [maxMethod]*measure.Timing    // of writes and what is as dear; nil for all others
	blocking   prometheus.Gauge
	wakeups    prometheus.Counter
	failover   struct{ ok, empty, failed prometheus.Counter }
}

func newMetrics(reg prometheus.Registerer) *metrics {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "landbridge_endpoint_requests_total",
		Help: "Requests this server answered itself, by method and outcome.",
	}, []string{"method", "outcome"})
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
			m.seconds[d.ID] = new(measure.Timing)
		}
		m.ok[d.ID] = requests.WithLabelValues(d.Name, "ok")
		m.failed[d.ID] = requests.WithLabelValues(d.Name, "error")
	}
	failovers := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "landbridge_endpoint_query_failovers_total",
		Help: "Other datacenters that prepared queries asked for lack of own instances, by outcome.",
	}, []string{"outcome"})
	m.failover.ok = failovers.WithLabelValues("ok")
	m.failover.empty = failovers.WithLabelValues("empty")
	m.failover.failed = failovers.WithLabelValues("error")
	reg.MustRegister(failovers, requests, m.blocking, m.wakeups, (*timings)(&m.seconds))
	return m
}

var writeSeconds = prometheus.NewDesc("landbridge_endpoint_write_seconds",
	"Time this server took to answer writes, and reads that are as dear, by method.", []string{"method"}, nil)

// timings shows durations when it is scraped.
type timings [maxMethod]*measure.Timing

func (t *timings) Describe(ch chan<- *prometheus.Desc) { ch <- writeSeconds }

func (t *timings) Collect(ch chan<- prometheus.Metric) {
	for id, timing := range t {
		if timing != nil {
			var s measure.Timings
			s.Add(timing)
			ch <- s.Summary(writeSeconds, rpc.Lookup(rpc.MethodID(id)).Name)
		}
	}
}
