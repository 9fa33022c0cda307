package agent

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"landbridge/lan/agent/check"
	"landbridge/store"
)

// Agent owns the services and checks of this machine.
type Agent struct {
	cfg     Config
	metrics *metrics
	disk    disk
	events  *Events
	scripts check.Slots
	ticks   ticks

	discardOutput atomic.Bool
	asked         chan struct{} // read by the loop of Run, see Alive

	// edit serialises changes of definitions, so that files and memory change in
	// the same order; files are renamed and removed under it, and synced outside.
	// Taken before mu, never after.
	edit sync.Mutex

	// mu guards all below. It is never held across I/O or a call.
	mu       sync.Mutex
	services map[string]*serviceEntry
	checks   map[string]*checkEntry
	// clock counts edits and completed pushes; versions are its values.
	clock uint64
	// changed is closed and replaced whenever a service changes, for WaitService.
	changed chan struct{}
	sync    syncState
	runner  runnerState
	// orphans are checks of the API whose service no API call registered: a
	// configuration file may. states are the saved states of TTL checks.
	orphans []*CheckDefinition
	states  map[string]savedState
	aliases aliasState
}

// entry is how far an item is synchronised. It is dirty while pushed != version.
type entry struct {
	version uint64 // clock at the last edit
	pushed  uint64 // the version the catalog holds for sure, 0 if unknown
	touched uint64 // clock at the last edit or completed push
	busy    bool   // a push that carries it is under way
	deleted bool   // gone here; the entry stays until the catalog knows
	// settled: the catalog refused this version; it is left alone until the next
	// full sync.
	settled bool
	waiters []*waiter
}

func (e *entry) dirty() bool { return e.pushed != e.version }

type serviceEntry struct {
	entry
	def    *ServiceDefinition // normalised
	source Source
	record *store.Service // replaced, never changed
	view   *Service       // the same, as shown
}

type checkEntry struct {
	entry
	def    *CheckDefinition // normalised
	source Source
	record *store.Check // replaced, never changed
	run    *checkRun
	// home is the service the catalog's record of it belongs to, if known: only
	// then does deregistering that service remove it.
	home  string
	known bool
	// deferred is until when an output-only change waits, zero if none does.
	deferred time.Time
	// criticalSince is when it last turned critical, zero while it is not.
	criticalSince time.Time
}

// New makes an agent and loads the definitions that the API registered before
// a restart. A file that cannot be read is logged and left alone.
func New(cfg Config) (*Agent, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.setDefaults()
	a := &Agent{
		asked:    make(chan struct{}),
		cfg:      cfg,
		metrics:  newMetrics(cfg.Registerer),
		services: make(map[string]*serviceEntry),
		checks:   make(map[string]*checkEntry),
		changed:  make(chan struct{}),
		scripts:  make(check.Slots, maxScripts),
		ticks:    ticks{jitter(tick)},
	}
	a.disk.init(cfg.DataDir)
	a.events = newEvents(a)
	a.sync.init()
	a.aliases.init()
	a.discardOutput.Store(cfg.DiscardCheckOutput)
	if err := a.load(); err != nil {
		return nil, err
	}
	return a, nil
}

// Services returns all local services by id.
func (a *Agent) Services() map[string]*Service {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make(map[string]*Service, len(a.services))
	for id, e := range a.services {
		if !e.deleted {
			out[id] = e.view
		}
	}
	return out
}

// Service returns a local service with its content hash, or a KindNotFound error.
func (a *Agent) Service(id string) (*Service, error) {
	s, _, err := a.service(id)
	return s, err
}

func (a *Agent) service(id string) (*Service, <-chan struct{}, error) {
	a.mu.Lock()
	e, changed := a.services[id], a.changed
	var v *Service
	if e != nil && !e.deleted {
		v = e.view
	}
	a.mu.Unlock()
	if v == nil {
		return nil, nil, store.Errorf(store.KindNotFound, "unknown service ID: %s", id)
	}
	return v.WithHash(), changed, nil
}

