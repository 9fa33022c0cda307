package consensus

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"landbridge/store/raftlog"
)

// watchedLog is the log that Raft writes to: Raft's main loop makes appends, one at
// a time, and does nothing else meanwhile. It knows how long the one under way has
// taken, and lets a leader's commands ahead of the disk (see DESIGN.md).
type watchedLog struct {
	raft.LogStore
	ahead raftlog.AheadLog // nil if LogStore is none
	leads func() bool      // whether this server leads others
	base  time.Time
	since atomic.Int64 // when the append under way began, counted from base; 0: none is
}

func newWatchedLog(log raft.LogStore, leads func() bool) *watchedLog {
	ahead, _ := log.(raftlog.AheadLog)
	return &watchedLog{LogStore: log, ahead: ahead, leads: leads, base: time.Now()}
}

func (w *watchedLog) StoreLog(l *raft.Log) error { return w.StoreLogs([]*raft.Log{l}) }

func (w *watchedLog) StoreLogs(logs []*raft.Log) error {
	w.since.Store(int64(time.Since(w.base)) + 1)
	defer w.since.Store(0)
	if w.ahead != nil && fewCommands(logs) && w.leads() {
		return w.ahead.StoreLogsAhead(logs)
	}
	return w.LogStore.StoreLogs(logs)
}

// aheadBytes is how much an append may hold that goes ahead of the disk. In larger
// ones many callers share the wait, in which the next group fills.
const aheadBytes = 4 << 10

// fewCommands reports that entries are short, and that Raft acts on none of them before
// they are committed, as it does on configurations.
func fewCommands(logs []*raft.Log) bool {
	size := 0
	for _, l := range logs {
		if size += len(l.Data); l.Type != raft.LogCommand || size > aheadBytes {
			return false
		}
	}
	return true
}

// durable returns the index up to which what is in the log survives the loss of power.
func (w *watchedLog) durable() uint64 {
	if w.ahead == nil {
		return math.MaxUint64
	}
	return w.ahead.Durable()
}

// waitDurable returns when the entry at index is durable, or can never be.
func (w *watchedLog) waitDurable(index uint64) error {
	if w.ahead == nil {
		return nil
	}
	return w.ahead.WaitDurable(index)
}

// IsMonotonic passes on what Raft asks of the log it was given.
func (w *watchedLog) IsMonotonic() bool {
	m, ok := w.LogStore.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

// held returns how long the append under way, or its sync, has taken, 0 if none is.
func (w *watchedLog) held() (d time.Duration) {
	if w.ahead != nil {
		d = w.ahead.Unsynced()
	}
	if since := w.since.Load(); since != 0 {
		d = max(d, time.Since(w.base)-time.Duration(since-1))
	}
	return d
}

// stallLimit is how many heartbeat time-outs an append of the leader may take.
// Outliers of a busy disk are well below one.
const stallLimit = 2

// stallLoop hands leadership over when our disk hangs. Raft cannot: its main loop,
// which would transfer leadership or step down, waits for that disk.
func (n *Node) stallLoop() {
	heartbeat, _ := Timings(n.cfg.Multiplier)
	t := time.NewTicker(heartbeat / 2)
	defer t.Stop()
	var again time.Time
	for {
		select {
		case <-t.C:
		case <-n.quit:
			return
		}
		held := n.log.held()
		if held < stallLimit*heartbeat {
			if n.stalled.CompareAndSwap(true, false) {
				n.logger.Info("the disk takes the Raft log again")
				n.broadcast()
			}
			continue
		}
		if now := time.Now(); now.After(again) && n.handOver(held) {
			again = now.Add(heartbeat) // the time an election may take
		}
	}
}

// handOver asks a follower to lead; false if nobody could be asked.
func (n *Node) handOver(held time.Duration) bool {
	r := n.raft.Load()
	if r.State() != raft.Leader || n.alone.Load() {
		return false
	}
	term := r.CurrentTerm()
	ids := n.lease.successors(term, r.CommitIndex(), time.Now())
	if len(ids) == 0 {
		return false // nobody else could lead: waiting for the disk is all there is
	}
	req := &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{
		ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(n.cfg.NodeID),
		Addr: n.transport.EncodePeer(raft.ServerID(n.cfg.NodeID), n.transport.addr),
	}}
	for _, s := range n.inOrder(ids) {
		var resp raft.TimeoutNowResponse
		if err := n.transport.TimeoutNow(s.ID, s.Address, req, &resp); err != nil {
			n.logger.Warn("a server does not take over from one whose disk hangs", "peer", s.ID, "err", err)
			continue
		}
		n.logger.Error("the disk does not take the Raft log; another server is asked to lead",
			"waiting", held.Round(time.Millisecond), "peer", s.ID, "term", term)
		n.m.handovers.Inc()
		if !n.stalled.Swap(true) {
			n.broadcast() // those who wait at this leader
		}
		// None of these is in the log: their callers ask the next leader.
		n.queue.drop(noLeader(errStalled))
		return true
	}
	return false
}
