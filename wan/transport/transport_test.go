package transport_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/wan/transport"
	"landbridge/wan/transport/transporttest"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var _ rpc.Session = (*transport.Session)(nil)

// world is a network with an authority.
type world struct {
	t   *testing.T
	net *transporttest.Network
	ca  *transporttest.CA

	onEnroll func(*transport.EnrollConn) // of hosts started from now on
}

func newWorld(t *testing.T) *world {
	return &world{t: t, net: transporttest.NewNetwork(1), ca: transporttest.NewCA(t)}
}

// host is one endpoint; rpc receives its accepted sessions.
type host struct {
	*transport.Endpoint
	name string
	addr netip.AddrPort
	reg  *prometheus.Registry
	rpc  chan *transport.Session
}

type option func(*transport.Config)

func addrOf(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}), 8302)
}

// host starts an endpoint named "n<i>.dc<i>" at 10.0.0.<i>.
func (w *world) host(i int, opts ...option) *host {
	w.t.Helper()
	return w.hostOn(i, w.net.Listen(addrOf(i)), opts...)
}

func (w *world) hostOn(i int, socket net.PacketConn, opts ...option) *host {
	w.t.Helper()
	name := fmt.Sprintf("n%d.dc%d", i, i)
	id := w.ca.Identity(name)
	h := &host{name: name, addr: addrOf(i), reg: prometheus.NewRegistry(), rpc: make(chan *transport.Session, 16)}
	cfg := transport.Config{
		Name: name, Socket: socket,
		Secret:    fmt.Appendf(nil, "secret of host %d, long enough", i),
		ServerTLS: id.ServerTLS, ClientTLS: id.ClientTLS, PeerName: transporttest.PeerName,
		Logger: slog.New(slog.DiscardHandler), Registerer: h.reg,
	}
	for _, o := range opts {
		o(&cfg)
	}
	e, err := transport.Listen(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	h.Endpoint = e
	e.OnRPC(func(s *transport.Session, peer string) {
		if s.Peer() != peer {
			w.t.Errorf("OnRPC peer = %q, session says %q", peer, s.Peer())
		}
		h.rpc <- s
	})
	if w.onEnroll != nil {
		e.OnEnroll(w.onEnroll)
	}
	if err := e.Start(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	return h
}

func (h *host) stop(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := h.Stop(ctx); err != nil {
		t.Errorf("stop %s: %v", h.name, err)
	}
}

// count reads a counter or gauge with one label value.
func (h *host) count(t *testing.T, name string, values ...string) float64 {
	t.Helper()
	families, err := h.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
	metrics:
		for _, m := range f.GetMetric() {
			for i, v := range values {
				if m.GetLabel()[i].GetValue() != v {
					continue metrics
				}
			}
			if m.GetCounter() != nil {
				return m.GetCounter().GetValue()
			}
			return m.GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s%v", name, values)
	return 0
}

// session dials b from a and returns both ends.
func session(t *testing.T, a, b *host) (dialed, accepted *transport.Session) {
	t.Helper()
	dialed, err := a.DialRPC(t.Context(), b.addr, b.name)
	if err != nil {
		t.Fatal(err)
	}
	return dialed, <-b.rpc
}

// echo serves one stream.
func echo(t *testing.T, s *transport.Session) {
	t.Helper()
	c, err := s.AcceptStream(t.Context())
	if err != nil {
		return
	}
	_, _ = io.Copy(c, c)
	_ = c.Close()
}

func roundTrip(t *testing.T, s *transport.Session, msg string) error {
	t.Helper()
	c, err := s.OpenStream(t.Context())
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := c.Write([]byte(msg)); err != nil {
		return err
	}
	b := make([]byte, len(msg))
	if _, err := io.ReadFull(c, b); err != nil {
		return err
	}
	if string(b) != msg {
		t.Errorf("echo = %q, want %q", b, msg)
	}
	return nil
}

func TestRoundTripAt200ms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.host(1), w.host(2)
		defer a.stop(t)
		defer b.stop(t)
		w.net.SetDelay(100 * time.Millisecond)

		began := time.Now()
		sa, sb := session(t, a, b)
		if d := time.Since(began); d > 350*time.Millisecond {
			t.Errorf("dial took %s, want about one round trip (and half of one for the other side)", d)
		}
		if sa.Peer() != b.name || sb.Peer() != a.name {
			t.Errorf("peers = %q and %q, want %q and %q", sa.Peer(), sb.Peer(), b.name, a.name)
		}
		go echo(t, sb)
		began = time.Now()
		if err := roundTrip(t, sa, "hello"); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(began); d < 200*time.Millisecond || d > 210*time.Millisecond {
			t.Errorf("round trip took %s, want 200ms", d)
		}
		if rtt, ok := a.RTT(b.name); !ok || rtt < 190*time.Millisecond || rtt > 260*time.Millisecond {
			t.Errorf("RTT = %s, %v, want about 200ms", rtt, ok)
		}
		if _, ok := a.RTT("stranger.dc9"); ok {
			t.Error("RTT knows a stranger")
		}
		paths := a.Paths()
		if len(paths) != 1 || paths[0].Peer != b.name || paths[0].Protocol != "rpc" || !paths[0].Dialed || paths[0].PacketsSent == 0 {
			t.Errorf("paths = %+v, want one dialed rpc path to %s with packets", paths, b.name)
		}
	})
}

