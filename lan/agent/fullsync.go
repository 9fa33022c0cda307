package agent

import (
	"context"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"landbridge/store"
)

// fullSyncEvery is the pause between full syncs: a minute, more in larger
// clusters so that their sum stays bearable for the servers.
func fullSyncEvery(members int) time.Duration {
	if members <= fullSyncScale {
		return fullSyncInterval
	}
	return fullSyncInterval * time.Duration(math.Ceil(math.Log2(float64(members))-math.Log2(fullSyncScale)+1))
}

// fullSync compares the catalog with what is here and queues the differences.
func (a *Agent) fullSync(ctx context.Context) {
	began := time.Now()
	a.mu.Lock()
	since := a.clock
	a.sync.fullAt = time.Now().Add(time.Hour) // moved below; an earlier wish counts
	a.mu.Unlock()

	callCtx, cancel := context.WithTimeout(ctx, callTimeout)
	node, err := a.cfg.Registrar.NodeServices(callCtx, a.cfg.Node)
	var checks []*store.Check
	if err == nil && node != nil {
		checks, err = a.cfg.Registrar.NodeChecks(callCtx, a.cfg.Node)
	}
	cancel()
	a.metrics.fullSync.observe(err)
	info := a.cfg.NodeInfo()
	every := fullSyncEvery(a.cfg.ClusterSize())

	a.mu.Lock()
	defer a.mu.Unlock()
	s := &a.sync
	s.full, s.compared = false, true
	first := !s.agreed
	defer s.notify()
	if err != nil {
		s.fullFails++
		s.fullAt = earliest(s.fullAt, time.Now().Add(backoff(s.fullFails)))
		if ctx.Err() == nil && s.fullFails == 1 {
			a.cfg.Logger.Warn("catalog not compared, will retry", "err", err)
		}
		return
	}
	s.fullFails, s.agreed = 0, true
	if first {
		// A call made before a restart may still be on its way.
		s.doubtLocked()
	}
	if began.Before(s.doubt) {
		s.fullAt = earliest(s.fullAt, s.doubt)
	}
	s.fullAt = earliest(s.fullAt, time.Now().Add(every+jitter(every)))
	if node == nil || node.Node == nil || !strings.EqualFold(node.Node.Node, a.cfg.Node) {
		// Unknown, or another node whose id reads like our name.
		checks = nil
		node = &store.NodeServices{}
	}
	a.compareNodeLocked(node.Node, info, since)
	a.compareServicesLocked(node.Services, since)
	a.compareChecksLocked(checks, since)
}

// comparable reports whether the reading, begun at since, can tell anything
// about an entry: not if that changed or was pushed meanwhile.
func (e *entry) comparable(since uint64) bool { return e.touched <= since && !e.busy }

func sameNode(x, y *store.Node) bool {
	return x.ID == y.ID && x.Address == y.Address && strings.EqualFold(x.Node, y.Node) &&
		maps.Equal(x.TaggedAddresses, y.TaggedAddresses) && maps.Equal(x.Meta, y.Meta)
}

func (a *Agent) compareNodeLocked(have, want *store.Node, since uint64) {
	s := &a.sync
	if s.nodeInfo == nil || !sameNode(s.nodeInfo, want) {
		s.nodeInfo = want
		a.editLocked(&s.node)
	} else if !s.node.comparable(since) {
		return
	}
	if have != nil && sameNode(have, want) {
		s.node.pushed, s.node.settled = s.node.version, false
		return
	}
	s.node.pushed, s.node.settled = 0, false
	a.enqueueLocked("")
}

// leaders reports whether a service is the leader's to write.
func (a *Agent) leaders(serviceID string) bool { return a.cfg.Server && serviceID == "consul" }

