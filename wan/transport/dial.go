package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
)

// WrongPeerError says that another server answered than the one dialed.
type WrongPeerError struct {
	Addr       netip.AddrPort
	Want, Have string
}

func (e *WrongPeerError) Error() string {
	return fmt.Sprintf("%s answered at %s instead of %s", e.Have, e.Addr, e.Want)
}

// DialRPC opens a session to the server named peer ("<node>.<dc>") at addr. A
// server with another certificate is refused with a *WrongPeerError. The
// handshake takes one round trip and is bounded by Config.HandshakeTimeout.
func (e *Endpoint) DialRPC(ctx context.Context, addr netip.AddrPort, peer string) (*Session, error) {
	if peer == "" {
		return nil, fmt.Errorf("wan/transport: dial %s: the peer's name is missing", addr)
	}
	c, err := e.dial(ctx, addr, ALPNRPC, peer)
	if err != nil {
		return nil, err
	}
	return newSession(c), nil
}

// DialEnroll opens an enrolment connection to whoever answers at addr.
func (e *Endpoint) DialEnroll(ctx context.Context, addr netip.AddrPort) (*EnrollConn, error) {
	c, err := e.dial(ctx, addr, ALPNEnroll, "")
	if err != nil {
		return nil, err
	}
	stream, err := c.quic.OpenStreamSync(ctx)
	if err != nil {
		_ = c.quic.CloseWithError(codeClosed, "")
		return nil, fmt.Errorf("enrol at %s: %w", addr, err)
	}
	return newEnrollConn(c, stream), nil
}

// way is what a dialed connection's packets take: the socket, or a tunnel.
type way struct {
	quic   *quic.Transport
	config *quic.Config
	addr   netip.AddrPort
	leg    *leg // nil: no tunnel
}

func (w way) String() string {
	if w.leg != nil {
		return "the other end of the tunnel"
	}
	return w.addr.String()
}

func (e *Endpoint) dial(ctx context.Context, addr netip.AddrPort, alpn, peer string) (*connection, error) {
	return e.dialOn(ctx, way{quic: e.quic, config: e.config, addr: addr}, alpn, peer)
}

func (e *Endpoint) dialOn(ctx context.Context, way way, alpn, peer string) (*connection, error) {
	c, err := e.dialConn(ctx, way, alpn, peer)
	e.metrics.dials.WithLabelValues(protocolOf(alpn), dialOutcome(err)).Inc()
	if err != nil {
		who := way.String()
		if peer != "" {
			who = peer + " at " + who
		}
		return nil, fmt.Errorf("dial %s: %w", who, err)
	}
	return c, nil
}

func (e *Endpoint) dialConn(ctx context.Context, way way, alpn, peer string) (*connection, error) {
	if e.ctx.Err() != nil {
		return nil, ErrStopped
	}
	conf, err := e.cfg.ClientTLS(alpn, peer)
	if err != nil {
		return nil, err
	}
	conf = conf.Clone()
	conf.MinVersion = tls.VersionTLS13
	conf.NextProtos = []string{alpn}
	conf.ClientSessionCache = nil
	var cache *scopedCache
	if alpn != ALPNEnroll {
		cache = &scopedCache{cache: e.sessions.Load().ClientSessionCache, scope: alpn + " " + peer + " " + way.String()}
		conf.ClientSessionCache = cache
	}
	ctx, cancel := context.WithTimeoutCause(ctx, e.cfg.HandshakeTimeout, errNoAnswer)
	defer cancel()
	defer context.AfterFunc(e.ctx, cancel)()
	conn, err := way.quic.Dial(ctx, net.UDPAddrFromAddrPort(way.addr), conf, way.config)
	var crypto *quic.TransportError
	if cache != nil && cache.used.Load() && errors.As(err, &crypto) && crypto.ErrorCode.IsCryptoError() {
		// The session may be from before a change of certificates on either side:
		// resuming it repeats theirs of that time. A full handshake shows today's.
		conf.ClientSessionCache = nil
		conn, err = way.quic.Dial(ctx, net.UDPAddrFromAddrPort(way.addr), conf, way.config)
	}
	if err != nil {
		if e.ctx.Err() != nil {
			return nil, ErrStopped
		}
		return nil, cause(err)
	}
	c := &connection{quic: conn, protocol: protocolOf(alpn), dialed: true, since: time.Now()}
	if alpn != ALPNEnroll {
		if c.peer, err = e.cfg.PeerName(conn.ConnectionState().TLS); err == nil && peer != "" && c.peer != peer {
			err = &WrongPeerError{Addr: way.addr, Want: peer, Have: c.peer}
		}
	}
	if err == nil && way.leg != nil {
		way.leg.bind(c)
	}
	if err == nil {
		err = e.register(c)
	}
	if err != nil {
		_ = conn.CloseWithError(codeRefused, "not the server that was dialed")
		return nil, err
	}
	return c, nil
}

var errNoAnswer = fmt.Errorf("no answer: %w", context.DeadlineExceeded)

func dialOutcome(err error) string {
	var (
		wrong   *WrongPeerError
		refused *quic.TransportError
		timeout net.Error
	)
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &wrong):
		return "wrong_peer"
	case errors.As(err, &refused):
		return "refused"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	}
	return "error"
}

type sessionCache struct{ tls.ClientSessionCache }

// ForgetSessions makes the next handshakes full ones: after a change of our
// certificate, or of those we trust.
func (e *Endpoint) ForgetSessions() {
	e.sessions.Store(&sessionCache{tls.NewLRUClientSessionCache(128)})
}

// scopedCache keeps sessions apart by protocol, name and address: a session got
// from one server must not vouch for another.
type scopedCache struct {
	cache tls.ClientSessionCache
	scope string
	used  atomic.Bool // a session was found
}

func (s *scopedCache) Get(key string) (*tls.ClientSessionState, bool) {
	state, ok := s.cache.Get(s.scope + " " + key)
	if ok && state != nil {
		s.used.Store(true)
	}
	return state, ok
}

func (s *scopedCache) Put(key string, state *tls.ClientSessionState) {
	s.cache.Put(s.scope+" "+key, state)
}
