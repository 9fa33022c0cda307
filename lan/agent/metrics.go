package agent

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landbridge/store"
)

type metrics struct {
	register, deregister, fullSync outcome
	inFlight                       prometheus.Gauge
	kinds                          map[string]*kindMetrics // of checks, by type
	blocked                        struct{ service, check, node prometheus.Counter }
	events                         struct{ kept, filtered, malformed prometheus.Counter }
}

// kindMetrics are those of one kind of check.
type kindMetrics struct {
	passing, warning, critical, timedOut prometheus.Counter
	seconds                              prometheus.Counter
	running                              prometheus.Gauge
}

// observe counts a result: of a run, an alias's look, or what a TTL check was told.
func (m *kindMetrics) observe(status string, timedOut bool, took time.Duration) {
	c := m.critical
	switch {
	case timedOut:
		c = m.timedOut
	case status == store.Passing:
		c = m.passing
	case status == store.Warning:
		c = m.warning
	}
	c.Inc()
	m.seconds.Add(took.Seconds())
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
		Help: "Changes and comparisons that bring the catalog up to date with this agent, by kind and outcome.",
	}, []string{"call", "outcome"})
	runs := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "landbridge_agent_check_runs_total",
		Help: "Results of health checks by type and outcome; timed_out is critical too.",
	}, []string{"type", "outcome"})
	seconds := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "landbridge_agent_check_run_seconds_total",
		Help: "Time that runs of health checks took, by type.",
	}, []string{"type"})
	running := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "landbridge_agent_checks_running",
		Help: "Health checks that run or wait for their turn to, by type.",
	}, []string{"type"})
	events := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "landbridge_agent_user_events_total",
		Help: "User events that gossip brought, by what became of them.",
	}, []string{"outcome"})
	m := &metrics{
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "landbridge_agent_sync_in_flight_services",
			Help: "Services whose changes are on their way to the catalog.",
		}),
		kinds: make(map[string]*kindMetrics),
	}
	blocked := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "landbridge_agent_blocked_registrations_total",
		Help: "Registrations that the catalog refused for lack of rights, by what they are of (service, check, node).",
	}, []string{"kind"})
	m.blocked.service, m.blocked.check, m.blocked.node = blocked.WithLabelValues("service"), blocked.WithLabelValues("check"), blocked.WithLabelValues("node")
	of := func(call string) outcome {
		return outcome{
			ok:      calls.WithLabelValues(call, "ok"),
			refused: calls.WithLabelValues(call, "refused"),
			failed:  calls.WithLabelValues(call, "failed"),
		}
	}
	m.register, m.deregister, m.fullSync = of("register"), of("deregister"), of("compare")
	for _, kind := range []string{"script", "docker", "http", "tcp", "udp", "grpc", "h2ping", "os_service", "ttl", "alias"} {
		m.kinds[kind] = &kindMetrics{
			passing:  runs.WithLabelValues(kind, store.Passing),
			warning:  runs.WithLabelValues(kind, store.Warning),
			critical: runs.WithLabelValues(kind, store.Critical),
			timedOut: runs.WithLabelValues(kind, "timed_out"),
			seconds:  seconds.WithLabelValues(kind),
			running:  running.WithLabelValues(kind),
		}
	}
	m.events.kept, m.events.filtered, m.events.malformed = events.WithLabelValues("kept"), events.WithLabelValues("filtered"), events.WithLabelValues("malformed")
	if reg != nil {
		reg.MustRegister(calls, blocked, runs, seconds, running, events, m.inFlight)
	}
	return m
}
