package state

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"landbridge/store"
)

func queryCommand(op store.QueryOp, id, name, service string, template bool) *store.QueryCommand {
	c := &store.QueryCommand{Op: op}
	c.Query.ID, c.Query.Name, c.Query.Service.Service = id, name, service
	if template {
		c.Query.Template.Type = store.NamePrefixMatch
	}
	return c
}

func TestQueryCommands(t *testing.T) {
	s := New()
	a, b := uuid("a"), uuid("b")
	must(t, s, store.CmdQuery, queryCommand(store.QueryCreate, a, "Web", "web", false))
	must(t, s, store.CmdQuery, queryCommand(store.QueryCreate, b, "web", "web", true)) // a template is no alias
	for _, c := range []struct {
		name string
		cmd  *store.QueryCommand
		want string
	}{
		{"same name", queryCommand(store.QueryCreate, uuid("c"), "wEb", "x", false), "raft apply failed: name 'wEb' aliases an existing query name"},
		{"same template", queryCommand(store.QueryCreate, uuid("c"), "WEB", "x", true), "raft apply failed: name 'WEB' aliases an existing query name"},
		{"an id as name", queryCommand(store.QueryCreate, uuid("c"), strings.ToUpper(a), "x", false), "raft apply failed: name '" + strings.ToUpper(a) + "' aliases an existing query ID"},
		{"same id", queryCommand(store.QueryCreate, strings.ToUpper(a), "y", "x", false), "raft apply failed: the id '" + a + "' is malformed or belongs to another query"},
		{"no id", queryCommand(store.QueryCreate, "", "y", "x", false), "raft apply failed: the id '' is malformed or belongs to another query"},
		{"update of nothing", queryCommand(store.QueryUpdate, uuid("c"), "y", "x", false), "Cannot modify non-existent prepared query: '" + uuid("c") + "'"},
		{"deletion of nothing", queryCommand(store.QueryDelete, uuid("c"), "", "", false), "Cannot delete non-existent prepared query: '" + uuid("c") + "'"},
		{"operation", queryCommand(9, uuid("c"), "y", "x", false), "unknown prepared query operation 9"},
		{"session", func() *store.QueryCommand {
			c := queryCommand(store.QueryCreate, uuid("c"), "y", "x", false)
			c.Query.Session = "bad"
			return c
		}(), `raft apply failed: invalid session "bad"`},
	} {
		before, _ := s.Queries(nil)
		res := apply(s, store.CmdQuery, c.cmd)
		if res.Err == nil || res.Err.Error() != c.want {
			t.Errorf("%s: got %v, want %s", c.name, res.Err, c.want)
		}
		if after, _ := s.Queries(nil); after != before {
			t.Errorf("%s: a refused command raised the index to %d", c.name, after)
		}
	}
	// The same definition again is no change; another one keeps its creation.
	created, q := s.Query(nil, a)
	must(t, s, store.CmdQuery, queryCommand(store.QueryUpdate, a, "Web", "web", false))
	if idx, again := s.Query(nil, a); idx != created || again != q {
		t.Errorf("writing the same again: index %d, was %d", idx, created)
	}
	at := must(t, s, store.CmdQuery, queryCommand(store.QueryUpdate, a, "other", "web", false))
	if idx, q := s.Query(nil, strings.ToUpper(a)); idx != at || q.CreateIndex != created || q.ModifyIndex != at || q.Name != "other" {
		t.Errorf("after an update: index %d, %+v", idx, q)
	}
	if q := s.ResolveQuery("Web"); q == nil || q.ID != b {
		t.Errorf("the old name leads to %v, want the template", q)
	}
	if q := s.ResolveQuery("OTHER"); q == nil || q.ID != a {
		t.Errorf("the new name leads to %v", q)
	}
	gone := must(t, s, store.CmdQuery, queryCommand(store.QueryDelete, a, "", "", false))
	if idx, q := s.Query(nil, a); idx != gone || q != nil {
		t.Errorf("after its deletion: index %d, %v", idx, q)
	}
	if idx, list := copyOf(t, s).Queries(nil); idx != gone || len(list) != 1 {
		t.Errorf("after a snapshot: index %d of %d queries, want %d of 1", idx, len(list), gone)
	}
}

