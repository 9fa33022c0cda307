package state

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"landbridge/store"
)

func kvTxnOp(verb store.TxnVerb, key, value string) store.TxnOp {
	return store.TxnOp{Verb: verb, KV: &store.KVEntry{Key: key, Value: []byte(value)}}
}

func txnCommand(ops ...store.TxnOp) *store.TxnCommand { return &store.TxnCommand{Ops: ops} }

// answerOf is what a transaction answered.
func answerOf(t tb, res store.Result) string {
	t.Helper()
	out, ok := res.Value.(*store.TxnOutcome)
	if !ok || res.Err != nil {
		t.Fatalf("result %+v", res)
	}
	return string(out.AppendJSON(nil, nil))
}

// A get-tree is read when the answer is encoded, but shows its own moment.
func TestTxnGetTreeShowsItsMoment(t *testing.T) {
	s := New()
	put(t, s, "a/1", "old")
	res := apply(s, store.CmdTxn, txnCommand(
		kvTxnOp(store.TxnGetTree, "a/", ""),
		kvTxnOp(store.TxnSet, "a/2", "new"),
		kvTxnOp(store.TxnGetTree, "a/", ""),
		kvTxnOp(store.TxnDeleteTree, "a/", ""),
		kvTxnOp(store.TxnGetTree, "a/", "")))
	put(t, s, "a/3", "later")
	keys := func(r store.TxnResult) (keys []string) {
		for e := range r.Tree {
			keys = append(keys, e.Key+"="+string(e.Value))
		}
		return keys
	}
	out := res.Value.(*store.TxnOutcome)
	if got := keys(out.Results[0]); !slices.Equal(got, []string{"a/1=old"}) {
		t.Errorf("before the write: %q", got)
	}
	if got := keys(out.Results[2]); !slices.Equal(got, []string{"a/1=old", "a/2=new"}) {
		t.Errorf("after the write: %q", got)
	}
	if got := keys(out.Results[3]); got != nil {
		t.Errorf("after the deletion: %q", got)
	}
	if len(out.Results) != 4 {
		t.Errorf("%d results, want 4", len(out.Results))
	}
}

// Commands around a transaction that fails in the middle of a batch keep their
// results, their watches and their indexes.
func TestTxnFailsInsideABatch(t *testing.T) {
	s := New()
	at := put(t, s, "k", "0")
	wk, wx := s.NewWatch(), s.NewWatch()
	defer wk.Close()
	defer wx.Close()
	s.KVGet(wk, "k")
	s.KVGet(wx, "x")
	cas := func(index store.Index, value string) store.Command {
		return command(store.CmdKV, &store.KVCommand{Op: store.KVCAS, Entry: store.KVEntry{Key: "k", Value: []byte(value), ModifyIndex: index}})
	}
	fails := txnCommand(kvTxnOp(store.TxnSet, "k", "3"), kvTxnOp(store.TxnSet, "x", "3"), kvTxnOp(store.TxnGet, "none", ""))
	cmds := []store.Command{cas(at, "1"), command(store.CmdTxn, fails), cas(at+1, "2"),
		command(store.CmdTxn, txnCommand(kvTxnOp(store.TxnGet, "k", "")))}
	res := make([]store.Result, len(cmds))
	s.Apply(cmds, res)
	if !res[0].OK || res[1].OK || !res[2].OK || !res[3].OK || res[1].Err != nil || res[1].Index != at+2 || res[3].Index != at+4 {
		t.Errorf("results %+v", res)
	}
	if want := `{"Results":null,"Errors":[{"OpIndex":2,"What":"key \"none\" doesn't exist"}]}`; answerOf(t, res[1]) != want {
		t.Errorf("got %s, want %s", answerOf(t, res[1]), want)
	}
	if got := answerOf(t, res[3]); !strings.Contains(got, fmt.Sprintf(`"Value":"Mg==","CreateIndex":%d,"ModifyIndex":%d`, at, at+3)) {
		t.Errorf("got %s", got)
	}
	if !fired(wk) || fired(wx) {
		t.Error("want the watch of k to fire, and not that of x")
	}
	if idx, _ := s.KVGet(nil, "x"); idx != at+3 {
		t.Errorf("index of a key that is not there: %d, want %d", idx, at+3)
	}
}

