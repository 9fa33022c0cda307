package httpapi

import (
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// tooMany is the whole answer to a connection over the limit of its client.
const tooMany = "HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n" +
	"Your IP is issuing too many concurrent connections, please rate limit your calls\n"

// maxRefusals bounds how many refused connections are drained at once, and
// refusalTime how long each: closing with unread bytes would reset the
// connection before the client has seen the answer.
const (
	maxRefusals = 16
	refusalTime = time.Second
)

// limited accepts at most a number of connections at once from one address.
type limited struct {
	net.Listener
	s        *Server
	tell     bool // answer 429 before closing (plain HTTP only)
	refusals chan struct{}
	draining sync.WaitGroup

	mu  sync.Mutex
	per map[netip.Addr]int
}

func (s *Server) limit(ln net.Listener, tell bool) net.Listener {
	return &limited{Listener: ln, s: s, tell: tell, refusals: make(chan struct{}, maxRefusals), per: make(map[netip.Addr]int)}
}

func (l *limited) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			l.draining.Wait() // bounded by refusalTime
			return nil, err
		}
		ip := netip.Addr{} // sockets of the machine itself are not limited
		if a, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
			ip = a.AddrPort().Addr().Unmap()
		}
		if l.take(ip) {
			l.s.metrics.connections.Inc()
			return &countedConn{Conn: conn, l: l, ip: ip}, nil
		}
		l.s.metrics.refused.Inc()
		l.refuse(conn)
	}
}

func (l *limited) take(ip netip.Addr) bool {
	if !ip.IsValid() {
		return true
	}
	limit := l.s.live.Load().MaxConnsPerClient
	l.mu.Lock()
	defer l.mu.Unlock()
	if limit > 0 && l.per[ip] >= limit {
		return false
	}
	l.per[ip]++
	return true
}

func (l *limited) release(ip netip.Addr) {
	l.s.metrics.connections.Dec()
	if !ip.IsValid() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.per[ip]--; l.per[ip] <= 0 {
		delete(l.per, ip)
	}
}

func (l *limited) refuse(conn net.Conn) {
	if !l.tell {
		_ = conn.Close() // nothing is lost with it
		return
	}
	select {
	case l.refusals <- struct{}{}:
	default:
		_ = conn.Close()
		return
	}
	l.draining.Go(func() {
		defer func() { <-l.refusals }()
		defer func() { _ = conn.Close() }()
		_ = conn.SetDeadline(time.Now().Add(refusalTime))
		if _, err := io.WriteString(conn, tooMany); err != nil {
			return // gone already
		}
		if cw, ok := conn.(interface{ CloseWrite() error }); ok {
			_ = cw.CloseWrite()
		}
		_, _ = io.Copy(io.Discard, io.LimitReader(conn, 64<<10))
	})
}

// countedConn gives its place back when it is closed.
type countedConn struct {
	net.Conn
	l    *limited
	ip   netip.Addr
	once sync.Once
}

func (c *countedConn) Close() error {
	c.once.Do(func() { c.l.release(c.ip) })
	return c.Conn.Close()
}

// CloseWrite lets net/http end an answer without resetting the connection.
func (c *countedConn) CloseWrite() error {
	if cw, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return nil
}
