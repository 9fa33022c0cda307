package state

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"landbridge/store"
)

// txnModel is keys and catalog as maps. A transaction works on a copy of them,
// which is kept if no operation failed.
type txnModel struct {
	kv  *kvModel
	cat *catalogModel
}

func newTxnModel() *txnModel {
	return &txnModel{&kvModel{rows: make(map[string]kvRow), index: firstIndex}, newCatalogModel()}
}

func (m *txnModel) clone() *txnModel {
	kv := *m.kv
	kv.rows = maps.Clone(kv.rows)
	return &txnModel{&kv, &catalogModel{maps.Clone(m.cat.nodes), maps.Clone(m.cat.services), maps.Clone(m.cat.checks), m.cat.index}}
}

func (r kvRow) entry(key string, value bool) *store.KVEntry {
	e := &store.KVEntry{Key: key, Flags: r.flags, CreateIndex: r.create, ModifyIndex: r.modif}
	if value {
		e.Value = []byte(r.value)
	}
	return e
}

// run returns the answer to a transaction, and the model after it.
func (m *txnModel) run(c *store.TxnCommand) (string, *txnModel) {
	next := m.clone()
	at := m.kv.index + 1
	var results, errs []string
	for i := range c.Ops {
		// All operations have the transaction's index: the models count commands.
		next.kv.index, next.cat.index = at-1, at-1
		shown, what := next.op(&c.Ops[i])
		if what != "" {
			errs = append(errs, fmt.Sprintf(`{"OpIndex":%d,"What":%s}`, i, store.AppendJSONString(nil, what)))
		}
		results = append(results, shown...)
	}
	kept := m
	answer := fmt.Sprintf(`{"Results":[%s],"Errors":null}`, strings.Join(results, ","))
	if len(errs) > 0 {
		answer = fmt.Sprintf(`{"Results":null,"Errors":[%s]}`, strings.Join(errs, ","))
	} else {
		kept = next
	}
	kept.kv.index, kept.cat.index = at, at
	return answer, kept
}

func (m *txnModel) op(op *store.TxnOp) (shown []string, what string) {
	one := func(kind string, row store.JSONRow) []string {
		return []string{fmt.Sprintf(`{"%s":%s}`, kind, row.JSON())}
	}
	verb := op.Verb
	verbing := map[store.TxnVerb]string{store.TxnCAS: "set", store.TxnDeleteCAS: "delete"}[verb]
	switch {
	case op.KV != nil:
		return m.kvOp(verb, op.KV)
	case op.Node != nil:
		key := strings.ToLower(op.Node.Node)
		old := m.cat.nodes[key]
		var have store.Index
		if old != nil {
			have = old.ModifyIndex
		}
		switch {
		case verb == store.TxnGet && old == nil:
			return nil, fmt.Sprintf("node %q doesn't exist", op.Node.Node)
		case verb == store.TxnGet:
		case stale(verb, old != nil, have, op.Node.ModifyIndex):
			return nil, fmt.Sprintf("failed to %s node %q, index is stale", verbing, op.Node.Node)
		case verb == store.TxnDelete || verb == store.TxnDeleteCAS:
			m.cat.deregister(&store.DeregisterCommand{Node: op.Node.Node})
			return nil, ""
		default:
			c := &store.RegisterCommand{Node: store.Node{Node: op.Node.Node, ID: op.Node.ID, Address: op.Node.Address}}
			if err := m.cat.register(c); err != nil {
				return nil, err.Error()
			}
		}
		return one("Node", m.cat.nodes[key]), ""
	case op.Service != nil:
		in := op.Service.Clone()
		id := [2]string{strings.ToLower(in.Node), in.ID}
		old := m.cat.services[id]
		var have store.Index
		if old != nil {
			have = old.ModifyIndex
		}
		switch {
		case verb == store.TxnGet && old == nil:
			return nil, fmt.Sprintf("service %q on node %q doesn't exist", in.ID, in.Node)
		case verb == store.TxnGet:
		case m.cat.nodes[id[0]] == nil && (verb == store.TxnSet || verb == store.TxnCAS):
			return nil, "Missing node registration"
		case stale(verb, old != nil, have, in.ModifyIndex):
			return nil, fmt.Sprintf("failed to %s service %q on node %q, index is stale", verbing, in.ID, in.Node)
		case verb == store.TxnDelete || verb == store.TxnDeleteCAS:
			m.cat.deregister(&store.DeregisterCommand{Node: in.Node, ServiceID: in.ID})
			return nil, ""
		default:
			if err := m.cat.register(&store.RegisterCommand{Node: store.Node{Node: in.Node}, SkipNodeUpdate: true, Service: in}); err != nil {
				return nil, err.Error()
			}
		}
		return one("Service", m.cat.services[id]), ""
	}
	in := op.Check.Clone()
	id := [2]string{strings.ToLower(in.Node), in.CheckID}
	old := m.cat.checks[id]
	var have store.Index
	if old != nil {
		have = old.ModifyIndex
	}
	switch {
	case verb == store.TxnGet && old == nil:
		return nil, fmt.Sprintf("check %q on node %q doesn't exist", in.CheckID, in.Node)
	case verb == store.TxnGet:
	case m.cat.nodes[id[0]] == nil && (verb == store.TxnSet || verb == store.TxnCAS):
		return nil, "Missing node registration"
	case stale(verb, old != nil, have, in.ModifyIndex):
		return nil, fmt.Sprintf("failed to %s check %q on node %q, index is stale", verbing, in.CheckID, in.Node)
	case verb == store.TxnDelete || verb == store.TxnDeleteCAS:
		m.cat.deregister(&store.DeregisterCommand{Node: in.Node, CheckID: in.CheckID})
		return nil, ""
	default:
		if err := m.cat.register(&store.RegisterCommand{Node: store.Node{Node: in.Node}, SkipNodeUpdate: true, Checks: []*store.Check{in}}); err != nil {
			return nil, err.Error()
		}
	}
	return one("Check", m.cat.checks[id]), ""
}

