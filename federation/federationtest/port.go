package federationtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/raft"

	"landbridge/federation/node"
	"landbridge/forwarding/rpc"
	"landbridge/lan/stream"
	"landbridge/store/raftlog"
	"landbridge/store/raftlog/raftlogtest"
)

// life is one run of a host's agent: a node.Network of its own.
type life struct {
	net  *network
	addr netip.Addr
	dir  string // data_dir
	disk *raftlogtest.Disk
	dead bool // crashed; guarded by net.mu
}

var _ node.Network = (*life)(nil)

func (l *life) ListenLAN(n *node.Node) (node.LANPort, error) {
	p := &port{life: l, greeter: n.Greeter(), addr: netip.AddrPortFrom(l.addr, serverPort), stopc: make(chan struct{}), open: map[*end]bool{}}
	p.raft = &raftLayer{p: p, accept: make(chan net.Conn, 16), done: make(chan struct{})}
	return p, nil
}

func (l *life) DialLAN(*node.Node) (func(context.Context, string) (rpc.Session, error), error) {
	return l.session, nil
}

// session dials a server for calls.
func (l *life) session(ctx context.Context, addr string) (rpc.Session, error) {
	e, err := l.net.dial(ctx, l, addr, (*port).serve)
	if err != nil {
		return nil, err
	}
	return e, nil
}

func (l *life) ListenWAN(bind netip.AddrPort) (net.PacketConn, error) {
	return l.net.packets.Take(bind), nil
}

func (l *life) LANGossip(*node.Node) memberlist.Transport {
	return l.net.gossip.Listen(netip.AddrPortFrom(l.addr, serfLANPort))
}

func (l *life) OpenStores(_ *node.Node, opts raftlog.Options) (*raftlog.Stores, error) {
	opts.SegmentSize = 256 << 10
	return l.disk.Open(l.dir, opts)
}

// port is a server's TCP port.
type port struct {
	life      *life
	addr      netip.AddrPort
	raft      *raftLayer
	greeter   *stream.Greeter
	onSession func(rpc.Session, string)

	stopc chan struct{}
	once  sync.Once
	work  sync.WaitGroup // sessions being served; Add under mu, before stopped
	mu    sync.Mutex
	off   bool
	open  map[*end]bool // accepted
}

var errStopped = errors.New("the port was stopped")

func (p *port) OnSession(f func(rpc.Session, string)) { p.onSession = f }
func (p *port) Addr() net.Addr                        { return net.TCPAddrFromAddrPort(p.addr) }
func (p *port) RaftLayer() raft.StreamLayer           { return p.raft }

func (p *port) Start(context.Context) error {
	n := p.life.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ports[p.addr] != nil {
		return fmt.Errorf("listen tcp %s: address already in use", p.addr)
	}
	if !p.life.dead {
		n.ports[p.addr] = p
	}
	return nil
}

func (p *port) Dial(ctx context.Context, addr string) (rpc.Session, error) {
	return p.life.session(ctx, addr)
}

// serve takes an accepted session, in a goroutine that Stop waits for.
func (p *port) serve(e *end) error {
	if !p.add(e) {
		return errors.New("connection refused")
	}
	p.work.Add(1)
	p.mu.Unlock()
	go func() {
		defer p.work.Done()
		defer p.forget(e)
		p.onSession(e, net.TCPAddrFromAddrPort(netip.AddrPortFrom(e.link.ends[0].addr, 0)).String())
	}()
	return nil
}

// add notes an accepted connection, and returns with p.mu held unless it is
// refused.
func (p *port) add(e *end) bool {
	p.mu.Lock()
	if p.off {
		p.mu.Unlock()
		return false
	}
	p.open[e] = true
	return true
}

func (p *port) forget(e *end) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, e)
}

// Stop closes the port and what it accepted, and waits for what serves it.
func (p *port) Stop(ctx context.Context) error {
	n := p.life.net
	n.mu.Lock()
	if n.ports[p.addr] == p {
		delete(n.ports, p.addr)
	}
	n.mu.Unlock()
	p.mu.Lock()
	p.off = true
	open := make([]*end, 0, len(p.open))
	for e := range p.open {
		open = append(open, e)
	}
	p.mu.Unlock()
	p.once.Do(func() { close(p.stopc) })
	_ = p.raft.Close()
	for _, e := range open {
		_ = e.CloseWithCause(errStopped)
	}
	done := make(chan struct{})
	go func() { // ends with the sessions, all of which were closed
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

// raftLayer is Raft's share of a port.
type raftLayer struct {
	p      *port
	accept chan net.Conn
	once   sync.Once
	done   chan struct{}
}

func (r *raftLayer) Addr() net.Addr { return r.p.Addr() }

func (r *raftLayer) Accept() (net.Conn, error) {
	select {
	case c := <-r.accept:
		return c, nil
	case <-r.done:
		return nil, net.ErrClosed
	}
}

func (r *raftLayer) Close() error {
	r.once.Do(func() { close(r.done) })
	for {
		select {
		case c := <-r.accept:
			_ = c.Close()
		default:
			return nil
		}
	}
}

func (r *raftLayer) Dial(to raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx := context.Background()
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	var conn net.Conn
	e, err := r.p.life.net.dial(ctx, r.p.life, string(to), func(p *port, far *end) (err error) {
		// The stream is there for the other end with its first byte.
		if conn, err = far.link.A.OpenStream(ctx); err != nil {
			return err
		}
		if _, err = conn.Write([]byte{0}); err != nil {
			return err
		}
		return p.raft.deliver(ctx, far, r.p.Addr())
	})
	if err != nil {
		return nil, err
	}
	c := &streamConn{Conn: conn, end: e, local: r.p.Addr(), remote: tcpAddr(to)}
	if t, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(t)
	}
	if err := r.p.greeter.Greet(c, string(to)); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, c.SetDeadline(time.Time{})
}

func tcpAddr(a raft.ServerAddress) net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(string(a)))
}

// deliver hands an accepted connection to Raft.
func (r *raftLayer) deliver(ctx context.Context, e *end, from net.Addr) error {
	conn, err := e.AcceptStream(ctx)
	if err != nil {
		return err
	}
	if !r.p.add(e) {
		return errors.New("connection refused")
	}
	defer r.p.mu.Unlock()
	e.closed = func() { r.p.forget(e) }
	select {
	case r.accept <- &streamConn{Conn: conn, end: e, welcome: r.p.greeter.Welcome, local: r.p.Addr(), remote: from}:
		return nil
	default:
		delete(r.p.open, e)
		return errors.New("raft accepts no connections")
	}
}
