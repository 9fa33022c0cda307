package transport_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"landbridge/wan/transport"
	"landbridge/wan/transport/transporttest"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/quic-go/quic-go"
)

func cause(s *transport.Session) error { return context.Cause(s.Context()) }

func TestStopTellsThePeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.host(1), w.host(2)
		defer b.stop(t)
		sa, sb := session(t, a, b)
		a.stop(t)
		a.stop(t) // twice
		<-sb.Context().Done()
		if err := cause(sb); !strings.Contains(err.Error(), "stopped") || !errors.Is(err, net.ErrClosed) {
			t.Errorf("peer's cause = %v, want that the other side stopped", err)
		}
		if _, err := sa.OpenStream(t.Context()); err == nil {
			t.Error("stream opened on a stopped endpoint")
		}
		if _, err := a.DialRPC(t.Context(), b.addr, b.name); !errors.Is(err, transport.ErrStopped) {
			t.Errorf("dial after stop = %v, want ErrStopped", err)
		}
		if err := a.Start(t.Context()); !errors.Is(err, transport.ErrStopped) {
			t.Errorf("start after stop = %v, want ErrStopped", err)
		}
	})
}

func TestStopWithoutStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		id := w.ca.Identity("n1.dc1")
		e, err := transport.Listen(transport.Config{
			Name: "n1.dc1", Socket: w.net.Listen(addrOf(1)), Secret: make([]byte, 32),
			ServerTLS: id.ServerTLS, ClientTLS: id.ClientTLS, PeerName: transporttest.PeerName,
			Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestValidateNamesAllProblems(t *testing.T) {
	_, err := transport.Listen(transport.Config{Secret: []byte("short")})
	if err == nil {
		t.Fatal("an empty configuration was accepted")
	}
	for _, want := range []string{"Name", "Socket", "Secret", "ServerTLS", "ClientTLS", "PeerName", "Logger", "Registerer"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not name %s: %v", want, err)
		}
	}
}

func TestRecheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b, c := w.host(1), w.host(2), w.host(3)
		defer a.stop(t)
		defer b.stop(t)
		defer c.stop(t)
		ab, _ := session(t, a, b)
		_, ca := session(t, c, a)
		closed := a.Recheck(func(peer string, cs tls.ConnectionState) error {
			if len(cs.PeerCertificates) == 0 {
				t.Errorf("%s without a certificate", peer)
			}
			if peer == c.name {
				return errors.New("was evicted")
			}
			return nil
		})
		if len(closed) != 1 || closed[0] != c.name {
			t.Errorf("closed the connections of %q, want %q", closed, c.name)
		}
		<-ca.Context().Done()
		synctest.Wait()
		if ab.Context().Err() != nil {
			t.Errorf("the session with %s was closed too: %v", b.name, cause(ab))
		}
	})
}

func TestOnlyOneKnownProtocolMayBeOffered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		b := w.host(2)
		defer b.stop(t)
		socket := w.net.Listen(addrOf(9))
		tr := &quic.Transport{Conn: socket}
		defer socket.Close()
		defer tr.Close()
		id := w.ca.Identity("n9.dc9")
		for _, protos := range [][]string{
			{transport.ALPNRPC, transport.ALPNEnroll}, {"h3"}, nil,
		} {
			conf, _ := id.ClientTLS(transport.ALPNRPC, "")
			conf.NextProtos = protos
			if conn, err := tr.Dial(t.Context(), net.UDPAddrFromAddrPort(b.addr), conf, nil); err == nil {
				t.Errorf("offering %q was accepted as %q", protos, conn.ConnectionState().TLS.NegotiatedProtocol)
			}
		}
		synctest.Wait() // the one who dialed hears of it first
		if n := b.count(t, "landbridge_wan_handshakes_refused_total", "protocols"); n != 3 {
			t.Errorf("refused handshakes = %v, want 3", n)
		}
		if n := b.count(t, "landbridge_wan_handshakes_unfinished"); n != 0 {
			t.Errorf("unfinished handshakes = %v, want 0", n)
		}
	})
}

func TestGarbageIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		b := w.host(2)
		defer b.stop(t)
		socket := w.net.Listen(addrOf(9))
		defer socket.Close()
		to := net.UDPAddrFromAddrPort(b.addr)
		synctest.Wait()                                                                             // until somebody counts
		_, _ = socket.WriteTo([]byte{0x01, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, to) // neither QUIC bit is set
		_, _ = socket.WriteTo(append([]byte{0x40}, make([]byte, 30)...), to)                        // a short header of no connection
		_, _ = socket.WriteTo(append([]byte{0xc0}, make([]byte, 3)...), to)                         // cut off
		synctest.Wait()
		for reason, want := range map[string]float64{"not_quic": 1, "unknown_connection": 1, "malformed": 1} {
			if n := b.count(t, "landbridge_wan_garbage_packets_total", reason); n != want {
				t.Errorf("garbage %s = %v, want %v", reason, n, want)
			}
		}
	})
}

// TestUnfinishedHandshakesAreBounded floods a server with first packets from
// clients that never answer.
func TestUnfinishedHandshakesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 64
		w := newWorld(t)
		a := w.host(1)
		b := w.host(2, func(c *transport.Config) { c.MaxHandshakes = limit })
		defer a.stop(t)
		defer b.stop(t)
		id := w.ca.Identity("n9.dc9")
		conf, _ := id.ClientTLS(transport.ALPNRPC, "")
		conf.NextProtos = []string{transport.ALPNRPC}
		deaf := func(from netip.AddrPort) {
			socket := w.net.Listen(from)
			tr := &quic.Transport{Conn: deafSocket{socket}}
			defer socket.Close()
			defer tr.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			_, _ = tr.Dial(ctx, net.UDPAddrFromAddrPort(b.addr), conf, nil)
		}
		done := make(chan struct{})
		for i := range 3 * limit {
			go func() {
				deaf(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)}), 1))
				done <- struct{}{}
			}()
		}
		time.Sleep(50 * time.Millisecond)
		// All that came before the server asked for proof of address hold a place.
		if n := b.count(t, "landbridge_wan_handshakes_unfinished"); n < 1 || n > limit/4 {
			t.Errorf("unfinished handshakes = %v, want a few: the rest must prove its address first", n)
		}
		began := time.Now()
		s, err := a.DialRPC(t.Context(), b.addr, b.name)
		if err != nil {
			t.Fatalf("an honest client was kept out: %v", err)
		}
		t.Logf("honest client connected after %s", time.Since(began))
		_ = s.CloseWithCause(nil)
		for range 3 * limit {
			<-done
		}
		time.Sleep(20 * time.Second)
		if n := b.count(t, "landbridge_wan_handshakes_unfinished"); n != 0 {
			t.Errorf("unfinished handshakes = %v after their time-out, want 0", n)
		}
	})
}

// deafSocket sends and never hears.
type deafSocket struct{ *transporttest.Socket }

func (d deafSocket) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		if n, a, err := d.Socket.ReadFrom(b); err != nil {
			return n, a, err
		}
	}
}

func TestConnectionsPerPeerAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.host(1)
		b := w.host(2, func(c *transport.Config) { c.MaxConnsPerPeer = 2 })
		defer a.stop(t)
		defer b.stop(t)
		session(t, a, b)
		session(t, a, b)
		s, err := a.DialRPC(t.Context(), b.addr, b.name)
		if err == nil {
			<-s.Context().Done() // a client learns after the handshake
			err = cause(s)
		}
		if !strings.Contains(err.Error(), "has 2 connections open") {
			t.Errorf("third connection ended with %v, want the limit named", err)
		}
	})
}