func (m *txnModel) kvOp(verb store.TxnVerb, in *store.KVEntry) (shown []string, what string) {
	show := func(e *store.KVEntry) { shown = append(shown, fmt.Sprintf(`{"KV":%s}`, e.JSON())) }
	row, have := m.kv.rows[in.Key]
	if op, writes := kvOps[verb]; writes {
		ok, _ := m.kv.apply(&store.KVCommand{Op: op, Entry: store.KVEntry{Key: in.Key, Value: in.Value, Flags: in.Flags, ModifyIndex: in.ModifyIndex}})
		switch {
		case ok && (verb == store.TxnSet || verb == store.TxnCAS):
			show(m.kv.rows[in.Key].entry(in.Key, false))
		case !ok && verb == store.TxnCAS:
			return nil, fmt.Sprintf("failed to set key %q, index is stale", in.Key)
		case !ok:
			return nil, fmt.Sprintf("failed to delete key %q, index is stale", in.Key)
		}
		return shown, ""
	}
	switch {
	case verb == store.TxnGetTree:
		for _, k := range m.kv.under(in.Key) {
			show(m.kv.rows[k].entry(k, true))
		}
	case verb == store.TxnCheckNotExists:
		if have {
			return nil, fmt.Sprintf("key %q exists", in.Key)
		}
	case verb == store.TxnGetOrEmpty:
		show(row.entry(in.Key, true))
	case !have:
		return nil, fmt.Sprintf("key %q doesn't exist", in.Key)
	case verb == store.TxnCheckIndex && row.modif != in.ModifyIndex:
		return nil, fmt.Sprintf("failed index check for key %q, current modify index %d != %d", in.Key, row.modif, in.ModifyIndex)
	case verb == store.TxnCheckSession && in.Session != "":
		return nil, fmt.Sprintf(`failed session check for key %q, current session "" != %q`, in.Key, in.Session)
	default:
		show(row.entry(in.Key, verb == store.TxnGet))
	}
	return shown, ""
}

var (
	kvVerbs = []store.TxnVerb{store.TxnSet, store.TxnSet, store.TxnSet, store.TxnCAS, store.TxnCAS, store.TxnGetOrEmpty, store.TxnGetTree,
		store.TxnDelete, store.TxnDeleteCAS, store.TxnDeleteTree, store.TxnGet, store.TxnCheckIndex, store.TxnCheckSession, store.TxnCheckNotExists}
	catalogVerbs = []store.TxnVerb{store.TxnSet, store.TxnSet, store.TxnSet, store.TxnCAS, store.TxnGet, store.TxnDelete, store.TxnDeleteCAS}
)

func genTxn(t *rapid.T, m *txnModel) *store.TxnCommand {
	c := new(store.TxnCommand)
	for range rapid.IntRange(0, 6).Draw(t, "operations") {
		c.Ops = append(c.Ops, genTxnOp(t, m))
	}
	return c
}

