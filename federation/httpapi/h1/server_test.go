package h1

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// pipes is a listener of connections in memory.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

// harness is a Server whose connections go to a net/http server when they must.
type harness struct {
	*Server
	ln, handed *pipes
	plain      *http.Server
	done       sync.WaitGroup
}

func newHarness(h http.Handler) *harness {
	x := &harness{ln: newPipes(), handed: newPipes()}
	log := slog.New(slog.DiscardHandler)
	x.plain = &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	x.Server = New(Config{
		Handler: h,
		Kind: func(_, target string) Kind {
			switch {
			case strings.Contains(target, "stream"):
				return General
			case strings.Contains(target, "index="):
				return Waiting
			}
			return Quick
		},
		HandOver:    func(c net.Conn) { x.handed.conns <- c },
		ReadTimeout: 10 * time.Second, BodyTimeout: time.Minute, IdleTimeout: 5 * time.Minute,
		Logger: log,
	})
	x.done.Go(func() { _ = x.Serve(x.ln) })
	x.done.Go(func() { _ = x.plain.Serve(x.handed) })
	return x
}

func (x *harness) stop(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := errors.Join(x.Shutdown(ctx), x.plain.Shutdown(ctx)); err != nil {
		t.Error(err)
	}
	x.done.Wait()
}

// echo answers with what it sees, in ways that the path chooses.
var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	w.Header()["X-Seen"] = []string{fmt.Sprint(r.Method, " ", r.RequestURI, " ", r.Host, " ", r.ContentLength, " ", r.Header, " ", len(body), err)}
	switch r.URL.Path {
	case "/empty":
		w.WriteHeader(http.StatusNotFound)
	case "/none":
		w.WriteHeader(http.StatusNoContent)
	case "/long":
		long := bytes.Repeat([]byte("long "), 20<<10)
		w.Header()["Content-Length"] = []string{fmt.Sprint(len(long))}
		_, _ = w.Write(long)
	case "/pieces":
		w.Header()["Content-Type"] = []string{"text/plain"}
		for i := range 100 {
			fmt.Fprintf(w, "piece %d\n", i)
		}
	case "/break":
		w.Header()["X-Break"] = []string{"a\r\nX-Forged: b"}
	case "/panic":
		panic(http.ErrAbortHandler)
	default:
		_, _ = w.Write(body)
	}
})

// TestAnswersAsNetHTTP sends the same requests to both and compares.
func TestAnswersAsNetHTTP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newHarness(echo)
		ask := func(c net.Conn, raw string) string {
			t.Helper()
			go func() { _, _ = io.WriteString(c, raw) }()
			method, _, _ := strings.Cut(raw, " ")
			resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
			if err != nil {
				return err.Error()
			}
			body, err := io.ReadAll(resp.Body)
			resp.Header.Del("Content-Length") // both frame as they like
			return fmt.Sprint(resp.Status, resp.Proto, resp.Close, resp.Header, len(body), string(body[:min(len(body), 100)]), err)
		}
		for _, req := range []string{
			"GET /empty HTTP/1.1\r\nHost: x\r\n\r\n", "GET /none HTTP/1.1\r\nHost: x\r\n\r\n", "GET /long HTTP/1.1\r\nHost: x\r\n\r\n",
			"GET /pieces HTTP/1.1\r\nHost: x\r\n\r\n", "GET /break HTTP/1.1\r\nHost: x\r\n\r\n", "GET /panic HTTP/1.1\r\nHost: x\r\n\r\n",
			"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", "PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
			"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\nConnection: close\r\n\r\n" + strings.Repeat("z", 60000),
			"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 70000\r\n\r\n" + strings.Repeat("z", 70000),
			"PUT /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
			"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n", "GET /a HTTP/1.0\r\n\r\n", "GET /a HTTP/1.1\r\n\r\n", "GET /a HTTP/1.1\nHost: x\n\n",
			"\x16\x03\x01\x00\xa5garbage\r\n\r\n", "NONSENSE\r\n\r\n", "GET /" + strings.Repeat("a", 8000) + " HTTP/1.1\r\nHost: x\r\n\r\n",
		} {
			c := x.ln.dial()
			got := ask(c, req)
			c.Close()
			client, server := net.Pipe()
			x.handed.conns <- server
			want := ask(client, req)
			client.Close()
			if got != want {
				t.Errorf("%.60q:\n got %s\nwant %s", req, got, want)
			}
		}
		x.stop(t)
	})
}

