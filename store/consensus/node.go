package consensus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/pprof"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// Node is one server's part in its datacenter's Raft group.
type Node struct {
	cfg    Config
	logger *slog.Logger
	m      *metrics

	lease     *lease
	transport *transport
	guard     *voteGuard
	fsm       *hookedFSM
	hadState  bool
	started   time.Time

	raft atomic.Pointer[raft.Raft] // set by Start

	queue queue
	turn  chan struct{} // held by the one loop that fills the next entry
	// onWay counts entries handed to Raft, landed tells that one came back.
	onWay  atomic.Int32
	landed chan struct{}
	gate   chan struct{} // held while an entry is handed to Raft, and by Restore

	log *watchedLog
	// copying is how many snapshots are being written or restored; see Alive.
	copying atomic.Int32
	stalled atomic.Bool // leadership was offered to others because our log takes nothing

	// ready is the term whose barrier is applied: 0 while not leading.
	ready atomic.Uint64
	clock leaderClock

	// alone is true only if the latest configuration has no server but us.
	// aloneMu orders its changes, not its reads.
	aloneMu sync.Mutex
	alone   atomic.Bool

	recoveryDue atomic.Uint64

	known uint64 // committed before this start, and not in the snapshot; 0: nothing

	leadership chan bool // one slot: the latest value
	confChange chan struct{}
	tooLarge   chan struct{}

	changedMu sync.Mutex
	changed   chan struct{} // closed at the next change of leader

	verify   verifier
	reloadMu sync.Mutex // ReloadConfig after ReloadableConfig

	lifeMu  sync.Mutex
	life    lifeState
	quit    chan struct{} // closed when Stop begins
	loops   sync.WaitGroup
	stopped chan struct{} // closed when Stop is done
}

type lifeState int

const (
	lifeNew lifeState = iota
	lifeRunning
	lifeStopping
)

// New checks the configuration and what the stores hold; it starts nothing.
func New(cfg Config) (*Node, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("consensus: %w", err)
	}
	has, err := cfg.Stores.HasState()
	if err != nil {
		return nil, fmt.Errorf("consensus: %w", err)
	}
	n := &Node{
		cfg: cfg, logger: cfg.Logger, m: newMetrics(cfg.Registerer),
		hadState:   has,
		turn:       make(chan struct{}, 1),
		landed:     make(chan struct{}, 1),
		gate:       make(chan struct{}, 1),
		leadership: make(chan bool, 1),
		confChange: make(chan struct{}, 1),
		tooLarge:   make(chan struct{}, 1),
		changed:    make(chan struct{}),
		quit:       make(chan struct{}),
		stopped:    make(chan struct{}),
	}
	n.queue.init(n.m.queued)
	n.verify.init()
	_, length := Timings(cfg.Multiplier)
	n.lease = newLease(length, raft.ServerID(cfg.NodeID), n.configuration)
	n.log = newWatchedLog(cfg.Stores.Log, n.leadsOthers)
	n.transport = &transport{Transport: cfg.Transport, addr: raft.ServerAddress(cfg.Address), lease: n.lease, term: n.term, leads: n.leadsIn, stands: n.standsFor, durable: n.log.durable, quit: n.quit}
	n.fsm = &hookedFSM{FSM: cfg.FSM, n: n, waitDurable: n.log.waitDurable}
	return n, nil
}

// Start loads the newest snapshot, recovers from peers.json if there is one,
// and begins to take part. ctx bounds nothing that runs on: it ends with Stop.
func (n *Node) Start(ctx context.Context) error {
	n.lifeMu.Lock()
	defer n.lifeMu.Unlock()
	if n.life != lifeNew {
		return errors.New("consensus: started before")
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("consensus: %w", err)
	}
	n.started = time.Now()
	rc := n.cfg.raftConfig()
	st := n.cfg.Stores
	if err := n.recover(); err != nil {
		return err
	}
	n.guard = &voteGuard{StableStore: st.Stable, until: n.started.Add(n.lease.length),
		self: n.transport.addr, writable: st.Writable, alone: &n.alone}
	n.guard.off.Store(!n.hadState)
	n.fsm.setLimit()
	known, err := st.Committed()
	if err != nil {
		return fmt.Errorf("consensus: %w", err)
	}
	r, err := raft.NewRaft(rc, n.fsm, n.log, n.guard, watchedSnapshots{st.Snapshots, &n.copying}, n.transport)
	if err != nil {
		return fmt.Errorf("consensus: %w", err)
	}
	n.raft.Store(r)
	st.TrackCommit(r.CommitIndex)
	r.RegisterObserver(raft.NewObserver(nil, false, n.observe))
	n.refreshAlone()
	n.life = lifeRunning
	for range inFlight {
		n.loop("commit", n.commitLoop)
	}
	n.loop("leadership", n.leadershipLoop)
	n.loop("verify", n.verifyLoop)
	n.loop("housekeeping", n.housekeepingLoop)
	n.loop("stall", n.stallLoop)
	n.loop("absence", n.absenceLoop)
	if known > r.AppliedIndex() && !n.alone.Load() {
		n.known = known
		n.loop("known", n.applyKnown)
	}
	if n.alone.Load() {
		// Nobody else could have been elected meanwhile.
		n.guard.off.Store(true)
		n.campaign()
	}
	return nil
}

