package federationtest_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	. "landbridge/federation/federationtest"
)

// Three servers and a client agent find each other and answer, whoever is asked.
func TestOneDatacenter(t *testing.T) {
	Run(t, func(f *Federation) {
		east := f.DC("east")
		if took := f.Now(); took > 3*time.Second {
			t.Errorf("the datacenter took %s to form", took)
		}
		raft, err := east.Client(0).Raft()
		f.Must(err)
		if len(raft) != 3 {
			t.Errorf("the Raft group is %v, want three servers", raft)
		}
		f.Must(east.Followers()[0].Put("by", "a follower"))
		f.Must(east.Client(0).Expect("by", "a follower"))
		f.Must(east.Client(0).Put("by", "a client"))
		for _, reader := range east.Hosts() {
			f.Must(reader.Expect("by", "a client"))
			f.Must(reader.Expect("by", "a client", "consistent"))
		}
		f.Await(5*time.Second, "every agent is in the catalog", func() error {
			for _, h := range east.Hosts() {
				if err := h.Healthy(h.Name); err != nil {
					return err
				}
			}
			return nil
		})
	}, DC("east", 3).Clients(1))
}

// The leader loses its power: writes go on within seconds, nothing that was
// acknowledged is lost, and it catches up when it is back.
func TestLeaderCrash(t *testing.T) {
	Run(t, func(f *Federation) {
		east := f.DC("east")
		client, leader := east.Client(0), east.Leader()
		done := make(chan struct{})
		var acked []string
		var gap, last time.Duration
		go func() {
			defer close(done)
			last = f.Now()
			for i := 0; f.Now() < 20*time.Second; i++ {
				key := fmt.Sprintf("k%d", i)
				if client.Put(key, key) == nil {
					acked = append(acked, key)
					gap, last = max(gap, f.Now()-last), f.Now()
				}
				time.Sleep(20 * time.Millisecond)
			}
		}()
		time.Sleep(2 * time.Second)
		leader.Crash()
		f.Await(4*time.Second, "a write through a follower", func() error { return east.Followers()[0].Put("after", "the crash") })
		<-done
		t.Logf("%d writes acknowledged, the longest gap was %s", len(acked), gap)
		if gap > 3*time.Second {
			t.Errorf("no write was acknowledged for %s, want at most 3s", gap)
		}
		if len(acked) < 500 {
			t.Errorf("only %d writes were acknowledged", len(acked))
		}
		leader.Restart()
		// Reading them all takes simulated time too: the newest tells when it is back.
		f.Await(3*time.Second, "the crashed server has the newest key", func() error {
			newest := acked[len(acked)-1]
			return leader.Expect(newest, newest, "stale")
		})
		for _, key := range acked {
			f.Must(leader.Expect(key, key, "stale"))
			f.Must(client.Expect(key, key, "consistent"))
		}
		f.Await(30*time.Second, "the crashed server votes", func() error { return votes(client, leader) })
	}, DC("east", 3).Clients(1))
}

// votes returns nil when server is a voter, as seen by h.
func votes(h, server *Host) error {
	raft, err := h.Raft()
	if err == nil && !raft[server.Name].Voter {
		return fmt.Errorf("the Raft group is %v: %s is no voter", raft, server.Name)
	}
	return err
}

// A leader cut off from the others stops answering for them, and nothing it
// refused or left open comes true behind their backs.
func TestLeaderCutOff(t *testing.T) {
	Run(t, func(f *Federation) {
		east := f.DC("east")
		old := east.Leader()
		f.Must(old.Put("k", "before"))
		others := Group(east.Followers())
		f.Partition(old, others)
		f.Await(4*time.Second, "the others elect and write", func() error { return others[0].Put("k", "after") })
		if got, err := old.Get("k"); err == nil {
			t.Errorf("the old leader still answers %q", got)
		}
		if got, err := old.Get("k", "stale"); err != nil || got != "before" {
			t.Errorf("a stale read of the old leader gives %q, %v; want its last value", got, err)
		}
		f.Heal(old, others)
		f.Await(5*time.Second, "the old leader follows", func() error { return old.Expect("k", "after") })
	}, DC("east", 3))
}