func TestConnectionIsReused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newHarness(echo)
		c := x.ln.dial()
		br := bufio.NewReader(c)
		all := ""
		var want []string
		for i := range 20 { // more than one buffer of them, all at once
			body := strings.Repeat("b", i*50)
			all += fmt.Sprintf("PUT /%d HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", i, len(body), body)
			want = append(want, body)
		}
		all += "GET /a?index=1 HTTP/1.1\r\nHost: x\r\n\r\n"
		all += "GET /stream HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n" // handed over with its successor
		want = append(want, "", "", "")
		go func() { _, _ = io.WriteString(c, all) }()
		var got []string
		for range want {
			resp, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			got = append(got, string(body))
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
		c.Close()
		x.stop(t)
	})
}

// TestSlowClients are closed when their time is over, and not before.
func TestSlowClients(t *testing.T) {
	for _, tc := range []struct {
		name, send string
		after      time.Duration
	}{
		{"nothing", "", 5*time.Minute + 5*time.Minute/8},
		{"half a head", "GET /a HTTP/1.1\r\nHo", 10 * time.Second},
		{"half a body", "PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf", time.Minute},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newHarness(echo)
				c := x.ln.dial()
				start := time.Now()
				if tc.send != "" {
					_, _ = io.WriteString(c, tc.send)
				}
				_, err := c.Read(make([]byte, 1))
				if took := time.Since(start); err == nil || took != tc.after {
					t.Errorf("closed after %s with %v, want %s", took, err, tc.after)
				}
				c.Close()
				x.stop(t)
			})
		})
	}
	t.Run("a client that asks now and then", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			x := newHarness(echo)
			c := x.ln.dial()
			br := bufio.NewReader(c)
			for range 20 {
				time.Sleep(4*time.Minute + 59*time.Second)
				_, _ = io.WriteString(c, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
				if _, err := http.ReadResponse(br, nil); err != nil {
					t.Fatal(err)
				}
			}
			c.Close()
			x.stop(t)
		})
	})
}

func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		block := make(chan struct{})
		x := newHarness(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			<-block
			_, _ = io.WriteString(w, "late")
		}))
		idle, busy, sending := x.ln.dial(), x.ln.dial(), x.ln.dial()
		_, _ = io.WriteString(busy, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
		_, _ = io.WriteString(sending, "PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nha")
		synctest.Wait()
		short, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		ended := make(chan error, 1)
		go func() { ended <- x.Shutdown(context.Background()) }()
		if _, err := idle.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("an idle connection gave %v, want its end", err)
		}
		if err := x.Shutdown(short); !errors.Is(err, context.DeadlineExceeded) && err != nil {
			t.Error(err)
		}
		_ = sending.Close()
		close(block)
		_, _ = io.ReadAll(busy) // closed by the second Shutdown, or answered
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := x.Serve(newPipes()); err != http.ErrServerClosed {
			t.Errorf("Serve after Shutdown gave %v", err)
		}
		x.stop(t)
	})
}

func TestShutdownWaitsForAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newHarness(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			time.Sleep(3 * time.Second)
			_, _ = w.Write(b)
		}))
		c := x.ln.dial()
		_, _ = io.WriteString(c, "PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nha")
		go func() {
			time.Sleep(time.Second)
			_, _ = io.WriteString(c, "lf")
		}()
		synctest.Wait()
		go x.Shutdown(context.Background())
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, _ := io.ReadAll(resp.Body); string(body) != "half" || !resp.Close {
			t.Errorf("got %q, close %v", body, resp.Close)
		}
		x.stop(t)
	})
}

