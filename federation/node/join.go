package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"landbridge/federation/trust"
	"landbridge/forwarding/rpc"
	"landbridge/lan/gossip"
	"landbridge/store"
	"landbridge/store/wire"
	wangossip "landbridge/wan/gossip"
	"landbridge/wan/transport"
)

type (
	transportSession    = transport.Session
	transportEnrollConn = transport.EnrollConn
)

// retryJoin joins the configured addresses of both pools, and goes on until it
// worked or retry_max is reached, which ends the node.
func (n *Node) retryJoin(ctx context.Context) error {
	wanDone := make(chan error, 1)
	go func() {
		if n.srv == nil || n.srv.wan == nil || len(n.cfg.RetryJoinWAN) == 0 || n.srv.wan.hasLeft() {
			wanDone <- nil
			return
		}
		wanDone <- n.keepJoining(ctx, "WAN", n.cfg.RetryJoinWAN, n.cfg.RetryIntervalWAN, n.cfg.RetryMaxWAN, n.joinAnyWAN)
	}()
	var lanErr error
	if addrs := n.withoutSelf(n.cfg.RetryJoinLAN); len(addrs) > 0 {
		lanErr = n.keepJoining(ctx, "LAN", addrs, n.cfg.RetryInterval, n.cfg.RetryMax, n.joinLAN)
	}
	return errors.Join(lanErr, <-wanDone)
}

