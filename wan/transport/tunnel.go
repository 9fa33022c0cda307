package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
)

const (
	// maxTunnelPacket bounds a packet: quic-go makes none that is larger.
	maxTunnelPacket = 1500
	// legQueue is how many packets wait to be sent on one leg; more are dropped, as a
	// router would.
	legQueue = 128
	// maxTunnelBytes bounds the packets that wait on all legs together.
	maxTunnelBytes = 16 << 20
	// socketQueue holds packets that quic-go has not fetched yet.
	socketQueue = 1024
	// legLinger lets the last packets, the end of the connection inside among them,
	// leave before the leg is closed.
	legLinger = time.Second
)

// leg is a connection to a relay, or of a relay to one of the two ends, that carries
// the packets of one tunnel.
type leg struct {
	e       *Endpoint
	conn    *connection
	addr    netip.AddrPort // on the tunnelSocket; zero at a relay
	far     string         // who is at the other end of the tunnel; "" at a relay
	deliver func([]byte)   // takes a packet that arrived; must not block

	mu     sync.Mutex
	queue  chan []byte
	closed bool
}

// newLeg starts to carry packets. It ends with its connection.
func (e *Endpoint) newLeg(c *connection, far string) *leg {
	return &leg{e: e, conn: c, far: far, queue: make(chan []byte, legQueue)}
}

// start is called once deliver is set. false: the endpoint stops.
func (l *leg) start() bool {
	ctx := l.conn.quic.Context()
	for _, f := range []func(context.Context){l.send, l.readDatagrams, l.readStreams} {
		if !l.e.spawn(func() { f(ctx) }) {
			return false
		}
	}
	return true
}

// put queues a packet, which belongs to the leg from now on, or drops it.
func (l *leg) put(b []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	if l.e.tunnelBytes.Add(int64(len(b))) <= maxTunnelBytes {
		select {
		case l.queue <- b:
			return
		default:
		}
	}
	l.e.tunnelBytes.Add(-int64(len(b)))
	l.e.metrics.relayDrops.WithLabelValues("queue_full").Inc()
}

// send sends what was queued until the connection ends.
func (l *leg) send(ctx context.Context) {
	for {
		select {
		case b := <-l.queue:
			l.e.tunnelBytes.Add(-int64(len(b)))
			if err := l.sendPacket(ctx, b); err != nil && ctx.Err() == nil {
				l.e.metrics.relayDrops.WithLabelValues("send_failed").Inc()
			}
		case <-ctx.Done():
			l.mu.Lock()
			defer l.mu.Unlock()
			l.closed = true
			for {
				select {
				case b := <-l.queue:
					l.e.tunnelBytes.Add(-int64(len(b)))
				default:
					return
				}
			}
		}
	}
}

// sendPacket waits while quic-go's queue of datagrams is full, or as many streams are
// under way as the other side takes: what comes meanwhile waits in queue.
func (l *leg) sendPacket(ctx context.Context, b []byte) error {
	err := l.conn.quic.SendDatagram(b)
	var large *quic.DatagramTooLargeError
	if !errors.As(err, &large) {
		return err
	}
	st, err := l.conn.quic.OpenUniStreamSync(ctx)
	if err != nil {
		return err
	}
	_ = st.SetWriteDeadline(time.Now().Add(packetTime))
	if _, err := st.Write(b); err != nil {
		st.CancelWrite(codeClosed)
		return err
	}
	return st.Close()
}

func (l *leg) readDatagrams(ctx context.Context) {
	for {
		b, err := l.conn.quic.ReceiveDatagram(ctx)
		if err != nil {
			return
		}
		l.received(b)
	}
}

func (l *leg) readStreams(ctx context.Context) {
	for {
		st, err := l.conn.quic.AcceptUniStream(ctx)
		if err != nil {
			return
		}
		if !l.e.spawn(func() { l.readStream(st) }) { // at most MaxIncomingUniStreams
			return
		}
	}
}

func (l *leg) readStream(st *quic.ReceiveStream) {
	_ = st.SetReadDeadline(time.Now().Add(packetTime))
	b, err := io.ReadAll(io.LimitReader(st, maxTunnelPacket+1))
	if err != nil || len(b) > maxTunnelPacket {
		st.CancelRead(codeClosed)
	}
	if err == nil {
		l.received(b)
	}
}

func (l *leg) received(b []byte) {
	switch {
	case len(b) > maxTunnelPacket:
		l.e.metrics.relayDrops.WithLabelValues("too_large").Inc()
	case len(b) > 0:
		l.deliver(b)
	}
}

func (l *leg) alive() bool { return l.conn.quic.Context().Err() == nil }

func (l *leg) close(err error) {
	_ = l.conn.quic.CloseWithError(codeClosed, closeText(err))
}

// tunnelSocket is the packet socket below the connections that run through tunnels.
// Each tunnel has an address of its own on it, of the block that no network
// routes (RFC 6666).
type tunnelSocket struct {
	e        *Endpoint
	quic     *quic.Transport
	config   *quic.Config
	listener *quic.Listener
	in       chan tunnelPacket
	once     sync.Once
	done     chan struct{}

	mu   sync.Mutex
	next uint64
	legs map[netip.AddrPort]*leg
}

type tunnelPacket struct {
	b    []byte
	from netip.AddrPort
}

var _ net.PacketConn = (*tunnelSocket)(nil)

