package state

import (
	"fmt"
	"math"
	"testing"
	"time"

	"landbridge/store"
)

const second = int64(time.Second)

// clocked applies commands at times.
type clocked struct {
	t tb
	*Store
	now int64
}

func (c *clocked) apply(kind store.CommandKind, payload wired) store.Result {
	cmd := command(kind, payload)
	cmd.UnixNano = c.now
	var res [1]store.Result
	c.Store.Apply([]store.Command{cmd}, res[:])
	return res[0]
}

func (c *clocked) session(sess *store.Session) store.Result {
	cmd := &store.SessionCommand{Op: store.SessionCreate}
	if err := cmd.Session.DecodeWire(sess.AppendWire(nil)); err != nil {
		c.t.Fatalf("%v", err)
	}
	return c.apply(store.CmdSession, cmd)
}

func (c *clocked) destroy(id string) {
	c.t.Helper()
	if res := c.apply(store.CmdSession, &store.SessionCommand{Op: store.SessionDestroy, Session: store.Session{ID: id}}); res.Err != nil || !res.OK {
		c.t.Fatalf("destroy %s: %+v", id, res)
	}
}

func (c *clocked) kv(op store.KVOp, key, value, session string) store.Result {
	return c.apply(store.CmdKV, &store.KVCommand{Op: op, Entry: store.KVEntry{Key: key, Value: []byte(value), Session: session}})
}

func (c *clocked) entry(key string) *store.KVEntry {
	_, e := c.KVGet(nil, key)
	if e == nil {
		return &store.KVEntry{}
	}
	return e
}

// withSession is a store with the node n, its check serfHealth and the session s.
func withSession(t tb, sess *store.Session) *clocked {
	t.Helper()
	c := &clocked{t, New(), 100 * second}
	must(t, c.Store, store.CmdRegister, register("n", &store.Check{CheckID: store.SerfHealth, Status: store.Passing}))
	sess.ID, sess.Node = "s", "N"
	if res := c.session(sess); res.Err != nil || !res.OK {
		t.Fatalf("create: %+v", res)
	}
	return c
}

func TestSessionIsRefused(t *testing.T) {
	c := withSession(t, &store.Session{})
	must(t, c.Store, store.CmdRegister, register("n", &store.Check{CheckID: "bad", Status: store.Critical}, &store.Check{CheckID: "warn", Status: store.Warning}))
	for _, tc := range []struct {
		name string
		in   *store.Session
		want string
	}{
		{"unknown node", &store.Session{ID: "a", Node: "x"}, "Missing node registration"},
		{"no node", &store.Session{ID: "a"}, "Missing node registration"},
		{"unknown check", &store.Session{ID: "a", Node: "n", NodeChecks: []string{store.SerfHealth, "x"}}, "Missing check 'x' registration"},
		{"unknown service check", &store.Session{ID: "a", Node: "n", ServiceChecks: []string{"x"}}, "Missing check 'x' registration"},
		{"critical check", &store.Session{ID: "a", Node: "n", NodeChecks: []string{"bad"}}, "Check 'bad' is in critical state"},
		{"behavior", &store.Session{ID: "a", Node: "n", Behavior: "x"}, "Invalid Behavior setting 'x'"},
		{"id in use", &store.Session{ID: "s", Node: "n"}, `session id "s" is empty or in use`},
		{"no id", &store.Session{Node: "n"}, `session id "" is empty or in use`},
		{"too long", &store.Session{ID: "a", Node: "n", TTL: "25h"}, "Invalid Session TTL '90000000000000', must be between [0s=24h0m0s]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before, _ := c.Sessions(nil)
			res := c.session(tc.in)
			if res.OK || res.Err == nil || res.Err.Error() != tc.want {
				t.Errorf("got %+v\nwant %s", res, tc.want)
			}
			if after, l := c.Sessions(nil); after != before || len(l) != 1 {
				t.Errorf("a refused session changed the table: index %d to %d, %d sessions", before, after, len(l))
			}
		})
	}
	if res := c.session(&store.Session{ID: "a", Node: "n", NodeChecks: []string{"warn"}}); res.Err != nil {
		t.Errorf("a check that only warns refused a session: %v", res.Err)
	}
}

