package forwarding

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landbridge/forwarding/rpc"
	"landbridge/forwarding/rpc/rpctest"
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

func (w *faraway) Loss(string) float64 { return w.loss }

func (w *faraway) RTT(string) time.Duration { return farRTT }

func (w *faraway) Report(string, error) {}

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

// kill ends its connections, as when its process ends; it is back at once.
func (s *farServer) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.links {
		_ = l.A.CloseWithCause(errors.New("killed"))
	}
	s.links = nil
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
