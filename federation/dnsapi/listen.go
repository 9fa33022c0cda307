package dnsapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

const (
	maxSockets = 16   // UDP sockets of one address
	maxWaiting = 1024 // questions that wait for others, each a goroutine
	// UDP questions wait in the socket while its goroutine is busy; this is some
	// thousand of them, as far as the system allows.
	receiveBuffer = 1 << 20
)

// listeners is the part of the server that starts and stops.
type listeners struct {
	mu       sync.Mutex
	tcp      []*dns.Server
	udp      []*udpSocket
	stopping bool
	serving  sync.WaitGroup // goroutines of listeners
	waiting  sync.WaitGroup // questions that wait
	slots    chan struct{}  // one for each of these
	workers  sync.Pool      // for them
	life     context.Context
	end      context.CancelFunc
}

func (l *listeners) init() {
	l.slots = make(chan struct{}, maxWaiting)
	l.life, l.end = context.WithCancel(context.Background())
}

// Listen binds UDP and TCP on an address, port 0 included (both then share the
// port that TCP got), and returns it. Serving starts at once.
func (s *Server) Listen(addr string) (net.Addr, error) {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, fmt.Errorf("dns: %w", err)
	}
	// TCP goes first: its port cannot be shared, so that a second agent on an
	// address is refused.
	var ln net.Listener
	var sockets []*udpSocket
	for try := 0; ; try++ {
		if ln, err = net.Listen(network("tcp", ap), ap.String()); err != nil {
			return nil, fmt.Errorf("dns: %w", err)
		}
		got, _ := netip.ParseAddrPort(ln.Addr().String())
		sockets, err = openUDP(netip.AddrPortFrom(ap.Addr(), got.Port()))
		if err == nil {
			break
		}
		ln.Close()
		if ap.Port() != 0 || try == 9 || !errors.Is(err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("dns: %w", err)
		}
	}
	srv := s.tcpServer(ln)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		ln.Close()
		closeAll(sockets)
		return nil, errors.New("dns: the server was stopped")
	}
	s.tcp = append(s.tcp, srv)
	s.udp = append(s.udp, sockets...)
	started := make(chan struct{})
	srv.NotifyStartedFunc = func() { close(started) }
	s.serving.Go(func() {
		if err := srv.ActivateAndServe(); err != nil {
			s.cfg.Logger.Error("dns listener ended", "err", err)
		}
	})
	for _, u := range sockets {
		s.serving.Go(func() { s.serveUDP(u) })
	}
	<-started // so that Stop finds it running
	return ln.Addr(), nil
}

// network keeps an address of one family to that family: 0.0.0.0 is not ::.
func network(base string, ap netip.AddrPort) string {
	if ap.Addr().Is4() {
		return base + "4"
	}
	return base
}

// openUDP opens the sockets of an address: one for each processor where the
// system spreads questions over them, else one.
func openUDP(ap netip.AddrPort) ([]*udpSocket, error) {
	n := 1
	if sharedPorts {
		n = min(runtime.GOMAXPROCS(0), maxSockets)
	}
	wild := ap.Addr().IsUnspecified()
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error { return prepareSocket(c, n > 1, wild, ap.Addr().Is6()) }}
	var sockets []*udpSocket
	for range n {
		pc, err := lc.ListenPacket(context.Background(), network("udp", ap), ap.String())
		if err != nil {
			closeAll(sockets)
			return nil, err
		}
		conn := pc.(*net.UDPConn)
		conn.SetReadBuffer(receiveBuffer) // as far as the system allows
		sockets = append(sockets, &udpSocket{conn: conn, wild: wild})
	}
	return sockets, nil
}

func closeAll(sockets []*udpSocket) {
	for _, u := range sockets {
		u.conn.Close()
	}
}

// Stop stops reading questions, waits for those under way, and closes the
// listeners. When ctx is done it ends what still waits.
func (s *Server) Stop(ctx context.Context) error {
	again := s.life.Err() != nil
	defer context.AfterFunc(ctx, s.end)()
	s.mu.Lock()
	s.stopping = true
	tcp, udp := s.tcp, s.udp
	s.tcp, s.udp = nil, nil
	s.mu.Unlock()
	var errs []error
	for _, u := range udp {
		u.conn.SetReadDeadline(time.Unix(1, 0)) // ends the loop, not the writes
	}
	for _, srv := range tcp {
		errs = append(errs, srv.ShutdownContext(ctx))
	}
	s.serving.Wait() // then nobody adds to waiting
	s.waiting.Wait()
	if s.life.Err() != nil && !again {
		errs = append(errs, ctx.Err())
	}
	s.end()
	closeAll(udp)
	return errors.Join(errs...)
}
