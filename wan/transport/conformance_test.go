package transport_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/forwarding/rpc/rpctest"
	"landbridge/wan/transport"
	"landbridge/wan/transport/transporttest"

	"github.com/prometheus/client_golang/prometheus"
)

// loopback returns two endpoints on real UDP sockets.
func loopback(t testing.TB) (a, b *host) {
	t.Helper()
	ca := transporttest.NewCA(t)
	var hosts []*host
	for i := range 2 {
		h := &host{name: fmt.Sprintf("n%d.dc%d", i, i), reg: prometheus.NewRegistry(), rpc: make(chan *transport.Session, 16)}
		id := ca.Identity(h.name)
		e, err := transport.Listen(transport.Config{
			Name: h.name, Address: netip.MustParseAddrPort("127.0.0.1:0"), Secret: make([]byte, 32),
			ServerTLS: id.ServerTLS, ClientTLS: id.ClientTLS, PeerName: transporttest.PeerName,
			Logger: slog.New(slog.DiscardHandler), Registerer: h.reg,
		})
		if err != nil {
			t.Fatal(err)
		}
		h.Endpoint, h.addr = e, e.Addr()
		e.OnRPC(func(s *transport.Session, _ string) { h.rpc <- s })
		if err := e.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			if err := e.Stop(ctx); err != nil {
				t.Error(err)
			}
		})
		hosts = append(hosts, h)
	}
	return hosts[0], hosts[1]
}

func TestConformance(t *testing.T) {
	rpctest.TestSession(t, func(t *testing.T) (rpc.Session, rpc.Session) {
		a, b := loopback(t)
		s, err := a.DialRPC(t.Context(), b.addr, b.name)
		if err != nil {
			t.Fatal(err)
		}
		return s, <-b.rpc
	})
}
