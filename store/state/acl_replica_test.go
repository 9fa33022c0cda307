package state

import (
	"testing"
	"time"

	"landbridge/store"
)

func replicate(t tb, s *Store, changes ...store.ACLChange) store.Result {
	t.Helper()
	r := s.ACLReplica()
	r.Position++
	return apply(s, store.CmdACL, &store.ACLCommand{Changes: changes, Replicated: true, Replica: &r})
}

func somePolicy(id, name string) store.ACLChange {
	return store.SetACL(store.ACLSet, &store.ACLPolicy{ID: id, Name: name})
}

// Records and position change together, and not by a leader that was deposed.
func TestReplicaPosition(t *testing.T) {
	s := New()
	if res := replicate(t, s, somePolicy("p1", "one")); res.Err != nil || !res.OK {
		t.Fatal(res.Err)
	}
	r := s.ACLReplica()
	if r.Position != 1 || r.Version != 1 {
		t.Fatalf("replica %+v", r)
	}
	r.Version = 0
	r.Position = 9
	res := apply(s, store.CmdACL, &store.ACLCommand{Changes: []store.ACLChange{somePolicy("p2", "two")}, Replicated: true, Replica: &r})
	if store.KindOf(res.Err) != store.KindNoLeader || s.ACLRecord(store.ACLPolicies, "p2") != nil || s.ACLReplica().Position != 1 {
		t.Fatalf("a late command: %v, replica %+v", res.Err, s.ACLReplica())
	}
	// A heartbeat moves the position alone.
	if res := replicate(t, s); res.Err != nil || !res.OK || s.ACLReplica().Position != 2 {
		t.Fatalf("%+v %v", s.ACLReplica(), res.Err)
	}
}

// What replication deleted comes back, also after a snapshot, and is fenced then.
func TestUndo(t *testing.T) {
	s := New()
	replicate(t, s, somePolicy("p1", "one"), somePolicy("p2", "two"), somePolicy("p3", "three"))
	must(t, s, store.CmdACL, &store.ACLCommand{Changes: []store.ACLChange{store.SetACL(store.ACLCreate, &store.ACLPolicy{ID: "own", Name: "own"})}})
	must(t, s, store.CmdACL, &store.ACLCommand{Changes: []store.ACLChange{store.DeleteACL(store.ACLPolicies, "own")}})
	replicate(t, s, store.DeleteACL(store.ACLPolicies, "p1"), store.DeleteACL(store.ACLPolicies, "p2"))
	// A refused command leaves nothing in the trash.
	if res := replicate(t, s, store.DeleteACL(store.ACLPolicies, "p3"), store.SetACL(store.ACLSet, &store.ACLPolicy{ID: "x"})); res.Err == nil {
		t.Fatal("a policy without a name was written")
	}
	// The name of one is another's by now.
	replicate(t, s, somePolicy("p4", "two"))
	s = reload(t, s)
	if n, _ := s.ACLTrash(); n != 2 {
		t.Fatalf("%d records in the trash, want 2", n)
	}
	res := apply(s, store.CmdACL, &store.ACLCommand{Undo: &store.ACLUndo{Fence: "undone"}})
	if done, _ := res.Value.(store.ACLUndone); res.Err != nil || done != (store.ACLUndone{Restored: 1, Skipped: 1}) {
		t.Fatalf("undone %+v, %v", res.Value, res.Err)
	}
	if s.ACLRecord(store.ACLPolicies, "p1") == nil || s.ACLRecord(store.ACLPolicies, "own") != nil || s.ACLReplica().Fence != "undone" {
		t.Errorf("replica %+v", s.ACLReplica())
	}
	// Under the fence no record takes the name of another.
	if res := replicate(t, s, somePolicy("p9", "one")); store.KindOf(res.Err) != store.KindConflict || s.ACLRecord(store.ACLPolicies, "p1") == nil {
		t.Errorf("a fenced record was pushed out: %v", res.Err)
	}
	open := s.ACLReplica()
	open.Fence = ""
	apply(s, store.CmdACL, &store.ACLCommand{Replicated: true, Replica: &open})
	if res := replicate(t, s, somePolicy("p9", "one")); res.Err != nil || s.ACLRecord(store.ACLPolicies, "p1") != nil {
		t.Errorf("without the fence: %v", res.Err)
	}
}

func TestTrashIsEmptied(t *testing.T) {
	s := New()
	at := func(now time.Duration, changes ...store.ACLChange) {
		cmd := command(store.CmdACL, &store.ACLCommand{Changes: changes, Replicated: true})
		cmd.UnixNano = int64(now)
		s.Apply([]store.Command{cmd}, make([]store.Result, 1))
	}
	at(time.Hour, somePolicy("p1", "one"), somePolicy("p2", "two"))
	at(2*time.Hour, store.DeleteACL(store.ACLPolicies, "p1"))
	at(26*time.Hour, store.DeleteACL(store.ACLPolicies, "p2"))
	if n, _ := s.ACLTrash(); n != 2 {
		t.Fatalf("%d in the trash, want 2", n)
	}
	at(26*time.Hour+1, somePolicy("p3", "three"))
	if n, oldest := s.ACLTrash(); n != 1 || !oldest.Equal(time.Unix(0, int64(26*time.Hour))) {
		t.Fatalf("%d in the trash since %s, want one of the 26th hour", n, oldest)
	}
}

// reload takes a state through a snapshot.
func reload(t tb, s *Store) *Store {
	t.Helper()
	sn := s.Snapshot()
	im := NewImage(sn.Header())
	if err := sn.Encode(func(k RecordKind, b []byte) error { return im.Add(k, b) }); err != nil {
		t.Fatalf("%v", err)
	}
	out := New()
	out.Restore(im)
	return out
}

// A feed belongs to one history, and is exact at a view.
func TestFeed(t *testing.T) {
	s := New()
	must(t, s, store.CmdCluster, &store.Cluster{ID: "c", HistoryID: "h1"})
	at := s.Index()
	for _, id := range []string{"p1", "p2", "p3"} {
		must(t, s, store.CmdACL, &store.ACLCommand{Changes: []store.ACLChange{somePolicy(id, id)}})
	}
	v := s.ACLView()
	must(t, s, store.CmdACL, &store.ACLCommand{Changes: []store.ACLChange{store.DeleteACL(store.ACLPolicies, "p1")}})
	f := s.ACLFeed(nil, at, 2, nil)
	if !f.Whole || !f.More || len(f.Events) != 2 || f.UpTo != f.Events[1].Index || f.Cluster.HistoryID != "h1" {
		t.Errorf("a limited feed: %+v", f)
	}
	f = s.ACLFeed(nil, at, 100, v)
	if !f.Whole || f.More || len(f.Events) != 3 || f.UpTo != v.Index || v.Record(store.ACLPolicies, "p1") == nil {
		t.Errorf("a feed up to a view: %+v", f)
	}
	if f = s.ACLFeed(nil, at, 100, nil); len(f.Events) != 4 || f.UpTo != s.Index() {
		t.Errorf("the whole feed: %+v", f)
	}
	if f = s.ACLFeed(nil, s.Index()+1, 100, nil); f.Whole {
		t.Error("a position of the future is known")
	}
	if s = reload(t, s); s.ACLFeed(nil, at, 100, nil).Whole {
		t.Error("the log goes back beyond a restore")
	}
}
