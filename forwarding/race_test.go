package forwarding

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// A server freezes under load, or hardly any: no read fails or takes longer than two
// round trips and 300 ms, soon nobody asks it, and when it is back it is asked again.
func TestFrozenServer(t *testing.T) {
	for _, tt := range []struct {
		rate int
		slow bool // answers were slow before
	}{{1, false}, {50, false}, {50, true}} {
		rate := tt.rate
		t.Run(fmt.Sprintf("%d a second, slow before %v", rate, tt.slow), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newFaraway(t, 3)
				w.warm()
				for range 100 {
					if tt.slow {
						w.d.path("dc2").took.add(2 * time.Second)
					}
				}
				time.Sleep(time.Second)
				w.d.path("dc2").budget.credit.Store(0) // nothing to hedge with
				frozen := w.servers["r2.dc2"]
				frozen.freeze(true)
				w.load(&stale, rate, 20*time.Second, func(from string, took time.Duration, err error) {
					if err != nil || took > 2*farRTT+300*time.Millisecond {
						t.Errorf("beside a frozen server: %q after %s, %v", from, took, err)
					}
				})
				st, _ := w.d.Remote("dc2")
				if !st.Servers[1].Silent || st.Breaker != BreakerClosed || st.Resends == 0 || st.Resends > 20 {
					t.Errorf("20 s later: %+v", st)
				}
				frozen.freeze(false)
				time.Sleep(2 * time.Second)
				if st, _ := w.d.Remote("dc2"); st.Servers[1].Silent {
					t.Errorf("2 s after its return it is still left out: %+v", st)
				}
				asked := frozen.got.Load()
				w.load(&stale, 50, 2*time.Second, func(string, time.Duration, error) {})
				if n := frozen.got.Load() - asked; n < 10 {
					t.Errorf("it gets %d of 100 reads", n)
				}
			})
		})
	}
}

// All servers are gone: the first errors come within a second and name those that
// were tried, later ones at once; when they are back reads succeed within 1.5 s.
func TestUnreachableDatacenter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFaraway(t, 3)
		w.warm()
		w.each(func(s *farServer) { s.freeze(true) })
		cut := time.Now()
		w.load(&read, 50, 20*time.Second, func(_ string, took time.Duration, err error) {
			at := time.Since(cut)
			switch {
			case store.KindOf(err) != store.KindUnreachable || !strings.Contains(err.Error(), `dc "dc2"`):
				t.Errorf("%s into the cut: %v", at, err)
			case at > 1500*time.Millisecond && took > 5*time.Millisecond, took > time.Second:
				t.Errorf("%s into the cut an error took %s: %v", at, took, err)
			case took > 5*time.Millisecond && !strings.Contains(err.Error(), "tried r"):
				t.Errorf("no servers are named: %v", err)
			}
		})
		if _, _, err := w.call(&write); err == nil || !strings.HasPrefix(err.Error(), `rpc error getting client: dc "dc2" unreachable for `) {
			t.Errorf("a write gets %v", err)
		}
		st, _ := w.d.Remote("dc2")
		if st.Reachable || st.Breaker != BreakerUnreachable || st.InFlight != 0 || st.Refused == 0 || st.LastError == "" {
			t.Errorf("during the cut: %+v", st)
		}
		// Nobody asks for long: who asks then finds out how it is.
		time.Sleep(5 * time.Minute)
		if _, took, err := w.call(&stale); err == nil || took > time.Second {
			t.Errorf("after a pause: %v after %s", err, took)
		}
		w.each(func(s *farServer) { s.freeze(false) })
		healed := time.Now()
		for {
			_, _, err := w.call(&stale)
			if err == nil {
				break
			}
			if time.Since(healed) > 1500*time.Millisecond {
				t.Fatalf("%s after all are back: %v", time.Since(healed), err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(2 * time.Second)
		if st, _ := w.d.Remote("dc2"); !st.Reachable || st.Servers[0].Silent || st.Servers[1].Silent || st.Servers[2].Silent {
			t.Errorf("after the cut: %+v", st)
		}
	})
}

