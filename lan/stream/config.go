package stream

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config configures a Port and a Dialer; a Dialer ignores what is about
// listening.
type Config struct {
	Bind      netip.AddrPort // to listen on; port 0: any
	Advertise net.Addr       // Raft's own address; nil: the bound one

	TLS        TLS
	Datacenter string // with Domain: the name in servers' certificates
	Domain     string

	// Greeter tells Raft connections of this server's group from others; nil: any
	// is let in.
	Greeter *Greeter

	// HandshakeTimeout bounds the time from a connection to its first byte, TLS
	// included, and a dial's handshake; default 5 s.
	HandshakeTimeout time.Duration
	// MaxConnsPerClient is asked for each connection: how many one remote address
	// may have open; nil or 0: 100.
	MaxConnsPerClient func() int

	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil: no metrics

	sessions *slog.Logger // for yamux
}

// TLS says how connections are protected. The zero value is plain TCP.
type TLS struct {
	// Incoming returns the server's certificate and, for VerifyIncoming,
	// ClientCAs. nil: TLS connections are refused.
	Incoming func() (*tls.Config, error)
	// Outgoing returns the client's certificate, if it has one, and RootCAs.
	Outgoing func() (*tls.Config, error)

	VerifyIncoming       bool
	VerifyOutgoing       bool
	VerifyServerHostname bool
	// Verify is asked for each connection in place of the three, once there are
	// connections; nil: the three stay.
	Verify func() Verify
}

// Verify are the rules that may change while a port is open.
type Verify struct{ Incoming, Outgoing, ServerHostname bool }

func (t *TLS) rules() Verify {
	if t.Verify != nil {
		return t.Verify()
	}
	return Verify{t.VerifyIncoming, t.VerifyOutgoing, t.VerifyServerHostname}
}

// Validate reports all problems at once.
func (c *Config) Validate() error {
	var errs []error
	if c.TLS.VerifyIncoming && c.TLS.Incoming == nil {
		errs = append(errs, errors.New("verify_incoming needs a certificate and an authority"))
	}
	if c.TLS.VerifyOutgoing && c.TLS.Outgoing == nil {
		errs = append(errs, errors.New("verify_outgoing needs an authority"))
	}
	if c.TLS.VerifyServerHostname {
		if !c.TLS.VerifyOutgoing {
			errs = append(errs, errors.New("verify_server_hostname needs verify_outgoing"))
		}
		if c.Datacenter == "" || c.Domain == "" {
			errs = append(errs, errors.New("verify_server_hostname needs a datacenter and a domain"))
		}
	}
	return errors.Join(errs...)
}

func (c *Config) setDefaults() {
	if c.HandshakeTimeout <= 0 {
		c.HandshakeTimeout = 5 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

func (c *Config) maxConns() int {
	if c.MaxConnsPerClient != nil {
		if n := c.MaxConnsPerClient(); n > 0 {
			return n
		}
	}
	return 100
}

// serverName is the name that every server's certificate holds.
func (c *Config) serverName() string {
	return fmt.Sprintf("server.%s.%s", c.Datacenter, c.Domain)
}
