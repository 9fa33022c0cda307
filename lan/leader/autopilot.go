package leader

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	autopilot "github.com/hashicorp/raft-autopilot"

	"landbridge/store"
	"landbridge/store/consensus"
)

// pilot runs raft-autopilot: it promotes stable servers, removes dead ones, and
// judges their health. It answers the library's questions (autopilot.
// ApplicationIntegration).
type pilot struct {
	cfg     *Config
	metrics *metrics
	// ap is made when this server first leads: Raft must have started.
	ap atomic.Pointer[autopilot.Autopilot]

	mu sync.Mutex
	// seen is when each server's process started, as told; a server that starts
	// anew without state while it has a vote is taken out.
	seen  map[raft.ServerID]int64
	wiped map[raft.ServerID]bool
	gone  []string // names of failed servers to be forced out of gossip
	wake  chan struct{}
}

func newPilot(cfg *Config, m *metrics) *pilot {
	return &pilot{cfg: cfg, metrics: m, seen: make(map[raft.ServerID]int64), wiped: make(map[raft.ServerID]bool), wake: make(chan struct{}, 1)}
}

// reset prepares for a leadership.
func (p *pilot) reset() {
	if p.ap.Load() == nil {
		p.ap.Store(autopilot.New(p.cfg.Consensus.Raft(), p, autopilot.WithLogger(consensus.HCLog(p.cfg.Logger)),
			autopilot.WithPromoter(promoter{autopilot.DefaultPromoter(), p})))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.seen)
	clear(p.wiped)
	p.gone = nil
}

// run runs autopilot until ctx ends.
func (p *pilot) run(ctx context.Context) {
	ap := p.ap.Load()
	ap.Start(ctx) // waits for a first look at the servers, up to a second
	<-ctx.Done()
	<-ap.Stop()
	p.metrics.healthy.Set(0)
	p.metrics.tolerance.Set(0)
	p.metrics.voters.Set(0)
}

// AutopilotState returns what autopilot thinks of the servers; nil unless this
// server leads.
func (l *Leader) AutopilotState() *autopilot.State {
	ap := l.pilot.ap.Load()
	if ap == nil || !l.cfg.Consensus.IsLeader() {
		return nil
	}
	s := ap.GetState()
	if s == nil || s.Leader == "" {
		return nil
	}
	return s
}

// AutopilotConfig returns the stored configuration.
func (p *pilot) AutopilotConfig() *autopilot.Config {
	_, c := p.cfg.State.Autopilot(nil)
	if c == nil {
		c = &p.cfg.Autopilot
	}
	return &autopilot.Config{
		CleanupDeadServers: c.CleanupDeadServers,
		// Between two heartbeats a follower hears nothing, and that is no fault.
		LastContactThreshold:    max(time.Duration(c.LastContactThreshold), p.cfg.HeartbeatPause+p.cfg.HeartbeatPause/4),
		MaxTrailingLogs:         c.MaxTrailingLogs,
		MinQuorum:               c.MinQuorum,
		ServerStabilizationTime: time.Duration(c.ServerStabilizationTime),
	}
}

// NotifyState publishes a new judgement.
func (p *pilot) NotifyState(s *autopilot.State) {
	healthy := 0.0
	if s.Healthy {
		healthy = 1
	}
	p.metrics.healthy.Set(healthy)
	p.metrics.tolerance.Set(float64(s.FailureTolerance))
	p.metrics.voters.Set(float64(len(s.Voters)))
}

// FetchServerStats asks all servers at once. ctx bounds the round; of who does not
// answer in time counts what Raft knows, and of who follows us no more nothing new.
func (p *pilot) FetchServerStats(ctx context.Context, servers map[raft.ServerID]*autopilot.Server) map[raft.ServerID]*autopilot.ServerStats {
	members := make(map[string]Member)
	for _, m := range p.cfg.Members() {
		if m.Server {
			members[m.ID] = m
		}
	}
	var mu sync.Mutex
	out := make(map[raft.ServerID]*autopilot.ServerStats, len(servers))
	var wg sync.WaitGroup
	for id := range servers {
		m, ok := members[string(id)]
		if !ok {
			continue
		}
		wg.Go(func() {
			st, err := p.cfg.ServerStatus(ctx, m)
			if err != nil {
				if ctx.Err() == nil {
					p.cfg.Logger.Debug("server does not tell its state", "node", m.Name, "err", err)
				}
				return
			}
			p.note(id, st)
			mu.Lock()
			out[id] = &autopilot.ServerStats{LastContact: st.LastContact, LastTerm: st.LastTerm, LastIndex: st.LastIndex}
			mu.Unlock()
		})
	}
	wg.Wait()
	for id := range servers {
		if out[id] != nil || string(id) == p.cfg.NodeID {
			continue
		}
		// Gossip may get through where the server's port is closed to us.
		if ago, term, last, ok := p.cfg.Consensus.Acknowledged(string(id)); ok {
			out[id] = &autopilot.ServerStats{LastContact: ago, LastTerm: term, LastIndex: last}
		}
	}
	return out
}

