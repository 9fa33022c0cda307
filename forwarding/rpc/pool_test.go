package rpc_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/forwarding/rpc/rpctest"
	"landbridge/store"
)

// network serves whoever dials it.
type network struct {
	t       *testing.T
	srv     *rpc.Server
	wg      sync.WaitGroup
	dials   atomic.Int32
	delay   time.Duration // of a dial
	latency time.Duration // of what is written then
	err     atomic.Pointer[error]

	mu    sync.Mutex
	links []*rpctest.Link
	stops []context.CancelFunc
}

func newNetwork(t *testing.T, do rpc.DoerFunc) *network {
	return &network{t: t, srv: rpc.NewServer(rpc.ServerConfig{Handler: do})}
}

func (n *network) dial(ctx context.Context, addr, name string) (rpc.Session, error) {
	n.dials.Add(1)
	select {
	case <-time.After(n.delay):
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if err := n.err.Load(); err != nil {
		return nil, *err
	}
	l := rpctest.NewLink(n.latency)
	srv, stop := context.WithCancel(context.Background())
	n.mu.Lock()
	n.links, n.stops = append(n.links, l), append(n.stops, stop)
	n.mu.Unlock()
	n.wg.Go(func() { n.srv.ServeSession(srv, l.B, rpc.FromLAN, "") })
	return l.A, nil
}

// pool makes a pool whose end is checked: nothing may be left in the bubble.
func (n *network) pool(cfg rpc.PoolConfig) *rpc.Pool {
	cfg.Dial = n.dial
	p := rpc.NewPool(cfg)
	n.t.Cleanup(func() {
		if err := p.Stop(context.Background()); err != nil {
			n.t.Errorf("stop: %v", err)
		}
		for _, stop := range n.stops {
			stop()
		}
		n.wg.Wait()
	})
	return p
}

func get(t *testing.T, p *rpc.Pool) *rpc.Client {
	t.Helper()
	c, err := p.Get(t.Context(), "10.0.0.1:8300", "n1")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestPoolDialsOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, echo)
		n.delay = time.Second
		p := n.pool(rpc.PoolConfig{})
		clients := make(chan *rpc.Client, 20)
		for range cap(clients) {
			go func() { clients <- get(t, p) }()
		}
		first := <-clients
		for range cap(clients) - 1 {
			if c := <-clients; c != first {
				t.Fatal("two clients for one server")
			}
		}
		if _, err := first.Do(t.Context(), &rpc.Request{Method: rpc.KVGet}); err != nil {
			t.Error(err)
		}
		if _, err := p.Get(t.Context(), "10.0.0.1:8300", "n2"); err != nil {
			t.Error(err)
		}
		if got := n.dials.Load(); got != 2 {
			t.Errorf("%d dials, want one for each of two names", got)
		}
	})
}

func TestPoolErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, echo)
		n.delay = time.Second
		p := n.pool(rpc.PoolConfig{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err := p.Get(ctx, "10.0.0.1:8300", "n1")
		if store.KindOf(err) != store.KindTimeout || !strings.Contains(err.Error(), "n1 (10.0.0.1:8300)") {
			t.Errorf("a caller in a hurry: %v", err)
		}
		get(t, p) // the dial went on without it
		refused := errors.New("connection refused")
		n.err.Store(&refused)
		for range 2 {
			if _, err = p.Get(t.Context(), "10.0.0.2:8300", "n2"); store.KindOf(err) != store.KindUnreachable || !errors.Is(err, refused) {
				t.Errorf("refused: %v", err)
			}
		}
		if got := n.dials.Load(); got != 3 {
			t.Errorf("%d dials, want 3: a failure is not kept", got)
		}
		n.delay = time.Hour
		begin := time.Now()
		if _, err = p.Get(t.Context(), "10.0.0.3:8300", "n3"); store.KindOf(err) != store.KindUnreachable || time.Since(begin) != 5*time.Second {
			t.Errorf("a dial that hangs: %v after %v", err, time.Since(begin))
		}
	})
}

func TestPoolReplacesDeadClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, echo)
		p := n.pool(rpc.PoolConfig{})
		old := get(t, p)
		n.links[0].B.CloseWithCause(errors.New("restart"))
		<-old.Done()
		if c := get(t, p); c == old || !c.Usable() {
			t.Error("the dead client was handed out")
		}
		p.Drop("10.0.0.1:8300", "n1", errors.New("left"))
		synctest.Wait()
		if c := get(t, p); !c.Usable() || n.dials.Load() != 3 {
			t.Errorf("after a drop: %d dials", n.dials.Load())
		}
	})
}

// A server that stops gets no new calls, and those it has begun are answered.
func TestPoolLeavesStoppingServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, func(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
			time.Sleep(req.Wait)
			return &rpc.Response{}, nil
		})
		p := n.pool(rpc.PoolConfig{})
		old := get(t, p)
		slow := make(chan error)
		go func() {
			_, err := old.Do(t.Context(), &rpc.Request{Method: rpc.KVApply, Wait: 500 * time.Millisecond})
			slow <- err
		}()
		synctest.Wait()
		n.stops[0]()
		synctest.Wait()
		c := get(t, p)
		if c == old {
			t.Fatal("the client of a stopping server was handed out")
		}
		if _, err := c.Do(t.Context(), &rpc.Request{Method: rpc.KVApply}); err != nil {
			t.Error(err)
		}
		if err := <-slow; err != nil {
			t.Errorf("the call under way: %v", err)
		}
		synctest.Wait()
		if old.Err() == nil {
			t.Error("the old client lives on")
		}
	})
}