// A connection for bulk tells of full queues, and of nothing else.
func TestBulkIsNoMeasureOfThePath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.host(1), w.host(2)
		defer a.stop(t)
		defer b.stop(t)
		w.net.SetDelay(20 * time.Millisecond)
		session(t, a, b)
		bulk, accepted := session(t, a, b)
		go func() {
			for {
				c, err := accepted.AcceptStream(t.Context())
				if err != nil {
					return
				}
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}
		}()
		pass := func() {
			for range 30 {
				if err := roundTrip(t, bulk, "bulk"); err != nil {
					t.Fatal(err)
				}
			}
		}
		if pass(); bulk.Crowded() {
			t.Error("queues are full at 40 ms as ever")
		}
		w.net.SetDelay(60 * time.Millisecond)
		if pass(); !bulk.Crowded() {
			t.Error("no queues are full at 120 ms instead of 40")
		}
		if rtt, _ := a.RTT(b.name); rtt < 100*time.Millisecond {
			t.Errorf("the newest connection has %s", rtt)
		}
		bulk.ForBulk()
		if rtt, ok := a.RTT(b.name); !ok || rtt > 50*time.Millisecond {
			t.Errorf("without the one for bulk the round trip is %s, %v", rtt, ok)
		}
		bulk.CloseWithCause(nil)
	})
}

func TestLossyPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.host(1), w.host(2)
		defer a.stop(t)
		defer b.stop(t)
		w.net.SetDelay(50 * time.Millisecond)
		w.net.SetLoss(0.05)
		sa, sb := session(t, a, b)
		for i := range 50 {
			go echo(t, sb)
			if err := roundTrip(t, sa, fmt.Sprintf("message %d", i)); err != nil {
				t.Fatalf("round trip %d: %v", i, err)
			}
		}
		var lost uint64
		for _, p := range append(a.Paths(), b.Paths()...) {
			lost += p.PacketsLost
		}
		if lost == 0 {
			t.Error("no packet counted as lost at 5 % loss")
		}
	})
}

func TestWrongPeerIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.host(1), w.host(2)
		defer a.stop(t)
		defer b.stop(t)
		if _, err := a.DialRPC(t.Context(), b.addr, "other.dc2"); err == nil {
			t.Fatal("a server answered for another name")
		}
		stranger := transporttest.NewCA(t)
		id := stranger.Identity("n3.dc3")
		c := w.host(3, func(cfg *transport.Config) { cfg.ServerTLS, cfg.ClientTLS = id.ServerTLS, id.ClientTLS })
		defer c.stop(t)
		if s, err := c.DialRPC(t.Context(), b.addr, b.name); err == nil {
			t.Fatalf("dialed a server of another federation: %s", s.Peer())
		}
		if _, err := a.DialRPC(t.Context(), c.addr, c.name); err == nil {
			t.Fatal("a stranger's certificate was accepted")
		}
		if n := a.count(t, "landbridge_wan_dials_total", "refused", "rpc"); n != 2 {
			t.Errorf("refused dials = %v, want 2", n)
		}
		synctest.Wait()
		select {
		case s := <-b.rpc:
			t.Errorf("a session of %s was accepted", s.Peer())
		default:
		}
	})
}
