package state

import (
	"slices"
	"sync"
	"sync/atomic"
)

type watchKind uint8

const (
	watchKey           watchKind = iota // one key of the key/value store
	watchPrefix                         // keys with a prefix
	watchNodes                          // the nodes table
	watchNode                           // a node and its services
	watchNodeChecks                     // all checks of a node
	watchServices                       // the services table
	watchService                        // instances of a service and their nodes
	watchHealth                         // these and their checks
	watchConnect                        // instances that speak for a service in the mesh, with checks
	watchServiceChecks                  // checks of a service
	watchStatus                         // checks that have, get or lose a status
	watchChecks                         // the checks table
	watchTrust
	watchAutopilot
	watchSessions    // the sessions table
	watchSession     // one session
	watchNodeSession // sessions of a node
	watchCoordinates // the coordinates table
	watchQueries     // the prepared queries table
	watchQuery       // one prepared query
	watchACL         // any ACL record
	watchACLTable    // the records of one kind, by its name
	watchACLRow      // one ACL record: aclTopic
)

// topic is what a watch waits for and what a change is about.
type topic struct {
	kind watchKind
	name string // lower case where names are compared so
}

// Watch is one reader's wait for changes of what it has read. Reads register it;
// the first change fires it, which ends all its registrations, so a reader reads
// again with the same Watch after each wake-up. Close frees it.
type Watch struct {
	registry *registry
	ch       chan struct{}

	// Guarded by registry.mu. A Watch mostly waits for one or two topics.
	used   int
	inline [2]registration
	more   []*registration
}

type registration struct {
	watch      *Watch
	list       *waiters
	prev, next *registration
}

type waiters struct {
	topic topic
	head  *registration
}

// C receives after a change of something read; wake-ups are coalesced.
func (w *Watch) C() <-chan struct{} { return w.ch }

// Close ends all registrations. It may be called more than once, and while the
// store fires the watch.
func (w *Watch) Close() {
	w.registry.mu.Lock()
	w.registry.forget(w)
	w.registry.mu.Unlock()
}

// registry knows who waits for what.
type registry struct {
	mu       sync.Mutex
	lists    map[topic]*waiters
	prefixes []prefixLength // lengths of watched prefixes, ascending

	// registered counts registrations. It only grows while Store.mu is held for
	// reading, so Apply may skip collecting topics when it is 0.
	registered atomic.Int64
}

// prefixLength counts the watched prefixes of a length: a changed key is looked
// up once per length in use, however many prefixes are watched.
type prefixLength struct{ length, lists int }

func newRegistry() *registry { return &registry{lists: make(map[topic]*waiters)} }

func (r *registry) newWatch() *Watch {
	return &Watch{registry: r, ch: make(chan struct{}, 1)}
}

// add registers w for t. The caller holds Store.mu for reading. A nil w is a
// reader that does not wait.
func (r *registry) add(w *Watch, t topic) {
	if w == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.lists[t]
	if list == nil {
		list = &waiters{topic: t}
		r.lists[t] = list
		if t.kind == watchPrefix {
			r.countPrefix(len(t.name), 1)
		}
	} else if w.has(list) {
		return
	}
	var reg *registration
	if w.used < len(w.inline) {
		reg = &w.inline[w.used]
		w.used++
	} else {
		reg = new(registration)
		w.more = append(w.more, reg)
	}
	*reg = registration{watch: w, list: list, next: list.head}
	if list.head != nil {
		list.head.prev = reg
	}
	list.head = reg
	r.registered.Add(1)
}

func (w *Watch) has(list *waiters) bool {
	for i := range w.used {
		if w.inline[i].list == list {
			return true
		}
	}
	return slices.ContainsFunc(w.more, func(reg *registration) bool { return reg.list == list })
}

// forget ends w's registrations; r.mu is held.
func (r *registry) forget(w *Watch) {
	for i := range w.used {
		r.unlink(&w.inline[i])
	}
	for _, reg := range w.more {
		r.unlink(reg)
	}
	w.used, w.more = 0, nil
}

func (r *registry) unlink(reg *registration) {
	list := reg.list
	if reg.prev != nil {
		reg.prev.next = reg.next
	} else {
		list.head = reg.next
	}
	if reg.next != nil {
		reg.next.prev = reg.prev
	}
	*reg = registration{}
	r.registered.Add(-1)
	if list.head == nil {
		delete(r.lists, list.topic)
		if list.topic.kind == watchPrefix {
			r.countPrefix(len(list.topic.name), -1)
		}
	}
}

func (r *registry) countPrefix(length, delta int) {
	i, found := slices.BinarySearchFunc(r.prefixes, length, func(p prefixLength, n int) int { return p.length - n })
	if !found {
		r.prefixes = slices.Insert(r.prefixes, i, prefixLength{length: length})
	}
	if r.prefixes[i].lists += delta; r.prefixes[i].lists == 0 {
		r.prefixes = slices.Delete(r.prefixes, i, i+1)
	}
}

// due returns the watches that wait for any of the topics, each once, and ends
// their registrations. The caller holds Store.mu, so that no reader of the new
// state is among them, and wakes them after releasing it.
func (r *registry) due(changed []topic) []*Watch {
	if len(changed) == 0 || r.registered.Load() == 0 {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var due []*Watch
	for _, t := range changed {
		due = r.take(due, t)
		if t.kind != watchKey {
			continue
		}
		for i := 0; i < len(r.prefixes) && r.prefixes[i].length <= len(t.name); {
			n := r.prefixes[i].length
			due = r.take(due, topic{watchPrefix, t.name[:n]})
			// Taking the last list of this length removed the element.
			if i < len(r.prefixes) && r.prefixes[i].length == n {
				i++
			}
		}
	}
	return due
}

func (r *registry) take(due []*Watch, t topic) []*Watch {
	list := r.lists[t]
	if list == nil {
		return due
	}
	for list.head != nil {
		w := list.head.watch
		due = append(due, w)
		r.forget(w)
	}
	return due
}

// all returns every watch and ends all registrations.
func (r *registry) all() []*Watch {
	r.mu.Lock()
	defer r.mu.Unlock()
	var due []*Watch
	for _, list := range r.lists {
		for list.head != nil {
			w := list.head.watch
			due = append(due, w)
			r.forget(w)
		}
	}
	return due
}

func wake(due []*Watch) {
	for _, w := range due {
		select {
		case w.ch <- struct{}{}:
		default: // it has not taken the last one yet, and will read again
		}
	}
}
