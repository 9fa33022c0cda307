package h1

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// seeds are heads that are simple, nearly so, or hostile.
var seeds = []string{
	"GET /v1/kv/a HTTP/1.1\r\nHost: x:8500\r\n\r\n",
	"GET /v1/kv/a?stale&dc=dc2 HTTP/1.1\r\nHost: [::1]:8500\r\nUser-Agent: t\r\nAccept-Encoding: gzip\r\n\r\n",
	"PUT /v1/kv/a%2Fb HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\nX-Consul-Token: s\r\n\r\nabc",
	"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
	"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\nabc",
	"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
	"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n",
	"GET /v1/kv/a? HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
	"GET /v1/kv/a#b HTTP/1.1\r\nHost: x\r\nX: a\r\nX: b\r\nx: c\r\n\r\n",
	"GET //v1/kv/a HTTP/1.1\r\nHost: x\r\n\r\n",
	"GET /v1/kv/ä HTTP/1.1\r\nHost: x\r\n\r\n",
	"GET /v1/kv/\"<>\\^`{|} HTTP/1.1\r\nHost: x\r\n\r\n",
	"GET /v1/kv/%zz HTTP/1.1\r\nHost: x\r\n\r\n",
	"GET http://y/v1/kv/a HTTP/1.1\r\nHost: x\r\n\r\n",
	"GET /v1/kv/a HTTP/1.0\r\nHost: x\r\n\r\n",
	"GET /v1/kv/a HTTP/1.1\r\n\r\n",
	"GET /v1/kv/a HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
	"GET /v1/kv/a HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n",
	"GET /v1/kv/a HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n",
	"GET /v1/kv/a HTTP/1.1\r\nHost: x\r\nX\t: a\r\n\r\n",
	"GET /v1/kv/a HTTP/1.1\nHost: x\n\n",
	"GET  /v1/kv/a HTTP/1.1\r\nHost: x\r\n\r\n",
	"GET /v1/kv/a HTTP/1.1 \r\nHost: x\r\n\r\n",
	"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	"GET /v1/kv/a HTTP/1.1\r\nHost: x\r\nPragma: no-cache\r\n\r\n",
	"HEAD /v1/kv/a HTTP/1.1\r\nHost: x\r\n\r\n",
}

// seen is what a handler can see of a request.
type seen struct {
	Method, URI, Path, RawPath, Query, Host string
	ForceQuery, Close                       bool
	Length                                  int64
	Header                                  http.Header
}

// agrees fails if h takes b for a simple request that net/http reads differently,
// or refuses.
func agrees(t *testing.T, h *head, b []byte) (simple bool) {
	t.Helper()
	n := endOfHead(b, 0)
	if n == 0 || strange(b, 0) || !h.parse(b[:n]) {
		return false
	}
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
	if err != nil {
		t.Fatalf("net/http refuses %q: %v", b[:n], err)
	}
	want := seen{r.Method, r.RequestURI, r.URL.Path, r.URL.RawPath, r.URL.RawQuery, r.Host, r.URL.ForceQuery, r.Close, r.ContentLength, r.Header}
	got := seen{h.method, h.target, h.url.Path, h.url.RawPath, h.url.RawQuery, h.host, h.url.ForceQuery, h.close, int64(h.length), h.header}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatalf("%q (-net/http +h1):\n%s", b[:n], d)
	}
	if rest, err := io.ReadAll(r.Body); err == nil && len(rest) != h.length {
		t.Fatalf("%q: body of %d, net/http reads %d", b[:n], h.length, len(rest))
	}
	return true
}

func TestParseAgreesWithNetHTTP(t *testing.T) {
	var h head // one for all: what the last request left must not show
	simple := 0
	for range 2 {
		for _, s := range seeds {
			if agrees(t, &h, []byte(s)) {
				simple++
			}
		}
	}
	if want := 2 * 6; simple != want {
		t.Errorf("%d of the seeds are simple, want %d", simple, want)
	}
}

func TestParseReusesHeaders(t *testing.T) {
	var h head
	one := []byte("GET /v1/kv/a HTTP/1.1\r\nHost: x\r\nX-Consul-Token: one\r\n\r\n")
	two := []byte("GET /v1/kv/b HTTP/1.1\r\nHost: x\r\nX-Consul-Token: two\r\n\r\n")
	for i, b := range [][]byte{one, two, one, one} {
		if !h.parse(b) {
			t.Fatalf("request %d is not simple", i)
		}
		if got := h.header.Get("X-Consul-Token"); !strings.Contains(string(b), got) {
			t.Errorf("request %d has the token %q", i, got)
		}
	}
	if n := testing.AllocsPerRun(100, func() { h.parse(one) }); n > 0 {
		t.Errorf("a repeated head costs %v allocations", n)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s), []byte(seeds[0]))
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var h head
		agrees(t, &h, a)
		agrees(t, &h, b)
	})
}
