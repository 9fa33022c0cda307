package main

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// lanFailover is S8: for how long no write is acknowledged when the leader is
// killed, and when it leaves. The writes go through a follower.
func lanFailover(t *trial) {
	for _, fast := range []bool{false, true} {
		cl := t.lan(lanOptions{servers: 3, fast: fast})
		for range t.num(3, 1) {
			leader := cl.leader()
			w := t.startWriters(cl.follower())
			t.sleep(2 * time.Second)
			at := time.Now()
			leader.kill()
			t.add("kill -9 of the leader, "+tuning(fast), "no write acknowledged for", w.gap(at, 2*time.Second).Seconds(), "s", lower)
			leader.start()
			t.waitWritable(cl.servers, time.Minute)
			t.sleep(5 * time.Second) // it catches up and is a voter again
		}
		leader := cl.leader()
		w := t.startWriters(cl.follower())
		t.sleep(2 * time.Second)
		at := time.Now()
		left := make(chan struct{})
		go func() {
			defer close(left)
			_, _ = leader.request("PUT", "/v1/agent/leave", nil, 30*time.Second) // it may end before it answers
		}()
		// A leaver may hand over at once or only when it ends: 12 s show either.
		t.add("graceful leave of the leader, "+tuning(fast), "no write acknowledged for", w.gap(at, 12*time.Second).Seconds(), "s", lower)
		<-left
		stopAll(cl.all())
	}
}

// writers PUT through one node again and again, and try again quickly after errors.
type writers struct {
	t    *trial
	stop atomic.Bool
	wg   sync.WaitGroup
	mu   sync.Mutex // guards acks
	acks []time.Time
}

func (t *trial) startWriters(n *node) *writers {
	w := &writers{t: t}
	for id := range 8 {
		w.wg.Go(func() {
			c := n.client()
			defer c.Close()
			path := fmt.Sprintf("/v1/kv/failover/%d", id)
			for i := 0; !w.stop.Load() && t.ctx.Err() == nil; i++ {
				if c.put(path, value128(i), time.Second) != nil {
					time.Sleep(10 * time.Millisecond)
					continue
				}
				w.mu.Lock()
				w.acks = append(w.acks, time.Now())
				w.mu.Unlock()
				time.Sleep(2 * time.Millisecond) // steady, far from the limit
			}
		})
	}
	return w
}

func (w *writers) last() (last time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.acks) > 0 {
		last = w.acks[len(w.acks)-1]
	}
	return last
}

// gap waits until writes have flowed for a second, at least until after the event
// by that much, stops the writers, and returns the longest time without an
// acknowledgement since the event.
func (w *writers) gap(event time.Time, after time.Duration) time.Duration {
	const limit = time.Minute
	defer func() { w.stop.Store(true); w.wg.Wait() }()
	if w.last().IsZero() {
		w.t.failf("no write was acknowledged before the event")
	}
	var flowing time.Time // since when acknowledgements come steadily
	for flowing.IsZero() || time.Since(event) < after || time.Since(flowing) < time.Second {
		w.t.sleep(20 * time.Millisecond)
		switch {
		case time.Since(event) > limit:
			w.t.failf("writes did not come back within %s", limit)
		case time.Since(w.last()) > 300*time.Millisecond:
			flowing = time.Time{}
		case flowing.IsZero():
			flowing = time.Now()
		}
	}
	w.stop.Store(true)
	w.wg.Wait()
	return longestGap(w.acks, event)
}

// longestGap is the longest time between neighbouring acknowledgements of which the
// later came after the event.
func longestGap(acks []time.Time, event time.Time) (longest time.Duration) {
	acks = slices.SortedFunc(slices.Values(acks), time.Time.Compare)
	for i := 1; i < len(acks); i++ {
		if acks[i].After(event) {
			longest = max(longest, acks[i].Sub(acks[i-1]))
		}
	}
	return longest
}
