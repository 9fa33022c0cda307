package federationtest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	. "landbridge/federation/federationtest"
	"landbridge/federation/node"
)

// ca is what an agent's server knows of certificates.
type ca struct {
	Roots       []struct{ ID, State string }
	Datacenters []struct {
		Name string
		Done bool
	}
}

func caOf(h *Host) (s ca, err error) {
	reply, err := h.Call(context.Background(), http.MethodGet, "/v1/internal/federation/ca", "")
	if err == nil && reply.Code != 200 {
		err = errors.New(reply.Body)
	}
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal([]byte(reply.Body), &s)
}

// slowly looks four times a second: certificates are costly to look at.
func slowly(cond func() error) func() error {
	return func() error {
		err := cond()
		if err != nil {
			time.Sleep(250 * time.Millisecond)
		}
		return err
	}
}

func put(h *Host, path, body string) error {
	reply, err := h.Call(context.Background(), http.MethodPut, path, body)
	if err == nil && reply.Code != 200 {
		err = fmt.Errorf("%s of %s: %d %s", path, h.Name, reply.Code, reply.Body)
	}
	return err
}

// load reads from across until the returned function is called, which fails the
// test if a read failed.
func load(f *Federation, to *Datacenter, hosts ...*Host) (end func()) {
	stop := make(chan struct{})
	var all sync.WaitGroup
	for _, h := range hosts {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(150 * time.Millisecond):
				}
				if err := h.Expect("here", to.Name, "stale&dc="+to.Name); err != nil {
					f.T.Errorf("at %s: %s reads %s: %v", f.Now(), h.Name, to.Name, err)
					return
				}
			}
		})
	}
	return func() { close(stop); all.Wait() }
}

// The root is replaced while calls go on and one datacenter is cut off: no call
// fails, and when the link is back that one follows.
func TestRootRotation(t *testing.T) {
	Run(t, func(f *Federation) {
		east, west, north := f.DC("east"), f.DC("west"), f.DC("north")
		f.Slow(east, west, 40*time.Millisecond)
		fill(f, east, west, north)
		f.Must(west.Server(0).Join(east.Server(0)))
		f.Must(north.Server(0).Join(east.Server(1)))
		f.Await(5*time.Second, "all read", slowly(func() error {
			return errors.Join(bothWays(east, west)(), bothWays(east, north)(), bothWays(west, north)())
		}))
		time.Sleep(10 * time.Second)
		before, err := caOf(east.Server(0))
		f.Must(err)
		f.Partition(north, Group(append(east.Hosts(), west.Hosts()...)))
		ends := []func(){load(f, west, east.Hosts()...), load(f, east, west.Hosts()...)}
		f.Must(put(west.Server(0), "/v1/internal/federation/ca/rotate", `{"What":"root"}`))
		has := func(h *Host, roots int) error {
			s, err := caOf(h)
			if err == nil && (len(s.Roots) != roots || s.Roots[0].ID == before.Roots[0].ID) {
				err = fmt.Errorf("%s has the roots %v", h.Name, s.Roots)
			}
			return err
		}
		took := f.Await(20*time.Second, "west has the new root", slowly(func() error { return has(west.Server(0), 2) }))
		t.Logf("west has the new root after %s", took)
		f.Await(20*time.Second, "west is done with the old one", slowly(func() error {
			s, err := caOf(east.Server(0))
			for _, d := range s.Datacenters {
				if d.Done == (d.Name == "north") {
					err = fmt.Errorf("done: %v", s.Datacenters)
				}
			}
			return err
		}))
		time.Sleep(10 * time.Second)
		f.Must(has(east.Server(0), 2))
		f.Heal(north, Group(append(east.Hosts(), west.Hosts()...)))
		took = f.Await(2*time.Minute, "only the new root is left", slowly(func() error {
			var errs []error
			for _, dc := range []*Datacenter{east, west, north} {
				for _, h := range dc.Servers() {
					errs = append(errs, has(h, 1))
				}
			}
			return errors.Join(errs...)
		}))
		t.Logf("all have only the new root %s after the link was back", took)
		for _, end := range ends {
			end()
		}
		f.Must(errors.Join(bothWays(east, west)(), bothWays(east, north)(), bothWays(west, north)()))
	}, DC("east", 3), DC("west", 1), DC("north", 1))
}