func TestEnroll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.host(1), w.host(2)
		defer a.stop(t)
		defer b.stop(t)
		if c, err := a.DialEnroll(t.Context(), b.addr); err != nil {
			if !strings.Contains(err.Error(), "not served") { // it may hear so before it has a stream
				t.Fatal(err)
			}
		} else {
			_, _ = c.Write([]byte("x"))
			if _, err := c.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "not served") {
				t.Errorf("read = %v, want that enrolment is not served", err)
			}
			_ = c.Close()
		}

		served := make(chan []byte, 1)
		w.onEnroll = func(ec *transport.EnrollConn) {
			b := make([]byte, 5)
			if _, err := io.ReadFull(ec, b); err != nil {
				t.Errorf("read: %v", err)
			}
			key, err := ec.ExportKeyingMaterial("test", b, 32)
			if err != nil {
				t.Error(err)
			}
			served <- key
			if n := len(ec.PeerCertificates()); n != 0 {
				t.Errorf("the joiner presented %d certificates, want none", n)
			}
			_, _ = ec.Write([]byte("welcome"))
		}
		c := w.host(3)
		defer c.stop(t)
		w.net.SetDelay(100 * time.Millisecond)
		ec, err := a.DialEnroll(t.Context(), c.addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ec.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if len(ec.PeerCertificates()) == 0 {
			t.Error("the accepting side presented no certificate")
		}
		ours, err := ec.ExportKeyingMaterial("test", []byte("hello"), 32)
		if err != nil {
			t.Fatal(err)
		}
		if theirs := <-served; string(theirs) != string(ours) {
			t.Error("the two ends export different keying material")
		}
		// All of the answer arrives though the server closed right after it.
		if b, err := io.ReadAll(ec); string(b) != "welcome" || err != nil {
			t.Errorf("answer = %q, %v, want welcome", b, err)
		}
		_ = ec.Close()
		time.Sleep(10 * time.Second)
		if n := c.count(t, "landbridge_wan_connections", "enroll", "accepted"); n != 0 {
			t.Errorf("enrolment connections = %v after the end, want 0", n)
		}
	})
}

func TestEnrolmentsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.onEnroll = func(c *transport.EnrollConn) { _, _ = io.ReadAll(c) }
		a, b := w.host(1), w.host(2, func(c *transport.Config) { c.MaxEnrollmentsPerSource = 2 })
		defer a.stop(t)
		defer b.stop(t)
		var conns []*transport.EnrollConn
		for range 2 {
			c, err := a.DialEnroll(t.Context(), b.addr)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = c.Write([]byte("x"))
			conns = append(conns, c)
			time.Sleep(100 * time.Millisecond)
		}
		c, err := a.DialEnroll(t.Context(), b.addr)
		if err == nil { // the refusal may be here already
			conns = append(conns, c)
			_, _ = c.Write([]byte("x"))
			_, err = c.Read(make([]byte, 1))
		}
		if err == nil || !strings.Contains(err.Error(), "too many enrolments") {
			t.Errorf("third enrolment from one address: %v, want the limit named", err)
		}
		// One that says nothing more does not keep its place for ever.
		began := time.Now()
		_, _ = conns[0].Read(make([]byte, 1))
		if d := time.Since(began); d > 31*time.Second {
			t.Errorf("an enrolment lasted %s, want 30s at most", d)
		}
		for _, c := range conns {
			_ = c.Close()
		}
	})
}

func TestResumptionVerifiesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.host(1)
		revoked, resumed := false, 0
		id := w.ca.Identity("n2.dc2")
		b := w.host(2, func(c *transport.Config) {
			c.ServerTLS = func(alpn string) (*tls.Config, error) {
				conf, err := id.ServerTLS(alpn) // a new one each time, as after a rotation
				verify := conf.VerifyConnection
				conf.VerifyConnection = func(cs tls.ConnectionState) error {
					if cs.DidResume {
						resumed++
					}
					if revoked {
						return errors.New("evicted")
					}
					return verify(cs)
				}
				return conf, err
			}
		})
		defer a.stop(t)
		defer b.stop(t)
		for range 3 {
			s, _ := session(t, a, b)
			time.Sleep(time.Second) // the ticket arrives
			_ = s.CloseWithCause(nil)
		}
		if resumed != 2 {
			t.Errorf("%d of 2 handshakes were resumed", resumed)
		}
		revoked = true
		s, err := a.DialRPC(t.Context(), b.addr, b.name)
		if err == nil {
			<-s.Context().Done()
			err = cause(s)
		}
		if !strings.Contains(err.Error(), "refused our certificate") {
			t.Errorf("an evicted server's session ended with %v, want its certificate refused", err)
		}
	})
}

func TestLoadSecret(t *testing.T) {
	file := filepath.Join(t.TempDir(), "wan", "secret")
	first, err := transport.LoadSecret(file)
	if err != nil {
		t.Fatal(err)
	}
	again, err := transport.LoadSecret(file)
	if err != nil || string(again) != string(first) || len(first) != 32 {
		t.Errorf("second load = %d bytes, %v, want the same 32", len(again), err)
	}
	if fi, err := os.Stat(file); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode = %v, %v, want 0600", fi.Mode(), err)
	}
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := transport.LoadSecret(file); err == nil {
		t.Error("a damaged secret was accepted or replaced")
	}
}
