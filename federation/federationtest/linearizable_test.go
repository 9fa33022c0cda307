package federationtest_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	. "landbridge/federation/federationtest"
	"landbridge/federation/federationtest/history"
)

// via asks a host; params are the modes that reads and writes go with.
func via(h *Host, params ...string) history.Via {
	return history.Via{Name: h.Name, Params: params, Call: func(ctx context.Context, method, path, body string) (int, string, error) {
		if !h.Running() {
			return 0, "", fmt.Errorf("%s does not run: %w", h.Name, history.ErrNotSent)
		}
		r, err := h.Call(ctx, method, path, body)
		if err != nil {
			return 0, "", err
		}
		return r.Code, r.Body, nil
	}}
}

// users are eight who work on the same three keys.
func users(seed uint64, ask func(user int, rng *rand.Rand) history.Via) history.Load {
	return history.Load{
		Clients: 8, Keys: []string{"a", "b", "c"}, Seed: seed, Block: 0.2,
		Pause: 50 * time.Millisecond, Timeout: 5 * time.Second, Via: ask,
	}
}

// either picks a host, and one of the two modes that promise the latest value. Every
// other user stays with a host: those who roam soon all wait for one that hangs,
// and somebody has to go on with the others.
func either(hosts []*Host, params ...string) func(user int, rng *rand.Rand) history.Via {
	return func(user int, rng *rand.Rand) history.Via {
		h := hosts[rng.IntN(len(hosts))]
		if user%2 == 0 {
			h = hosts[user/2%len(hosts)]
		}
		if rng.IntN(2) == 0 {
			return via(h, append([]string{"consistent"}, params...)...)
		}
		return via(h, params...)
	}
}

// during lets users work while the faults happen, and reads all keys through
// every host when they are over.
func during(f *Federation, load history.Load, readers []*Host, params []string, faults func(r *history.Recorder)) *history.Recorder {
	f.T.Helper()
	r := new(history.Recorder)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { load.Run(ctx, r); close(done) }()
	faults(r)
	f.Await(30*time.Second, "every host writes again", func() error {
		for _, h := range readers {
			if err := h.Put("over", "and done", params...); err != nil {
				return err
			}
		}
		return nil
	})
	cancel()
	<-done
	for _, h := range readers {
		f.Must(load.ReadAll(context.Background(), r, via(h, params...)))
	}
	return r
}

// linearizable fails the test unless some order explains the history.
func linearizable(t *testing.T, r *history.Recorder, atLeast int) {
	t.Helper()
	t.Log(r)
	err := errors.Join(r.Err(), history.Check(r.Ops(), time.Minute))
	if err != nil {
		t.Error(err)
	}
	if n := len(r.Ops()); n < atLeast {
		t.Errorf("the history has %d operations, want at least %d", n, atLeast)
	}
	picture(t, err)
}

// picture leaves a page that shows the violation; see it with -artifacts.
func picture(t *testing.T, err error) {
	t.Helper()
	var v *history.Violation
	if !errors.As(err, &v) {
		return
	}
	file, err := os.Create(filepath.Join(t.ArtifactDir(), "history.html"))
	if err != nil {
		t.Error(err)
		return
	}
	defer file.Close()
	if err := v.Picture(file); err != nil {
		t.Error(err)
	}
}

// others are the running hosts but one.
func others(hosts []*Host, but *Host) (g Group) {
	for _, h := range hosts {
		if h != but {
			g = append(g, h)
		}
	}
	return g
}

// upTo is a random time.
func upTo(rng *rand.Rand, long time.Duration) time.Duration {
	return time.Duration(rng.Int64N(int64(long)))
}

// pause waits for about so long.
func pause(rng *rand.Rand, long time.Duration) { time.Sleep(long/2 + upTo(rng, long)) }

// hold holds back what two hosts send each other, for so long.
func hold(f *Federation, a, b Side, long time.Duration) {
	f.Partition(a, b)
	time.Sleep(long)
	f.Heal(a, b)
}

