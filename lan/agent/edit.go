package agent

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"time"

	"landbridge/store"
)

// AddService registers a service with its checks, or replaces the definition
// of the one with its id, and waits until the catalog holds it (at most
// RegisterWait: then it is kept here and pushed later). Checks it had that are
// not named again stay, unless replaceChecks. A check whose definition is the
// same keeps its status.
//
// Errors of a kind the caller caused carry the words of the HTTP API; a
// KindInternal error says that the disk refused it, and nothing changed.
func (a *Agent) AddService(ctx context.Context, def *ServiceDefinition, replaceChecks bool) error {
	d, err := a.normalizeService(def, FromAPI)
	if err != nil {
		return err
	}
	sidecar, err := sidecarOf(d)
	if err != nil {
		return err
	}
	changes, err := a.disk.changesOf(d, d.Checks)
	if err != nil {
		return err
	}
	a.warnName(d)
	a.edit.Lock()
	if sidecar != nil {
		if sidecar, err = a.finishSidecar(sidecar, FromAPI, map[int]bool{d.Port: true}); err == nil {
			var more []change
			more, err = a.disk.changesOf(sidecar, sidecar.Checks)
			changes = append(changes, more...)
		}
	}
	var pos uint64
	if err == nil {
		pos, err = a.disk.append(changes)
	}
	if err != nil {
		a.edit.Unlock()
		return err
	}
	a.mu.Lock()
	waiters := make([]*waiter, 1, 2)
	var dropped []dropped
	waiters[0], dropped = a.putServiceLocked(d, FromAPI, replaceChecks)
	if sidecar != nil {
		w, more := a.putServiceLocked(sidecar, FromAPI, replaceChecks)
		waiters, dropped = append(waiters, w), append(dropped, more...)
	} else if w, more := a.removeSidecarLocked(d.ID); w != nil {
		waiters, dropped = append(waiters, w), append(dropped, more...)
	}
	a.mu.Unlock()
	pos = max(pos, a.dropFiles(dropped))
	a.edit.Unlock()
	return a.settle(ctx, pos, waiters...)
}

// settle waits for the catalog and for the disk: each flight to the catalog has
// the journal synced meanwhile, once for all it carries.
func (a *Agent) settle(ctx context.Context, pos uint64, waiters ...*waiter) error {
	var err error
	for _, w := range waiters {
		if err == nil {
			err = a.wait(ctx, w)
		} else {
			a.leave(w)
		}
	}
	return errors.Join(a.disk.flush(pos), err)
}

// RemoveService deregisters a service with its checks, and waits like
// AddService. KindNotFound if there is none.
func (a *Agent) RemoveService(ctx context.Context, id string) error {
	a.edit.Lock()
	a.mu.Lock()
	e := a.services[id]
	if e == nil || e.deleted {
		a.mu.Unlock()
		a.edit.Unlock()
		return unknownService(id)
	}
	w, dropped := a.removeServiceLocked(e)
	waiters := []*waiter{w}
	if w, more := a.removeSidecarLocked(id); w != nil {
		waiters, dropped = append(waiters, w), append(dropped, more...)
	}
	a.mu.Unlock()
	pos := a.dropFiles(dropped)
	a.edit.Unlock()
	return a.settle(ctx, pos, waiters...)
}

// AddCheck registers a check of the node or of a service, and waits like
// AddService. KindNotFound if its service does not exist.
func (a *Agent) AddCheck(ctx context.Context, def *CheckDefinition) error {
	c, err := a.normalizeCheck(def, FromAPI)
	if err == nil {
		err = a.serviceExists(c.ServiceID)
	}
	if err != nil {
		return err
	}
	changes, err := a.disk.changesOf(nil, []*CheckDefinition{c})
	if err != nil {
		return err
	}
	a.edit.Lock()
	var pos uint64
	if err = a.serviceExists(c.ServiceID); err == nil { // else it was removed meanwhile
		pos, err = a.disk.append(changes)
	}
	if err != nil {
		a.edit.Unlock()
		return err
	}
	a.mu.Lock()
	e := a.putCheckLocked(c, FromAPI)
	w := a.waiterLocked(c.ServiceID, &e.entry)
	a.mu.Unlock()
	a.edit.Unlock()
	return a.settle(ctx, pos, w)
}

