package client

import (
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEndpoint(t *testing.T) {
	for _, c := range []struct {
		addr         string
		ssl          bool
		want, socket string
		err          string
	}{
		{addr: "", want: "http://127.0.0.1:8500"},
		{addr: "", ssl: true, want: "https://127.0.0.1:8500"},
		{addr: "10.0.0.1:8500", want: "http://10.0.0.1:8500"},
		{addr: "[::1]:8500", want: "http://[::1]:8500"},
		{addr: "https://host:8501/prefix/", want: "https://host:8501/prefix"},
		{addr: "http://host", ssl: true, want: "http://host"},
		{addr: "tcp://host:1", ssl: true, want: "https://host:1"},
		{addr: "unix:///run/l.sock", want: "http://localhost", socket: "/run/l.sock"},
		{addr: "unix://", err: "needs a path"},
		{addr: "gopher://x", err: "unknown scheme"},
		{addr: "http://", err: "names no host"},
		{addr: "http://a b", err: "invalid"},
	} {
		u, socket, err := Options{Addr: c.addr, SSL: c.ssl}.endpoint()
		switch {
		case c.err != "":
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: error %v, want %q", c.addr, err, c.err)
			}
		case err != nil:
			t.Errorf("%q: %v", c.addr, err)
		case u.String() != c.want || socket != c.socket:
			t.Errorf("%q: %s %q, want %s %q", c.addr, u, socket, c.want, c.socket)
		}
	}
}

func TestFromEnv(t *testing.T) {
	env := map[string]string{"CONSUL_HTTP_ADDR": "c:1", "LANDBRIDGE_HTTP_ADDR": "l:1", "CONSUL_HTTP_TOKEN": "ct", "CONSUL_HTTP_SSL": "true",
		"LANDBRIDGE_HTTP_SSL_VERIFY": "false", "CONSUL_CACERT": "ca"}
	get := func(k string) string { return env[k] }
	o, err := Options{}.FromEnv(get)
	if err != nil {
		t.Fatal(err)
	}
	if o.Addr != "l:1" || o.Token != "ct" || !o.SSL || !o.NoVerify || o.CAFile != "ca" {
		t.Errorf("%+v", o)
	}
	o, err = Options{Addr: "flag:1", TokenFile: "f"}.FromEnv(get)
	if err != nil {
		t.Fatal(err)
	}
	if o.Addr != "flag:1" || o.Token != "" || o.TokenFile != "f" {
		t.Errorf("flags do not win: %+v", o)
	}
	env["CONSUL_HTTP_SSL"] = "perhaps"
	env["LANDBRIDGE_HTTP_SSL_VERIFY"] = "maybe"
	_, err = Options{}.FromEnv(get)
	if want := "environment variable CONSUL_HTTP_SSL must be a boolean, is \"perhaps\"\n" +
		"environment variable LANDBRIDGE_HTTP_SSL_VERIFY must be a boolean, is \"maybe\""; fmt.Sprint(err) != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestPaths(t *testing.T) {
	if got := Path("v1", "agent", "join", "[::1]:8301/x?y"); got != "/v1/agent/join/%5B::1%5D:8301%2Fx%3Fy" {
		t.Error(got)
	}
	if got := KeyPath("a//b c/%/?#ü/"); got != "/v1/kv/a//b%20c/%25/%3F%23%C3%BC/" {
		t.Error(got)
	}
}

func TestTLS(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(`"hello"`)) }))
	defer srv.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		o    Options
		ok   bool
	}{
		{"by its authority", Options{CAFile: ca}, true},
		{"by a folder of authorities", Options{CAPath: filepath.Dir(ca)}, true},
		{"unverified", Options{NoVerify: true}, true},
		{"unknown", Options{}, false},
		{"another name", Options{CAFile: ca, ServerName: "other"}, false},
		{"its other name", Options{CAFile: ca, ServerName: "example.com"}, true},
	} {
		c.o.Addr = srv.URL
		cl, err := New(c.o)
		if err != nil {
			t.Fatal(err)
		}
		var s string
		err = cl.Get(t.Context(), "/", nil, &s)
		if (err == nil) != c.ok || c.ok && s != "hello" {
			t.Errorf("%s: %q, %v", c.name, s, err)
		}
		cl.http.CloseIdleConnections()
	}
}

func TestErrors(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/gone":
			w.WriteHeader(404)
		case "/broken":
			http.Error(w, "No cluster leader", 500)
		case "/garbage":
			w.Write([]byte("{"))
		case "/endless":
			w.WriteHeader(500)
			for range 1000 {
				w.Write(make([]byte, 1024))
			}
		}
	}))
	defer srv.Close()
	cl, err := New(Options{Addr: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer cl.http.CloseIdleConnections()
	var out any
	if err := cl.Get(t.Context(), "/gone", nil, &out); !NotFound(err) {
		t.Errorf("404: %v", err)
	}
	err = cl.Get(t.Context(), "/broken", nil, &out)
	var status *StatusError
	if !errors.As(err, &status) || err.Error() != "Unexpected response code: 500 (No cluster leader)" || NotFound(err) {
		t.Errorf("500: %v", err)
	}
	if err := cl.Get(t.Context(), "/garbage", nil, &out); err == nil {
		t.Error("garbage is accepted")
	}
	if err := cl.Get(t.Context(), "/endless", nil, &out); !errors.As(err, &status) || len(status.Body) > 64<<10 {
		t.Errorf("an error of %d bytes was read", len(status.Body))
	}
	srv.CloseClientConnections()
}
