package rpc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"landbridge/forwarding/rpc"
	"landbridge/forwarding/rpc/rpctest"
	"landbridge/store"
)

// Which requests run at all, whatever their token may do.
func TestAdmission(t *testing.T) {
	const ok = store.Kind(255)
	for _, tt := range []struct {
		name   string
		method rpc.MethodID
		hops   uint8
		origin rpc.Origin
		peer   string
		want   store.Kind
	}{
		{"plain read from the LAN", rpc.KVGet, 0, rpc.FromLAN, "", ok},
		{"plain read from the WAN", rpc.KVGet, 2, rpc.FromWAN, "n1.west", ok},
		{"last hop", rpc.KVGet, rpc.MaxHops, rpc.FromLAN, "", ok},
		{"a hop too many", rpc.KVGet, rpc.MaxHops + 1, rpc.FromLAN, "", store.KindInternal},
		{"local method in the LAN", rpc.CatalogDatacenters, 0, rpc.FromLAN, "", ok},
		{"local method over the WAN", rpc.CatalogDatacenters, 0, rpc.FromWAN, "n1.west", store.KindPermissionDenied},
		{"servers' method from a server", rpc.TrustSignIntermediate, 0, rpc.FromWAN, "n1.west", ok},
		{"servers' method from a LAN server", rpc.StatusServer, 0, rpc.FromLAN, "n1", ok},
		{"servers' method from anybody in the LAN", rpc.StatusServer, 0, rpc.FromLAN, "", store.KindPermissionDenied},
		{"servers' method from anybody", rpc.FederationPeers, 0, rpc.FromWAN, "", store.KindPermissionDenied},
		{"servers' method from here", rpc.FederationPeers, 0, rpc.FromHere, "", ok},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ran := false
			p := newPair(t, func(context.Context, *rpc.Request) (*rpc.Response, error) {
				ran = true
				return nil, nil // an empty answer
			}, setup{origin: tt.origin, peer: tt.peer})
			_, err := p.Do(t.Context(), &rpc.Request{Method: tt.method, Hops: tt.hops})
			got := ok
			if err != nil {
				got = store.KindOf(err)
			}
			if got != tt.want || ran != (tt.want == ok) {
				t.Errorf("kind %d, ran %v, %v; want kind %d", got, ran, err, tt.want)
			}
		})
	}
	p := newPair(t, echo, setup{})
	if _, err := p.Do(t.Context(), &rpc.Request{Method: 999}); store.KindOf(err) != store.KindInvalid || !strings.Contains(err.Error(), "999") {
		t.Errorf("unknown method: %v", err)
	}
}

func TestLimitsOfCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		reg := prometheus.NewRegistry()
		p := newPair(t, func(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
			<-release
			return &rpc.Response{}, nil
		}, setup{server: rpc.ServerConfig{MaxInFlight: 3, MaxBlocking: 2, Registerer: reg}, client: rpc.ClientConfig{MaxInFlight: 20}})
		var wg sync.WaitGroup
		var fine, refused atomic.Int32
		start := func(n int, index store.Index) {
			for range n {
				wg.Go(func() {
					_, err := p.Do(t.Context(), &rpc.Request{Method: rpc.KVGet, MinIndex: index})
					switch {
					case err == nil:
						fine.Add(1)
					case store.KindOf(err) == store.KindRateLimited:
						refused.Add(1)
					default:
						t.Errorf("got %v", err)
					}
				})
				synctest.Wait()
			}
		}
		start(4, 0)
		start(4, 7)
		close(release)
		wg.Wait()
		if fine.Load() != 5 || refused.Load() != 3 {
			t.Errorf("%d ran, %d refused; want 5 and 3", fine.Load(), refused.Load())
		}
		want := `
# HELP landbridge_rpc_server_refused_total Calls and streams refused before they ran: calls (too many run), bytes (requests hold too much memory), streams, stopping, denied, protocol.
# TYPE landbridge_rpc_server_refused_total counter
landbridge_rpc_server_refused_total{reason="bytes"} 0
landbridge_rpc_server_refused_total{reason="calls"} 3
landbridge_rpc_server_refused_total{reason="denied"} 0
landbridge_rpc_server_refused_total{reason="protocol"} 0
landbridge_rpc_server_refused_total{reason="stopping"} 0
landbridge_rpc_server_refused_total{reason="streams"} 0
`
		if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "landbridge_rpc_server_refused_total"); err != nil {
			t.Error(err)
		}
		if _, err := p.Do(t.Context(), &rpc.Request{Method: rpc.KVGet}); err != nil {
			t.Errorf("a call after the crowd: %v", err)
		}
	})
	t.Run("client", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newPair(t, hang, setup{client: rpc.ClientConfig{MaxInFlight: 1}})
			ctx, cancel := context.WithCancel(t.Context())
			go p.Do(ctx, &rpc.Request{Method: rpc.KVGet})
			synctest.Wait()
			_, err := p.Do(ctx, &rpc.Request{Method: rpc.KVGet})
			if store.KindOf(err) != store.KindRateLimited || !strings.Contains(err.Error(), "n1") {
				t.Errorf("got %v", err)
			}
			cancel()
		})
	})
}

func TestLimitsOfBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		p := newPair(t, func(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
			if len(req.Body) > 0 {
				<-release
			}
			return &rpc.Response{Body: make([]byte, 2000)}, nil
		}, setup{server: rpc.ServerConfig{MaxBytes: 300 << 10, MaxBody: 1000}})
		write := func(n int) error {
			_, err := p.Do(t.Context(), &rpc.Request{Method: rpc.KVApply, Body: make([]byte, n)})
			return err
		}
		held := make(chan error)
		go func() { held <- write(200 << 10) }()
		synctest.Wait()
		if err := write(200 << 10); store.KindOf(err) != store.KindRateLimited {
			t.Errorf("a request over the server's memory: %v", err)
		}
		if err := write(20 << 20); store.KindOf(err) != store.KindTooLarge {
			t.Errorf("a request over the largest: %v", err)
		}
		if err := write(0); store.KindOf(err) != store.KindTooLarge || !strings.Contains(err.Error(), "2000") {
			t.Errorf("an answer over the largest: %v", err)
		}
		close(release)
		<-held
	})
}

// Stopping a server lets calls under way finish, refuses new ones as not run,
// and ends those that take too long.
func TestServerStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, func(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
			select {
			case <-time.After(req.Wait):
				return &rpc.Response{Index: 1}, nil
			case <-ctx.Done():
				return nil, store.Errorf(store.KindUnreachable, "ended early")
			}
		}, setup{client: rpc.ClientConfig{PingEvery: -1}})
		got := map[string]error{}
		var mu sync.Mutex
		var wg sync.WaitGroup
		call := func(name string, wait time.Duration, size int) {
			wg.Go(func() {
				_, err := p.Do(t.Context(), &rpc.Request{Method: rpc.KVApply, Wait: wait, Body: make([]byte, size)})
				mu.Lock()
				got[name] = err
				mu.Unlock()
			})
		}
		call("short", 500*time.Millisecond, 0)
		call("long", time.Hour, 0)
		call("long on its stream", time.Hour, 100<<10)
		synctest.Wait()
		begin := time.Now()
		p.stop()
		synctest.Wait()
		call("late", 0, 0)
		wg.Wait()
		if err := <-p.ended; !errors.Is(err, context.Canceled) {
			t.Errorf("ServeSession returned %v", err)
		}
		if took := time.Since(begin); took != time.Second {
			t.Errorf("took %v, want the drain time of 1s", took)
		}
		if got["short"] != nil {
			t.Errorf("short: %v", got["short"])
		}
		for _, name := range []string{"long", "long on its stream"} {
			if err := got[name]; err == nil || err.Error() != "ended early" {
				t.Errorf("%s: %v, want the handler's last words", name, err)
			}
		}
		if err := got["late"]; store.KindOf(err) != store.KindUnreachable || !strings.Contains(err.Error(), "stopping") {
			t.Errorf("late: %v", err)
		}
	})
}

