package watch

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	watches prometheus.Gauge
	runs    *prometheus.CounterVec
	errors  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		watches: prometheus.NewGauge(prometheus.GaugeOpts{Name: "landbridge_federation_watches",
			Help: "Watches of the configuration that this agent follows."}),
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "landbridge_federation_watch_runs_total",
			Help: "Handlers of watches that were run, by outcome (ok, failed)."}, []string{"outcome"}),
		errors: prometheus.NewCounter(prometheus.CounterOpts{Name: "landbridge_federation_watch_errors_total",
			Help: "Queries of watches that failed and were repeated."}),
	}
	for _, outcome := range []string{"ok", "failed"} {
		m.runs.WithLabelValues(outcome)
	}
	if reg != nil {
		reg.MustRegister(m.watches, m.runs, m.errors)
	}
	return m
}