// The same for who asks rarely: one call finds out about all servers within a second.
func TestOneCallFindsAllServersSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFaraway(t, 3)
		w.warm()
		w.each(func(s *farServer) { s.freeze(true) })
		cut := time.Now()
		if _, took, err := w.call(&read); store.KindOf(err) != store.KindUnreachable || took > time.Second {
			t.Errorf("after %s: %v", took, err)
		}
		// It may have ended with its connection, a little before the second is over.
		time.Sleep(time.Until(cut.Add(time.Second)))
		if _, took, err := w.call(&read); err == nil || took > 5*time.Millisecond {
			t.Errorf("the next one after %s: %v", took, err)
		}
		// One alone is as ever: others are pinged beside it, and answer.
		w.each(func(s *farServer) { s.freeze(false) })
		time.Sleep(2 * time.Second)
		w.servers["r1.dc2"].freeze(true)
		w.load(&stale, 50, 2*time.Second, func(_ string, took time.Duration, err error) {
			if err != nil || took > 500*time.Millisecond {
				t.Errorf("with one frozen: %v after %s", err, took)
			}
		})
		if st, _ := w.d.Remote("dc2"); !st.Servers[0].Silent || st.Servers[1].Silent || st.Servers[2].Silent {
			t.Errorf("with one frozen: %+v", st.Servers)
		}
	})
}

// One server has lost touch with its leader: it is asked for stale reads only.
func TestServerApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFaraway(t, 3)
		w.warm()
		apart := w.servers["r1.dc2"]
		apart.mu.Lock()
		apart.answer = func(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
			if req.Method == rpc.StatusLeader {
				return &rpc.Response{Body: []byte(`""`)}, nil
			}
			return nil, store.ErrNoLeader
		}
		apart.mu.Unlock()
		w.each(func(s *farServer) {
			if s != apart {
				s.answer = func(context.Context, *rpc.Request) (*rpc.Response, error) {
					return &rpc.Response{Body: []byte(`"a leader"`)}, nil
				}
			}
		})
		w.load(&read, 20, 5*time.Second, func(_ string, took time.Duration, err error) {
			if err != nil || took > 3*farRTT {
				t.Errorf("%v after %s", err, took)
			}
		})
		if st, _ := w.d.Remote("dc2"); st.Breaker != BreakerClosed || !st.Servers[0].Leaderless {
			t.Errorf("%+v", st)
		}
	})
}

// Calls wait long for a leader at servers that are well, and then all of these are
// away for a moment: nobody is told that they are gone.
func TestMomentOfSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFaraway(t, 3)
		w.warm()
		elected := time.Now().Add(1600 * time.Millisecond)
		w.answers(func(context.Context, *rpc.Request) (*rpc.Response, error) {
			time.Sleep(time.Until(elected))
			return &rpc.Response{}, nil
		})
		var away sync.WaitGroup
		away.Go(func() {
			time.Sleep(1500 * time.Millisecond)
			w.each(func(s *farServer) { s.freeze(true) })
			time.Sleep(500 * time.Millisecond)
			w.each(func(s *farServer) { s.freeze(false) })
		})
		w.load(&read, 20, 4*time.Second, func(_ string, took time.Duration, err error) {
			if err != nil {
				t.Errorf("%v after %s", err, took)
			}
		})
		away.Wait()
	})
}

// A blocking query came to its server since another one had no leader, and waits there
// until that dies: there is a leader by now.
func TestServerOfAWaitingQueryDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFaraway(t, 2)
		w.warm()
		var asked atomic.Int32
		for _, s := range w.servers {
			s.mu.Lock()
			s.answer = func(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
				if req.Method == rpc.StatusLeader {
					return &rpc.Response{Body: []byte(`"10.0.0.1:8300"`)}, nil
				}
				switch asked.Add(1) {
				case 1:
					return nil, store.ErrNoLeader
				case 2:
					time.Sleep(time.Minute)
					s.kill()
				}
				return &rpc.Response{}, nil
			}
			s.mu.Unlock()
		}
		req := with(read, func(r *rpc.Request) { r.MinIndex, r.Wait = 5, 5*time.Minute })
		if _, took, err := w.call(req); err != nil || asked.Load() != 3 || took > time.Minute+10*farRTT {
			t.Errorf("asked %d servers: %v after %s", asked.Load(), err, took)
		}
	})
}

