package forwarding

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landbridge/forwarding/internal/rate"
	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// Peer is a server a request can be sent to.
type Peer struct {
	Name string // "<node>" in the LAN, "<node>.<dc>" in the WAN
	Addr string // host:port of the transport that reaches it
	// Federated is whether it takes part in the WAN itself.
	Federated bool
	// Doubtful is whether gossip thinks that it is gone.
	Doubtful bool
}

// LAN is what the dispatcher needs to know of its own datacenter.
type LAN interface {
	// Leader returns the current leader, unless it is this server or unknown.
	Leader() (Peer, bool)
	// LeaderChanged returns a channel that is closed at the next change of
	// leadership or of its address.
	LeaderChanged() <-chan struct{}
	// Servers returns the other servers thought alive, preferred ones first: a
	// client agent stays with the first until it fails.
	Servers() []Peer
	// Failed tells that a peer did not answer, so that another is preferred.
	Failed(Peer)
	// Dial returns a connection to a peer, reused where there is one.
	Dial(ctx context.Context, p Peer) (rpc.Doer, error)
	// Outlook tells, on a server that knows of no leader, whether it is worth waiting
	// for one. It takes some hundred milliseconds at most.
	Outlook(ctx context.Context) Outlook
}

// Outlook is what a server without a leader may expect.
type Outlook uint8

const (
	Electing Outlook = iota // most servers answer: there will be a leader soon
	NoQuorum                // too few servers answer to elect one
	Apart                   // others have a leader, this server has lost touch with it
)

// WAN is what the dispatcher needs to know of other datacenters.
type WAN interface {
	// Known says whether any server of the datacenter is or was a member.
	Known(dc string) bool
	// Servers returns the servers of the datacenter that did not leave: the same
	// slice, which nobody changes, as long as they stay the same.
	Servers(dc string) []Peer
	// Ready returns the connection to a peer if there is one, else nil. It neither
	// dials nor waits.
	Ready(p Peer) rpc.Doer
	Dial(ctx context.Context, p Peer) (rpc.Doer, error)
	// RTT is the round trip to a server, 0 if nobody knows.
	RTT(name string) time.Duration
	// Loss is the share of packets to a server that were lost lately, 0 to 1, 0 if
	// nobody knows.
	Loss(name string) float64
	// Report tells that a server went silent, or with nil that it answers again.
	Report(name string, err error)
}

// Local is this server's own share: nil on client agents.
type Local interface {
	rpc.Doer
	IsLeader() bool
}

// Config is what a Dispatcher needs.
type Config struct {
	Datacenter string
	Local      Local // nil: a client agent
	LAN        LAN
	WAN        WAN // nil: not in the WAN; requests for others go through a peer that is
	// HoldTimeout is how long a request waits for a leader (or, on a client
	// agent, for a server): performance.rpc_hold_timeout.
	HoldTimeout time.Duration
	Limits
	// MaxQueryTime caps a blocking query's wait.
	DefaultQueryTime, MaxQueryTime time.Duration
	Logger                         *slog.Logger
	Registerer                     prometheus.Registerer
}

// Limits are the settings that Dispatcher.Reload can change.
type Limits struct {
	// ClientTimeout bounds a request whose caller set no deadline, on top of a
	// blocking query's own wait: limits.rpc_client_timeout.
	ClientTimeout time.Duration
	// RPCRate is how many requests a second a client agent sends to servers, at most
	// RPCBurst at once (limits.rpc_rate, rpc_max_burst); at or below 0: no limit.
	RPCRate  float64
	RPCBurst int
}

// Dispatcher runs requests where they belong.
type Dispatcher struct {
	cfg     Config
	limits  atomic.Pointer[Limits]
	sent    rate.Bucket // of RPCRate
	metrics *metrics
	paths   sync.Map  // datacenter -> *path
	races   sync.Pool // of *race

	ctx    context.Context // ends with Stop
	cancel context.CancelFunc
	workMu sync.Mutex // guards work.Add against Stop
	work   sync.WaitGroup
}

