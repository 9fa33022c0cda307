package consensus

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"landbridge/store"
	"landbridge/store/raftlog"
)

func TestSingleServerServesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		s := c.servers[0]
		if s.HasState() {
			t.Error("state in a new server")
		}
		_, err := s.Apply(t.Context(), put("early"))
		wantKind(t, err, store.KindNoLeader)
		begin := time.Now()
		c.bootstrap()
		c.leader(time.Second)
		mustApply(t, s, "a")
		if d := time.Since(begin); d > 50*time.Millisecond {
			t.Errorf("first write after bootstrap took %v, want under 50ms", d)
		}
		if err := s.CheckLease(); err != nil {
			t.Errorf("CheckLease alone: %v", err)
		}
		if err := s.VerifyLeader(t.Context()); err != nil {
			t.Errorf("VerifyLeader alone: %v", err)
		}
		wantKind(t, s.Bootstrap([]Server{{ID: s.id, Address: "addr-s1", Voter: true}}), store.KindConflict)

		if err := s.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err = s.Apply(t.Context(), put("late"))
		wantKind(t, err, store.KindNoLeader)
		s.fsm = &listFSM{}
		begin = time.Now()
		c.begin(s)
		c.leader(time.Second)
		mustApply(t, s, "b")
		if d := time.Since(begin); d > 50*time.Millisecond {
			t.Errorf("first write after a restart took %v, want under 50ms", d)
		}
		if got := s.fsm.all(); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("list %v, want a b", got)
		}
		if !s.HasState() {
			t.Error("no state after a restart")
		}
	})
}

func TestElectFailOverHeal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		begin := time.Now()
		c.bootstrap()
		first := c.leader(3 * time.Second)
		if d := time.Since(begin); d > 500*time.Millisecond {
			t.Errorf("first leader after %v, want the bootstrapping server at once", d)
		}
		mustApply(t, first, "a")
		// A follower that has not got the configuration yet would count as one
		// that still hears its leader, and refuse the first vote.
		time.Sleep(time.Second)
		id, addr := first.Leader()
		if id != first.id || addr != "addr-"+first.id {
			t.Errorf("leader is %s at %s, want %s", id, addr, first.id)
		}
		follower := c.others(first)[0]
		if _, err := follower.Apply(t.Context(), put("x")); store.KindOf(err) != store.KindNoLeader {
			t.Errorf("apply on a follower: %v, want KindNoLeader", err)
		}
		wantKind(t, follower.CheckLease(), store.KindNoLeader)
		wantKind(t, follower.VerifyLeader(t.Context()), store.KindNoLeader)

		c.isolate(first)
		cut := time.Now()
		second := c.leader(5 * time.Second)
		// A timer of 750 to 1,500 ms that found a fresh contact runs once more,
		// and both followers must have lost the leader: 2 s in 49 of 50 runs.
		if d := time.Since(cut); d > 4*time.Second {
			t.Errorf("a new leader after %v", d)
		}
		mustApply(t, second, "b")
		wantKind(t, first.CheckLease(), store.KindNoLeader)

		c.heal()
		time.Sleep(3 * time.Second)
		for _, s := range c.servers {
			if got := s.fsm.all(); !slices.Equal(got, []string{"a", "b"}) {
				t.Errorf("%s has %v, want a b", s.id, got)
			}
		}
		if d := c.others(c.leader(time.Second))[0].LastContact(); d > time.Second {
			t.Errorf("last contact of a follower: %v", d)
		}
	})
}

func TestLostQuorum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		c.bootstrap()
		l := c.leader(3 * time.Second)
		mustApply(t, l, "a")
		drain(l.Leadership())
		for _, o := range c.others(l) {
			c.isolate(o)
		}
		begin := time.Now()
		_, err := l.Apply(t.Context(), put("b"))
		wantKind(t, err, store.KindMaybeApplied)
		if !strings.Contains(err.Error(), "leadership lost while committing log") {
			t.Errorf("error %q", err)
		}
		if d := time.Since(begin); d > time.Second {
			t.Errorf("answered after %v, want about a lease (375ms)", d)
		}
		if leads := <-l.Leadership(); leads {
			t.Error("Leadership says true after the loss")
		}
		_, err = l.Apply(t.Context(), put("c"))
		wantKind(t, err, store.KindNoLeader)
		if err.Error() != "No cluster leader" {
			t.Errorf("error %q, want the words clients know", err)
		}
		// Without a quorum Stop still ends: the cleanup checks that.
	})
}

func drain(c <-chan bool) {
	for {
		select {
		case <-c:
		default:
			return
		}
	}
}

// A follower so far behind that the log no longer has what it misses.
func TestFollowerCatchesUpBySnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		c.bootstrap()
		l := c.leader(3 * time.Second)
		mustApply(t, l, "first")
		behind := c.others(l)[0]
		c.isolate(behind)
		if err := l.ReloadSnapshots(SnapshotConfig{TrailingLogs: 5}); err != nil {
			t.Fatal(err)
		}
		for i := range 100 {
			mustApply(t, l, fmt.Sprint(i))
		}
		if err := l.Raft().Snapshot().Error(); err != nil {
			t.Fatal(err)
		}
		mustApply(t, l, "last")
		time.Sleep(time.Minute)
		c.heal()
		time.Sleep(time.Second)
		behind.fsm.mu.Lock()
		if behind.fsm.restore != 1 {
			t.Errorf("restored %d times, want 1", behind.fsm.restore)
		}
		behind.fsm.mu.Unlock()
		if got, want := behind.fsm.all(), l.fsm.all(); !slices.Equal(got, want) {
			t.Errorf("%d entries after catching up, want %d", len(got), len(want))
		}
		if !l.IsLeader() {
			t.Error("the returning follower unseated the leader")
		}
	})
}

