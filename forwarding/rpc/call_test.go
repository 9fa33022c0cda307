package rpc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"landbridge/forwarding/rpc"
	"landbridge/forwarding/rpc/rpctest"
	"landbridge/store"
)

// pair is a client and a server over a link in memory.
type pair struct {
	*rpc.Client
	link  *rpctest.Link
	stop  context.CancelFunc // of the server
	ended chan error         // what ServeSession returned
}

type setup struct {
	delay  time.Duration
	client rpc.ClientConfig
	server rpc.ServerConfig
	origin rpc.Origin
	peer   string
}

func newPair(t *testing.T, do rpc.DoerFunc, s setup) *pair {
	t.Helper()
	p := &pair{link: rpctest.NewLink(s.delay), ended: make(chan error, 1)}
	var ctx context.Context
	ctx, p.stop = context.WithCancel(context.Background())
	s.server.Handler = do
	if s.client.Name == "" {
		s.client.Name = "n1"
	}
	srv := rpc.NewServer(s.server)
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.ended <- srv.ServeSession(ctx, p.link.B, s.origin, s.peer)
	}()
	p.Client = rpc.NewClient(p.link.A, s.client)
	t.Cleanup(func() {
		p.Client.Close()
		p.stop()
		<-done
	})
	return p
}

func echo(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
	return &rpc.Response{Index: 7, KnownLeader: true, Body: req.Body}, nil
}

func TestRequestAndAnswerArriveWhole(t *testing.T) {
	want := rpc.Request{
		Method: rpc.KVGet, Datacenter: "east", Token: "t", Consistency: store.Stale, MaxStale: time.Second,
		MinIndex: 9, Wait: time.Minute, Filter: "a == b", Representation: rpc.Records, TranslateWAN: true,
		SourceDC: "west", Hops: 2, Body: []byte("body"),
		Query: store.Query{Name: "k", Tags: []string{"x", ""}, NodeMeta: map[string]string{"a": "b"}, PassingOnly: true, Separator: "/", Near: "_agent"},
	}
	answer := rpc.Response{Index: 3, KnownLeader: true, LastContact: time.Millisecond, Effective: store.Stale, NotFound: true, Filtered: true, Conflict: true, Body: []byte("answer")}
	var got rpc.Request
	p := newPair(t, func(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
		got = *req
		return &answer, nil
	}, setup{origin: rpc.FromWAN, peer: "n2.west"})
	resp, err := p.Do(t.Context(), &want)
	if err != nil {
		t.Fatal(err)
	}
	want.Origin, want.Peer = rpc.FromWAN, "n2.west"
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("request (-want +got):\n%s", d)
	}
	if d := cmp.Diff(&answer, resp); d != "" {
		t.Errorf("answer (-want +got):\n%s", d)
	}
}

// Sizes around every border: lane frame, own stream, answer stream.
func TestBodiesOfAllSizes(t *testing.T) {
	for _, compress := range []bool{false, true} {
		p := newPair(t, echo, setup{client: rpc.ClientConfig{Lanes: 3, Compress: compress}})
		for _, n := range []int{0, 1, 1000, 1 << 10, 16<<10 - 30, 16 << 10, 32<<10 - 20, 32 << 10, 32<<10 + 1, 64 << 10, 300 << 10, 3 << 20} {
			body := bytes.Repeat([]byte(fmt.Sprint(n, " ")), n/2+1)[:n]
			resp, err := p.Do(t.Context(), &rpc.Request{Method: rpc.KVApply, Body: body})
			if err != nil {
				t.Fatalf("%d bytes, compress %v: %v", n, compress, err)
			}
			if !bytes.Equal(resp.Body, body) {
				t.Errorf("%d bytes, compress %v: body differs", n, compress)
			}
		}
	}
}

func TestErrorsKeepTheirKind(t *testing.T) {
	custom := store.Errorf(store.KindConflict, "index 3 is not 4")
	for _, tt := range []struct {
		name string
		err  error
		is   error
		text string
	}{
		{"sentinel", store.ErrNoLeader, store.ErrNoLeader, "No cluster leader"},
		{"wrapped sentinel", fmt.Errorf("dc east: %w", store.ErrNoLeader), store.ErrNoLeader, "dc east: No cluster leader"},
		{"own", custom, custom, "index 3 is not 4"},
		{"any of the kind", custom, &store.Error{Kind: store.KindConflict}, "index 3 is not 4"},
		{"plain", errors.New("disk"), &store.Error{Kind: store.KindInternal}, "disk"},
		{"deadline", context.DeadlineExceeded, &store.Error{Kind: store.KindTimeout}, "context deadline exceeded"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPair(t, func(context.Context, *rpc.Request) (*rpc.Response, error) { return nil, tt.err }, setup{})
			for _, size := range []int{0, 100 << 10} { // lane and stream
				_, err := p.Do(t.Context(), &rpc.Request{Method: rpc.KVApply, Body: make([]byte, size)})
				if !errors.Is(err, tt.is) || err.Error() != tt.text {
					t.Errorf("got %v (kind %d), want %v", err, store.KindOf(err), tt.is)
				}
			}
		})
	}
}

