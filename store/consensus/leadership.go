package consensus

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"landbridge/store"
)

// IsLeader reports whether this server leads and has applied what earlier
// leaders committed. It may be wrong for up to a lease: reads use CheckLease.
func (n *Node) IsLeader() bool {
	r := n.raft.Load()
	return r != nil && r.State() == raft.Leader && n.ready.Load() == r.CurrentTerm() && !n.stalled.Load()
}

// Leader returns the id and the Raft address of the server this one takes for
// leader, "" if none.
func (n *Node) Leader() (id, addr string) {
	r := n.raft.Load()
	if r == nil {
		return "", ""
	}
	a, i := r.LeaderWithID()
	return string(i), string(a)
}

// Leadership gives true when this server became leader and has applied what
// earlier leaders committed, and false when it lost leadership. It holds only
// the latest value, for one receiver: a second true without a false between
// means that leadership was lost and won again.
func (n *Node) Leadership() <-chan bool { return n.leadership }

// LeaderChanged returns a channel that is closed when another server becomes
// leader, or none, or this server becomes ready to lead. Get the channel before
// looking at Leader or IsLeader.
func (n *Node) LeaderChanged() <-chan struct{} {
	n.changedMu.Lock()
	defer n.changedMu.Unlock()
	return n.changed
}

func (n *Node) broadcast() {
	n.changedMu.Lock()
	defer n.changedMu.Unlock()
	close(n.changed)
	n.changed = make(chan struct{})
}

// LastContact returns how long ago the leader was heard: 0 on the leader, the
// time since Start if there was none yet.
func (n *Node) LastContact() time.Duration {
	r := n.raft.Load()
	if r == nil {
		return 0
	}
	if r.State() == raft.Leader {
		return 0
	}
	if t := r.LastContact(); !t.IsZero() {
		return elapsed(t, time.Now())
	}
	return elapsed(n.started, time.Now())
}

// CaughtUp reports whether the state machine has applied all that this server
// knows to be committed; false as long as it knows of nothing. Raft's own applied
// index is that of what was handed to the state machine.
func (n *Node) CaughtUp() bool {
	r := n.raft.Load()
	if r == nil {
		return false
	}
	commit := r.CommitIndex()
	if commit == 0 {
		return false
	}
	applied := max(n.fsm.done.Load(), n.stat("last_snapshot_index"))
	for i := commit; i > applied; i-- {
		var l raft.Log
		switch err := n.cfg.Stores.Log.GetLog(i, &l); {
		case err != nil:
			return false
		case l.Type == raft.LogCommand, l.Type == raft.LogConfiguration:
			return false
		}
		// Others have no effect on the state machine.
	}
	return true
}

// CheckLease returns nil if this server may answer default reads now; see the
// package documentation. The error is of KindNoLeader; its cause is ErrLease if
// VerifyLeader could still tell.
func (n *Node) CheckLease() error {
	r := n.raft.Load()
	if r == nil || r.State() != raft.Leader {
		return noLeader(raft.ErrNotLeader)
	}
	term := r.CurrentTerm()
	if n.ready.Load() != term {
		return noLeader(errNotReady)
	}
	if n.stalled.Load() {
		return noLeader(errStalled)
	}
	// Alone, nobody can be elected without us.
	if n.alone.Load() || n.lease.valid(term, time.Now()) {
		return nil
	}
	n.m.leaseRefused.Inc()
	return noLeader(ErrLease)
}

// VerifyLeader asks a quorum whether this server still leads; the quorum answers
// requests that are sent after the call. Callers that come while one round is on
// the way share the next one. It renews the lease.
func (n *Node) VerifyLeader(ctx context.Context) error {
	r := n.raft.Load()
	if r == nil || n.stopping() {
		return noLeader(errStopping)
	}
	if r.State() != raft.Leader {
		return noLeader(raft.ErrNotLeader)
	}
	if n.ready.Load() != r.CurrentTerm() {
		return noLeader(errNotReady)
	}
	if n.stalled.Load() {
		return noLeader(errStalled) // Raft, which waits for the log too, would not answer
	}
	round := n.verify.join()
	select {
	case <-round.done:
		return round.err
	case <-n.quit:
		return noLeader(errStopping)
	case <-ctx.Done():
		return store.Errorf(store.KindTimeout, "verify leader: no quorum answered in time: %w", context.Cause(ctx))
	}
}

