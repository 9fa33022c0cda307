package httpapi

import (
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// tooMany is the whole answer to a connection over the limit of its client.
const tooMany = "HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain\r\nRetry-After: 1\r\nConnection: close\r\n\r\n" +
	"Your IP is issuing too many concurrent connections, please rate limit your calls\n"

// maxRefusals bounds how many refused connections are drained at once, and
// refusalTime how long each: closing with unread bytes would reset the
// connection before the client has seen the answer.
const (
	maxRefusals = 16
	refusalTime = time.Second
)

// connections counts the open connections of each client.
type connections struct {
	s        *Server
	tell     bool // answer 429 before closing (plain HTTP only)
	refusals chan struct{}

	mu  sync.Mutex
	per map[netip.Addr]int
}

func (c *connections) init(s *Server, tell bool) {
	c.s, c.tell = s, tell
	c.refusals = make(chan struct{}, maxRefusals)
	c.per = make(map[netip.Addr]int)
}

// limit returns ln, accepting at most a number of connections at once from one
// address.
func (c *connections) limit(ln net.Listener) net.Listener {
	return &limited{Listener: ln, connections: c}
}

type limited struct {
	net.Listener
	*connections
	draining sync.WaitGroup
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
			return &countedConn{Conn: conn, counted: l.connections, ip: ip}, nil
		}
		l.s.metrics.refused.Inc()
		l.refuse(conn)
	}
}

func (c *connections) take(ip netip.Addr) bool {
	if !ip.IsValid() {
		return true
	}
	limit := c.s.live.Load().MaxConnsPerClient
	c.mu.Lock()
	defer c.mu.Unlock()
	if limit > 0 && c.per[ip] >= limit {
		return false
	}
	c.per[ip]++
	return true
}

func (c *connections) release(ip netip.Addr) {
	c.s.metrics.connections.Dec()
	if !ip.IsValid() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.per[ip]--; c.per[ip] <= 0 {
		delete(c.per, ip)
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
	counted *connections
	ip      netip.Addr
	once    sync.Once
}

func (c *countedConn) Close() error {
	c.once.Do(func() { c.counted.release(c.ip) })
	return c.Conn.Close()
}

// NetConn returns the connection below.
func (c *countedConn) NetConn() net.Conn { return c.Conn }

// CloseWrite lets net/http end an answer without resetting the connection.
func (c *countedConn) CloseWrite() error {
	if cw, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return nil
}
