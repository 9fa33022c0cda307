package leader

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	terms             prometheus.Counter
	tasks, writes     outcome
	reconcile         prometheus.Histogram
	healthy           prometheus.Gauge
	tolerance, voters prometheus.Gauge
	coordinates       struct{ written, dropped prometheus.Counter }
	expired           prometheus.Counter
	sessionTimers     prometheus.Gauge
	sessionsEnded     outcome
}

type outcome struct{ ok, failed prometheus.Counter }

func (o outcome) observe(err error) {
	if err == nil {
		o.ok.Inc()
		return
	}
	o.failed.Inc()
}

func newMetrics(reg prometheus.Registerer) *metrics {
	tasks := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "landbridge_leader_tasks_total",
		Help: "Runs of tasks of a new leader by outcome.",
	}, []string{"outcome"})
	writes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "landbridge_leader_catalog_writes_total",
		Help: "Writes that bring the catalog up to date with gossip, by outcome.",
	}, []string{"outcome"})
	coordinates := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "landbridge_leader_coordinates_total",
		Help: "Network coordinates that agents told the leader, by what became of them.",
	}, []string{"outcome"})
	ended := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "landbridge_leader_sessions_expired_total",
		Help: "Sessions whose time to live passed without a renewal, by whether their end could be written.",
	}, []string{"outcome"})
	m := &metrics{
		terms: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "landbridge_leader_terms_total",
			Help: "Times this server took up the leader's duties.",
		}),
		reconcile: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "landbridge_leader_reconcile_duration_seconds",
			Help:    "Time of a pass over the members of the LAN pool.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 10),
		}),
		healthy: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "landbridge_leader_autopilot_healthy_state",
			Help: "Whether autopilot finds all servers healthy: 1 or 0, and 0 on servers that do not lead.",
		}),
		tolerance: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "landbridge_leader_autopilot_failure_tolerance_servers",
			Help: "Voting servers that may fail before the quorum is lost.",
		}),
		voters: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "landbridge_leader_autopilot_voters_servers",
			Help: "Servers with a vote.",
		}),
		sessionTimers: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "landbridge_leader_session_timers",
			Help: "Sessions with a time to live that this server watches over; 0 on servers that do not lead.",
		}),
	}
	m.expired = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "landbridge_leader_acl_tokens_expired_total",
		Help: "ACL tokens that this leader deleted because their time was over.",
	})
	m.tasks = outcome{tasks.WithLabelValues("ok"), tasks.WithLabelValues("failed")}
	m.writes = outcome{writes.WithLabelValues("ok"), writes.WithLabelValues("failed")}
	m.coordinates.written, m.coordinates.dropped = coordinates.WithLabelValues("written"), coordinates.WithLabelValues("dropped")
	m.sessionsEnded = outcome{ended.WithLabelValues("ok"), ended.WithLabelValues("failed")}
	if reg != nil {
		reg.MustRegister(tasks, writes, coordinates, m.terms, m.reconcile, m.healthy, m.tolerance, m.voters,
			m.sessionTimers, ended, m.expired)
	}
	return m
}
