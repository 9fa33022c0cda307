package forwarding

import (
	"context"
	"errors"
	"log/slog"
	"strings"
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

func TestRequestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		x := NewLimiter(RequestLimits{}, slog.New(slog.NewTextHandler(&log, nil)), prometheus.NewRegistry())
		admitted := func(n int, m rpc.MethodID, kind store.Kind) (got int) {
			t.Helper()
			for range n {
				switch err := x.Admit(&rpc.Request{Method: m, Peer: "10.0.0.9", Token: "secret"}); {
				case err == nil:
					got++
				case store.KindOf(err) != kind:
					t.Errorf("%d: %v, want kind %d", m, err, kind)
				}
			}
			return got
		}
		for _, step := range []struct {
			name   string
			limits RequestLimits
			method rpc.MethodID
			kind   store.Kind
			want   int // of 100
		}{
			{"disabled", RequestLimits{ReadRate: 5, WriteRate: 5}, rpc.KVGet, 0, 100},
			{"permissive", RequestLimits{Mode: LimitPermissive, ReadRate: 5, WriteRate: 5}, rpc.KVGet, 0, 100},
			{"reads", RequestLimits{Mode: LimitEnforcing, ReadRate: 5, WriteRate: -1}, rpc.KVGet, store.KindRateLimited, 5},
			{"reads, writes have no limit", RequestLimits{Mode: LimitEnforcing, ReadRate: 5, WriteRate: -1}, rpc.KVApply, 0, 100},
			{"writes", RequestLimits{Mode: LimitEnforcing, ReadRate: -1, WriteRate: 7}, rpc.KVApply, store.KindBusy, 7},
			{"part of one a second", RequestLimits{Mode: LimitEnforcing, ReadRate: 0.5, WriteRate: 7}, rpc.KVGet, store.KindRateLimited, 1},
			{"pings", RequestLimits{Mode: LimitEnforcing, ReadRate: 1, WriteRate: 1}, rpc.Ping, 0, 100},
			{"between servers", RequestLimits{Mode: LimitEnforcing, ReadRate: 1, WriteRate: 1}, rpc.TrustSignServer, 0, 100},
		} {
			time.Sleep(time.Minute)
			x.Reload(step.limits)
			if got := admitted(100, step.method, step.kind); got != step.want {
				t.Errorf("%s: %d of 100 run, want %d", step.name, got, step.want)
			}
		}
		if n := testutil.ToFloat64(x.read[0]); n != 95 {
			t.Errorf("%v let through over the limit, want 95", n)
		}
		if n := testutil.ToFloat64(x.read[1]); n != 95+99 {
			t.Errorf("%v reads refused, want 194", n)
		}
		// Once a second at most, and without secrets.
		if n := strings.Count(log.String(), "\n"); n != 4 || strings.Contains(log.String(), "secret") {
			t.Errorf("logged %d lines: %s", n, log.String())
		}
	})
}

func TestParseLimitMode(t *testing.T) {
	for _, m := range []LimitMode{LimitDisabled, LimitPermissive, LimitEnforcing} {
		if got, err := ParseLimitMode(m.String()); err != nil || got != m {
			t.Errorf("%v: %v, %v", m, got, err)
		}
	}
	if _, err := ParseLimitMode("strict"); err == nil || !strings.Contains(err.Error(), `"strict"`) {
		t.Errorf("%v", err)
	}
}

// limits.rpc_rate bounds what a client agent sends, and nothing on servers.
func TestRPCRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.servers = []Peer{{Name: "s1"}}
		w.leader = "self"
		for _, server := range []bool{false, true} {
			d := w.dispatcher(t, server, false)
			d.Reload(Limits{ClientTimeout: time.Minute, RPCRate: 10, RPCBurst: 3})
			sent := 0
			for range 20 {
				switch _, err := d.Do(t.Context(), &read); {
				case err == nil:
					sent++
				case !errors.Is(err, store.ErrRPCRate):
					t.Fatal(err)
				}
			}
			if want := map[bool]int{false: 3, true: 20}[server]; sent != want {
				t.Errorf("server %v: %d sent, want %d", server, sent, want)
			}
			time.Sleep(100 * time.Millisecond)
			if _, err := d.Do(t.Context(), &read); err != nil {
				t.Errorf("server %v, later: %v", server, err)
			}
		}
	})
}

