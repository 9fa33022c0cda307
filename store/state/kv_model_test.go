package state

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"landbridge/store"
)

// kvModel is the key/value store as a map.
type kvModel struct {
	rows  map[string]kvRow
	index store.Index // of the last command
	max   store.Index // of the last change
}

type kvRow struct {
	value         string
	flags         uint64
	create, modif store.Index
}

// apply returns what the command should answer and the keys it changes.
func (m *kvModel) apply(c *store.KVCommand) (ok bool, changed []string) {
	m.index++
	k, in := c.Entry.Key, &c.Entry
	old, have := m.rows[k]
	set := func() (bool, []string) {
		if have && old.value == string(in.Value) && old.flags == in.Flags {
			return true, nil
		}
		row := kvRow{string(in.Value), in.Flags, m.index, m.index}
		if have {
			row.create = old.create
		}
		m.rows[k] = row
		return true, []string{k}
	}
	switch c.Op {
	case store.KVSet:
		ok, changed = set()
	case store.KVCAS:
		if have && in.ModifyIndex == old.modif || !have && in.ModifyIndex == 0 {
			ok, changed = set()
		}
	case store.KVDelete, store.KVDeleteCAS:
		ok = true
		if have {
			if ok = c.Op == store.KVDelete || in.ModifyIndex == old.modif; ok {
				delete(m.rows, k)
				changed = []string{k}
			}
		}
	case store.KVDeleteAll:
		ok = true
		for key := range m.rows {
			if strings.HasPrefix(key, k) {
				delete(m.rows, key)
				changed = append(changed, key)
			}
		}
	}
	if len(changed) > 0 {
		m.max = m.index
	}
	return ok, changed
}

func (m *kvModel) under(prefix string) []string {
	var keys []string
	for k := range m.rows {
		if strings.HasPrefix(k, prefix) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

var (
	modelKeys     = []string{"a", "a/", "a/b", "a/b/c", "a/c", "ab", "b", "b/b", "\xff", "a/b/d"}
	modelPrefixes = []string{"", "a", "a/", "a/b", "b/", "zz", "\xff"}
)

func genKVCommand(t *rapid.T, m *kvModel) *store.KVCommand {
	c := &store.KVCommand{
		Op: rapid.SampledFrom([]store.KVOp{store.KVSet, store.KVSet, store.KVSet, store.KVCAS, store.KVDelete, store.KVDeleteCAS, store.KVDeleteAll}).Draw(t, "op"),
		Entry: store.KVEntry{
			Key:   rapid.SampledFrom(modelKeys).Draw(t, "key"),
			Flags: rapid.Uint64Range(0, 1).Draw(t, "flags"),
		},
	}
	if v := rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "value"); v != "" {
		c.Entry.Value = []byte(v)
	}
	switch c.Op {
	case store.KVCAS, store.KVDeleteCAS:
		c.Entry.ModifyIndex = rapid.SampledFrom([]store.Index{0, m.rows[c.Entry.Key].modif, m.rows[c.Entry.Key].modif, m.index}).Draw(t, "cas")
	case store.KVDeleteAll:
		c.Entry.Key = rapid.SampledFrom(modelPrefixes).Draw(t, "prefix")
	}
	return c
}

// The store must answer like the map, its indexes must never go down and must
// rise with each change of an answer, and a watch must fire exactly when what it
// has read changes.
func TestKVModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := New()
		m := &kvModel{rows: make(map[string]kvRow), index: firstIndex}
		last := make(map[string]store.Index)
		step := func(t *rapid.T, batch int) {
			watches := make(map[string]*Watch)
			for _, k := range modelKeys {
				watches["key "+k] = s.NewWatch()
				s.KVGet(watches["key "+k], k)
			}
			for _, p := range modelPrefixes {
				watches["prefix "+p] = s.NewWatch()
				s.KVList(watches["prefix "+p], p)
				s.KVKeys(watches["prefix "+p], p, "/") // registers twice
			}
			var cmds []store.Command
			var oks []bool
			changed := make(map[string]bool)
			for range batch {
				c := genKVCommand(t, m)
				ok, keys := m.apply(c)
				cmds, oks = append(cmds, command(store.CmdKV, c)), append(oks, ok)
				for _, k := range keys {
					changed[k] = true
				}
			}
			results := make([]store.Result, len(cmds))
			s.Apply(cmds, results)
			for i, r := range results {
				if r.OK != oks[i] || r.Err != nil || r.Index != m.index-store.Index(batch-1-i) {
					t.Fatalf("command %d: got %+v, want OK %v", i, r, oks[i])
				}
			}
			for name, w := range watches {
				kind, arg, _ := strings.Cut(name, " ")
				want := kind == "key" && changed[arg]
				for k := range changed {
					want = want || kind == "prefix" && strings.HasPrefix(k, arg)
				}
				if got := fired(w); got != want {
					t.Fatalf("watch of %q: fired %v, want %v (changed %q)", name, got, want, slices.Collect(maps.Keys(changed)))
				}
				if fired(w) {
					t.Fatalf("watch of %q fired twice", name)
				}
				w.Close()
			}
			for name := range watches {
				kind, arg, _ := strings.Cut(name, " ")
				if kind == "key" {
					last[name] = m.checkGet(t, s, arg, last[name])
				} else {
					last[name] = m.checkList(t, s, arg, last[name], changed)
				}
			}
			if n := s.Counts().Watches; n != 0 {
				t.Fatalf("%d registrations left", n)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"one":   func(t *rapid.T) { step(t, 1) },
			"batch": func(t *rapid.T) { step(t, rapid.IntRange(2, 5).Draw(t, "n")) },
			"reap": func(t *rapid.T) {
				s.Reap(rapid.SampledFrom([]store.Index{m.index, m.index / 2}).Draw(t, "up to"))
				step(t, 0)
			},
			"restart": func(t *rapid.T) {
				s = copyOf(t, s)
				step(t, 0)
			},
		})
	})
}

