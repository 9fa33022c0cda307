package federationtest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	. "landbridge/federation/federationtest"
)

// fill writes a key in each datacenter that says where it is.
func fill(f *Federation, dcs ...*Datacenter) {
	f.T.Helper()
	for _, dc := range dcs {
		f.Must(dc.Server(0).Put("here", dc.Name))
	}
}

// reads returns nil when every running agent of from reads from to.
func reads(from, to *Datacenter) error {
	errs := make(chan error)
	n := 0
	for _, h := range from.Hosts() {
		if h.Running() {
			n++
			go func() { errs <- h.Expect("here", to.Name, "dc="+to.Name) }()
		}
	}
	var all []error
	for range n {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}

func bothWays(a, b *Datacenter) func() error {
	return func() error { return errors.Join(reads(a, b), reads(b, a)) }
}

// Two datacenters 40 ms apart are joined by one command on any server of either:
// all servers and clients of both read from the other within a second.
func TestJoin(t *testing.T) {
	for _, tt := range []struct {
		name string
		join func(f *Federation, east, west *Datacenter)
	}{
		{"a server joins another", func(f *Federation, east, west *Datacenter) { f.Must(east.Server(0).Join(west.Server(2))) }},
		{"the other way round", func(f *Federation, east, west *Datacenter) { f.Must(west.Server(1).Join(east.Server(1))) }},
		{"leader to leader", func(f *Federation, east, west *Datacenter) { f.Must(east.Leader().Join(west.Leader())) }},
		{"follower to follower", func(f *Federation, east, west *Datacenter) {
			f.Must(east.Followers()[1].Join(west.Followers()[0]))
		}},
		{"again is no error", func(f *Federation, east, west *Datacenter) {
			f.Must(east.Server(0).Join(west.Server(0)))
			f.Must(east.Server(0).Join(west.Server(0)))
			f.Must(east.Server(1).Join(west.Server(2)))
			f.Must(west.Server(1).Join(east.Server(0)))
		}},
		{"both at once", func(f *Federation, east, west *Datacenter) {
			errs := make(chan error)
			go func() { errs <- east.Server(0).Join(west.Server(0)) }()
			go func() { errs <- west.Server(2).Join(east.Server(2)) }()
			f.Must(errors.Join(<-errs, <-errs))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			Run(t, func(f *Federation) {
				east, west := f.DC("east"), f.DC("west")
				f.Slow(east, west, 40*time.Millisecond)
				fill(f, east, west)
				before := f.Now()
				tt.join(f, east, west)
				joined := f.Now()
				took := f.Await(time.Second, "everyone reads from the other side", bothWays(east, west))
				t.Logf("the join took %s, until all could read %s", joined-before, took)
				// And it stays so.
				for range 2 {
					time.Sleep(15 * time.Second)
					f.Must(bothWays(east, west)())
				}
				for _, h := range f.Hosts() {
					dcs, err := h.Datacenters()
					f.Must(err)
					slices.Sort(dcs)
					if !slices.Equal(dcs, []string{"east", "west"}) {
						t.Errorf("%s knows the datacenters %v", h.Name, dcs)
					}
				}
			}, DC("east", 3).Clients(1), DC("west", 3).Clients(1))
		})
	}
}

// The link between two datacenters is cut: asking for the other one fails with
// its name, local requests feel nothing, and when the link is back so are all.
func TestWANCut(t *testing.T) {
	Run(t, func(f *Federation) {
		east, west := f.DC("east"), f.DC("west")
		f.Slow(east, west, 40*time.Millisecond)
		fill(f, east, west)
		f.Must(east.Server(0).Join(west.Server(0)))
		f.Await(time.Second, "everyone reads from the other side", bothWays(east, west))
		f.Must(east.Client(0).Put("here", "written from east", "dc=west"))
		f.Must(west.Client(0).Expect("here", "written from east"))
		f.Must(west.Client(0).Put("here", "west"))

		f.Partition(east, west)
		// Right after the cut, while nobody knows, and when everybody does.
		for _, wait := range []time.Duration{0, 5 * time.Second, 2 * time.Minute} {
			time.Sleep(wait)
			asked := make(chan time.Duration)
			for _, h := range east.Hosts() {
				go func() {
					start := f.Now()
					ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
					defer cancel()
					reply, err := h.Call(ctx, "GET", "/v1/kv/here?dc=west", "")
					switch {
					case err != nil:
						t.Errorf("%s gave no answer: %v", h.Name, err)
					case reply.Code != 500 || !strings.Contains(reply.Body, `"west"`):
						t.Errorf("at %s %s answers %d %q for the cut datacenter, want an error that names it", f.Now(), h.Name, reply.Code, reply.Body)
					}
					asked <- f.Now() - start
				}()
			}
			for range 100 {
				for _, h := range f.Hosts() {
					start := f.Now()
					f.Must(h.Expect("here", h.DC().Name))
					if took := f.Now() - start; took > 50*time.Millisecond {
						t.Errorf("a local read of %s took %s during the cut", h.Name, took)
					}
				}
				time.Sleep(10 * time.Millisecond)
			}
			slowest := time.Duration(0)
			for range east.Hosts() {
				slowest = max(slowest, <-asked)
			}
			t.Logf("%s into the cut the slowest error took %s", wait, slowest)
			if slowest > 5*time.Second {
				t.Errorf("an error about the cut datacenter took %s", slowest)
			}
		}
		f.Heal(east, west)
		took := f.Await(10*time.Second, "everyone reads again", bothWays(east, west))
		t.Logf("all read %s after the link was back", took)
	}, DC("east", 3).Clients(1), DC("west", 3).Clients(1))
}

// A server that restarts on its address, after a crash or a stop, answers the
// other datacenter again within three seconds.
func TestRestart(t *testing.T) {
	for _, tt := range []struct {
		name string
		down func(h *Host)
		away time.Duration
	}{
		{"crash", (*Host).Crash, time.Second},
		{"crash, away for a minute", (*Host).Crash, time.Minute},
		{"stop", (*Host).Stop, time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			Run(t, func(f *Federation) {
				east, west := f.DC("east"), f.DC("west")
				f.Slow(east, west, 40*time.Millisecond)
				fill(f, east, west)
				f.Must(east.Server(0).Join(west.Server(0)))
				f.Await(time.Second, "everyone reads from the other side", bothWays(east, west))
				tt.down(west.Server(0))
				time.Sleep(tt.away)
				west.Server(0).Restart()
				took := f.Await(3*time.Second, "east reads from the restarted server", func() error { return reads(east, west) })
				t.Logf("answered %s after its restart", took)
				f.Await(3*time.Second, "and it reads from east", func() error { return reads(west, east) })
			}, DC("east", 1), DC("west", 1))
		})
	}
}