func genTxnOp(t *rapid.T, m *txnModel) store.TxnOp {
	// Mostly the index that is there, since a transaction fails by one operation.
	index := func(have store.Index) store.Index {
		return rapid.SampledFrom([]store.Index{have, have, have, have, 0, m.kv.index, m.kv.index + 1}).Draw(t, "index")
	}
	kind := rapid.SampledFrom([]string{"kv", "kv", "node", "service", "check"}).Draw(t, "kind")
	if kind == "kv" {
		op := store.TxnOp{Verb: rapid.SampledFrom(kvVerbs).Draw(t, "verb")}
		op.KV = &store.KVEntry{Key: rapid.SampledFrom(modelKeys).Draw(t, "key"), Flags: rapid.Uint64Range(0, 1).Draw(t, "flags")}
		if v := rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "value"); v != "" {
			op.KV.Value = []byte(v)
		}
		switch op.Verb {
		case store.TxnGetTree, store.TxnDeleteTree:
			op.KV.Key = rapid.SampledFrom(modelPrefixes).Draw(t, "prefix")
		case store.TxnCheckSession:
			op.KV.Session = rapid.SampledFrom([]string{"", "", "x"}).Draw(t, "session")
		}
		op.KV.ModifyIndex = index(m.kv.rows[op.KV.Key].modif)
		return op
	}
	op := store.TxnOp{Verb: rapid.SampledFrom(catalogVerbs).Draw(t, "verb")}
	reg := genRegister(t)
	node := reg.Node.Node
	key := strings.ToLower(node)
	switch kind {
	case "node":
		op.Node = &reg.Node
		if op.Verb == store.TxnGet {
			op.Node.ID = ""
		}
		if old := m.cat.nodes[key]; old != nil {
			op.Node.ModifyIndex = old.ModifyIndex
		}
		op.Node.ModifyIndex = index(op.Node.ModifyIndex)
	case "service":
		op.Service = &store.Service{Node: node, ID: rapid.SampledFrom([]string{"s1", "s2", "web"}).Draw(t, "id"),
			Name: rapid.SampledFrom(modelServices).Draw(t, "name"), Port: rapid.IntRange(0, 1).Draw(t, "port")}
		if rapid.Bool().Draw(t, "native?") {
			op.Service.Connect = []byte(`{"Native":true}`)
		}
		var have store.Index
		if old := m.cat.services[[2]string{key, op.Service.ID}]; old != nil {
			have = old.ModifyIndex
		}
		op.Service.ModifyIndex = index(have)
	default:
		op.Check = &store.Check{Node: node, CheckID: rapid.SampledFrom([]string{store.SerfHealth, "c1", "c2"}).Draw(t, "id"),
			ServiceID: rapid.SampledFrom([]string{"", "", "s1", "web"}).Draw(t, "of"), Status: rapid.SampledFrom(modelStatus).Draw(t, "status")}
		var have store.Index
		if old := m.cat.checks[[2]string{key, op.Check.CheckID}]; old != nil {
			have = old.ModifyIndex
		}
		op.Check.ModifyIndex = index(have)
	}
	return op
}

// internals renders everything the store keeps, rows by their addresses: two
// stores' worth of it are equal only if nothing was changed or all was put back.
func internals(s *Store) string {
	var b strings.Builder
	c := s.catalog
	fmt.Fprintln(&b, s.kv.max, c.nodes.max, c.services.max, c.checks.max, s.sessions.max, s.coords.max, c.vanished, c.vanishedConnect, s.kv.tombs.floor)
	fmt.Fprintln(&b, s.coords.rows, s.coords.tree.Values(), s.kv.tombs.queue, len(s.changed), len(s.journal.undo), s.journal.open, c.kinds)
	fmt.Fprintln(&b, s.kv.rows, s.kv.tree.Values(), s.kv.tombs.Keys(), s.kv.tombs.Values())
	fmt.Fprintln(&b, c.nodes.rows, c.nodes.tree.Values(), c.services.rows, c.services.tree.Values(), c.checks.rows, c.checks.tree.Values())
	fmt.Fprintln(&b, c.nodeIDs.Keys(), c.nodeIDs.Values(), c.nodesByAddress.groups)
	fmt.Fprintln(&b, s.sessions.rows, s.sessions.tree.Values(), s.sessions.byNode.groups, s.kv.bySession.groups)
	fmt.Fprintln(&b, s.sessions.delays.Keys(), s.sessions.delays.Values(), s.sessions.delays.ends.Keys())
	for _, ix := range c.services.indexes {
		fmt.Fprintln(&b, ix.groups)
	}
	for _, ix := range c.checks.indexes {
		fmt.Fprintln(&b, ix.groups)
	}
	for _, k := range slices.Sorted(maps.Keys(c.byNode)) {
		fmt.Fprintln(&b, k, *c.byNode[k])
	}
	for _, all := range []map[string]*serviceIndexes{c.byService, c.byConnect} {
		for _, k := range slices.Sorted(maps.Keys(all)) {
			fmt.Fprintln(&b, k, all[k].catalog, all[k].health, all[k].checks)
		}
	}
	return b.String()
}

