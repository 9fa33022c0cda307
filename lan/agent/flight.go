package agent

import (
	"context"
	"maps"
	"slices"
	"time"

	"landbridge/store"
)

// op is one change of the catalog and what it brings up to date.
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

// collectLocked returns the changes that bring a group up to date, in order, and
// marks what they carry as busy.
func (a *Agent) collectLocked(g *group) []*op {
	svc := a.services[g.id]
	if svc != nil && svc.deleted {
		if !svc.due() {
			return nil
		}
		o := &op{deregister: &store.DeregisterCommand{Node: a.cfg.Node, ServiceID: g.id}, token: a.tokenOf(svc.def.Token, svc.source)}
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
			if !o.register.SkipNodeUpdate && token != "" {
				// The token is for a service: the node goes before it with the agent's own.
				if own := byToken[""]; own == nil {
					own = &op{register: a.registerLocked()}
					own.items = append(own.items, opItem{e: &a.sync.node, version: a.sync.node.version})
					byToken[""] = own
					ops = append(ops, own)
				}
				o.register.SkipNodeUpdate = true
			}
			if !o.register.SkipNodeUpdate {
				o.items = append(o.items, opItem{e: &a.sync.node, version: a.sync.node.version})
			}
			byToken[token] = o
			ops = append(ops, o)
		}
		return o
	}
	if svc != nil && svc.due() {
		o := register(a.tokenOf(svc.def.Token, svc.source))
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
			o := &op{deregister: &store.DeregisterCommand{Node: a.cfg.Node, CheckID: id}, token: a.tokenOf(c.def.Token, c.source)}
			o.add(g, &c.entry, nil, c)
			ops = append(ops, o)
		default:
			o := register(a.tokenOf(c.def.Token, c.source))
			o.register.Checks = append(o.register.Checks, c.record)
			c.known = c.known && c.home == g.id // while it moves, it may be in either
			o.add(g, &c.entry, nil, c)
		}
	}
	return ops
}

