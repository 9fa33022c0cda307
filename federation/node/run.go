package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"landbridge/lan/gossip"
	"landbridge/store"
)

// Run starts the node, tells a supervisor, and returns when ctx is done, when a
// part failed, or when the node has left; it is stopped then.
func (n *Node) Run(ctx context.Context) error {
	if err := n.Start(ctx); err != nil {
		return err
	}
	n.notify(daemon.SdNotifyReady + "\nSTATUS=" + n.state())
	watch := n.watchdog()
	var err error
	for done := false; !done; {
		select {
		case <-ctx.Done():
			done = true
		case <-n.left:
			done = true
		case err = <-n.failed:
			done = true
		case <-watch:
			// Fed only while the heartbeat of the node's own loops goes on.
			if time.Since(time.Unix(0, n.beat.Load())) < 5*time.Second {
				n.notify(daemon.SdNotifyWatchdog + "\nSTATUS=" + n.state())
			}
		}
	}
	n.notify(daemon.SdNotifyStopping)
	return errors.Join(err, n.Stop(context.WithoutCancel(ctx)))
}

// watchdog ticks at half the supervisor's interval; nil if there is none.
func (n *Node) watchdog() <-chan time.Time {
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil || every <= 0 {
		return nil
	}
	return time.Tick(every / 2)
}

func (n *Node) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		n.log.Warn("supervisor not told", "err", err)
	}
}

// state is one line on how the node is.
func (n *Node) state() string {
	if n.srv == nil {
		return fmt.Sprintf("client agent of %s, %d servers known", n.cfg.Datacenter, len(n.lanView.Servers()))
	}
	role := "no leader known"
	if n.srv.raft.IsLeader() {
		role = "leader"
	} else if _, addr := n.srv.raft.Leader(); addr != "" {
		role = "follower of " + addr
	}
	return fmt.Sprintf("server of %s, %s, %d datacenters", n.cfg.Datacenter, role, len(n.srv.datacenters()))
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
		if n.srv.raft.IsLeader() && n.srv.otherVoters() > 0 {
			if err := n.srv.raft.TransferLeadership(ctx, ""); err != nil {
				n.log.Warn("leadership not handed over", "err", err)
			}
		}
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