func TestMembership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		s := c.servers[0]
		if err := s.Bootstrap([]Server{{ID: "s1", Address: "addr-s1", Voter: true}}); err != nil {
			t.Fatal(err)
		}
		c.leader(time.Second)
		mustApply(t, s, "a")
		if !s.alone.Load() {
			t.Error("a lone server does not know it is alone")
		}
		if err := s.AddNonvoter(t.Context(), "s2", "addr-s2"); err != nil {
			t.Fatal(err)
		}
		if s.alone.Load() {
			t.Error("alone with a non-voter")
		}
		if err := s.AddVoter(t.Context(), "s2", "addr-s2"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if err := s.CheckLease(); err != nil {
			t.Errorf("lease with two voters: %v", err)
		}
		if err := s.AddNonvoter(t.Context(), "s3", "addr-s3"); err != nil {
			t.Fatal(err)
		}
		want := []Server{{"s1", "addr-s1", true}, {"s2", "addr-s2", true}, {"s3", "addr-s3", false}}
		if got := s.Servers(); !slices.Equal(got, want) {
			t.Errorf("servers %v, want %v", got, want)
		}
		// The non-voter's answers count for nothing.
		c.isolate(c.servers[1])
		time.Sleep(400 * time.Millisecond)
		if err := s.CheckLease(); err == nil {
			t.Error("a lease without the other voter")
		}
		c.heal()
		l := c.leader(5 * time.Second)
		for _, id := range []string{"s2", "s1", "s3"} {
			if id != l.id {
				if err := l.RemoveServer(t.Context(), id); err != nil {
					t.Fatal(err)
				}
			}
		}
		synctest.Wait()
		if err := l.CheckLease(); err != nil || !l.alone.Load() {
			t.Errorf("lease alone again: %v", err)
		}
		if err := l.Barrier(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestLifeCycle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, tr := raft.NewInmemTransport("a")
		cfg := Config{NodeID: "s1", FSM: &listFSM{}, Stores: raftlog.OpenMemory(), Transport: tr, Fatal: func(err error) { t.Error(err) }}
		if _, err := New(Config{Multiplier: 11}); err == nil || !strings.Contains(err.Error(), "raft_multiplier cannot be 11") || !strings.Contains(err.Error(), "Transport is required") {
			t.Errorf("New: %v, want all problems", err)
		}
		n, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if n.IsLeader() || n.LastContact() != 0 || n.Stats() != nil || len(n.Servers()) != 0 {
			t.Error("a node that was not started says something")
		}
		wantKind(t, n.Bootstrap(nil), store.KindNoLeader)
		wantKind(t, n.Barrier(t.Context()), store.KindNoLeader)
		for range 2 {
			if err := n.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if err := n.Start(t.Context()); err == nil {
			t.Error("Start after Stop succeeded")
		}
		cfg.Registerer = nil
		n, err = New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := n.Start(t.Context()); err == nil {
			t.Error("second Start succeeded")
		}
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if err := n.Stop(t.Context()); err != nil {
					t.Error(err)
				}
			})
			wg.Go(func() { n.Apply(t.Context(), put("x")) })
			wg.Go(func() { n.VerifyLeader(t.Context()) })
			wg.Go(func() { n.Barrier(t.Context()) })
		}
		wg.Wait()
	})
}

func TestTimings(t *testing.T) {
	for m, want := range map[int]time.Duration{0: 750, 1: 500, 3: 500, 4: 600, 5: 750, 10: 1500} {
		hb, lease := Timings(m)
		if hb != want*time.Millisecond || lease != hb/2 {
			t.Errorf("Timings(%d) = %v, %v, want %v and half", m, hb, lease, want*time.Millisecond)
		}
	}
}

// A server that runs an earlier version would stop at a command it does not know, so
// a leader does not propose one before all have that version.
func TestNewCommandsWaitForAllServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const unknown = store.CommandKind(60000)
		var mu sync.Mutex
		versions := map[string]int{"s1": unknown.Since(), "s2": unknown.Since(), "s3": unknown.Since() - 1}
		c := newCluster(t, 3)
		c.commandVersion = func(id string) int {
			mu.Lock()
			defer mu.Unlock()
			return versions[id]
		}
		c.bootstrap()
		leader := c.leader(3 * time.Second)
		mustApply(t, leader, "old")
		newer := store.Command{Kind: unknown, Payload: []byte("new")}
		_, err := leader.Apply(t.Context(), newer)
		wantKind(t, err, store.KindNotBuilt)
		if want := fmt.Sprintf("needs version %d of the commands, and server s3 (addr-s3) has %d", unknown.Since(), unknown.Since()-1); !strings.Contains(err.Error(), want) {
			t.Errorf("error %q, want it to say %q", err, want)
		}
		_, errs := leader.ApplyAll(t.Context(), []store.Command{put("beside"), newer})
		for _, err := range errs {
			wantKind(t, err, store.KindNotBuilt)
		}
		newer.Ignorable = true
		if _, err := leader.Apply(t.Context(), newer); err != nil {
			t.Errorf("an ignorable command: %v", err)
		}
		newer.Ignorable = false
		mu.Lock()
		versions["s3"] = unknown.Since()
		mu.Unlock()
		if _, err := leader.Apply(t.Context(), newer); err != nil {
			t.Errorf("when all servers have the version: %v", err)
		}
		if got := leader.fsm.all(); !slices.Equal(got, []string{"old", "new", "new"}) {
			t.Errorf("list %v", got)
		}
	})
}
