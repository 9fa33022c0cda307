package state

import (
	"bytes"
	"strings"

	"github.com/tidwall/btree"

	"landbridge/store"
)

// longScan is how many rows a reader walks while holding the lock; the rest of a
// longer list is read from a copy-on-write copy of the tree.
const longScan = 4096

// kvTable is the key/value store.
type kvTable struct {
	table[store.KVEntry]
	tombs     tombstones
	bySession *index[store.KVEntry] // locked keys
}

func newKVTable(j *journal) *kvTable {
	t := &kvTable{table: *newTable[store.KVEntry](j), tombs: tombstones{journal: j}}
	t.bySession = t.index(func(_ string, e *store.KVEntry) (string, bool) { return e.Session, e.Session != "" })
	return t
}

// KVGet returns the entry under key, or nil. Its index is the entry's, or that of
// the table for a missing key. Woken by changes of that key only.
func (s *Store) KVGet(w *Watch, key string) (store.Index, *store.KVEntry) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.watch(w, watchKey, key)
	e := s.kv.get(key)
	if e == nil {
		return atLeastOne(s.kv.max), nil
	}
	return e.ModifyIndex, e
}

// KVList returns the entries whose key has the prefix, in the order of key bytes.
func (s *Store) KVList(w *Watch, prefix string) (store.Index, []*store.KVEntry) {
	var list []*store.KVEntry
	idx := s.kvScan(w, prefix, func(e *store.KVEntry) { list = append(list, e) })
	return idx, list
}

// KVKeys returns the keys that have the prefix, each cut after the first
// separator that follows the prefix, without repetition.
func (s *Store) KVKeys(w *Watch, prefix, separator string) (store.Index, []string) {
	var keys []string
	idx := s.kvScan(w, prefix, func(e *store.KVEntry) {
		key := e.Key
		if separator != "" {
			if i := strings.Index(key[len(prefix):], separator); i >= 0 {
				key = key[:len(prefix)+i+len(separator)]
			}
		}
		// Keys that are cut alike follow each other.
		if len(keys) == 0 || keys[len(keys)-1] != key {
			keys = append(keys, key)
		}
	})
	return idx, keys
}

// kvScan calls take for each entry under the prefix and returns the index of the
// list: the highest of its entries and deletions, or the table's for an empty
// prefix or list.
func (s *Store) kvScan(w *Watch, prefix string, take func(*store.KVEntry)) store.Index {
	s.mu.RLock()
	s.watch(w, watchPrefix, prefix)
	tableMax := s.kv.max
	idx := s.kv.tombs.index(prefix)
	n := 0
	var rest string
	var long bool
	visit := func(_ string, e *store.KVEntry) bool {
		n++
		idx = max(idx, e.ModifyIndex)
		take(e)
		return true
	}
	ascend(&s.kv.tree, prefix, func(key string, e *store.KVEntry) bool {
		if n == longScan {
			rest, long = key, true
			return false
		}
		return visit(key, e)
	})
	if long {
		s.copyMu.Lock()
		tree := s.kv.tree.Copy()
		s.copyMu.Unlock()
		s.mu.RUnlock()
		ascendFrom(tree, rest, prefix, visit)
	} else {
		s.mu.RUnlock()
	}
	if prefix == "" || n == 0 {
		idx = tableMax
	}
	return atLeastOne(idx)
}

func (s *Store) applyKV(c *store.KVCommand) (bool, *store.Error) {
	in := &c.Entry
	if in.Key == "" && c.Op != store.KVDeleteAll {
		return false, store.Errorf(store.KindInvalid, "Must provide key")
	}
	old := s.kv.get(in.Key)
	switch c.Op {
	case store.KVSet:
		s.kvSet(old, in)
		return true, nil
	case store.KVCAS:
		var have store.Index
		if old != nil {
			have = old.ModifyIndex
		}
		if in.ModifyIndex != have {
			return false, nil
		}
		s.kvSet(old, in)
		return true, nil
	case store.KVDelete:
		if old != nil {
			s.kvDelete(old)
		}
		return true, nil
	case store.KVDeleteCAS:
		if old == nil {
			return true, nil
		}
		if in.ModifyIndex != old.ModifyIndex {
			return false, nil
		}
		s.kvDelete(old)
		return true, nil
	case store.KVDeleteAll:
		var gone []*store.KVEntry
		ascend(&s.kv.tree, in.Key, func(_ string, e *store.KVEntry) bool {
			gone = append(gone, e)
			return true
		})
		for _, e := range gone {
			s.kvDelete(e)
		}
		return true, nil
	case store.KVLock:
		why, err := s.lockRefused(old, in)
		if why != lockGranted || err != nil {
			return false, err
		}
		s.kvLock(old, in)
		return true, nil
	case store.KVUnlock:
		if refused, err := s.unlockRefused(old, in); refused || err != nil {
			return false, err
		}
		s.kvUnlock(old, in)
		return true, nil
	}
	return false, store.Errorf(store.KindInvalid, "unknown key/value operation %d", c.Op)
}