// loop runs f in a goroutine that Stop waits for.
func (n *Node) loop(name string, f func()) {
	n.loops.Go(func() {
		pprof.Do(context.Background(), pprof.Labels("component", "consensus", "loop", name), func(context.Context) { f() })
	})
}

// Stop ends this server's part: commands not yet sent are refused, those under
// way are waited for (without a quorum they end with the leadership, one lease
// later), then Raft stops and closes the transport. It does not hand leadership
// over: see TransferLeadership. It may be called again and before Start.
func (n *Node) Stop(ctx context.Context) error {
	n.lifeMu.Lock()
	was := n.life
	if was != lifeStopping {
		n.life = lifeStopping
		close(n.quit)
		if was == lifeNew {
			close(n.stopped)
		} else {
			// Its own goroutine, so that a caller whose ctx ends does not
			// leave Raft half stopped.
			go n.stop()
		}
	}
	n.lifeMu.Unlock()
	select {
	case <-n.stopped:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("consensus: stop: %w", context.Cause(ctx))
	}
}

func (n *Node) stop() {
	defer close(n.stopped)
	n.queue.refuse(noLeader(errStopping))
	// Raft's futures are only sure to end while Raft runs.
	n.loops.Wait()
	r := n.raft.Load()
	if err := r.Shutdown().Error(); err != nil {
		n.logger.Warn("raft did not stop cleanly", "err", err)
	}
	n.ready.Store(0)
	n.m.leader.Set(0)
	n.broadcast()
}

func (n *Node) stopping() bool {
	select {
	case <-n.quit:
		return true
	default:
		return false
	}
}

// Raft returns the library's handle (for autopilot); nil before Start.
func (n *Node) Raft() *raft.Raft { return n.raft.Load() }

// HasState reports whether there was Raft state when New was called.
func (n *Node) HasState() bool { return n.hadState }

func (n *Node) term() uint64 {
	if r := n.raft.Load(); r != nil {
		return r.CurrentTerm()
	}
	return 0
}

// leadsIn reports whether this server leads in term, with id in its group.
func (n *Node) leadsIn(term uint64, id raft.ServerID) bool {
	r := n.raft.Load()
	return r != nil && r.State() == raft.Leader && r.CurrentTerm() == term &&
		slices.ContainsFunc(n.configuration().Servers, func(s raft.Server) bool { return s.ID == id })
}

// leadsOthers reports whether this server leads, and others may be in its group.
func (n *Node) leadsOthers() bool {
	r := n.raft.Load()
	return r != nil && r.State() == raft.Leader && !n.alone.Load()
}

// standsFor reports whether this server asks for pre-votes for term.
func (n *Node) standsFor(term uint64) bool {
	r := n.raft.Load()
	return r != nil && r.State() == raft.Candidate && r.CurrentTerm()+1 == term
}

// campaign makes a follower look at its heartbeat timer now instead of after up
// to two time-outs: a follower does so when the time-out is made shorter.
func (n *Node) campaign() {
	heartbeat, _ := Timings(n.cfg.Multiplier)
	for _, t := range []time.Duration{heartbeat + time.Millisecond, heartbeat} {
		n.reload(func(rc *raft.ReloadableConfig) { rc.HeartbeatTimeout, rc.ElectionTimeout = t, t })
	}
}

func (n *Node) reload(change func(*raft.ReloadableConfig)) error {
	n.reloadMu.Lock()
	defer n.reloadMu.Unlock()
	r := n.raft.Load()
	if r == nil {
		return errors.New("consensus: not started")
	}
	rc := r.ReloadableConfig()
	change(&rc)
	return r.ReloadConfig(rc)
}

// ReloadSnapshots changes when the log is cut.
func (n *Node) ReloadSnapshots(s SnapshotConfig) error {
	s = s.withDefaults()
	n.fsm.trailing.Store(s.TrailingLogs)
	return n.reload(func(rc *raft.ReloadableConfig) {
		rc.SnapshotThreshold, rc.SnapshotInterval, rc.TrailingLogs = s.Threshold, s.Interval, s.TrailingLogs
	})
}
