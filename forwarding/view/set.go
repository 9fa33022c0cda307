package view

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landbridge/forwarding/internal/rate"
	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// Config is what a Set needs. Do, Datacenter, Logger and Registerer are required.
type Config struct {
	Do         rpc.Doer // the dispatcher
	Datacenter string
	// Server says that this agent answers stale reads of its own datacenter itself.
	Server bool
	// QueryTime is how long a view's blocking query waits; 0: 5 minutes.
	QueryTime time.Duration
	MaxViews  int   // 0: 4096
	MaxBytes  int64 // of all bodies together; 0: 64 MB
	// KeptBytes bounds what is kept for Bounded, keys included; 0: 32 MB.
	KeptBytes int64
	// Resolve is asked before an answer is given that no server was asked for: an
	// error, for a token that is gone, takes its place. nil: nobody is.
	Resolve func(ctx context.Context, req *rpc.Request) error
	Limits
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Limits are the settings that Set.Reload can change.
type Limits struct {
	FetchRate  float64 // fetches of one view a second (cache.entry_fetch_rate); at or below 0: no limit
	FetchBurst int     // cache.entry_fetch_max_burst
	// CallTime bounds the wait for a call that somebody else made
	// (limits.rpc_client_timeout); 0: a minute.
	CallTime time.Duration
	// DNSStale bounds the age of what Follow answers with when another datacenter
	// is away (dns_config.stale_if_error); 0: it answers with the error.
	DNSStale time.Duration
}

const (
	// forgetAfter is how long an answer is kept after its last use (spec
	// http-common 8).
	forgetAfter = 72 * time.Hour
	// dnsIdle is how long a view follows for DNS alone after its last use. Then it
	// costs the servers nothing any more.
	dnsIdle = 20 * time.Minute
	// sweepEvery is how often unused views are looked for.
	sweepEvery = time.Minute
)

// Set holds the views of one agent.
type Set struct {
	cfg     Config
	limit   atomic.Pointer[rate.Limit]
	callMax atomic.Int64 // Limits.CallTime
	dnsOld  atomic.Int64 // Limits.DNSStale
	metrics *metrics
	door    *memory // keys that were asked over DNS once
	local   *memory // keys of ?cached that this server answers from its own state
	flights flights
	replies replies
	outages outages

	ctx    context.Context // ends with Stop
	cancel context.CancelCauseFunc
	work   sync.WaitGroup // followers, and those who watch outages; Add under mu

	mu      sync.RWMutex // outer to view.mu
	stopped bool
	views   map[string]*view
	bytes   int64
	sweeper *time.Timer   // runs while there are views
	up      chan struct{} // closed and replaced when a view gets through again
}

// Why a view ends without having been refused: its readers ask the dispatcher.
var (
	errStopped error = store.Errorf(store.KindUnreachable, "the agent is stopping")
	errEvicted error = store.Errorf(store.KindUnreachable, "the view was given up for others")
)

// New returns an empty set. It starts nothing until a view is asked for.
func New(cfg Config) *Set {
	if cfg.QueryTime <= 0 {
		cfg.QueryTime = store.DefaultQueryTime
	}
	if cfg.MaxViews <= 0 {
		cfg.MaxViews = 4096
	}
	if cfg.MaxBytes <= 0 {
		cfg.MaxBytes = 64 << 20
	}
	if cfg.KeptBytes <= 0 {
		cfg.KeptBytes = 32 << 20
	}
	s := &Set{
		cfg: cfg, views: make(map[string]*view), up: make(chan struct{}),
		door: newMemory(time.Minute, 4096), local: newMemory(forgetAfter, cfg.MaxViews),
	}
	s.flights.init()
	s.outages.init()
	s.metrics = newMetrics(cfg.Registerer, s)
	s.replies.init(cfg.KeptBytes, s.metrics.keptEvicted.Inc)
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	s.Reload(cfg.Limits)
	return s
}

// Reload takes new limits.
func (s *Set) Reload(l Limits) {
	s.limit.Store(&rate.Limit{PerSecond: l.FetchRate, Burst: l.FetchBurst})
	s.callMax.Store(int64(cmp.Or(l.CallTime, time.Minute)))
	s.dnsOld.Store(int64(l.DNSStale))
}

// Stop ends all views and waits for their goroutines, at most until ctx ends. From
// then on requests are passed to the dispatcher.
func (s *Set) Stop(ctx context.Context) error {
	s.mu.Lock()
	s.stopped = true
	if s.sweeper != nil {
		s.sweeper.Stop()
	}
	all := s.views
	s.views, s.bytes = make(map[string]*view), 0
	s.mu.Unlock()
	s.cancel(errStopped)
	for _, v := range all {
		v.end(errStopped)
	}
	done := make(chan struct{})
	go func() { // ends with the followers, all of which were told
		s.work.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// datacenter is a request's datacenter, "" for our own.
func (s *Set) datacenter(req *rpc.Request) string {
	if req.Datacenter == s.cfg.Datacenter {
		return ""
	}
	return req.Datacenter
}

// ours is whether this server answers the request from its own state.
func (s *Set) ours(req *rpc.Request) bool { return s.cfg.Server && s.datacenter(req) == "" }

// follows is whether the method's answers can be followed by a blocking query and
// are asked for often enough.
func follows(m rpc.MethodID) bool {
	switch m {
	case rpc.CatalogNodes, rpc.CatalogServices, rpc.CatalogServiceNodes, rpc.CatalogConnectNodes, rpc.CatalogNode,
		rpc.HealthService, rpc.HealthConnect, rpc.TrustRoots:
		return true
	}
	return false
}

// Follow answers a stale read from its view, and is what DNS asks. Other requests
// go the way of Do, and so does a name at its first appearance: a flood of names
// that are asked once makes no views. With NoWait only a live view answers.
func (s *Set) Follow(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	if req.Consistency != store.Stale || s.ours(req) {
		return s.orKept(ctx, req)
	}
	if !follows(req.Method) {
		return s.lastKnown(ctx, req)
	}
	var room [keySize]byte
	key := appendKey(room[:0], req, s.datacenter(req))
	now := time.Now()
	v, st := s.peek(key, now)
	if v != nil && !st.older(req.MaxStale, now) {
		s.metrics.hits.Inc()
		return st.resp, nil
	}
	if req.NoWait { // who comes again may wait, and makes the view
		return nil, rpc.ErrWouldWait
	}
	if v == nil && !s.known(key) && !s.door.seen(key) {
		s.metrics.passed.Inc()
		return s.orKept(ctx, req)
	}
	_, st, hit, err := s.get(ctx, req, key, dnsIdle)
	switch {
	case err == errEvicted || err == errStopped:
		return s.orKept(ctx, req)
	case err != nil:
		if s.replies.get(key) != nil && !final(err) {
			return s.orKept(ctx, req)
		}
		return nil, err
	case st.live && !st.older(req.MaxStale, now):
	case !st.live && s.datacenter(req) == "" && !st.older(req.MaxStale, now):
	case !st.live && st.resp.LastContact+st.age(now) <= time.Duration(s.dnsOld.Load()):
		if s.cfg.Resolve != nil {
			if err := s.cfg.Resolve(ctx, req); err != nil {
				return nil, err
			}
		}
		return s.aged(req, st, now), nil
	default:
		s.metrics.passed.Inc()
		return s.orKept(ctx, req)
	}
	s.count(st, hit)
	return st.answer(now), nil
}

// lastKnown answers a question of a client agent that nobody follows (a prepared
// query, an address): by a call while there are servers, and by the last answer to it
// while there are none, as old as the reader allows. Like views, that begins with the
// second question within a minute.
func (s *Set) lastKnown(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	if s.datacenter(req) != "" || !Boundable(rpc.Lookup(req.Method)) {
		return s.orKept(ctx, req)
	}
	var room [keySize]byte
	key := appendKey(room[:0], req, "")
	if s.replies.get(key) == nil && !s.door.seen(key) {
		return s.orKept(ctx, req)
	}
	a, err := s.Bounded(ctx, req, cmp.Or(req.MaxStale, forgetAfter))
	return a.Response, err
}

// orKept makes a call for Follow, or answers with what is kept as DNSStale allows.
func (s *Set) orKept(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	limit := time.Duration(s.dnsOld.Load())
	if limit <= 0 {
		return s.Do(ctx, req)
	}
	a, err := s.Bounded(ctx, req, limit)
	return a.Response, err
}

// aged answers from a view that lost another datacenter.
func (s *Set) aged(req *rpc.Request, st *state, now time.Time) *rpc.Response {
	reason := Unreachable
	if out := s.suspect(s.datacenter(req)); out != nil {
		s.outages.mu.Lock()
		out.given++
		s.outages.mu.Unlock()
	}
	s.metrics.aged.Inc()
	s.metrics.instead[reason].Inc()
	r := *st.answer(now)
	r.Kept = true
	return &r
}

// peek returns a view and its state if it is live.
func (s *Set) peek(key []byte, now time.Time) (*view, *state) {
	s.mu.RLock()
	v := s.views[string(key)]
	s.mu.RUnlock()
	if v == nil {
		return nil, nil
	}
	st := v.cur.Load()
	if st == nil || !st.live {
		return nil, nil
	}
	v.used.Store(now.UnixNano())
	return v, st
}

func (s *Set) known(key []byte) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.views[string(key)] != nil
}

func (s *Set) count(st *state, hit bool) {
	switch {
	case !st.live:
		s.metrics.aged.Inc()
	case hit:
		s.metrics.hits.Inc()
	default:
		s.metrics.misses.Inc()
	}
}

// get returns the state of a request's view, which is made or woken if need be;
// hit says that it was there. The view follows for idle after its last use.
func (s *Set) get(ctx context.Context, req *rpc.Request, key []byte, idle time.Duration) (v *view, st *state, hit bool, err error) {
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		return nil, nil, false, errStopped
	}
	v = s.views[string(key)]
	if v == nil {
		v = s.add(req, string(key))
	}
	v.used.Store(time.Now().UnixNano())
	v.bound(req.MaxStale)
	v.idle = max(v.idle, idle)
	hit = v.cancel != nil
	if !hit {
		s.start(v)
	}
	s.mu.Unlock()
	v.mu.Lock()
	settled := v.settled
	v.mu.Unlock()
	select {
	case <-settled:
	default:
		hit = false
		select {
		case <-settled:
		case <-ctx.Done():
			return nil, nil, false, ended(ctx, req)
		}
	}
	if st, err = v.outcome(); err != nil {
		return nil, nil, false, err
	}
	return v, st, hit, nil
}

// ended is the error of a wait whose caller's context is done.
func ended(ctx context.Context, req *rpc.Request) error {
	name := ""
	if m := rpc.Lookup(req.Method); m != nil {
		name = m.Name
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return store.Errorf(store.KindTimeout, "%s got no answer in time: %w", name, context.Cause(ctx))
	}
	return store.Errorf(store.KindInternal, "%s was given up by its caller: %w", name, context.Cause(ctx))
}

// add makes a view; mu is held.
func (s *Set) add(req *rpc.Request, key string) *view {
	v := &view{s: s, key: key, req: *req, settled: make(chan struct{}), changed: make(chan struct{})}
	v.req.Consistency, v.req.MinIndex, v.req.Wait, v.req.MaxStale = store.Stale, 0, 0, 0
	v.req.Body = slices.Clone(req.Body)
	v.idle = dnsIdle
	s.views[key] = v
	if s.sweeper == nil {
		s.sweeper = time.AfterFunc(sweepEvery, s.sweep)
	}
	if len(s.views) > s.cfg.MaxViews {
		s.evict(v)
	}
	return v
}

// start has v follow; mu is held, and it does not follow yet.
func (s *Set) start(v *view) {
	ctx, cancel := context.WithCancel(s.ctx)
	v.cancel = cancel
	v.mu.Lock()
	if isClosed(v.settled) {
		v.settled = make(chan struct{})
	}
	v.mu.Unlock()
	s.work.Go(func() {
		defer cancel()
		v.follow(ctx)
		s.parked(v)
	})
}

// parked notes that v does not follow any more.
func (s *Set) parked(v *view) {
	s.mu.Lock()
	v.cancel = nil
	if st := v.cur.Load(); st != nil && st.live {
		v.cur.Store(&state{resp: st.resp, at: st.at, lost: time.Now()})
	}
	s.mu.Unlock()
	v.settle()
}

// drop forgets a view because of err.
func (s *Set) drop(v *view, err error) {
	s.mu.Lock()
	s.remove(v)
	s.mu.Unlock()
	v.end(err)
}

// remove takes a view out; mu is held. Its follower ends.
func (s *Set) remove(v *view) {
	if s.views[v.key] != v {
		return
	}
	delete(s.views, v.key)
	s.bytes -= v.size
	v.size = 0
	if v.cancel != nil {
		v.cancel()
	}
}

// resized accounts for a new body of a view, and makes room for it.
func (s *Set) resized(v *view, size int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.views[v.key] != v {
		return
	}
	s.bytes += int64(size) - v.size
	v.size = int64(size)
	if s.bytes > s.cfg.MaxBytes {
		s.evict(v)
	}
}

// evict forgets the views that are unused for longest, but not keep, until there
// is some room; mu is held.
func (s *Set) evict(keep *view) {
	list := make([]*view, 0, len(s.views))
	for _, v := range s.views {
		if v != keep {
			list = append(list, v)
		}
	}
	slices.SortFunc(list, func(a, b *view) int { return cmp.Compare(a.used.Load(), b.used.Load()) })
	most, bytes := s.cfg.MaxViews-s.cfg.MaxViews/16, s.cfg.MaxBytes-s.cfg.MaxBytes/16
	for _, v := range list {
		if len(s.views) <= most && s.bytes <= bytes {
			return
		}
		s.remove(v)
		v.end(errEvicted)
		s.metrics.evicted.Inc()
	}
}

// sweep lets views that nobody used rest, and forgets those that nobody used for
// long. It runs in the goroutine of its timer.
func (s *Set) sweep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return
	}
	now := time.Now()
	for _, v := range s.views {
		switch unused := now.Sub(time.Unix(0, v.used.Load())); {
		case unused >= forgetAfter:
			s.remove(v)
			v.end(errEvicted)
		case unused >= v.idle && v.cancel != nil:
			v.cancel()
		}
	}
	if len(s.views) == 0 {
		s.sweeper = nil
		return
	}
	s.sweeper.Reset(sweepEvery)
}

// recovered tells the views that wait for a server that there is one.
func (s *Set) recovered() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.up)
	s.up = make(chan struct{})
}

// waits returns the channel that is closed when a view gets through again.
func (s *Set) waits() <-chan struct{} {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.up
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
