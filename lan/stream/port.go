package stream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// maxHandshakes bounds the connections that have not said yet what they are.
const maxHandshakes = 1024

var errStopped = errors.New("server port stopped")

// Port is a server's TCP port.
type Port struct {
	*Dialer
	metrics *metrics
	ln      *net.TCPListener
	raft    *raftLayer
	stopc   chan struct{} // closed by Stop
	slots   chan struct{} // one per handshake under way
	log     limiter

	onSession func(*Session)

	mu       sync.Mutex // guards what is below
	started  bool
	stopped  bool
	conns    map[net.Conn]struct{} // in their handshake
	sessions map[*Session]struct{} // accepted
	clients  map[netip.Addr]int    // connections open, by remote address
	work     sync.WaitGroup        // Add under mu, before stopped
}

// Listen binds the port. Nothing is accepted before Start.
func Listen(cfg Config) (*Port, error) {
	d, err := NewDialer(cfg)
	if err != nil {
		return nil, err
	}
	ln, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(cfg.Bind))
	if err != nil {
		return nil, fmt.Errorf("lan/stream: %w", err)
	}
	p := &Port{
		Dialer:   d,
		metrics:  newMetrics(cfg.Registerer),
		ln:       ln,
		stopc:    make(chan struct{}),
		slots:    make(chan struct{}, maxHandshakes),
		conns:    make(map[net.Conn]struct{}),
		sessions: make(map[*Session]struct{}),
		clients:  make(map[netip.Addr]int),
	}
	p.raft = newRaftLayer(p)
	return p, nil
}

// Addr is the address that was bound.
func (p *Port) Addr() net.Addr { return p.ln.Addr() }

// RaftLayer carries Raft over this port. Closing it refuses Raft connections
// from then on; the port goes on.
func (p *Port) RaftLayer() raft.StreamLayer { return p.raft }

// OnSession sets what is called for each session accepted, in a goroutine of its
// own, for which Stop waits. It is set before Start.
func (p *Port) OnSession(f func(sess *Session)) { p.onSession = f }

// Start accepts connections until Stop. ctx bounds nothing that lasts.
func (p *Port) Start(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.stopped:
		return errStopped
	case p.started:
		return nil
	case p.onSession == nil:
		return errors.New("lan/stream: Start before OnSession")
	}
	p.started = true
	p.work.Go(p.accept)
	return nil
}

// Stop frees the port, ends its sessions and Raft connections and waits for
// their goroutines, at most until ctx ends.
func (p *Port) Stop(ctx context.Context) error {
	p.mu.Lock()
	if !p.stopped {
		p.stopped = true
		close(p.stopc)
	}
	err := p.ln.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	for c := range p.conns {
		c.Close()
	}
	sessions := make([]*Session, 0, len(p.sessions))
	for s := range p.sessions {
		sessions = append(sessions, s)
	}
	p.mu.Unlock()
	p.raft.stop()
	done := make(chan struct{})
	go func() { // ends with the port's goroutines, all of which have been told
		for _, s := range sessions {
			s.CloseWithCause(errStopped)
		}
		p.work.Wait()
		close(done)
	}()
	select {
	case <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("stopping the server port: %w", context.Cause(ctx))
	}
}

// accept is the listener's loop.
func (p *Port) accept() {
	pause := time.Duration(0)
	for {
		conn, err := p.ln.AcceptTCP()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of file descriptors, most likely: they come back as connections end.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			if p.log.allow() {
				p.cfg.Logger.Error("accepting connections", "err", err)
			}
			select {
			case <-time.After(pause):
			case <-p.stopc:
				return
			}
			continue
		}
		pause = 0
		p.admit(conn)
	}
}

// admit applies the limits and starts the handshake.
func (p *Port) admit(conn *net.TCPConn) {
	if reason, err := p.tryAdmit(conn); reason != "" {
		p.refused(conn, reason, err)
		conn.Close()
	} else if err != nil {
		conn.Close()
	}
}

func (p *Port) tryAdmit(conn *net.TCPConn) (reason string, err error) {
	remote, most := clientOf(conn), p.cfg.maxConns()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return "", errStopped
	}
	if p.clients[remote] >= most {
		return "per_client", fmt.Errorf("more than %d connections from one address (limits.rpc_max_conns_per_client)", most)
	}
	select {
	case p.slots <- struct{}{}:
	default:
		return "handshakes", fmt.Errorf("%d connections are in their handshake", maxHandshakes)
	}
	p.clients[remote]++
	p.conns[conn] = struct{}{}
	p.metrics.conns.Inc()
	p.work.Go(func() { p.handshake(conn, remote) })
	return "", nil
}

