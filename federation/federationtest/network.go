package federationtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/forwarding/rpc/rpctest"
	"landbridge/lan/gossip/gossiptest"
	"landbridge/wan/transport/transporttest"
)

// lanDelay is what anything takes one way between two hosts of a datacenter.
const lanDelay = 100 * time.Microsecond

// dialTimeout ends a dial of a host that does not answer, if the caller has no
// deadline.
const dialTimeout = 10 * time.Second

// network is what lies between the hosts.
type network struct {
	gossip  *gossiptest.Network    // LAN pools
	packets *transporttest.Network // WAN sockets

	mu    sync.Mutex // before a Link's own lock
	cut   map[[2]netip.Addr]bool
	down  map[netip.Addr]bool
	ports map[netip.AddrPort]*port
	links map[*link]bool
}

func newNetwork(seed uint64) *network {
	n := &network{
		gossip: gossiptest.NewNetwork(seed), packets: transporttest.NewNetwork(seed),
		cut: map[[2]netip.Addr]bool{}, down: map[netip.Addr]bool{},
		ports: map[netip.AddrPort]*port{}, links: map[*link]bool{},
	}
	n.gossip.SetDelay(lanDelay)
	n.packets.SetDelay(lanDelay)
	return n
}

func pair(a, b netip.Addr) [2]netip.Addr {
	if b.Less(a) {
		a, b = b, a
	}
	return [2]netip.Addr{a, b}
}

// setCut stops, or lets through, everything between two hosts.
func (n *network) setCut(a, b netip.Addr, cut bool) {
	ga, gb := netip.AddrPortFrom(a, serfLANPort), netip.AddrPortFrom(b, serfLANPort)
	if cut {
		n.gossip.Cut(ga, gb)
		n.packets.Cut(a, b)
	} else {
		n.gossip.Heal(ga, gb)
		n.packets.Heal(a, b)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[pair(a, b)] = cut
	n.settle()
}

// powerOff takes a host off the network without a word; what it still does
// reaches nobody.
func (n *network) powerOff(l *life) {
	n.gossip.Crash(netip.AddrPortFrom(l.addr, serfLANPort))
	n.packets.Silence(netip.AddrPortFrom(l.addr, serfWANPort), true)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down[l.addr] = true
	l.dead = true
	for at, p := range n.ports {
		if p.life == l {
			delete(n.ports, at)
		}
	}
	n.settle()
}

// powerOn lets the host's next life use the network. Connections of the former
// one are reset: the new kernel does not know them.
func (n *network) powerOn(addr netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.down, addr)
	n.settle()
}

// settle applies cuts and dead hosts to the links. n.mu is held.
func (n *network) settle() {
	for k := range n.links {
		blocked := n.blocked(k.ends[0], k.ends[1].addr)
		k.Stall(blocked)
		if k.blocked = blocked; !blocked && (k.lost || k.ends[0].dead || k.ends[1].dead) {
			k.reset()
			delete(n.links, k)
		}
	}
}

// blocked says whether nothing passes between a life and an address. n.mu is held.
func (n *network) blocked(l *life, to netip.Addr) bool {
	return n.down[l.addr] || n.down[to] || n.cut[pair(l.addr, to)]
}

// link is one simulated TCP connection.
type link struct {
	*rpctest.Link
	net  *network
	ends [2]*life
	// Guarded by net.mu.
	blocked bool
	lost    bool // one end was closed while the other could not hear of it
}

var errReset = errors.New("connection reset by peer")

func (k *link) reset() {
	_ = k.A.CloseWithCause(errReset)
	_ = k.B.CloseWithCause(errReset)
}

// end is one end of a link as an rpc.Session.
type end struct {
	*rpctest.Session
	link   *link
	closed func() // told once the session was closed on this side; may be nil
}

var _ rpc.Session = (*end)(nil)

// CloseWithCause ends both ends, or only this one if the other cannot hear of it.
func (e *end) CloseWithCause(cause error) error {
	n := e.link.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if e.link.blocked {
		e.link.lost = true
		e.Abandon(cause)
		return nil
	}
	delete(n.links, e.link)
	return e.Session.CloseWithCause(cause)
}

// lost is whether what the life sends to a host now gets no answer.
func (n *network) lost(l *life, to netip.Addr) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return l.dead || n.blocked(l, to)
}

// dial connects a life to a port. accept gets the other end, in this goroutine.
func (n *network) dial(ctx context.Context, l *life, addr string, accept func(*port, *end) error) (*end, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	// What nobody answers is sent again after a second, two more, four more.
	for again := time.Second; n.lost(l, to.Addr()); again *= 2 {
		select {
		case <-time.After(again):
		case <-ctx.Done():
			return nil, fmt.Errorf("dial tcp %s: %w", to, os.ErrDeadlineExceeded)
		}
	}
	t := time.NewTimer(2 * lanDelay)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return nil, fmt.Errorf("dial tcp %s: %w", to, context.Cause(ctx))
	}
	n.mu.Lock()
	p := n.ports[to]
	if p == nil || l.dead {
		n.mu.Unlock()
		return nil, fmt.Errorf("dial tcp %s: connection refused", to)
	}
	k := &link{Link: rpctest.NewLink(lanDelay), net: n, ends: [2]*life{l, p.life}}
	n.links[k] = true
	k.blocked = n.blocked(l, to.Addr())
	k.Stall(k.blocked)
	n.mu.Unlock()
	a, b := &end{Session: k.A, link: k}, &end{Session: k.B, link: k}
	if err := accept(p, b); err != nil {
		_ = a.CloseWithCause(err)
		return nil, fmt.Errorf("dial tcp %s: %w", to, err)
	}
	return a, nil
}

// streamConn is a link with one stream, for Raft.
type streamConn struct {
	net.Conn
	end           *end
	local, remote net.Addr

	// On the accepting end: the byte that announces the stream, and the hello.
	welcome func(net.Conn) error
	first   sync.Once
	err     error
}

func (c *streamConn) Read(b []byte) (int, error) {
	if c.welcome != nil {
		c.first.Do(func() {
			var one [1]byte
			if _, c.err = c.Conn.Read(one[:]); c.err == nil {
				c.err = c.welcome(c.Conn)
			}
		})
		if c.err != nil {
			return 0, c.err
		}
	}
	return c.Conn.Read(b)
}

func (c *streamConn) Close() error {
	err := c.Conn.Close()
	_ = c.end.CloseWithCause(net.ErrClosed)
	if c.end.closed != nil {
		c.end.closed()
	}
	return err
}

func (c *streamConn) LocalAddr() net.Addr  { return c.local }
func (c *streamConn) RemoteAddr() net.Addr { return c.remote }