// tokenOf is the secret that a service or check is pushed with; "" is the agent's
// own.
func (a *Agent) tokenOf(own string, from Source) string {
	if own == "" && a.cfg.Token != nil {
		return a.cfg.Token(from == FromFile)
	}
	return own
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

// flight is what goes to the catalog in one call. There is one at a time: what
// comes meanwhile goes with the next, and the leader makes one Raft entry of each,
// which is most of what a registration costs.
type flight struct {
	groups []*group
	ops    [][]*op // of each group
	n      int     // ops in all
}

const (
	maxFlight      = 256
	maxFlightBytes = 512 << 10 // about; one group may be larger
	maxGather      = 10 * time.Millisecond
)

// boardLocked takes what is ready. It returns nil if nothing is.
func (a *Agent) boardLocked() *flight {
	s := &a.sync
	f := &flight{}
	for size := 0; f.n < maxFlight && size < maxFlightBytes && len(s.ready) > 0; {
		g := s.ready[0]
		s.ready = s.ready[1:]
		g.queued = false
		ops := a.collectLocked(g)
		if len(ops) == 0 {
			a.tidyLocked(g)
			continue
		}
		g.flying = true
		f.groups = append(f.groups, g)
		f.ops = append(f.ops, ops)
		f.n += len(ops)
		for _, o := range ops {
			size += o.size()
		}
	}
	if len(s.ready) == 0 {
		s.ready = nil // lets go of what was taken
	}
	if len(f.groups) == 0 {
		return nil
	}
	s.flying = len(f.groups)
	return f
}

// size is roughly what an op takes on the wire.
func (o *op) size() int {
	n := 256
	if o.register != nil {
		for _, c := range o.register.Checks {
			n += 256 + len(c.Output) + len(c.Notes)
		}
	}
	return n
}

// fly makes the call of a flight and notes what came of it.
func (a *Agent) fly(ctx context.Context, f *flight) {
	batch := &store.CatalogBatch{Writes: make([]store.CatalogWrite, 0, f.n)}
	for _, ops := range f.ops {
		for _, o := range ops {
			batch.Writes = append(batch.Writes, store.CatalogWrite{Register: o.register, Deregister: o.deregister, Token: o.token})
		}
	}
	began := time.Now()
	if pos, ok := a.disk.unsynced(); ok {
		// Beside the call: those who wait for it want both, and get the error too.
		a.runner.wg.Go(func() { _ = a.disk.flush(pos) })
	}
	callCtx, cancel := context.WithTimeout(ctx, callTimeout)
	errs, err := a.cfg.Registrar.Sync(callCtx, batch)
	cancel()
	if err == nil && len(errs) != f.n {
		err = store.Errorf(store.KindInternal, "the catalog gave %d outcomes for %d changes", len(errs), f.n)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s := &a.sync
	var retry time.Time
	if err != nil {
		s.failures++
		retry = time.Now().Add(backoff(s.failures))
		errs = make([]error, f.n)
		for i := range errs {
			errs[i] = err
		}
		if s.failures == 1 && ctx.Err() == nil {
			a.cfg.Logger.Warn("catalog not updated, will retry", "services", len(f.groups), "err", err)
		}
	} else {
		s.failures = 0
		for d := range s.delayed {
			d.retryAt = time.Now() // the servers are back
		}
	}
	for i, g := range f.groups {
		a.landLocked(ctx, g, f.ops[i], errs[:len(f.ops[i])], retry, err != nil)
		errs = errs[len(f.ops[i]):]
	}
	s.flying = 0
	if len(f.groups) > 1 && err == nil {
		// The callers this flight has kept waiting are about to come again: to
		// leave without them would cost a flight for one, and a flight for the rest.
		s.gather, s.company = time.Now().Add(min(maxGather, time.Since(began)/2)), min(len(s.ready)+len(f.groups), maxFlight)
	} else {
		s.company = 0
	}
	s.notify()
}

// landLocked notes what came of a group's ops. failed: of all ops of the flight,
// for a reason that is none of theirs, and it is tried again at retry.
func (a *Agent) landLocked(ctx context.Context, g *group, ops []*op, errs []error, retry time.Time, failed bool) {
	var failure error
	servicePushed := false
	for i, o := range ops {
		err := errs[i]
		o.observe(a.metrics, err)
		switch {
		case err == nil:
			a.doneLocked(o)
			servicePushed = servicePushed || o.register != nil && o.register.Service != nil
		case !failed && final(err):
			a.refusedLocked(g, o, err, servicePushed)
		default:
			a.failedLocked(o)
			failure = err
			if ambiguous(err) && ctx.Err() == nil {
				// The call may still take effect, after what we send next: compare
				// when it must be over.
				a.sync.doubtLocked()
			}
		}
	}
	g.flying = false
	if failure == nil {
		g.failures = 0
		a.requeueLocked(g)
		a.tidyLocked(g)
		return
	}
	g.failures++
	g.retryAt = retry
	if !failed {
		g.retryAt = time.Now().Add(backoff(g.failures))
		if g.failures == 1 {
			a.cfg.Logger.Warn("catalog not updated, will retry", "service", g.id, "err", failure)
		}
	}
	a.sync.delayed[g] = struct{}{}
	a.tidyLocked(g)
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

func (o *op) observe(m *metrics, err error) {
	if o.register != nil {
		m.register.observe(err)
	} else {
		m.deregister.observe(err)
	}
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
	if o.register != nil && store.KindOf(err) == store.KindPermissionDenied {
		switch {
		case o.register.Service != nil:
			a.metrics.blocked.service.Inc()
		case len(o.register.Checks) > 0:
			a.metrics.blocked.check.Inc()
		default:
			a.metrics.blocked.node.Inc()
		}
	}
	svc := a.services[g.id]
	invalid := store.KindOf(err) == store.KindInvalid
	lost := invalid && o.register != nil && o.register.Service == nil && len(o.register.Checks) > 0 &&
		svc != nil && !svc.deleted && !svc.settled && !servicePushed
	if lost {
		svc.pushed = 0
	} else {
		a.warnRefused(g, err)
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

// warnRefused warns of a refusal, of one service no more than once a minute: a check
// that changes all the time is refused each time.
func (a *Agent) warnRefused(g *group, err error) {
	now := time.Now()
	if !g.warned.IsZero() && now.Sub(g.warned) < refusalInterval {
		g.unsaid++
		return
	}
	a.cfg.Logger.Warn("catalog refused an update", "service", g.id, "more", g.unsaid, "err", err)
	g.warned, g.unsaid = now, 0
}

const refusalInterval = time.Minute

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