// kvSet writes in's value and flags under its key. The lock is kept.
func (s *Store) kvSet(old, in *store.KVEntry) {
	// A row of its own: in is reused for the next command.
	row := &store.KVEntry{Key: in.Key, Value: in.Value, Flags: in.Flags}
	if old != nil {
		row.Session, row.LockIndex = old.Session, old.LockIndex
	}
	s.kvWrite(old, row)
}

// kvWrite puts row, which becomes the store's, in the place of old, or is its
// key's first. A row that says the same changes nothing.
func (s *Store) kvWrite(old, row *store.KVEntry) {
	row.CreateIndex, row.ModifyIndex = s.index, s.index
	if old != nil {
		if old.Flags == row.Flags && old.Session == row.Session && old.LockIndex == row.LockIndex && bytes.Equal(old.Value, row.Value) {
			return
		}
		row.Key, row.CreateIndex = old.Key, old.CreateIndex
	} else {
		s.kv.tombs.revive(row.Key)
	}
	s.kv.put(row.Key, row)
	s.kv.max = s.index
	s.kvLog.add(s.index, row.Key)
	s.change(watchKey, row.Key)
}

func (s *Store) kvDelete(old *store.KVEntry) {
	s.kv.remove(old.Key)
	s.kv.tombs.bury(old.Key, s.index)
	s.kv.max = s.index
	s.kvLog.add(s.index, old.Key)
	s.change(watchKey, old.Key)
}

// tombstones remember the index at which a key was deleted, so that the index of
// a prefix does not go backwards when its newest entry goes.
type tombstones struct {
	btree.Map[string, store.Index]
	queue []tombstone // in the order of deletion; revived ones stay until reaped
	// floor is the highest index of a reaped tombstone. Every prefix that still
	// has entries answers at least with it: coarser than the tombstones were, but
	// never backwards.
	floor   store.Index
	journal *journal
}

type tombstone struct {
	key   string
	index store.Index
}

func (t *tombstones) bury(key string, at store.Index) {
	old, had := t.Set(key, at)
	if t.journal.open {
		t.journal.note(func() {
			t.queue = t.queue[:len(t.queue)-1] // nothing else appends between
			if had {
				t.Set(key, old)
			} else {
				t.Delete(key)
			}
		})
	}
	t.queue = append(t.queue, tombstone{key, at})
}

// revive forgets the tombstone of a key that is written again: the entry's own
// index is higher.
func (t *tombstones) revive(key string) {
	if t.Len() == 0 {
		return
	}
	old, had := t.Delete(key)
	if had && t.journal.open {
		t.journal.note(func() { t.Set(key, old) })
	}
}

func (t *tombstones) index(prefix string) store.Index {
	idx := t.floor
	ascend(&t.Map, prefix, func(_ string, at store.Index) bool {
		idx = max(idx, at)
		return true
	})
	return idx
}

// reap drops up to limit tombstones that are not newer than upTo and reports
// whether some are left.
func (t *tombstones) reap(upTo store.Index, limit int) bool {
	n := 0
	for n < len(t.queue) && n < limit && t.queue[n].index <= upTo {
		dead := t.queue[n]
		if at, ok := t.Get(dead.key); ok && at == dead.index {
			t.Delete(dead.key)
			t.floor = max(t.floor, dead.index)
		}
		n++
	}
	clear(t.queue[:n]) // let go of the keys before the slice moves
	t.queue = t.queue[n:]
	if len(t.queue) == 0 {
		t.queue = nil
		return false
	}
	return n == limit && t.queue[0].index <= upTo
}
