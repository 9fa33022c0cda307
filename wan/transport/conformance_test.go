package transport_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
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
	hosts := loopbacks(t, 2)
	return hosts[0], hosts[1]
}

// relayedLoopback returns two, and a third that carries tunnels between them.
func relayedLoopback(t testing.TB) (a, relay, b *host) {
	t.Helper()
	hosts := loopbacks(t, 3)
	return hosts[0], hosts[1], hosts[2]
}

func loopbacks(t testing.TB, n int) []*host {
	t.Helper()
	ca := transporttest.NewCA(t)
	var hosts []*host
	var addrs sync.Map // name -> netip.AddrPort
	for i := range n {
		h := &host{name: fmt.Sprintf("n%d.dc%d", i, i), reg: prometheus.NewRegistry(), rpc: make(chan *transport.Session, 16)}
		id := ca.Identity(h.name)
		e, err := transport.Listen(transport.Config{
			Name: h.name, Address: netip.MustParseAddrPort("127.0.0.1:0"), Secret: make([]byte, 32),
			ServerTLS: id.ServerTLS, ClientTLS: id.ClientTLS, PeerName: transporttest.PeerName,
			Logger: slog.New(slog.DiscardHandler), Registerer: h.reg,
			RelayTo: func(peer string) (netip.AddrPort, bool) {
				v, ok := addrs.Load(peer)
				if !ok {
					return netip.AddrPort{}, false
				}
				return v.(netip.AddrPort), true
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		h.Endpoint, h.addr = e, e.Addr()
		addrs.Store(h.name, h.addr)
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
	return hosts
}

func TestConformanceRelayed(t *testing.T) {
	rpctest.TestSession(t, func(t *testing.T) (rpc.Session, rpc.Session) {
		a, relay, b := relayedLoopback(t)
		s, err := a.DialRelayed(t.Context(), relay.addr, relay.name, b.name)
		if err != nil {
			t.Fatal(err)
		}
		return s, <-b.rpc
	})
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

// BenchmarkCalls is calls of forwarding/rpc from one datacenter to another.
func BenchmarkCalls(b *testing.B) {
	rpctest.BenchmarkCalls(b, rpc.ClientConfig{}, func(b *testing.B) (rpc.Session, rpc.Session) {
		x, y := loopback(b)
		s, err := x.DialRPC(b.Context(), y.addr, y.name)
		if err != nil {
			b.Fatal(err)
		}
		return s, <-y.rpc
	})
}

// BenchmarkRelayedCalls is BenchmarkCalls through a relay: what the process spends
// more is the relay's and the tunnel's.
func BenchmarkRelayedCalls(b *testing.B) {
	rpctest.BenchmarkCalls(b, rpc.ClientConfig{}, func(b *testing.B) (rpc.Session, rpc.Session) {
		x, relay, y := relayedLoopback(b)
		s, err := x.DialRelayed(b.Context(), relay.addr, relay.name, y.name)
		if err != nil {
			b.Fatal(err)
		}
		return s, <-y.rpc
	})
}
