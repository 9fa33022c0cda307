package replica

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are a Follower's. All series exist from the start.
type Metrics struct {
	of       atomic.Pointer[Follower]
	events   prometheus.Counter
	refused  prometheus.Counter
	proofs   prometheus.Counter
	drifts   prometheus.Counter
	compares prometheus.Counter
	errors   prometheus.Counter
}

// NewMetrics registers them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "landbridge_acl_replication_" + name, Help: help})
		reg.MustRegister(c)
		return c
	}
	m.events = counter("records_total", "ACL records of the primary that were written or deleted here.")
	m.refused = counter("refused_total", "ACL records of the primary that could not be written here.")
	m.proofs = counter("proofs_total", "Proofs that the copy equals the primary.")
	m.drifts = counter("drifts_total", "Kinds of records for which a proof failed: the copy was compared and healed.")
	m.compares = counter("comparisons_total", "Comparisons of the whole copy with the primary.")
	m.errors = counter("errors_total", "Interruptions of replication.")
	gauge := func(name, help string, value func(*Status) float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "landbridge_acl_replication_" + name, Help: help}, func() float64 {
			f := m.of.Load()
			if f == nil {
				return 0
			}
			s := f.Status()
			if !s.Running {
				return 0
			}
			return value(&s)
		}))
	}
	yes := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	since := func(t time.Time) float64 {
		if t.IsZero() {
			return 0
		}
		return time.Since(t).Seconds()
	}
	gauge("running_state", "1 on the server that replicates: the leader of a secondary datacenter.", func(*Status) float64 { return 1 })
	gauge("alarm_state", "1 if replication wants an operator's eye: it is interrupted, deletions are held, or records were refused.", func(s *Status) float64 { return yes(!s.Healthy()) })
	gauge("connected_state", "1 while the primary is heard.", func(s *Status) float64 { return yes(s.Connected) })
	gauge("held_deletions", "ACL records that the primary lacks and that are not deleted before somebody approves.", func(s *Status) float64 { return float64(len(s.Held)) })
	gauge("lag_positions", "How far the copy is behind the primary, in positions of its log.", func(s *Status) float64 { return float64(s.Top - min(s.Top, s.Cursor.Position)) })
	gauge("lag_seconds", "How long ago the copy was as far as the primary, 0 while it is.", func(s *Status) float64 { return s.Lag(time.Now()).Seconds() })
	gauge("proof_age_seconds", "How long ago the copy was last proven equal to the primary.", func(s *Status) float64 { return since(s.LastProof) })
	gauge("last_success_age_seconds", "How long ago the primary was last heard.", func(s *Status) float64 { return since(s.LastSuccess) })
	return m
}

func (m *Metrics) follow(f *Follower) { m.of.Store(f) }
