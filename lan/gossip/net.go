package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	sockaddr "github.com/hashicorp/go-sockaddr"
	"github.com/hashicorp/memberlist"
)

// netTransport is memberlist's transport over UDP and TCP on one port number. It
// stands in for memberlist's own, which takes 64 KB from the heap for each
// packet and as many streams as strangers care to open.
type netTransport struct {
	log     *slog.Logger
	udp     *net.UDPConn
	tcp     *net.TCPListener
	packets chan *memberlist.Packet
	streams chan net.Conn
	open    atomic.Int64 // accepted streams not yet closed

	ctx    context.Context // done when Shutdown begins
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

const (
	// maxStreams bounds the accepted streams; memberlist itself serves 128.
	maxStreams    = 256
	maxPacket     = 64 << 10
	packetBacklog = 512
	udpBuffer     = 2 << 20
	bindAttempts  = 16 // for port 0: TCP must get the number UDP got
)

var _ memberlist.NodeAwareTransport = (*netTransport)(nil)

func listenNet(bind netip.AddrPort, log *slog.Logger) (*netTransport, error) {
	t := &netTransport{
		log:     log,
		packets: make(chan *memberlist.Packet, packetBacklog),
		streams: make(chan net.Conn),
	}
	var err error
	for range bindAttempts {
		if err = t.bind(bind); err == nil || bind.Port() != 0 {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	_ = t.udp.SetReadBuffer(udpBuffer) // the kernel's limit is good enough
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.wg.Go(t.readPackets)
	t.wg.Go(t.acceptStreams)
	return t, nil
}

func (t *netTransport) bind(a netip.AddrPort) error {
	udpNet, tcpNet := "udp", "tcp"
	if a.Addr().Is4() {
		udpNet, tcpNet = "udp4", "tcp4" // else 0.0.0.0 would also take IPv6
	}
	udp, err := net.ListenUDP(udpNet, net.UDPAddrFromAddrPort(a))
	if err != nil {
		return err
	}
	port := udp.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	tcp, err := net.ListenTCP(tcpNet, net.TCPAddrFromAddrPort(netip.AddrPortFrom(a.Addr(), port)))
	if err != nil {
		return errors.Join(err, udp.Close())
	}
	t.udp, t.tcp = udp, tcp
	return nil
}

func (t *netTransport) addr() netip.AddrPort {
	a := t.udp.LocalAddr().(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// FinalAdvertiseAddr takes what is missing from the socket; bound to all
// addresses, the machine's first private one is advertised.
func (t *netTransport) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	own := t.addr()
	if port == 0 {
		port = int(own.Port())
	}
	if ip == "" && own.Addr().IsUnspecified() {
		private, err := sockaddr.GetPrivateIP()
		if err != nil {
			return nil, 0, fmt.Errorf("find an address to advertise: %w", err)
		}
		if private == "" {
			return nil, 0, errors.New("no private IP address found to advertise: set advertise_addr")
		}
		ip = private
	}
	if ip == "" {
		return own.Addr().AsSlice(), port, nil
	}
	a, err := netip.ParseAddr(ip)
	if err != nil {
		return nil, 0, fmt.Errorf("address to advertise: %w", err)
	}
	return a.Unmap().AsSlice(), port, nil
}

func (t *netTransport) WriteTo(b []byte, addr string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: addr})
}

func (t *netTransport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	to, err := netip.ParseAddrPort(a.Addr)
	if err != nil {
		return time.Time{}, err
	}
	_, err = t.udp.WriteToUDPAddrPort(b, to)
	return time.Now(), err
}

func (t *netTransport) PacketCh() <-chan *memberlist.Packet { return t.packets }

func (t *netTransport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

func (t *netTransport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	d := net.Dialer{Timeout: timeout}
	return d.DialContext(t.ctx, "tcp", a.Addr)
}

func (t *netTransport) StreamCh() <-chan net.Conn { return t.streams }

func (t *netTransport) Shutdown() error {
	t.cancel()
	err := errors.Join(t.tcp.Close(), t.udp.Close())
	t.wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil // a second Shutdown
	}
	return err
}

func (t *netTransport) readPackets() {
	buf := make([]byte, maxPacket)
	for {
		n, from, err := t.udp.ReadFromUDPAddrPort(buf)
		now := time.Now()
		if err != nil {
			if t.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			t.pause(err)
			continue
		}
		if n == 0 {
			continue
		}
		p := &memberlist.Packet{
			Buf:       append([]byte(nil), buf[:n]...),
			From:      net.UDPAddrFromAddrPort(netip.AddrPortFrom(from.Addr().Unmap(), from.Port())),
			Timestamp: now,
		}
		select {
		case t.packets <- p:
		case <-t.ctx.Done():
			return
		}
	}
}

func (t *netTransport) acceptStreams() {
	for {
		conn, err := t.tcp.AcceptTCP()
		if err != nil {
			if t.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			t.pause(err)
			continue
		}
		if t.open.Add(1) > maxStreams {
			t.open.Add(-1)
			_ = conn.Close()
			continue
		}
		select {
		case t.streams <- &countedConn{Conn: conn, open: &t.open}:
		case <-t.ctx.Done():
			_ = conn.Close()
			return
		}
	}
}

// pause keeps an error that stays, such as too many open files, from spinning.
func (t *netTransport) pause(err error) {
	t.log.Warn("gossip socket", "err", err)
	select {
	case <-time.After(100 * time.Millisecond):
	case <-t.ctx.Done():
	}
}

// countedConn gives its place back when it is closed.
type countedConn struct {
	net.Conn
	open *atomic.Int64
	once sync.Once
}

func (c *countedConn) Close() error {
	c.once.Do(func() { c.open.Add(-1) })
	return c.Conn.Close()
}
