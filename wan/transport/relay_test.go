package transport_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"landbridge/wan/transport"
	"landbridge/wan/transport/transporttest"
)

// relays makes a host a relay that knows all others.
func relays(cfg *transport.Config) {
	cfg.RelayTo = func(peer string) (netip.AddrPort, bool) {
		for i := range 10 {
			if strings.HasPrefix(peer, "n"+string(rune('0'+i))+".") {
				return addrOf(i), true
			}
		}
		return netip.AddrPort{}, false
	}
}

// triangle is three hosts of which the first and the third have no path.
func triangle(t *testing.T, w *world, opts ...option) (origin, relay, target *host) {
	t.Helper()
	w.net.SetDelay(40 * time.Millisecond)
	w.net.Cut(addrOf(1).Addr(), addrOf(3).Addr())
	return w.host(1), w.host(2, append(opts, relays)...), w.host(3)
}

func relayed(t *testing.T, origin, relay, target *host) (dialed, accepted *transport.Session) {
	t.Helper()
	dialed, err := origin.DialRelayed(t.Context(), relay.addr, relay.name, target.name)
	if err != nil {
		t.Fatal(err)
	}
	return dialed, <-target.rpc
}

func stopAll(t *testing.T, hosts ...*host) {
	for _, h := range hosts {
		h.stop(t)
	}
}

// Two servers without a path have a session through a third: with each other's
// names, and the round trip of both legs. It ends everywhere when one closes it.
func TestRelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		origin, relay, target := triangle(t, w)
		defer stopAll(t, origin, relay, target)
		if _, err := origin.DialRPC(t.Context(), target.addr, target.name); !transport.NoPath(err) {
			t.Fatalf("the direct dial gave %v, want that there is no path", err)
		}
		dialed, accepted := relayed(t, origin, relay, target)
		if dialed.Peer() != target.name || accepted.Peer() != origin.name {
			t.Errorf("the ends are %s and %s", dialed.Peer(), accepted.Peer())
		}
		if dialed.Via() != relay.name || accepted.Via() != relay.name || dialed.RemoteAddr() != relay.addr {
			t.Errorf("via %q at %s and %q, want %s", dialed.Via(), dialed.RemoteAddr(), accepted.Via(), relay.name)
		}
		served := make(chan struct{})
		go func() { defer close(served); echo(t, accepted) }()
		began := time.Now()
		if err := roundTrip(t, dialed, "hello"); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != 160*time.Millisecond {
			t.Errorf("a round trip took %s, want that of both legs", took)
		}
		if rtt, ok := origin.RTT(target.name); !ok || rtt < 159*time.Millisecond || rtt > 200*time.Millisecond {
			t.Errorf("RTT %s, want 160 ms", rtt)
		}
		<-served
		tunnels := func() [3]float64 {
			return [3]float64{
				origin.count(t, "landbridge_wan_relay_tunnels", "origin"), relay.count(t, "landbridge_wan_relay_tunnels", "relay"),
				target.count(t, "landbridge_wan_relay_tunnels", "target"),
			}
		}
		if n := tunnels(); n != [3]float64{1, 1, 1} {
			t.Errorf("tunnels %v", n)
		}
		if forth, back := relay.count(t, "landbridge_wan_relay_bytes_total", "forth"), relay.count(t, "landbridge_wan_relay_bytes_total", "back"); forth < 1200 || back < 1200 {
			t.Errorf("carried %v and %v bytes", forth, back)
		}
		_ = dialed.CloseWithCause(errors.New("had enough"))
		<-accepted.Context().Done()
		if err := cause(accepted); !strings.Contains(err.Error(), "had enough") {
			t.Errorf("the other end was told %v", err)
		}
		time.Sleep(3 * time.Second)
		if n := tunnels(); n != [3]float64{} {
			t.Errorf("tunnels %v after the end", n)
		}
	})
}