func (a *Agent) compareServicesLocked(have []*store.Service, since uint64) {
	seen := make(map[string]bool, len(have))
	for _, r := range have {
		if a.leaders(r.ID) {
			continue
		}
		seen[r.ID] = true
		e := a.services[r.ID]
		switch {
		case e == nil:
			a.cfg.Logger.Info("removing unknown service from the catalog", "service", r.ID)
			e = &serviceEntry{entry: entry{deleted: true}, def: &ServiceDefinition{ID: r.ID, Name: r.Name}, record: r}
			a.services[r.ID] = e
			a.editLocked(&e.entry)
			a.enqueueLocked(r.ID)
		case !e.comparable(since):
		case e.deleted:
			e.settled = false
			a.enqueueLocked(r.ID)
		case sameService(e.record, r, e.record.EnableTagOverride):
			a.adoptTagsLocked(e, r)
			e.pushed, e.settled = e.version, false
			e.release()
		default:
			a.adoptTagsLocked(e, r)
			e.pushed, e.settled = 0, false
			a.enqueueLocked(r.ID)
		}
	}
	for id, e := range a.services {
		if seen[id] || !e.comparable(since) {
			continue
		}
		if e.deleted {
			a.goneLocked(&e.entry, e, nil, id)
			continue
		}
		e.pushed, e.settled = 0, false
		a.enqueueLocked(id)
	}
}

// adoptTagsLocked takes over the catalog's tags where they are to win. The checks
// of the service show them too.
func (a *Agent) adoptTagsLocked(e *serviceEntry, have *store.Service) {
	if !e.record.EnableTagOverride || slices.Equal(e.record.Tags, have.Tags) {
		return
	}
	r := e.record.Clone()
	r.Tags = have.Tags
	e.record, e.view = r, a.view(r)
	a.serviceChangedLocked()
	for _, c := range a.checksOfLocked(r.ID) {
		a.setRecordLocked(c, a.checkRecord(c.def, c.record.Status, c.record.Output))
	}
}

// goneLocked drops a tombstone that the catalog does not hold.
func (a *Agent) goneLocked(e *entry, svc *serviceEntry, chk *checkEntry, groupID string) {
	e.pushed = e.version
	a.forgetLocked(opItem{e: e, service: svc, check: chk})
	e.release()
	if g := a.sync.groups[groupID]; g != nil {
		a.tidyLocked(g)
	}
}

func (a *Agent) compareChecksLocked(have []*store.Check, since uint64) {
	seen := make(map[string]bool, len(have))
	for _, r := range have {
		if r.CheckID == store.SerfHealth || a.leaders(r.ServiceID) {
			continue
		}
		seen[r.CheckID] = true
		e := a.checks[r.CheckID]
		switch {
		case e == nil:
			a.cfg.Logger.Info("removing unknown check from the catalog", "check", r.CheckID)
			e = &checkEntry{entry: entry{deleted: true}, home: r.ServiceID, known: true, def: &CheckDefinition{ID: r.CheckID, ServiceID: r.ServiceID}, record: r}
			a.checks[r.CheckID] = e
			a.sync.group(r.ServiceID).checks[r.CheckID] = struct{}{}
			a.editLocked(&e.entry)
			a.enqueueLocked(r.ServiceID)
		case !e.comparable(since):
		case e.deleted:
			e.settled = false
			e.home, e.known = r.ServiceID, true
			a.enqueueLocked(e.record.ServiceID)
		default:
			e.home, e.known = r.ServiceID, true
			a.compareCheckLocked(e, r)
		}
	}
	for id, e := range a.checks {
		if seen[id] || !e.comparable(since) {
			continue
		}
		if e.deleted {
			a.goneLocked(&e.entry, nil, e, e.record.ServiceID)
			continue
		}
		e.pushed, e.settled, e.deferred = 0, false, time.Time{}
		a.enqueueLocked(e.record.ServiceID)
	}
}

func (a *Agent) compareCheckLocked(e *checkEntry, have *store.Check) {
	waits := !e.deferred.IsZero() // its output is known to differ, and may
	if sameCheck(e.record, have, !waits) {
		if !waits {
			e.pushed, e.settled = e.version, false
			e.release()
		}
		return
	}
	e.pushed, e.settled, e.deferred = 0, false, time.Time{}
	a.enqueueLocked(e.record.ServiceID)
}