// A call that comes when its server has begun to stop was not run, and its caller
// is told so, also on a session that was opened just before.
func TestCallsOfAStoppingServer(t *testing.T) {
	calls := map[string]*rpc.Request{
		"in a lane":       {Method: rpc.KVApply},
		"on its stream":   {Method: rpc.KVApply, Body: make([]byte, 1<<20)},
		"stream of bytes": {Method: rpc.SnapshotSave},
	}
	for name, req := range calls {
		for _, before := range []bool{true, false} { // a call that went well
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, echo, setup{delay: 5 * time.Millisecond, client: rpc.ClientConfig{PingEvery: -1}})
				if before {
					if _, err := p.Do(t.Context(), &rpc.Request{Method: rpc.KVApply}); err != nil {
						t.Fatal(err)
					}
				}
				begin := time.Now()
				p.stop()
				_, err := p.Do(t.Context(), req)
				if store.KindOf(err) != store.KindUnreachable || !strings.Contains(err.Error(), "stopping") {
					t.Errorf("%s, after another call %v: %v", name, before, err)
				}
				<-p.ended
				p.ended <- nil
				if took := time.Since(begin); took > 50*time.Millisecond {
					t.Errorf("%s, after another call %v: the server took %v to stop", name, before, took)
				}
			})
		}
	}
}

// A session that nobody used holds its server up for a moment only.
func TestUnusedSessionOfAStoppingServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, echo, setup{client: rpc.ClientConfig{PingEvery: -1}})
		begin := time.Now()
		p.stop()
		<-p.ended
		p.ended <- nil
		if took := time.Since(begin); took > 100*time.Millisecond {
			t.Errorf("the server took %v to stop", took)
		}
	})
}

// A caller that does not read, or leaves in the middle of a bulky answer, keeps
// nothing of the server.
func TestBulkyAnswerAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, func(context.Context, *rpc.Request) (*rpc.Response, error) {
			return &rpc.Response{Body: make([]byte, 10<<20)}, nil
		}, setup{delay: 10 * time.Millisecond, client: rpc.ClientConfig{PingEvery: -1}})
		if _, err := p.Do(t.Context(), &rpc.Request{Method: rpc.KVList}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 25*time.Millisecond)
		defer cancel()
		if _, err := p.Do(ctx, &rpc.Request{Method: rpc.KVList}); store.KindOf(err) != store.KindTimeout {
			t.Errorf("got %v", err)
		}
		time.Sleep(100 * time.Millisecond)
		p.stop()
		begin := time.Now()
		<-p.ended
		if took := time.Since(begin); took > 20*time.Millisecond {
			t.Errorf("an abandoned answer held the server for %v", took)
		}
		p.ended <- nil
	})
}

// raw plays a client that does not follow the rules.
func raw(t *testing.T, cfg rpc.ServerConfig) (*rpctest.Link, func()) {
	l := rpctest.NewLink(0)
	cfg.Handler = rpc.DoerFunc(echo)
	srv := rpc.NewServer(cfg)
	done := make(chan struct{})
	go func() { defer close(done); srv.ServeSession(context.Background(), l.B, rpc.FromLAN, "") }()
	return l, func() { l.A.CloseWithCause(errors.New("test is over")); <-done }
}