func (m *kvModel) checkGet(t *rapid.T, s *Store, key string, last store.Index) store.Index {
	idx, e := s.KVGet(nil, key)
	row, have := m.rows[key]
	if (e != nil) != have {
		t.Fatalf("%q: got %v, want there %v", key, e, have)
	}
	want := max(m.max, firstIndex)
	if have {
		want = row.modif
		if e.Key != key || string(e.Value) != row.value || e.Flags != row.flags || e.CreateIndex != row.create || e.ModifyIndex != row.modif {
			t.Fatalf("%q: got %s, want %+v", key, e.JSON(), row)
		}
	}
	if idx != want || idx < last {
		t.Fatalf("index of %q: %d, want %d, last time %d", key, idx, want, last)
	}
	return idx
}

func (m *kvModel) checkList(t *rapid.T, s *Store, prefix string, last store.Index, changed map[string]bool) store.Index {
	idx, list := s.KVList(nil, prefix)
	var got []string
	newest := store.Index(0)
	for _, e := range list {
		got = append(got, e.Key)
		newest = max(newest, e.ModifyIndex)
		if row := m.rows[e.Key]; !bytes.Equal(e.Value, []byte(row.value)) || e.ModifyIndex != row.modif {
			t.Fatalf("list of %q: %s, want %+v", prefix, e.JSON(), row)
		}
	}
	want := m.under(prefix)
	if !slices.Equal(got, want) {
		t.Fatalf("list of %q: %q, want %q", prefix, got, want)
	}
	for k := range changed {
		if strings.HasPrefix(k, prefix) && idx <= last {
			t.Fatalf("%q changed, but the index of %q went from %d to %d", k, prefix, last, idx)
		}
	}
	if idx < last || idx < newest || idx > max(m.max, firstIndex) || prefix == "" && idx != max(m.max, firstIndex) {
		t.Fatalf("index of %q: %d; last time %d, newest entry %d, table %d", prefix, idx, last, newest, m.max)
	}
	idx2, keys := s.KVKeys(nil, prefix, "/")
	cut := want[:0:0]
	for _, k := range want {
		if i := strings.Index(k[len(prefix):], "/"); i >= 0 {
			k = k[:len(prefix)+i+1]
		}
		if !slices.Contains(cut, k) {
			cut = append(cut, k)
		}
	}
	if !slices.Equal(keys, cut) || idx2 != idx {
		t.Fatalf("keys of %q: %q (index %d), want %q (index %d)", prefix, keys, idx2, cut, idx)
	}
	return idx
}
