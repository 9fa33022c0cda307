package consensus

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"landbridge/store"
	"landbridge/store/fsm"
	"landbridge/store/raftlog"
	"landbridge/store/state"
)

func newReg() *prometheus.Registry { return prometheus.NewRegistry() }

// onDisk starts a single server on dir; it ends with the test.
func onDisk(t testing.TB, dir string, members bool) *server {
	t.Helper()
	st, err := raftlog.Open(dir, raftlog.Options{RaftID: "s1", Fatal: func(err error) { t.Errorf("fatal: %v", err) }})
	if err != nil {
		t.Fatal(err)
	}
	_, tr := raft.NewInmemTransport("addr-s1")
	s := &server{id: "s1", fsm: &listFSM{}, stores: st}
	s.Node, err = New(Config{NodeID: "s1", FSM: s.fsm, EncodeBatch: encodeList, Stores: st, Transport: tr,
		Recoveries: func() uint64 { return 4 }, Fatal: func(err error) { t.Errorf("fatal: %v", err) }})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.end(t) })
	if members {
		if err := s.Bootstrap([]Server{{ID: "s1", Address: "addr-s1", Voter: true}}); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *server) end(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Error(err)
	}
	if err := s.stores.Close(); err != nil {
		t.Error(err)
	}
}

func (s *server) ready(t testing.TB) {
	t.Helper()
	deadline := time.After(5 * time.Second)
	for {
		changed := s.LeaderChanged()
		if s.IsLeader() {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatal("no leader within 5s")
		}
	}
}

func TestDiskRestartAndRecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		begin := time.Now()
		s := onDisk(t, dir, true)
		s.ready(t)
		mustApply(t, s, "a")
		if d := time.Since(begin); d > 50*time.Millisecond {
			t.Errorf("first durable write of a new server took %v", d)
		}
		for i := range 50 {
			mustApply(t, s, fmt.Sprint(i))
		}
		// Members nobody will ever reach: the quorum is lost.
		for _, id := range []string{"s2", "s3"} {
			ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
			s.AddVoter(ctx, id, "addr-"+id)
			cancel()
		}
		want := s.fsm.all()
		s.end(t)
		copied := t.TempDir()
		if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}

		s = onDisk(t, dir, false)
		time.Sleep(5 * time.Second)
		if s.IsLeader() {
			t.Fatal("leads without a quorum")
		}
		if s.RecoveryDue() != 0 || !s.HasState() {
			t.Errorf("RecoveryDue %d, HasState %v, want 0, true", s.RecoveryDue(), s.HasState())
		}
		s.end(t)

		path := filepath.Join(dir, "raft", "peers.json")
		if err := os.WriteFile(path, []byte(`[{"id":"s1","address":"addr-s1","non_voter":false}]`), 0o600); err != nil {
			t.Fatal(err)
		}
		s = onDisk(t, dir, false)
		s.ready(t)
		if due := s.RecoveryDue(); due != 5 {
			t.Errorf("%d recoveries are due, want one more than the state's 4", due)
		}
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("peers.json is still there: %v", err)
		}
		if got := s.fsm.all(); !slices.Equal(got, want) {
			t.Errorf("after recovery %v, want %v", got, want)
		}
		if got := s.Servers(); len(got) != 1 || got[0].ID != "s1" {
			t.Errorf("servers %v, want s1 alone", got)
		}
		mustApply(t, s, "after")
		info, err := os.ReadFile(filepath.Join(dir, "raft", "peers.info"))
		var peers []peer
		if err != nil || json.Unmarshal(info, &peers) != nil || len(peers) != 1 || peers[0] != (peer{ID: "s1", Address: "addr-s1"}) {
			t.Errorf("peers.info %s, %v", info, err)
		}
		s.end(t)
		s = onDisk(t, dir, false) // and once more without the file
		s.ready(t)
		if got := s.fsm.all(); !slices.Equal(got, append(want, "after")) || s.RecoveryDue() != 5 {
			t.Errorf("after a restart %v, %d recoveries due, want 5 until somebody says it is done", got, s.RecoveryDue())
		}
		if err := s.RecoveryDone(); err != nil || s.RecoveryDue() != 0 {
			t.Errorf("RecoveryDone: %v, %d due", err, s.RecoveryDue())
		}
		s.end(t)
		s = onDisk(t, dir, false)
		if s.RecoveryDue() != 0 {
			t.Errorf("%d recoveries are due after all is done", s.RecoveryDue())
		}
		s.end(t)

		bad := filepath.Join(copied, "raft", "peers.json")
		if err := os.WriteFile(bad, []byte(`[{"id":"s1"`), 0o600); err != nil {
			t.Fatal(err)
		}
		st, err := raftlog.Open(copied, raftlog.Options{RaftID: "s1", Fatal: func(error) {}})
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		_, tr := raft.NewInmemTransport("addr-s1")
		n, err := New(Config{NodeID: "s1", FSM: &listFSM{}, Stores: st, Transport: tr, Fatal: func(error) {}})
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "peers.json") {
			t.Errorf("Start with a bad peers.json: %v", err)
		}
	})
}

