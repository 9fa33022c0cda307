package forwarding

import (
	"context"
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

// The other datacenter has no leader: default reads and writes fail soon, then at
// once, stale reads pass, and with a leader all is well again.
func TestLeaderlessDatacenter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFaraway(t, 3)
		w.warm()
		var leader atomic.Bool
		w.answers(func(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
			switch {
			case req.Method == rpc.StatusLeader && leader.Load():
				return &rpc.Response{Body: []byte(`"10.0.0.1:8300"`)}, nil
			case req.Method == rpc.StatusLeader:
				return &rpc.Response{Body: []byte(`""`)}, nil
			case req.Consistency == store.Stale || leader.Load():
				return &rpc.Response{}, nil
			}
			time.Sleep(300 * time.Millisecond) // it looked around
			return nil, store.ErrNoLeader
		})
		began := time.Now()
		var mu sync.Mutex
		first := time.Hour
		var itself sync.WaitGroup
		itself.Go(func() {
			time.Sleep(500 * time.Millisecond)
			_, took, err := w.call(with(read, func(r *rpc.Request) { r.NoHold = true }))
			if store.KindOf(err) != store.KindNoLeader || took > 5*time.Millisecond {
				t.Errorf("a call whose sender tries again by itself: %v after %s", err, took)
			}
		})
		defer itself.Wait()
		for _, req := range []*rpc.Request{&read, &write} {
			w.load(req, 20, 5*time.Second, func(_ string, took time.Duration, err error) {
				at := time.Since(began)
				if store.KindOf(err) != store.KindNoLeader || !strings.Contains(err.Error(), "No cluster leader") || !strings.HasPrefix(err.Error(), `rpc error making call: dc "dc2": `) {
					t.Errorf("%s in: %v", at, err)
				}
				if at-took > 800*time.Millisecond && took > 5*time.Millisecond || took > 800*time.Millisecond {
					t.Errorf("%s in an error took %s", at, took)
				}
				mu.Lock()
				first = min(first, at)
				mu.Unlock()
			})
		}
		if first > 800*time.Millisecond {
			t.Errorf("the first error came after %s", first)
		}
		if _, took, err := w.call(&stale); err != nil || took > 2*farRTT {
			t.Errorf("a stale read: %v after %s", err, took)
		}
		if st, _ := w.d.Remote("dc2"); !st.Reachable || st.Breaker != BreakerLeaderless {
			t.Errorf("%+v", st)
		}
		leader.Store(true)
		time.Sleep(time.Second)
		for _, req := range []*rpc.Request{&read, &write} {
			if _, took, err := w.call(req); err != nil || took > 2*farRTT {
				t.Errorf("with a leader: %v after %s", err, took)
			}
		}
	})
}

// The other datacenter's leader hands over to another one, a moment in which no server
// knows of a leader and one is about to stop: reads and writes wait for the new leader,
// and no write arrives there twice. Few questions are asked meanwhile.
func TestHandover(t *testing.T) {
	for _, stops := range []bool{false, true} {
		t.Run(fmt.Sprintf("a server stops %v", stops), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newFaraway(t, 3)
				w.warm()
				const takes = 200 * time.Millisecond
				var between atomic.Bool
				var writes, asked atomic.Int64
				w.each(func(s *farServer) {
					s.mu.Lock()
					defer s.mu.Unlock()
					s.answer = func(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
						leader := !between.Load()
						if req.Method == rpc.StatusLeader {
							asked.Add(1)
						}
						switch {
						case !leader && stops && s.name == "r1.dc2":
							return nil, store.Errorf(store.KindUnreachable, "about to stop")
						case req.Method == rpc.StatusLeader && leader:
							return &rpc.Response{Body: []byte(`"10.0.0.1:8300"`)}, nil
						case req.Method == rpc.StatusLeader:
							return &rpc.Response{Body: []byte(`""`)}, nil
						case !leader:
							return nil, store.ErrNoLeader
						case req.Method == write.Method:
							writes.Add(1)
						}
						return &rpc.Response{}, nil
					}
				})
				var loads sync.WaitGroup
				good := func(_ string, took time.Duration, err error) {
					if err != nil || took > takes+4*farRTT {
						t.Errorf("%v after %s", err, took)
					}
				}
				loads.Go(func() { w.load(&read, 50, 9*time.Second, good) })
				loads.Go(func() { w.load(&write, 20, 9*time.Second, good) })
				for range 4 {
					time.Sleep(time.Second)
					between.Store(true)
					time.Sleep(takes)
					between.Store(false)
				}
				loads.Wait()
				if n := writes.Load(); n != 9*20 {
					t.Errorf("%d of %d writes arrived", n, 9*20)
				}
				if n := asked.Load(); n > 4*3*10 {
					t.Errorf("the servers were asked %d times for a leader", n)
				}
				time.Sleep(time.Second)
				n := asked.Load()
				time.Sleep(time.Second)
				if st, _ := w.d.Remote("dc2"); st.Breaker != BreakerClosed || asked.Load() != n {
					t.Errorf("afterwards: %+v, asked %d times", st, asked.Load()-n)
				}
			})
		})
	}
}

// A blocking query, the only call for long, meets a hand-over.
func TestHandoverAfterALongWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFaraway(t, 3)
		w.warm()
		elected := time.Now().Add(time.Minute)
		w.answers(func(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
			leader := !time.Now().Before(elected)
			switch {
			case req.Method == rpc.StatusLeader && leader:
				return &rpc.Response{Body: []byte(`"10.0.0.1:8300"`)}, nil
			case req.Method == rpc.StatusLeader:
				return &rpc.Response{Body: []byte(`""`)}, nil
			case !leader:
				time.Sleep(time.Until(elected.Add(-150 * time.Millisecond)))
				return nil, store.ErrNoLeader
			}
			return &rpc.Response{}, nil
		})
		_, took, err := w.call(with(read, func(r *rpc.Request) { r.MinIndex, r.Wait = 1, 5*time.Minute }))
		if err != nil || took > time.Minute+500*time.Millisecond {
			t.Errorf("%v after %s", err, took)
		}
	})
}

// Two of three servers are gone, and the third can elect nobody: that is what the
// caller learns, whichever it met first.
func TestQuorumLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFaraway(t, 3)
		w.warm()
		w.answers(func(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
			switch {
			case req.Method == rpc.StatusLeader:
				return &rpc.Response{Body: []byte(`""`)}, nil
			case req.Consistency == store.Stale:
				return &rpc.Response{}, nil
			}
			time.Sleep(300 * time.Millisecond)
			return nil, store.ErrNoLeader
		})
		w.servers["r1.dc2"].freeze(true)
		w.servers["r2.dc2"].freeze(true)
		w.load(&read, 10, 5*time.Second, func(_ string, took time.Duration, err error) {
			if store.KindOf(err) != store.KindNoLeader || took > 1500*time.Millisecond {
				t.Errorf("%v after %s", err, took)
			}
		})
		if _, took, err := w.call(&stale); err != nil || took > 2*farRTT {
			t.Errorf("a stale read: %v after %s", err, took)
		}
		if st, _ := w.d.Remote("dc2"); st.Breaker != BreakerLeaderless || !st.Servers[0].Silent || !st.Servers[1].Silent {
			t.Errorf("%+v", st)
		}
	})
}