func clientOf(conn net.Conn) netip.Addr {
	if a, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// gone counts a connection out.
func (p *Port) gone(remote netip.Addr) {
	p.metrics.conns.Dec()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.clients[remote]--; p.clients[remote] <= 0 {
		delete(p.clients, remote)
	}
}

// handshake finds out what a connection is and hands it on. For a session it
// returns when OnSession's function and the session have ended.
func (p *Port) handshake(conn *net.TCPConn, remote netip.Addr) {
	conn.SetDeadline(time.Now().Add(p.cfg.HandshakeTimeout))
	secured, proto, id, err := p.identify(conn)
	p.mu.Lock()
	delete(p.conns, conn)
	stopped := p.stopped
	p.mu.Unlock()
	<-p.slots
	if err == nil && stopped {
		err = errStopped
	}
	if err != nil {
		conn.Close()
		p.gone(remote)
		return
	}
	conn.SetDeadline(time.Time{})
	if proto == protoRaft {
		p.metrics.accepted["raft"].Inc()
		p.raft.deliver(&raftConn{Conn: secured, closed: func() { p.gone(remote) }})
		return
	}
	defer p.gone(remote)
	sess, err := newSession(secured, true, id, p.cfg.sessions)
	if err != nil {
		conn.Close()
		return
	}
	p.mu.Lock()
	stopped = p.stopped
	p.sessions[sess] = struct{}{}
	p.mu.Unlock()
	if stopped {
		sess.CloseWithCause(errStopped)
	} else {
		p.metrics.accepted["rpc"].Inc()
		p.onSession(sess)
		<-sess.Context().Done()
	}
	<-sess.over
	p.mu.Lock()
	delete(p.sessions, sess)
	p.mu.Unlock()
}

// identify reads the first byte, through TLS if there is TLS, and the hello of Raft.
func (p *Port) identify(conn *net.TCPConn) (net.Conn, byte, identity, error) {
	var id identity
	fail := func(reason string, err error) (net.Conn, byte, identity, error) {
		p.refused(conn, reason, err)
		return nil, 0, id, err
	}
	var first [1]byte
	if _, err := conn.Read(first[:]); err != nil {
		return fail("silent", err)
	}
	secured, isTLS := net.Conn(conn), first[0] == protoTLS
	if isTLS {
		if p.cfg.TLS.Incoming == nil {
			return fail("tls", errors.New("a TLS connection, but TLS is not configured for tls.internal_rpc"))
		}
		t, err := p.cfg.incomingTLS()
		if err != nil {
			return fail("tls", err)
		}
		c := tls.Server(&prefixed{Conn: conn, first: first[:]}, t)
		if err := c.Handshake(); err != nil {
			return fail("tls", err)
		}
		id = p.cfg.identify(c.ConnectionState(), false)
		secured = c
		if _, err := c.Read(first[:]); err != nil {
			return fail("silent", err)
		}
	}
	switch rules := p.cfg.TLS.rules(); {
	case rules.Incoming && !isTLS:
		return fail("plain", errors.New("a connection without TLS, but verify_incoming is set"))
	case first[0] == protoRaft && rules.Incoming && rules.ServerHostname && !id.server:
		return fail("not_server", fmt.Errorf("a Raft connection whose certificate lacks the name %s", p.cfg.serverName()))
	case first[0] != protoRaft && first[0] != protoRPC:
		return fail("garbage", fmt.Errorf("first byte %#x", first[0]))
	}
	if first[0] == protoRaft {
		if err := p.cfg.Greeter.Welcome(secured); err != nil {
			var no *refusal
			if errors.As(err, &no) {
				return fail(no.reason, fmt.Errorf("a Raft connection told: %w", err))
			}
			return fail("garbage", err)
		}
	}
	return secured, first[0], id, nil
}

// refused counts a refused connection and logs at most one per second.
func (p *Port) refused(conn net.Conn, reason string, err error) {
	p.metrics.refused[reason].Inc()
	if p.log.allow() {
		p.cfg.Logger.Warn("connection refused", "peer", conn.RemoteAddr().String(), "reason", reason, "err", err)
	}
}

// prefixed is a connection whose first byte was read already.
type prefixed struct {
	net.Conn
	first []byte
}

func (c *prefixed) Read(b []byte) (int, error) {
	if len(c.first) > 0 {
		n := copy(b, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// limiter lets one through per second.
type limiter struct {
	mu   sync.Mutex
	last time.Time
}

func (l *limiter) allow() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); l.last.IsZero() || now.Sub(l.last) >= time.Second {
		l.last = now
		return true
	}
	return false
}
