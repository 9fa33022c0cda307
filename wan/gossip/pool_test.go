package gossip_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	lan "landbridge/lan/gossip"
	"landbridge/wan/gossip"
	"landbridge/wan/transport"
	"landbridge/wan/transport/transporttest"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type world struct {
	t   *testing.T
	net *transporttest.Network
	ca  *transporttest.CA
}

// server is a WAN endpoint with its pool: n<i> of datacenter dc<d>.
type server struct {
	*gossip.Pool
	end  *transport.Endpoint
	name string
	addr netip.AddrPort
}

func addrOf(d, i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(d), 0, byte(i)}), 8302)
}

func (w *world) server(d, i int, opts ...func(*gossip.Config)) *server {
	w.t.Helper()
	return w.serverOn(d, i, w.net.Listen(addrOf(d, i)), opts...)
}

func (w *world) serverOn(d, i int, socket *transporttest.Socket, opts ...func(*gossip.Config)) *server {
	w.t.Helper()
	node, dc := fmt.Sprintf("n%d", i), fmt.Sprintf("dc%d", d)
	s := &server{name: gossip.Name(node, dc), addr: addrOf(d, i)}
	id := w.ca.Identity(s.name)
	log := slog.New(slog.DiscardHandler)
	var err error
	s.end, err = transport.Listen(transport.Config{
		Name: s.name, Socket: socket, Secret: fmt.Appendf(nil, "the secret of %s", s.name),
		ServerTLS: id.ServerTLS, ClientTLS: id.ClientTLS, PeerName: transporttest.PeerName,
		Logger: log, Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	cfg := gossip.Config{
		Node: node, Datacenter: dc, ID: "id of " + s.name, Tags: map[string]string{"role": "consul"},
		Transport: s.end.Gossip(), Logger: log, Registerer: prometheus.NewRegistry(),
	}
	for _, o := range opts {
		o(&cfg)
	}
	if s.Pool, err = gossip.New(cfg); err != nil {
		w.t.Fatal(err)
	}
	if err := s.end.Start(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	if err := s.Start(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (s *server) stop(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Error(err)
	}
	if err := s.end.Stop(ctx); err != nil {
		t.Error(err)
	}
}

func bubble(t *testing.T, f func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		defer time.Sleep(2 * time.Minute) // memberlist's last probes
		f(t, &world{t: t, net: transporttest.NewNetwork(1), ca: transporttest.NewCA(t)})
	})
}

func (s *server) status(name string) lan.Status {
	for _, m := range s.Members() {
		if m.Name == name {
			return m.Status
		}
	}
	return lan.None
}

func until(t *testing.T, d time.Duration, what string, cond func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for !cond() {
		if time.Since(began) > d {
			t.Fatalf("not within %s: %s", d, what)
		}
		time.Sleep(100 * time.Millisecond)
	}
	return time.Since(began)
}

func TestThreeDatacentersAt200ms(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.net.SetDelay(100 * time.Millisecond)
		w.net.SetLoss(0.01)
		var all []*server
		for d := 1; d <= 3; d++ {
			for i := 1; i <= 2; i++ {
				s := w.server(d, i)
				defer s.stop(t)
				all = append(all, s)
			}
		}
		for _, s := range all[1:] {
			if n, err := s.Join(t.Context(), []string{all[0].addr.Addr().String()}); n != 1 || err != nil {
				t.Fatalf("%s joins: %d, %v", s.name, n, err)
			}
		}
		d := until(t, 20*time.Second, "all know all", func() bool {
			for _, s := range all {
				for _, o := range all {
					if s.status(o.name) != lan.Alive {
						return false
					}
				}
			}
			return true
		})
		t.Logf("all know all %s after the last join", d)
		time.Sleep(10 * time.Minute)
		for _, s := range all {
			for _, o := range all {
				if st := s.status(o.name); st != lan.Alive {
					t.Errorf("after ten minutes at 1%% loss %s believes %s %s", s.name, o.name, st)
				}
			}
			if _, ok := s.CachedCoordinate(all[0].name); !ok {
				t.Errorf("%s has no coordinate of %s", s.name, all[0].name)
			}
		}
		if rtt, ok := all[0].end.RTT(all[5].name); !ok || rtt < 190*time.Millisecond || rtt > 300*time.Millisecond {
			t.Errorf("RTT = %s, %v, want about 200ms: probes keep connections warm", rtt, ok)
		}
	})
}