// keepJoining tries at once, then with growing pauses up to the interval: agents
// that start together find each other in a moment, and a pool that is not there
// costs little.
func (n *Node) keepJoining(ctx context.Context, pool string, addrs []string, interval time.Duration, most int, join func(context.Context, []string) error) error {
	pause := min(100*time.Millisecond, interval)
	told := false
	for tries := 0; ; {
		err := join(ctx, addrs)
		if err == nil {
			n.log.Info("joined", "pool", pool)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if pause >= interval {
			if tries++; most > 0 && tries >= most {
				return fmt.Errorf("%s join: gave up after %d attempts (retry_max): %w", pool, tries, err)
			}
			n.log.Warn("join did not work, will retry", "pool", pool, "in", interval, "err", err)
		} else if pool == "WAN" && !told && store.KindOf(err) != store.KindNoLeader {
			// Between datacenters there is more to go wrong than who starts first.
			told = true
			n.log.Warn("join did not work yet, will retry", "pool", pool, "err", err)
		} else {
			n.log.Debug("join did not work yet", "pool", pool, "err", err)
		}
		t := time.NewTimer(pause/2 + rand.N(pause/2+1))
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
		pause = min(2*pause, interval)
	}
}

// withoutSelf leaves our own LAN address out: joining oneself proves nothing.
func (n *Node) withoutSelf(addrs []string) []string {
	own := n.lanAddr(n.cfg.Ports.SerfLAN)
	return slices.DeleteFunc(slices.Clone(addrs), func(a string) bool {
		if ap, err := netip.ParseAddrPort(a); err == nil {
			return ap == own
		}
		return a == own.Addr().String()
	})
}

// joinLAN contacts LAN addresses; the default port is our own serf_lan.
func (n *Node) joinLAN(ctx context.Context, addrs []string) error {
	_, err := n.lan.Join(ctx, withPort(addrs, n.cfg.Ports.SerfLAN))
	if err == nil {
		n.joining.Store(false)
	}
	return err
}

func withPort(addrs []string, port int) []string {
	out := make([]string, len(addrs))
	for i, a := range addrs {
		out[i] = a
		if _, _, err := net.SplitHostPort(a); err != nil {
			out[i] = net.JoinHostPort(strings.Trim(a, "[]"), strconv.Itoa(port))
		}
	}
	return out
}

func (n *Node) joinAnyWAN(ctx context.Context, addrs []string) error {
	var errs []error
	for _, a := range addrs {
		err := n.joinWAN(ctx, a)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// joinTimeout bounds one wan join: enrolment, gossip and the wait for both.
const joinTimeout = 15 * time.Second

// joinWAN federates our datacenter with the one at addr: enrolment by the leader,
// our own pool, and then the other servers of our datacenter are told at once.
func (n *Node) joinWAN(ctx context.Context, addr string) error {
	if n.srv == nil {
		return store.Errorf(store.KindInvalid, "Must be a server to join WAN cluster")
	}
	w := n.srv.wan
	if w == nil {
		return store.Errorf(store.KindInvalid, "this server does not take part in the WAN (federation.enabled = false, or ports.serf_wan = -1)")
	}
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	token := ""
	if strings.HasPrefix(addr, trust.TokenPrefix) {
		token, addr = addr, "by token"
	} else {
		to, err := resolve(ctx, addr, n.cfg.Ports.SerfWAN)
		if err != nil {
			return store.Errorf(store.KindInvalid, "wan join %s: %w", addr, err)
		}
		addr = to.String()
	}
	err := enroll(ctx, func() (err error) {
		if token == "" {
			return n.srv.authority.Join(ctx, addr)
		}
		addr, err = n.srv.authority.JoinByToken(ctx, token)
		return err
	})
	if err != nil {
		return err
	}
	n.srv.comeBack()
	if err := w.joinPool(ctx, []string{addr}); err != nil {
		return store.Errorf(store.KindUnreachable, "wan join %s: %w", addr, err)
	}
	if !slices.ContainsFunc(n.srv.wanMembers(), func(m gossip.Member) bool { return m.Tags["dc"] != n.cfg.Datacenter && m.Status == gossip.Alive }) {
		return store.Errorf(store.KindInvalid, "wan join %s: this is a server of our own datacenter", addr)
	}
	n.srv.pushJoin(ctx)
	return nil
}

// enroll goes on while one of the two sides has just no leader, or no time: a
// datacenter that is starting is ready in a moment.
func enroll(ctx context.Context, join func() error) error {
	var why error // why it does not work, rather than that we asked too often
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		err := join()
		switch store.KindOf(err) {
		case store.KindNoLeader:
			why = err
		case store.KindRateLimited:
			why = cmp.Or(why, err)
		default:
			return err
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return why
		}
	}
}

// pushMost bounds the addresses taken from a peer: gossip does the rest.
const pushMost = 12

// pushJoin has the other servers of our datacenter join us once more, which brings
// them all members that we know, at the price of a round trip here: nobody waits for
// gossip, or for another datacenter.
func (s *server) pushJoin(ctx context.Context) {
	own := s.n.lanAddr(s.n.cfg.Ports.SerfWAN)
	body := wire.Element(nil, 1, []byte(wangossip.Name(s.n.cfg.NodeName, s.n.cfg.Datacenter)+"/"+own.String()))
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	done := make(chan struct{})
	peers := s.n.lanView.Servers()
	for _, p := range peers {
		go func() {
			defer func() { done <- struct{}{} }()
			conn, err := s.n.lanView.Dial(ctx, p)
			if err == nil {
				_, err = conn.Do(ctx, &rpc.Request{Method: rpc.FederationPeers, Hops: 1, Body: body})
			}
			if err != nil {
				s.n.log.Debug("a server was not told of the join; it will hear of it by gossip", "peer", p.Name, "err", err)
			}
		}()
	}
	for range peers {
		<-done
	}
}

// joinPushed is FederationPeers: whom to join is noted, and done in runWAN.
func (s *server) joinPushed(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
	var addrs []string
	for d := wire.NewDecoder(req.Body); d.Next() && len(addrs) < 2*pushMost; {
		if d.Field == 1 {
			addrs = append(addrs, d.String())
		}
	}
	s.comeBack()
	s.wan.later(addrs...)
	return &rpc.Response{}, nil
}

// later notes addresses to join; runWAN tries each until it worked, for a minute.
func (w *wan) later(addrs ...string) {
	w.mu.Lock()
	until := time.Now().Add(time.Minute)
	for _, a := range addrs {
		if len(w.pending) < 64 {
			w.pending[a] = until
		}
	}
	w.mu.Unlock()
	w.floodNow()
}

// floodNow makes runWAN look at once.
func (w *wan) floodNow() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// Timings of runWAN.
const (
	floodEvery  = 30 * time.Second
	floodRetry  = 200 * time.Millisecond
	joinOneTime = 5 * time.Second
)

// runWAN takes part in the WAN once there is a certificate, and again after each
// leave and join.
func (s *server) runWAN(ctx context.Context) error {
	w := s.wan
	select {
	case <-s.authority.Ready():
	case <-ctx.Done():
		return ctx.Err()
	}
	for {
		in, err := w.enter(ctx)
		if err != nil {
			return err
		}
		err = s.inWAN(in)
		w.exit()
		if ctx.Err() != nil || in.Err() == nil {
			return err
		}
		transport, err := w.endpoint.RenewGossip()
		if err == nil {
			err = w.pool.Renew(transport)
		}
		if err != nil {
			return err
		}
	}
}

// inWAN runs the pool, keeps the directory, and floods: every server of our
// datacenter belongs into the WAN, whoever of them was joined.
func (s *server) inWAN(ctx context.Context) (err error) {
	w := s.wan
	if err := w.pool.Start(ctx); err != nil {
		return err
	}
	w.life = ctx
	w.started()
	dirDone := make(chan struct{})
	go func() {
		defer close(dirDone)
		if err := w.dir.Run(ctx); err != nil && ctx.Err() == nil {
			s.n.fail(err)
		}
	}()
	// It ends with ctx and is not waited for: while memberlist ends it is stuck for as
	// long as a change of tags may take to be told, five seconds.
	go s.announce(ctx)
	defer func() {
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = errors.Join(err, w.pool.Stop(stopCtx))
		<-dirDone
		w.meeting.Wait() // bounded by ctx
	}()
	events, cancel := w.pool.Subscribe()
	defer cancel()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case ev, ok := <-events:
			if !ok {
				return nil // the pool has stopped
			}
			if ev.Kind == gossip.Resync {
				ev.Members = w.pool.Members()
			}
			s.heard(ev.Members)
			if !slices.ContainsFunc(ev.Members, func(m gossip.Member) bool { return s.evicted(m.Name) }) {
				continue
			}
		case <-w.kick:
		case <-timer.C:
		}
		s.followTrust()
		if s.flood(ctx) {
			timer.Reset(floodEvery)
		} else {
			timer.Reset(floodRetry)
		}
	}
}