// RemoveCheck deregisters a check, and waits like AddService. KindNotFound if
// there is none.
func (a *Agent) RemoveCheck(ctx context.Context, id string) error {
	a.edit.Lock()
	a.mu.Lock()
	e := a.checks[id]
	if e == nil || e.deleted {
		a.mu.Unlock()
		a.edit.Unlock()
		return unknownCheck(id)
	}
	a.removeCheckLocked(e)
	w := a.waiterLocked(e.record.ServiceID, &e.entry)
	a.mu.Unlock()
	pos := a.dropFiles([]dropped{{check: id}})
	a.edit.Unlock()
	return a.settle(ctx, pos, w)
}

// UpdateTTL sets the status and output of a TTL check and restarts its clock.
// It does not wait for the catalog.
func (a *Agent) UpdateTTL(id, status, output string) error {
	if !validStatus(status) {
		return store.Errorf(store.KindBadRequest, "Invalid check status: '%s'", status)
	}
	a.edit.Lock()
	defer a.edit.Unlock()
	a.mu.Lock()
	e := a.checks[id]
	if e == nil || e.deleted {
		a.mu.Unlock()
		return unknownCheck(id)
	}
	if e.record.Type != "ttl" {
		a.mu.Unlock()
		return store.Errorf(store.KindInvalid, "CheckID %q does not have associated TTL", id)
	}
	output = a.capOutput(e.def, output)
	a.metrics.kinds["ttl"].observe(status, false, 0)
	a.setStatusLocked(e, status, output)
	a.startLocked(e)
	ttl := time.Duration(e.def.TTL)
	a.mu.Unlock()
	a.disk.saveState(id, status, output, time.Now().Add(ttl), a.cfg.Logger)
	return nil
}

// EnableServiceMaintenance marks a service as in maintenance; again is no
// change. Empty id and unknown id are errors as in the HTTP API.
func (a *Agent) EnableServiceMaintenance(ctx context.Context, id, reason string) error {
	if id == "" {
		return store.Errorf(store.KindBadRequest, "Missing service ID")
	}
	if a.serviceExists(id) != nil {
		return unknownService(id)
	}
	if reason == "" {
		reason = "Maintenance mode is enabled for this service, but no reason was given."
	}
	return a.enableMaintenance(ctx, &CheckDefinition{
		ID: ServiceMaintenancePrefix + id, Name: "Service Maintenance Mode",
		ServiceID: id, Notes: reason, Status: store.Critical,
	})
}

// DisableServiceMaintenance ends it; not being in maintenance is no error.
func (a *Agent) DisableServiceMaintenance(ctx context.Context, id string) error {
	if id == "" {
		return store.Errorf(store.KindBadRequest, "Missing service ID")
	}
	if a.serviceExists(id) != nil {
		return unknownService(id)
	}
	return ignoreNotFound(a.RemoveCheck(ctx, ServiceMaintenancePrefix+id))
}

// EnableNodeMaintenance marks the whole node as in maintenance.
func (a *Agent) EnableNodeMaintenance(ctx context.Context, reason string) error {
	if reason == "" {
		reason = "Maintenance mode is enabled for this node, but no reason was given."
	}
	return a.enableMaintenance(ctx, &CheckDefinition{
		ID: NodeMaintenance, Name: "Node Maintenance Mode", Notes: reason, Status: store.Critical,
	})
}

// DisableNodeMaintenance ends it; not being in maintenance is no error.
func (a *Agent) DisableNodeMaintenance(ctx context.Context) error {
	return ignoreNotFound(a.RemoveCheck(ctx, NodeMaintenance))
}

func (a *Agent) enableMaintenance(ctx context.Context, c *CheckDefinition) error {
	a.mu.Lock()
	e := a.checks[c.ID]
	on := e != nil && !e.deleted
	a.mu.Unlock()
	if on {
		return nil
	}
	return a.AddCheck(ctx, c)
}

func ignoreNotFound(err error) error {
	if store.KindOf(err) == store.KindNotFound {
		return nil
	}
	return err
}

