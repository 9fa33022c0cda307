package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"landbridge/lan/gossip"
	"landbridge/store"
)

// Timings of the talk with a supervisor.
const (
	readyEvery  = 100 * time.Millisecond // how often to look whether the node is ready
	statusEvery = 5 * time.Second        // how often to say how it is
	// staleAfter is how long a server that has state waits for a leader before it
	// counts as ready without one: it serves stale reads, which is what it is kept for.
	staleAfter = 10 * time.Second
	// startGrace is what a supervisor is asked for, again and again, while the node
	// waits for others: the loops go round, so there is nothing to give up on.
	startGrace = 30 * time.Second
)

// Run starts the node, tells a supervisor how it is, and returns when ctx is done,
// when a part failed, or when the node has left; it is stopped then.
func (n *Node) Run(ctx context.Context) error {
	if err := n.Start(ctx); err != nil {
		return err
	}
	err := n.supervised(ctx)
	n.notify(daemon.SdNotifyStopping)
	return errors.Join(err, n.Stop(context.WithoutCancel(ctx)))
}

// supervised keeps the supervisor informed until the node should stop. Without a
// supervisor nothing is asked and nobody told.
func (n *Node) supervised(ctx context.Context) error {
	var look, feed, tell <-chan time.Time
	limit := startGrace
	if every := n.cfg.WatchdogInterval; every > 0 {
		limit = every / 2
	}
	p := n.newPulse(limit)
	if n.cfg.Supervisor != nil {
		n.stack.run("pulse", n.fail, p.run)
		l, t := time.NewTicker(readyEvery), time.NewTicker(statusEvery)
		defer l.Stop()
		defer t.Stop()
		look, tell = l.C, t.C
		if every := n.cfg.WatchdogInterval; every > 0 {
			f := time.NewTicker(every / 4)
			defer f.Stop()
			feed = f.C
		}
	}
	var stuck string
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.left:
			return nil
		case err := <-n.failed:
			return err
		case <-look:
			if n.isReady() {
				look = nil
				n.ready.Store(true)
				n.notify(daemon.SdNotifyReady, n.state())
				n.log.Info("ready", "state", n.role())
			}
		case <-tell:
			if p.frozen() != "" {
				break // neither more time, nor another word on how it is
			}
			if look != nil {
				n.notify(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", startGrace.Microseconds()), n.state())
			} else {
				n.notify(n.state())
			}
		case <-feed:
			now := p.frozen()
			if now == "" {
				n.notify(daemon.SdNotifyWatchdog, n.state())
			} else if stuck == "" {
				n.log.Error("a main loop is frozen, the watchdog is not fed", "loops", now)
				n.notify("STATUS=frozen: " + now)
			}
			stuck = now
		}
	}
}

// notify tells the supervisor, if there is one.
func (n *Node) notify(state ...string) {
	if n.cfg.Supervisor == nil {
		return
	}
	if err := n.cfg.Supervisor(strings.Join(state, "\n")); err != nil {
		n.log.Warn("supervisor not told", "err", err)
	}
}

// isReady reports whether the node does what it was started for: it has joined its
// datacenter and knows a leader, or it is a server that had state and serves stale
// reads. Other datacenters have no say in it.
func (n *Node) isReady() bool {
	if n.srv == nil {
		return len(n.lanView.Servers()) > 0
	}
	if id, _ := n.srv.raft.Leader(); id != "" {
		return true
	}
	return n.srv.raft.HasState() && time.Since(n.started) > staleAfter
}

// state is one line on how the node is, as the supervisor shows it.
func (n *Node) state() string {
	text := n.role()
	if why := n.refused.Load(); why != nil {
		text += "; the last reload was refused: " + *why
	}
	return "STATUS=" + text
}