// A server that takes no more is not at fault: only the request goes to another
// one, and one that only the leader can take waits for it.
func TestBusyServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.servers = []Peer{{Name: "s1"}, {Name: "s2"}, {Name: "s3"}}
		full := fails(store.KindRateLimited, "full")
		d := w.dispatcher(t, false, false)
		w.answer["s1"] = full
		if _, err := d.Do(t.Context(), &stale); err != nil || w.trace() != "s1 s2" {
			t.Errorf("tried %q: %v", w.trace(), err)
		}
		w.answer["s2"], w.calls = full, nil
		start := time.Now()
		if _, err := d.Do(t.Context(), &stale); store.KindOf(err) != store.KindRateLimited || w.trace() != "s1 s2" || time.Since(start) > 50*time.Millisecond {
			t.Errorf("tried %q for %v: %v; want two servers and no long wait", w.trace(), time.Since(start), err)
		}
		w.servers, w.calls = w.servers[:1], nil
		if _, err := d.Do(t.Context(), &stale); store.KindOf(err) != store.KindRateLimited || w.trace() != "s1" {
			t.Errorf("tried %q: %v; want the only server once", w.trace(), err)
		}
		if w.servers[0].Name != "s1" {
			t.Errorf("the servers are %v: a limit made one less preferred", w.servers)
		}
		start = time.Now()
		var busy atomic.Bool
		busy.Store(true)
		var last time.Time
		soonest := time.Hour
		w.answer["s1"] = func(context.Context, *rpc.Request) (*rpc.Response, error) {
			if time.Since(start) < 7*time.Second { // the last attempt comes when there is no more time
				soonest = min(soonest, time.Since(last))
			}
			last = time.Now()
			if busy.Load() {
				return nil, store.Errorf(store.KindBusy, "busy")
			}
			return &rpc.Response{}, nil
		}
		time.AfterFunc(3*time.Second, func() { busy.Store(false) })
		if _, err := d.Do(t.Context(), &write); err != nil || time.Since(start) < 3*time.Second || time.Since(start) > 5*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		busy.Store(true)
		start, last = time.Now(), time.Time{}
		if _, err := d.Do(t.Context(), &write); store.KindOf(err) != store.KindBusy || time.Since(start) != 7*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		if soonest < busyPause/2 {
			t.Errorf("the leader was asked again after %v", soonest)
		}
	})
}

// What the leader takes no more of, a follower asks it for once more, after a while:
// there is no other leader.
func TestLeaderOverItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		ours, theirs := rpctest.Pipe()
		srv := rpc.NewServer(rpc.ServerConfig{
			Handler: rpc.DoerFunc(func(context.Context, *rpc.Request) (*rpc.Response, error) {
				asked++
				return nil, store.Errorf(store.KindRateLimited, "full")
			}),
			Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
		})
		served := make(chan error)
		go func() { served <- srv.ServeSession(t.Context(), theirs, rpc.FromLAN, "s1") }()
		client := rpc.NewClient(ours, rpc.ClientConfig{Name: "s2", Lanes: 1})
		w := newWorld()
		w.leader = "s2"
		w.answer["s2"] = client.Do
		start := time.Now()
		_, err := w.dispatcher(t, true, false).Do(t.Context(), &read)
		if took := time.Since(start); store.KindOf(err) != store.KindRateLimited || asked != 2 || took < busyPause/2 || took > 2*busyPause {
			t.Errorf("%d calls in %v, %v; want two in about %v, and their answer", asked, took, err, busyPause)
		}
		_ = client.Close()
		<-served
	})
}