// verifier holds the round that has not begun yet.
type verifier struct {
	mu      sync.Mutex
	next    *verifyRound
	waiting chan struct{}
}

type verifyRound struct {
	done chan struct{}
	err  error // set before done is closed
}

func (v *verifier) init() { v.waiting = make(chan struct{}, 1) }

func (v *verifier) join() *verifyRound {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.next == nil {
		v.next = &verifyRound{done: make(chan struct{})}
		signal(v.waiting)
	}
	return v.next
}

func (v *verifier) take() *verifyRound {
	v.mu.Lock()
	defer v.mu.Unlock()
	r := v.next
	v.next = nil
	return r
}

func (n *Node) verifyLoop() {
	for {
		select {
		case <-n.verify.waiting:
		case <-n.quit:
			return
		}
		if round := n.verify.take(); round != nil {
			round.err = n.askQuorum()
			close(round.done)
		}
	}
}

// askQuorum has Raft send heartbeats and waits for a quorum of answers. Raft
// would count any answer that arrives from now on, also one to a request from
// before a freeze; here the request must be younger than the question.
func (n *Node) askQuorum() error {
	r := n.raft.Load()
	since := time.Now()
	term := r.CurrentTerm()
	for {
		if err := r.VerifyLeader().Error(); err != nil {
			return noLeader(err)
		}
		// Raft's heartbeats are on their way, each after the one before it
		// was answered; that may need another nudge.
		again := time.After(n.lease.length / 4)
		for waiting := true; waiting; {
			ok, changed := n.lease.confirmed(term, since)
			if ok {
				return nil
			}
			select {
			case <-changed:
			case <-again:
				waiting = false
			case <-n.quit:
				return noLeader(errStopping)
			}
		}
		if r.CurrentTerm() != term {
			return noLeader(raft.ErrNotLeader)
		}
	}
}

// leadershipLoop follows Raft's changes between leader and follower.
func (n *Node) leadershipLoop() {
	r := n.raft.Load()
	for {
		select {
		case <-r.LeaderCh():
		case <-n.quit:
			n.publish(false)
			return
		}
		n.ready.Store(0)
		n.m.leader.Set(0)
		if n.establish(r) {
			n.m.leader.Set(1)
			n.publish(true)
		} else {
			n.publish(false)
		}
		n.broadcast()
	}
}

// establish makes this leader ready: what earlier leaders committed is applied.
// It reports false if leadership was lost meanwhile.
func (n *Node) establish(r *raft.Raft) bool {
	n.clock.set()
	for r.State() == raft.Leader && !n.stopping() {
		term := r.CurrentTerm()
		err := r.Barrier(0).Error()
		if err == nil && r.CurrentTerm() == term {
			n.refreshAlone()
			n.ready.Store(term)
			n.logger.Info("this server leads its datacenter", "term", term)
			return true
		}
		// A transfer under way refuses barriers; if it fails, we go on.
		select {
		case <-time.After(20 * time.Millisecond):
		case <-n.quit:
		}
	}
	return false
}

// publish replaces what the receiver of Leadership has not taken yet.
func (n *Node) publish(leads bool) {
	select {
	case <-n.leadership:
	default:
	}
	// This loop is the only sender, so there is room.
	n.leadership <- leads
}

// observe is called by Raft's main loop, or with its locks held: it must not
// wait and must not call Raft. It keeps no observation.
func (n *Node) observe(o *raft.Observation) bool {
	switch d := o.Data.(type) {
	case raft.LeaderObservation:
		n.m.leaderChanges.Inc()
		n.broadcast()
	case raft.RequestPreVoteRequest:
		n.transport.preVotes.note(d)
	case raft.PeerObservation:
		if !d.Removed {
			n.aloneMu.Lock()
			n.alone.Store(false)
			n.aloneMu.Unlock()
		}
	case raft.RaftState:
		if d == raft.Shutdown && !n.stopping() {
			n.cfg.Fatal(errRaftGone)
		}
	}
	return false
}

