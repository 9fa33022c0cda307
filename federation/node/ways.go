package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"landbridge/federation"
	"landbridge/forwarding/rpc"
	"landbridge/lan/gossip"
	"landbridge/store"
	wangossip "landbridge/wan/gossip"
	"landbridge/wan/transport"
)

const (
	// wanDialTimeout bounds a dial of a near server: a dead host sends no refusal over
	// UDP.
	wanDialTimeout = 1500 * time.Millisecond
	// headStart is what a dial has before it is found out whether there is a path at
	// all; three round trips if that is longer.
	headStart = 250 * time.Millisecond
	// lookTime bounds the dials that find out; four round trips if that is longer.
	lookTime = 700 * time.Millisecond
	// pingTime is what a server has to answer over a connection that is there, before
	// it is dialed; two round trips if that is longer.
	pingTime = 150 * time.Millisecond
	// lookMost bounds them in number.
	lookMost = 16
	// cutAge is how long what they found is good for the next who dials.
	cutAge = time.Second
	// directEvery is the pause between two looks whether there is a path again. It
	// grows to five times that in the first minutes.
	directEvery = 2 * time.Second
	// relayMost is how many relays are asked for one tunnel.
	relayMost = 4
	// relayPenalty is how long a relay that failed is asked last.
	relayPenalty = 10 * time.Second
	// retireGrace is how long calls through a relay have to end when there is a direct
	// path again.
	retireGrace = 10 * time.Second
)

var errLooked = errors.New("only looked whether it is there")

// ways finds how the servers of other datacenters are reached: directly, or, while
// none of a datacenter is, through a server of a third one that carries calls for
// others. As soon as one is reached directly again, so are all.
type ways struct {
	s      *server
	ctx    context.Context // ends with stop
	cancel context.CancelFunc

	mu     sync.Mutex
	work   sync.WaitGroup // watches for direct paths; Add under mu, before stop
	dcs    map[string]*farWay
	failed map[string]time.Time // relay -> when it last failed
}

// farWay is the way to one datacenter. It is there while calls go through relays, or
// somebody finds out whether they must.
type farWay struct {
	looking chan struct{} // closed when that is found out; nil: nobody looks
	cut     time.Time     // when no server was found to be reached directly

	relayed bool // and then watched
	since   time.Time
	open    map[string]relayed // by server
}

// relayed is a session through a relay.
type relayed struct {
	addr string // the server's own, as the pool knows it
	sess *transport.Session
}

func (v *ways) start(s *server) {
	v.s, v.dcs, v.failed = s, map[string]*farWay{}, map[string]time.Time{}
	v.ctx, v.cancel = context.WithCancel(context.Background())
}

// stop ends what runs and waits for it: dials, which end with ctx.
func (v *ways) stop(context.Context) error {
	v.mu.Lock()
	v.cancel()
	v.mu.Unlock()
	v.work.Wait()
	return nil
}

// via is the relay that calls to a server go through, "" if none.
func (v *ways) via(name string) string {
	_, dc, _ := wangossip.SplitName(name)
	v.mu.Lock()
	defer v.mu.Unlock()
	if w := v.dcs[dc]; w != nil {
		if r, ok := w.open[name]; ok && r.sess.Context().Err() == nil {
			return r.sess.Via()
		}
	}
	return ""
}