// flood joins the servers of our datacenter that the WAN pool lacks, and the
// pending addresses. It returns false if something is left to try again soon.
func (s *server) flood(ctx context.Context) bool {
	w := s.wan
	have := map[string]bool{}
	for _, m := range w.pool.Members() {
		if m.Status == gossip.Alive {
			have[m.Name] = true
		}
	}
	want := map[string]bool{}
	for _, m := range s.n.lan.Members() {
		name := wangossip.Name(m.Name, s.n.cfg.Datacenter)
		port := m.Tags["wan_join_port"]
		if m.Status == gossip.Alive && m.Tags["role"] == "consul" && port != "" && m.Name != s.n.cfg.NodeName && !have[name] {
			want[name+"/"+net.JoinHostPort(m.Addr.String(), port)] = true
		}
	}
	now := time.Now()
	w.mu.Lock()
	for a, until := range w.pending {
		name, _, _ := strings.Cut(a, "/")
		if now.After(until) || w.tried[a] && (have[name] || name == a) {
			delete(w.pending, a)
			delete(w.tried, a)
			continue
		}
		want[a] = true
	}
	w.mu.Unlock()
	if len(want) == 0 {
		return true
	}
	done := make(chan bool)
	for a := range want {
		go func() {
			ctx, cancel := context.WithTimeout(ctx, joinOneTime)
			defer cancel()
			_, err := w.pool.Join(ctx, []string{a})
			if err != nil {
				s.n.log.Debug("WAN peer not joined yet", "peer", a, "err", err)
			} else {
				w.mu.Lock()
				if _, ok := w.pending[a]; ok {
					w.tried[a] = true
				}
				w.mu.Unlock()
			}
			done <- err == nil
		}()
	}
	all := true
	for range want {
		all = <-done && all
	}
	return all
}

// joinPool waits for the pool to run and joins addresses, again until ctx is done:
// right after enrolment the other side may still be taking our root over.
func (w *wan) joinPool(ctx context.Context, addrs []string) error {
	w.mu.Lock()
	running := w.running
	w.mu.Unlock()
	select {
	case <-running:
	case <-ctx.Done():
		return errors.New("no certificate yet")
	}
	for pause := 50 * time.Millisecond; ; pause *= 2 {
		_, err := w.pool.Join(ctx, addrs)
		if err == nil {
			return nil
		}
		t := time.NewTimer(min(pause, time.Second))
		select {
		case <-ctx.Done():
			t.Stop()
			return err
		case <-t.C:
		}
	}
}

var _ trust.EnrollConn = (*transport.EnrollConn)(nil)