// refreshAlone looks whether we are the whole configuration. It and the clearing
// in observe hold aloneMu: Raft sets the configuration before it tells observe,
// so an old look cannot overwrite the news.
func (n *Node) refreshAlone() {
	n.aloneMu.Lock()
	defer n.aloneMu.Unlock()
	servers := n.configuration().Servers
	n.alone.Store(len(servers) == 1 && servers[0].Suffrage == raft.Voter && servers[0].ID == raft.ServerID(n.cfg.NodeID))
}

// housekeepingLoop does what may take long and concerns nobody at once.
func (n *Node) housekeepingLoop() {
	n.keepPeersInfo()
	for {
		select {
		case <-n.confChange:
			n.refreshAlone()
			n.keepPeersInfo()
		case <-n.tooLarge:
			n.snapshotForSize()
		case <-n.quit:
			return
		}
	}
}

func (n *Node) keepPeersInfo() {
	if err := WritePeersInfo(n.cfg.Stores, n.Servers()); err != nil {
		n.logger.Warn("the list of Raft servers is not up to date", "file", peersInfo, "err", err)
	}
}

func (n *Node) snapshotForSize() {
	outcome := "ok"
	if err := n.raft.Load().Snapshot().Error(); err != nil {
		outcome = "failed"
		n.logger.Warn("raft snapshot failed; the log grows on", "err", err)
		select { // not again at once: every entry asks
		case <-time.After(10 * time.Second):
		case <-n.quit:
		}
	}
	n.fsm.setLimit()
	n.m.snapshots.WithLabelValues(outcome).Inc()
}

// TransferLeadership hands leadership to the server named by id, or with "" to the
// first that takes it of those that answered within a lease, those with the longest
// log first. It returns when this server leads no more. Commands that were sent have
// their results before, later ones are sent by nobody: their callers ask the next
// leader. An attempt ends by itself after an election time-out; ctx bounds them all.
func (n *Node) TransferLeadership(ctx context.Context, id string) error {
	return n.wait(ctx, "transfer leadership", func(r *raft.Raft, enqueue time.Duration) raft.Future {
		return failed{n.transfer(ctx, r, enqueue, raft.ServerID(id))}
	})
}

func (n *Node) transfer(ctx context.Context, r *raft.Raft, enqueue time.Duration, id raft.ServerID) error {
	select {
	case n.gate <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-n.quit:
		return noLeader(errStopping)
	}
	defer func() { <-n.gate }()
	// Raft transfers when everything is sent, committed or not.
	if err := r.Barrier(enqueue).Error(); err != nil {
		return err
	}
	ids := []raft.ServerID{id}
	if id == "" {
		ids = slices.DeleteFunc(n.lease.successors(r.CurrentTerm(), 0, time.Now()),
			func(id raft.ServerID) bool { return n.transport.silence.of(id) != nil })
	}
	servers := n.inOrder(ids)
	switch {
	case len(servers) > 0:
	case id == "":
		// None has answered yet. Raft takes the one it has sent most to, who may be gone.
		return r.LeadershipTransfer().Error()
	default:
		return errNoServer(string(id))
	}
	var err error
	for _, s := range servers {
		if err = transferTo(ctx, r, s); err == nil || r.State() != raft.Leader || ctx.Err() != nil {
			break
		}
		n.logger.Warn("a server does not take leadership", "peer", s.ID, "err", err)
	}
	return err
}

func transferTo(ctx context.Context, r *raft.Raft, s raft.Server) error {
	for {
		err := r.LeadershipTransferToServer(s.ID, s.Address).Error()
		if !errors.Is(err, raft.ErrLeadershipTransferInProgress) {
			return err
		}
		// Raft says so for a moment after an attempt has failed.
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

// inOrder returns the members with these ids, in their order.
func (n *Node) inOrder(ids []raft.ServerID) (list []raft.Server) {
	servers := n.configuration().Servers
	for _, id := range ids {
		if i := slices.IndexFunc(servers, func(s raft.Server) bool { return s.ID == id }); i >= 0 {
			list = append(list, servers[i])
		}
	}
	return list
}
