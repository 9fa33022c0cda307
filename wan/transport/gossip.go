package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	packetBacklog = 1024 // packets memberlist has not fetched yet
	streamBacklog = 32   // streams likewise

	// sendQueue bounds what waits for one peer. It is a few seconds of gossip;
	// older packets are dropped first, since probes are worthless when late.
	sendQueue = 64
	// dialPause is how long after a failed dial packets are dropped without
	// another attempt. memberlist's own streams (joins, state exchange) try at
	// once.
	dialPause = time.Second
	// simultaneous: two connections to the same peer as young as this were
	// dialed by both sides at once; both sides then choose the same one.
	simultaneous = 5 * time.Second
	// retireAfter leaves streams on a replaced connection time to end; it is
	// longer than memberlist's time-out for a state exchange in the LAN profile.
	retireAfter = 15 * time.Second
	// sweepOutboxes is the number of addresses above which idle ones are
	// forgotten.
	sweepOutboxes = 64
)

// gossip is a memberlist.NodeAwareTransport. Connections are opened on demand:
// to a member by name they must present that name, to a bare address (a join)
// any server's certificate will do. Connections that peers opened are used to
// send as well.
type gossip struct {
	e       *Endpoint
	packets chan *memberlist.Packet
	streams chan net.Conn

	ctx    context.Context // done when Shutdown begins
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	stopped  bool
	links    map[string]*link // by the name the peer proved
	outboxes map[memberlist.Address]*outbox
	dials    map[memberlist.Address]*dialing
	sweepAt  int
}

// link is all connections with one peer.
type link struct {
	current *gossipConn   // for sending
	conns   []*gossipConn // all, oldest first: each is read until it ends
}

// dialing is one attempt that all who want that address wait for.
type dialing struct {
	done chan struct{}
	conn *gossipConn
	err  error
}

var _ memberlist.NodeAwareTransport = (*gossip)(nil)

func newGossip(e *Endpoint) *gossip {
	g := &gossip{
		e:        e,
		packets:  make(chan *memberlist.Packet, packetBacklog),
		streams:  make(chan net.Conn, streamBacklog),
		links:    make(map[string]*link),
		outboxes: make(map[memberlist.Address]*outbox),
		dials:    make(map[memberlist.Address]*dialing),
		sweepAt:  sweepOutboxes,
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	return g
}

// FinalAdvertiseAddr prefers what memberlist was told, then Config.Advertise,
// then the socket's own address.
func (g *gossip) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	own := g.e.Addr()
	if adv := g.e.cfg.Advertise; adv.IsValid() && ip == "" {
		ip = adv.Addr().String()
		if adv.Port() != 0 {
			port = int(adv.Port())
		}
	}
	if ip == "" {
		ip = own.Addr().String()
	}
	if port == 0 {
		port = int(own.Port())
	}
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return nil, 0, fmt.Errorf("wan/transport: advertise address: %w", err)
	}
	if addr = addr.Unmap(); addr.IsUnspecified() {
		return nil, 0, fmt.Errorf("wan/transport: bound to %s: an address to advertise is needed", own)
	}
	return addr.AsSlice(), port, nil
}