// dial is rpc.PoolConfig.Dial: it opens a session to a server, whatever the way.
func (v *ways) dial(ctx context.Context, addr, name string) (rpc.Session, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	_, dc, _ := wangossip.SplitName(name)
	relays := v.relays(dc, name)
	if v.isRelayed(dc) && len(relays) > 0 {
		if sess, err := v.relay(ctx, relays, dc, addr, name); err == nil || ctx.Err() != nil {
			return sess, err
		}
		// Perhaps nobody carries calls any more, and there is a path.
	}
	direct := make(chan outcome, 1)
	dialing, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with dialing, and is waited for
		sess, err := v.direct(dialing, to, name)
		direct <- outcome{sess, err}
	}()
	if len(relays) == 0 {
		return (<-direct).result()
	}
	t := time.NewTimer(v.headStart(dc, name))
	defer t.Stop()
	select {
	case o := <-direct:
		if !transport.NoPath(o.err) {
			return o.result()
		}
		direct <- o
	case <-t.C:
	}
	if !v.isCut(ctx, dc, name) {
		return (<-direct).result()
	}
	sess, err := v.relay(ctx, relays, dc, addr, name)
	if err != nil {
		o := <-direct
		if o.err != nil {
			o.err = fmt.Errorf("%w; %w", o.err, err)
		}
		return o.result()
	}
	cancel()
	if o := <-direct; o.err == nil { // just now
		_ = sess.CloseWithCause(errLooked)
		return o.result()
	}
	return sess, nil
}

// dialBulk is rpc.PoolConfig.DialBulk: large answers come the way that their calls go.
func (v *ways) dialBulk(ctx context.Context, addr, name string, calls rpc.Session) (rpc.Session, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	var o outcome
	if c, ok := calls.(*transport.Session); ok && c.Via() != "" {
		ctx, cancel := context.WithTimeout(ctx, max(wanDialTimeout, 6*c.RTT()))
		defer cancel()
		o.sess, o.err = v.s.wan.endpoint.DialBeside(ctx, c)
	} else {
		o.sess, o.err = v.direct(ctx, to, name)
	}
	return o.result()
}

type outcome struct {
	sess *transport.Session
	err  error
}

func (o outcome) result() (rpc.Session, error) {
	if o.err != nil {
		return nil, o.err // not sess: a nil pointer in an interface is not nil
	}
	return o.sess, nil
}

// direct dials a server at its own address. Beginning anew is better than waiting
// for what was sent long ago: QUIC sends a handshake again ever more rarely.
func (v *ways) direct(ctx context.Context, to netip.AddrPort, name string) (*transport.Session, error) {
	rtt, _ := v.s.distance(name)
	ctx, cancel := context.WithTimeout(ctx, max(wanDialTimeout, 6*rtt))
	defer cancel()
	return v.s.wan.endpoint.DialRPC(ctx, to, name)
}

// headStart is how long only the direct path is tried: not at all if no server of
// the datacenter answered lately.
func (v *ways) headStart(dc, name string) time.Duration {
	for _, srv := range v.s.wan.dir.Servers(dc) {
		if v.s.wan.dir.Answering(srv.Name) {
			rtt, _ := v.s.distance(name)
			return max(headStart, 3*rtt)
		}
	}
	return 0
}

func (v *ways) isRelayed(dc string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	w := v.dcs[dc]
	return w != nil && w.relayed
}

// isCut finds out whether no server of a datacenter is reached directly, once for
// all who ask at a time. The one named is being dialed by who asks.
func (v *ways) isCut(ctx context.Context, dc, but string) bool {
	v.mu.Lock()
	w := v.way(dc)
	for {
		if w.relayed || time.Since(w.cut) < cutAge {
			v.mu.Unlock()
			return true
		}
		looking := w.looking
		if looking == nil {
			break
		}
		v.mu.Unlock()
		select {
		case <-looking:
		case <-ctx.Done():
			return false
		}
		v.mu.Lock()
		if !w.relayed && time.Since(w.cut) >= cutAge {
			v.mu.Unlock()
			return false // it was found just now that there is a path
		}
	}
	w.looking = make(chan struct{})
	v.mu.Unlock()
	found := v.look(ctx, dc, but)
	v.mu.Lock()
	defer v.mu.Unlock()
	cut := found == "" && ctx.Err() == nil
	if cut {
		w.cut = time.Now()
	}
	close(w.looking)
	w.looking = nil
	return cut
}

