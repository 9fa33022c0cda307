package check

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"time"
)

// Dial opens a connection for a check; nil is a net.Dialer.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

func (d Dial) orNet() Dial {
	if d == nil {
		// A connection lives for one run: setting up keep-alive probes is four calls
		// of the system for nothing.
		return (&net.Dialer{KeepAlive: -1}).DialContext
	}
	return d
}

// bound makes reads and writes of a connection fail once ctx ends, until stop.
func bound(ctx context.Context, conn net.Conn) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
}

// TLS says how a check speaks TLS.
type TLS struct {
	ServerName string // "": the one of Agent's result, else the host of the address
	SkipVerify bool
	// Agent returns the agent's own certificate and authorities, which the check
	// uses then; nil: the system's authorities, and no certificate. It is asked at
	// each run, and the result is not changed.
	Agent func() (*tls.Config, error)
}

func (t TLS) config(protocols ...string) (*tls.Config, error) {
	cfg := new(tls.Config)
	if t.Agent != nil {
		own, err := t.Agent()
		if err != nil {
			return nil, err
		}
		cfg = own.Clone()
	}
	cfg.ServerName, cfg.InsecureSkipVerify, cfg.NextProtos = cmp.Or(t.ServerName, cfg.ServerName), t.SkipVerify, protocols //nolint:gosec // the definition asks for it
	return cfg, nil
}

// dial connects and shakes hands.
func (t TLS) dial(ctx context.Context, dial Dial, address string, protocols ...string) (*tls.Conn, error) {
	cfg, err := t.config(protocols...)
	if err != nil {
		return nil, err
	}
	if cfg.ServerName == "" {
		if cfg.ServerName, _, err = net.SplitHostPort(address); err != nil {
			return nil, err
		}
	}
	raw, err := dial.orNet()(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return conn, nil
}
