package check

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"landbridge/store"
)

// wants runs a probe and compares; a text that ends in * is a beginning.
func wants(t *testing.T, p Probe, status, output string) {
	t.Helper()
	r, _ := Once(t.Context(), p, 10*time.Second)
	same(t, r, status, output)
}

func same(t *testing.T, r Result, status, output string) {
	t.Helper()
	begins, open := strings.CutSuffix(output, "*")
	if r.Status != status || r.Output != output && !(open && strings.HasPrefix(r.Output, begins)) {
		t.Errorf("got  %s %.300q\nwant %s %.300q", r.Status, r.Output, status, output)
	}
}

// closedPort is an address where nobody listens, and none that the system gives to
// who asks for any.
const closedPort = "127.0.0.1:1"

// server is an HTTP server on loopback: with TLS (and HTTP/2 by ALPN), or without
// and with both protocols.
func server(t *testing.T, withTLS bool, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = quiet
	if withTLS {
		s.EnableHTTP2 = true
		s.StartTLS()
	} else {
		s.Config.Protocols = new(http.Protocols)
		s.Config.Protocols.SetHTTP1(true)
		s.Config.Protocols.SetUnencryptedHTTP2(true)
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

// trusting is the TLS of an agent whose authority signed the server's certificate.
func trusting(s *httptest.Server) TLS {
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	return TLS{Agent: func() (*tls.Config, error) { return &tls.Config{RootCAs: pool}, nil }}
}

const unknownAuthority = "tls: failed to verify certificate: x509: certificate signed by unknown authority"

// TestSilentPeers lets every kind that talks to a network wait for a peer that
// takes what it gets and says nothing.
func TestSilentPeers(t *testing.T) {
	dial := func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, far) }() // ends when near is closed
		return near, nil
	}
	skip := &TLS{SkipVerify: true}
	for _, c := range []struct {
		name, output string
		probe        Probe
	}{
		{"http", `Get "http://x/": context deadline exceeded`, &HTTP{URL: "http://x/", Dial: dial}},
		{"https", `Get "https://x/": *`, &HTTP{URL: "https://x/", Dial: dial}},
		{"tcp", "context deadline exceeded", &TCP{Address: "x:1", TLS: skip, Dial: dial}},
		{"udp", "", &UDP{Address: "x:1", Dial: dial}},
		{"grpc", "rpc error: code = DeadlineExceeded desc = context deadline exceeded", &GRPC{Target: "x:1", Dial: dial}},
		{"grpc tls", "rpc error: code = DeadlineExceeded desc = context deadline exceeded", &GRPC{Target: "x:1", TLS: skip, Dial: dial}},
		{"h2ping", "HTTP2 ping failed: context deadline exceeded", &H2Ping{Address: "x:1", Dial: dial}},
		{"h2ping tls", "HTTP2 ping failed: context deadline exceeded", &H2Ping{Address: "x:1", TLS: skip, Dial: dial}},
		{"docker", "Timed out (7s) running check", &Docker{Container: "c", Args: []string{"true"}, Timeout: 7 * time.Second, Dial: dial}},
		{"os_service", "systemd: no answer about nginx.service: context deadline exceeded", &OSService{Unit: "nginx", Dial: dial}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				r, timedOut := Once(t.Context(), c.probe, 7*time.Second)
				if took := time.Since(began); took != 7*time.Second || !timedOut {
					t.Errorf("it took %v, timed out %t", took, timedOut)
				}
				same(t, r, store.Critical, c.output)
			})
		})
	}
}