// The sequence of spec http-kv-txn-session 1.4, with the lock index kept over a
// plain write.
func TestLockIndex(t *testing.T) {
	c := withSession(t, &store.Session{})
	c.session(&store.Session{ID: "other", Node: "n"})
	step := func(name string, res store.Result, ok bool, session string, lockIndex uint64, value string) {
		t.Helper()
		e := c.entry("k")
		if res.OK != ok || res.Err != nil || e.Session != session || e.LockIndex != lockIndex || string(e.Value) != value {
			t.Errorf("%s: %+v, %s", name, res, e.JSON())
		}
	}
	step("acquire", c.kv(store.KVLock, "k", "1", "s"), true, "s", 1, "1")
	at := c.entry("k").ModifyIndex
	step("the same again", c.kv(store.KVLock, "k", "1", "s"), true, "s", 1, "1")
	if got := c.entry("k").ModifyIndex; got != at {
		t.Errorf("the same acquisition moved the index from %d to %d", at, got)
	}
	step("again with another value", c.kv(store.KVLock, "k", "2", "s"), true, "s", 1, "2")
	step("another's acquire", c.kv(store.KVLock, "k", "x", "other"), false, "s", 1, "2")
	step("another's release", c.kv(store.KVUnlock, "k", "x", "other"), false, "s", 1, "2")
	step("release by nobody", c.kv(store.KVUnlock, "k", "x", "unknown"), false, "s", 1, "2")
	step("plain write", c.kv(store.KVSet, "k", "3", ""), true, "s", 1, "3")
	step("release", c.kv(store.KVUnlock, "k", "4", "s"), true, "", 1, "4")
	step("release again", c.kv(store.KVUnlock, "k", "5", "s"), false, "", 1, "4")
	step("acquire by another, at once", c.kv(store.KVLock, "k", "6", "other"), true, "other", 2, "6")
	c.destroy("other")
	step("its session destroyed", store.Result{OK: true}, true, "", 2, "6")

	for session, want := range map[string]string{"": "missing session", "other": `invalid session "other"`} {
		if res := c.kv(store.KVLock, "k", "x", session); res.OK || res.Err == nil || res.Err.Error() != want {
			t.Errorf("acquire for %q: %+v, want %s", session, res, want)
		}
	}
	if res := c.kv(store.KVUnlock, "k", "x", ""); res.OK || res.Err == nil || res.Err.Error() != "missing session" {
		t.Errorf("release for nobody: %+v", res)
	}
	if res := c.kv(store.KVLock, "", "x", "s"); res.Err == nil {
		t.Error("an empty key was locked")
	}
}

