package consensus

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"landbridge/store"
)

// slowLog is a log on a disk that may hang: each append takes delay.
type slowLog struct {
	raft.LogStore
	delay atomic.Int64
}

func (l *slowLog) StoreLog(e *raft.Log) error { return l.StoreLogs([]*raft.Log{e}) }

func (l *slowLog) StoreLogs(es []*raft.Log) error {
	time.Sleep(time.Duration(l.delay.Load()))
	return l.LogStore.StoreLogs(es)
}

// slow puts a disk that may hang under each server.
func slowCluster(t testing.TB, n int) (*cluster, map[string]*slowLog) {
	c := newCluster(t, 0)
	disks := make(map[string]*slowLog)
	c.prepare = func(s *server) {
		disks[s.id] = &slowLog{LogStore: s.stores.Log}
		s.stores.Log = disks[s.id]
	}
	c.add(n)
	c.bootstrap()
	return c, disks
}

// A leader whose disk hangs is replaced in about two time-outs, and its callers
// are told to ask elsewhere; when the disk is back it follows, with the same state.
func TestDiskOfLeaderHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, disks := slowCluster(t, 3)
		l := c.leader(3 * time.Second)
		mustApply(t, l, "a")
		time.Sleep(5 * time.Second)
		disks[l.id].delay.Store(int64(30 * time.Second))
		begin := time.Now()
		taken := make(chan error, 1)
		go func() { _, err := l.Apply(context.Background(), put("taken")); taken <- err }()
		time.Sleep(100 * time.Millisecond)
		waiting := make(chan error, 50)
		for range cap(waiting) {
			go func() {
				_, err := l.Apply(context.Background(), put("waiting"))
				waiting <- err
			}()
		}
		var next *server
		for next == nil {
			for _, s := range c.others(l) {
				if s.IsLeader() {
					next = s
				}
			}
			time.Sleep(10 * time.Millisecond)
		}
		if took := time.Since(begin); took < 1500*time.Millisecond || took > 2500*time.Millisecond {
			t.Errorf("another leader after %v", took)
		}
		if l.IsLeader() {
			t.Error("the stalled server still says that it leads")
		}
		mustApply(t, next, "b")
		// At the stalled one nobody waits for the disk but what it has taken.
		for range cap(waiting) {
			wantKind(t, <-waiting, store.KindNoLeader)
		}
		if took := time.Since(begin); took > 4*time.Second {
			t.Errorf("those who waited were told after %v", took)
		}
		_, err := l.Apply(t.Context(), put("new"))
		wantKind(t, err, store.KindNoLeader)
		wantKind(t, l.CheckLease(), store.KindNoLeader)
		wantKind(t, l.VerifyLeader(t.Context()), store.KindNoLeader)
		if errors.Is(l.CheckLease(), ErrLease) {
			t.Error("readers are told to verify, which would wait for the disk")
		}
		disks[l.id].delay.Store(0)
		wantKind(t, <-taken, store.KindMaybeApplied)
		time.Sleep(time.Minute)
		if l.IsLeader() || !next.IsLeader() {
			t.Error("leadership went back by itself")
		}
		mustApply(t, next, "c")
		time.Sleep(time.Second)
		for _, s := range c.servers {
			if got := s.fsm.all(); !slices.Equal(got, []string{"a", "b", "c"}) {
				t.Errorf("%s has %v", s.id, got)
			}
		}
		// It may lead again.
		if err := next.TransferLeadership(t.Context(), l.id); err != nil {
			t.Fatal(err)
		}
		for !l.IsLeader() {
			time.Sleep(10 * time.Millisecond)
		}
		mustApply(t, l, "d")
	})
}

// Slow is not stalled, and a disk that hangs is no reason to leave when nobody
// could take over.
func TestDiskIsNoReasonToStepDown(t *testing.T) {
	for _, tt := range []struct {
		name    string
		servers int
		delay   time.Duration
		before  func(c *cluster, l *server)
	}{
		{"a slow disk", 3, 1200 * time.Millisecond, nil},
		{"the only server", 1, 10 * time.Second, nil},
		{"the others do not answer", 3, 10 * time.Second, func(c *cluster, l *server) {
			for _, s := range c.others(l) {
				c.isolate(s)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, disks := slowCluster(t, tt.servers)
				l := c.leader(3 * time.Second)
				mustApply(t, l, "a")
				time.Sleep(5 * time.Second)
				disks[l.id].delay.Store(int64(tt.delay))
				if tt.before != nil {
					tt.before(c, l)
					time.Sleep(500 * time.Millisecond) // their last answers are older than a lease
				}
				sent := l.wire.timeouts.Load()
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				_, err := l.Apply(ctx, put("b"))
				if tt.before == nil && err != nil {
					t.Errorf("the write: %v", err)
				}
				if l.wire.timeouts.Load() != sent {
					t.Error("another server was asked to lead")
				}
				disks[l.id].delay.Store(0)
				c.heal()
				time.Sleep(30 * time.Second)
			})
		})
	}
}

// Whoever takes over has all that is committed: a follower that is behind is not
// asked.
func TestSuccessorsAreUpToDate(t *testing.T) {
	now := time.Now()
	conf := raft.Configuration{}
	for _, id := range []string{"self", "a", "b", "c", "d"} {
		conf.Servers = append(conf.Servers, raft.Server{ID: raft.ServerID(id), Suffrage: raft.Voter})
	}
	l := newLease(time.Second, "self", func() raft.Configuration { return conf })
	l.ack("a", 3, now, 10)
	l.ack("b", 3, now, 12)
	if got := l.successors(3, 10, now.Add(100*time.Millisecond)); !slices.Equal(got, []raft.ServerID{"b", "a"}) {
		t.Errorf("got %v", got)
	}
	if got := l.successors(3, 11, now); !slices.Equal(got, []raft.ServerID{"b"}) {
		t.Errorf("behind: got %v", got)
	}
	if got := l.successors(4, 10, now); got != nil {
		t.Errorf("another term: got %v", got)
	}
	if got := l.successors(3, 10, now.Add(2*time.Second)); got != nil {
		t.Errorf("no answers for a lease: got %v", got)
	}
	l.ack("a", 3, now.Add(5*time.Second), 20)
	if got := l.successors(3, 10, now.Add(5*time.Second)); got != nil {
		t.Errorf("no quorum: got %v", got)
	}
}