// WriteTo queues a packet for a bare address.
func (g *gossip) WriteTo(b []byte, addr string) (time.Time, error) {
	return g.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// WriteToAddress queues a packet. It never blocks, and reports nothing about the
// packet's fate: gossip is best effort, and an error would make memberlist treat
// a peer that is being dialed as one that cannot be reached.
func (g *gossip) WriteToAddress(b []byte, addr memberlist.Address) (time.Time, error) {
	if box := g.outbox(addr); box != nil {
		box.put(append([]byte(nil), b...))
	}
	return time.Now(), nil
}

// near is where a member is reached.
func (g *gossip) near(addr memberlist.Address) memberlist.Address {
	if f := g.e.cfg.Nearby; f != nil && addr.Name != "" {
		if to, ok := f(addr.Name); ok {
			addr.Addr = to.String()
		}
	}
	return addr
}

func (g *gossip) outbox(addr memberlist.Address) *outbox {
	addr = g.near(addr)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped {
		return nil
	}
	box := g.outboxes[addr]
	if box == nil {
		if len(g.outboxes) >= g.sweepAt {
			g.sweep()
		}
		box = &outbox{g: g, addr: addr}
		g.outboxes[addr] = box
	}
	return box
}

// sweep forgets the outboxes nobody uses. Called with mu held; the next sweep
// waits until the rest has doubled, so that its cost is spread.
func (g *gossip) sweep() {
	now := time.Now()
	for addr, box := range g.outboxes {
		if box.idle(now) {
			delete(g.outboxes, addr)
		}
	}
	g.sweepAt = max(sweepOutboxes, 2*len(g.outboxes))
}

// PacketCh returns the packets that arrived.
func (g *gossip) PacketCh() <-chan *memberlist.Packet { return g.packets }

// StreamCh returns the streams that peers opened.
func (g *gossip) StreamCh() <-chan net.Conn { return g.streams }

// DialTimeout opens a stream to a bare address.
func (g *gossip) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return g.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout opens a stream, on an open connection if there is one.
func (g *gossip) DialAddressTimeout(addr memberlist.Address, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(g.ctx, timeout, errNoAnswer)
	defer cancel()
	c, err := g.connTo(ctx, g.near(addr))
	if err != nil {
		return nil, err
	}
	st, err := c.quic.OpenStreamSync(ctx)
	if err != nil {
		return nil, fmt.Errorf("gossip stream to %s: %w", c.peer, cause(err))
	}
	return c.stream(st), nil
}

// Shutdown ends all gossip connections and returns when their goroutines have.
func (g *gossip) Shutdown() error {
	g.mu.Lock()
	g.stopped = true
	var conns []*gossipConn
	for _, l := range g.links {
		conns = append(conns, l.conns...)
	}
	g.mu.Unlock()
	g.cancel()
	for _, c := range conns {
		_ = c.quic.CloseWithError(codeStopped, "left the pool")
	}
	g.wg.Wait()
	for {
		select {
		case st := <-g.streams: // nobody will fetch it
			_ = st.Close()
		default:
			return nil
		}
	}
}

// connTo returns an open connection to addr, or dials. Concurrent callers share
// one attempt, which outlives a caller that gives up.
func (g *gossip) connTo(ctx context.Context, addr memberlist.Address) (*gossipConn, error) {
	g.mu.Lock()
	if g.stopped {
		g.mu.Unlock()
		return nil, ErrStopped
	}
	if c := g.open(addr); c != nil {
		g.mu.Unlock()
		return c, nil
	}
	d := g.dials[addr]
	if d == nil {
		d = &dialing{done: make(chan struct{})}
		g.dials[addr] = d
		g.wg.Go(func() { g.dial(d, addr) })
	}
	g.mu.Unlock()
	select {
	case <-d.done:
		return d.conn, d.err
	case <-ctx.Done():
		return nil, fmt.Errorf("gossip to %s: %w", addr.String(), context.Cause(ctx))
	}
}

func (g *gossip) dial(d *dialing, addr memberlist.Address) {
	d.conn, d.err = g.dialConn(addr)
	g.mu.Lock()
	delete(g.dials, addr)
	g.mu.Unlock()
	close(d.done)
}

func (g *gossip) dialConn(addr memberlist.Address) (*gossipConn, error) {
	ap, err := netip.ParseAddrPort(addr.Addr)
	if err != nil {
		return nil, fmt.Errorf("gossip to %s: %w", addr.String(), err)
	}
	c, err := g.e.dial(g.ctx, ap, ALPNGossip, addr.Name)
	if err != nil {
		return nil, err
	}
	gc := g.add(c, addr.Addr)
	if gc == nil {
		return nil, ErrStopped
	}
	return gc, nil
}

// open finds the connection to send on. A named member is reached by a
// connection it opened, whatever address that came from, or by one that was
// dialed to the address wanted: after a move the old address must not be used.
func (g *gossip) open(addr memberlist.Address) *gossipConn {
	if addr.Name != "" {
		l := g.links[addr.Name]
		if l == nil {
			return nil
		}
		if l.current.reaches(addr.Addr) {
			return l.current
		}
		for i := len(l.conns) - 1; i >= 0; i-- {
			if c := l.conns[i]; c.reaches(addr.Addr) {
				return c
			}
		}
		return nil
	}
	for _, l := range g.links {
		for i := len(l.conns) - 1; i >= 0; i-- {
			if c := l.conns[i]; c.dialedTo == addr.Addr && c.reaches(addr.Addr) {
				return c
			}
		}
	}
	return nil
}

// add takes over a connection and starts to read it. It returns nil, and closes
// the connection, after Shutdown.
func (g *gossip) add(c *connection, dialedTo string) *gossipConn {
	gc := &gossipConn{connection: c, g: g, dialedTo: dialedTo}
	g.mu.Lock()
	if g.stopped {
		g.mu.Unlock()
		_ = c.quic.CloseWithError(codeStopped, "left the pool")
		return nil
	}
	l := g.links[c.peer]
	if l == nil {
		l = &link{}
		g.links[c.peer] = l
	}
	l.conns = append(l.conns, gc)
	if l.current == nil || !l.current.alive() || g.prefer(gc, l.current) {
		l.current = gc
	}
	for _, other := range l.conns {
		if other != l.current && !other.retiring {
			other.retiring = true
			other.retire = time.AfterFunc(retireAfter, func() {
				_ = other.quic.CloseWithError(codeReplaced, "replaced by another connection")
			})
		}
	}
	g.wg.Go(gc.readDatagrams)
	g.wg.Go(gc.acceptPackets)
	g.wg.Go(gc.acceptStreams)
	g.mu.Unlock()
	context.AfterFunc(c.quic.Context(), func() { g.remove(gc) })
	return gc
}

// prefer says whether the newer connection takes over. Normally it does: a peer
// that restarted or moved is reached by it. When both sides dialed at once they
// must agree, or each would retire the connection the other prefers.
func (g *gossip) prefer(newer, current *gossipConn) bool {
	if newer.since.Sub(current.since) < simultaneous && newer.dialed != current.dialed {
		return newer.dialer() < current.dialer()
	}
	return true
}

func (g *gossip) remove(gc *gossipConn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if gc.retire != nil {
		gc.retire.Stop()
	}
	l := g.links[gc.peer]
	if l == nil {
		return
	}
	kept := l.conns[:0]
	for _, c := range l.conns {
		if c != gc {
			kept = append(kept, c)
		}
	}
	clear(l.conns[len(kept):])
	l.conns = kept
	if len(kept) == 0 {
		delete(g.links, gc.peer)
		return
	}
	if l.current == gc {
		l.current = kept[len(kept)-1]
		if l.current.retire != nil && l.current.retire.Stop() {
			l.current.retiring = false // it is needed after all
		}
	}
}

var errTooLarge = errors.New("gossip packet too large")