// Who a relay, and a target, refuses.
func TestRelayRefuses(t *testing.T) {
	far := func(h *host) *transport.HostAddr { return &transport.HostAddr{Name: h.name, Addr: h.addr} }
	for _, tt := range []struct {
		name   string
		opts   []option
		ask    func(t *testing.T, w *world, origin, relay, target *host) error
		reason transport.RelayRefusal
		at     int // the host that counts it
	}{
		{"a target that nobody knows", nil, func(t *testing.T, w *world, origin, relay, target *host) error {
			return origin.AskTunnel(t.Context(), far(relay), "nobody.dc9", "", 0)
		}, transport.RelayUnknown, 2},
		{"a target in the relay's datacenter", nil, func(t *testing.T, w *world, origin, relay, target *host) error {
			return origin.AskTunnel(t.Context(), far(relay), "n9.dc2", "", 0)
		}, transport.RelayLoop, 2},
		{"a target in the datacenter that asks", nil, func(t *testing.T, w *world, origin, relay, target *host) error {
			return origin.AskTunnel(t.Context(), far(relay), "n9.dc1", "", 0)
		}, transport.RelayLoop, 2},
		{"a second relay", nil, func(t *testing.T, w *world, origin, relay, target *host) error {
			return origin.AskTunnel(t.Context(), far(relay), target.name, "n4.dc4", 1)
		}, transport.RelayHops, 2},
		{"a target asked as if it were a relay", nil, func(t *testing.T, w *world, origin, relay, target *host) error {
			return relay.AskTunnel(t.Context(), far(target), target.name, "", 0)
		}, transport.RelayHops, 3},
		{"a tunnel of the target's own datacenter", nil, func(t *testing.T, w *world, origin, relay, target *host) error {
			return relay.AskTunnel(t.Context(), far(target), target.name, "n9.dc3", 1)
		}, transport.RelayLoop, 3},
		{"a tunnel that the relay asks for itself", nil, func(t *testing.T, w *world, origin, relay, target *host) error {
			return relay.AskTunnel(t.Context(), far(target), target.name, "n9.dc2", 1)
		}, transport.RelayLoop, 3},
		{"a target that the relay does not reach", nil, func(t *testing.T, w *world, origin, relay, target *host) error {
			w.net.Cut(relay.addr.Addr(), target.addr.Addr())
			return origin.AskTunnel(t.Context(), far(relay), target.name, "", 0)
		}, transport.RelayUnreachable, 2},
		{"no name", nil, func(t *testing.T, w *world, origin, relay, target *host) error {
			return origin.AskTunnel(t.Context(), far(relay), "dc3", "", 0)
		}, transport.RelayMalformed, 2},
		{"one tunnel too many", []option{func(c *transport.Config) { c.MaxTunnelsPerPeer = 1 }}, func(t *testing.T, w *world, origin, relay, target *host) error {
			relayed(t, origin, relay, target)
			return origin.AskTunnel(t.Context(), far(relay), target.name, "", 0)
		}, transport.RelayLimit, 2},
		{"a tunnel for large answers in the room of those for calls", []option{func(c *transport.Config) { c.MaxTunnelsPerPeer = 2 }}, func(t *testing.T, w *world, origin, relay, target *host) error {
			calls, _ := relayed(t, origin, relay, target)
			_, err := origin.DialBeside(t.Context(), calls)
			relayed(t, origin, relay, target)
			return err
		}, transport.RelayLimit, 2},
		{"not a relay", nil, func(t *testing.T, w *world, origin, relay, target *host) error {
			return relay.AskTunnel(t.Context(), far(target), origin.name, "", 0)
		}, transport.RelayOff, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				origin, relay, target := triangle(t, w, tt.opts...)
				defer stopAll(t, origin, relay, target)
				err := tt.ask(t, w, origin, relay, target)
				var refused *transport.RelayError
				if !errors.As(err, &refused) || refused.Reason != tt.reason {
					t.Fatalf("got %v, want a refusal for %s", err, tt.reason)
				}
				t.Log(err)
				who := []*host{nil, origin, relay, target}[tt.at]
				if refused.Peer != who.name {
					t.Errorf("refused by %s, want %s", refused.Peer, who.name)
				}
				if n := who.count(t, "landbridge_wan_relay_refused_total", tt.reason.String()); n != 1 {
					t.Errorf("counted %v times", n)
				}
			})
		})
	}
}

// Through a tunnel the other end must prove who it is exactly as directly, and
// nothing but calls may be dialed.
func TestRelayIsNoTrust(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		origin, relay, target := triangle(t, w)
		defer stopAll(t, origin, relay, target)
		other := &world{t: t, net: w.net, ca: transporttest.NewCA(t)}
		id := w.ca.Identity("n4.dc4")
		// n4 shows the federation's certificate to relays and another root's to callers.
		wrongRoot := other.host(4, func(c *transport.Config) {
			own := c.ServerTLS
			c.ServerTLS = func(alpn string) (*tls.Config, error) {
				if alpn == transport.ALPNRelay {
					return id.ServerTLS(alpn)
				}
				return own(alpn)
			}
		})
		// n5 answers relays in the name of n5, and callers as n6.
		five, six := w.ca.Identity("n5.dc5"), w.ca.Identity("n6.dc5")
		wrongName := w.host(5, func(c *transport.Config) {
			c.ServerTLS = func(alpn string) (*tls.Config, error) {
				if alpn == transport.ALPNRelay {
					return five.ServerTLS(alpn)
				}
				return six.ServerTLS(alpn)
			}
		})
		defer stopAll(t, wrongRoot, wrongName)
		for _, h := range []*host{wrongRoot, wrongName} {
			_, direct := origin.DialRPC(t.Context(), h.addr, h.name)
			_, err := origin.DialRelayed(t.Context(), relay.addr, relay.name, h.name)
			if direct == nil || err == nil || !strings.Contains(err.Error(), relay.name) || !strings.Contains(err.Error(), last(direct)) {
				t.Errorf("%s: refused with %v, directly with %v", h.name, err, direct)
			}
		}
		dialed, _ := relayed(t, origin, relay, target)
		for _, alpn := range []string{transport.ALPNRelay, transport.ALPNGossip, transport.ALPNEnroll} {
			if err := origin.DialInside(t.Context(), dialed, alpn, target.name); err == nil || transport.NoPath(err) {
				t.Errorf("%s inside a tunnel: %v, want a refusal", alpn, err)
			}
		}
	})
}

