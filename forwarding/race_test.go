package forwarding

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landbridge/forwarding/rpc"
	"landbridge/forwarding/rpc/rpctest"
	"landbridge/store"
)

// farRTT is the round trip to the servers of a faraway.
const farRTT = 80 * time.Millisecond

// faraway is another datacenter behind real sessions: a WAN.
type faraway struct {
	t       *testing.T
	pool    *rpc.Pool
	peers   []Peer
	loss    float64 // what is told of packets; none is lost
	servers map[string]*farServer
	d       *Dispatcher
	life    context.Context
	work    sync.WaitGroup
}

// farServer is one of its servers.
type farServer struct {
	w    *faraway
	name string
	rpc  *rpc.Server

	mu     sync.Mutex
	answer rpc.DoerFunc // nil: the name
	frozen bool         // neither hears nor says anything
	links  []*rpctest.Link
	got    atomic.Int64 // requests that reached it
	gone   atomic.Int64 // requests whose callers left
}

func newFaraway(t *testing.T, servers int) *faraway {
	w := &faraway{t: t, servers: map[string]*farServer{}}
	life, end := context.WithCancel(context.Background())
	w.life = life
	for i := range servers {
		s := &farServer{w: w, name: fmt.Sprintf("r%d.dc2", i+1)}
		s.rpc = rpc.NewServer(rpc.ServerConfig{Handler: s, DrainTime: time.Millisecond})
		w.servers[s.name] = s
		w.peers = append(w.peers, Peer{Name: s.name})
	}
	w.pool = rpc.NewPool(rpc.PoolConfig{Dial: w.dial, DialTimeout: 1500 * time.Millisecond, Client: rpc.ClientConfig{Lanes: 8, Compress: true, Bulk: 2}})
	local := newWorld()
	local.leader = "self"
	w.d = New(Config{
		Datacenter: "dc1", LAN: local, Local: local, WAN: w, HoldTimeout: 7 * time.Second, Limits: Limits{ClientTimeout: time.Minute},
		DefaultQueryTime: 5 * time.Minute, MaxQueryTime: 10 * time.Minute,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Registerer: prometheus.NewRegistry(),
	})
	t.Cleanup(func() {
		for _, s := range w.servers {
			s.freeze(false)
		}
		w.d.Stop(context.Background())
		w.pool.Stop(context.Background())
		end()
		w.work.Wait()
	})
	return w
}

func (w *faraway) Known(dc string) bool { return dc == "dc2" }
func (w *faraway) Servers(dc string) []Peer {
	if dc != "dc2" {
		return nil
	}
	return w.peers
}
func (w *faraway) Ready(p Peer) rpc.Doer {
	if c := w.pool.Ready(p.Addr, p.Name); c != nil {
		return c
	}
	return nil
}
func (w *faraway) Dial(ctx context.Context, p Peer) (rpc.Doer, error) {
	c, err := w.pool.Get(ctx, p.Addr, p.Name)
	if err != nil {
		return nil, err
	}
	return c, nil
}
func (w *faraway) Loss(string) float64      { return w.loss }
func (w *faraway) RTT(string) time.Duration { return farRTT }
func (w *faraway) Report(string, error)     {}

// dial takes a round trip; a frozen server does not answer.
func (w *faraway) dial(ctx context.Context, _, name string) (rpc.Session, error) {
	s := w.servers[name]
	for {
		select {
		case <-time.After(farRTT):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		s.mu.Lock()
		if !s.frozen {
			break
		}
		s.mu.Unlock()
	}
	defer s.mu.Unlock()
	l := rpctest.NewLink(farRTT / 2)
	s.links = append(s.links, l)
	w.work.Go(func() { s.rpc.ServeSession(w.life, l.B, rpc.FromWAN, "us.dc1") })
	return l.A, nil
}

func (s *farServer) Do(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	if req.Method == rpc.Ping {
		return &rpc.Response{}, nil
	}
	s.got.Add(1)
	s.mu.Lock()
	f := s.answer
	s.mu.Unlock()
	if f == nil {
		return &rpc.Response{Body: []byte(s.name)}, nil
	}
	resp, err := f(ctx, req)
	if ctx.Err() == context.Canceled {
		s.gone.Add(1)
	}
	return resp, err
}

func (s *farServer) freeze(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frozen = on
	for _, l := range s.links {
		l.Stall(on)
	}
}

func (w *faraway) each(f func(*farServer)) {
	for _, s := range w.servers {
		f(s)
	}
}

func (w *faraway) answers(f rpc.DoerFunc) {
	w.each(func(s *farServer) { s.mu.Lock(); s.answer = f; s.mu.Unlock() })
}

// call makes one call and returns who answered and how long it took.
func (w *faraway) call(req *rpc.Request) (from string, took time.Duration, err error) {
	start := time.Now()
	resp, err := w.d.Do(context.Background(), with(*req, inDC2))
	if err != nil {
		return "", time.Since(start), err
	}
	return string(resp.Body), time.Since(start), nil
}

// load makes calls at a rate for a time, and has each checked.
func (w *faraway) load(req *rpc.Request, rate int, d time.Duration, check func(from string, took time.Duration, err error)) {
	var all sync.WaitGroup
	for range int(d.Seconds() * float64(rate)) {
		all.Go(func() { check(w.call(req)) })
		time.Sleep(time.Second / time.Duration(rate))
	}
	all.Wait()
}

// warm has all connections made and latencies learned.
func (w *faraway) warm() {
	w.t.Helper()
	w.load(&stale, 50, 4*time.Second, func(_ string, took time.Duration, err error) {
		if err != nil || took > 3*farRTT {
			w.t.Errorf("a healthy read took %s: %v", took, err)
		}
	})
}

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

// A slow server that shows signs of life costs at most one call in fifty, after a
// first few: those are sent to a second server, whose answer counts, and the first
// one is told that nobody waits.
func TestHedges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFaraway(t, 3)
		w.warm()
		slow := w.servers["r3.dc2"]
		slow.mu.Lock()
		slow.answer = func(ctx context.Context, _ *rpc.Request) (*rpc.Response, error) {
			select {
			case <-time.After(600 * time.Millisecond):
				return &rpc.Response{}, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		slow.mu.Unlock()
		var quick, late atomic.Int64
		const calls = 2000
		w.load(&stale, 100, calls/100*time.Second, func(_ string, took time.Duration, err error) {
			if err != nil || took > 600*time.Millisecond+2*farRTT {
				t.Errorf("%v after %s", err, took)
			}
			switch {
			case took < 600*time.Millisecond:
				quick.Add(1)
			case took < 600*time.Millisecond+farRTT:
				late.Add(1) // won when the slow server had just ended
			}
		})
		time.Sleep(farRTT) // the last loser hears of it
		st, _ := w.d.Remote("dc2")
		if most := uint64((calls+200)/50 + hedgeBurst/hedgeCost); st.Hedges == 0 || st.Hedges > most {
			t.Errorf("%d calls were hedged, at most %d may be", st.Hedges, most)
		}
		if st.HedgesWon == 0 || slow.gone.Load() > int64(st.HedgesWon) || slow.gone.Load()+late.Load() < int64(st.HedgesWon) {
			t.Errorf("%d hedges won, %d losers were cancelled", st.HedgesWon, slow.gone.Load())
		}
		if quick.Load()+late.Load() < int64(st.HedgesWon) {
			t.Errorf("%d hedges won, but only %d answers were quick", st.HedgesWon, quick.Load())
		}
		if st.Resends > 0 || st.Servers[2].Silent {
			t.Errorf("a server that answers pings was left out: %+v", st)
		}
	})
}