func TestHostileStreams(t *testing.T) {
	header := func(id uint32, typ byte, n uint32) string {
		return string([]byte{byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id), typ, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
	}
	for _, tt := range []struct{ name, bytes, want string }{
		{"unknown kind", "\x09\x01", "kind 9"},
		{"newer version", "\x01\x07", "version 7"},
		{"huge frame in a lane", "\x01\x01" + header(1, 1, 1<<31), "at most"},
		{"huge request", "\x02\x01" + header(1, 1, 1<<31), "at most"},
		{"no request", "\x02\x01" + header(1, 2, 0), "instead of a request"},
		{"id 0", "\x01\x01" + header(0, 1, 0), "id 0"},
		{"silent", "\x01", ""},
		{"stops inside a request", "\x02\x01" + header(1, 1, 1<<20) + "abc", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, stop := raw(t, rpc.ServerConfig{})
				defer stop()
				c, err := l.A.OpenStream(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprint(c, tt.bytes)
				begin := time.Now()
				var got bytes.Buffer
				got.ReadFrom(c)
				if !strings.Contains(got.String(), tt.want) {
					t.Errorf("answer %q does not say %q", got.String(), tt.want)
				}
				if tt.want == "" && time.Since(begin) != 10*time.Second {
					t.Errorf("the stream was held %v, want 10s", time.Since(begin))
				}
				c.Close()
			})
		})
	}
}

func TestTooManyStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, stop := raw(t, rpc.ServerConfig{})
		defer stop()
		const most = 1024
		for i := range most + 1 {
			c, err := l.A.OpenStream(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			c.Write([]byte{2, 1}) // a call that never comes
			if i < most-1 {
				continue
			}
			synctest.Wait()
			c.SetReadDeadline(time.Now().Add(time.Millisecond))
			_, err = c.Read(make([]byte, 1))
			if open := errors.Is(err, os.ErrDeadlineExceeded); open != (i < most) {
				t.Errorf("stream %d: %v", i+1, err)
			}
		}
	})
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	rpc.NewServer(rpc.ServerConfig{Handler: rpc.DoerFunc(echo), Registerer: reg})
	rpc.NewClientMetrics(reg)
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
	// The series of a method come with its first call, the families exist before.
	for _, name := range []string{"landbridge_rpc_server_calls_total", "landbridge_rpc_server_seconds"} {
		if n, err := testutil.GatherAndCount(reg, name); err != nil || n != 1 {
			t.Errorf("%d series of %s, %v; want those of unknown methods", n, name, err)
		}
	}
}

// A server hears whose session ended, if it was not the server that ended it.
func TestLostSessionsHaveNames(t *testing.T) {
	for _, tt := range []struct {
		name   string
		origin rpc.Origin
		self   string
		end    func(p *pair)
		want   string
	}{
		{"the agent ends", rpc.FromLAN, "c1", func(p *pair) { p.Client.Close() }, "c1"},
		{"the connection breaks", rpc.FromLAN, "c1", func(p *pair) { p.link.A.CloseWithCause(errors.New("broken")) }, "c1"},
		{"the server stops", rpc.FromLAN, "c1", func(p *pair) { p.stop() }, ""},
		{"another datacenter's", rpc.FromWAN, "c1", func(p *pair) { p.Client.Close() }, ""},
		{"without a name", rpc.FromLAN, "", func(p *pair) { p.Client.Close() }, ""},
		{"a name too long", rpc.FromLAN, strings.Repeat("x", 200), func(p *pair) { p.Client.Close() }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var lost atomic.Pointer[string]
				p := newPair(t, echo, setup{origin: tt.origin, client: rpc.ClientConfig{Self: tt.self},
					server: rpc.ServerConfig{Lost: func(agent string) { lost.Store(&agent) }}})
				for range 2 { // the name is no request, and disturbs none
					if resp, err := p.Do(t.Context(), &rpc.Request{Method: rpc.KVGet, Body: []byte("x")}); err != nil || string(resp.Body) != "x" {
						t.Fatalf("%+v, %v", resp, err)
					}
				}
				synctest.Wait()
				if lost.Load() != nil {
					t.Fatal("lost while it goes on")
				}
				tt.end(p)
				<-p.ended
				p.ended <- nil
				got := ""
				if l := lost.Load(); l != nil {
					got = *l
				}
				if got != tt.want {
					t.Errorf("lost %q, want %q", got, tt.want)
				}
			})
		})
	}
}