// The real state machine, through a snapshot and a restart.
func TestRealStateMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		begin := func() (*server, *state.Store) {
			st, err := raftlog.Open(dir, raftlog.Options{RaftID: "s1", Fatal: func(err error) { t.Errorf("fatal: %v", err) }})
			if err != nil {
				t.Fatal(err)
			}
			_, tr := raft.NewInmemTransport("addr-s1")
			data := state.New()
			s := &server{id: "s1", stores: st}
			s.Node, err = New(Config{NodeID: "s1", FSM: fsm.New(data, discard()), Stores: st, Transport: tr,
				Fatal: func(err error) { t.Errorf("fatal: %v", err) }})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Start(context.Background()); err != nil {
				t.Fatal(err)
			}
			return s, data
		}
		kv := func(s *server, op store.KVOp, key, value string, modify store.Index) store.Result {
			cmd := store.KVCommand{Op: op, Entry: store.KVEntry{Key: key, Value: []byte(value), ModifyIndex: modify}}
			res, err := s.Apply(context.Background(), store.Command{Kind: store.CmdKV, Payload: cmd.AppendWire(nil)})
			if err != nil || res.Err != nil {
				t.Fatalf("apply: %v, %v", err, res.Err)
			}
			return res
		}
		s, _ := begin()
		if err := s.Bootstrap([]Server{{ID: "s1", Address: "addr-s1", Voter: true}}); err != nil {
			t.Fatal(err)
		}
		s.ready(t)
		first := kv(s, store.KVSet, "a", "1", 0)
		// One of many that compare with the same index may win, in one group or not.
		var won atomic.Int64
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				if kv(s, store.KVCAS, "a", fmt.Sprint("cas ", i), first.Index).OK {
					won.Add(1)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Errorf("%d compare-and-set won, want 1", won.Load())
		}
		if err := s.Raft().Snapshot().Error(); err != nil {
			t.Fatal(err)
		}
		last := kv(s, store.KVSet, "b", "2", 0)
		s.end(t)

		s, data := begin()
		defer s.end(t)
		s.ready(t)
		if _, e := data.KVGet(nil, "b"); e == nil || string(e.Value) != "2" || e.ModifyIndex != last.Index {
			t.Errorf("b after a restart: %+v, want 2 at %d", e, last.Index)
		}
		if _, e := data.KVGet(nil, "a"); e == nil || e.CreateIndex != first.Index || e.ModifyIndex == first.Index {
			t.Errorf("a after a restart: %+v", e)
		}
		if res := kv(s, store.KVSet, "c", "3", 0); res.Index <= last.Index {
			t.Errorf("index %d after a restart, was %d before", res.Index, last.Index)
		}
	})
}

