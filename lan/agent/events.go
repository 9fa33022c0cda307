package agent

import (
	"log/slog"
	"slices"
	"sync"

	"landbridge/store"
)

// eventsKept is how many user events an agent remembers.
const eventsKept = 256

// Events are the user events that concern this agent: the newest 256 whose
// filters match its name and services. They are not kept over a restart.
type Events struct {
	agent *Agent
	log   *slog.Logger

	mu      sync.Mutex
	list    []*store.UserEvent // oldest first
	seen    map[string]bool    // ids of list
	changed chan struct{}      // closed and replaced when list changes
}

func newEvents(a *Agent) *Events {
	return &Events{agent: a, log: a.cfg.Logger, seen: make(map[string]bool), changed: make(chan struct{})}
}

// Events returns the agent's user events.
func (a *Agent) Events() *Events { return a.events }

// Receive takes an event off the gossip. It returns the event if it is new and
// concerns this agent, else nil.
func (e *Events) Receive(payload []byte, ltime uint64) *store.UserEvent {
	ev := new(store.UserEvent)
	if err := ev.DecodeWire(payload); err != nil {
		e.log.Warn("user event not understood", "err", err)
		e.agent.metrics.events.malformed.Inc()
		return nil
	}
	ev.LTime = ltime
	filter, err := ev.Filter()
	if err != nil {
		e.log.Warn("user event has a bad filter", "event", ev.Name, "err", err)
		e.agent.metrics.events.malformed.Inc()
		return nil
	}
	if !filter.MatchNode(e.agent.cfg.Node) || !filter.AnyService() && !e.agent.anyService(filter.MatchService) {
		e.agent.metrics.events.filtered.Inc()
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.seen[ev.ID] {
		return nil
	}
	if len(e.list) == eventsKept {
		delete(e.seen, e.list[0].ID)
		e.list = slices.Delete(e.list, 0, 1)
	}
	e.list = append(e.list, ev)
	e.seen[ev.ID] = true
	close(e.changed)
	e.changed = make(chan struct{})
	e.agent.metrics.events.kept.Inc()
	return ev
}

// anyService reports whether a service of this agent matches.
func (a *Agent) anyService(match func(name string, tags []string) bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.services {
		if !s.deleted && match(s.record.Name, s.record.Tags) {
			return true
		}
	}
	return false
}

// List returns the events with a name ("" is any), oldest first, and the index of
// the newest of them, 1 if there is none. changed is closed when another event
// comes, of whatever name. The events must not be changed.
func (e *Events) List(name string) (index store.Index, list []*store.UserEvent, changed <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	index = 1
	for _, ev := range e.list {
		if name == "" || ev.Name == name {
			list = append(list, ev)
		}
	}
	if len(list) > 0 {
		index = list[len(list)-1].Index()
	}
	return index, list, e.changed
}