func TestTxnLocks(t *testing.T) {
	c := withSession(t, &store.Session{})
	for _, id := range []string{"s1", "s2"} {
		if res := c.session(&store.Session{ID: id, Node: "n", LockDelay: 15 * time.Second}); res.Err != nil {
			t.Fatal(res.Err)
		}
	}
	lock := func(verb store.TxnVerb, session string) store.TxnOp {
		return store.TxnOp{Verb: verb, KV: &store.KVEntry{Key: "lock", Value: []byte("v"), Session: session}}
	}
	for _, tc := range []struct {
		name string
		ops  []store.TxnOp
		want string // of the answer
	}{
		{"unknown session", []store.TxnOp{lock(store.TxnLock, "s3")}, `"What":"invalid session \"s3\""`},
		{"no session", []store.TxnOp{lock(store.TxnLock, "")}, `"What":"missing session"`},
		{"not held", []store.TxnOp{lock(store.TxnUnlock, "s1")}, `"What":"failed to unlock key \"lock\", lock isn't held, or is held by another session"`},
		{"taken back", []store.TxnOp{lock(store.TxnLock, "s1"), kvTxnOp(store.TxnGet, "none", "")}, `[{"OpIndex":1,`},
		{"locked", []store.TxnOp{lock(store.TxnLock, "s1"), lock(store.TxnCheckSession, "s1")}, `{"KV":{"LockIndex":1,"Key":"lock","Flags":0,"Value":null,"Session":"s1",`},
		{"again", []store.TxnOp{lock(store.TxnLock, "s1")}, `"LockIndex":1,`},
		{"held", []store.TxnOp{lock(store.TxnLock, "s2")}, `"What":"failed to lock key \"lock\", lock is already held"`},
		{"handed over", []store.TxnOp{lock(store.TxnUnlock, "s1"), lock(store.TxnLock, "s2"), lock(store.TxnUnlock, "s2"), lock(store.TxnLock, "s1")}, `"LockIndex":3,`},
		{"session check", []store.TxnOp{lock(store.TxnCheckSession, "s2")}, `"What":"failed session check for key \"lock\", current session \"s1\" != \"s2\""`},
		// The node takes its sessions with it, but here it comes to nothing.
		{"node stays", []store.TxnOp{{Verb: store.TxnDelete, Node: &store.Node{Node: "n"}}, lock(store.TxnCheckSession, ""), lock(store.TxnLock, "s1")},
			`[{"OpIndex":2,"What":"invalid session \"s1\""}]`},
		{"still held", []store.TxnOp{lock(store.TxnCheckSession, "s1")}, `"Session":"s1"`},
	} {
		if got := answerOf(t, c.apply(store.CmdTxn, txnCommand(tc.ops...))); !strings.Contains(got, tc.want) {
			t.Errorf("%s: got %s, want %s", tc.name, got, tc.want)
		}
	}
	c.destroy("s1")
	if got := answerOf(t, c.apply(store.CmdTxn, txnCommand(lock(store.TxnLock, "s2")))); !strings.Contains(got, `failed to lock key \"lock\" due to lock delay`) {
		t.Errorf("inside the delay: %s", got)
	}
}

// single is an operation as a command of its own.
func single(op *store.TxnOp) store.Command {
	switch {
	case op.KV != nil:
		return command(store.CmdKV, &store.KVCommand{Op: kvOps[op.Verb], Entry: store.KVEntry{Key: op.KV.Key, Value: op.KV.Value, Flags: op.KV.Flags, Session: op.KV.Session}})
	case op.Node != nil && op.Verb == store.TxnDelete:
		return command(store.CmdDeregister, &store.DeregisterCommand{Node: op.Node.Node})
	case op.Node != nil:
		return command(store.CmdRegister, &store.RegisterCommand{Node: store.Node{Node: op.Node.Node, Address: op.Node.Address}})
	case op.Verb == store.TxnDelete:
		return command(store.CmdDeregister, &store.DeregisterCommand{Node: op.Check.Node, CheckID: op.Check.CheckID})
	}
	return command(store.CmdRegister, &store.RegisterCommand{Node: store.Node{Node: op.Check.Node}, SkipNodeUpdate: true, Checks: []*store.Check{op.Check}})
}

// content is all rows without their indexes, and the lock-delays.
func content(s *Store) string {
	var b strings.Builder
	s.kv.tree.Scan(func(_ string, e *store.KVEntry) bool {
		fmt.Fprintln(&b, e.Key, string(e.Value), e.Flags, e.Session, e.LockIndex)
		return true
	})
	s.sessions.tree.Scan(func(_ string, sess *store.Session) bool { fmt.Fprintln(&b, sess.ID); return true })
	s.catalog.nodes.tree.Scan(func(_ string, n *store.Node) bool { fmt.Fprintln(&b, n.Node, n.Address); return true })
	s.catalog.checks.tree.Scan(func(_ string, k *store.Check) bool { fmt.Fprintln(&b, k.Node, k.CheckID, k.Status); return true })
	fmt.Fprintln(&b, s.coords.tree.Keys())
	fmt.Fprintln(&b, s.sessions.delays.Keys(), s.sessions.delays.Values(), s.sessions.delays.ends.Keys())
	return b.String()
}

