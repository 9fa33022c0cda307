package node

import (
	"context"
	"strings"
	"sync/atomic"
	"time"
)

// pulse asks the node's main loops, each in a goroutine of its own, whether they go
// round. It is what the watchdog of a service manager is fed from: a process whose
// timers run while its Raft, gossip or agent loop is stuck must be started anew.
type pulse struct {
	// born is what times are counted from: the monotonic clock, so that a jump of the
	// machine's clock freezes nothing.
	born  time.Time
	limit time.Duration // a loop that is silent for longer is frozen
	loops []*pulseLoop
	seen  time.Duration // when frozen was called last
}

// pulseLoop is one loop. ask returns when the loop has answered, or with an error
// when ctx ends.
type pulseLoop struct {
	name string
	ask  func(ctx context.Context) error
	last atomic.Int64 // when it answered last, as nanoseconds since pulse.born
}

func (p *pulse) add(name string, ask func(ctx context.Context) error) {
	l := &pulseLoop{name: name, ask: ask}
	l.last.Store(int64(time.Since(p.born)))
	p.loops = append(p.loops, l)
}

// run asks all loops until ctx ends.
func (p *pulse) run(ctx context.Context) error {
	ended := make(chan struct{}, len(p.loops))
	for _, l := range p.loops {
		go func() {
			defer func() { ended <- struct{}{} }()
			p.follow(ctx, l)
		}()
	}
	for range p.loops {
		<-ended
	}
	return nil
}

func (p *pulse) follow(ctx context.Context, l *pulseLoop) {
	t := time.NewTicker(min(time.Second, p.limit/4))
	defer t.Stop()
	for {
		if l.ask(ctx) == nil {
			l.last.Store(int64(time.Since(p.born)))
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// frozen names the loops that have not answered for longer than the limit. Its
// caller is the one goroutine that may call it, several times within the limit: if it
// did not get to, the whole process stood still, and all loops have their time again.
func (p *pulse) frozen() string {
	var names []string
	now := time.Since(p.born)
	stood := now-p.seen > p.limit
	p.seen = now
	for _, l := range p.loops {
		if stood {
			l.last.Store(int64(now))
		}
		if now-time.Duration(l.last.Load()) > p.limit {
			names = append(names, l.name)
		}
	}
	return strings.Join(names, ", ")
}

// newPulse lists the node's main loops.
func (n *Node) newPulse(limit time.Duration) *pulse {
	p := &pulse{born: time.Now(), limit: limit}
	p.add("members", func(ctx context.Context) error {
		n.lan.Members() // takes the lock that all of gossip takes
		return ask(ctx, n.asked)
	})
	p.add("agent", n.agent.Alive)
	if s := n.srv; s != nil {
		p.add("state", func(context.Context) error { s.state.Index(); return nil })
		p.add("raft", s.raft.Alive)
		p.add("leader", s.leader.Alive)
	}
	return p
}

// ask returns when the loop that reads c has gone round.
func ask(ctx context.Context, c chan<- struct{}) error {
	select {
	case c <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