// way returns the way to a datacenter; mu is held.
func (v *ways) way(dc string) *farWay {
	w := v.dcs[dc]
	if w == nil {
		w = &farWay{open: map[string]relayed{}}
		v.dcs[dc] = w
	}
	return w
}

// look dials the servers of a datacenter, all at once, and returns one that answers
// directly, "" if none does.
func (v *ways) look(ctx context.Context, dc, but string) string {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	servers := v.s.wan.dir.Servers(dc)
	found := make(chan string, lookMost)
	asked := 0
	for _, srv := range servers[:min(len(servers), lookMost)] {
		if srv.Name == but {
			continue
		}
		asked++
		go func() { // ends with ctx; all are waited for
			rtt, _ := v.s.distance(srv.Name)
			if c := v.s.wan.rpc.Ready(srv.Addr.String(), srv.Name); c != nil && c.Via() == "" && v.answers(ctx, c, rtt) {
				found <- srv.Name
				return
			}
			ctx, cancel := context.WithTimeout(ctx, max(lookTime, 4*rtt))
			defer cancel()
			sess, err := v.s.wan.endpoint.DialRPC(ctx, srv.Addr, srv.Name)
			if err == nil {
				_ = sess.CloseWithCause(errLooked)
			}
			if err == nil || !transport.NoPath(err) && ctx.Err() == nil {
				found <- srv.Name
				return
			}
			found <- ""
		}()
	}
	first := ""
	for range asked {
		if name := <-found; name != "" && first == "" {
			first = name
			cancel()
		}
	}
	return first
}

// answers pings a server over its connection: cheaper than another handshake.
func (v *ways) answers(ctx context.Context, c *rpc.Client, rtt time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, max(pingTime, 2*rtt))
	defer cancel()
	return c.Ping(ctx) == nil
}

// relays are the servers that may carry calls to a server, those first that make the
// shortest way; those that failed lately are last. At random among equals, so that
// the calls of many servers are spread.
func (v *ways) relays(dc, name string) []federation.Server {
	own := v.s.n.cfg.Datacenter
	type candidate struct {
		srv  federation.Server
		rank int64
	}
	var list []candidate
	now := time.Now()
	for other, d := range v.s.wan.dir.Snapshot() {
		if other == own || other == dc {
			continue
		}
		for _, srv := range d.Servers {
			if !srv.Relay || srv.Status != gossip.Alive {
				continue
			}
			// Distances that differ by less than 5 ms are equal.
			c := candidate{srv, int64(v.length(srv.Name, name) / (5 * time.Millisecond))}
			if v.failedLately(srv.Name, now) || !v.s.wan.dir.Answering(srv.Name) {
				c.rank += int64(time.Hour)
			}
			list = append(list, c)
		}
	}
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	slices.SortStableFunc(list, func(a, b candidate) int { return cmp.Compare(a.rank, b.rank) })
	relays := make([]federation.Server, 0, relayMost)
	for _, c := range list[:min(len(list), relayMost)] {
		relays = append(relays, c.srv)
	}
	return relays
}

// length estimates the round trip through a relay; what is unknown counts as long.
func (v *ways) length(relay, name string) time.Duration {
	there, ok := v.s.distance(relay)
	if !ok {
		there = time.Second
	}
	a, ok1 := v.s.wan.pool.CachedCoordinate(relay)
	b, ok2 := v.s.wan.pool.CachedCoordinate(name)
	if !ok1 || !ok2 || a == nil || b == nil {
		return there + time.Second
	}
	return there + a.DistanceTo(b)
}

func (v *ways) failedLately(relay string, now time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	at, ok := v.failed[relay]
	if ok && now.Sub(at) >= relayPenalty {
		delete(v.failed, relay)
		return false
	}
	return ok
}