// A large answer takes its server longer than the hedge waits. Its bytes come once, and
// from the other server when its own falls silent meanwhile.
func TestLargeAnswersAreFetchedOnce(t *testing.T) {
	for _, freezes := range []bool{false, true} {
		t.Run(fmt.Sprintf("freezes %v", freezes), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newFaraway(t, 2)
				w.warm()
				body := make([]byte, 1<<20)
				rand.NewChaCha8([32]byte{}).Read(body)
				first := make(chan *farServer, 2)
				w.each(func(s *farServer) {
					s.mu.Lock()
					defer s.mu.Unlock()
					s.answer = func(ctx context.Context, _ *rpc.Request) (*rpc.Response, error) {
						select {
						case first <- s:
						default:
						}
						select {
						case <-time.After(300 * time.Millisecond):
							return &rpc.Response{Body: body}, nil
						case <-ctx.Done():
							return nil, ctx.Err()
						}
					}
				})
				if freezes {
					go func() {
						s := <-first
						time.Sleep(300*time.Millisecond + farRTT) // the caller knows that it comes, and has asked for it
						s.freeze(true)
					}()
				}
				from, took, err := w.call(&stale)
				if err != nil || from != string(body) || took > 2*time.Second {
					t.Fatalf("%d bytes after %s: %v", len(from), took, err)
				}
				time.Sleep(farRTT)
				st, _ := w.d.Remote("dc2")
				if st.Hedges != 1 || (st.Resends > 0) != freezes {
					t.Errorf("%d hedges, %d resends", st.Hedges, st.Resends)
				}
				var gave, left int64
				w.each(func(s *farServer) {
					s.mu.Lock()
					defer s.mu.Unlock()
					if len(s.links) > 1 {
						gave++
					}
					left += s.gone.Load()
				})
				if !freezes && (gave != 1 || left != 1) {
					t.Errorf("%d servers gave the answer, %d were told that nobody waits", gave, left)
				}
			})
		})
	}
}

// Every fifth answer is late. If packets get lost that is why, and what is late is sent
// to a second server; if not, servers are slow, and one call in fifty is.
func TestHedgesFollowLoss(t *testing.T) {
	for _, loss := range []float64{0, 0.05} {
		t.Run(fmt.Sprintf("loss %v", loss), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newFaraway(t, 3)
				w.loss = loss
				w.warm()
				var n atomic.Int64
				w.answers(func(ctx context.Context, _ *rpc.Request) (*rpc.Response, error) {
					if n.Add(1)%5 == 0 {
						select {
						case <-time.After(4 * farRTT):
						case <-ctx.Done():
						}
					}
					return &rpc.Response{}, nil
				})
				const calls = 3000
				var late atomic.Int64
				w.load(&stale, 100, calls/100*time.Second, func(_ string, took time.Duration, err error) {
					if err != nil {
						t.Error(err)
					}
					if took > 5*farRTT/2 {
						late.Add(1)
					}
				})
				st, _ := w.d.Remote("dc2")
				t.Logf("%d of %d calls were hedged, %d late", st.Hedges, calls, late.Load())
				if burst := uint64(hedgeBurst / hedgeCost); loss == 0 && st.Hedges > (calls+200)/50+burst {
					t.Errorf("%d calls were hedged without loss", st.Hedges)
				}
				if loss > 0 && (st.Hedges > calls/4 || late.Load() > calls/15) {
					t.Errorf("%d of %d calls were hedged, %d late", st.Hedges, calls, late.Load())
				}
			})
		})
	}
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
