package replica

import (
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are those of one Follower, or of some together. All series exist from the
// start.
type Metrics struct {
	events   prometheus.Counter
	refused  prometheus.Counter
	proofs   prometheus.Counter
	drifts   prometheus.Counter
	compares prometheus.Counter
	errors   prometheus.Counter

	mu sync.Mutex
	of []*Follower
}

// Words are what metrics call things.
type Words struct {
	Prefix string // of their names
	Rows   string
	Source string
}

// NewMetrics registers them.
func NewMetrics(reg prometheus.Registerer, w Words) *Metrics {
	m := &Metrics{}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: w.Prefix + name, Help: help})
		reg.MustRegister(c)
		return c
	}
	m.events = counter("records_total", w.Rows+" of "+w.Source+" that were written or deleted here.")
	m.refused = counter("refused_total", w.Rows+" of "+w.Source+" that could not be written here.")
	m.proofs = counter("proofs_total", "Proofs that the copy equals "+w.Source+".")
	m.drifts = counter("drifts_total", "Kinds of records for which a proof failed: the copy was compared and healed.")
	m.compares = counter("comparisons_total", "Comparisons of the whole copy with "+w.Source+".")
	m.errors = counter("errors_total", "Interruptions of replication.")
	gauge := func(name, help string, join func(x, y float64) float64, value func(*Status) float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: w.Prefix + name, Help: help}, func() (all float64) {
			first := true
			for _, f := range m.followers() {
				s := f.Status()
				if !s.Running {
					continue
				}
				if v := value(&s); first {
					all, first = v, false
				} else {
					all = join(all, v)
				}
			}
			return all
		}))
	}
	most := func(x, y float64) float64 { return max(x, y) }
	least := func(x, y float64) float64 { return min(x, y) }
	sum := func(x, y float64) float64 { return x + y }
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
	gauge("running_state", "1 on the server that replicates: the leader of the datacenter that has the copy.", most, func(*Status) float64 { return 1 })
	gauge("alarm_state", "1 if replication wants an operator's eye: it is interrupted, deletions are held, or "+w.Rows+" were refused.", most, func(s *Status) float64 { return yes(!s.Healthy()) })
	gauge("connected_state", "1 while "+w.Source+" is heard.", least, func(s *Status) float64 { return yes(s.Connected) })
	gauge("held_deletions", w.Rows+" that "+w.Source+" lacks and that are not deleted before somebody approves.", sum, func(s *Status) float64 { return float64(len(s.Held)) })
	gauge("lag_positions", "How far the copy is behind "+w.Source+", in positions of its log.", most, func(s *Status) float64 { return float64(s.Top - min(s.Top, s.Cursor.Position)) })
	gauge("lag_seconds", "How long ago the copy was as far as "+w.Source+", 0 while it is.", most, func(s *Status) float64 { return s.Lag(time.Now()).Seconds() })
	gauge("proof_age_seconds", "How long ago the copy was last proven equal to "+w.Source+".", most, func(s *Status) float64 { return since(s.LastProof) })
	gauge("last_success_age_seconds", "How long ago "+w.Source+" was last heard.", most, func(s *Status) float64 { return since(s.LastSuccess) })
	return m
}

func (m *Metrics) follow(f *Follower) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.of = append(m.of, f)
}

func (m *Metrics) followers() []*Follower {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.of)
}

// Forget leaves a Follower out that will not run again.
func (m *Metrics) Forget(f *Follower) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.of = slices.DeleteFunc(m.of, func(have *Follower) bool { return have == f })
}
