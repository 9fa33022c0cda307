// Package transporttest has a packet network in memory and a certificate
// authority for tests of what runs over wan/transport, in synctest bubbles and
// outside.
package transporttest

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// Network carries packets between the sockets that Listen made.
type Network struct {
	mu       sync.Mutex
	rand     *rand.Rand
	delay    time.Duration // one way
	loss     float64
	sockets  map[netip.AddrPort]*Socket
	paths    map[[2]netip.Addr]path // that differ from delay and loss
	cut      map[[2]netip.Addr]bool
	silent   map[netip.AddrPort]bool
	packets  int
	captured []Captured // nil: nobody captures
}

// path is what a pair of hosts has between them.
type path struct {
	delay time.Duration // one way
	loss  float64
}

// NewNetwork returns a network without delay or loss; seed makes its losses
// repeatable.
func NewNetwork(seed uint64) *Network {
	return &Network{
		rand:    rand.New(rand.NewPCG(seed, seed)),
		sockets: make(map[netip.AddrPort]*Socket),
		paths:   make(map[[2]netip.Addr]path),
		cut:     make(map[[2]netip.Addr]bool),
		silent:  make(map[netip.AddrPort]bool),
	}
}

// SetDelay sets the time a packet takes one way: half of the round trip.
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

// SetPath gives the path between two hosts, both ways, a delay and a loss of its
// own.
func (n *Network) SetPath(a, b netip.Addr, delay time.Duration, loss float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.paths[hosts(a, b)] = path{delay, loss}
}

// Cut drops everything between two hosts, both ways, until Heal.
func (n *Network) Cut(a, b netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[hosts(a, b)] = true
}

// Heal undoes Cut.
func (n *Network) Heal(a, b netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.cut, hosts(a, b))
}

// Silence drops all that a socket's address sends and receives while on: a
// frozen process, or one about to crash.
func (n *Network) Silence(a netip.AddrPort, on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if on {
		n.silent[a] = true
	} else {
		delete(n.silent, a)
	}
}

// Packets is how many packets were sent so far.
func (n *Network) Packets() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.packets
}

func hosts(a, b netip.Addr) [2]netip.Addr {
	if b.Less(a) {
		a, b = b, a
	}
	return [2]netip.Addr{a, b}
}

// Listen binds an address. After Close, or while the former owner is still about
// (Take), the address may be bound again.
func (n *Network) Listen(a netip.AddrPort) *Socket {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.sockets[a] != nil {
		panic("transporttest: address in use: " + a.String())
	}
	return n.bind(a)
}

// Take crashes whoever is bound to the address, silently, and binds it anew.
func (n *Network) Take(a netip.AddrPort) *Socket {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.silent, a)
	return n.bind(a)
}

func (n *Network) bind(a netip.AddrPort) *Socket {
	s := &Socket{net: n, addr: a, in: make(chan packet, 4096), done: make(chan struct{}), deadlineSet: make(chan struct{})}
	n.sockets[a] = s
	return s
}

type packet struct {
	b    []byte
	from netip.AddrPort
}

// send delivers after the delay, unless something is in the way.
func (n *Network) send(s *Socket, b []byte, to netip.AddrPort) {
	n.mu.Lock()
	n.packets++
	way, ok := n.paths[hosts(s.addr.Addr(), to.Addr())]
	if !ok {
		way = path{n.delay, n.loss}
	}
	drop := n.sockets[s.addr] != s || n.silent[s.addr] || n.silent[to] ||
		n.cut[hosts(s.addr.Addr(), to.Addr())] || way.loss > 0 && n.rand.Float64() < way.loss
	p := packet{append([]byte(nil), b...), s.addr}
	if n.captured != nil {
		n.captured = append(n.captured, Captured{s.addr, to, p.b})
	}
	n.mu.Unlock()
	if drop {
		return
	}
	if way.delay == 0 {
		n.deliver(p, to)
		return
	}
	time.AfterFunc(way.delay, func() { n.deliver(p, to) })
}

func (n *Network) deliver(p packet, to netip.AddrPort) {
	n.mu.Lock()
	dest := n.sockets[to]
	if n.silent[to] {
		dest = nil
	}
	n.mu.Unlock()
	if dest == nil {
		return
	}
	select {
	case dest.in <- p:
	default: // the socket's buffer is full
	}
}

// Captured is a packet as somebody on the path saw it.
type Captured struct {
	From, To netip.AddrPort
	Bytes    []byte
}

// Capture begins to record all packets; Recorded returns them.
func (n *Network) Capture() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.captured = []Captured{}
}

// Recorded returns what was sent since Capture, and ends that.
func (n *Network) Recorded() []Captured {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := n.captured
	n.captured = nil
	return list
}

// Inject delivers a packet at once, as if from had sent it.
func (n *Network) Inject(from, to netip.AddrPort, b []byte) {
	n.deliver(packet{append([]byte(nil), b...), from}, to)
}

// Socket is a net.PacketConn.
type Socket struct {
	net  *Network
	addr netip.AddrPort
	in   chan packet

	once sync.Once
	done chan struct{}

	mu          sync.Mutex
	deadline    time.Time
	deadlineSet chan struct{} // closed and replaced when deadline changes
}

var _ net.PacketConn = (*Socket)(nil)

func (s *Socket) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		s.mu.Lock()
		deadline, set := s.deadline, s.deadlineSet
		s.mu.Unlock()
		var passed <-chan time.Time
		if !deadline.IsZero() {
			d := time.Until(deadline)
			if d <= 0 {
				return 0, nil, os.ErrDeadlineExceeded
			}
			passed = time.After(d)
		}
		select {
		case p := <-s.in:
			return copy(b, p.b), net.UDPAddrFromAddrPort(p.from), nil
		case <-s.done:
			return 0, nil, net.ErrClosed
		case <-passed:
			return 0, nil, os.ErrDeadlineExceeded
		case <-set:
		}
	}
}

func (s *Socket) WriteTo(b []byte, to net.Addr) (int, error) {
	select {
	case <-s.done:
		return 0, net.ErrClosed
	default:
	}
	a := to.(*net.UDPAddr).AddrPort()
	s.net.send(s, b, netip.AddrPortFrom(a.Addr().Unmap(), a.Port()))
	return len(b), nil
}

func (s *Socket) Close() error {
	s.once.Do(func() {
		close(s.done)
		s.net.mu.Lock()
		defer s.net.mu.Unlock()
		if s.net.sockets[s.addr] == s {
			delete(s.net.sockets, s.addr)
		}
	})
	return nil
}

func (s *Socket) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(s.addr) }

func (s *Socket) SetDeadline(t time.Time) error { return s.SetReadDeadline(t) }

func (s *Socket) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deadline = t
	close(s.deadlineSet)
	s.deadlineSet = make(chan struct{})
	return nil
}

func (s *Socket) SetWriteDeadline(time.Time) error { return nil }

// SetReadBuffer and SetWriteBuffer keep quic-go from warning about small buffers.
func (s *Socket) SetReadBuffer(int) error  { return nil }
func (s *Socket) SetWriteBuffer(int) error { return nil }
