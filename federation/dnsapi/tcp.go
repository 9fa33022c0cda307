package dnsapi

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	maxConns       = 2048 // TCP connections of one listener
	maxConnsClient = 256  // of these, of one client
)

// tcpServer answers questions over TCP: all of them through the full path.
func (s *Server) tcpServer(ln net.Listener) *dns.Server {
	return &dns.Server{
		Listener: &limitedListener{Listener: ln, s: s, conns: map[netip.Addr]int{}},
		Handler:  dns.HandlerFunc(s.serveTCP),
		MsgAcceptFunc: func(h dns.Header) dns.MsgAcceptAction {
			action := accept(h)
			switch action {
			case dns.MsgIgnore:
				s.metrics.ignored[1][ignoredResponse].Inc()
			case dns.MsgReject:
				s.metrics.malformed[1].Inc()
			}
			return action
		},
		MsgInvalidFunc: func([]byte, error) { s.metrics.malformed[1].Inc() },
		IdleTimeout:    func() time.Duration { return 30 * time.Second }, ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second,
	}
}

func (s *Server) serveTCP(rw dns.ResponseWriter, r *dns.Msg) {
	defer s.recovered()
	began := time.Now()
	ctx, cancel := context.WithTimeout(s.life, s.settings.Load().patience())
	defer cancel()
	client := addrOf(rw.RemoteAddr())
	var m *dns.Msg
	way := full
	if s.refuses(true, client, began) {
		m = new(dns.Msg)
		m.SetRcode(r, dns.RcodeRefused)
	} else {
		m, way = s.answer(ctx, r, client, true, began)
	}
	b, code := s.pack(m, r)
	s.metrics.observe(true, way, code, time.Since(began))
	if _, err := rw.Write(b); err != nil {
		s.metrics.writeErrors.Inc()
		s.cfg.Logger.Debug("dns answer not sent", "client", client, "err", err)
	}
}

// addrOf is the client's address, the zero Addr if it has none.
func addrOf(a net.Addr) netip.Addr {
	if ap, ok := a.(interface{ AddrPort() netip.AddrPort }); ok {
		return ap.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// limitedListener closes connections that are too many; clients are those of Rate.
type limitedListener struct {
	net.Listener
	s     *Server
	mu    sync.Mutex
	conns map[netip.Addr]int
	n     int
}

func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		client := network64(addrOf(conn.RemoteAddr()))
		if l.take(client) {
			return &limitedConn{Conn: conn, done: sync.OnceFunc(func() { l.free(client) })}, nil
		}
		l.s.metrics.refusedConns.Inc()
		conn.Close()
	}
}

func (l *limitedListener) take(client netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.n >= maxConns || l.conns[client] >= maxConnsClient {
		return false
	}
	l.n++
	l.conns[client]++
	return true
}

func (l *limitedListener) free(client netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n--
	if l.conns[client]--; l.conns[client] == 0 {
		delete(l.conns, client)
	}
}

type limitedConn struct {
	net.Conn
	done func()
}

func (c *limitedConn) Close() error {
	defer c.done()
	return c.Conn.Close()
}
