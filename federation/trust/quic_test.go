package trust

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landbridge/wan/transport"
)

// TestOverQUIC joins two datacenters over the real transport and calls across.
func TestOverQUIC(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ends := map[string]*transport.Endpoint{}
	listen := func(d *dc) {
		for _, s := range d.servers {
			e, err := transport.Listen(transport.Config{
				Name: s.self(), Address: netip.MustParseAddrPort("127.0.0.1:0"), Secret: []byte("secret of this server " + s.self()),
				ServerTLS: s.ServerTLS, ClientTLS: s.ClientTLS, PeerName: s.PeerName,
				Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
			})
			if err != nil {
				t.Fatal(err)
			}
			ends[s.self()] = e
			e.OnEnroll(func(c *transport.EnrollConn) { s.ServeEnroll(context.Background(), c) })
			e.OnRPC(func(sess *transport.Session, peer string) {
				if c, err := sess.AcceptStream(context.Background()); err == nil {
					fmt.Fprintf(c, "%s greets %s", s.self(), peer)
					c.Close()
				}
				<-sess.Context().Done()
			})
			if err := e.Start(ctx); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := e.Stop(context.Background()); err != nil {
					t.Error(err)
				}
			})
			s.cfg.Dial = func(ctx context.Context, addr string) (EnrollConn, error) {
				c, err := e.DialEnroll(ctx, ends[addr].Addr())
				if err != nil {
					return nil, err
				}
				return c, nil
			}
		}
	}
	d1, d2 := w.add("dc1", 2, nil), w.add("dc2", 2, nil)
	listen(d1)
	listen(d2)
	call := func(from, to string) (string, error) {
		sess, err := ends[from].DialRPC(ctx, ends[to].Addr(), to)
		if err != nil {
			return "", err
		}
		defer sess.CloseWithCause(context.Canceled)
		c, err := sess.OpenStream(ctx)
		if err != nil {
			return "", err
		}
		defer c.Close()
		if _, err := c.Write([]byte{1}); err != nil {
			return "", err
		}
		b, err := io.ReadAll(c)
		return string(b), err
	}
	if _, err := call("s1.dc2", "s1.dc1"); err == nil {
		t.Error("call before the join")
	}
	start := time.Now()
	if err := d2.servers[1].Join(ctx, "s2.dc1"); err != nil {
		t.Fatal(err)
	}
	t.Logf("join took %v", time.Since(start))
	for from, to := range map[string]string{"s2.dc2": "s1.dc1", "s1.dc2": "s2.dc1"} {
		for range 2 { // the second may be resumed
			if got, err := call(from, to); err != nil || got != to+" greets "+from {
				t.Errorf("%s calls %s: %q, %v", from, to, got, err)
			}
		}
	}
	// Refused in words, over QUIC too.
	d3 := w.add("dc3", 1, func(c *Config) { c.GossipKey = func() []byte { return []byte("another") } })
	listen(d3)
	if err := d3.lead().Join(ctx, "s1.dc1"); err == nil || !strings.Contains(err.Error(), "its gossip key (encrypt) is not that of datacenter dc3") {
		t.Errorf("wrong key: %v", err)
	}
	if _, err := call("s1.dc3", "s1.dc1"); err == nil {
		t.Error("call by a stranger")
	}
}