func TestManyAtOnce(t *testing.T) {
	p := newPair(t, echo, setup{client: rpc.ClientConfig{Lanes: 4}})
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			for j := range 50 {
				body := bytes.Repeat([]byte{byte(i), byte(j)}, 1+(i*j)%20000)
				resp, err := p.Do(t.Context(), &rpc.Request{Method: rpc.KVApply, Body: body})
				if err != nil || !bytes.Equal(resp.Body, body) {
					t.Errorf("call %d/%d: %v", i, j, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if n := p.InFlight(); n != 0 {
		t.Errorf("%d calls in flight after all have ended", n)
	}
}

func TestDeadlineTravels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		left := make(chan time.Duration, 1)
		p := newPair(t, func(ctx context.Context, _ *rpc.Request) (*rpc.Response, error) {
			at, ok := ctx.Deadline()
			if !ok {
				t.Error("the server's context has no deadline")
			}
			left <- time.Until(at)
			<-ctx.Done()
			return nil, ctx.Err()
		}, setup{delay: 20 * time.Millisecond})
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		begin := time.Now()
		_, err := p.Do(ctx, &rpc.Request{Method: rpc.KVGet})
		if store.KindOf(err) != store.KindTimeout || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "n1") {
			t.Errorf("got %v, want a timeout that names n1", err)
		}
		if took := time.Since(begin); took != 300*time.Millisecond {
			t.Errorf("took %v, want 300ms", took)
		}
		if got := <-left; got != 285*time.Millisecond {
			t.Errorf("server had %v, want 285ms: a twentieth stays here to say who was late", got)
		}
	})
}

func TestCallerGoneStopsTheServer(t *testing.T) {
	for _, size := range []int{0, 100 << 10} {
		synctest.Test(t, func(t *testing.T) {
			ended := make(chan error, 1)
			p := newPair(t, func(ctx context.Context, _ *rpc.Request) (*rpc.Response, error) {
				child, cancel := context.WithTimeout(ctx, time.Hour)
				defer cancel()
				<-child.Done()
				ended <- ctx.Err()
				return nil, ctx.Err()
			}, setup{delay: 10 * time.Millisecond})
			ctx, cancel := context.WithCancel(t.Context())
			go func() { time.Sleep(time.Second); cancel() }()
			_, err := p.Do(ctx, &rpc.Request{Method: rpc.KVApply, Body: make([]byte, size)})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("caller got %v", err)
			}
			begin := time.Now()
			if got := <-ended; got != context.Canceled {
				t.Errorf("server's context: %v", got)
			}
			if took := time.Since(begin); took != 10*time.Millisecond {
				t.Errorf("size %d: the server ended %v later, want one way of 10ms (caller at %v)", size, took, begin)
			}
		})
	}
}

// What a call gets when its session dies says whether it may be sent again.
func TestSessionDies(t *testing.T) {
	for _, tt := range []struct {
		name   string
		method rpc.MethodID
		size   int
		kind   store.Kind
	}{
		{"read", rpc.KVGet, 0, store.KindUnreachable},
		{"write", rpc.KVApply, 0, store.KindMaybeApplied},
		{"large write", rpc.KVApply, 100 << 10, store.KindMaybeApplied},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, func(ctx context.Context, _ *rpc.Request) (*rpc.Response, error) {
					<-ctx.Done()
					return nil, ctx.Err()
				}, setup{client: rpc.ClientConfig{PingEvery: -1, Addr: "10.0.0.1:8300"}})
				cause := errors.New("cable cut")
				go func() { time.Sleep(time.Second); p.link.B.CloseWithCause(cause) }()
				begin := time.Now()
				_, err := p.Do(t.Context(), &rpc.Request{Method: tt.method, Body: make([]byte, tt.size)})
				if store.KindOf(err) != tt.kind || !strings.Contains(err.Error(), "n1 (10.0.0.1:8300)") || !strings.Contains(err.Error(), "cable cut") {
					t.Errorf("got kind %d, %v", store.KindOf(err), err)
				}
				if took := time.Since(begin); took != time.Second {
					t.Errorf("took %v, want 1s: at once", took)
				}
				synctest.Wait()
				select {
				case <-p.Done():
				default:
					t.Error("client is not done")
				}
				_, err = p.Do(t.Context(), &rpc.Request{Method: tt.method, Body: make([]byte, tt.size)})
				if store.KindOf(err) != store.KindUnreachable {
					t.Errorf("afterwards: kind %d, %v", store.KindOf(err), err)
				}
			})
		})
	}
}

// A write that never left may be sent elsewhere.
func TestNotSentIsUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, echo, setup{client: rpc.ClientConfig{PingEvery: 250 * time.Millisecond}})
		if _, err := p.Do(t.Context(), &rpc.Request{Method: rpc.KVGet}); err != nil {
			t.Fatal(err)
		}
		p.link.Stall(true)
		// These fill the stream's window and the writer is stuck in it.
		var wg sync.WaitGroup
		var maybe, unsent atomic.Int32
		for range 40 {
			wg.Go(func() {
				_, err := p.Do(t.Context(), &rpc.Request{Method: rpc.KVApply, Body: make([]byte, 30<<10)})
				switch store.KindOf(err) {
				case store.KindMaybeApplied:
					maybe.Add(1)
				case store.KindUnreachable:
					unsent.Add(1)
				default:
					t.Errorf("got %v", err)
				}
			})
			synctest.Wait()
		}
		begin := time.Now()
		wg.Wait()
		if took := time.Since(begin); took > 1001*time.Millisecond || took < 750*time.Millisecond {
			t.Errorf("noticed after %v, want four intervals of 250ms at most", took)
		}
		if maybe.Load() == 0 || unsent.Load() == 0 {
			t.Errorf("%d perhaps applied, %d not sent: want some of each", maybe.Load(), unsent.Load())
		}
	})
}
