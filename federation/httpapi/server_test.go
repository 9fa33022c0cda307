package httpapi

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// serve starts a front end on a loopback port and stops it with the test.
func (n *testNode) serve(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ran := make(chan error, 1)
	go func() { ran <- n.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := n.Stop(ctx); err != nil {
			t.Error(err)
		}
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String()
}

func dial(t *testing.T, addr string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn, bufio.NewReader(conn)
}

func exchangeOn(t *testing.T, conn net.Conn, r *bufio.Reader, request string) (*http.Response, string) {
	t.Helper()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestConnectionLimit(t *testing.T) {
	n := newNode(t, func(c *Config) { c.MaxConnsPerClient = 2 })
	addr := n.serve(t)
	const get = "GET /v1/status/leader HTTP/1.1\r\nHost: x\r\n\r\n"
	c1, r1 := dial(t, addr)
	exchangeOn(t, c1, r1, get)
	c2, r2 := dial(t, addr)
	exchangeOn(t, c2, r2, get)
	c3, r3 := dial(t, addr)
	resp, body := exchangeOn(t, c3, r3, get)
	if resp.StatusCode != 429 || body != "Your IP is issuing too many concurrent connections, please rate limit your calls\n" || !resp.Close || resp.Header.Get("Retry-After") != "1" {
		t.Errorf("third connection: got %d %q", resp.StatusCode, body)
	}
	if got := testutil.ToFloat64(n.metrics.refused); got != 1 {
		t.Errorf("refused %v connections, want 1", got)
	}
	// A raised limit counts at once.
	n.Reload(Reloadable{MaxConnsPerClient: 3})
	c4, r4 := dial(t, addr)
	if resp, _ := exchangeOn(t, c4, r4, get); resp.StatusCode != 200 {
		t.Errorf("after raising the limit: got %d", resp.StatusCode)
	}
	if resp, _ := exchangeOn(t, c1, r1, get); resp.StatusCode != 200 {
		t.Errorf("first connection afterwards: got %d", resp.StatusCode)
	}
}

func TestLimitGivesPlacesBack(t *testing.T) {
	n := newNode(t, nil)
	l := &n.plainConns
	n.Reload(Reloadable{MaxConnsPerClient: 1})
	a, b := net.Pipe()
	defer func() { _ = b.Close() }()
	ip := (&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1)}).AddrPort().Addr().Unmap()
	if !l.take(ip) || l.take(ip) {
		t.Fatal("the limit of one is not kept")
	}
	conn := &countedConn{Conn: a, counted: l, ip: ip}
	for range 2 { // closing twice gives back once
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if !l.take(ip) || l.take(ip) {
		t.Error("closing did not give exactly one place back")
	}
}

func TestBodyLimits(t *testing.T) {
	n := newNode(t, func(c *Config) { c.KVMaxValueSize = 1000 })
	const tooLarge = "too large, max size: 1000 bytes. See "
	big := strings.Repeat("x", 1001)
	if w := n.ask(t, "PUT", "/v1/kv/big", big); w.Code != 413 || !strings.HasPrefix(w.Body.String(), "Request body(1001 bytes) "+tooLarge) {
		t.Errorf("declared: got %d %q", w.Code, w.Body)
	}
	r := httptest.NewRequest("PUT", "/v1/kv/big", io.MultiReader(strings.NewReader(big), strings.NewReader("more")))
	if r.ContentLength != -1 {
		t.Fatal("the body's length is declared")
	}
	w := httptest.NewRecorder()
	n.ServeHTTP(w, r)
	if w.Code != 413 || !strings.Contains(w.Body.String(), tooLarge) {
		t.Errorf("chunked: got %d %q", w.Code, w.Body)
	}
	if w := n.ask(t, "PUT", "/v1/kv/max", big[:1000]); w.Code != 200 || w.Body.String() != "true" {
		t.Errorf("at the limit: got %d %q", w.Code, w.Body)
	}
	if w := n.ask(t, "GET", "/v1/kv/big", ""); w.Code != 404 {
		t.Errorf("a refused value was stored: %d", w.Code)
	}
	if w := n.ask(t, "PUT", "/v1/catalog/register", `{"Node":"`+strings.Repeat("n", maxJSONBody)+`"}`); w.Code != 413 {
		t.Errorf("registration: got %d", w.Code)
	}
}

// Large bodies are for those who have a token or may write, and while there is room.
func TestLargeBodies(t *testing.T) {
	n, f := withACL(t, map[string]string{"": ``, "weak": ``}, nil)
	large, small := strings.Repeat("x", smallBody+1), strings.Repeat("x", smallBody)
	put := func(target, body string, declared bool, code int, want string) {
		t.Helper()
		r := httptest.NewRequest("PUT", target, strings.NewReader(body))
		if !declared {
			r.ContentLength = -1
		}
		w := httptest.NewRecorder()
		n.ServeHTTP(w, r)
		if w.Code != code || w.Body.String() != want {
			t.Errorf("PUT %s, %d bytes: %d %s, want %d %s", target, len(body), w.Code, w.Body, code, want)
		}
		if held := n.bodies.Load(); held != 0 && held < maxBodies-smallBody {
			t.Errorf("%d bytes are held after the request", held)
		}
	}
	const nobody = "Permission denied: a body of more than 131072 bytes needs a token"
	put("/v1/kv/x", large, true, 403, nobody)
	put("/v1/kv/x", large, false, 403, nobody)
	put("/v1/txn", large, true, 403, nobody)
	put("/v1/kv/x?dc=dc1", large, true, 403, nobody)
	put("/v1/kv/x?token=unknown", large, true, 403, "ACL not found")
	put("/v1/kv/x", small, true, 200, "true") // the servers of this test have no ACLs
	put("/v1/kv/x?token=weak", large, true, 200, "true")
	put("/v1/kv/x?dc=dc2", large, true, 200, "true") // who judges by itself
	f.rules[""] = `key_prefix "" { policy = "write" }`
	put("/v1/kv/x", large, true, 200, "true")

	n.bodies.Store(maxBodies - smallBody)
	const full = "Too many large request bodies at once, please try again"
	put("/v1/kv/x", large, true, 429, full)
	put("/v1/kv/x", large, false, 429, full)
	put("/v1/kv/x", small, true, 200, "true")
	n.bodies.Store(0)
	put("/v1/kv/x", large, false, 200, "true")
}

// A client that sends all of a refused body before it reads gets the answer, and
// its connection goes on.
func TestRefusedBodyIsRead(t *testing.T) {
	const limit = 400_000 // more than net/http reads by itself
	n := newNode(t, func(c *Config) { c.KVMaxValueSize = limit })
	conn, r := dial(t, n.serve(t))
	for i, size := range []int{limit + 1, 2 * limit, limit, 2*limit + 1} {
		if _, err := fmt.Fprintf(conn, "PUT /v1/kv/x HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size)); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		want := http.StatusRequestEntityTooLarge
		if size == limit {
			want = http.StatusOK
		}
		if resp.StatusCode != want || resp.Close != (i == 3) {
			t.Errorf("%d bytes: %d, closes %t", size, resp.StatusCode, resp.Close)
		}
	}
}

func TestGzip(t *testing.T) {
	n := newNode(t, nil)
	for _, size := range []int{gzipFrom - 1, gzipFrom} {
		n.ask(t, "PUT", fmt.Sprintf("/v1/kv/v%d", size), strings.Repeat("v", size))
	}
	for _, tc := range []struct {
		target, accept string
		zipped         bool
	}{
		{"/v1/kv/v1399?raw", "gzip", false},
		{"/v1/kv/v1400?raw", "gzip", true},
		{"/v1/kv/v1400?raw", "deflate, gzip;q=0.5", true},
		{"/v1/kv/v1400?raw", "deflate, GZIP", true},
		{"/v1/kv/v1400?raw", "gzip;q=0", false},
		{"/v1/kv/v1400?raw", "identity", false},
		{"/v1/kv/v1400?raw", "", false},
		{"/v1/kv/v1400", "gzip", true},
		{"/v1/status/leader", "gzip", false},
	} {
		w := n.ask(t, "GET", tc.target, "", "Accept-Encoding: "+tc.accept)
		if got := w.Header().Get("Content-Encoding") == "gzip"; got != tc.zipped {
			t.Errorf("%s with %q: zipped %v, want %v", tc.target, tc.accept, got, tc.zipped)
		}
		if !tc.zipped {
			continue
		}
		z, err := gzip.NewReader(w.Body)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := io.ReadAll(z)
		if err != nil || len(plain) < gzipFrom {
			t.Errorf("%s: %d bytes, %v", tc.target, len(plain), err)
		}
	}
}

func TestTokens(t *testing.T) {
	var token string
	n := newNode(t, func(c *Config) {
		c.Do = rpc.DoerFunc(func(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
			token = req.Token
			return &rpc.Response{Body: []byte("true")}, nil
		})
	})
	for _, tc := range []struct {
		target  string
		headers []string
		want    string
	}{
		{"/v1/kv/x", nil, ""},
		{"/v1/kv/x?token=p", []string{"X-Consul-Token: h", "Authorization: Bearer b"}, "p"},
		{"/v1/kv/x?token=", []string{"X-Consul-Token: h", "Authorization: Bearer b"}, "h"},
		{"/v1/kv/x", []string{"Authorization: bEaReR b"}, "b"},
		{"/v1/kv/x", []string{"Authorization: Basic b"}, ""},
		{"/v1/kv/x", []string{"Authorization: Bearer"}, ""},
	} {
		token = "unset"
		n.ask(t, "GET", tc.target, "", tc.headers...)
		if token != tc.want {
			t.Errorf("%s %v: token %q, want %q", tc.target, tc.headers, token, tc.want)
		}
	}
}

func TestErrorKinds(t *testing.T) {
	var fail error
	n := newNode(t, func(c *Config) {
		c.Do = rpc.DoerFunc(func(context.Context, *rpc.Request) (*rpc.Response, error) { return nil, fail })
	})
	for kind, want := range statuses {
		fail = fmt.Errorf("somewhere: %w", store.Errorf(store.Kind(kind), "rpc error making call: words"))
		w := n.ask(t, "GET", "/v1/kv/x", "")
		if w.Code != want || w.Body.String() != "rpc error making call: words" || w.Header().Get("X-Consul-Index") != "1" {
			t.Errorf("kind %d: got %d %q %v, want %d", kind, w.Code, w.Body, w.Header(), want)
		}
		later := ""
		if want == http.StatusTooManyRequests || want == http.StatusServiceUnavailable {
			later = "1"
		}
		if got := w.Header().Get("Retry-After"); got != later {
			t.Errorf("kind %d: Retry-After %q, want %q", kind, got, later)
		}
	}
	for kind, counter := range n.metrics.limited {
		if got := testutil.ToFloat64(counter); got != 1 {
			t.Errorf("kind %d: counted %v times, want 1", kind, got)
		}
	}
	if len(n.metrics.limited) != 3 {
		t.Errorf("%d kinds of limits are counted, want 3", len(n.metrics.limited))
	}
	fail = store.Errorf(200, "a kind of the future")
	if w := n.ask(t, "GET", "/v1/kv/x", ""); w.Code != 500 {
		t.Errorf("unknown kind: got %d", w.Code)
	}
	fail = io.EOF
	if w := n.ask(t, "PUT", "/v1/kv/x", "v"); w.Code != 500 || w.Body.String() != "EOF" {
		t.Errorf("no kind: got %d %q", w.Code, w.Body)
	}
}

// blockedDoer waits like a blocking query, and tells how it ended.
func blockedDoer() (do rpc.DoerFunc, began chan struct{}, ended chan error) {
	began, ended = make(chan struct{}, 8), make(chan error, 8)
	return func(ctx context.Context, _ *rpc.Request) (*rpc.Response, error) {
		began <- struct{}{}
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return nil, store.Errorf(store.KindTimeout, "ended: %w", context.Cause(ctx))
	}, began, ended
}

func TestClientThatLeavesEndsItsQuery(t *testing.T) {
	do, began, ended := blockedDoer()
	n := newNode(t, func(c *Config) { c.Do = do })
	conn, _ := dial(t, n.serve(t))
	if _, err := io.WriteString(conn, "GET /v1/kv/x?index=5 HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-began
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("the query goes on without its client")
	}
}

func TestStopEndsBlockingQueries(t *testing.T) {
	do, began, ended := blockedDoer()
	n := newNode(t, func(c *Config) { c.Do = do })
	conn, r := dial(t, n.serve(t))
	if _, err := io.WriteString(conn, "GET /v1/kv/x?index=5 HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-began
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := n.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
	if err := <-ended; err == nil || err.Error() != "the agent is stopping" {
		t.Errorf("the query ended with %v", err)
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 500 {
		t.Errorf("the client was told %d, want 500", resp.StatusCode)
	}
	_ = resp.Body.Close()
}

func TestStopLetsOthersFinish(t *testing.T) {
	began, release := make(chan struct{}), make(chan struct{})
	n := newNode(t, func(c *Config) {
		c.Do = rpc.DoerFunc(func(ctx context.Context, _ *rpc.Request) (*rpc.Response, error) {
			close(began)
			select {
			case <-release:
				return &rpc.Response{Body: []byte("true")}, nil
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		})
	})
	conn, r := dial(t, n.serve(t))
	if _, err := io.WriteString(conn, "PUT /v1/kv/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nv"); err != nil {
		t.Fatal(err)
	}
	<-began
	stopped := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		stopped <- n.Stop(ctx)
	}()
	<-n.stopping.Done()
	close(release)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("a write under way was answered %d", resp.StatusCode)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestLifecycle(t *testing.T) {
	n := newNode(t, nil)
	if err := n.Stop(t.Context()); err != nil { // before it served
		t.Error(err)
	}
	if err := n.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	if err := n.Serve(ln); err != nil { // after Stop it ends at once
		t.Error(err)
	}
	if _, err := New(Config{}); err == nil || strings.Count(err.Error(), "is required") != 7 {
		t.Errorf("an empty configuration: %v", err)
	}
}

func TestHashBlocking(t *testing.T) {
	n := newNode(t, nil)
	n.ask(t, "PUT", "/v1/agent/service/register", `{"Name":"web","Port":1}`)
	hash := n.ask(t, "GET", "/v1/agent/service/web", "").Header().Get("X-Consul-ContentHash")
	if w := n.ask(t, "GET", "/v1/agent/service/web?wait=20ms&hash="+hash, ""); w.Code != 200 || w.Header().Get("X-Consul-ContentHash") != hash {
		t.Errorf("unchanged: got %d with hash %s, want %s", w.Code, w.Header().Get("X-Consul-ContentHash"), hash)
	}
	got := make(chan *httptest.ResponseRecorder, 1)
	go func() { got <- n.ask(t, "GET", "/v1/agent/service/web?wait=1m&hash="+hash, "") }()
	n.ask(t, "PUT", "/v1/agent/service/register", `{"Name":"web","Port":2}`)
	if w := <-got; w.Code != 200 || !strings.Contains(w.Body.String(), `"Port":2`) {
		t.Errorf("changed: got %d %s", w.Code, w.Body)
	}
}

// logStream gives its lines to every follower.
type logStream struct {
	lines     chan []byte
	level     slog.Level
	json      bool
	cancelled bool
}

func (l *logStream) Follow(level slog.Level, json bool) (<-chan []byte, func()) {
	l.level, l.json = level, json
	return l.lines, func() { l.cancelled = true }
}

func TestMonitor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream := &logStream{lines: make(chan []byte, 2)}
		s := &Server{cfg: Config{LogStream: stream}, metrics: newMetrics(prometheus.NewRegistry(), newTable()), table: newTable(), stopping: t.Context()}
		s.Reload(Reloadable{})
		ctx, cancel := context.WithCancel(t.Context())
		w := httptest.NewRecorder()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			s.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/v1/agent/monitor?loglevel=warn&logjson=true", nil))
		}()
		stream.lines <- []byte("one\n")
		stream.lines <- []byte("two")
		synctest.Wait()
		if got := w.Body.String(); got != "one\ntwo\n" || !w.Flushed {
			t.Errorf("got %q, flushed %v", got, w.Flushed)
		}
		cancel()
		<-ended
		if stream.level != slog.LevelWarn || !stream.json || !stream.cancelled {
			t.Errorf("followed with %+v", stream)
		}
	})
}

func TestPanicsAreContained(t *testing.T) {
	n := newNode(t, func(c *Config) {
		c.Do = rpc.DoerFunc(func(context.Context, *rpc.Request) (*rpc.Response, error) { panic("bug") })
	})
	conn, r := dial(t, n.serve(t))
	if _, err := io.WriteString(conn, "GET /v1/kv/x HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := http.ReadResponse(r, nil); err == nil {
		t.Error("an answer after a panic")
	}
	if w := n.ask(t, "GET", "/v1/agent/version", ""); w.Code != 200 {
		t.Errorf("afterwards: got %d", w.Code)
	}
}

func TestTLS(t *testing.T) {
	n := newNode(t, nil)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"agent"}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ran := make(chan error, 1)
	go func() {
		ran <- n.ServeTLS(ln, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	}()
	roots := x509.NewCertPool()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots.AddCert(cert)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "agent"}, ForceAttemptHTTP2: true}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr, Timeout: 10 * time.Second}).Get("https://" + ln.Addr().String() + "/v1/status/leader")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != 200 || resp.ProtoMajor != 2 {
		t.Errorf("got %s with %s", resp.Status, resp.Proto)
	}
	tr.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := n.Stop(ctx); err != nil {
		t.Error(err)
	}
	if err := <-ran; err != nil {
		t.Error(err)
	}
}

func TestMetricsLint(t *testing.T) {
	n := newNode(t, nil)
	problems, err := testutil.GatherAndLint(n.reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	if w := n.ask(t, "GET", "/metrics", ""); w.Code != 200 || !strings.Contains(w.Body.String(), `landbridge_httpapi_requests_total{code="5xx",family="kv"} 0`) {
		t.Errorf("/metrics: got %d; every series exists from the start", w.Code)
	}
	if w := n.ask(t, "PUT", "/metrics", ""); w.Code != 405 {
		t.Errorf("PUT /metrics: got %d", w.Code)
	}
}