func (a *Agent) serviceExists(id string) error {
	if id == "" {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if e := a.services[id]; e == nil || e.deleted {
		return store.Errorf(store.KindNotFound, "ServiceID %q does not exist", id)
	}
	return nil
}

// dropped names files that are no longer wanted.
type dropped struct{ service, check string }

func (a *Agent) dropFiles(list []dropped) (pos uint64) {
	keys := make([]fileKey, 0, 2*len(list))
	for _, d := range list {
		if d.service != "" {
			keys = append(keys, keyOf(servicesDir, d.service))
		} else {
			keys = append(keys, keyOf(checksDir, d.check), keyOf(stateDir, d.check))
		}
	}
	return a.disk.drop(keys, a.cfg.Logger)
}

// putServiceLocked makes d the definition of its id. It returns who must wait
// for what, and the checks that were dropped.
func (a *Agent) putServiceLocked(d *ServiceDefinition, from Source, replaceChecks bool) (*waiter, []dropped) {
	e := a.services[d.ID]
	if e == nil {
		e = &serviceEntry{}
		a.services[d.ID] = e
	}
	record := a.record(d)
	if e.record == nil || e.deleted || !sameService(e.record, record, false) {
		e.deleted = false
		e.record = record
		e.view = a.view(record)
		a.editLocked(&e.entry)
		a.serviceChangedLocked()
	}
	e.def, e.source = d, from
	named := make(map[string]bool, len(d.Checks))
	entries := []*entry{&e.entry}
	for _, c := range d.Checks {
		named[c.ID] = true
		entries = append(entries, &a.putCheckLocked(c, from).entry)
	}
	var gone []dropped
	for _, c := range a.checksOfLocked(d.ID) {
		if named[c.def.ID] {
			continue
		}
		if replaceChecks && !isMaintenance(c.def.ID) {
			a.removeCheckLocked(c)
			gone = append(gone, dropped{check: c.def.ID})
			entries = append(entries, &c.entry)
			continue
		}
		// The check stays, but shows its service's new name and tags.
		a.setRecordLocked(c, a.checkRecord(c.def, c.record.Status, c.record.Output))
	}
	return a.waiterLocked(d.ID, entries...), gone
}

func (a *Agent) removeServiceLocked(e *serviceEntry) (*waiter, []dropped) {
	id := e.record.ID
	gone := []dropped{{service: id}}
	for _, c := range a.checksOfLocked(id) {
		a.removeCheckLocked(c)
		gone = append(gone, dropped{check: c.def.ID})
	}
	e.deleted = true
	a.editLocked(&e.entry)
	a.serviceChangedLocked()
	return a.waiterLocked(id, &e.entry), gone
}

// removeSidecarLocked removes the sidecar that a service has asked for, if it has.
func (a *Agent) removeSidecarLocked(id string) (*waiter, []dropped) {
	e := a.services[id+sidecarSuffix]
	if e == nil || e.deleted || e.def.SidecarOf != id {
		return nil, nil
	}
	return a.removeServiceLocked(e)
}

// putCheckLocked makes c the definition of its id. Its service exists.
func (a *Agent) putCheckLocked(c *CheckDefinition, from Source) *checkEntry {
	e := a.checks[c.ID]
	if e == nil {
		e = &checkEntry{}
		a.checks[c.ID] = e
	}
	same := e.def != nil && !e.deleted && reflect.DeepEqual(e.def, c)
	status, output := c.Status, ""
	switch {
	case same:
		status, output = e.record.Status, e.record.Output
	case status == "":
		status = store.Critical
	}
	if e.record != nil && e.record.ServiceID != c.ServiceID {
		// Its record in the catalog is one and the same, so a push under way for
		// the old service is waited for (entry.busy).
		old := a.sync.group(e.record.ServiceID)
		delete(old.checks, c.ID)
		a.tidyLocked(old)
	}
	a.sync.group(c.ServiceID).checks[c.ID] = struct{}{}
	wasDeleted := e.deleted
	e.def, e.source, e.deleted = c, from, false
	if wasDeleted || e.record == nil {
		e.record = nil
	}
	a.setRecordLocked(e, a.checkRecord(c, status, output))
	if !same {
		a.noteCriticalLocked(e, true)
		a.startLocked(e)
	}
	return e
}

func (a *Agent) removeCheckLocked(e *checkEntry) {
	a.stopLocked(e)
	e.deleted = true
	e.deferred = time.Time{}
	a.editLocked(&e.entry)
	a.enqueueLocked(e.record.ServiceID)
	a.checksChangedLocked(e.record.ServiceID)
}

// setRecordLocked replaces a check's record and has it pushed, if it differs.
func (a *Agent) setRecordLocked(e *checkEntry, r *store.Check) {
	if e.record != nil && sameCheck(e.record, r, true) {
		return
	}
	e.record = r
	e.deferred = time.Time{}
	a.editLocked(&e.entry)
	a.enqueueLocked(r.ServiceID)
	a.checksChangedLocked(r.ServiceID)
}

// checkRecord makes the catalog's form of a check. Of a service that is gone,
// name and tags stay empty.
func (a *Agent) checkRecord(c *CheckDefinition, status, output string) *store.Check {
	r := &store.Check{
		Node:      a.cfg.Node,
		CheckID:   c.ID,
		Name:      c.Name,
		Status:    status,
		Notes:     c.Notes,
		Output:    output,
		ServiceID: c.ServiceID,
		Type:      c.Type(),
	}
	if c.Interval > 0 {
		r.Interval = time.Duration(c.Interval).String()
		r.Timeout = time.Duration(c.Timeout).String()
		if c.Timeout == 0 {
			r.Timeout = ""
		}
	}
	if s := a.services[c.ServiceID]; s != nil && c.ServiceID != "" && s.def != nil {
		r.ServiceName = s.record.Name
		r.ServiceTags = s.record.Tags
	}
	return r
}

// setStatusLocked takes a result. A new status is pushed at once; a new output
// alone waits for the check update interval, since outputs of some checks
// change at every run and nobody decides by them.
func (a *Agent) setStatusLocked(e *checkEntry, status, output string) {
	old := e.record
	if old.Status == status && old.Output == output {
		return
	}
	r := old.Clone()
	r.Status, r.Output = status, output
	if old.Status != status {
		a.setRecordLocked(e, r)
		a.noteCriticalLocked(e, false)
		return
	}
	refused := e.settled
	ridesAlong := e.dirty() && !e.busy && e.deferred.IsZero()
	e.record = r
	if status != store.Passing { // aliases show it
		a.checksChangedLocked(r.ServiceID)
	}
	a.editLocked(&e.entry)
	switch interval := a.cfg.CheckUpdateInterval; {
	case refused: // it would be again
		e.settled = true
	case interval == 0 || ridesAlong:
		a.enqueueLocked(r.ServiceID)
	case e.deferred.IsZero():
		e.deferred = time.Now().Add(interval/2 + jitter(interval))
		a.sync.deferLocked(e.deferred)
	}
}

// noteCriticalLocked keeps the time since which a check is critical.
func (a *Agent) noteCriticalLocked(e *checkEntry, restart bool) {
	switch {
	case e.record.Status != store.Critical:
		e.criticalSince = time.Time{}
	case restart || e.criticalSince.IsZero():
		e.criticalSince = time.Now()
	}
}

// sameService compares what is pushed. With override, tags are the catalog's.
func sameService(x, y *store.Service, override bool) bool {
	return x.ID == y.ID && x.Name == y.Name && x.Kind == y.Kind && x.Address == y.Address &&
		x.Port == y.Port && x.SocketPath == y.SocketPath && x.Weights == y.Weights &&
		x.EnableTagOverride == y.EnableTagOverride &&
		(override || slices.Equal(x.Tags, y.Tags)) &&
		maps.Equal(x.Meta, y.Meta) && maps.Equal(x.TaggedAddresses, y.TaggedAddresses) &&
		sameBlock(x.Proxy, y.Proxy) && sameBlock(x.Connect, y.Connect) && sameBlock(x.Locality, y.Locality)
}

// sameBlock compares mesh blocks; an empty object is none.
func sameBlock(x, y []byte) bool {
	if string(x) == "{}" {
		x = nil
	}
	if string(y) == "{}" {
		y = nil
	}
	return string(x) == string(y)
}

// sameCheck compares what is pushed, with or without output.
func sameCheck(x, y *store.Check, output bool) bool {
	return x.CheckID == y.CheckID && x.Name == y.Name && x.Status == y.Status && x.Notes == y.Notes &&
		x.ServiceID == y.ServiceID && x.ServiceName == y.ServiceName && x.Type == y.Type &&
		x.Interval == y.Interval && x.Timeout == y.Timeout && x.ExposedPort == y.ExposedPort &&
		(!output || x.Output == y.Output) &&
		slices.Equal(x.ServiceTags, y.ServiceTags)
}

// warnName warns of a name that DNS cannot carry.
func (a *Agent) warnName(d *ServiceDefinition) {
	if !dnsLabel.MatchString(d.Name) {
		a.cfg.Logger.Warn("service name will not be discoverable via DNS: only letters, digits and dashes are, up to 63", "service", d.Name)
	}
}