// With sessions and what ends them: a transaction that is kept must leave the
// same as its operations one by one, and one that fails what was there, down to
// the last row, index and delay.
func TestTxnEqualsItsOperations(t *testing.T) {
	sessions := []string{"s1", "s2", "s3"}
	nodes := []string{"n1", "n2"}
	genOp := func(t *rapid.T) store.TxnOp {
		node := rapid.SampledFrom(nodes).Draw(t, "node")
		switch rapid.IntRange(0, 9).Draw(t, "kind") {
		case 0:
			return store.TxnOp{Verb: rapid.SampledFrom([]store.TxnVerb{store.TxnDelete, store.TxnSet}).Draw(t, "verb"), Node: &store.Node{Node: node, Address: "10.0.0.1"}}
		case 1, 2:
			return store.TxnOp{Verb: rapid.SampledFrom([]store.TxnVerb{store.TxnDelete, store.TxnSet, store.TxnSet}).Draw(t, "verb"),
				Check: &store.Check{Node: node, CheckID: rapid.SampledFrom([]string{"c1", store.SerfHealth}).Draw(t, "check"), Status: rapid.SampledFrom(modelStatus).Draw(t, "status")}}
		}
		return store.TxnOp{
			Verb: rapid.SampledFrom([]store.TxnVerb{store.TxnLock, store.TxnLock, store.TxnUnlock, store.TxnSet, store.TxnDelete, store.TxnDeleteTree}).Draw(t, "verb"),
			KV: &store.KVEntry{Key: rapid.SampledFrom([]string{"a", "a/b", "c"}).Draw(t, "key"), Value: []byte(rapid.SampledFrom([]string{"x", "y"}).Draw(t, "value")),
				Session: rapid.SampledFrom(sessions).Draw(t, "session")},
		}
	}
	var kept, failed int
	rapid.Check(t, func(t *rapid.T) {
		s := New()
		now := int64(1e18)
		do := func(s *Store, cmds ...store.Command) []store.Result {
			res := make([]store.Result, len(cmds))
			for i := range cmds {
				cmds[i].UnixNano = now
			}
			s.Apply(cmds, res)
			return res
		}
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			for _, n := range nodes {
				do(s, command(store.CmdRegister, register(n, &store.Check{CheckID: store.SerfHealth, Status: store.Passing}, &store.Check{CheckID: "c1", Status: store.Passing})))
			}
			coords := new(store.CoordinatesCommand)
			for _, n := range nodes {
				coords.Updates = append(coords.Updates, &store.Coordinate{Node: n, Coord: store.Coord{Vec: make([]float64, store.CoordinateDimensions)}})
			}
			do(s, command(store.CmdCoordinates, coords))
			for i, id := range sessions {
				do(s, command(store.CmdSession, &store.SessionCommand{Op: store.SessionCreate, Session: store.Session{ID: id, Node: nodes[i%2],
					NodeChecks: []string{store.SerfHealth}[:i%2], Behavior: []string{store.BehaviorRelease, store.BehaviorDelete}[i/2], LockDelay: time.Duration(i) * time.Second}}))
			}
			now += rapid.Int64Range(-2e9, 3e9).Draw(t, "time")
			c := txnCommand(rapid.SliceOfN(rapid.Custom(genOp), 1, 6).Draw(t, "operations")...)
			do(s, store.Command{Kind: store.CmdTxn}) // of no operation: what the time alone changes is done
			twin, before := copyOf(t, s), internals(s)
			res := do(s, command(store.CmdTxn, c))[0]
			if !res.OK {
				if failed++; internals(s) != before {
					t.Fatalf("a transaction that failed changed\n%s\nto\n%s", before, internals(s))
				}
				continue
			}
			kept++
			for i := range c.Ops {
				if r := do(twin, single(&c.Ops[i]))[0]; !r.OK || r.Err != nil {
					t.Fatalf("operation %d alone: %+v", i, r)
				}
			}
			if got, want := content(s), content(twin); got != want {
				t.Fatalf("together:\n%s\none by one:\n%s", got, want)
			}
		}
	})
	if !t.Failed() && (kept == 0 || failed == 0) {
		t.Errorf("%d transactions were kept, %d failed: the test sees one side only", kept, failed)
	}
}

// Whatever bytes come as a transaction, applying them ends, with the journal closed.
func FuzzTxn(f *testing.F) {
	f.Add(txnCommand(kvTxnOp(store.TxnSet, "k", "v"), kvTxnOp(store.TxnGetTree, "", "")).AppendWire(nil))
	f.Add(txnCommand(store.TxnOp{Verb: store.TxnSet, Node: &store.Node{Node: "n"}}, store.TxnOp{Verb: store.TxnSet, Service: &store.Service{Node: "n", Name: "s"}},
		store.TxnOp{Verb: store.TxnSet, Check: &store.Check{Node: "n", CheckID: "c", ServiceID: "s"}}, kvTxnOp(store.TxnGet, "none", "")).AppendWire(nil))
	f.Add(txnCommand(store.TxnOp{Verb: store.TxnDelete, Node: &store.Node{Node: "n"}}, store.TxnOp{Verb: "?"}).AppendWire(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := New()
		put(t, s, "k", "v")
		must(t, s, store.CmdRegister, register("n", &store.Service{Name: "s"}, &store.Check{CheckID: "c", ServiceID: "s"}))
		before := internals(s)
		var res [1]store.Result
		s.Apply([]store.Command{{Kind: store.CmdTxn, Payload: b}}, res[:])
		if s.journal.open || len(s.journal.undo) > 0 {
			t.Fatal("the journal is open or not empty")
		}
		if !res[0].OK && internals(s) != before {
			t.Fatalf("a refused transaction changed\n%s\nto\n%s", before, internals(s))
		}
		if out, ok := res[0].Value.(*store.TxnOutcome); ok {
			out.AppendJSON(nil, nil)
		}
	})
}
