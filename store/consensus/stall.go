package consensus

import (
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// watchedLog is the log that Raft writes to. It knows how long the append under
// way has taken: Raft's main loop makes them, one at a time, and does nothing else
// meanwhile.
type watchedLog struct {
	raft.LogStore
	base  time.Time
	since atomic.Int64 // when the append under way began, counted from base; 0: none is
}

func (w *watchedLog) StoreLog(l *raft.Log) error { return w.StoreLogs([]*raft.Log{l}) }

func (w *watchedLog) StoreLogs(logs []*raft.Log) error {
	w.since.Store(int64(time.Since(w.base)) + 1)
	defer w.since.Store(0)
	return w.LogStore.StoreLogs(logs)
}

// IsMonotonic passes on what Raft asks of the log it was given.
func (w *watchedLog) IsMonotonic() bool {
	m, ok := w.LogStore.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

// held returns how long the append under way has taken, 0 if none is.
func (w *watchedLog) held() time.Duration {
	since := w.since.Load()
	if since == 0 {
		return 0
	}
	return time.Since(w.base) - time.Duration(since-1)
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
