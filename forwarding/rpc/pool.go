package rpc

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"landbridge/store"
)

// PoolConfig configures a Pool. Dial is required.
type PoolConfig struct {
	// Dial opens a session to the server called name at addr. It runs once for
	// all callers that wait for the same server; its context ends with the pool
	// or after DialTimeout, not with a caller.
	Dial func(ctx context.Context, addr, name string) (Session, error)
	// DialBulk opens one more, for large answers to calls over that session; nil: Dial
	// does.
	DialBulk func(ctx context.Context, addr, name string, calls Session) (Session, error)
	// Client is the configuration of each client; Name and Addr are filled in.
	Client ClientConfig
	Logger *slog.Logger
	// Greet has a session handed out only once its server has answered a ping on it. TCP
	// takes connections and what is sent in them also for a server that is about to close
	// its port: whether calls were run would remain open. It costs the first caller a
	// round trip.
	Greet bool

	DialTimeout time.Duration // default 5 s
	IdleTimeout time.Duration // a session that nobody used for so long is closed; default 2 min, below 0: never
}

// Pool keeps one client per server, dialed on demand. A client that has ended is
// replaced by the next Get.
type Pool struct {
	cfg    PoolConfig
	ctx    context.Context // ends with Stop
	cancel context.CancelCauseFunc

	mu      sync.RWMutex
	stopped bool
	servers map[server]*entry
	sweeper *time.Timer
	work    sync.WaitGroup // dials, sweeps and closing clients; Add under mu
}

type server struct {
	addr, name string
	// bulk is 0 for the connection of calls, else the n-th for large answers to those
	// of one client: another one may have come another way.
	bulk  int
	calls *entry
}

// entry is a client or the dial that will make one. After ready is closed, client
// and err do not change.
type entry struct {
	ready  chan struct{}
	client *Client
	err    error
	used   atomic.Bool // since the last sweep
}

var errPoolStopped = errors.New("connection pool stopped")

