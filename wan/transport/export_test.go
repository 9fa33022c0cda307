package transport

import (
	"context"
	"net/netip"
)

// DialInside dials another protocol through the tunnel of a session that has one.
func (e *Endpoint) DialInside(ctx context.Context, s *Session, alpn, peer string) error {
	in := e.tunnelSocket()
	_, err := e.dialOn(ctx, way{in.quic, in.config, s.conn.leg.addr, s.conn.leg}, alpn, peer)
	return err
}

// AskTunnel asks for a tunnel as a server that does not keep to the rules would.
func (e *Endpoint) AskTunnel(ctx context.Context, of *HostAddr, target, origin string, hops uint8) error {
	c, err := e.dial(ctx, of.Addr, ALPNRelay, of.Name)
	if err != nil {
		return err
	}
	defer c.quic.CloseWithError(codeClosed, "")
	return c.ask(ctx, &tunnelRequest{target: target, origin: origin, hops: hops})
}

// HostAddr is where a server is.
type HostAddr struct {
	Name string
	Addr netip.AddrPort
}