// A connection that is closed before its server has said a word is no session: who
// wanted to make a call knows that it was not sent.
func TestPoolGreets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, echo)
		n.latency = 5 * time.Millisecond
		accepts := rpc.PoolConfig{Greet: true, Dial: func(context.Context, string, string) (rpc.Session, error) {
			l := rpctest.NewLink(5 * time.Millisecond)
			time.AfterFunc(7*time.Millisecond, func() { l.B.CloseWithCause(errors.New("connection reset by peer")) })
			return l.A, nil
		}}
		p := rpc.NewPool(accepts)
		c, err := p.Get(t.Context(), "10.0.0.1:8300", "n1")
		if c != nil || store.KindOf(err) != store.KindUnreachable || !strings.Contains(err.Error(), "reset by peer") {
			t.Errorf("a connection that nobody takes: %v", err)
		}
		if err := p.Stop(t.Context()); err != nil {
			t.Error(err)
		}

		begin := time.Now()
		c = get(t, n.pool(rpc.PoolConfig{Greet: true}))
		if _, err := c.Do(t.Context(), &rpc.Request{Method: rpc.KVApply}); err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took != 20*time.Millisecond {
			t.Errorf("the first call took %s, want two round trips", took)
		}
		n.stops[0]()
		synctest.Wait()
	})
}

// A session that is retired gets no new calls; those under way have the grace, and
// then end like those of a server that stops.
func TestPoolRetires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, func(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
			time.Sleep(req.Wait)
			return &rpc.Response{}, nil
		})
		p := n.pool(rpc.PoolConfig{})
		p.Retire("10.0.0.1:8300", "n1", time.Second) // nobody is connected
		old := get(t, p)
		call := func(m rpc.MethodID, wait time.Duration) chan error {
			c := make(chan error, 1)
			go func() {
				_, err := old.Do(t.Context(), &rpc.Request{Method: m, Wait: wait})
				c <- err
			}()
			return c
		}
		quick, slow, write := call(rpc.KVGet, 5*time.Second), call(rpc.KVGet, time.Minute), call(rpc.KVApply, time.Minute)
		synctest.Wait()
		began := time.Now()
		p.Retire("10.0.0.1:8300", "n1", 10*time.Second)
		if c := get(t, p); c == old || !c.Usable() {
			t.Error("the retired client was handed out")
		}
		if err := <-quick; err != nil {
			t.Errorf("a call within the grace: %v", err)
		}
		if err := <-slow; store.KindOf(err) != store.KindUnreachable || !rpc.Stopping(err) {
			t.Errorf("a read that waits longer: %v", err)
		}
		if err := <-write; store.KindOf(err) != store.KindMaybeApplied {
			t.Errorf("a write that waits longer: %v", err)
		}
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("they ended after %s", took)
		}
		<-old.Done()
		time.Sleep(time.Minute) // the handlers' sleep
	})
}

func TestPoolClosesIdleClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, hang)
		p := n.pool(rpc.PoolConfig{IdleTimeout: time.Minute})
		c := get(t, p)
		ctx, cancel := context.WithCancel(t.Context())
		waited := make(chan struct{})
		go func() { defer close(waited); c.Do(ctx, &rpc.Request{Method: rpc.KVGet, MinIndex: 1}) }()
		time.Sleep(10 * time.Minute)
		if c.Err() != nil {
			t.Errorf("a client with a call was closed: %v", c.Err())
		}
		cancel()
		<-waited
		time.Sleep(2*time.Minute + time.Second)
		if c.Err() == nil {
			t.Error("an idle client is open")
		}
		if get(t, p) == c {
			t.Error("a closed client was handed out")
		}
		open := 0
		p.Each(func(addr, name string, c *rpc.Client) { open++ })
		if open != 1 {
			t.Errorf("%d clients open, want 1", open)
		}
	})
}

func TestPoolStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, hang)
		p := n.pool(rpc.PoolConfig{})
		c := get(t, p)
		errs := make(chan error, 2)
		go func() { _, err := c.Do(t.Context(), &rpc.Request{Method: rpc.KVGet}); errs <- err }()
		synctest.Wait()
		n.delay = time.Hour
		go func() { _, err := p.Get(t.Context(), "10.0.0.9:8300", "n9"); errs <- err }()
		synctest.Wait()
		begin := time.Now()
		if err := p.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		for range cap(errs) {
			if err := <-errs; store.KindOf(err) != store.KindUnreachable {
				t.Errorf("got %v", err)
			}
		}
		if _, err := p.Get(t.Context(), "10.0.0.1:8300", "n1"); store.KindOf(err) != store.KindUnreachable {
			t.Errorf("get after stop: %v", err)
		}
		if time.Since(begin) != 0 {
			t.Errorf("stopping took %v", time.Since(begin))
		}
	})
}