// A transaction must answer like the maps. One that fails must leave nothing,
// wake nobody and move no index; one that does not must raise the index of every
// answer it changed and wake who waits for it, once.
func TestTxnModel(t *testing.T) {
	reads := catalogReads()
	for _, p := range modelPrefixes {
		reads["prefix "+p] = [2]func(*Store, *Watch, *catalogModel) answer{func(s *Store, w *Watch, _ *catalogModel) answer {
			i, l := s.KVList(w, p)
			return answer{i, render(l...)}
		}}
	}
	var kept, failed int
	rapid.Check(t, func(t *rapid.T) {
		s, m := New(), newTxnModel()
		last := make(map[string]answer)
		for name, q := range reads {
			last[name] = q[0](s, nil, nil)
		}
		step := func(t *rapid.T) {
			watches := make(map[string]*Watch)
			for name, q := range reads {
				watches[name] = s.NewWatch()
				q[0](s, watches[name], nil)
			}
			before := internals(s)
			c := genTxn(t, m)
			var want string
			want, m = m.run(c)
			var got string
			if readOnly := c.ReadOnly(); readOnly && rapid.Bool().Draw(t, "without the log") {
				m.kv.index, m.cat.index = m.kv.index-1, m.cat.index-1
				_, out := s.TxnRead(c)
				got = string(out.AppendJSON(nil, nil))
			} else {
				res := apply(s, store.CmdTxn, c)
				out := res.Value.(*store.TxnOutcome)
				got = string(out.AppendJSON(nil, nil))
				if res.Err != nil || res.OK != (len(out.Errors) == 0) || res.Index != m.kv.index {
					t.Fatalf("result %+v, want index %d", res, m.kv.index)
				}
			}
			if got != want {
				t.Fatalf("got  %s\nwant %s", got, want)
			}
			done := strings.HasSuffix(got, `"Errors":null}`)
			if done {
				kept++
			} else if failed++; internals(s) != before {
				t.Fatalf("a transaction that failed changed\n%s\nto\n%s", before, internals(s))
			}
			for name, q := range reads {
				w := watches[name]
				woken := fired(w)
				if fired(w) {
					t.Fatalf("%s: woken twice", name)
				}
				w.Close()
				got, before := q[0](s, nil, nil), last[name]
				if q[1] != nil {
					if want := q[1](nil, nil, m.cat); got.rows != want.rows {
						t.Fatalf("%s:\ngot  %s\nwant %s", name, got.rows, want.rows)
					}
				}
				changed := got.rows != before.rows
				// Several operations may undo each other: then a watch may fire early.
				if changed && !woken || woken && !changed && (!done || len(c.Ops) < 2) {
					t.Fatalf("%s: woken %v, changed %v, applied %v:\n%s\n%s", name, woken, changed, done, before.rows, got.rows)
				}
				if got.index < before.index || changed && got.index <= before.index {
					t.Fatalf("%s: changed %v, index from %d to %d", name, changed, before.index, got.index)
				}
				last[name] = got
			}
			if n := s.Counts().Watches; n != 0 {
				t.Fatalf("%d registrations left", n)
			}
			if len(s.journal.undo) != 0 || s.journal.open {
				t.Fatal("the journal is open or not empty")
			}
			for _, k := range modelKeys {
				m.kv.checkGet(t, s, k, 0)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"transaction": step,
			"another":     step,
			"third":       step,
			"restart":     func(t *rapid.T) { s = copyOf(t, s) },
			"reap":        func(*rapid.T) { s.Reap(m.kv.index / 2) },
		})
	})
	if !t.Failed() && (kept == 0 || failed == 0) {
		t.Errorf("%d transactions were kept, %d failed: the test sees one side only", kept, failed)
	}
}