// What ends a session, and in the same command releases its keys.
func TestSessionEnds(t *testing.T) {
	for name, end := range map[string]func(c *clocked){
		"destroyed": func(c *clocked) { c.destroy("s") },
		"node gone": func(c *clocked) { c.apply(store.CmdDeregister, &store.DeregisterCommand{Node: "n"}) },
		"check gone": func(c *clocked) {
			c.apply(store.CmdDeregister, &store.DeregisterCommand{Node: "n", CheckID: store.SerfHealth})
		},
		"service gone": func(c *clocked) { c.apply(store.CmdDeregister, &store.DeregisterCommand{Node: "n", ServiceID: "web"}) },
		"check critical": func(c *clocked) {
			c.apply(store.CmdRegister, register("n", &store.Check{CheckID: store.SerfHealth, Status: store.Critical}))
		},
		"service's check": func(c *clocked) {
			c.apply(store.CmdRegister, register("n", &store.Check{CheckID: "web", ServiceID: "web", Status: store.Critical}))
		},
		"node renamed": func(c *clocked) {
			r := register("m")
			r.Node.ID = uuid("aaaa")
			c.apply(store.CmdRegister, r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := &clocked{t, New(), 100 * second}
			r := register("n", &store.Service{Name: "web"}, &store.Check{CheckID: store.SerfHealth, Status: store.Passing},
				&store.Check{CheckID: "web", ServiceID: "web", Status: store.Passing}, &store.Check{CheckID: "odd", Status: store.Passing})
			r.Node.ID = uuid("aaaa")
			must(t, c.Store, store.CmdRegister, r)
			for _, s := range []*store.Session{
				{ID: "s", Node: "n", NodeChecks: []string{store.SerfHealth}, ServiceChecks: []string{"web"}},
				{ID: "d", Node: "n", NodeChecks: []string{store.SerfHealth}, ServiceChecks: []string{"web"}, Behavior: store.BehaviorDelete},
			} {
				if res := c.session(s); res.Err != nil {
					t.Fatal(res.Err)
				}
			}
			c.kv(store.KVLock, "a", "1", "s")
			c.kv(store.KVLock, "b", "2", "d")
			// What must not end it.
			c.apply(store.CmdRegister, register("n", &store.Check{CheckID: "odd", Status: store.Critical}, &store.Check{CheckID: store.SerfHealth, Status: store.Warning}))
			c.apply(store.CmdDeregister, &store.DeregisterCommand{Node: "n", CheckID: "odd"})
			if n := c.Counts().Sessions; n != 2 {
				t.Fatalf("%d sessions before", n)
			}
			before := c.Index()
			end(c)
			if name == "destroyed" {
				c.destroy("d")
			}
			if n := c.Counts().Sessions; n != 0 {
				t.Errorf("%d sessions left", n)
			}
			a := c.entry("a")
			if a.Session != "" || string(a.Value) != "1" || a.ModifyIndex != before+1 || a.LockIndex != 1 {
				t.Errorf("released key: %s", a.JSON())
			}
			if _, b := c.KVGet(nil, "b"); b != nil {
				t.Errorf("deleted key: %s", b.JSON())
			}
		})
	}
}

func TestLockDelay(t *testing.T) {
	const delay = 5 * time.Second
	lock := func(c *clocked, key string) bool {
		c.t.Helper()
		res := c.kv(store.KVLock, key, "v", "next")
		if res.Err != nil {
			c.t.Fatalf("%v", res.Err)
		}
		return res.OK
	}
	lose := func(t *testing.T, behavior string) *clocked {
		c := withSession(t, &store.Session{LockDelay: delay, Behavior: behavior})
		c.session(&store.Session{ID: "next", Node: "n"})
		c.kv(store.KVLock, "k", "v", "s")
		c.destroy("s")
		return c
	}
	for _, behavior := range []string{store.BehaviorRelease, store.BehaviorDelete} {
		t.Run(behavior, func(t *testing.T) {
			c := lose(t, behavior)
			if lock(c, "k") || !lock(c, "other") {
				t.Error("locked at once, or another key was not")
			}
			c.now += 5*second - 1
			if lock(c, "k") {
				t.Error("locked a nanosecond too early")
			}
			c.Store = copyOf(t, c.Store) // deadlines are in the state
			if lock(c, "k") {
				t.Error("locked too early after a restart")
			}
			c.now++
			if !lock(c, "k") || c.Counts().LockDelays != 0 {
				t.Errorf("not locked in time, or %d delays kept", c.Counts().LockDelays)
			}
		})
	}
	t.Run("plain writes pass", func(t *testing.T) {
		c := lose(t, "")
		if res := c.kv(store.KVSet, "k", "x", ""); !res.OK {
			t.Error(res)
		}
		if lock(c, "k") {
			t.Error("a plain write ended the delay")
		}
	})
	t.Run("clock behind", func(t *testing.T) {
		c := lose(t, "")
		c.now -= 1000 * second
		if lock(c, "k") {
			t.Error("locked at once by a leader whose clock is behind")
		}
		c.now += 5 * second
		if !lock(c, "k") {
			t.Error("the delay lasts longer than its length by one clock")
		}
	})
	t.Run("none for what was let go", func(t *testing.T) {
		c := lose(t, "")
		for _, op := range []store.KVOp{store.KVUnlock, store.KVDelete} {
			c.session(&store.Session{ID: "again", Node: "n", LockDelay: time.Hour})
			c.kv(store.KVLock, "l", "v", "again")
			c.kv(op, "l", "v", "again")
			c.destroy("again")
			if !lock(c, "l") {
				t.Errorf("delayed after operation %d", op)
			}
			c.kv(store.KVUnlock, "l", "v", "next")
		}
	})
	t.Run("none if zero", func(t *testing.T) {
		c := withSession(t, &store.Session{})
		c.session(&store.Session{ID: "next", Node: "n"})
		c.kv(store.KVLock, "k", "v", "s")
		c.destroy("s")
		if !lock(c, "k") {
			t.Error("delayed")
		}
	})
	t.Run("endless", func(t *testing.T) {
		c := withSession(t, &store.Session{LockDelay: math.MaxInt64})
		c.session(&store.Session{ID: "next", Node: "n"})
		c.kv(store.KVLock, "k", "v", "s")
		c.destroy("s")
		c.now += 365 * 24 * 3600 * second
		if lock(c, "k") {
			t.Error("a delay beyond the end of time is over")
		}
	})
}

