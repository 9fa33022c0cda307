package endpoint

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

type outcome struct {
	resp *rpc.Response
	err  error
	took time.Duration
}

// begin runs a request in a goroutine that the bubble waits for.
func begin(ctx context.Context, s *Set, req *rpc.Request) <-chan outcome {
	ch := make(chan outcome, 1)
	start := time.Now()
	go func() {
		resp, err := s.Do(ctx, req)
		ch <- outcome{resp, err, time.Since(start)}
	}()
	synctest.Wait()
	return ch
}

func done(ch <-chan outcome) bool {
	synctest.Wait()
	return len(ch) > 0
}

func TestBlockingWakesOnItsKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newSet(t)
		idx := put(t, s, "k", "1")
		ch := begin(t.Context(), s, &rpc.Request{Method: rpc.KVGet, Query: store.Query{Name: "k"}, MinIndex: idx})
		put(t, s, "other", "x")
		put(t, s, "k", "1") // no change
		if done(ch) {
			t.Fatal("woken by another key, or by a write that changed nothing")
		}
		time.Sleep(10 * time.Second)
		now := put(t, s, "k", "2")
		o := <-ch
		if o.err != nil || o.resp.Index != now || o.took != 10*time.Second {
			t.Errorf("got %+v after %s, %v; want index %d after 10s", o.resp, o.took, o.err, now)
		}
	})
}

func TestBlockingOnAMissingKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newSet(t)
		put(t, s, "other", "1")
		first, err := s.Do(t.Context(), &rpc.Request{Method: rpc.KVGet, Query: store.Query{Name: "k"}})
		if err != nil || !first.NotFound {
			t.Fatalf("got %+v, %v", first, err)
		}
		ch := begin(t.Context(), s, &rpc.Request{Method: rpc.KVGet, Query: store.Query{Name: "k"}, MinIndex: first.Index})
		put(t, s, "k", "1")
		if o := <-ch; o.err != nil || o.resp.NotFound || o.resp.Index <= first.Index {
			t.Errorf("got %+v, %v", o.resp, o.err)
		}
	})
}

func TestBlockingEndsAtItsDeadline(t *testing.T) {
	for _, tc := range []struct {
		wait, want time.Duration
	}{
		{time.Second, time.Second},
		{0, store.DefaultQueryTime},
		{time.Hour, store.MaxQueryTime},
	} {
		synctest.Test(t, func(t *testing.T) {
			s, _ := newSet(t)
			idx := put(t, s, "k", "1")
			o := <-begin(t.Context(), s, &rpc.Request{Method: rpc.KVGet, Query: store.Query{Name: "k"}, MinIndex: idx + 1000, Wait: tc.wait})
			if o.err != nil || o.resp.Index != idx || len(o.resp.Body) == 0 {
				t.Errorf("wait %s: got %+v, %v; want the current value with index %d", tc.wait, o.resp, o.err, idx)
			}
			if o.took < tc.want || o.took > tc.want+tc.want/16+time.Millisecond {
				t.Errorf("wait %s: took %s, want %s and up to a 16th more", tc.wait, o.took, tc.want)
			}
		})
	}
}

func TestBlockingEndsWithLeadership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, raft := newSet(t)
		idx := put(t, s, "k", "1")
		req := func(c store.Consistency) *rpc.Request {
			return &rpc.Request{Method: rpc.KVGet, Query: store.Query{Name: "k"}, MinIndex: idx, Wait: time.Minute, Consistency: c}
		}
		def := begin(t.Context(), s, req(store.Default))
		con := begin(t.Context(), s, req(store.Consistent))
		stale := begin(t.Context(), s, req(store.Stale))
		time.Sleep(5 * time.Second)
		raft.lose()
		for name, ch := range map[string]<-chan outcome{"default": def, "consistent": con} {
			if o := <-ch; store.KindOf(o.err) != store.KindNoLeader || o.took != 5*time.Second {
				t.Errorf("%s: got %v after %s, want KindNoLeader after 5s", name, o.err, o.took)
			}
		}
		if done(stale) {
			t.Error("a stale query ended with the leadership")
		}
		if o := <-stale; o.err != nil || o.resp.KnownLeader {
			t.Errorf("stale: got %+v, %v", o.resp, o.err)
		}
	})
}

func TestBlockingEndsWithItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, raft := newSet(t)
		idx := put(t, s, "k", "1")
		req := &rpc.Request{Method: rpc.KVGet, Query: store.Query{Name: "k"}, MinIndex: idx}
		ctx, cancel := context.WithCancel(t.Context())
		ch := begin(ctx, s, req)
		if n := raft.state.Counts().Watches; n != 1 {
			t.Errorf("%d watches while one waits", n)
		}
		cancel()
		if o := <-ch; store.KindOf(o.err) != store.KindTimeout {
			t.Errorf("got %v, want KindTimeout", o.err)
		}
		if n := raft.state.Counts().Watches; n != 0 {
			t.Errorf("%d watches left", n)
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if o := <-begin(ctx, s, req); store.KindOf(o.err) != store.KindTimeout || o.took != time.Second {
			t.Errorf("got %v after %s, want KindTimeout after 1s", o.err, o.took)
		}
	})
}

func TestStopEndsBlocking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, raft := newSet(t)
		idx := put(t, s, "k", "1")
		var waiting []<-chan outcome
		for range 100 {
			waiting = append(waiting, begin(t.Context(), s, &rpc.Request{Method: rpc.KVGet, Query: store.Query{Name: "k"}, MinIndex: idx}))
		}
		s.Stop()
		s.Stop()
		for _, ch := range waiting {
			if o := <-ch; store.KindOf(o.err) != store.KindUnreachable {
				t.Fatalf("got %v, want KindUnreachable", o.err)
			}
		}
		if n := raft.state.Counts().Watches; n != 0 {
			t.Errorf("%d watches left", n)
		}
	})
}

// Followers of an index see every change they wait for and never one twice.
func TestFollowersSeeEveryChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newSet(t)
		const last = 50
		put(t, s, "k", "0")
		finished := make(chan error, 8)
		for range cap(finished) {
			go func() {
				var idx store.Index
				for {
					resp, err := s.Do(t.Context(), &rpc.Request{Method: rpc.KVGet, Representation: rpc.Raw, Query: store.Query{Name: "k"}, MinIndex: idx, Wait: time.Minute})
					switch {
					case err != nil:
						finished <- err
						return
					case resp.Index <= idx:
						finished <- fmt.Errorf("index %d after %d", resp.Index, idx)
						return
					case string(resp.Body) == fmt.Sprint(last):
						finished <- nil
						return
					}
					idx = resp.Index
				}
			}()
		}
		for i := 1; i <= last; i++ {
			time.Sleep(time.Millisecond)
			put(t, s, "k", fmt.Sprint(i))
		}
		for range cap(finished) {
			if err := <-finished; err != nil {
				t.Error(err)
			}
		}
	})
}
