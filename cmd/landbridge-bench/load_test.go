package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// tick is an op that takes a while; every third call fails.
type tick struct {
	takes  time.Duration
	calls  int
	closed bool
}

func (o *tick) do() (int, error) {
	time.Sleep(o.takes)
	if o.calls++; o.calls%3 == 0 {
		return 0, errors.New("third")
	}
	return 10, nil
}

func (o *tick) Close() error { o.closed = true; return nil }

// TestClosedLoop: what begins in the warm-up is no latency, what is under way at
// the end is one, and the rate is over the time until that has ended.
func TestClosedLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := &trial{ctx: t.Context()}
		o := &tick{takes: 100 * time.Millisecond}
		l := tr.closedLoop([]op{o}, 250*time.Millisecond, time.Second)
		// Begin at 0, 100, 200 (fails, 5 ms pause), 305, 405, 505 (fails), ... 1115 (fails), 1220 until 1320 ms.
		if got, want := len(l.latencies), 7; got != want {
			t.Errorf("%d latencies, want %d", got, want)
		}
		if slices.Max(l.latencies) != o.takes || slices.Min(l.latencies) != o.takes {
			t.Errorf("latencies %v", l.latencies)
		}
		if l.failed["third"] != 3 || l.answers != 7 || l.total != 9 || l.bytes != 70 {
			t.Errorf("%d failed, %d answers, %d in all, %d bytes", l.failed.sum(), l.answers, l.total, l.bytes)
		}
		if want := 1070 * time.Millisecond; l.use.took != want {
			t.Errorf("took %s, want %s", l.use.took, want)
		}
		if !o.closed {
			t.Error("the op was not closed")
		}
	})
}

// TestClosedLoopEndsWithTheTrial: a load is over when its trial is.
func TestClosedLoopEndsWithTheTrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		tr := &trial{ctx: ctx}
		begin := time.Now()
		tr.closedLoop([]op{&tick{takes: time.Second}}, 0, time.Hour)
		if took := time.Since(begin); took > 3*time.Second {
			t.Errorf("the load went on for %s", took)
		}
	})
}

func TestErrorCounts(t *testing.T) {
	c := errorCounts{"a": 1, "b": 5, "c": 2, "d": 1, "e": 1}
	if got, want := c.String(), `5 times "b", 2 times "c", 1 times "a", and 2 other texts`; got != want || c.sum() != 10 {
		t.Errorf("got %s, %d in all", got, c.sum())
	}
}

func TestOutage(t *testing.T) {
	fault := time.Now()
	o := outageOf([]sample{
		{due: fault.Add(-2 * time.Second), took: time.Second},                              // over before
		{due: fault.Add(-time.Millisecond), took: 300 * time.Millisecond},                  // under way
		{due: fault.Add(time.Second), took: 2 * time.Second, err: errors.New("no leader")}, // failed
		{due: fault.Add(5 * time.Second), took: 100 * time.Millisecond},                    // as ever
	}, fault, 250*time.Millisecond)
	if o.failed["no leader"] != 1 || o.failed.sum() != 1 || o.slow != 1 || o.worst != 2*time.Second || o.until != 3*time.Second {
		t.Errorf("%+v", o)
	}
}

func TestLongestGap(t *testing.T) {
	event := time.Now()
	at := func(ms int) time.Time { return event.Add(time.Duration(ms) * time.Millisecond) }
	// As the writers append them, hardly in order; the gap before the event does not count.
	got := longestGap([]time.Time{at(-9000), at(-10), at(500), at(510), at(-20), at(900)}, event)
	if want := 510 * time.Millisecond; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestEachStopsAtTheFirstError(t *testing.T) {
	calls := 0
	err := each(100, 1, func(_, i int) error {
		if calls++; i == 3 {
			return errors.New("third")
		}
		return nil
	})
	if err == nil || calls != 4 {
		t.Errorf("%v after %d calls", err, calls)
	}
}

// answering is a node whose HTTP API is a handler.
func answering(t *testing.T, h http.HandlerFunc) *node {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return &node{name: "n", http: s.Listener.Addr().String(), token: "secret"}
}

func TestClient(t *testing.T) {
	var connections sync.Map // by the client's address
	count := func() (n int) {
		connections.Range(func(any, any) bool { n++; return true })
		return n
	}
	n := answering(t, func(w http.ResponseWriter, r *http.Request) {
		connections.Store(r.RemoteAddr, true)
		w.Header().Set("X-Consul-Index", "42")
		switch r.URL.Path {
		case "/chunked":
			_, _ = w.Write(make([]byte, 5000))
			w.(http.Flusher).Flush()
			_, _ = w.Write([]byte("end"))
		case "/closing":
			w.Header().Set("Connection", "close")
		case "/refused":
			http.Error(w, "Permission denied", http.StatusForbidden)
		case "/echo":
			b := make([]byte, r.ContentLength)
			_, _ = io.ReadFull(r.Body, b)
			_, _ = w.Write(append(b, r.Header.Get("X-Consul-Token")...))
		}
	})
	c := n.client()
	defer c.Close()
	if err := c.put("/echo", []byte("body "), time.Minute); err != nil || string(c.body) != "body secret" || c.index != 42 {
		t.Errorf("echo: %v, %q, index %d", err, c.body, c.index)
	}
	if err := c.get("/chunked", time.Minute); err != nil || len(c.body) != 5003 || string(c.body[5000:]) != "end" {
		t.Errorf("chunked: %v, %d bytes", err, len(c.body))
	}
	err := c.get("/refused", time.Minute)
	if s, ok := errors.AsType[*statusError](err); !ok || s.status != 403 || s.text != "Permission denied" {
		t.Errorf("refused: %v", err)
	}
	if count() != 1 {
		t.Errorf("%d connections before one was closed", count())
	}
	for range 2 {
		if err := c.get("/closing", time.Minute); err != nil || len(c.body) != 0 {
			t.Errorf("closing: %v, %q", err, c.body)
		}
	}
	if count() != 2 {
		t.Errorf("%d connections, want a new one after the server closed its own", count())
	}
	if _, err := n.request("GET", "/refused", nil, time.Minute); err == nil || err.Error() != "GET /refused at n: HTTP 403: Permission denied" {
		t.Errorf("request: %v", err)
	}
}

func TestClientOfSomethingElse(t *testing.T) {
	for answer, want := range map[string]string{
		"SSH-2.0-server\r\n":                                          "not HTTP",
		"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n":                "Content-Length",
		"HTTP/1.1 200 OK\r\n\r\n":                                     "without a length",
		"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n":      "more than",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n": "more than",
		"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort":          "EOF",
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if c, err := l.Accept(); err == nil {
				_, _ = c.Read(make([]byte, 1000))
				_, _ = c.Write([]byte(answer))
				c.Close()
			}
		}()
		c := (&node{http: l.Addr().String()}).client()
		if err := c.get("/", time.Minute); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: error %v, want %q", answer, err, want)
		}
		l.Close()
	}
}
