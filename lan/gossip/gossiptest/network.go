// Package gossiptest is a network in memory for memberlist pools, for tests in
// synctest bubbles: packets and streams with delay and loss, cut links and dead
// hosts. memberlist's own MockTransport blocks forever on a dead peer.
package gossiptest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

// Network joins transports. The zero value is not usable; see NewNetwork.
type Network struct {
	mu    sync.Mutex
	rand  *rand.Rand
	delay time.Duration // one way
	loss  float64       // of packets; streams are reliable
	hosts map[string]*Transport
	cut   map[[2]string]bool
}

// NewNetwork returns a network without delay or loss; seed makes its losses
// repeatable.
func NewNetwork(seed uint64) *Network {
	return &Network{
		rand:  rand.New(rand.NewPCG(seed, seed)),
		hosts: make(map[string]*Transport),
		cut:   make(map[[2]string]bool),
	}
}

// SetDelay sets the time a packet, or the opening of a stream, takes one way.
func (n *Network) SetDelay(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.delay = d
}

// SetLoss sets the share of packets that are lost, 0 to 1.
func (n *Network) SetLoss(share float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loss = share
}

// Cut stops packets and new streams between two hosts, both ways; Heal lets them
// pass again.
func (n *Network) Cut(a, b netip.AddrPort)  { n.setCut(a, b, true) }
func (n *Network) Heal(a, b netip.AddrPort) { n.setCut(a, b, false) }

func (n *Network) setCut(a, b netip.AddrPort, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if cut {
		n.cut[pair(a.String(), b.String())] = true
	} else {
		delete(n.cut, pair(a.String(), b.String()))
	}
}

func pair(a, b string) [2]string {
	if a > b {
		a, b = b, a
	}
	return [2]string{a, b}
}

// Listen attaches a host. An address may be used again after its host was shut
// down or crashed.
func (n *Network) Listen(addr netip.AddrPort) *Transport {
	t := &Transport{
		net: n, addr: addr,
		packets: make(chan *memberlist.Packet, 1024),
		streams: make(chan net.Conn, 64),
		done:    make(chan struct{}),
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hosts[addr.String()] != nil {
		panic("gossiptest: address in use: " + addr.String())
	}
	n.hosts[addr.String()] = t
	return t
}

// Crash takes a host off the network without a word. Its transport stays usable
// for its owner, who should stop it, and sends into the void.
func (n *Network) Crash(addr netip.AddrPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.hosts, addr.String())
}

// route returns the destination, nil if it cannot be reached.
func (n *Network) route(from *Transport, to string, packet bool) (*Transport, time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hosts[from.addr.String()] != from || n.cut[pair(from.addr.String(), to)] {
		return nil, n.delay
	}
	if packet && n.loss > 0 && n.rand.Float64() < n.loss {
		return nil, n.delay
	}
	return n.hosts[to], n.delay
}

// Transport is one host's memberlist transport.
type Transport struct {
	net     *Network
	addr    netip.AddrPort
	packets chan *memberlist.Packet
	streams chan net.Conn

	once sync.Once
	done chan struct{}
}

var _ memberlist.NodeAwareTransport = (*Transport)(nil)

// Addr is the host's address.
func (t *Transport) Addr() netip.AddrPort { return t.addr }

func (t *Transport) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	if ip != "" && port != 0 {
		return net.ParseIP(ip), port, nil
	}
	return t.addr.Addr().AsSlice(), int(t.addr.Port()), nil
}

func (t *Transport) WriteTo(b []byte, addr string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: addr})
}

func (t *Transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	now := time.Now()
	to, delay := t.net.route(t, a.Addr, true)
	if to == nil {
		return now, nil // as UDP: nobody tells
	}
	p := &memberlist.Packet{Buf: append([]byte(nil), b...), From: net.UDPAddrFromAddrPort(t.addr)}
	deliver := func() {
		p.Timestamp = time.Now()
		select {
		case to.packets <- p:
		default: // the socket's buffer is full
		}
	}
	if delay == 0 {
		deliver()
	} else {
		time.AfterFunc(delay, deliver)
	}
	return now, nil
}

func (t *Transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

func (t *Transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout fails at once for an address nobody listens on, and after
// the time-out when the path is cut.
func (t *Transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	to, delay := t.net.route(t, a.Addr, false)
	if to == nil {
		if !t.net.isCut(t, a.Addr) {
			return nil, fmt.Errorf("dial %s: %w", a.Addr, syscall.ECONNREFUSED)
		}
		select {
		case <-ctx.Done():
			return nil, os.ErrDeadlineExceeded
		case <-t.done:
			return nil, net.ErrClosed
		}
	}
	if err := t.wait(ctx, 2*delay); err != nil {
		return nil, err
	}
	ours, theirs := net.Pipe()
	theirs = namedConn{theirs, net.TCPAddrFromAddrPort(t.addr)}
	select {
	case to.streams <- theirs:
		return namedConn{ours, net.TCPAddrFromAddrPort(to.addr)}, nil
	case <-to.done:
		return nil, fmt.Errorf("dial %s: %w", a.Addr, syscall.ECONNREFUSED)
	case <-ctx.Done():
		return nil, os.ErrDeadlineExceeded
	}
}

// wait returns nil after d, or an error when ctx or the transport is done.
func (t *Transport) wait(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return os.ErrDeadlineExceeded
	case <-t.done:
		return net.ErrClosed
	case <-timer.C:
		return nil
	}
}

func (n *Network) isCut(from *Transport, to string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cut[pair(from.addr.String(), to)] || n.hosts[from.addr.String()] != from
}

func (t *Transport) StreamCh() <-chan net.Conn { return t.streams }

func (t *Transport) Shutdown() error {
	t.once.Do(func() {
		close(t.done)
		t.net.mu.Lock()
		if t.net.hosts[t.addr.String()] == t {
			delete(t.net.hosts, t.addr.String())
		}
		t.net.mu.Unlock()
	})
	for {
		select {
		case c := <-t.streams:
			_ = c.Close()
		default:
			return nil
		}
	}
}

// namedConn gives a pipe's end the other host's address.
type namedConn struct {
	net.Conn
	remote net.Addr
}

func (c namedConn) RemoteAddr() net.Addr { return c.remote }