// note watches for a server whose process started again and found no state: its
// vote could elect a leader that lacks what it once acknowledged.
func (p *pilot) note(id raft.ServerID, st *store.ServerStatus) {
	if st.Started == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	old, known := p.seen[id]
	p.seen[id] = st.Started
	if known && old != st.Started && !st.HasState {
		p.wiped[id] = true
		p.signal()
	}
}

func (p *pilot) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// take returns what is to be done: servers whose vote must go, and names to
// force out.
func (p *pilot) take() (wiped map[raft.ServerID]bool, gone []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	wiped, gone = p.wiped, p.gone
	p.wiped, p.gone = make(map[raft.ServerID]bool), nil
	return wiped, gone
}

// KnownServers returns the servers that gossip knows.
func (p *pilot) KnownServers() map[raft.ServerID]*autopilot.Server {
	leads := p.cfg.Consensus.IsLeader()
	out := make(map[raft.ServerID]*autopilot.Server)
	for _, m := range p.cfg.Members() {
		if !m.Server || m.ID == "" {
			continue
		}
		s := &autopilot.Server{
			ID: raft.ServerID(m.ID), Name: m.Name, Address: raft.ServerAddress(m.RaftAddress()),
			Version: version(m.Tags), Meta: m.Tags, RaftVersion: 3,
			IsLeader: leads && m.ID == p.cfg.NodeID,
			NodeType: autopilot.NodeVoter,
		}
		switch m.Status {
		case Alive:
			s.NodeStatus = autopilot.NodeAlive
		case Failed:
			s.NodeStatus = autopilot.NodeFailed
		case Leaving, Left:
			s.NodeStatus = autopilot.NodeLeft
		default:
			s.NodeStatus = autopilot.NodeUnknown
		}
		// A member that failed and its successor may share an id for a while
		// (renamed): who is alive counts.
		if old, ok := out[s.ID]; ok && old.NodeStatus == autopilot.NodeAlive {
			continue
		}
		out[s.ID] = s
	}
	return out
}

// RemoveFailedServer has the server forced out of gossip by the leader's loop;
// its leaving then takes it out of Raft and the catalog.
func (p *pilot) RemoveFailedServer(s *autopilot.Server) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = append(p.gone, s.Name)
	p.signal()
}

// promoter gives votes as the library does, and is more careful to take them.
type promoter struct {
	autopilot.Promoter
	pilot *pilot
}

// FilterFailedServerRemovals lets voters that are gone be removed only as far as
// that lets more of the others fail. A single one of three stays: without it two
// are needed of two, as before of three, and when it is back it votes at once. It
// goes when its replacement is there.
func (p promoter) FilterFailedServerRemovals(_ *autopilot.Config, _ *autopilot.State, f *autopilot.FailedServers) *autopilot.FailedServers {
	alive := 0 // that vote, or will; the state may not know the newest yet
	known := p.pilot.KnownServers()
	for _, s := range p.pilot.cfg.Consensus.Servers() {
		if srv := known[raft.ServerID(s.ID)]; srv != nil && srv.NodeStatus == autopilot.NodeAlive {
			alive++
		}
	}
	n := expendable(alive, len(f.StaleVoters)+len(f.FailedVoters))
	out := *f
	out.StaleVoters = f.StaleVoters[:min(n, len(f.StaleVoters))]
	out.FailedVoters = f.FailedVoters[:n-len(out.StaleVoters)]
	return &out
}

// expendable is how many of the voters that are gone to remove, so that as many as
// possible of the living may fail; of equal numbers the least.
func expendable(alive, gone int) int {
	tolerance := func(removed int) int { return alive - ((alive+gone-removed)/2 + 1) }
	best := 0
	for n := 1; n <= gone; n++ {
		if tolerance(n) > tolerance(best) {
			best = n
		}
	}
	return best
}

// version is what a member's build tag says, up to the colon.
func version(tags map[string]string) string {
	b := tags["build"]
	for i := range b {
		if b[i] == ':' {
			return b[:i]
		}
	}
	return b
}
