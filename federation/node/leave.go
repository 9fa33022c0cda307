package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/lan/gossip"
	"landbridge/store"
	wangossip "landbridge/wan/gossip"
)

// A datacenter that left the federation stays out of it, over restarts too, until
// somebody joins it again: a file in the data directory remembers that. Its servers
// keep the federation's root, so that coming back needs no other proof than before.

// leftFile says that this server's datacenter left, and when.
const leftFile = "left"

func (n *Node) leftPath() string { return filepath.Join(n.cfg.DataDir, "federation", leftFile) }

func (n *Node) hasLeft() bool {
	if n.cfg.DataDir == "" {
		return false
	}
	_, err := os.Stat(n.leftPath())
	return err == nil
}

// hasLeft is whether this server is out of the federation until a join.
func (w *wan) hasLeft() bool {
	if w == nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.left
}

// enter waits until this server is, or is again, in the federation, and returns the
// context of its part in it.
func (w *wan) enter(ctx context.Context) (context.Context, error) {
	for {
		w.mu.Lock()
		if !w.left {
			in, cancel := context.WithCancel(ctx)
			w.leave, w.gone = cancel, make(chan struct{})
			w.mu.Unlock()
			return in, nil
		}
		back := w.back
		w.mu.Unlock()
		select {
		case <-back:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// started tells those who wait that the pool runs.
func (w *wan) started() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.running)
}

// exit notes that the pool runs no more.
func (w *wan) exit() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.leave()
	w.leave, w.met = nil, nil
	w.running = make(chan struct{})
	close(w.gone)
}

// comeBack takes part in the WAN again after a leave.
func (s *server) comeBack() {
	w := s.wan
	w.mu.Lock()
	if !w.left {
		w.mu.Unlock()
		return
	}
	w.left = false
	close(w.back)
	w.back = nil
	w.mu.Unlock()
	if s.n.cfg.DataDir != "" {
		if err := os.Remove(s.n.leftPath()); err != nil && !errors.Is(err, os.ErrNotExist) {
			s.n.log.Warn("a restart would leave the federation again", "err", err)
		}
	}
	s.tellTags()
	s.n.log.Info("this server takes part in the WAN again")
}

// tellTags gossips in the LAN whether we are in the WAN.
func (s *server) tellTags() {
	if err := s.n.lan.SetTags(s.n.lanTags()); err != nil {
		s.n.log.Debug("tags go out late", "err", err) // they are set: gossip repeats them
	}
}

// federationLeave is FederationLeave.
func (s *server) federationLeave(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	if s.wan == nil {
		return nil, store.Errorf(store.KindInvalid, "this server does not take part in the WAN: ask one that does")
	}
	switch req.Query.Name {
	case rpc.StatusOwn:
		return &rpc.Response{}, s.leaveWAN(ctx)
	case rpc.StatusDatacenter:
		return &rpc.Response{}, s.leaveFederation(ctx, req)
	}
	return nil, store.Errorf(store.KindInvalid, "who leaves the federation is %q: want %q or %q", req.Query.Name, rpc.StatusOwn, rpc.StatusDatacenter)
}

// leaveFederation has all servers of this datacenter leave, ourselves last.
func (s *server) leaveFederation(ctx context.Context, req *rpc.Request) error {
	own := s.n.cfg.Datacenter
	var others []string
	for _, dc := range s.wan.dir.Datacenters() {
		if dc != own {
			others = append(others, dc)
		}
	}
	if s.authority.Status().Primary == own && len(others) > 0 {
		return store.Errorf(store.KindConflict, "datacenter %s is the primary and holds the root of the federation: it cannot leave while others are in it; have them leave first: %s", own, strings.Join(others, ", "))
	}
	ctx, cancel := context.WithTimeout(ctx, 2*leaveTimeout)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	var stay []string
	for _, m := range s.n.lan.Members() {
		p, ok := serverPeer(m)
		if !ok || !p.Federated || m.Name == s.n.cfg.NodeName || m.Status == gossip.Left {
			continue
		}
		wg.Go(func() {
			conn, err := s.n.lanView.Dial(ctx, p)
			if err == nil {
				_, err = conn.Do(ctx, &rpc.Request{Method: rpc.FederationLeave, Token: req.Token, SourceDC: own, Hops: req.Hops + 1, Query: store.Query{Name: rpc.StatusOwn}})
			}
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				stay = append(stay, fmt.Sprintf("%s (%s)", wangossip.Name(m.Name, own), err))
			}
		})
	}
	wg.Wait()
	if len(stay) > 0 {
		// Not we either: who can still be asked says what is left to do.
		slices.Sort(stay)
		return store.Errorf(store.KindUnreachable, "these servers did not leave, and the one asked stays with them: %s; ask again when they answer, or remove them first (force-leave)", strings.Join(stay, ", "))
	}
	return s.leaveWAN(ctx)
}

// leaveWAN has this server leave: the others are told, calls end, and what was known
// of other datacenters is forgotten.
func (s *server) leaveWAN(ctx context.Context) error {
	w := s.wan
	w.mu.Lock()
	if w.left {
		w.mu.Unlock()
		return nil
	}
	w.left, w.back = true, make(chan struct{})
	clear(w.pending)
	clear(w.tried)
	end, gone := w.leave, w.gone
	w.mu.Unlock()
	if s.n.cfg.DataDir != "" {
		err := os.MkdirAll(filepath.Dir(s.n.leftPath()), 0o700)
		if err == nil {
			err = writeDurably(filepath.Dir(s.n.leftPath()), leftFile, []byte(time.Now().UTC().Format(time.RFC3339)+"\n"))
		}
		if err != nil {
			s.comeBack()
			return store.Errorf(store.KindInternal, "leaving the federation: %w", err)
		}
	}
	s.tellTags() // first: or the others of this datacenter would join us again
	if end != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
		defer cancel()
		if err := ignoreStopped(w.pool.Leave(ctx)); err != nil {
			s.n.log.Warn("other datacenters will find this server failed, and not left", "err", err)
		}
		end()
		select {
		case <-gone:
		case <-ctx.Done():
			return store.Errorf(store.KindTimeout, "leaving the federation: %w", context.Cause(ctx))
		}
	}
	w.endpoint.CloseAll()
	s.n.log.Info("left the federation")
	return nil
}