func TestDamagedSessionRecords(t *testing.T) {
	c := withSession(t, &store.Session{LockDelay: time.Second})
	c.kv(store.KVLock, "k", "v", "s")
	c.destroy("s")
	c.session(&store.Session{ID: "s2", Node: "n"})
	for _, twice := range []RecordKind{recordSession, recordLockDelay} {
		sn := c.Snapshot()
		im := NewImage(sn.Header())
		err := sn.Encode(func(kind RecordKind, record []byte) error {
			if kind == twice {
				if err := im.Add(kind, record); err != nil {
					t.Fatal(err)
				}
			}
			return im.Add(kind, record)
		})
		if store.KindOf(err) != store.KindInvalid {
			t.Errorf("a record of kind %d twice: %v", twice, err)
		}
	}
	im := NewImage(Header{})
	if err := im.Add(recordSession, (&store.Session{ID: "s", Node: "nowhere"}).AppendWire(nil)); err == nil {
		t.Error("a session without a node was taken")
	}
	if err := im.Add(recordLockDelay, []byte{0xff}); err == nil {
		t.Error("a malformed delay was taken")
	}
}

// A lock taken and let go, among ten thousand others.
func BenchmarkLockUnlock(b *testing.B) {
	c := withSession(b, &store.Session{})
	for i := range 10000 {
		c.kv(store.KVLock, fmt.Sprintf("other/%05d", i), "v", "s")
	}
	lock := command(store.CmdKV, &store.KVCommand{Op: store.KVLock, Entry: store.KVEntry{Key: "k", Value: []byte("v"), Session: "s"}})
	unlock := command(store.CmdKV, &store.KVCommand{Op: store.KVUnlock, Entry: store.KVEntry{Key: "k", Value: []byte("v"), Session: "s"}})
	var res [2]store.Result
	for b.Loop() {
		c.Apply([]store.Command{lock, unlock}, res[:])
	}
	if !res[0].OK || !res[1].OK {
		b.Fatal(res)
	}
}

// The end of ten thousand sessions with a node, each holding a key.
func BenchmarkSessionsEndWithNode(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		c := withSession(b, &store.Session{})
		for i := range 10000 {
			id := fmt.Sprintf("s%05d", i)
			c.session(&store.Session{ID: id, Node: "n", LockDelay: time.Second, NodeChecks: []string{store.SerfHealth}})
			c.kv(store.KVLock, "k/"+id, "v", id)
		}
		b.StartTimer()
		c.apply(store.CmdDeregister, &store.DeregisterCommand{Node: "n"})
	}
}
