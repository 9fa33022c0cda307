package agent

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"landbridge/store"
)

// group is a service with its checks, or ("") the node with its own: what is
// pushed by one call at a time, since deregistering a service removes its
// checks. Different groups are pushed side by side.
type group struct {
	id       string
	checks   map[string]struct{} // ids of the entries in Agent.checks that belong to it
	flying   bool
	queued   bool
	failures int       // in a row
	retryAt  time.Time // while in syncState.delayed
}

// syncState is the state of anti-entropy, guarded by Agent.mu.
type syncState struct {
	groups  map[string]*group
	ready   []*group
	delayed map[*group]struct{} // failed, waiting for retryAt
	flights int                 // groups being pushed
	// outage: the last call failed for a reason that is not the item's. Groups
	// that failed are then tried one at a time until one succeeds.
	outage    bool
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
	s.notify()
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
	for {
		wake := a.launch(ctx)
		t := time.NewTimer(time.Until(wake))
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-a.sync.wake:
		case <-t.C:
		}
		t.Stop()
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
	var held []*group
	// What was loaded before Run is mostly in the catalog already: the first
	// comparison tells, and saves its pushes.
	for s.compared && s.flights < a.cfg.MaxInFlight && len(s.ready) > 0 {
		g := s.ready[0]
		s.ready = s.ready[1:]
		if s.outage && g.failures > 0 && s.flights > 0 {
			held = append(held, g)
			continue
		}
		g.queued = false
		ops := a.collectLocked(g)
		if len(ops) == 0 {
			a.tidyLocked(g)
			continue
		}
		g.flying = true
		s.flights++
		a.runner.wg.Go(func() { a.push(ctx, g, ops) })
	}
	if len(held) > 0 {
		s.ready = append(held, s.ready...)
	}
	if !s.full && !s.fullAt.After(now) {
		s.full = true
		a.runner.wg.Go(func() { a.fullSync(ctx) })
	}
	if !s.reapAt.After(now) {
		s.reapAt = now.Add(reapInterval)
		a.runner.wg.Go(func() { a.reap(ctx) })
	}
	a.metrics.inFlight.Set(float64(s.flights))
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

// op is one call of the Registrar and what it brings up to date.
type op struct {
	register   *store.RegisterCommand
	deregister *store.DeregisterCommand
	token      string
	items      []opItem
}

type opItem struct {
	e       *entry
	version uint64
	service *serviceEntry // one of these, or neither for the node
	check   *checkEntry
	group   string
}

func (o *op) add(g *group, e *entry, svc *serviceEntry, chk *checkEntry) {
	e.busy = true
	o.items = append(o.items, opItem{e: e, version: e.version, service: svc, check: chk, group: g.id})
}

func (e *entry) due() bool { return e.dirty() && !e.busy && !e.settled }

func (e *checkEntry) due() bool { return e.entry.due() && e.deferred.IsZero() }

// collectLocked returns the calls that bring a group up to date, in order, and
// marks what they carry as busy.
func (a *Agent) collectLocked(g *group) []*op {
	svc := a.services[g.id]
	if svc != nil && svc.deleted {
		if !svc.due() {
			return nil
		}
		o := &op{deregister: &store.DeregisterCommand{Node: a.cfg.Node, ServiceID: g.id}, token: svc.def.Token}
		o.add(g, &svc.entry, svc, nil)
		for _, id := range slices.Sorted(maps.Keys(g.checks)) {
			if c := a.checks[id]; c.deleted && !c.busy && c.known && c.home == g.id {
				o.add(g, &c.entry, nil, c)
			}
		}
		return []*op{o}
	}
	var ops []*op
	byToken := make(map[string]*op)
	register := func(token string) *op {
		o := byToken[token]
		if o == nil {
			o = &op{register: a.registerLocked(), token: token}
			if !o.register.SkipNodeUpdate {
				o.items = append(o.items, opItem{e: &a.sync.node, version: a.sync.node.version})
			}
			byToken[token] = o
			ops = append(ops, o)
		}
		return o
	}
	if svc != nil && svc.due() {
		o := register(svc.def.Token)
		o.register.Service = svc.record
		o.add(g, &svc.entry, svc, nil)
	}
	if g.id == "" && a.sync.node.due() {
		register("")
	}
	for _, id := range slices.Sorted(maps.Keys(g.checks)) {
		c := a.checks[id]
		switch {
		case !c.due():
		case c.deleted:
			o := &op{deregister: &store.DeregisterCommand{Node: a.cfg.Node, CheckID: id}, token: c.def.Token}
			o.add(g, &c.entry, nil, c)
			ops = append(ops, o)
		default:
			o := register(c.def.Token)
			o.register.Checks = append(o.register.Checks, c.record)
			c.known = c.known && c.home == g.id // while it moves, it may be in either
			o.add(g, &c.entry, nil, c)
		}
	}
	return ops
}

// registerLocked starts a registration: the node's record travels with each, so
// that the catalog can create the node, and replaces the catalog's if it differs.
func (a *Agent) registerLocked() *store.RegisterCommand {
	if a.sync.nodeInfo == nil {
		a.sync.nodeInfo = a.cfg.NodeInfo()
		a.editLocked(&a.sync.node)
	}
	n := a.sync.nodeInfo
	return &store.RegisterCommand{
		Node: store.Node{
			ID: n.ID, Node: a.cfg.Node, Address: n.Address, Datacenter: n.Datacenter,
			TaggedAddresses: n.TaggedAddresses, Meta: n.Meta,
		},
		SkipNodeUpdate: !a.sync.node.dirty() || a.sync.node.settled,
	}
}

// push makes the calls of a group. A failure that is not the item's ends it.
func (a *Agent) push(ctx context.Context, g *group, ops []*op) {
	var failure error
	servicePushed := false
	for _, o := range ops {
		var err error
		if failure == nil {
			err = a.call(ctx, o)
		} else {
			err = failure
		}
		a.mu.Lock()
		switch {
		case err == nil:
			a.doneLocked(o)
			servicePushed = servicePushed || o.register != nil && o.register.Service != nil
		case failure == nil && final(err):
			a.refusedLocked(g, o, err, servicePushed)
		default:
			a.failedLocked(o)
			failure = err
		}
		a.mu.Unlock()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s := &a.sync
	g.flying = false
	s.flights--
	if failure != nil {
		g.failures++
		g.retryAt = time.Now().Add(backoff(g.failures))
		s.delayed[g] = struct{}{}
		if ctx.Err() == nil {
			s.outage = s.outage || store.KindOf(failure) != store.KindInternal
			if g.failures == 1 {
				a.cfg.Logger.Warn("catalog not updated, will retry", "service", g.id, "err", failure)
			}
			if ambiguous(failure) {
				// The call may still take effect, after what we send next: compare
				// when it must be over.
				s.doubtLocked()
			}
		}
	} else {
		g.failures = 0
		if s.outage {
			s.outage = false
			for d := range s.delayed {
				d.retryAt = time.Now()
			}
		}
		a.requeueLocked(g)
	}
	a.tidyLocked(g)
	s.notify()
}

func earliest(x, y time.Time) time.Time {
	if y.Before(x) {
		return y
	}
	return x
}

// final reports whether trying again is of no use until something changes.
func final(err error) bool {
	switch store.KindOf(err) {
	case store.KindInvalid, store.KindBadRequest, store.KindPermissionDenied, store.KindNotFound,
		store.KindConflict, store.KindTooLarge, store.KindNotBuilt:
		return true
	}
	return false
}

// ambiguous reports whether a call that failed may have taken effect.
func ambiguous(err error) bool {
	switch store.KindOf(err) {
	case store.KindMaybeApplied, store.KindTimeout, store.KindInternal:
		return true
	}
	return false
}

func (a *Agent) call(ctx context.Context, o *op) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var err error
	m := a.metrics.register
	if o.register != nil {
		err = a.cfg.Registrar.Register(ctx, o.register, o.token)
	} else {
		err = a.cfg.Registrar.Deregister(ctx, o.deregister, o.token)
		m = a.metrics.deregister
	}
	m.observe(err)
	return err
}

// doneLocked notes that the catalog holds what o carried.
func (a *Agent) doneLocked(o *op) {
	for _, i := range o.items {
		i.e.busy = false
		i.e.touched = a.tick()
		i.e.pushed = i.version
		if i.check != nil && o.register != nil {
			i.check.home, i.check.known = i.group, true
		}
		i.e.settled = false
		if i.e.deleted && !i.e.dirty() {
			a.forgetLocked(i)
		}
		i.e.release()
		a.requeueItemLocked(i)
	}
}

// forgetLocked drops a tombstone the catalog knows of.
func (a *Agent) forgetLocked(i opItem) {
	switch {
	case i.service != nil:
		delete(a.services, i.service.record.ID)
	case i.check != nil:
		delete(a.checks, i.check.record.CheckID)
		delete(a.sync.group(i.check.record.ServiceID).checks, i.check.record.CheckID)
	}
}

// refusedLocked notes that the catalog will not have what o carried. It is left
// alone until the next full sync, unless it was refused because the catalog
// lost the service of a check: then both are pushed together.
func (a *Agent) refusedLocked(g *group, o *op, err error, servicePushed bool) {
	svc := a.services[g.id]
	invalid := store.KindOf(err) == store.KindInvalid
	lost := invalid && o.register != nil && o.register.Service == nil && len(o.register.Checks) > 0 &&
		svc != nil && !svc.deleted && !svc.settled && !servicePushed
	if lost {
		svc.pushed = 0
	} else {
		a.cfg.Logger.Warn("catalog refused an update", "service", g.id, "err", err)
		if invalid {
			// A node's name may be another's for the moment until the leader has
			// seen that one fail.
			a.sync.fullAt = earliest(a.sync.fullAt, time.Now().Add(retryMax+jitter(retryMax)))
		}
	}
	for _, i := range o.items {
		i.e.busy = false
		i.e.touched = a.tick()
		if !lost && i.e.version == i.version {
			i.e.settled = true
			i.e.release()
		}
		a.requeueItemLocked(i)
	}
}

// failedLocked notes that o was not made, or that nobody knows.
func (a *Agent) failedLocked(o *op) {
	for _, i := range o.items {
		i.e.busy = false
		i.e.touched = a.tick()
		if i.check != nil {
			i.check.deferred = time.Time{} // what was to be pushed may be a status
		}
		a.requeueItemLocked(i)
	}
}

// requeueItemLocked queues the group an entry has moved to while it was busy.
func (a *Agent) requeueItemLocked(i opItem) {
	if i.check != nil && i.check.due() {
		if g := a.sync.group(i.check.record.ServiceID); !g.flying {
			a.enqueueLocked(g.id)
		}
	}
}

// requeueLocked queues a group again if something changed while it was pushed.
func (a *Agent) requeueLocked(g *group) {
	svc := a.services[g.id]
	due := svc != nil && svc.due() || g.id == "" && a.sync.node.due()
	for id := range g.checks {
		due = due || a.checks[id].due()
	}
	if due {
		a.enqueueLocked(g.id)
	}
}

// tidyLocked drops a group that nothing belongs to. The node's own stays: the
// node's record belongs to it.
func (a *Agent) tidyLocked(g *group) {
	if g.id != "" && a.services[g.id] == nil && len(g.checks) == 0 && !g.flying && !g.queued {
		delete(a.sync.delayed, g)
		delete(a.sync.groups, g.id)
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