// An evicted server is refused by all within seconds, goes from the lists within a
// minute, and comes back with a new certificate when the eviction is taken back.
func TestEvict(t *testing.T) {
	Run(t, func(f *Federation) {
		east, west := f.DC("east"), f.DC("west")
		f.Slow(east, west, 40*time.Millisecond)
		fill(f, east, west)
		f.Must(west.Server(0).Join(east.Server(0)))
		f.Await(5*time.Second, "all read", bothWays(east, west))
		victim := west.Followers()[0]
		end := load(f, west, east.Hosts()...)
		f.Must(put(west.Client(0), "/v1/internal/federation/evict", `{"Node":"`+victim.Name+`","Datacenter":"west"}`))
		refused := func() error {
			if err := victim.Expect("here", "east", "dc=east"); err == nil {
				return errors.New("the evicted server reads")
			}
			return nil
		}
		took := f.Await(30*time.Second, "it is refused", slowly(refused))
		t.Logf("refused after %s", took)
		gone := func() error {
			for _, h := range append(east.Servers(), west.Leader()) {
				wan, err := h.WAN()
				if err != nil {
					return err
				}
				if m, ok := wan[victim.Name+".west"]; ok {
					return fmt.Errorf("%s lists it with status %d", h.Name, m.Status)
				}
			}
			return nil
		}
		took = f.Await(time.Minute, "it is off the lists", slowly(gone))
		t.Logf("off the lists after %s more", took)
		time.Sleep(time.Minute)
		f.Must(errors.Join(gone(), refused()))
		end()

		f.Must(put(east.Server(0), "/v1/internal/federation/evict", `{"Node":"`+victim.Name+`","Datacenter":"west","Undo":true}`))
		took = f.Await(time.Minute, "it reads again", func() error { return victim.Expect("here", "east", "dc=east") })
		t.Logf("let in again, it reads after %s", took)
		took = f.Await(10*time.Second, "it is on all lists", func() error {
			for _, h := range append(east.Servers(), west.Servers()...) {
				wan, err := h.WAN()
				if err != nil {
					return err
				}
				for _, m := range append(east.Servers(), west.Servers()...) {
					name := m.Name + "." + m.DC().Name
					if wan[name].Status != 1 {
						return fmt.Errorf("%s lists %s with status %d", h.Name, name, wan[name].Status)
					}
				}
			}
			return nil
		})
		t.Logf("it is on all lists, and has all on its own, %s after that", took)
	}, DC("east", 2), DC("west", 3).Clients(1))
}

// The leader of a datacenter is evicted: the datacenter hears of it all the same, and
// has a leader that others answer, also when the evicted one is made leader again. It
// hears of the end of its eviction, too.
func TestEvictLeader(t *testing.T) {
	Run(t, func(f *Federation) {
		east, west := f.DC("east"), f.DC("west")
		f.Slow(east, west, 40*time.Millisecond)
		fill(f, east, west)
		f.Must(west.Server(0).Join(east.Server(0)))
		f.Await(5*time.Second, "all read", bothWays(east, west))
		victim := west.Leader()
		evict := func(undo bool) {
			t.Helper()
			f.Must(put(east.Server(0), "/v1/internal/federation/evict", fmt.Sprintf(`{"Node":%q,"Datacenter":"west","Undo":%t}`, victim.Name, undo)))
		}
		another := func() error {
			if l := west.Leader(); l == nil || l == victim {
				return errors.New("not yet")
			}
			return nil
		}
		evict(false)
		took := f.Await(30*time.Second, "another server of west leads", slowly(another))
		t.Logf("another leads after %s", took)
		west.AwaitLeader(10 * time.Second)
		raft, err := victim.Raft()
		f.Must(err)
		f.Must(put2(west.Leader(), http.MethodPost, "/v1/operator/raft/transfer-leader?id="+raft[victim.Name].ID))
		took = f.Await(30*time.Second, "another server of west leads again", slowly(another))
		t.Logf("another leads again after %s", took)
		if err := victim.Expect("here", "east", "dc=east"); err == nil {
			t.Error("the evicted server reads")
		}
		evict(true)
		took = f.Await(time.Minute, "it reads again", func() error { return victim.Expect("here", "east", "dc=east") })
		t.Logf("let in again, it reads after %s", took)
	}, DC("east", 1), DC("west", 3))
}

// Servers that keep out of the WAN, the leader among them, join and read by a
// server of theirs that is in it; and they hear of evictions.
func TestServersOutsideTheWAN(t *testing.T) {
	Run(t, func(f *Federation) {
		east, west := f.DC("east"), f.DC("west")
		f.Slow(east, west, 40*time.Millisecond)
		fill(f, east, west)
		door := west.Server(1)
		if west.Leader() == door {
			f.Must(put2(door, http.MethodPost, "/v1/operator/raft/transfer-leader"))
			f.Await(10*time.Second, "another leads", func() error {
				if l := west.Leader(); l == nil || l == door {
					return errors.New("not yet")
				}
				return nil
			})
			west.AwaitLeader(10 * time.Second)
		}
		if err := west.Leader().Join(east.Server(0)); err == nil || !strings.Contains(err.Error(), "federation.enabled") {
			t.Errorf("a server outside of the WAN joins: %v", err)
		}
		f.Must(door.Join(east.Server(0)))
		f.Await(5*time.Second, "all read", bothWays(east, west))
		wan, err := east.Server(0).WAN()
		f.Must(err)
		if len(wan) != 3 {
			t.Errorf("the WAN has %d members, want two of east and one of west", len(wan))
		}
		f.Must(put(east.Leader(), "/v1/internal/federation/evict", `{"Node":"`+east.Followers()[0].Name+`","Datacenter":"east"}`))
		f.Await(30*time.Second, "the leader of west has heard of it", func() error {
			reply, err := west.Leader().Call(context.Background(), http.MethodGet, "/v1/internal/federation/ca", "")
			if err == nil && !strings.Contains(reply.Body, `"Node":"`+east.Followers()[0].Name+`","Datacenter":"east"`) {
				err = errors.New(reply.Body)
			}
			return err
		})
	}, DC("east", 2), DC("west", 3).Edit(func(c *node.Config) { c.FederationOff = c.NodeName != "west-2" }))
}

func put2(h *Host, method, path string) error {
	reply, err := h.Call(context.Background(), method, path, "")
	if err == nil && reply.Code != 200 {
		err = fmt.Errorf("%d %s", reply.Code, reply.Body)
	}
	return err
}
