package agent

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"landbridge/store"
)

// ReloadDefinitions makes the definitions from configuration files what they
// are now: new ones are registered, changed ones updated, vanished ones
// removed. They win over a definition of the API with the same id; others of
// the API stay, except without a DataDir, where a reload forgets them. Nothing
// changes if any is invalid; the error names all that are. It is called at
// start too, before Run, and does not wait for the catalog.
func (a *Agent) ReloadDefinitions(services []*ServiceDefinition, checks []*CheckDefinition) error {
	a.edit.Lock()
	defer a.edit.Unlock()
	wantServices, wantChecks, err := a.normalizeFiles(services, checks)
	if err != nil {
		return err
	}
	for _, d := range wantServices {
		a.warnName(d)
	}
	var gone []dropped
	a.mu.Lock()
	defer func() {
		a.mu.Unlock()
		a.dropFiles(gone)
	}()
	for id, e := range a.services {
		if !e.deleted && wantServices[id] == nil && a.forgets(e.source) {
			_, files := a.removeServiceLocked(e)
			gone = append(gone, files...)
		}
	}
	named := make(map[string]bool)
	for id, d := range wantServices {
		a.putServiceLocked(d, FromFile, false)
		gone = append(gone, dropped{service: id})
		for _, c := range d.Checks {
			named[c.ID] = true
			gone = append(gone, dropped{check: c.ID})
		}
	}
	a.adoptOrphansLocked(named, wantChecks)
	for id, c := range wantChecks {
		named[id] = true
		if s := a.services[c.ServiceID]; c.ServiceID != "" && (s == nil || s.deleted) {
			// Named a service that the reload took away with the API's definitions.
			a.cfg.Logger.Warn("check from a file has no service", "check", id, "service", c.ServiceID)
			continue
		}
		e := a.putCheckLocked(c, FromFile)
		a.restoreLocked(e)
		gone = append(gone, dropped{check: id})
	}
	for id, e := range a.checks {
		if !e.deleted && !named[id] && a.forgets(e.source) && !isMaintenance(id) {
			a.removeCheckLocked(e)
			gone = append(gone, dropped{check: id})
		}
	}
	a.states = nil // they are of the last run; a second reload has newer ones in memory
	return nil
}

// forgets reports whether a reload drops a definition that no file names.
func (a *Agent) forgets(s Source) bool { return s == FromFile || a.cfg.DataDir == "" }

// adoptOrphansLocked registers the API's checks whose service a file defines.
func (a *Agent) adoptOrphansLocked(named map[string]bool, files map[string]*CheckDefinition) {
	var left []*CheckDefinition
	for _, c := range a.orphans {
		s := a.services[c.ServiceID]
		switch {
		case named[c.ID] || files[c.ID] != nil:
		case s == nil || s.deleted:
			left = append(left, c)
		default:
			a.restoreLocked(a.putCheckLocked(c, FromAPI))
		}
	}
	a.orphans = left
}

func (a *Agent) normalizeFiles(services []*ServiceDefinition, checks []*CheckDefinition) (map[string]*ServiceDefinition, map[string]*CheckDefinition, error) {
	var errs []error
	wantServices := make(map[string]*ServiceDefinition, len(services))
	for _, in := range services {
		d, err := a.normalizeService(in, FromFile)
		if err != nil {
			errs = append(errs, fmt.Errorf("service %q: %w", firstOf(in.ID, in.Name), err))
			continue
		}
		if wantServices[d.ID] != nil {
			a.cfg.Logger.Warn("two services of the files have the same id: the later one counts", "service_id", d.ID)
		}
		wantServices[d.ID] = d
	}
	errs = append(errs, a.addSidecars(wantServices)...)
	wantChecks := make(map[string]*CheckDefinition, len(checks))
	for _, in := range checks {
		c, err := a.normalizeCheck(in, FromFile)
		if err == nil && c.ServiceID != "" && wantServices[c.ServiceID] == nil {
			err = a.serviceExists(c.ServiceID)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("check %q: %w", firstOf(in.ID, in.Name), err))
			continue
		}
		if wantChecks[c.ID] != nil {
			a.cfg.Logger.Warn("two checks of the files have the same id: the later one counts", "check_id", c.ID)
		}
		wantChecks[c.ID] = c
	}
	if err := errors.Join(errs...); err != nil {
		return nil, nil, store.Errorf(store.KindInvalid, "%w", err)
	}
	return wantServices, wantChecks, nil
}

// addSidecars adds the sidecars that services from files ask for.
func (a *Agent) addSidecars(want map[string]*ServiceDefinition) (errs []error) {
	used := make(map[int]bool)
	for _, d := range want {
		used[d.Port] = true
	}
	for _, id := range slices.Sorted(maps.Keys(want)) {
		s, err := sidecarOf(want[id])
		if err == nil && s != nil {
			s, err = a.finishSidecar(s, FromFile, used)
		}
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("service %q: %w", id, err))
		case s != nil && want[s.ID] == nil: // one that is written out wins
			want[s.ID] = s
		}
	}
	return errs
}

func firstOf(x, y string) string {
	if x != "" {
		return x
	}
	return y
}