// TestWaiting blocks on requests whose client stays, leaves, or sends on.
func TestWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 8)
		x := newHarness(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.RawQuery == "" {
				_, _ = io.WriteString(w, "quick")
				return
			}
			select {
			case <-time.After(time.Hour):
			case <-r.Context().Done():
			}
			ended <- r.Context().Err()
			_, _ = io.WriteString(w, "waited")
		}))
		const wait, quick = "GET /a?index=1 HTTP/1.1\r\nHost: x\r\n\r\n", "GET /b HTTP/1.1\r\nHost: x\r\n\r\n"
		answer := func(br *bufio.Reader, want string) {
			t.Helper()
			resp, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			if body, _ := io.ReadAll(resp.Body); string(body) != want {
				t.Errorf("answer %q, want %q", body, want)
			}
		}

		stays := x.ln.dial()
		br := bufio.NewReader(stays)
		for range 3 {
			_, _ = io.WriteString(stays, wait)
			answer(br, "waited")
			if err := <-ended; err != nil {
				t.Errorf("the context of one who stayed ended with %v", err)
			}
			_, _ = io.WriteString(stays, quick)
			answer(br, "quick")
		}
		// The next request comes while this one waits, and another with it.
		go func() {
			_, _ = io.WriteString(stays, wait)
			time.Sleep(time.Minute)
			_, _ = io.WriteString(stays, quick+wait+quick)
		}()
		for _, want := range []string{"waited", "quick", "waited", "quick"} {
			answer(br, want)
		}
		<-ended
		<-ended
		// Half a head that came while waiting has its time-out.
		start := time.Now()
		go func() {
			_, _ = io.WriteString(stays, wait)
			time.Sleep(time.Minute)
			_, _ = io.WriteString(stays, "G")
		}()
		answer(br, "waited")
		<-ended
		if _, err := br.ReadByte(); err != io.EOF || time.Since(start) != time.Hour+10*time.Second {
			t.Errorf("half a head: %v after %s", err, time.Since(start))
		}
		stays.Close()

		leaves := x.ln.dial()
		_, _ = io.WriteString(leaves, wait)
		time.Sleep(time.Minute)
		start = time.Now()
		leaves.Close()
		if err := <-ended; !errors.Is(err, context.Canceled) || time.Since(start) != 0 {
			t.Errorf("the context of one who left ended with %v after %s", err, time.Since(start))
		}
		x.stop(t)
	})
}

// loop is a connection that asks the same again and again.
type loop struct {
	net.Conn
	ask  []byte
	left int
}

func (l *loop) Read(p []byte) (int, error) {
	if l.left == 0 {
		return 0, io.EOF
	}
	l.left--
	return copy(p, l.ask), nil
}

func (l *loop) Write(p []byte) (int, error)      { return len(p), nil }
func (l *loop) Close() error                     { return nil }
func (l *loop) SetReadDeadline(time.Time) error  { return nil }
func (l *loop) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (l *loop) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (l *loop) SetDeadline(time.Time) error      { return nil }
func (l *loop) SetWriteDeadline(time.Time) error { return nil }

// BenchmarkRequest is the cost of one request apart from its handler.
func BenchmarkRequest(b *testing.B) {
	answer := []byte(`[{"LockIndex":0,"Key":"bench/key","Flags":0,"Value":"MDEyMzQ1Njc4OWFiY2RlZg==","CreateIndex":10,"ModifyIndex":10}]`)
	typ := []string{"application/json"}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Content-Type"] = typ
		_, _ = w.Write(answer)
	})
	for _, tc := range []struct{ name, ask string }{
		{"get", "GET /v1/kv/bench/key HTTP/1.1\r\nHost: 127.0.0.1:8500\r\nUser-Agent: Go-http-client/1.1\r\nAccept-Encoding: gzip\r\n\r\n"},
		{"put", "PUT /v1/kv/bench/key HTTP/1.1\r\nHost: 127.0.0.1:8500\r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: 5\r\nAccept-Encoding: gzip\r\n\r\nhello"},
	} {
		b.Run(tc.name, func(b *testing.B) {
			s := New(Config{Handler: handler, Kind: func(string, string) Kind { return Quick }, HandOver: func(net.Conn) { b.Error("handed over") },
				ReadTimeout: time.Second, BodyTimeout: time.Second, IdleTimeout: time.Minute, Logger: slog.New(slog.DiscardHandler)})
			b.ReportAllocs()
			c := &conn{s: s, nc: &loop{ask: []byte(tc.ask), left: b.N}}
			c.resp.c = c
			b.ResetTimer()
			c.serve()
		})
	}
}
