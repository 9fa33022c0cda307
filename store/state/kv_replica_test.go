package state

import (
	"testing"
	"time"

	"landbridge/store"
)

func copyKeys(s *Store, r store.KVReplica, changes ...store.KVChange) store.Result {
	return apply(s, store.CmdKVReplicate, &store.KVReplicateCommand{Of: "copy", Changes: changes, Replica: r})
}

// Copied keys and the position change together, only for the leader that knows the
// last version, and come back from a snapshot.
func TestKVReplica(t *testing.T) {
	s := New()
	must(t, s, store.CmdKV, &store.KVCommand{Op: store.KVSet, Entry: store.KVEntry{Key: "a/old", Value: []byte("x")}})
	r := store.KVReplica{ClusterID: "c", HistoryID: "h", Position: 7, Fence: "why", FencedAt: time.Unix(5, 0).UTC()}
	if res := copyKeys(s, r, store.KVChange{Key: "a/1", Value: []byte("v"), Flags: 3}, store.KVChange{Key: "a/old", Delete: true}, store.KVChange{Key: "a/none", Delete: true}); res.Err != nil {
		t.Fatal(res.Err)
	}
	if res := copyKeys(s, r, store.KVChange{Key: "a/2"}); store.KindOf(res.Err) != store.KindNoLeader {
		t.Errorf("a deposed leader: %v", res.Err)
	}
	if res := copyKeys(s, s.KVReplica("copy"), store.KVChange{Key: "a/2"}, store.KVChange{}); store.KindOf(res.Err) != store.KindInvalid {
		t.Errorf("no key: %v", res.Err)
	}
	check := func(s *Store) {
		t.Helper()
		_, list := s.KVList(nil, "a/")
		if len(list) != 1 || list[0].Key != "a/1" || string(list[0].Value) != "v" || list[0].Flags != 3 {
			t.Errorf("keys: %+v", list)
		}
		if got := s.KVReplica("copy"); got.Version != 1 || got.Position != 7 || got.ClusterID != "c" || got.HistoryID != "h" || got.Fence != "why" || got.FencedAt.IsZero() {
			t.Errorf("replica: %+v", got)
		}
	}
	check(s)
	im := NewImage(s.Snapshot().Header())
	if err := s.Snapshot().Encode(im.Add); err != nil {
		t.Fatal(err)
	}
	again := New()
	again.Restore(im)
	check(again)
	open := again.KVReplica("copy")
	open.Fence = ""
	copyKeys(again, open)
	if got := again.KVReplica("copy"); got.Version != 2 || !got.FencedAt.Equal(time.Time{}) {
		t.Errorf("without a fence: %+v", got)
	}
}

// The feed tells each changed key once, as it is, as far back as the log goes.
func TestKVFeed(t *testing.T) {
	s := New()
	put := func(key, value string) {
		must(t, s, store.CmdKV, &store.KVCommand{Op: store.KVSet, Entry: store.KVEntry{Key: key, Value: []byte(value)}})
	}
	from := s.Index()
	put("a/1", "x")
	view := s.KVView()
	put("a/1", "y")
	put("b", "beside")
	put("a/2", "z")
	must(t, s, store.CmdKV, &store.KVCommand{Op: store.KVDelete, Entry: store.KVEntry{Key: "a/2"}})
	f := s.KVFeed(nil, "a/", from, 10, nil)
	if !f.Whole || f.More || f.UpTo != s.Index() || len(f.Rows) != 2 || string(f.Rows[0].Entry.Value) != "y" || f.Rows[1].Entry != nil {
		t.Errorf("feed: %+v", f)
	}
	if f := s.KVFeed(nil, "a/", from, 10, view); f.UpTo != view.Index || len(f.Rows) != 1 || string(f.Rows[0].Entry.Value) != "x" {
		t.Errorf("as of the view: %+v", f)
	}
	if f := s.KVFeed(nil, "a/", from, 1, nil); !f.More || len(f.Rows) != 1 || f.UpTo >= s.Index() {
		t.Errorf("with a limit: %+v", f)
	}
	if f := s.KVFeed(nil, "a/", s.Index()+1, 10, nil); f.Whole {
		t.Error("a position of another history is known")
	}
	for i := range 2 * kvLogEvents {
		s.kvLog.add(s.index+store.Index(i), "b")
	}
	if n := len(s.kvLog.events) - s.kvLog.gone; n != kvLogEvents || cap(s.kvLog.events) > 2*kvLogEvents {
		t.Errorf("%d events, room for %d", n, cap(s.kvLog.events))
	}
	if f := s.KVFeed(nil, "a/", from, 10, nil); f.Whole {
		t.Error("what was dropped is said to be all")
	}
	im := NewImage(s.Snapshot().Header())
	if err := s.Snapshot().Encode(im.Add); err != nil {
		t.Fatal(err)
	}
	s.Restore(im)
	if f := s.KVFeed(nil, "a/", s.Index(), 10, nil); !f.Whole || len(f.Rows) != 0 {
		t.Errorf("after a restore: %+v", f)
	}
	if f := s.KVFeed(nil, "a/", from, 10, nil); f.Whole {
		t.Error("a restore forgot nothing")
	}
}