func (n *Node) role() string {
	if n.srv == nil {
		if servers := len(n.lanView.Servers()); servers > 0 || !n.joining.Load() {
			return fmt.Sprintf("client agent of %s, %d servers known", n.cfg.Datacenter, servers)
		}
		return fmt.Sprintf("client agent of %s, joining: no server has answered yet", n.cfg.Datacenter)
	}
	r := n.srv.raft
	what := "no leader, serves stale reads only"
	if r.IsLeader() {
		what = "leader"
	} else if _, addr := r.Leader(); addr != "" {
		if what = "follower of " + addr; addr == n.lanAddr(n.cfg.Ports.Server).String() {
			what = "about to lead"
		}
	} else if !r.HasState() && len(r.Servers()) == 0 {
		what = "no leader yet, waiting for the first servers to find each other"
		if n.cfg.BootstrapExpect > 1 {
			what += fmt.Sprintf(" (%d of %d)", 1+len(n.lanView.Servers()), n.cfg.BootstrapExpect)
		}
	}
	return fmt.Sprintf("server of %s, %s, %d datacenters", n.cfg.Datacenter, what, len(n.srv.datacenters()))
}

// leaveTimeout bounds a graceful leave (spec config.md 10).
const leaveTimeout = 15 * time.Second

// Leave takes the node out of its pools and, on a server, out of the Raft group;
// Run then ends. A server that is the only voter keeps its state: it comes back
// with it.
func (n *Node) Leave(ctx context.Context) error {
	n.leaving.Lock()
	defer n.leaving.Unlock()
	select {
	case <-n.left:
		return nil
	default:
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	n.log.Info("leaving")
	n.going.Store(true)
	var errs []error
	leftWAN := make(chan error, 1) // beside the LAN: each takes seconds to spread
	if n.srv != nil && n.srv.wan != nil {
		go func() { leftWAN <- ignoreStopped(n.srv.wan.pool.Leave(ctx)) }()
	} else {
		leftWAN <- nil
	}
	if n.srv != nil {
		n.srv.handOver(ctx)
	}
	errs = append(errs, ignoreStopped(n.lan.Leave(ctx)), <-leftWAN)
	if n.srv != nil && n.srv.otherVoters() > 0 {
		errs = append(errs, n.srv.awaitRemoval(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		n.going.Store(false)
		return store.Errorf(store.KindInternal, "leave: %w", err)
	}
	n.log.Info("left")
	// Whoever asked over HTTP gets the answer before the listener closes.
	n.leftOnce.Do(func() { time.AfterFunc(min(n.cfg.LeaveDrainTime, 200*time.Millisecond), func() { close(n.left) }) })
	return nil
}

// handOverTime bounds the wait for another server to lead before this one ends.
const handOverTime = time.Second

// handOver has another server lead, if this one does and there is one: writes then
// wait for an election that begins at once, and not for a heartbeat time-out.
func (s *server) handOver(ctx context.Context) {
	if !s.raft.IsLeader() || s.otherVoters() == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, handOverTime)
	defer cancel()
	start := time.Now()
	if err := s.raft.TransferLeadership(ctx, ""); err != nil {
		s.n.log.Warn("leadership not handed over: the others elect a leader when they miss this one", "err", err)
		return
	}
	s.n.log.Info("leadership handed over", "took", time.Since(start))
}

func ignoreStopped(err error) error {
	if errors.Is(err, gossip.ErrNotRunning) {
		return nil
	}
	return err
}

func (s *server) otherVoters() int {
	count := 0
	for _, srv := range s.raft.Servers() {
		if srv.Voter && srv.ID != s.n.id {
			count++
		}
	}
	return count
}

// awaitRemoval waits until the leader took us out of the Raft configuration, and
// then forgets that there was state: it is the cluster's no longer.
func (s *server) awaitRemoval(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		in := false
		for _, srv := range s.raft.Servers() {
			in = in || srv.ID == s.n.id
		}
		if !in {
			return s.stores.Forget()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.n.log.Warn("left the pools, but the leader did not take this server out of the Raft group; the others will see it as gone")
			return nil
		}
	}
}