// TestRestartOnTheSameAddress: the pool is whole again before anybody is
// suspected for long.
func TestRestartOnTheSameAddress(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.net.SetDelay(20 * time.Millisecond)
		a, b := w.server(1, 1), w.server(2, 1)
		defer a.stop(t)
		if _, err := b.Join(t.Context(), []string{a.addr.String()}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Second)
		socket := w.net.Take(b.addr) // a crash: the old process is heard no more
		b.stop(t)
		b = w.serverOn(2, 1, socket)
		defer b.stop(t)
		events, cancel := a.Subscribe()
		defer cancel()
		began := time.Now()
		if _, err := b.Join(t.Context(), []string{a.addr.String()}); err != nil {
			t.Fatalf("join after a restart: %v", err)
		}
		if d := time.Since(began); d > time.Second {
			t.Errorf("joining after a restart took %s", d)
		}
		time.Sleep(2 * time.Minute)
		for len(events) > 0 {
			if ev := <-events; ev.Kind == lan.Lost {
				t.Errorf("%s was believed failed though it was back at once", ev.Members[0].Name)
			}
		}
		if st := b.status(a.name); st != lan.Alive {
			t.Errorf("%s believes %s %s", b.name, a.name, st)
		}
	})
}

func TestDeadServerIsFound(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.net.SetDelay(50 * time.Millisecond)
		a, b, c := w.server(1, 1), w.server(2, 1), w.server(3, 1)
		defer a.stop(t)
		defer b.stop(t)
		defer c.stop(t)
		for _, s := range []*server{b, c} {
			if _, err := s.Join(t.Context(), []string{a.addr.String()}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		w.net.Silence(c.addr, true)
		d := until(t, 90*time.Second, "the silent one is failed", func() bool {
			return a.status(c.name) == lan.Failed && b.status(c.name) == lan.Failed
		})
		t.Logf("found after %s", d)
		if st := a.status(b.name); st != lan.Alive {
			t.Errorf("%s is %s", b.name, st)
		}
		w.net.Silence(c.addr, false)
		d = until(t, 3*time.Minute, "it is back", func() bool {
			return a.status(c.name) == lan.Alive && b.status(c.name) == lan.Alive && c.status(a.name) == lan.Alive
		})
		t.Logf("back after %s", d)
	})
}

// A server that left is not listed any more within a minute, comes back by a join,
// and is listed again.
func TestLeaveAndComeBack(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.net.SetDelay(40 * time.Millisecond)
		a, b, c := w.server(1, 1), w.server(1, 2), w.server(2, 1)
		all := []*server{a, b, c}
		for _, s := range all {
			defer s.stop(t)
		}
		join := func(s *server) {
			t.Helper()
			if _, err := s.Join(t.Context(), []string{a.addr.String()}); err != nil {
				t.Fatalf("%s joins: %v", s.name, err)
			}
		}
		join(b)
		join(c)
		time.Sleep(10 * time.Second)
		for range 2 {
			if err := c.Leave(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := c.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := c.Pool.Renew(nil); err != nil {
				t.Fatal(err)
			}
			if err := c.Pool.Renew(nil); err == nil {
				t.Error("renewed twice")
			}
			until(t, time.Minute, "the one that left is gone", func() bool {
				return a.status(c.name) == lan.None && b.status(c.name) == lan.None
			})
			again, err := c.end.RenewGossip()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.end.RenewGossip(); err == nil {
				t.Error("a transport in use was replaced")
			}
			if err := c.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := c.Pool.Renew(again); err != nil {
				t.Fatal(err)
			}
			if err := c.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			join(c)
			until(t, 20*time.Second, "it is back", func() bool {
				for _, s := range all {
					for _, o := range all {
						if s.status(o.name) != lan.Alive {
							return false
						}
					}
				}
				return true
			})
		}
	})
}

