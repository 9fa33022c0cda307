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
// even stale readers waiting before it answers from what it has.
const patience = 10 * time.Second

// local is this server's own share for the dispatcher. Between its start and the
// moment it has caught up once, its state is older than what it acknowledged, or
// empty: no read is answered from it until then.
type local struct {
	set   *endpoint.Set
	raft  *consensus.Node
	hold  time.Duration
	ready chan struct{}
	once  sync.Once
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
		t := time.NewTimer(l.hold)
		defer t.Stop()
		select {
		case <-l.ready:
		case <-t.C:
			return nil, store.ErrNoLeader
		case <-ctx.Done():
			return nil, store.ErrNoLeader
		}
	}
	return l.set.Do(ctx, req)
}

// watch opens the gate when this server leads, or has applied all that it knows
// to be committed since it first heard from a leader; or, with state from before,
// when patience is over.
func (l *local) watch(ctx context.Context) error {
	start := time.Now()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		changed := l.raft.LeaderChanged()
		if l.caughtUp() || l.raft.HasState() && time.Since(start) > patience {
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

func (l *local) caughtUp() bool {
	if l.raft.IsLeader() {
		return true
	}
	id, _ := l.raft.Leader()
	if id == "" || l.raft.LastContact() < 0 {
		return false
	}
	r := l.raft.Raft()
	commit := r.CommitIndex()
	return commit > 0 && r.AppliedIndex() >= commit
}