// A query ends with its session, however that ends; its readers are told.
func TestQueriesEndWithTheirSession(t *testing.T) {
	s := New()
	must(t, s, store.CmdRegister, register("n1"))
	session := uuid("5")
	must(t, s, store.CmdSession, &store.SessionCommand{Op: store.SessionCreate, Session: store.Session{ID: session, Node: "n1"}})
	for i, name := range []string{"", "", "bound"} {
		c := queryCommand(store.QueryCreate, uuid(fmt.Sprint(i)), name, "web", false)
		c.Query.Session = session
		must(t, s, store.CmdQuery, c)
	}
	must(t, s, store.CmdQuery, queryCommand(store.QueryCreate, uuid("9"), "free", "web", false))
	s = copyOf(t, s)
	w := s.NewWatch()
	defer w.Close()
	s.Query(w, uuid("0"))
	at := must(t, s, store.CmdDeregister, &store.DeregisterCommand{Node: "n1"})
	if idx, list := s.Queries(nil); idx != at || len(list) != 1 || list[0].Name != "free" || !fired(w) {
		t.Errorf("after the session's end: index %d (want %d), %d queries", idx, at, len(list))
	}
	if q := s.ResolveQuery("bound"); q != nil {
		t.Errorf("a query outlived its session: %+v", q)
	}
}

// A transaction that fails gives back the queries that it ended with a session.
func TestQueriesComeBackWithTheirSession(t *testing.T) {
	s := New()
	must(t, s, store.CmdRegister, register("n1"))
	session := uuid("5")
	must(t, s, store.CmdSession, &store.SessionCommand{Op: store.SessionCreate, Session: store.Session{ID: session, Node: "n1"}})
	bound := queryCommand(store.QueryCreate, uuid("1"), "geo-", "web", true)
	bound.Query.Session = session
	must(t, s, store.CmdQuery, bound)
	before, _ := s.Queries(nil)
	w := s.NewWatch()
	defer w.Close()
	s.Queries(w)
	res := apply(s, store.CmdTxn, txnCommand(
		store.TxnOp{Verb: store.TxnDelete, Node: &store.Node{Node: "n1"}},
		kvTxnOp(store.TxnGet, "missing", "")))
	if res.OK {
		t.Fatalf("the transaction was to fail: %s", answerOf(t, res))
	}
	if idx, list := s.Queries(nil); idx != before || len(list) != 1 || fired(w) {
		t.Errorf("after a failed transaction: index %d (was %d), %d queries", idx, before, len(list))
	}
	if q := s.ResolveQuery("geo-db"); q == nil || q.ID != uuid("1") {
		t.Errorf("the template leads to %+v", q)
	}
	must(t, s, store.CmdTxn, txnCommand(store.TxnOp{Verb: store.TxnDelete, Node: &store.Node{Node: "n1"}}))
	if _, list := s.Queries(nil); len(list) != 0 || !fired(w) {
		t.Errorf("after one that succeeds: %d queries", len(list))
	}
}