// The leader leaves: writes go on all the time, and it is gone from the Raft
// group and the catalog.
func TestLeaderLeaves(t *testing.T) {
	Run(t, func(f *Federation) {
		east := f.DC("east")
		leader, client := east.Leader(), east.Client(0)
		f.Must(client.Put("k", "v"))
		left := make(chan error, 1)
		go func() { left <- leader.Leave() }()
		for i := 0; len(left) == 0; i++ {
			start := f.Now()
			if err := client.Put("k", fmt.Sprint(i)); err != nil {
				t.Errorf("at %s, while the leader leaves: %v", f.Now(), err)
			}
			if took := f.Now() - start; took > 100*time.Millisecond {
				t.Errorf("at %s, while the leader leaves, a write took %s", f.Now(), took)
			}
			time.Sleep(20 * time.Millisecond)
		}
		f.Must(<-left)
		next := east.AwaitLeader(2 * time.Second)
		f.Await(5*time.Second, "it is forgotten", func() error {
			raft, err := next.Raft()
			if err != nil {
				return err
			}
			if _, in := raft[leader.Name]; in || len(raft) != 2 {
				return fmt.Errorf("the Raft group is %v", raft)
			}
			if err := next.Healthy(leader.Name); err == nil {
				return fmt.Errorf("%s is still in the catalog", leader.Name)
			}
			return nil
		})
		f.Must(client.Put("k", "w"))
		f.Must(client.Expect("k", "w"))
	}, DC("east", 3).Clients(1))
}

// A leader that is stopped in good order, by a signal, has another server lead first:
// who writes through it or through others notices next to nothing.
func TestLeaderStops(t *testing.T) {
	Run(t, func(f *Federation) {
		east := f.DC("east")
		time.Sleep(5 * time.Second)
		leader := east.Leader()
		stopped := make(chan struct{})
		var through sync.WaitGroup
		for i, h := range []*Host{east.Client(0), east.Followers()[0], leader} {
			through.Go(func() {
				for {
					start := f.Now()
					err := h.Put(fmt.Sprint("k", i), "v")
					took := f.Now() - start
					if h == leader && err != nil {
						// Nobody leads on a server in its last moments, which must be that.
						time.Sleep(100 * time.Millisecond)
						if !h.Running() {
							return
						}
					}
					if err != nil {
						t.Errorf("at %s, through %s while the leader stops: %v", f.Now(), h.Name, err)
					}
					if took > 100*time.Millisecond {
						t.Errorf("at %s, through %s while the leader stops, a write took %s", f.Now(), h.Name, took)
					}
					select {
					case <-stopped:
						return
					case <-time.After(5 * time.Millisecond):
					}
				}
			})
		}
		time.Sleep(time.Second)
		leader.Stop()
		time.Sleep(2 * time.Second)
		close(stopped)
		through.Wait()
		if next := east.Leader(); next == nil || next == leader {
			t.Errorf("%v leads", next)
		}
	}, DC("east", 3).Clients(1))
}

// An agent that is stopped while it starts, or twice, ends; and comes back.
func TestStops(t *testing.T) {
	Run(t, func(f *Federation) {
		east := f.DC("east")
		f.Must(east.Server(0).Put("k", "v"))
		for _, wait := range []time.Duration{0, time.Millisecond, 50 * time.Millisecond, 300 * time.Millisecond} {
			for _, h := range east.Hosts() {
				h.Stop()
				h.Stop()
				h.Restart()
			}
			time.Sleep(wait)
		}
		f.Await(10*time.Second, "all answer again", func() error {
			for _, h := range east.Hosts() {
				if err := h.Expect("k", "v"); err != nil {
					return err
				}
			}
			return nil
		})
	}, DC("east", 3).Clients(1))
}
