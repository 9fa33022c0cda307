package leader

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landbridge/store"
	"landbridge/store/raftlog"
)

const (
	rivalsEvery = time.Minute
	rivalsRetry = 2 * time.Second
	// settled is for how long a server has had a leader when it does not give way any
	// more: its group works, and what it acknowledged meanwhile would be lost.
	settled = time.Minute
)

// RivalsConfig is what Rivals needs.
type RivalsConfig struct {
	NodeID  string
	Members func() []Member
	// Changed has one slot: Members may have changed.
	Changed <-chan struct{}
	// History is the cluster's id, known also before the log is applied, and its
	// recoveries, with one that is not in the state yet.
	History func() (cluster string, recoveries uint64)
	// HasLeader is whether this server knows a leader.
	HasLeader func() bool
	// Ask asks another server of this datacenter.
	Ask        func(ctx context.Context, m Member) (*store.ServerStatus, error)
	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil: none
}

// Rivals finds out whether an operator recovered the Raft group from another part
// of it, without this server. It then must not go on: two groups would answer for
// one datacenter. That is found when this server starts, as it does when a machine
// thought to be gone is switched on again. A server whose group works since long
// does not give way: it says what is wrong, and an operator must choose.
type Rivals struct {
	cfg   RivalsConfig
	gauge prometheus.Gauge
	// Run's own:
	asked map[string]time.Time // when a living server last answered
	found map[string]bool      // which of them are of another group
	since time.Time            // when there was a leader first, without a pause
}

// NewRivals returns one to Run.
func NewRivals(cfg RivalsConfig) *Rivals {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Rivals{cfg: cfg, asked: make(map[string]time.Time), found: make(map[string]bool),
		gauge: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "landbridge_leader_rival_servers",
			Help: "Living servers of this datacenter that hold another history of it, because an operator recovered the Raft group from a part: 0 is what it should be.",
		})}
	if cfg.Registerer != nil {
		cfg.Registerer.MustRegister(r.gauge)
	}
	return r
}

// Run looks until ctx ends. An OverruledError says that this server has to end.
func (r *Rivals) Run(ctx context.Context) error {
	t := time.NewTimer(0)
	defer t.Stop()
	beat := time.NewTicker(rivalsRetry)
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-beat.C: // only to know since when there is a leader
			r.led()
			continue
		case <-r.cfg.Changed:
		case <-t.C:
		}
		r.led()
		again, err := r.look(ctx)
		if err != nil {
			return err
		}
		t.Reset(again)
	}
}

func (r *Rivals) led() {
	switch {
	case !r.cfg.HasLeader():
		r.since = time.Time{}
	case r.since.IsZero():
		r.since = time.Now()
	}
}

// look asks the living servers that were not asked lately, and says when to look
// again.
func (r *Rivals) look(ctx context.Context) (again time.Duration, err error) {
	var ours store.Cluster
	if ours.ID, ours.Recoveries = r.cfg.History(); ours.ID == "" {
		return rivalsRetry, nil
	}
	again = rivalsEvery
	living := make(map[string]bool)
	for _, m := range r.cfg.Members() {
		if !m.Server || m.ID == r.cfg.NodeID || m.Status != Alive {
			continue
		}
		living[m.Name] = true
		if last, ok := r.asked[m.Name]; ok && time.Since(last) < rivalsEvery {
			continue
		}
		asking, cancel := context.WithTimeout(ctx, rivalsRetry)
		st, err := r.cfg.Ask(asking, m)
		cancel()
		if err != nil {
			again = rivalsRetry
			continue
		}
		r.asked[m.Name] = time.Now()
		if err := r.judge(m, st, ours); err != nil {
			return 0, err
		}
	}
	for name := range r.asked {
		if !living[name] {
			delete(r.asked, name)
			delete(r.found, name)
		}
	}
	r.gauge.Set(float64(len(r.found)))
	return again, nil
}

// judge looks whether a server has another history of our cluster.
func (r *Rivals) judge(m Member, st *store.ServerStatus, ours store.Cluster) error {
	delete(r.found, m.Name)
	if st.ClusterID != ours.ID || st.Recoveries == ours.Recoveries {
		return nil
	}
	r.found[m.Name] = true
	if st.Recoveries < ours.Recoveries {
		return nil // it is for that one to give way
	}
	if !r.since.IsZero() && time.Since(r.since) >= settled {
		r.cfg.Logger.Error("another part of the Raft group was recovered while this one works: two groups answer for one datacenter. "+
			"Decide whose writes to keep; on the servers of the other group run `landbridge operator raft forget -yes`",
			"server", m.Name, "recovery", st.Recoveries)
		return nil
	}
	r.cfg.Logger.Error("this server ends: it was left out when the Raft group was recovered", "server", m.Name, "recovery", st.Recoveries)
	return &OverruledError{Server: m.Name, Recovery: st.Recoveries}
}

// OverruledError says that the group goes on without this server.
type OverruledError struct {
	Server   string // who said so
	Recovery uint64 // that left this server out
}

func (e *OverruledError) Error() string {
	return fmt.Sprintf("server %s is of the group that recovery %d made: %v; "+
		"run `landbridge operator raft forget -yes` on this machine, so that it joins the others as a new server", e.Server, e.Recovery, raftlog.ErrOverruled)
}

func (e *OverruledError) Unwrap() error { return raftlog.ErrOverruled }