// tunnels returns the socket, which the first tunnel opens.
func (e *Endpoint) tunnels() (*tunnelSocket, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped {
		return nil, ErrStopped
	}
	if e.inside != nil {
		return e.inside, nil
	}
	s := &tunnelSocket{e: e, in: make(chan tunnelPacket, socketQueue), done: make(chan struct{}), legs: map[netip.AddrPort]*leg{}}
	s.quic = &quic.Transport{Conn: s, ConnContext: e.gate.admit, ConnectionIDLength: 8}
	conf := *e.config
	// Packets of this size fit the datagrams of a leg as soon as that has found out
	// what its path takes, even between machines with an MTU of 1280.
	conf.InitialPacketSize, conf.DisablePathMTUDiscovery = 1200, true
	conf.EnableDatagrams, conf.MaxIncomingUniStreams, conf.TokenStore = false, -1, nil
	s.config = &conf
	var err error
	if s.listener, err = s.quic.Listen(e.listenTLS(ALPNRPC), s.config); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("wan/transport: tunnels: %w", err)
	}
	e.inside = s
	e.wg.Go(func() { e.accept(s.listener) })
	return s, nil
}

// tunnelSocket returns it, nil before the first tunnel.
func (e *Endpoint) tunnelSocket() *tunnelSocket {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.inside
}

// attach gives a leg an address; it keeps it until its connection ends.
func (s *tunnelSocket) attach(l *leg) error {
	s.mu.Lock()
	s.next++
	l.addr = tunnelAddr(s.next)
	s.legs[l.addr] = l
	s.mu.Unlock()
	l.deliver = func(b []byte) {
		select {
		case s.in <- tunnelPacket{b, l.addr}:
		default:
			s.e.metrics.relayDrops.WithLabelValues("receive_full").Inc()
		}
	}
	context.AfterFunc(l.conn.quic.Context(), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.legs, l.addr)
	})
	if !l.start() {
		l.close(ErrStopped)
		return ErrStopped
	}
	return nil
}

func (s *tunnelSocket) leg(a netip.AddrPort) *leg {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.legs[a]
}

func (s *tunnelSocket) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case p := <-s.in:
		return copy(b, p.b), net.UDPAddrFromAddrPort(p.from), nil
	case <-s.done:
		return 0, nil, net.ErrClosed
	}
}

// WriteTo never waits, and loses packets as a network does.
func (s *tunnelSocket) WriteTo(b []byte, to net.Addr) (int, error) {
	if l := s.leg(addrPortOf(to)); l != nil {
		l.put(append([]byte(nil), b...))
	}
	return len(b), nil
}

func (s *tunnelSocket) Close() error {
	s.once.Do(func() { close(s.done) })
	return nil
}

// stop ends all that runs on the socket.
func (s *tunnelSocket) stop() {
	_ = s.Close() // first: quic-go waits for a ReadFrom under way
	_ = s.listener.Close()
	_ = s.quic.Close()
}

// tunnelAddr is the n-th address; 0 is the socket's own.
func tunnelAddr(n uint64) netip.AddrPort {
	ip := [16]byte{0: 0x01}
	binary.BigEndian.PutUint64(ip[8:], n)
	return netip.AddrPortFrom(netip.AddrFrom16(ip), 1)
}

var tunnelBlock = netip.PrefixFrom(tunnelAddr(0).Addr(), 64)

// isTunnel says whether packets of that address come out of a tunnel.
func isTunnel(a net.Addr) bool { return tunnelBlock.Contains(addrPortOf(a).Addr()) }

func (s *tunnelSocket) LocalAddr() net.Addr              { return net.UDPAddrFromAddrPort(tunnelAddr(0)) }
func (s *tunnelSocket) SetDeadline(time.Time) error      { return nil }
func (s *tunnelSocket) SetReadDeadline(time.Time) error  { return nil }
func (s *tunnelSocket) SetWriteDeadline(time.Time) error { return nil }

// SetReadBuffer and SetWriteBuffer keep quic-go from warning about small buffers.
func (s *tunnelSocket) SetReadBuffer(int) error  { return nil }
func (s *tunnelSocket) SetWriteBuffer(int) error { return nil }

// bind makes the connection inside and the tunnel end together.
func (l *leg) bind(c *connection) {
	c.leg = l
	context.AfterFunc(c.quic.Context(), func() {
		time.AfterFunc(legLinger, func() { l.close(errors.New("the connection inside ended")) })
	})
	context.AfterFunc(l.conn.quic.Context(), func() {
		_ = c.quic.CloseWithError(codeClosed, closeText(fmt.Errorf("the tunnel through %s ended: %w", l.conn.peer, cause(context.Cause(l.conn.quic.Context())))))
	})
}

// meter lets so many bytes pass a second.
type meter struct {
	mu     sync.Mutex
	tokens float64
	at     time.Time
}

func (m *meter) take(n int, perSecond, burst float64, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.at.IsZero() {
		m.tokens = burst
	} else {
		m.tokens = min(burst, m.tokens+now.Sub(m.at).Seconds()*perSecond)
	}
	m.at = now
	if m.tokens < float64(n) {
		return false
	}
	m.tokens -= float64(n)
	return true
}

// carried is one tunnel between two others.
type carried struct {
	from, to *leg
	began    time.Time
	bytes    atomic.Uint64

	mu   sync.Mutex
	idle *time.Timer
	last atomic.Int64 // when a packet passed, Unix nanoseconds
}
