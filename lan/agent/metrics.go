package agent

import (
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	register, deregister, fullSync outcome
	inFlight                       prometheus.Gauge
	checkRuns                      map[string]prometheus.Counter // by type
	events                         struct{ kept, filtered, malformed prometheus.Counter }
}

// outcome counts calls by how they ended.
type outcome struct{ ok, refused, failed prometheus.Counter }

func (o outcome) observe(err error) {
	switch {
	case err == nil:
		o.ok.Inc()
	case final(err):
		o.refused.Inc()
	default:
		o.failed.Inc()
	}
}

func newMetrics(reg prometheus.Registerer) *metrics {
	calls := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "landbridge_agent_sync_calls_total",
		Help: "Calls that bring the catalog up to date with this agent, by kind and outcome.",
	}, []string{"call", "outcome"})
	runs := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "landbridge_agent_check_runs_total",
		Help: "Runs of health checks by type.",
	}, []string{"type"})
	events := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "landbridge_agent_user_events_total",
		Help: "User events that gossip brought, by what became of them.",
	}, []string{"outcome"})
	m := &metrics{
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "landbridge_agent_sync_in_flight_services",
			Help: "Services whose registration is on its way to the catalog.",
		}),
		checkRuns: make(map[string]prometheus.Counter),
	}
	of := func(call string) outcome {
		return outcome{
			ok:      calls.WithLabelValues(call, "ok"),
			refused: calls.WithLabelValues(call, "refused"),
			failed:  calls.WithLabelValues(call, "failed"),
		}
	}
	m.register, m.deregister, m.fullSync = of("register"), of("deregister"), of("compare")
	for _, kind := range []string{"http", "tcp", "alias"} {
		m.checkRuns[kind] = runs.WithLabelValues(kind)
	}
	m.events.kept, m.events.filtered, m.events.malformed = events.WithLabelValues("kept"), events.WithLabelValues("filtered"), events.WithLabelValues("malformed")
	if reg != nil {
		reg.MustRegister(calls, runs, events, m.inFlight)
	}
	return m
}
