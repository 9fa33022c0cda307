package federationtest_test

import (
	"sync"
	"testing"
	"time"

	. "landbridge/federation/federationtest"
)

// reading has a server read from another datacenter all the time, in the default
// and the stale mode, until the story calls what it returns: that waits for the last
// answers and says how long the slowest took.
func reading(f *Federation, from *Host, to *Datacenter) (stop func() time.Duration) {
	var mu sync.Mutex
	var slowest time.Duration
	var all sync.WaitGroup
	over := make(chan struct{})
	for _, mode := range []string{"", "&stale"} {
		all.Go(func() {
			for {
				all.Go(func() {
					start := f.Now()
					if err := from.Expect("here", to.Name, "dc="+to.Name+mode); err != nil {
						f.T.Errorf("at %s, asked at %s: %v", f.Now(), start, err)
					}
					mu.Lock()
					defer mu.Unlock()
					slowest = max(slowest, f.Now()-start)
				})
				select {
				case <-time.After(25 * time.Millisecond):
				case <-over:
					return
				}
			}
		})
	}
	return func() time.Duration {
		close(over)
		all.Wait()
		return slowest
	}
}

// The servers of a datacenter are restarted one after the other, the leader among
// them, as for an upgrade; those of the other one read from it all the time, and no
// read fails.
func TestRollingRestart(t *testing.T) {
	Run(t, func(f *Federation) {
		east, west := f.DC("east"), f.DC("west")
		f.Slow(east, west, 40*time.Millisecond)
		fill(f, east, west)
		f.Must(east.Server(0).Join(west.Server(0)))
		f.Await(time.Second, "everyone reads from the other side", bothWays(east, west))
		stop := reading(f, east.Followers()[0], west)
		for _, h := range west.Servers() {
			h.Stop()
			time.Sleep(2 * time.Second)
			h.Restart()
			west.AwaitLeader(10 * time.Second)
			time.Sleep(5 * time.Second)
		}
		if slowest := stop(); slowest > 3*time.Second {
			t.Errorf("the slowest read took %s", slowest)
		} else {
			t.Logf("the slowest read took %s", slowest)
		}
	}, DC("east", 3), DC("west", 3))
}

// A server of the other datacenter loses its power, the leader or another: no stale
// read fails, and default reads are answered again within three seconds.
func TestRemoteServerCrashes(t *testing.T) {
	for _, leader := range []bool{false, true} {
		Run(t, func(f *Federation) {
			east, west := f.DC("east"), f.DC("west")
			f.Slow(east, west, 80*time.Millisecond)
			fill(f, east, west)
			f.Must(east.Server(0).Join(west.Server(0)))
			f.Await(time.Second, "everyone reads from the other side", bothWays(east, west))
			stop := reading(f, east.Followers()[0], west)
			time.Sleep(3 * time.Second)
			if leader {
				west.Leader().Crash()
			} else {
				west.Followers()[0].Crash()
			}
			time.Sleep(10 * time.Second)
			if slowest := stop(); slowest > 3*time.Second {
				t.Errorf("leader %v: the slowest read took %s", leader, slowest)
			} else {
				t.Logf("leader %v: the slowest read took %s", leader, slowest)
			}
		}, DC("east", 3), DC("west", 3))
	}
}