func TestSnapshotAndTrailingBySize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := onDisk(t, t.TempDir(), true)
		s.ready(t)
		big := strings.Repeat("x", 200<<10)
		for range 8 {
			mustApply(t, s, big)
		}
		if err := s.Raft().Snapshot().Error(); err != nil {
			t.Fatal(err)
		}
		// 64 MB at 200 KB an entry.
		if got := s.Raft().ReloadableConfig().TrailingLogs; got < 320 || got > 330 {
			t.Errorf("trailing logs %d, want about 327", got)
		}
		s.fsm.mu.Lock()
		s.fsm.list = nil // or the snapshot would set the limit
		s.fsm.mu.Unlock()
		s.Node.fsm.limit.Store(1 << 20)
		for range 6 {
			mustApply(t, s, big)
		}
		deadline := time.After(5 * time.Second)
		for s.Node.fsm.limit.Load() != snapshotBytes { // set after the snapshot
			select {
			case <-deadline:
				t.Fatal("no snapshot after 1.2 MB of entries with a limit of 1 MB")
			case <-time.After(5 * time.Millisecond):
			}
		}
		if metas, _ := s.stores.Snapshots.List(); len(metas) != 2 {
			t.Errorf("%d snapshots, want 2", len(metas))
		}
		if err := s.ReloadSnapshots(SnapshotConfig{TrailingLogs: 200}); err != nil {
			t.Fatal(err)
		}
		mustApply(t, s, "small")
		if err := s.Raft().Snapshot().Error(); err != nil {
			t.Fatal(err)
		}
		if rc := s.Raft().ReloadableConfig(); rc.TrailingLogs != 200 || rc.SnapshotThreshold != 16384 || rc.HeartbeatTimeout != 750*time.Millisecond {
			t.Errorf("reloaded %+v", rc)
		}
	})
}

func TestRaftLogger(t *testing.T) {
	var out strings.Builder
	l := newRaftLogger(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})))
	l.Debug("not shown")
	l.Info("election won", "term", uint64(2), "node", fmtStringer{}, "servers", hclog.Fmt("%d of %d", 2, 3))
	l.Error("failed to commit logs", "error", os.ErrClosed)
	for range 5 {
		l.Error("failed to heartbeat to", "peer", "s2", "error", os.ErrClosed)
	}
	l.Error("failed to heartbeat to", "peer", "s3", "error", os.ErrClosed)
	l.Named("x").With("id", 7).Warn("odd", "alone")
	want := `level=INFO msg="election won" term=2 node="a node" servers="2 of 3"
level=ERROR msg="failed to commit logs" err="file already closed"
level=WARN msg="failed to heartbeat to" peer=s2 err="file already closed"
level=WARN msg="failed to heartbeat to" peer=s3 err="file already closed"
level=WARN msg="raft.x: odd" id=7 extra=alone
`
	if out.String() != want {
		t.Errorf("log:\n%s\nwant:\n%s", out.String(), want)
	}
	r := repeats{last: map[string]*repeat{}}
	now := time.Unix(0, 0)
	for i, want := range []struct {
		ok   bool
		left int
	}{{true, 0}, {false, 0}, {false, 0}, {true, 2}, {false, 0}} {
		if i == 3 {
			now = now.Add(repeatEvery)
		}
		if ok, left := r.pass("k", now); ok != want.ok || left != want.left {
			t.Errorf("pass %d: %v, %d, want %v", i, ok, left, want)
		}
	}
	for i := range 10 * maxRepeats {
		r.pass(fmt.Sprint(i), now)
	}
	if len(r.last) > maxRepeats {
		t.Errorf("%d messages kept", len(r.last))
	}
}

type fmtStringer struct{ Secret chan int }

func (fmtStringer) String() string { return "a node" }

func TestMetricNames(t *testing.T) {
	reg := newReg()
	newMetrics(reg)
	fams, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(fams).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("promlint: %v, %v", problems, err)
	}
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
