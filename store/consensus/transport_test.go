package consensus

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// A follower that was away for long gets what it missed as soon as it is back,
// and nobody waits for one that was removed meanwhile.
func TestReturnIsNoticed(t *testing.T) {
	for _, away := range []time.Duration{3 * time.Second, 10 * time.Minute} {
		t.Run(away.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 3)
				c.bootstrap()
				l := c.leader(3 * time.Second)
				mustApply(t, l, "first")
				behind := c.others(l)[0]
				c.isolate(behind)
				for i := range 20 {
					mustApply(t, l, fmt.Sprint(i))
					time.Sleep(away / 20)
				}
				c.heal()
				start := time.Now()
				for !slices.Equal(behind.fsm.all(), l.fsm.all()) {
					if time.Since(start) > 30*time.Second {
						t.Fatalf("it has %d entries, want %d", len(behind.fsm.all()), len(l.fsm.all()))
					}
					time.Sleep(5 * time.Millisecond)
				}
				heartbeat, _ := Timings(0)
				if took := time.Since(start); took > heartbeat {
					t.Errorf("back after %v it had everything %v later, want at most a time-out", away, took)
				}
			})
		})
	}
}

func TestWaitForTheSilentEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		c.bootstrap()
		l := c.leader(3 * time.Second)
		gone := c.others(l)[0]
		c.isolate(gone)
		mustApply(t, l, "x")
		time.Sleep(5 * time.Second)
		id := raft.ServerID(gone.id)
		if l.transport.silence.of(id) == nil {
			t.Fatal("a server that is cut off is not known to be silent")
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			l.transport.untilHeard(id, l.term())
		}()
		time.Sleep(time.Minute)
		select {
		case <-ended:
			t.Error("the wait ended while the server is a silent member")
		default:
		}
		if err := l.RemoveServer(t.Context(), gone.id); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		select {
		case <-ended:
		default:
			t.Error("the wait goes on for a server that is no member any more")
		}
	})
}

// What is committed counts when the state machine has it, not when it was handed
// over.
func TestCaughtUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		c.bootstrap()
		l := c.leader(3 * time.Second)
		f := c.others(l)[0]
		time.Sleep(time.Second) // the follower learns what is committed
		if !f.CaughtUp() {
			t.Error("an idle follower is not caught up")
		}
		f.fsm.delay = 50 * time.Millisecond
		for i := range 10 {
			mustApply(t, l, fmt.Sprint(i))
		}
		time.Sleep(200 * time.Millisecond)
		if n := len(f.fsm.all()); n == 10 || f.Raft().AppliedIndex() < f.Raft().CommitIndex() {
			t.Fatalf("the state machine has %d of 10 entries: the test shows nothing", n)
		}
		if f.CaughtUp() {
			t.Error("caught up while the state machine is behind")
		}
		time.Sleep(time.Second)
		if !f.CaughtUp() || len(f.fsm.all()) != 10 {
			t.Errorf("with all %d entries applied it is caught up: %v", len(f.fsm.all()), f.CaughtUp())
		}
		// With a snapshot of the very end, and its trailing entries in the log.
		if err := f.Raft().Snapshot().Error(); err != nil {
			t.Fatal(err)
		}
		if err := f.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.fsm = &listFSM{}
		c.begin(f)
		if f.CaughtUp() {
			t.Error("caught up before it heard from a leader")
		}
		time.Sleep(2 * time.Second)
		if !f.CaughtUp() {
			t.Error("not caught up after a restart from a snapshot")
		}
	})
}
