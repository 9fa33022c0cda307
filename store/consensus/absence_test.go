package consensus

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// A leader that is gone is replaced within a heartbeat time-out and a pause for each
// follower that a majority needs, whatever the random timers of Raft say.
func TestLeaderIsReplacedSoon(t *testing.T) {
	for _, tt := range []struct {
		servers int
		limit   time.Duration
	}{{3, 910 * time.Millisecond}, {5, 1060 * time.Millisecond}} {
		var longest time.Duration
		for range 50 {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, tt.servers)
				c.bootstrap()
				l := c.leader(3 * time.Second)
				mustApply(t, l, "a")
				time.Sleep(3 * time.Second)
				term := l.term()
				c.isolate(l)
				begin := time.Now()
				next := c.leader(5 * time.Second)
				longest = max(longest, time.Since(begin))
				if got := next.term(); got != term+1 {
					t.Errorf("%d servers: term %d after %d, want one election", tt.servers, got, term)
				}
			})
		}
		if longest > tt.limit {
			t.Errorf("%d servers: a leader was replaced after %v, want %v at most", tt.servers, longest, tt.limit)
		}
	}
}

// Also when only one of the followers has all that the leader had committed,
// whichever of them looks first.
func TestLeaderIsReplacedByTheLongerLog(t *testing.T) {
	for short := range 2 {
		for range 20 {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 3)
				c.bootstrap()
				l := c.leader(3 * time.Second)
				time.Sleep(3 * time.Second)
				behind, next := c.others(l)[short], c.others(l)[1-short]
				l.wire.Disconnect(behind.wire.LocalAddr())
				mustApply(t, l, "a")
				c.isolate(l)
				begin := time.Now()
				if got := c.leader(5 * time.Second); got != next {
					t.Errorf("%s leads, want %s", got.id, next.id)
				}
				if took := time.Since(begin); took > 750*time.Millisecond+2*150*time.Millisecond {
					t.Errorf("follower %d behind: a leader after %v", short, took)
				}
				_, err := behind.Apply(context.Background(), put("b"))
				if err == nil {
					t.Error("the server that is behind takes a write")
				}
			})
		}
	}
}

// A leader that is late, but not by a time-out, stays.
func TestLateLeaderStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		c.bootstrap()
		l := c.leader(3 * time.Second)
		term := l.term()
		for range 50 {
			f := c.others(l)[0] // it alone: the leader keeps its quorum
			l.wire.Disconnect(f.wire.LocalAddr())
			time.Sleep(590 * time.Millisecond)
			if state := f.Raft().State(); state != raft.Follower {
				t.Errorf("after 590 ms of silence the server is a %s", state)
			}
			c.connect()
			time.Sleep(400 * time.Millisecond)
		}
		if !l.IsLeader() || l.term() != term {
			t.Errorf("term %d, was %d", l.term(), term)
		}
	})
}