// One server after the other freezes as it is asked, more than a call is under way to
// at once: the next is asked all the same.
func TestManyServersFreeze(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFaraway(t, maxTries+1)
		w.warm()
		var frozen atomic.Int32
		w.each(func(s *farServer) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.answer = func(context.Context, *rpc.Request) (*rpc.Response, error) {
				if frozen.Add(1) <= maxTries {
					s.freeze(true)
				}
				return &rpc.Response{Body: []byte(s.name)}, nil
			}
		})
		if from, took, err := w.call(&stale); err != nil || frozen.Load() != maxTries+1 {
			t.Errorf("asked %d servers: %q, %v after %s", frozen.Load(), from, err, took)
		}
	})
}

// A write whose server freezes with it is sent once, and its caller told within
// some seconds that its outcome is unknown.
func TestWritesAreSentOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFaraway(t, 3)
		w.warm()
		w.each(func(s *farServer) { s.got.Store(0) })
		w.answers(func(context.Context, *rpc.Request) (*rpc.Response, error) {
			w.each(func(s *farServer) { s.freeze(true) })
			return &rpc.Response{}, nil
		})
		_, took, err := w.call(&write)
		if store.KindOf(err) != store.KindMaybeApplied || !strings.Contains(err.Error(), "may have been applied") || took > 2*time.Second {
			t.Errorf("%v after %s", err, took)
		}
		var got int64
		w.each(func(s *farServer) { s.freeze(false); got += s.got.Load() })
		if got != 1 {
			t.Errorf("the write arrived %d times", got)
		}
	})
}

// The way of an answer is told.
func TestRoute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFaraway(t, 2)
		w.warm()
		resp, err := w.d.Do(context.Background(), with(stale, inDC2))
		if err != nil || resp.Route != "server="+string(resp.Body) {
			t.Fatalf("got %+v, %v", resp, err)
		}
		w.servers["r1.dc2"].freeze(true)
		for {
			resp, err := w.d.Do(context.Background(), with(stale, inDC2))
			if err != nil {
				t.Fatal(err)
			}
			if resp.Route != "server=r2.dc2" {
				if !strings.HasPrefix(resp.Route, "server=r2.dc2, ") || !strings.HasSuffix(resp.Route, ", tries=2") {
					t.Errorf("route %q", resp.Route)
				}
				return
			}
		}
	})
}

// More calls than one datacenter may have waiting are refused; they hold up nobody.
func TestWaitingCallsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFaraway(t, 1)
		w.warm()
		w.answers(func(ctx context.Context, _ *rpc.Request) (*rpc.Response, error) { <-ctx.Done(); return nil, ctx.Err() })
		ctx, cancel := context.WithCancel(context.Background())
		var all sync.WaitGroup
		for range maxRemoteCalls {
			all.Go(func() { w.d.Do(ctx, with(stale, inDC2)) })
		}
		synctest.Wait()
		if _, took, err := w.call(&stale); store.KindOf(err) != store.KindRateLimited || took > 0 {
			t.Errorf("one more: %v after %s", err, took)
		}
		cancel()
		all.Wait()
		w.answers(nil)
		if _, _, err := w.call(&stale); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}

// A server that is known but was never reached delays the first read by no more than
// a connection takes, and a caller that leaves gets its own reason.
func TestFirstCallBesideADeadServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 10 {
			w := newFaraway(t, 3)
			w.servers["r1.dc2"].freeze(true)
			if from, took, err := w.call(&stale); err != nil || took > 6*farRTT {
				t.Errorf("first read: %q after %s, %v", from, took, err)
			}
			if from, took, err := w.call(&write); err != nil || took > 6*farRTT {
				t.Errorf("first write: %q after %s, %v", from, took, err)
			}
		}
		w := newFaraway(t, 1)
		w.warm()
		w.servers["r1.dc2"].freeze(true)
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		if _, err := w.d.Do(ctx, with(stale, inDC2)); store.KindOf(err) != store.KindTimeout || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a caller without time: %v", err)
		}
	})
}
