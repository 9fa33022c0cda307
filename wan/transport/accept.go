package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/qlog"
	"github.com/quic-go/quic-go/qlogwriter"
)

// listenTLS is the configuration of a listener that takes these protocols.
func (e *Endpoint) listenTLS(alpn ...string) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: alpn, GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		return e.serverTLS(hello, alpn)
	}}
}

// serverTLS chooses the configuration for a client by the one protocol it
// offers. A client that offers more is refused: what it may do would then hang
// on which of them TLS happened to pick.
func (e *Endpoint) serverTLS(hello *tls.ClientHelloInfo, served []string) (*tls.Config, error) {
	if len(hello.SupportedProtos) != 1 || !slices.Contains(served, hello.SupportedProtos[0]) {
		e.metrics.refused.WithLabelValues("protocols").Inc()
		return nil, fmt.Errorf("want exactly one protocol of %q, got %q", served, hello.SupportedProtos)
	}
	alpn := hello.SupportedProtos[0]
	conf, err := e.cfg.ServerTLS(alpn)
	if err != nil {
		e.metrics.refused.WithLabelValues("not_ready").Inc()
		return nil, err
	}
	conf = conf.Clone()
	conf.MinVersion = tls.VersionTLS13
	conf.NextProtos = []string{alpn}
	conf.GetConfigForClient = nil
	if alpn == ALPNEnroll {
		conf.SessionTicketsDisabled = true // nobody enrols often
	} else {
		// Set, since a clone would get random keys and no ticket would be good
		// for a second handshake.
		conf.SetSessionTicketKeys(ticketKeys(e.cfg.Secret, alpn, time.Now()))
	}
	return conf, nil
}

// accept hands finished handshakes to the owner of their protocol until the
// endpoint stops.
func (e *Endpoint) accept(l *quic.Listener) {
	for {
		conn, err := l.Accept(e.ctx)
		if err != nil {
			return // stopped, or the socket failed: quic-go has closed all with that cause
		}
		admitted(conn)
		e.wg.Go(func() { e.accepted(conn) })
	}
}

func (e *Endpoint) accepted(conn *quic.Conn) {
	state := conn.ConnectionState().TLS
	c := &connection{quic: conn, protocol: protocolOf(state.NegotiatedProtocol), since: time.Now()}
	refuse := func(outcome string, err error) {
		e.metrics.accepts.WithLabelValues(c.protocol, outcome).Inc()
		e.log.Debug("connection refused", "protocol", c.protocol, "peer", c.peer, "addr", conn.RemoteAddr().String(), "err", err)
		_ = conn.CloseWithError(codeRefused, closeText(err))
	}
	if c.protocol != "enroll" {
		name, err := e.cfg.PeerName(state)
		if err != nil {
			refuse("bad_peer", err)
			return
		}
		c.peer = name
	}
	if s := e.tunnelSocket(); s != nil && isTunnel(conn.RemoteAddr()) {
		l := s.leg(addrPortOf(conn.RemoteAddr()))
		switch {
		case l == nil:
			refuse("bad_peer", errors.New("its tunnel has ended"))
			return
		case l.far != c.peer:
			refuse("bad_peer", fmt.Errorf("%s came through a tunnel that %s made for %s", c.peer, l.conn.peer, l.far))
			return
		}
		l.bind(c)
	}
	if c.protocol == "rpc" && e.onRPC == nil || c.protocol == "enroll" && e.onEnroll == nil {
		refuse("not_served", fmt.Errorf("%s is not served here", c.protocol))
		return
	}
	if err := e.register(c); err != nil {
		refuse("limit", err)
		return
	}
	e.metrics.accepts.WithLabelValues(c.protocol, "ok").Inc()
	switch c.protocol {
	case "rpc":
		s := newSession(c)
		e.onRPC(s, c.peer)
	case "gossip":
		e.currentGossip().add(c, "")
	case "relay":
		e.serveRelay(c)
	case "enroll":
		ctx, cancel := context.WithTimeout(e.ctx, enrollTime)
		defer cancel()
		stream, err := conn.AcceptStream(ctx)
		if err != nil {
			_ = conn.CloseWithError(codeRefused, "no stream")
			return
		}
		ec := newEnrollConn(c, stream)
		defer ec.Close()
		e.onEnroll(ec)
	}
}

// countStrangers counts packets that are not QUIC until the socket is closed.
func (e *Endpoint) countStrangers() {
	var b [1]byte
	for {
		if _, _, err := e.quic.ReadNonQUICPacket(e.ctx, b[:]); err != nil {
			return
		}
		e.metrics.garbage.WithLabelValues("not_quic").Inc()
	}
}

// garbageCounter sees the packets that quic-go drops before any connection.
type garbageCounter struct{ m *metrics }

func (garbageCounter) Close() error { return nil }

func (g garbageCounter) RecordEvent(ev qlogwriter.Event) {
	d, ok := ev.(qlog.PacketDropped)
	if !ok {
		return
	}
	reason := "malformed"
	if d.Trigger == qlog.PacketDropUnknownConnectionID {
		reason = "unknown_connection"
	}
	g.m.garbage.WithLabelValues(reason).Inc()
}

// gate bounds the handshakes that others began and that are not finished:
// above max they are refused, and long before that a client must first prove
// that it receives what is sent to its address (QUIC Retry).
type gate struct {
	max     int64
	open    atomic.Int64
	metrics *metrics

	mu     sync.Mutex
	second int64
	rate   int // handshakes begun in this second
}

const validateAboveRate = 64

type gateKey struct{}

func newGate(limit int, m *metrics) *gate { return &gate{max: int64(limit), metrics: m} }

func (g *gate) loaded() bool {
	if g.open.Load() >= g.max/16+1 {
		return true
	}
	now := time.Now().Unix()
	g.mu.Lock()
	defer g.mu.Unlock()
	if now != g.second {
		g.second, g.rate = now, 0
	}
	g.rate++
	return g.rate > validateAboveRate
}

// admit is quic.Transport.ConnContext.
func (g *gate) admit(ctx context.Context, _ *quic.ClientInfo) (context.Context, error) {
	if n := g.open.Add(1); n > g.max {
		g.open.Add(-1)
		g.metrics.refused.WithLabelValues("limit").Inc()
		return nil, errors.New("too many handshakes")
	}
	g.metrics.handshakes.Inc()
	leave := sync.OnceFunc(func() {
		g.open.Add(-1)
		g.metrics.handshakes.Dec()
	})
	context.AfterFunc(ctx, leave) // the handshake failed
	return context.WithValue(ctx, gateKey{}, leave), nil
}

// admitted tells the gate that a handshake is finished.
func admitted(conn *quic.Conn) {
	if leave, ok := conn.Context().Value(gateKey{}).(func()); ok {
		leave()
	}
}
