package transport

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

// The protocols on the socket, by their ALPN names.
const (
	ALPNGossip = "landbridge-gossip/1"
	ALPNRPC    = "landbridge-rpc/1"
	ALPNEnroll = "landbridge-enroll/1"
	ALPNRelay  = "landbridge-relay/1"
)

// protocolOf gives the metric label of an ALPN name, "" for an unknown one.
func protocolOf(alpn string) string {
	switch alpn {
	case ALPNGossip:
		return "gossip"
	case ALPNRPC:
		return "rpc"
	case ALPNEnroll:
		return "enroll"
	case ALPNRelay:
		return "relay"
	}
	return ""
}

// Config of an Endpoint. Required: Name, one of Socket and Address, Secret, the
// three TLS functions, Logger and Registerer.
type Config struct {
	// Name is our own "<node>.<dc>": it breaks ties between two connections that
	// both sides dialed at once.
	Name string
	// Socket is used, and closed by Stop, if set; else Address is bound.
	Socket  net.PacketConn
	Address netip.AddrPort
	// Advertise is the address other datacenters reach us at (behind NAT another
	// one than we are bound to). Zero parts are taken from the socket.
	Advertise netip.AddrPort
	// Secret is kept for the life of the data folder (LoadSecret). The stateless
	// reset key comes from it: a restarted server with the same secret tells its
	// peers at once that it has forgotten them.
	Secret []byte

	// ServerTLS and ClientTLS return the configuration for one handshake; they
	// are asked each time, so that certificates may rotate. peer is the
	// "<node>.<dc>" whose certificate is required; "" means any server of the
	// federation for gossip (a join by bare address) and no name for enrolment.
	// VerifyConnection of the returned config also runs on resumption.
	ServerTLS func(alpn string) (*tls.Config, error)
	ClientTLS func(alpn, peer string) (*tls.Config, error)
	// Nearby returns where a gossip member is reached, if not where it says: servers
	// of our own datacenter by their LAN address, since what they advertise is for
	// others, and a NAT may not let it back in. It may be nil.
	Nearby func(peer string) (netip.AddrPort, bool)
	// PeerName returns the "<node>.<dc>" of a verified certificate.
	PeerName func(tls.ConnectionState) (string, error)
	// RelayTo returns where a server of another datacenter is reached. Setting it makes
	// this server a relay: it carries tunnels between servers of two other datacenters.
	RelayTo func(peer string) (netip.AddrPort, bool)

	// IdleTimeout ends a connection on which nothing arrived: 60 s.
	IdleTimeout time.Duration
	// HandshakeTimeout bounds a dial and an unfinished accept: 5 s.
	HandshakeTimeout time.Duration
	// MaxHandshakes bounds the unfinished handshakes that others began: 512.
	MaxHandshakes int
	// MaxConnsPerPeer bounds what one authenticated peer may have open to us, tunnels
	// apart: 64.
	MaxConnsPerPeer int
	// MaxEnrollments bounds the enrolment connections open at once, and
	// MaxEnrollmentsPerSource those from one IP address: 16 and 4.
	MaxEnrollments          int
	MaxEnrollmentsPerSource int
	// MaxTunnels bounds the tunnels that a relay carries, and likewise those that end
	// here, and MaxTunnelsPerPeer those carried for one server: 256 and 32.
	MaxTunnels        int
	MaxTunnelsPerPeer int

	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

const minSecret = 16

func (c *Config) setDefaults() {
	setDefault(&c.IdleTimeout, 60*time.Second)
	setDefault(&c.HandshakeTimeout, 5*time.Second)
	setDefault(&c.MaxHandshakes, 512)
	setDefault(&c.MaxConnsPerPeer, 64)
	setDefault(&c.MaxEnrollments, 16)
	setDefault(&c.MaxEnrollmentsPerSource, 4)
	setDefault(&c.MaxTunnels, 256)
	setDefault(&c.MaxTunnelsPerPeer, 32)
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Validate reports all that is missing or out of range.
func (c *Config) Validate() error {
	var errs []error
	need := func(ok bool, what string) {
		if !ok {
			errs = append(errs, errors.New(what))
		}
	}
	need(c.Name != "", "Name is empty")
	need(c.Socket != nil || c.Address.IsValid(), "neither Socket nor Address is set")
	need(len(c.Secret) >= minSecret, fmt.Sprintf("Secret is shorter than %d bytes", minSecret))
	need(c.ServerTLS != nil, "ServerTLS is not set")
	need(c.ClientTLS != nil, "ClientTLS is not set")
	need(c.PeerName != nil, "PeerName is not set")
	need(c.Logger != nil, "Logger is not set")
	need(c.Registerer != nil, "Registerer is not set")
	need(c.IdleTimeout >= 0 && c.HandshakeTimeout >= 0, "a time-out is negative")
	need(c.MaxHandshakes >= 0 && c.MaxConnsPerPeer >= 0 && c.MaxEnrollments >= 0 && c.MaxEnrollmentsPerSource >= 0 && c.MaxTunnels >= 0 && c.MaxTunnelsPerPeer >= 0, "a limit is negative")
	if len(errs) > 0 {
		return fmt.Errorf("wan/transport: %w", errors.Join(errs...))
	}
	return nil
}