// New returns a dispatcher.
func New(cfg Config) *Dispatcher {
	d := &Dispatcher{cfg: cfg, metrics: newMetrics(cfg.Registerer)}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	d.Reload(cfg.Limits)
	return d
}

// Stop ends the probes of other datacenters and waits for them, at most until ctx
// ends. Requests go on, but none waits for a leader or a server any more, and nobody
// probes servers that do not answer.
func (d *Dispatcher) Stop(ctx context.Context) error {
	d.workMu.Lock()
	d.cancel()
	d.workMu.Unlock()
	done := make(chan struct{})
	go func() { // ends with the probes, all of which were told
		d.work.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// spawn runs f in a goroutine that Stop ends; false after Stop.
func (d *Dispatcher) spawn(f func(ctx context.Context)) bool {
	d.workMu.Lock()
	defer d.workMu.Unlock()
	if d.ctx.Err() != nil {
		return false
	}
	d.work.Go(func() { f(d.ctx) })
	return true
}

// Reload takes new limits for the requests that come from now on.
func (d *Dispatcher) Reload(l Limits) { d.limits.Store(&l) }

// Do runs a request to its end. See rpc.Doer for its errors; kinds that callers
// may retry are KindNoLeader, KindNoServers, KindUnreachable.
func (d *Dispatcher) Do(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	m := rpc.Lookup(req.Method)
	if m == nil {
		return nil, store.Errorf(store.KindInvalid, "unknown method %d: the caller is newer than this server", req.Method)
	}
	if req.Hops > rpc.MaxHops {
		return nil, store.Errorf(store.KindUnreachable, "%s: forwarding loop after %d hops", m.Name, req.Hops)
	}
	if m.Stream {
		return d.doStream(ctx, req, m)
	}
	if req.NoWait {
		return d.atHand(ctx, req, m)
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.timeout(req, m))
		defer cancel()
	}
	return d.route(ctx, req, m)
}

// atHand answers what needs nobody else: a stale read of our own state. It takes
// no deadline, for there is nothing to wait for.
func (d *Dispatcher) atHand(ctx context.Context, req *rpc.Request, m *rpc.Method) (*rpc.Response, error) {
	if d.cfg.Local == nil || !m.Blocking || needsLeader(req, m) || req.MinIndex > 0 || req.Datacenter != "" && req.Datacenter != d.cfg.Datacenter {
		return nil, rpc.ErrWouldWait
	}
	resp, err := d.cfg.Local.Do(ctx, req)
	if err != nil {
		return nil, err
	}
	if tooStale(req, m, resp) {
		return nil, rpc.ErrWouldWait
	}
	d.metrics.local.Inc()
	return resp, nil
}

// route runs a request that has a deadline.
func (d *Dispatcher) route(ctx context.Context, req *rpc.Request, m *rpc.Method) (*rpc.Response, error) {
	if req.Datacenter != "" && req.Datacenter != d.cfg.Datacenter {
		if m.LocalOnly {
			return nil, store.Errorf(store.KindInvalid, "%s is not for other datacenters (asked for %q in %q)", m.Name, req.Datacenter, d.cfg.Datacenter)
		}
		if req.Origin == rpc.FromWAN {
			// Each datacenter asks the others itself: who passed requests on would see
			// their tokens, and speak for servers that it is not.
			return nil, store.Errorf(store.KindPermissionDenied, "%s: %s asked datacenter %q for datacenter %q: requests are not passed on to a third", m.Name, req.Peer, d.cfg.Datacenter, req.Datacenter)
		}
		return d.remote(ctx, req, m)
	}
	if d.cfg.Local == nil {
		return d.toServer(ctx, req, m)
	}
	return d.here(ctx, req, m)
}

// timeout is the deadline of a request that came without one.
func (d *Dispatcher) timeout(req *rpc.Request, m *rpc.Method) time.Duration {
	t := d.limits.Load().ClientTimeout
	if m.Blocking && req.MinIndex > 0 {
		wait := req.Wait
		if wait <= 0 {
			wait = d.cfg.DefaultQueryTime
		}
		wait = min(wait, d.cfg.MaxQueryTime)
		t += wait + wait/16
	}
	return t
}

// needsLeader says whether only the leader may answer.
func needsLeader(req *rpc.Request, m *rpc.Method) bool {
	switch m.Where {
	case rpc.Leader:
		return true
	case rpc.AnyServer:
		return false
	}
	return req.Consistency != store.Stale
}

// here runs a request for this datacenter on a server: itself, or at the leader.
func (d *Dispatcher) here(ctx context.Context, req *rpc.Request, m *rpc.Method) (*rpc.Response, error) {
	if !needsLeader(req, m) {
		d.metrics.local.Inc()
		resp, err := d.cfg.Local.Do(ctx, req)
		if err == nil && tooStale(req, m, resp) {
			if resp.Stream != nil {
				resp.Stream.Close()
			}
			fresh := *req
			fresh.Consistency = store.Default
			return d.here(ctx, &fresh, m)
		}
		return resp, err
	}
	r := d.newRetry(req, m, store.ErrNoLeader)
	if req.Origin == rpc.FromWAN {
		r.hold = min(r.hold, wanHold)
	}
	for {
		changed := d.cfg.LAN.LeaderChanged() // before looking, so that no change is missed
		var err error
		if d.cfg.Local.IsLeader() {
			d.metrics.local.Inc()
			var resp *rpc.Response
			if resp, err = d.cfg.Local.Do(ctx, r.next()); err == nil {
				return resp, nil
			}
		} else if p, ok := d.cfg.LAN.Leader(); ok {
			var resp *rpc.Response
			if resp, err = d.toLeader(ctx, r.next(), m, p, changed); err == nil {
				d.metrics.leaderOK.Inc()
				return resp, nil
			}
			d.metrics.leaderErr.Inc()
			if store.KindOf(err) == store.KindRateLimited && rpc.Answered(err) {
				if r.limited { // there is no other leader to ask
					return nil, err
				}
				r.limited = true // a burst may be over in a moment
			}
		} else if err = store.ErrNoLeader; req.Origin == rpc.FromWAN {
			// Who asks from another datacenter has other servers to ask, and must not be
			// kept waiting for what will not come.
			switch d.cfg.LAN.Outlook(ctx) {
			case NoQuorum:
				return nil, err
			case Apart:
				r.hold = apartHold
			}
		}
		if !r.again(ctx, err, changed) {
			return nil, r.err
		}
	}
}

const (
	// wanHold is how long a request of another datacenter waits for a leader that is
	// being elected.
	wanHold = 2 * time.Second
	// apartHold is the same when only this server has not heard of it.
	apartHold = 150 * time.Millisecond
	// lastWord is how long a write waits for the answer of a leader that is replaced.
	lastWord = time.Second
)

// toLeader sends a request to the leader. One that may be repeated does not wait
// any longer when there is another leader; one that may not waits a little for the
// old leader's last word.
func (d *Dispatcher) toLeader(ctx context.Context, req *rpc.Request, m *rpc.Method, p Peer, changed <-chan struct{}) (*rpc.Response, error) {
	next := *req
	next.Hops++
	conn, err := d.cfg.LAN.Dial(ctx, p)
	if err != nil {
		return nil, store.Errorf(store.KindUnreachable, "rpc error getting client: %s: %w", p.Name, err)
	}
	client, ok := conn.(beginner)
	if !ok {
		return conn.Do(ctx, &next)
	}
	var call rpc.Pending
	switch err := client.Begin(ctx, &next, &call); err {
	case nil:
	case rpc.ErrNoLane:
		return conn.Do(ctx, &next)
	default:
		return nil, err
	}
	var patience <-chan time.Time
	for {
		select {
		case o := <-call.Done():
			return call.Finish(o)
		case <-ctx.Done():
			return nil, call.Ended(ctx)
		case <-changed:
			changed = d.cfg.LAN.LeaderChanged()
			other, ok := d.cfg.LAN.Leader()
			switch {
			case ok && other.Addr == p.Addr, !ok && !d.cfg.Local.IsLeader():
				continue // the same, or nobody yet: the old one may still answer
			case m.Repeatable:
				call.Cancel()
				return nil, store.Errorf(store.KindNoLeader, "%s is not the leader any more", p.Name)
			case patience == nil:
				t := time.NewTimer(lastWord)
				defer t.Stop()
				patience = t.C
			}
		case <-patience:
			if call.Cancel() {
				return nil, store.Errorf(store.KindMaybeApplied, "leadership lost while committing log: %s to %s may have been applied", m.Name, p.Name)
			}
			return nil, store.Errorf(store.KindNoLeader, "%s is not the leader any more", p.Name)
		}
	}
}

// tooStale is whether a stale answer is older than its reader allows. Keys are
// exempt, as clients expect (spec http-common 4).
func tooStale(req *rpc.Request, m *rpc.Method, resp *rpc.Response) bool {
	return req.MaxStale > 0 && m.Where == rpc.ByConsistency && m.Resource != rpc.KeyResource && resp.LastContact > req.MaxStale
}

// toServer sends a request to a server of this datacenter: the way of a client
// agent, which stays with one server until it fails.
func (d *Dispatcher) toServer(ctx context.Context, req *rpc.Request, m *rpc.Method) (*rpc.Response, error) {
	if l := d.limits.Load(); !d.sent.Take(rate.Limit{PerSecond: l.RPCRate, Burst: l.RPCBurst}) {
		d.metrics.rateRefused.Inc()
		return nil, store.ErrRPCRate
	}
	r := d.newRetry(req, m, store.ErrNoServers)
	for elsewhere := 0; ; {
		servers := d.cfg.LAN.Servers()
		if len(servers) == 0 {
			// Nobody to wait for: a client agent that knows no server says so at once.
			return nil, store.ErrNoServers
		}
		p := servers[elsewhere%len(servers)]
		resp, err := d.forward(ctx, r.next(), p, d.cfg.LAN.Dial)
		if err == nil {
			d.metrics.serverOK.Inc()
			return resp, nil
		}
		d.metrics.serverErr.Inc()
		switch answered := rpc.Answered(err); {
		case answered && rpc.Stopping(err):
			d.cfg.LAN.Failed(p)
		case answered && store.KindOf(err) == store.KindNoPath:
			// It may have started a moment ago, and not have heard of the others yet.
			if elsewhere++; elsewhere > 1 || len(servers) < 2 {
				return nil, err
			}
			continue
		case answered && req.Datacenter != "" && req.Datacenter != d.cfg.Datacenter:
			return nil, err // it has tried all servers there
		case !answered && unanswered(err):
			d.cfg.LAN.Failed(p)
		case store.KindOf(err) == store.KindRateLimited:
			// Only this request goes elsewhere, and once: when two take no more, the rest
			// are not better off, and whoever asked has to slow down.
			if elsewhere++; elsewhere > 1 || len(servers) < 2 {
				return nil, err
			}
		}
		if !r.again(ctx, err, nil) {
			return nil, r.err
		}
	}
}

// forward sends a copy of the request one hop further. The rpc client tells the
// peer a little less time than is left here, so that this side can still say
// where a request was lost.
func (d *Dispatcher) forward(ctx context.Context, req *rpc.Request, p Peer, dial func(context.Context, Peer) (rpc.Doer, error)) (*rpc.Response, error) {
	next := *req
	next.Hops++
	conn, err := dial(ctx, p)
	if err != nil {
		return nil, store.Errorf(store.KindUnreachable, "rpc error getting client: %s: %w", p.Name, err)
	}
	return conn.Do(ctx, &next)
}