// TestLossyLinksFailNobody: a server that lives is never believed failed at 10 %
// loss, though single probes are lost all the time.
func TestLossyLinksFailNobody(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.net.SetDelay(40 * time.Millisecond)
		var all []*server
		for d := 1; d <= 3; d++ {
			for i := 1; i <= 2; i++ {
				s := w.server(d, i)
				defer s.stop(t)
				all = append(all, s)
			}
		}
		for _, s := range all[1:] {
			if _, err := s.Join(t.Context(), []string{all[0].addr.String()}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Second)
		w.net.SetLoss(0.1)
		var lost []string
		for _, s := range all {
			events, cancel := s.Subscribe()
			defer cancel()
			go func() {
				for ev := range events {
					if ev.Kind == lan.Lost || ev.Kind == lan.Reaped {
						lost = append(lost, fmt.Sprintf("%s by %s", ev.Members[0].Name, s.name))
					}
				}
			}()
		}
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		if len(lost) > 0 {
			t.Errorf("believed failed at 10 %% loss in 20 minutes: %v", lost)
		}
	})
}

func TestNamesAndTagsMustAgree(t *testing.T) {
	for _, tt := range []struct{ name, tag, want string }{
		{"n1.dc1", "dc1", ""},
		{"host.example.com.dc1", "dc1", ""},
		{"n1.dc1", "dc2", "tags"},
		{"n1", "dc1", "<node>.<datacenter>"},
		{".dc1", "dc1", "<node>.<datacenter>"},
		{"n1.", "dc1", "<node>.<datacenter>"},
	} {
		bubble(t, func(t *testing.T, w *world) {
			a := w.server(9, 1)
			defer a.stop(t)
			id := w.ca.Identity(tt.name)
			end, err := transport.Listen(transport.Config{
				Name: tt.name, Socket: w.net.Listen(addrOf(1, 1)), Secret: make([]byte, 32),
				ServerTLS: id.ServerTLS, ClientTLS: id.ClientTLS, PeerName: transporttest.PeerName,
				Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
			})
			if err != nil {
				t.Fatal(err)
			}
			_ = end.Start(t.Context())
			liar, err := lan.New(lan.Config{
				Scope: "wan", Name: tt.name, Datacenter: tt.tag, AnyDatacenter: true, Profile: lan.WAN(), Transport: end.Gossip(),
				Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := liar.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			_, err = a.Join(t.Context(), []string{addrOf(1, 1).String()})
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("%s with tag %s: %v", tt.name, tt.tag, err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("%s with tag %s: %v, want %q", tt.name, tt.tag, err, tt.want)
			}
			if err := liar.Stop(t.Context()); err != nil {
				t.Error(err)
			}
			_ = end.Stop(t.Context())
		})
	}
}

func TestSplitName(t *testing.T) {
	for name, want := range map[string][2]string{"a.dc1": {"a", "dc1"}, "a.b.dc1": {"a.b", "dc1"}} {
		node, dc, ok := gossip.SplitName(name)
		if !ok || node != want[0] || dc != want[1] || gossip.Name(node, dc) != name {
			t.Errorf("SplitName(%q) = %q, %q, %v, want %v", name, node, dc, ok, want)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	_, err := gossip.New(gossip.Config{Datacenter: "a.b"})
	for _, want := range []string{"node name", `"a.b"`, "Transport"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error does not name %s: %v", want, err)
		}
	}
}
