package consensus

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"landbridge/store"
)

func TestLeaseCountsFromSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		c.bootstrap()
		l := c.leader(3 * time.Second)
		time.Sleep(time.Second)
		if err := l.CheckLease(); err != nil {
			t.Fatalf("lease of a healthy leader: %v", err)
		}
		// Answers are seen 400 ms after their requests were sent, as by a
		// process that stood still: Raft's own lease goes on, ours must not.
		l.wire.hold.Store(int64(400 * time.Millisecond))
		time.Sleep(1200 * time.Millisecond)
		if l.raft.Load().State() != raft.Leader {
			t.Fatal("the leader stepped down; the test needs it to lead")
		}
		err := l.CheckLease()
		wantKind(t, err, store.KindNoLeader)
		if !isLease(err) {
			t.Errorf("cause of %v is not ErrLease", err)
		}
		l.wire.hold.Store(0)
		asked := time.Now()
		if err := l.VerifyLeader(t.Context()); err != nil {
			t.Errorf("VerifyLeader: %v", err)
		}
		if h := l.lease.held.Load(); h == nil || h.sent.Before(asked) {
			t.Errorf("VerifyLeader was content with an answer to an older request: %+v, asked at %v", h, asked)
		}
		if err := l.CheckLease(); err != nil {
			t.Errorf("lease after a fresh answer: %v", err)
		}
		// Cut off, the lease is over before anybody else can be elected.
		c.isolate(l)
		cut := time.Now()
		for l.CheckLease() == nil {
			time.Sleep(time.Millisecond)
		}
		if d := time.Since(cut); d > 375*time.Millisecond {
			t.Errorf("the lease held for %v after the cut, want at most 375ms", d)
		}
	})
}

func isLease(err error) bool { return errors.Is(err, ErrLease) }

func TestNoLeaseAfterTransferBegan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		c.bootstrap()
		l := c.leader(3 * time.Second)
		time.Sleep(time.Second)
		l.wire.lost.Store(true)
		if err := l.TransferLeadership(t.Context(), ""); err == nil {
			t.Error("a transfer whose request was lost succeeded")
		}
		time.Sleep(time.Second)
		if !l.IsLeader() {
			t.Fatal("the leader is gone; the test needs it to lead on")
		}
		if err := l.CheckLease(); !isLease(err) {
			t.Errorf("lease after a transfer began: %v, want ErrLease", err)
		}
		if err := l.VerifyLeader(t.Context()); err != nil {
			t.Errorf("VerifyLeader: %v", err)
		}
		l.wire.lost.Store(false)
		to := c.others(l)[1]
		if err := l.TransferLeadership(t.Context(), to.id); err != nil {
			t.Fatalf("transfer: %v", err)
		}
		if got := c.leader(time.Second); got != to {
			t.Errorf("leader is %s, want %s", got.id, to.id)
		}
		time.Sleep(time.Second)
		if err := to.CheckLease(); err != nil {
			t.Errorf("lease of the new leader: %v", err)
		}
		wantKind(t, to.TransferLeadership(t.Context(), "nobody"), store.KindInvalid)
	})
}

// Leadership goes to a server that answers, whichever of the others is gone and for
// how long.
func TestTransferToWhoAnswers(t *testing.T) {
	for _, gone := range []int{0, 1} {
		for _, since := range []time.Duration{0, 200 * time.Millisecond, time.Second, time.Minute} {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 3)
				c.bootstrap()
				l := c.leader(3 * time.Second)
				time.Sleep(time.Second)
				c.isolate(c.others(l)[gone])
				time.Sleep(since)
				begin := time.Now()
				if err := l.TransferLeadership(t.Context(), ""); err != nil {
					t.Fatalf("other %d gone for %v: %v", gone, since, err)
				}
				next := c.others(l)[1-gone]
				if got := c.leader(time.Second); got != next {
					t.Errorf("other %d gone for %v: %s leads, want %s", gone, since, got.id, next.id)
				}
				mustApply(t, next, "a")
				limit := 100 * time.Millisecond
				if since == 0 { // nobody has noticed: an attempt costs an election time-out
					limit += 750 * time.Millisecond
				}
				if took := time.Since(begin); took > limit {
					t.Errorf("other %d gone for %v: no leader for %v", gone, since, took)
				}
			})
		}
	}
}

func TestRestartedVoterWaitsOneLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &voteGuard{StableStore: raft.NewInmemStore(), alone: new(atomic.Bool), until: time.Now().Add(375 * time.Millisecond)}
		begin := time.Now()
		g.SetUint64([]byte("CurrentTerm"), 2)
		if d := time.Since(begin); d != 0 {
			t.Errorf("a term waited %v", d)
		}
		g.SetUint64([]byte("LastVoteTerm"), 2)
		if d := time.Since(begin); d != 375*time.Millisecond {
			t.Errorf("a vote waited %v, want 375ms", d)
		}
		g.SetUint64([]byte("LastVoteTerm"), 3)
		if d := time.Since(begin); d != 375*time.Millisecond {
			t.Errorf("the second vote waited %v", d)
		}
	})
}
