package transport_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"landbridge/wan/transport"

	"github.com/quic-go/quic-go"
)

// crash takes the address of h from it and starts its successor there.
func (w *world) restart(h *host, i int, opts ...option) *host {
	w.t.Helper()
	socket := w.net.Take(h.addr) // the old process can no longer be heard
	h.stop(w.t)
	return w.hostOn(i, socket, opts...)
}

func TestRestartIsNoticedByTheResetKey(t *testing.T) {
	for _, tt := range []struct {
		name     string
		accepted bool // the survivor accepted the session instead of dialing it
	}{{"dialed", false}, {"accepted", true}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				a, b := w.host(1), w.host(2)
				defer a.stop(t)
				w.net.SetDelay(50 * time.Millisecond)
				var s *transport.Session
				if tt.accepted {
					_, s = session(t, b, a)
				} else {
					s, _ = session(t, a, b)
				}
				time.Sleep(5 * time.Second) // connection ids with reset tokens have been exchanged
				b = w.restart(b, 2)
				defer b.stop(t)
				began := time.Now()
				c, err := s.OpenStream(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if _, err := c.Write(make([]byte, 100)); err != nil {
					t.Fatal(err)
				}
				<-s.Context().Done()
				if d := time.Since(began); d > 1500*time.Millisecond {
					t.Errorf("restart noticed after %s, want about a second", d)
				}
				var reset *quic.StatelessResetError
				if err := cause(s); !errors.As(err, &reset) {
					t.Errorf("cause = %v, want a stateless reset", err)
				}
				again, err := a.DialRPC(t.Context(), b.addr, b.name)
				if err != nil {
					t.Fatalf("dial again: %v", err)
				}
				_ = again.CloseWithCause(nil)
			})
		})
	}
}

func TestRestartWithAnotherSecretIsNotNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.host(1), w.host(2)
		defer a.stop(t)
		s, _ := session(t, a, b)
		time.Sleep(time.Second)
		b = w.restart(b, 2, func(c *transport.Config) { c.Secret = []byte("the data folder was lost") })
		defer b.stop(t)
		c, _ := s.OpenStream(t.Context())
		began := time.Now()
		_, _ = c.Write(make([]byte, 100))
		<-s.Context().Done()
		var idle *quic.IdleTimeoutError
		if err := cause(s); !errors.As(err, &idle) {
			t.Errorf("cause = %v, want idle time-out", err)
		}
		if d := time.Since(began); d < 50*time.Second || d > 70*time.Second {
			t.Errorf("session ended after %s, want the idle time-out of 60s", d)
		}
	})
}

func TestSilentPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.host(1), w.host(2)
		defer a.stop(t)
		defer b.stop(t)
		w.net.SetDelay(20 * time.Millisecond)
		s, _ := session(t, a, b)
		time.Sleep(time.Second)
		w.net.Silence(b.addr, true)

		c, err := s.OpenStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
		_, _ = c.Write([]byte("are you there?"))
		var ne interface{ Timeout() bool }
		if _, err := c.Read(make([]byte, 1)); !errors.As(err, &ne) || !ne.Timeout() {
			t.Errorf("read from a silent peer = %v, want a time-out after its deadline", err)
		}

		began := time.Now()
		if _, err := a.DialRPC(t.Context(), b.addr, b.name); err == nil {
			t.Error("dialed a silent peer")
		}
		if d := time.Since(began); d > 6*time.Second {
			t.Errorf("dialing a silent peer took %s, want 5s at most", d)
		}
		if n := a.count(t, "landbridge_wan_dials_total", "timeout", "rpc"); n != 1 {
			t.Errorf("dials that timed out = %v, want 1", n)
		}

		// A pause shorter than the idle time-out heals without a new connection.
		w.net.Silence(b.addr, false)
		time.Sleep(30 * time.Second)
		if s.Context().Err() != nil {
			t.Errorf("session ended (%v) though the peer came back", cause(s))
		}
	})
}

func TestIdleConnectionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.host(1), w.host(2)
		defer a.stop(t)
		defer b.stop(t)
		sa, sb := session(t, a, b)
		time.Sleep(2 * time.Second)
		sent := w.net.Packets()
		time.Sleep(50 * time.Second)
		if n := w.net.Packets() - sent; n != 0 {
			t.Errorf("%d packets on an idle connection, want none", n)
		}
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if sa.Context().Err() == nil || sb.Context().Err() == nil {
			t.Error("idle session still open after 82s")
		}
		if n := a.count(t, "landbridge_wan_connections", "rpc", "dialed"); n != 0 {
			t.Errorf("connections = %v, want 0", n)
		}
	})
}

func withSecret(s string) option {
	return func(c *transport.Config) { c.Secret = []byte(s) }
}
