package state

import (
	"slices"
	"strings"

	"github.com/tidwall/btree"

	"landbridge/store"
)

// table is a set of rows under a primary key: a hash map for points, a B-tree
// for order, prefixes and copies, and any number of indexes. It is guarded by
// Store.mu. Rows are immutable: put replaces.
type table[R any] struct {
	rows    map[string]*R
	tree    btree.Map[string, *R]
	indexes []*index[R]
	max     store.Index // of the last effective change of any row, removals included
	journal *journal
}

// index groups rows by something other than their primary key. A row for which
// by returns false is not in it. Groups are kept in the order of the primary key.
type index[R any] struct {
	by     func(key string, row *R) (group string, ok bool)
	groups map[string][]keyed[R]
}

type keyed[R any] struct {
	key string
	row *R
}

func newTable[R any](j *journal) *table[R] {
	return &table[R]{rows: make(map[string]*R), journal: j}
}

// index adds a secondary index; only to an empty table.
func (t *table[R]) index(by func(key string, row *R) (string, bool)) *index[R] {
	ix := &index[R]{by: by, groups: make(map[string][]keyed[R])}
	t.indexes = append(t.indexes, ix)
	return ix
}

func (t *table[R]) get(key string) *R { return t.rows[key] }

func (t *table[R]) len() int { return len(t.rows) }

// put inserts row or replaces the one under its key. The caller passes the key of
// the old row where it has one, so that map, tree and rows share one string.
func (t *table[R]) put(key string, row *R) {
	old := t.rows[key]
	t.keep(key, old)
	t.rows[key] = row
	t.tree.Set(key, row)
	for _, ix := range t.indexes {
		ix.replace(key, old, row)
	}
}

// remove deletes the row under key and returns it, or nil.
func (t *table[R]) remove(key string) *R {
	old := t.rows[key]
	if old == nil {
		return nil
	}
	t.keep(key, old)
	delete(t.rows, key)
	t.tree.Delete(key)
	for _, ix := range t.indexes {
		ix.replace(key, old, nil)
	}
	return old
}

// keep notes what is under key, which may be nothing, and the table's index
// before they change.
func (t *table[R]) keep(key string, old *R) {
	if !t.journal.open {
		return
	}
	top := t.max
	t.journal.note(func() {
		if old == nil {
			t.remove(key)
		} else {
			t.put(key, old)
		}
		t.max = top
	})
}

func (ix *index[R]) replace(key string, old, row *R) {
	var from, to string
	var was, is bool
	if old != nil {
		from, was = ix.by(key, old)
	}
	if row != nil {
		to, is = ix.by(key, row)
	}
	if was && is && from == to {
		g := ix.groups[to]
		if i, found := find(g, key); found {
			g[i].row = row
		}
		return
	}
	if was {
		g := ix.groups[from]
		if i, found := find(g, key); found {
			g = slices.Delete(g, i, i+1)
		}
		if len(g) == 0 {
			delete(ix.groups, from)
		} else {
			ix.groups[from] = g
		}
	}
	if is {
		g := ix.groups[to]
		i, _ := find(g, key)
		ix.groups[to] = slices.Insert(g, i, keyed[R]{key, row})
	}
}

// group returns the rows of a group in the order of their keys; valid while
// Store.mu is held.
func (ix *index[R]) group(name string) []keyed[R] { return ix.groups[name] }

func find[R any](g []keyed[R], key string) (int, bool) {
	return slices.BinarySearchFunc(g, key, func(k keyed[R], key string) int { return strings.Compare(k.key, key) })
}

// ascend calls fn for the rows whose key has the prefix, in order, until it
// returns false.
func ascend[V any](tree *btree.Map[string, V], prefix string, fn func(key string, v V) bool) {
	ascendFrom(tree, prefix, prefix, fn)
}

// ascendFrom is ascend beginning at the key from, which has the prefix.
func ascendFrom[V any](tree *btree.Map[string, V], from, prefix string, fn func(key string, v V) bool) {
	tree.Ascend(from, func(key string, v V) bool {
		return strings.HasPrefix(key, prefix) && fn(key, v)
	})
}