// last is the innermost of an error's words.
func last(err error) string {
	s := err.Error()
	return strings.TrimSpace(s[strings.LastIndex(s, ":")+1:])
}

// Whoever of the three is evicted, by whomever, the tunnel ends.
func TestRelayEnds(t *testing.T) {
	evict := func(at, who *host) {
		at.Recheck(func(peer string, _ tls.ConnectionState) error {
			if peer == who.name {
				return errors.New(who.name + " was evicted")
			}
			return nil
		})
	}
	for _, tt := range []struct {
		name string
		do   func(t *testing.T, w *world, origin, relay, target *host)
		want string
		in   time.Duration
	}{
		{"the relay evicts the origin", func(t *testing.T, w *world, o, r, g *host) { evict(r, o) }, "was evicted", time.Second},
		{"the relay evicts the target", func(t *testing.T, w *world, o, r, g *host) { evict(r, g) }, "n3.dc3", time.Second},
		{"the target evicts the origin", func(t *testing.T, w *world, o, r, g *host) { evict(g, o) }, "was evicted", time.Second},
		{"the target evicts the relay", func(t *testing.T, w *world, o, r, g *host) { evict(g, r) }, "was evicted", time.Second},
		{"the origin evicts the relay", func(t *testing.T, w *world, o, r, g *host) { evict(o, r) }, "n2.dc2 was evicted", time.Second},
		{"the relay stops", func(t *testing.T, w *world, o, r, g *host) { r.stop(t) }, "n2.dc2", time.Second},
		{"the target stops", func(t *testing.T, w *world, o, r, g *host) { g.stop(t) }, "", time.Second},
		{"nothing passes", func(t *testing.T, w *world, o, r, g *host) {}, "", 70 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				origin, relay, target := triangle(t, w)
				defer stopAll(t, origin, relay, target)
				dialed, accepted := relayed(t, origin, relay, target)
				began := time.Now()
				tt.do(t, w, origin, relay, target)
				<-dialed.Context().Done()
				<-accepted.Context().Done()
				if took := time.Since(began); took > tt.in {
					t.Errorf("the session ended after %s", took)
				}
				if err := cause(dialed); !strings.Contains(err.Error(), tt.want) {
					t.Errorf("it ended with %v, want %q", err, tt.want)
				}
				time.Sleep(5 * time.Second)
				if n := relay.count(t, "landbridge_wan_relay_tunnels", "relay"); n != 0 {
					t.Errorf("%v tunnels left", n)
				}
			})
		})
	}
}

// Bulk through lossy legs arrives whole, and what waits at the relay is bounded.
func TestRelayBulk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		origin, relay, target := triangle(t, w)
		defer stopAll(t, origin, relay, target)
		w.net.SetLoss(0.01)
		calls, _ := relayed(t, origin, relay, target)
		dialed, err := origin.DialBeside(t.Context(), calls)
		if err != nil || dialed.Via() != relay.name || dialed.Peer() != target.name {
			t.Fatalf("a session for large answers: to %s via %s, %v", dialed.Peer(), dialed.Via(), err)
		}
		go echo(t, <-target.rpc)
		c, err := dialed.OpenStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		const size = 2 << 20
		began := time.Now()
		go func() {
			b := make([]byte, size)
			_, _ = c.Write(b)
		}()
		if n, err := io.CopyN(io.Discard, c, size); err != nil {
			t.Fatalf("%d bytes came back: %v", n, err)
		}
		t.Logf("%d bytes there and back in %s; dropped at the relay: full %v, rate %v", size, time.Since(began),
			relay.count(t, "landbridge_wan_relay_packets_dropped_total", "queue_full"), relay.count(t, "landbridge_wan_relay_packets_dropped_total", "rate"))
	})
}

// A relay that is asked for nothing, and a server that does not know relays, leave
// nobody waiting.
func TestRelayAskedInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		origin, relay, target := triangle(t, w)
		defer stopAll(t, origin, relay, target)
		old := w.host(4, func(c *transport.Config) {
			serve := c.ServerTLS
			c.ServerTLS = func(alpn string) (*tls.Config, error) {
				if alpn == transport.ALPNRelay {
					return nil, errors.New("no such protocol")
				}
				return serve(alpn)
			}
		})
		defer old.stop(t)
		began := time.Now()
		_, err := origin.DialRelayed(t.Context(), relay.addr, relay.name, old.name)
		var refused *transport.RelayError
		if !errors.As(err, &refused) || refused.Reason != transport.RelayUnreachable || time.Since(began) > time.Second {
			t.Errorf("a target that knows no relays: %v after %s", err, time.Since(began))
		}
		w.net.Silence(relay.addr, true)
		ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
		defer cancel()
		began = time.Now()
		if _, err := origin.DialRelayed(ctx, relay.addr, relay.name, target.name); err == nil || time.Since(began) > time.Second || !strings.Contains(err.Error(), relay.name) {
			t.Errorf("a silent relay: %v after %s", err, time.Since(began))
		}
	})
}
