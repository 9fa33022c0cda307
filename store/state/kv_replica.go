package state

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tidwall/btree"

	"landbridge/store"
)

// kvLogEvents bounds the log of changed keys.
const kvLogEvents = 100_000

// kvLog says which keys were written or deleted: for other datacenters that copy keys
// of this one. It is in memory only, and begins where the process did, or the last
// restore; every server has it, so that the next leader can go on.
type kvLog struct {
	events []kvEvent   // in order; the first `gone` of them have been dropped
	gone   int         // dropped, and not yet freed
	floor  store.Index // of the last event that is not in it any more
}

type kvEvent struct {
	index store.Index
	key   string
}

func (l *kvLog) add(index store.Index, key string) {
	l.events = append(l.events, kvEvent{index, key})
	if len(l.events)-l.gone <= kvLogEvents {
		return
	}
	l.floor = l.events[l.gone].index
	l.events[l.gone] = kvEvent{}
	if l.gone++; l.gone > kvLogEvents/2 { // amortised: so many came since the last time
		l.events = append(make([]kvEvent, 0, kvLogEvents+kvLogEvents/2+1), l.events[l.gone:]...)
		l.gone = 0
	}
}

// KVRow is a key as it is; nil Entry says that it is not there.
type KVRow struct {
	Key   string
	Entry *store.KVEntry
}

// KVFeed is what happened to the keys of a prefix after a position.
type KVFeed struct {
	Cluster store.Cluster
	// Whole says that the log goes back to the position and knows it.
	Whole bool
	Rows  []KVRow     // that changed, each once
	UpTo  store.Index // the position they lead to
	More  bool        // the limit cut them short
}

// KVView is all keys at one moment.
type KVView struct {
	Cluster store.Cluster
	Index   store.Index
	tree    *btree.Map[string, *store.KVEntry]
}

// KVView returns the keys as they are now. Its cost does not depend on how many there are.
func (s *Store) KVView() *KVView {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.copyMu.Lock()
	defer s.copyMu.Unlock()
	return &KVView{Cluster: s.cluster, Index: s.index, tree: s.kv.tree.Copy()}
}

// Get returns a key's entry, nil if there is none.
func (v *KVView) Get(key string) *store.KVEntry {
	e, _ := v.tree.Get(key)
	return e
}

// Scan calls each for the entries of a prefix, in the order of their keys.
func (v *KVView) Scan(prefix string, each func(e *store.KVEntry)) {
	ascend(v.tree, prefix, func(_ string, e *store.KVEntry) bool {
		each(e)
		return true
	})
}

// KVFeed returns what changed below a prefix after a position, at most about limit
// keys, as of one moment: that of the view, if there is one, else now. The watch waits
// for the next change there.
func (s *Store) KVFeed(w *Watch, prefix string, after store.Index, limit int, v *KVView) KVFeed {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.watch(w, watchPrefix, prefix)
	f := KVFeed{Cluster: s.cluster, UpTo: s.index}
	get := s.kv.get
	if v != nil {
		f.UpTo, get = v.Index, v.Get
	}
	l := &s.kvLog
	if after < l.floor || after > s.index {
		return f
	}
	f.Whole = true
	from, _ := slices.BinarySearchFunc(l.events[l.gone:], after+1, func(e kvEvent, at store.Index) int {
		switch {
		case e.index < at:
			return -1
		case e.index > at:
			return 1
		}
		return 0
	})
	seen := make(map[string]bool)
	last := store.Index(0)
	for _, e := range l.events[l.gone+from:] {
		if e.index > f.UpTo {
			break
		}
		if len(f.Rows) >= limit && e.index != last { // never a part of one command's
			f.UpTo, f.More = last, true
			break
		}
		last = e.index
		if strings.HasPrefix(e.key, prefix) && !seen[e.key] {
			seen[e.key] = true
			f.Rows = append(f.Rows, KVRow{e.key, get(e.key)})
		}
	}
	return f
}

// KVReplica returns how far what is copied under a name is here; the zero value if
// nothing was.
func (s *Store) KVReplica(of string) store.KVReplica {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.kvReplicas[of]
}

// applyKVReplicate makes all changes of a command, or none.
func (s *Store) applyKVReplicate(c *store.KVReplicateCommand) (bool, *store.Error) {
	have := s.kvReplicas[c.Of]
	if c.Of == "" || c.Replica.Version != have.Version {
		return false, store.Errorf(store.KindNoLeader, "the state of key replication is at version %d, not %d: another leader has taken over", have.Version, c.Replica.Version)
	}
	for i := range c.Changes {
		if c.Changes[i].Key == "" {
			return false, store.Errorf(store.KindInvalid, "Must provide key")
		}
	}
	for i := range c.Changes {
		ch := &c.Changes[i]
		old := s.kv.get(ch.Key)
		switch {
		case !ch.Delete:
			s.kvSet(old, &store.KVEntry{Key: ch.Key, Value: ch.Value, Flags: ch.Flags})
		case old != nil:
			s.kvDelete(old)
		}
	}
	r := c.Replica
	r.Version++
	if r.Fence == "" {
		r.FencedAt = time.Time{}
	} else if r.FencedAt.IsZero() {
		r.FencedAt = time.Unix(0, s.now).UTC()
	}
	// A new map: snapshots hold the old one.
	s.kvReplicas = maps.Clone(s.kvReplicas)
	if s.kvReplicas == nil {
		s.kvReplicas = make(map[string]store.KVReplica)
	}
	s.kvReplicas[c.Of] = r
	return true, nil
}

func encodeKVReplicas(e *encoder, m map[string]store.KVReplica) {
	for _, of := range slices.Sorted(maps.Keys(m)) {
		e.add(recordKVReplica, func(b []byte) []byte {
			c := store.KVReplicateCommand{Of: of, Replica: m[of]}
			return c.AppendWire(b)
		})
	}
}

func (im *Image) addKVReplica(record []byte) error {
	var c store.KVReplicateCommand
	if err := c.DecodeWire(record); err != nil {
		return err
	}
	if im.kvReplicas == nil {
		im.kvReplicas = make(map[string]store.KVReplica)
	}
	im.kvReplicas[c.Of] = c.Replica
	return nil
}
