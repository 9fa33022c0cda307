package consensus

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"landbridge/store/raftlog"
)

// A stopped server's folder tells its group, and is made the whole of it, once or
// twice: the second time, as after a crash in between, changes nothing.
func TestRecoverStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := onDisk(t, dir, true)
		s.ready(t)
		for i := range 20 {
			mustApply(t, s, fmt.Sprint(i))
		}
		for _, id := range []string{"s2", "s3"} { // nobody will ever reach them: the quorum is lost
			ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
			_ = s.AddVoter(ctx, id, "addr-"+id)
			cancel()
		}
		want, last := s.fsm.all(), s.Raft().LastIndex()
		s.end(t)

		open := func() *raftlog.Stores {
			t.Helper()
			st, err := raftlog.Open(dir, raftlog.Options{RaftID: "s1", Fatal: func(err error) { t.Errorf("fatal: %v", err) }})
			if err != nil {
				t.Fatal(err)
			}
			return st
		}
		st := open()
		got, err := Inspect(st)
		if err != nil || got.LastIndex != last || got.LastTerm != 2 || len(got.Servers) != 3 || got.Servers[2] != (Server{"s3", "addr-s3", true}) {
			t.Fatalf("found %+v, %v, want three servers, the log up to %d of term 2", got, err, last)
		}
		for range 2 {
			f := &listFSM{}
			err := Recover(Config{NodeID: "s1", FSM: f, Stores: st, Recoveries: func() uint64 { return 0 }}, []Server{{"s1", "addr-new", true}})
			if err != nil || !slices.Equal(f.all(), want) {
				t.Fatalf("recovered %v, %v, want %v", f.all(), err, want)
			}
			if got, err := Inspect(st); err != nil || got.LastIndex != last || len(got.Servers) != 1 || got.Servers[0].Address != "addr-new" {
				t.Errorf("afterwards %+v, %v, want s1 alone at its new address", got, err)
			}
		}
		if b, err := os.ReadFile(filepath.Join(st.Dir(), recoveryFile)); err != nil || string(b) != `{"recoveries":1}`+"\n" {
			t.Errorf("the note says %s, %v, want one recovery", b, err)
		}
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
		s = onDisk(t, dir, false)
		s.ready(t)
		if got := s.fsm.all(); !slices.Equal(got, want) || s.RecoveryDue() != 1 {
			t.Errorf("it starts with %v, %d recoveries due", got, s.RecoveryDue())
		}
		mustApply(t, s, "after")

		empty, err := raftlog.Open(t.TempDir(), raftlog.Options{RaftID: "s1", Fatal: func(error) {}})
		if err != nil {
			t.Fatal(err)
		}
		defer empty.Close()
		if err := Recover(Config{NodeID: "s1", FSM: &listFSM{}, Stores: empty}, []Server{{"s1", "a", true}}); err == nil {
			t.Error("nothing was recovered without an error")
		}
	})
}
