package stream

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"
)

// First bytes of a connection.
const (
	// 0x01 was Raft without a hello.
	protoRPC  byte = 0x02
	protoRaft byte = 0x03
	protoTLS  byte = 0x16 // of a TLS handshake record
)

// Dialer opens sessions to servers' ports. It holds no connections.
type Dialer struct {
	cfg Config
}

// NewDialer makes a dialer for an agent without a port of its own.
func NewDialer(cfg Config) (*Dialer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("lan/stream: %w", err)
	}
	cfg.setDefaults()
	cfg.sessions = newSessionLog(cfg.Logger)
	return &Dialer{cfg: cfg}, nil
}

// Dial opens a session to a server's port. The caller owns it.
func (d *Dialer) Dial(ctx context.Context, addr string) (*Session, error) {
	conn, id, err := d.connect(ctx, addr, protoRPC)
	if err != nil {
		return nil, err
	}
	s, err := newSession(conn, false, id, d.cfg.sessions)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	return s, nil
}

// connect dials, secures the connection and says what it is for.
func (d *Dialer) connect(ctx context.Context, addr string, proto byte) (net.Conn, identity, error) {
	var id identity
	fail := func(conn net.Conn, err error) (net.Conn, identity, error) {
		if conn != nil {
			conn.Close()
		}
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, id, fmt.Errorf("dial %s: %w", addr, err)
	}
	var nd net.Dialer
	conn, err := nd.DialContext(ctx, "tcp", addr)
	if err != nil {
		return fail(nil, err)
	}
	conn.SetDeadline(time.Now().Add(d.cfg.HandshakeTimeout))
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if d.cfg.TLS.rules().Outgoing {
		t, err := d.cfg.outgoingTLS()
		if err != nil {
			return fail(conn, err)
		}
		secured := tls.Client(conn, t)
		if err := secured.HandshakeContext(ctx); err != nil {
			return fail(conn, fmt.Errorf("TLS: %w", err))
		}
		id = d.cfg.identify(secured.ConnectionState(), true)
		conn = secured
	}
	if _, err := conn.Write([]byte{proto}); err != nil {
		return fail(conn, err)
	}
	if proto == protoRaft {
		if err := d.cfg.Greeter.Greet(conn, addr); err != nil {
			return fail(conn, err)
		}
	}
	if !stop() {
		return fail(conn, context.Cause(ctx))
	}
	conn.SetDeadline(time.Time{})
	return conn, id, nil
}
