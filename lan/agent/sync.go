package agent

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"landbridge/store"
)

// group is a service with its checks, or ("") the node with its own: what is
// pushed together and in order, since deregistering a service removes its checks.
type group struct {
	id       string
	checks   map[string]struct{} // ids of the entries in Agent.checks that belong to it
	flying   bool
	queued   bool
	failures int       // in a row
	retryAt  time.Time // while in syncState.delayed
	// warned is when the log last said that the catalog refuses this, and unsaid how
	// often it did since then.
	warned time.Time
	unsaid int
}

// syncState is the state of anti-entropy, guarded by Agent.mu.
type syncState struct {
	groups    map[string]*group
	ready     []*group
	delayed   map[*group]struct{} // failed, waiting for retryAt
	flying    int                 // groups in the flight under way, 0 if there is none
	failures  int                 // flights in a row that nobody answered
	gather    time.Time           // the next flight waits so long for company
	company   int                 // how many groups are enough for it
	node      entry
	nodeInfo  *store.Node
	nextDefer time.Time // the earliest checkEntry.deferred, zero if none
	fullAt    time.Time // when the next full sync is due
	full      bool      // one is under way
	fullFails int
	compared  bool // the first full sync has ended, well or not
	agreed    bool // one has ended well
	// doubt: a call may take effect until then, so a full sync must begin later.
	doubt  time.Time
	reapAt time.Time
	wake   chan struct{} // one slot: the loop should look again
}

func (s *syncState) init() {
	s.groups = make(map[string]*group)
	s.delayed = make(map[*group]struct{})
	s.wake = make(chan struct{}, 1)
}

func (s *syncState) group(id string) *group {
	g := s.groups[id]
	if g == nil {
		g = &group{id: id, checks: make(map[string]struct{})}
		s.groups[id] = g
	}
	return g
}

func (s *syncState) groupChecks(id string) map[string]struct{} {
	if g := s.groups[id]; g != nil {
		return g.checks
	}
	return nil
}

func (s *syncState) notify() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *syncState) deferLocked(at time.Time) {
	if s.nextDefer.IsZero() || at.Before(s.nextDefer) {
		s.nextDefer = at
		s.notify()
	}
}

// doubtLocked asks for a full sync when every call made so far is over.
func (s *syncState) doubtLocked() {
	s.doubt = time.Now().Add(callTimeout + jitter(retryMax))
	s.fullAt = earliest(s.fullAt, s.doubt)
}

// enqueueLocked has a group pushed as soon as possible.
func (a *Agent) enqueueLocked(id string) {
	s := &a.sync
	g := s.group(id)
	delete(s.delayed, g)
	if !g.queued && !g.flying {
		g.queued = true
		s.ready = append(s.ready, g)
	}
	// The end of a flight wakes the loop, and so does the end of gathering.
	if s.flying == 0 && (len(s.ready) >= s.company || !time.Now().Before(s.gather)) {
		s.notify()
	}
}

// waiter waits until the catalog holds given versions of entries.
type waiter struct {
	items []waitItem
	done  chan struct{} // closed when it does
	over  bool
}

type waitItem struct {
	e       *entry
	version uint64
}

// waiterLocked queues a group for pushing and returns a waiter for the present
// versions of its entries.
func (a *Agent) waiterLocked(id string, entries ...*entry) *waiter {
	w := &waiter{done: make(chan struct{})}
	for _, e := range entries {
		if e.dirty() && !e.settled {
			w.items = append(w.items, waitItem{e, e.version})
		}
	}
	if len(w.items) == 0 {
		close(w.done)
		return w
	}
	for _, i := range w.items {
		i.e.waiters = append(i.e.waiters, w)
	}
	a.enqueueLocked(id)
	return w
}

// release lets go of the waiters for e whose wait is over.
func (e *entry) release() {
	e.waiters = slices.DeleteFunc(e.waiters, func(w *waiter) bool {
		if !w.holds() {
			return false
		}
		if !w.over {
			w.over = true
			close(w.done)
		}
		return true
	})
}

// holds reports whether the catalog has all that w waits for, or something
// newer, or has refused it.
func (w *waiter) holds() bool {
	for _, i := range w.items {
		if i.e.pushed < i.version && i.e.dirty() && !i.e.settled {
			return false
		}
	}
	return true
}

