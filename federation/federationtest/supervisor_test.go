package federationtest

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"landbridge/federation/node"
)

// supervisor hears what agents tell a service manager.
type supervisor struct {
	mu   sync.Mutex
	said map[string][]string
}

func (s *supervisor) watch(c *node.Config) {
	c.WatchdogInterval = 20 * time.Second
	c.Supervisor = func(state string) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.said[c.NodeName] = append(s.said[c.NodeName], state)
		return nil
	}
}

// take returns what an agent said since the last time.
func (s *supervisor) take(h *Host) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.said[h.Name]
	s.said[h.Name] = nil
	return list
}

func count(list []string, part string) (n int) {
	for _, l := range list {
		if strings.Contains(l, part) {
			n++
		}
	}
	return n
}

// TestSupervisor: a server is ready when it has a leader, whatever becomes of the
// other datacenter; one that had state and finds no quorum is ready for stale
// reads; one without state that waits for others is not, and asks for more time.
func TestSupervisor(t *testing.T) {
	s := &supervisor{said: map[string][]string{}}
	Run(t, func(f *Federation) {
		east, west := f.DC("east"), f.DC("west")
		east.AwaitLeader(15 * time.Second)
		f.Must(west.Server(0).Join(east.Server(0)))
		f.Partition(east, west)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		for _, h := range east.Servers() {
			said := s.take(h)
			if n := count(said, "READY=1"); n != 1 {
				t.Errorf("%s said READY=1 %d times: %q", h.Name, n, said)
			}
			if n := count(said, "WATCHDOG=1"); n < 4 {
				t.Errorf("%s fed the watchdog %d times in half a minute, want one each 5 s", h.Name, n)
			}
		}

		// No quorum: the only one that comes back serves stale reads, and says so.
		lone := east.Server(0)
		for _, h := range east.Servers() {
			h.Crash()
		}
		s.take(lone)
		lone.Restart()
		time.Sleep(9 * time.Second)
		synctest.Wait()
		if said := s.take(lone); count(said, "READY=1") != 0 || count(said, "EXTEND_TIMEOUT_USEC=") == 0 {
			t.Errorf("before it has waited for a leader: %q", said)
		}
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if said := s.take(lone); count(said, "READY=1\nSTATUS=server of east, no leader, serves stale reads only") != 1 {
			t.Errorf("a server with state and without quorum: %q", said)
		}

		// As good as new: it has nothing to serve until the others are back.
		fresh := east.Server(1)
		fresh.Wipe()
		lone.Crash()
		fresh.Restart()
		time.Sleep(time.Minute)
		synctest.Wait()
		if said := s.take(fresh); count(said, "READY=1") != 0 || count(said, "EXTEND_TIMEOUT_USEC=30000000\n") < 10 || count(said, "(1 of 3)") == 0 {
			t.Errorf("a server without state, alone: %q", said)
		}
		lone.Restart()
		east.Server(2).Restart()
		f.Await(30*time.Second, "readiness", func() error {
			if said := s.take(fresh); count(said, "READY=1") == 0 {
				return fmt.Errorf("said %q", said)
			}
			return nil
		})
	}, DC("east", 3).Edit(s.watch), DC("west", 1))
}
