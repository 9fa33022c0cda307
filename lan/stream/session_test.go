package stream_test

import (
	"testing"

	"landbridge/forwarding/rpc"
	"landbridge/forwarding/rpc/rpctest"
	"landbridge/lan/stream"
)

func tlsConfig(t testing.TB) stream.Config {
	ca := newAuthority(t)
	cert := ca.leaf("n1", "server.east.landbridge")
	return stream.Config{
		Datacenter: "east", Domain: "landbridge",
		TLS: stream.TLS{Incoming: ca.config(&cert), Outgoing: ca.config(&cert), VerifyIncoming: true, VerifyOutgoing: true, VerifyServerHostname: true},
	}
}

func TestSessions(t *testing.T) {
	for name, cfg := range map[string]stream.Config{"TCP": {}, "TLS": tlsConfig(t)} {
		t.Run(name, func(t *testing.T) {
			p, accepted := listen(t, cfg)
			rpctest.TestSession(t, func(t *testing.T) (a, b rpc.Session) {
				x, err := p.Dial(t.Context(), p.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				return x, receive(t, accepted, "session")
			})
		})
	}
}