// wait waits for w, at most RegisterWait. The change is kept here whatever
// comes; only the caller's own end is an error.
func (a *Agent) wait(ctx context.Context, w *waiter) error {
	select {
	case <-w.done:
		return nil
	default:
	}
	t := time.NewTimer(a.cfg.RegisterWait)
	defer t.Stop()
	defer a.leave(w)
	select {
	case <-w.done:
	case <-t.C:
		a.cfg.Logger.Warn("registration is kept but not in the catalog yet", "waited", a.cfg.RegisterWait)
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return nil
		}
		return context.Cause(ctx)
	}
	return nil
}

// leave forgets w: in a long outage, callers that gave up must not pile up.
func (a *Agent) leave(w *waiter) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, i := range w.items {
		i.e.waiters = slices.DeleteFunc(i.e.waiters, func(o *waiter) bool { return o == w })
	}
}

func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d)
}

// backoff returns how long to wait after the n-th failure in a row.
func backoff(n int) time.Duration {
	d := retryMax
	if n < 5 {
		d = min(d, retryMin<<(n-1))
	}
	return d + jitter(d)
}

// Run pushes changes, runs checks and compares with the catalog until ctx ends;
// it then waits for what it started. It is called once.
func (a *Agent) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	a.startRunner(ctx)
	defer a.stopRunner()
	defer cancel()
	a.runner.wg.Go(func() { a.disk.run(ctx, a.cfg.Logger) })
	for {
		wake := a.launch(ctx)
		t := time.NewTimer(time.Until(wake))
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-a.sync.wake:
		case <-a.asked:
		case <-t.C:
		}
		t.Stop()
	}
}

// Alive returns when the loop of Run has gone round, which shows that it does.
func (a *Agent) Alive(ctx context.Context) error {
	select {
	case a.asked <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// launch starts all that is due and returns when to look again.
func (a *Agent) launch(ctx context.Context) time.Time {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	s := &a.sync
	if s.fullAt.IsZero() {
		s.fullAt = now
		s.reapAt = now.Add(reapInterval)
	}
	for g := range s.delayed {
		if !g.retryAt.After(now) {
			delete(s.delayed, g)
			if !g.queued && !g.flying {
				g.queued = true
				s.ready = append(s.ready, g)
			}
		}
	}
	if !s.nextDefer.IsZero() && !s.nextDefer.After(now) {
		a.releaseDeferredLocked(now)
	}
	// What was loaded before Run is mostly in the catalog already: the first
	// comparison tells, and saves its pushes.
	gathering := len(s.ready) < s.company && now.Before(s.gather)
	if s.compared && s.flying == 0 && len(s.ready) > 0 && !gathering {
		if f := a.boardLocked(); f != nil {
			a.runner.wg.Go(func() { a.fly(ctx, f) })
		}
	}
	if !s.full && !s.fullAt.After(now) {
		s.full = true
		a.runner.wg.Go(func() { a.fullSync(ctx) })
	}
	if !s.reapAt.After(now) {
		s.reapAt = now.Add(reapInterval)
		a.runner.wg.Go(func() { a.reap(ctx) })
	}
	a.metrics.inFlight.Set(float64(s.flying))
	next := s.reapAt
	earlier := func(t time.Time) {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	for g := range s.delayed {
		earlier(g.retryAt)
	}
	earlier(s.nextDefer)
	if gathering && s.flying == 0 {
		earlier(s.gather)
	}
	if !s.full {
		earlier(s.fullAt)
	}
	return next
}

// releaseDeferredLocked queues the checks whose output has waited long enough.
func (a *Agent) releaseDeferredLocked(now time.Time) {
	a.sync.nextDefer = time.Time{}
	for _, e := range a.checks {
		switch {
		case e.deferred.IsZero():
		case e.deferred.After(now):
			a.sync.deferLocked(e.deferred)
		default:
			e.deferred = time.Time{}
			a.enqueueLocked(e.record.ServiceID)
		}
	}
}

// ServersChanged tells that a server came or that there is a leader again: what
// failed is tried at once, and the catalog compared within a few seconds.
func (a *Agent) ServersChanged() {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := &a.sync
	for g := range s.delayed {
		g.retryAt = time.Time{}
	}
	s.fullAt = earliest(s.fullAt, time.Now().Add(jitter(serverUpDelay)))
	s.notify()
}

// NodeChanged tells that Config.NodeInfo now returns something else.
func (a *Agent) NodeChanged() {
	info := a.cfg.NodeInfo()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.sync.nodeInfo != nil && sameNode(a.sync.nodeInfo, info) {
		return
	}
	a.sync.nodeInfo = info
	a.editLocked(&a.sync.node)
	a.enqueueLocked("")
}