// Nobody sees a lost update, a stale value or a write that happens twice, while
// servers crash and come back, are cut off with users on both sides of the cut,
// or hear from each other late.
func TestLinearizable(t *testing.T) {
	const seed = 1
	for name, faults := range map[string]func(f *Federation, east *Datacenter, rng *rand.Rand){
		"the leader crashes": func(f *Federation, east *Datacenter, rng *rand.Rand) {
			for range 4 {
				pause(rng, 2*time.Second)
				leader := east.AwaitLeader(20 * time.Second)
				leader.Crash()
				pause(rng, 3*time.Second)
				leader.Restart()
			}
		},
		"the leader is cut off": func(f *Federation, east *Datacenter, rng *rand.Rand) {
			for range 4 {
				pause(rng, 2*time.Second)
				leader := east.AwaitLeader(20 * time.Second)
				hold(f, leader, others(east.Hosts(), leader), time.Second+upTo(rng, 4*time.Second))
			}
		},
		"one link of the leader is cut": func(f *Federation, east *Datacenter, rng *rand.Rand) {
			for i := range 4 {
				pause(rng, 2*time.Second)
				leader := east.AwaitLeader(20 * time.Second)
				hold(f, leader, others(east.Servers(), leader)[i%2], time.Second+upTo(rng, 4*time.Second))
			}
		},
		"messages come late": func(f *Federation, east *Datacenter, rng *rand.Rand) {
			for range 40 {
				a := east.Hosts()[rng.IntN(4)]
				b := others(east.Hosts(), a)
				hold(f, a, b[rng.IntN(3)], upTo(rng, 600*time.Millisecond))
				pause(rng, 100*time.Millisecond)
			}
		},
		"all of it": func(f *Federation, east *Datacenter, rng *rand.Rand) {
			for range 8 {
				pause(rng, time.Second)
				h := east.Servers()[rng.IntN(3)]
				if leader := east.Leader(); leader != nil && rng.IntN(2) == 0 {
					h = leader
				}
				rest := others(east.Hosts(), h)
				switch rng.IntN(3) {
				case 0:
					h.Crash()
					hold(f, rest[0], rest[1], upTo(rng, 300*time.Millisecond))
					pause(rng, time.Second)
					h.Restart()
				case 1:
					hold(f, h, rest, upTo(rng, 3*time.Second))
				case 2:
					hold(f, h, rest[:2], upTo(rng, 500*time.Millisecond))
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			var r *history.Recorder
			Run(t, func(f *Federation) {
				east := f.DC("east")
				for _, h := range east.Servers() { // so that power goes while something is not yet on the disk
					h.SyncTakes(func() time.Duration { return rand.N(20 * time.Millisecond) })
				}
				rng := rand.New(rand.NewPCG(seed, 99))
				r = during(f, users(seed, either(east.Hosts())), east.Hosts(), nil, func(*history.Recorder) { faults(f, east, rng) })
			}, DC("east", 3).Clients(1))
			linearizable(t, r, 500)
		})
	}
}

// A host loses the leader while it has many requests under way: some have been
// carried out, and only the answer is lost. Nothing is sent twice then.
func TestLinearizableWhenAnswersAreLost(t *testing.T) {
	var r *history.Recorder
	Run(t, func(f *Federation) {
		east := f.DC("east")
		rng := rand.New(rand.NewPCG(6, 6))
		r = during(f, users(6, either(east.Servers())), east.Hosts(), nil, func(all *history.Recorder) {
			for i := range 6 {
				pause(rng, time.Second)
				leader := east.AwaitLeader(20 * time.Second)
				host := append(east.Followers(), east.Client(0))[i%3]
				busy := users(7, either([]*Host{host}))
				busy.First, busy.Clients, busy.Pause = 100*(i+1), 12, time.Millisecond
				ctx, cancel := context.WithCancel(context.Background())
				done := make(chan struct{})
				go func() { busy.Run(ctx, all); close(done) }()
				pause(rng, 20*time.Millisecond)
				cancel()
				hold(f, host, leader, 2*time.Second)
				<-done
			}
		})
	}, DC("east", 3).Clients(1))
	linearizable(t, r, 500)
}

// The same through another datacenter, 60 ms away over a path that loses packets:
// users there and users here see one history.
func TestLinearizableAcrossDatacenters(t *testing.T) {
	var r *history.Recorder
	Run(t, func(f *Federation) {
		east, west := f.DC("east"), f.DC("west")
		f.Must(west.Server(0).Join(east.Server(0)))
		f.Lossy(east, west, 60*time.Millisecond, 0.02)
		rng := rand.New(rand.NewPCG(3, 3))
		r = during(f, users(3, either(f.Hosts(), "dc=east")), f.Hosts(), []string{"dc=east"}, func(*history.Recorder) {
			for range 2 {
				pause(rng, 2*time.Second)
				leader := east.AwaitLeader(20 * time.Second)
				leader.Crash()
				pause(rng, 3*time.Second)
				leader.Restart()
				pause(rng, 2*time.Second)
				hold(f, east, west, time.Second+upTo(rng, 2*time.Second))
				leader = east.AwaitLeader(20 * time.Second)
				hold(f, Group{leader}, append(others(east.Hosts(), leader), west.Hosts()...), time.Second+upTo(rng, 2*time.Second))
			}
		})
	}, DC("east", 3), DC("west", 1).Clients(1))
	linearizable(t, r, 300)
}

// What the stories above would say if the promise were broken: a server that is
// cut off answers default reads from what it has.
func TestLinearizableFindsStaleReads(t *testing.T) {
	violated(t, func(f *Federation, east *Datacenter) *history.Recorder {
		cutOff := east.Followers()[0]
		rest := others(east.Hosts(), cutOff)
		ask := func(user int, rng *rand.Rand) history.Via {
			if rng.IntN(4) > 0 {
				return either(rest)(user, rng)
			}
			v := via(cutOff)
			honest := v.Call
			v.Call = func(ctx context.Context, method, path, body string) (int, string, error) {
				return honest(ctx, method, path+"&stale", body)
			}
			return v
		}
		return during(f, users(4, ask), rest, nil, func(*history.Recorder) {
			time.Sleep(time.Second)
			hold(f, cutOff, rest, 3*time.Second)
		})
	})
}

// And if writes were sent again that may have been applied.
func TestLinearizableFindsRepeatedWrites(t *testing.T) {
	violated(t, func(f *Federation, east *Datacenter) *history.Recorder {
		ask := func(user int, rng *rand.Rand) history.Via {
			v := either(east.Hosts())(user, rng)
			honest := v.Call
			v.Call = func(ctx context.Context, method, path, body string) (int, string, error) {
				code, reply, err := honest(ctx, method, path, body)
				if method == http.MethodPut && rng.IntN(10) == 0 {
					time.Sleep(100 * time.Millisecond)
					return honest(ctx, method, path, body)
				}
				return code, reply, err
			}
			return v
		}
		return during(f, users(5, ask), east.Hosts(), nil, func(*history.Recorder) { time.Sleep(10 * time.Second) })
	})
}

func violated(t *testing.T, story func(f *Federation, east *Datacenter) *history.Recorder) {
	t.Helper()
	var r *history.Recorder
	Run(t, func(f *Federation) { r = story(f, f.DC("east")) }, DC("east", 3))
	t.Log(r)
	var v *history.Violation
	if err := errors.Join(r.Err(), history.Check(r.Ops(), time.Minute)); !errors.As(err, &v) {
		t.Errorf("got %v, want a violation", err)
	} else {
		t.Logf("found: %v", v)
	}
}