func TestQueryWatches(t *testing.T) {
	s := New()
	a, b := uuid("a"), uuid("b")
	must(t, s, store.CmdQuery, queryCommand(store.QueryCreate, a, "a", "web", false))
	all, one, missing := s.NewWatch(), s.NewWatch(), s.NewWatch()
	defer all.Close()
	defer one.Close()
	defer missing.Close()
	step := func(what string, cmd *store.QueryCommand, wantAll, wantOne, wantMissing bool) {
		t.Helper()
		s.Queries(all)
		s.Query(one, a)
		s.Query(missing, b)
		must(t, s, store.CmdQuery, cmd)
		if x, y, z := fired(all), fired(one), fired(missing); x != wantAll || y != wantOne || z != wantMissing {
			t.Errorf("%s: woke list %v, query %v, missing one %v; want %v, %v, %v", what, x, y, z, wantAll, wantOne, wantMissing)
		}
	}
	step("another", queryCommand(store.QueryCreate, uuid("c"), "c", "web", false), true, false, false)
	step("the same again", queryCommand(store.QueryUpdate, a, "a", "web", false), false, false, false)
	step("a change", queryCommand(store.QueryUpdate, a, "a", "db", false), true, true, false)
	step("the missing one", queryCommand(store.QueryCreate, b, "b", "web", false), true, false, true)
	step("its end", queryCommand(store.QueryDelete, a, "", "", false), true, true, false)
}

// TestQueryModel compares the table with a list: which commands are refused, who
// answers for a name, and what a snapshot brings back.
func TestQueryModel(t *testing.T) {
	type row struct {
		name     string
		template bool
	}
	names := []string{"", "a", "A", "ab", "aB", "abc", "abd", "b", "bab", "ba", "\xff"}
	rapid.Check(t, func(t *rapid.T) {
		s := New()
		model := map[string]row{}
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			id := uuid(fmt.Sprint(rapid.IntRange(0, 6).Draw(t, "id")))
			r := row{rapid.SampledFrom(names).Draw(t, "name"), rapid.Bool().Draw(t, "template")}
			op := rapid.SampledFrom([]store.QueryOp{store.QueryCreate, store.QueryUpdate, store.QueryUpdate, store.QueryDelete}).Draw(t, "op")
			_, have := model[id]
			want := have != (op == store.QueryCreate)
			if op != store.QueryDelete {
				for other, o := range model {
					if other != id && strings.EqualFold(o.name, r.name) && o.template == r.template && (r.template || r.name != "") {
						want = false
					}
				}
			}
			res := apply(s, store.CmdQuery, queryCommand(op, id, r.name, "web", r.template))
			if res.OK != want || (res.Err == nil) != want {
				t.Fatalf("%d of %s %q: %v (%v), want %v", op, id, r.name, res.OK, res.Err, want)
			}
			if want && op == store.QueryDelete {
				delete(model, id)
			} else if want {
				model[id] = r
			}
			if rapid.IntRange(0, 5).Draw(t, "snapshot") == 0 {
				before, _ := s.Queries(nil)
				s = copyOf(t, s)
				if after, _ := s.Queries(nil); after != before {
					t.Fatalf("index %d after a snapshot, was %d", after, before)
				}
			}
			if _, list := s.Queries(nil); len(list) != len(model) || s.Counts().Queries != len(model) {
				t.Fatalf("%d queries, want %d", len(list), len(model))
			}
			asked := rapid.SampledFrom(append(names, "abcd", "Abcx", "zz")).Draw(t, "asked")
			best, length := "", -1
			for id, r := range model {
				lowered := strings.ToLower(asked)
				switch {
				case !r.template && r.name != "" && strings.ToLower(r.name) == lowered:
					best, length = id, 1<<20
				case r.template && strings.HasPrefix(lowered, strings.ToLower(r.name)) && len(r.name) > length:
					best, length = id, len(r.name)
				}
			}
			got := ""
			if q := s.ResolveQuery(asked); q != nil {
				got = q.ID
			}
			if got != best {
				t.Fatalf("%q leads to %q, want %q of %v", asked, got, best, model)
			}
		}
	})
}

func BenchmarkResolveTemplate(b *testing.B) {
	s := New()
	for i := range 100 {
		must(b, s, store.CmdQuery, queryCommand(store.QueryCreate, uuid(fmt.Sprintf("%04x", i)), fmt.Sprintf("geo-%03d-", i), "web", true))
	}
	b.ReportAllocs()
	for b.Loop() {
		if s.ResolveQuery("geo-042-db-customer-primary") == nil {
			b.Fatal("not found")
		}
	}
}