// relay opens a session through one of the relays, which are asked in turn.
func (v *ways) relay(ctx context.Context, relays []federation.Server, dc, addr, name string) (*transport.Session, error) {
	var errs []error
	for _, r := range relays {
		limit := max(wanDialTimeout, 4*v.length(r.Name, name))
		if limit > 4*time.Second {
			limit = wanDialTimeout // nothing is known of the distance
		}
		dialing, cancel := context.WithTimeout(ctx, limit)
		sess, err := v.s.wan.endpoint.DialRelayed(dialing, r.Addr, r.Name, name)
		cancel()
		if err == nil {
			v.opened(dc, addr, name, sess)
			return sess, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
		v.mu.Lock()
		v.failed[r.Name] = time.Now()
		v.mu.Unlock()
	}
	return nil, store.Errorf(store.KindUnreachable, "%w", errors.Join(errs...))
}

// opened notes a session through a relay, and has the datacenter watched for a direct
// path.
func (v *ways) opened(dc, addr, name string, sess *transport.Session) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ctx.Err() != nil {
		return
	}
	w := v.way(dc)
	w.open[name] = relayed{addr, sess}
	if w.relayed {
		return
	}
	w.relayed, w.since = true, time.Now()
	v.s.n.log.Info("datacenter is reached through a relay: none of its servers answers directly", "peer_dc", dc, "peer", name, "relay", sess.Via())
	v.work.Go(func() { v.watch(dc, w) })
}

// accepted is told of each session that another server opens. One that needed a relay
// found no path: what we had to it is dead too, and the next call begins anew.
func (v *ways) accepted(sess *transport.Session, name string) {
	if sess.Via() == "" {
		return
	}
	_, dc, _ := wangossip.SplitName(name)
	for _, srv := range v.s.wan.dir.Snapshot()[dc].Servers {
		if srv.Name != name {
			continue
		}
		if c := v.s.wan.rpc.Ready(srv.Addr.String(), name); c != nil && c.Via() == "" {
			v.s.wan.rpc.Retire(srv.Addr.String(), name, retireGrace)
		}
	}
}

// watch looks for a direct path until there is one, or no session through a relay is
// left.
func (v *ways) watch(dc string, w *farWay) {
	for {
		pause := directEvery + min(time.Since(w.since)/20, 4*directEvery)
		t := time.NewTimer(pause/2 + rand.N(pause))
		select {
		case <-t.C:
		case <-v.ctx.Done():
			t.Stop()
			return
		}
		v.mu.Lock()
		for name, r := range w.open {
			if r.sess.Context().Err() != nil {
				delete(w.open, name)
			}
		}
		over := len(w.open) == 0
		if over {
			w.relayed, w.cut = false, time.Time{}
			delete(v.dcs, dc)
		}
		v.mu.Unlock()
		if over {
			v.s.n.log.Info("datacenter is not called through a relay any more", "peer_dc", dc, "after", time.Since(w.since).Round(time.Millisecond))
			return
		}
		found := v.look(v.ctx, dc, "")
		if found == "" {
			continue
		}
		v.mu.Lock()
		w.relayed, w.cut = false, time.Time{}
		open := w.open
		delete(v.dcs, dc)
		v.mu.Unlock()
		var names []string
		for name, r := range open {
			names = append(names, name)
			v.s.wan.rpc.Retire(r.addr, name, retireGrace)
		}
		slices.Sort(names)
		v.s.n.log.Info("datacenter is reached directly again, not through a relay", "peer_dc", dc, "peer", found, "relayed", strings.Join(names, " "),
			"after", time.Since(w.since).Round(time.Millisecond))
		return
	}
}

// relayTo is transport.Config.RelayTo: nil unless this server carries calls for
// others.
func (s *server) relayTo() func(string) (netip.AddrPort, bool) {
	if !s.n.cfg.Relay {
		return nil
	}
	return func(name string) (netip.AddrPort, bool) {
		_, dc, _ := wangossip.SplitName(name)
		for _, srv := range s.wan.dir.Snapshot()[dc].Servers {
			if srv.Name == name && srv.Status != gossip.Left {
				return srv.Addr, true
			}
		}
		return netip.AddrPort{}, false
	}
}
