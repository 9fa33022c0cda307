package endpoint

import (
	"github.com/prometheus/client_golang/prometheus"

	"landbridge/forwarding/rpc"
)

type metrics struct {
	ok, failed [maxMethod]prometheus.Counter // by method; nil for unknown ones
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
	reg.MustRegister(failovers, requests, m.blocking, m.wakeups)
	return m
}