// WaitService returns the service once its content hash differs from hash, or
// as it is when ctx ends. It is a KindNotFound error if there is none, or none
// any more.
func (a *Agent) WaitService(ctx context.Context, id, hash string) (*Service, error) {
	for {
		s, changed, err := a.service(id)
		if err != nil || s.ContentHash != hash {
			return s, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return s, nil
		}
	}
}

// Checks returns all local checks by id. Their indexes are 0.
func (a *Agent) Checks() map[string]*store.Check {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make(map[string]*store.Check, len(a.checks))
	for id, e := range a.checks {
		if !e.deleted {
			out[id] = e.record
		}
	}
	return out
}

// CheckService returns the service a local check belongs to ("" for the node's
// own), or a KindNotFound error: what access to a check is decided by.
func (a *Agent) CheckService(id string) (serviceID, serviceName string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e := a.checks[id]
	if e == nil || e.deleted {
		return "", "", unknownCheck(id)
	}
	return e.record.ServiceID, e.record.ServiceName, nil
}

// ServiceHealthByName returns the instances of a service on this node, by id,
// and the worst of their statuses; none and "" if there is none.
func (a *Agent) ServiceHealthByName(name string) (string, []ServiceHealth) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []ServiceHealth
	status := ""
	for _, e := range a.services {
		if e.deleted || !strings.EqualFold(e.record.Name, name) {
			continue
		}
		h := a.healthLocked(e)
		if status == "" || severity(h.AggregatedStatus) > severity(status) {
			status = h.AggregatedStatus
		}
		out = append(out, h)
	}
	slices.SortFunc(out, func(x, y ServiceHealth) int { return cmp.Compare(x.Service.ID, y.Service.ID) })
	return status, out
}

// ServiceHealthByID returns one instance, false if there is none.
func (a *Agent) ServiceHealthByID(id string) (ServiceHealth, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e := a.services[id]
	if e == nil || e.deleted {
		return ServiceHealth{}, false
	}
	return a.healthLocked(e), true
}

func (a *Agent) healthLocked(e *serviceEntry) ServiceHealth {
	checks := []*store.Check{}
	for _, c := range a.checks {
		if !c.deleted && (c.record.ServiceID == "" || c.record.ServiceID == e.record.ID) {
			checks = append(checks, c.record)
		}
	}
	slices.SortFunc(checks, func(x, y *store.Check) int { return cmp.Compare(x.CheckID, y.CheckID) })
	return ServiceHealth{AggregatedStatus: worst(checks), Service: e.view, Checks: checks}
}

// Stats are the numbers of agent/self, all as text.
func (a *Agent) Stats() map[string]string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var services, checks, ttls, monitors int
	for _, e := range a.services {
		if !e.deleted {
			services++
		}
	}
	for _, e := range a.checks {
		if e.deleted {
			continue
		}
		checks++
		switch e.record.Type {
		case "ttl":
			ttls++
		case "script":
			monitors++
		}
	}
	return map[string]string{
		"services":       strconv.Itoa(services),
		"checks":         strconv.Itoa(checks),
		"check_ttls":     strconv.Itoa(ttls),
		"check_monitors": strconv.Itoa(monitors),
	}
}

// tick advances the clock.
func (a *Agent) tick() uint64 {
	a.clock++
	return a.clock
}

// editLocked notes that an item changed and must be pushed.
func (a *Agent) editLocked(e *entry) {
	e.version = a.tick()
	e.touched = e.version
	e.settled = false
}

func (a *Agent) serviceChangedLocked() {
	close(a.changed)
	a.changed = make(chan struct{})
	a.allAliasesDueLocked()
}

// checksOfLocked returns the live checks of a service ("" for the node's own) by id.
func (a *Agent) checksOfLocked(serviceID string) []*checkEntry {
	var out []*checkEntry
	for _, id := range slices.Sorted(maps.Keys(a.sync.groupChecks(serviceID))) {
		if e := a.checks[id]; e != nil && !e.deleted {
			out = append(out, e)
		}
	}
	return out
}

func unknownService(id string) error {
	return store.Errorf(store.KindNotFound, "Unknown service ID %q. Ensure that the service ID is passed, not the service name.", id)
}

func unknownCheck(id string) error {
	return store.Errorf(store.KindNotFound, "Unknown check ID %q. Ensure that the check ID is passed, not the check name.", id)
}
