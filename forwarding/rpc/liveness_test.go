package rpc_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

func hang(ctx context.Context, _ *rpc.Request) (*rpc.Response, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// A peer that stops answering is noticed by the pings; how soon follows the
// round trip. Own streams and blocking queries are watched like small calls.
func TestSilentPeerIsGivenUp(t *testing.T) {
	for _, tt := range []struct {
		name     string
		oneWay   time.Duration
		size     int
		min, max time.Duration
	}{
		{"lan", 0, 0, 750 * time.Millisecond, time.Second},
		{"lan, own stream", 0, 100 << 10, 750 * time.Millisecond, time.Second},
		{"wan, 100 ms", 50 * time.Millisecond, 0, 750 * time.Millisecond, time.Second},
		{"far, 400 ms", 200 * time.Millisecond, 0, 3 * 800 * time.Millisecond, 4 * 800 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, hang, setup{delay: tt.oneWay, client: rpc.ClientConfig{Lanes: 3}})
				go func() { time.Sleep(10 * time.Second); p.link.Stall(true) }()
				begin := time.Now()
				_, err := p.Do(t.Context(), &rpc.Request{Method: rpc.KVGet, MinIndex: 5, Body: make([]byte, tt.size)})
				if store.KindOf(err) != store.KindUnreachable {
					t.Errorf("got %v", err)
				}
				if took := time.Since(begin) - 10*time.Second; took < tt.min || took > tt.max {
					t.Errorf("noticed after %v, want %v to %v", took, tt.min, tt.max)
				}
				if got := p.RTT(); got != 2*tt.oneWay && tt.oneWay > 0 {
					t.Errorf("round trip is %v, want %v", got, 2*tt.oneWay)
				}
				synctest.Wait()
				if p.Err() == nil {
					t.Error("the client goes on")
				}
			})
		})
	}
}

// A pause shorter than three pings harms nobody, and nothing is sent when no
// call waits, so that a frozen idle peer stays connected.
func TestShortSilenceAndIdleness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, func(ctx context.Context, _ *rpc.Request) (*rpc.Response, error) {
			time.Sleep(5 * time.Second)
			return &rpc.Response{}, nil
		}, setup{})
		go func() {
			time.Sleep(time.Second)
			p.link.Stall(true)
			time.Sleep(600 * time.Millisecond)
			if n := p.Missed(); n < 1 || n > 2 {
				t.Errorf("%d pings missed after 600ms", n)
			}
			p.link.Stall(false)
		}()
		if _, err := p.Do(t.Context(), &rpc.Request{Method: rpc.KVGet}); err != nil {
			t.Fatal(err)
		}
		if n := p.Missed(); n != 0 {
			t.Errorf("%d pings missed after an answer", n)
		}
		time.Sleep(time.Second)
		p.link.Stall(true)
		time.Sleep(time.Hour)
		if err := p.Err(); err != nil {
			t.Errorf("idle session was given up: %v", err)
		}
		p.link.Stall(false)
		if _, err := p.Do(t.Context(), &rpc.Request{Method: rpc.KVGet}); err != nil {
			t.Error(err)
		}
	})
}

// A first round trip longer than an interval is not silence.
func TestFarPeerBeforeItsRoundTripIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, echo, setup{delay: 350 * time.Millisecond})
		if _, err := p.Do(t.Context(), &rpc.Request{Method: rpc.KVGet}); err != nil {
			t.Errorf("700ms away: %v", err)
		}
		q := newPair(t, echo, setup{delay: time.Second, client: rpc.ClientConfig{RTT: func() time.Duration { return 2 * time.Second }}})
		if _, err := q.Do(t.Context(), &rpc.Request{Method: rpc.KVGet}); err != nil {
			t.Errorf("2s away, as the transport knows: %v", err)
		}
	})
}

func TestPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		p := newPair(t, func(context.Context, *rpc.Request) (*rpc.Response, error) {
			asked.Add(1)
			return nil, store.ErrNoLeader
		}, setup{delay: 30 * time.Millisecond})
		begin := time.Now()
		if err := p.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took != 60*time.Millisecond || p.RTT() != took || asked.Load() != 0 {
			t.Errorf("took %v, RTT %v, handler asked %d times", took, p.RTT(), asked.Load())
		}
		p.link.Stall(true)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := p.Ping(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}
