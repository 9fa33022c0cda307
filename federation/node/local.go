package node

import (
	"context"
	"sync"
	"time"

	"landbridge/forwarding/endpoint"
	"landbridge/forwarding/rpc"
	"landbridge/store"
	"landbridge/store/consensus"
)

// patience is how long a restarted server that has state, but no leader, keeps
// even stale readers waiting before it answers from what it knew when it stopped.
const patience = 10 * time.Second

// apartHold is how long a request of another datacenter waits for this server to
// catch up.
const apartHold = 150 * time.Millisecond

// local is this server's own share for the dispatcher. Between its start and the
// moment it has caught up once, its state is older than what it acknowledged, or
// empty, or in part there: no read is answered from it until then.
type local struct {
	set  *endpoint.Set
	raft *consensus.Node
	hold time.Duration
	// askLeader asks the server that Raft takes for the leader how it is.
	askLeader func(ctx context.Context) (*store.ServerStatus, error)
	ready     chan struct{}
	once      sync.Once
}

func (l *local) IsLeader() bool { return l.isReady() && l.raft.IsLeader() }

func (l *local) isReady() bool {
	select {
	case <-l.ready:
		return true
	default:
		return false
	}
}

func (l *local) Do(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	if m := rpc.Lookup(req.Method); m != nil && m.Where != rpc.AnyServer && !l.isReady() {
		hold := l.hold
		if req.Origin == rpc.FromWAN {
			hold = apartHold // others of this datacenter can answer
		}
		if err := l.wait(ctx, req.NoWait, hold); err != nil {
			return nil, err
		}
	}
	return l.set.Do(ctx, req)
}

// wait returns when the gate is open, or an error if that takes too long.
func (l *local) wait(ctx context.Context, noWait bool, hold time.Duration) error {
	if noWait {
		return rpc.ErrWouldWait
	}
	t := time.NewTimer(hold)
	defer t.Stop()
	select {
	case <-l.ready:
		return nil
	case <-t.C:
	case <-ctx.Done():
	}
	return store.ErrNoLeader
}

// watch opens the gate when this server leads, or has applied what the leader's
// log held when it was first heard of; or, with state from before, when patience
// is over.
func (l *local) watch(ctx context.Context) error {
	start := time.Now()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var target uint64 // 0: not known
	for {
		changed := l.raft.LeaderChanged()
		if target == 0 && !l.raft.IsLeader() {
			target = l.leaderIndex(ctx)
		}
		if l.caughtUp(target) || l.raft.HasState() && time.Since(start) > patience && l.raft.Restored() {
			l.once.Do(func() { close(l.ready) })
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-tick.C:
		}
	}
}

// leaderIndex is where the leader's log ends, 0 if it does not say.
func (l *local) leaderIndex(ctx context.Context) uint64 {
	if id, _ := l.raft.Leader(); id == "" || l.raft.LastContact() < 0 {
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	st, err := l.askLeader(ctx)
	if err != nil || !st.Leader {
		return 0
	}
	return st.LastIndex
}

func (l *local) caughtUp(target uint64) bool {
	if l.raft.IsLeader() {
		return true
	}
	return target > 0 && l.raft.Raft().CommitIndex() >= target && l.raft.CaughtUp()
}