// A datacenter that does not prove that it knows the key is refused, and nothing
// of the attempt stays.
func TestJoinRefused(t *testing.T) {
	for _, tt := range []struct {
		name       string
		east, west []byte
		want       string
	}{
		{"another key", []byte("sixteen byte key"), []byte("another 16 bytes"), "key"},
		{"no key on one side", []byte("sixteen byte key"), nil, "key"},
		{"no key on the other", nil, []byte("sixteen byte key"), "key"},
		{"no key at all", nil, nil, "key"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			Run(t, func(f *Federation) {
				east, west := f.DC("east"), f.DC("west")
				roots := func(dc *Datacenter) string {
					reply, err := dc.Server(0).Call(context.Background(), "GET", "/v1/connect/ca/roots", "")
					f.Must(err)
					return reply.Body
				}
				f.Await(5*time.Second, "both have their authority", func() error {
					for _, dc := range []*Datacenter{east, west} {
						if r := roots(dc); !strings.Contains(r, "BEGIN CERTIFICATE") {
							return errors.New(r)
						}
					}
					return nil
				})
				before := roots(east) + roots(west)
				err := east.Server(0).Join(west.Server(0))
				if err == nil {
					t.Fatal("the join was accepted")
				}
				t.Log(err)
				if !strings.Contains(err.Error(), tt.want) {
					t.Errorf("the refusal does not say %q: %v", tt.want, err)
				}
				time.Sleep(time.Minute)
				for _, h := range f.Hosts() {
					wan, err := h.WAN()
					f.Must(err)
					for name := range wan {
						if !strings.HasSuffix(name, "."+h.DC().Name) {
							t.Errorf("%s has the WAN member %s", h.Name, name)
						}
					}
					if dcs, err := h.Datacenters(); err != nil || len(dcs) != 1 {
						t.Errorf("%s knows the datacenters %v, %v", h.Name, dcs, err)
					}
				}
				if after := roots(east) + roots(west); after != before {
					t.Errorf("the refused join changed the roots:\n%s\n%s", before, after)
				}
			}, DC("east", 2).Key(tt.east), DC("west", 1).Key(tt.west))
		})
	}
}

// A server that joins a federated datacenter finds the WAN by itself.
func TestLaterServer(t *testing.T) {
	Run(t, func(f *Federation) {
		east, west := f.DC("east"), f.DC("west")
		f.Slow(east, west, 40*time.Millisecond)
		fill(f, east, west)
		f.Must(east.Server(0).Join(west.Server(0)))
		late := east.Add()
		took := f.Await(5*time.Second, "the new server reads from the other side", func() error { return late.Expect("here", "west", "dc=west") })
		t.Logf("the new server read %s after its start", took)
		f.Await(5*time.Second, "all servers have it in the WAN", func() error {
			for _, h := range append(east.Servers(), west.Servers()...) {
				wan, err := h.WAN()
				if err != nil {
					return err
				}
				if wan[late.Name+".east"].Status != 1 {
					return fmt.Errorf("%s does not see it alive: %v", h.Name, wan)
				}
			}
			return nil
		})
		f.Await(30*time.Second, "it votes", func() error { return votes(east.Server(0), late) })
	}, DC("east", 3), DC("west", 1))
}

// Servers of a federated datacenter leave, the leader and the one that was joined
// among them: the rest is not disturbed, and the other side forgets them.
func TestFederationServersLeave(t *testing.T) {
	Run(t, func(f *Federation) {
		east, west := f.DC("east"), f.DC("west")
		f.Slow(east, west, 40*time.Millisecond)
		fill(f, east, west)
		f.Must(east.Server(0).Join(west.Followers()[0]))
		f.Await(time.Second, "everyone reads from the other side", bothWays(east, west))
		leave := func(h *Host) {
			t.Helper()
			left := make(chan error, 1)
			go func() { left <- h.Leave() }()
			for ; len(left) == 0; time.Sleep(20 * time.Millisecond) {
				if err := reads(east, west); err != nil {
					t.Errorf("at %s, while %s leaves: %v", f.Now(), h.Name, err)
				}
			}
			f.Must(<-left)
			f.Await(5*time.Second, h.Name+" has left the WAN", func() error {
				for _, other := range east.Servers() {
					wan, err := other.WAN()
					if err != nil {
						return err
					}
					if s := wan[h.Name+".west"].Status; s != 3 && s != 0 {
						return fmt.Errorf("%s sees it with status %d", other.Name, s)
					}
				}
				return nil
			})
			f.Must(bothWays(east, west)())
		}
		leave(west.Followers()[0])
		leave(west.Leader())
	}, DC("east", 3), DC("west", 4))
}