// NewPool makes an empty pool. It starts nothing until the first Get.
func NewPool(cfg PoolConfig) *Pool {
	if cfg.DialTimeout <= 0 {
		cfg.DialTimeout = 5 * time.Second
	}
	if cfg.IdleTimeout == 0 {
		cfg.IdleTimeout = 2 * time.Minute
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	p := &Pool{cfg: cfg, servers: make(map[server]*entry)}
	p.ctx, p.cancel = context.WithCancelCause(context.Background())
	return p
}

// Get returns a client of the server at addr. It waits for a dial under way, or
// begins one. Errors are KindUnreachable (nothing was sent), or KindTimeout if
// ctx's deadline passed. A dial's error goes to those that waited for it; the
// next Get dials again.
func (p *Pool) Get(ctx context.Context, addr, name string) (*Client, error) {
	return p.get(ctx, server{addr: addr, name: name})
}

func (p *Pool) get(ctx context.Context, key server) (*Client, error) {
	p.mu.RLock()
	e := p.servers[key]
	p.mu.RUnlock()
	if e == nil || e.dead() {
		var err error
		if e, err = p.dial(key); err != nil {
			return nil, err
		}
	}
	select {
	case <-e.ready:
	default:
		select {
		case <-e.ready:
		case <-ctx.Done():
			err := ctx.Err()
			if errors.Is(err, context.DeadlineExceeded) {
				return nil, store.Errorf(store.KindTimeout, "connecting to %s took too long: %w", peerLabel(key.name, key.addr), err)
			}
			return nil, store.Errorf(store.KindUnreachable, "connecting to %s was given up: %w", peerLabel(key.name, key.addr), context.Cause(ctx))
		}
	}
	if e.err != nil {
		return nil, e.err
	}
	if !e.used.Load() {
		e.used.Store(true)
	}
	return e.client, nil
}

// Ready returns the client of a server if it is connected, else nil: it neither
// dials nor waits.
func (p *Pool) Ready(addr, name string) *Client { return p.ready(server{addr: addr, name: name}) }

func (p *Pool) ready(key server) *Client {
	p.mu.RLock()
	e := p.servers[key]
	p.mu.RUnlock()
	if e == nil || !isClosed(e.ready) || e.dead() {
		return nil
	}
	if !e.used.Load() {
		e.used.Store(true)
	}
	return e.client
}

// Each calls f for every client that is connected, those for large answers apart.
func (p *Pool) Each(f func(addr, name string, c *Client)) {
	type row struct {
		server
		c *Client
	}
	var rows []row
	p.mu.RLock()
	for key, e := range p.servers {
		if key.bulk == 0 && isClosed(e.ready) && e.err == nil && !e.dead() {
			rows = append(rows, row{key, e.client})
		}
	}
	p.mu.RUnlock()
	for _, r := range rows {
		f(r.addr, r.name, r.c)
	}
}

// Drop ends the clients of a server that is known to have gone.
func (p *Pool) Drop(addr, name string, cause error) {
	p.mu.Lock()
	key := server{addr: addr, name: name}
	p.closeLocked(p.servers[key], cause)
	delete(p.servers, key)
	p.mu.Unlock()
}

// Retire takes the client of a server out of use: the next Get dials, and calls under
// way have the grace to be answered. Then those that wait end like the calls of a
// server that stops.
func (p *Pool) Retire(addr, name string, grace time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := server{addr: addr, name: name}
	e := p.servers[key]
	if e == nil || p.stopped || !isClosed(e.ready) || e.err != nil {
		return
	}
	delete(p.servers, key)
	p.work.Go(func() {
		e.client.leave()
		t := time.NewTimer(grace)
		defer t.Stop()
		select {
		case <-e.client.Done():
		case <-t.C:
			e.client.fail(errRetired)
		case <-p.ctx.Done():
		}
		p.mu.Lock()
		p.closeLocked(e, nil)
		p.mu.Unlock()
	})
}

// Stop ends all clients and dials and waits for them, at most until ctx ends.
func (p *Pool) Stop(ctx context.Context) error {
	p.mu.Lock()
	if !p.stopped {
		p.stopped = true
		p.cancel(errPoolStopped)
		if p.sweeper != nil {
			p.sweeper.Stop()
		}
		for _, e := range p.servers {
			p.closeLocked(e, errPoolStopped)
		}
		clear(p.servers)
	}
	p.mu.Unlock()
	done := make(chan struct{})
	go func() { // ends with the pool's goroutines, all of which have been told
		p.work.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// dead reports whether the entry is of no use any more.
func (e *entry) dead() bool {
	if !isClosed(e.ready) {
		return false
	}
	return e.err != nil || !e.client.Usable()
}

// dial returns the entry to wait for, and starts its dial unless one runs.
func (p *Pool) dial(key server) (*entry, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return nil, store.Errorf(store.KindUnreachable, "connecting to %s: %w", peerLabel(key.name, key.addr), errPoolStopped)
	}
	old := p.servers[key]
	if old != nil && !old.dead() {
		return old, nil
	}
	p.closeLocked(old, nil)
	e := &entry{ready: make(chan struct{})}
	e.used.Store(true)
	p.servers[key] = e
	if p.sweeper == nil && p.cfg.IdleTimeout > 0 {
		p.sweeper = time.AfterFunc(p.cfg.IdleTimeout, p.sweep)
	}
	p.work.Go(func() { p.connect(key, e) })
	return e, nil
}

// connect fills e.
func (p *Pool) connect(key server, e *entry) {
	defer close(e.ready)
	peer := peerLabel(key.name, key.addr)
	ctx, cancel := context.WithTimeout(p.ctx, p.cfg.DialTimeout)
	defer cancel()
	failed := func(err error) {
		e.err = store.Errorf(store.KindUnreachable, "connecting to %s: %w", peer, err)
		p.cfg.Logger.Debug("dial failed", "peer", peer, "err", err)
		p.mu.Lock()
		if p.servers[key] == e {
			delete(p.servers, key)
		}
		p.mu.Unlock()
	}
	var sess Session
	var err error
	if key.bulk > 0 && p.cfg.DialBulk != nil {
		sess, err = p.cfg.DialBulk(ctx, key.addr, key.name, key.calls.client.sess)
	} else {
		sess, err = p.cfg.Dial(ctx, key.addr, key.name)
	}
	if err != nil {
		failed(err)
		return
	}
	cfg := p.cfg.Client
	cfg.Name, cfg.Addr = key.name, key.addr
	if s, ok := sess.(interface{ RTT() time.Duration }); ok && cfg.RTT == nil {
		cfg.RTT = s.RTT
	}
	if key.bulk > 0 {
		cfg.Lanes = 1 // for pings
		forBulk(sess)
	} else if cfg.Bulk > 0 {
		cfg.bulk = &bulkConns{pool: p, of: server{key.addr, key.name, 0, e}, most: cfg.Bulk}
	}
	client := NewClient(sess, cfg)
	if p.cfg.Greet {
		if err := client.Ping(ctx); err != nil {
			if cause := client.Err(); cause != nil {
				err = cause // without that a call, the ping, was lost
			}
			client.Close()
			failed(err)
			return
		}
	}
	e.client = client
	if p.ctx.Err() != nil {
		e.client.Close()
	}
}

// closeLocked ends e's client in the background, and those for its large answers; mu
// is held. A client whose server is stopping ends by itself after its last answer. A
// dial under way is ended by Stop alone.
func (p *Pool) closeLocked(e *entry, cause error) {
	if e == nil {
		return
	}
	for key, bulk := range p.servers {
		if key.calls == e {
			delete(p.servers, key)
			p.closeLocked(bulk, cause)
		}
	}
	p.work.Go(func() {
		<-e.ready
		if e.client == nil {
			return
		}
		if cause == nil && e.client.stopping.Load() {
			select {
			case <-e.client.Done():
			case <-p.ctx.Done():
			}
		}
		if cause != nil {
			e.client.fail(cause)
		}
		e.client.Close()
	})
}

// sweep closes what nobody used since the last one. It runs in the goroutine of
// its timer.
func (p *Pool) sweep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return
	}
	for key, e := range p.servers {
		if !isClosed(e.ready) {
			continue
		}
		used := e.used.Swap(false)
		if e.dead() || !used && e.client.InFlight() == 0 {
			delete(p.servers, key)
			p.closeLocked(e, nil)
		}
	}
	if len(p.servers) == 0 {
		p.sweeper = nil
		return
	}
	p.sweeper.Reset(p.cfg.IdleTimeout)
}
