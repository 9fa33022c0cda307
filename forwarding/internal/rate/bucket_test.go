package rate

import (
	"math"
	"testing"
	"testing/synctest"
	"time"
)

func TestBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b Bucket
		take := func(l Limit, n int) (got int) {
			for range n {
				if b.Take(l) {
					got++
				}
			}
			return got
		}
		l := Limit{PerSecond: 10, Burst: 5}
		for _, step := range []struct {
			after time.Duration
			limit Limit
			want  int
		}{
			{0, l, 5}, {0, l, 0}, {100 * time.Millisecond, l, 1}, {time.Minute, l, 5},
			{200 * time.Millisecond, Limit{PerSecond: 100, Burst: 50}, 20}, // more from now on
			{0, Limit{}, 100}, {0, Limit{PerSecond: -1}, 100}, {0, Limit{PerSecond: math.Inf(1)}, 100}, // no limit
			{time.Minute, Limit{PerSecond: 1}, 1}, // a burst of 0 is one of 1
		} {
			time.Sleep(step.after)
			if got := take(step.limit, 100); got != step.want {
				t.Errorf("after %v with %+v: %d taken, want %d", step.after, step.limit, got, step.want)
			}
		}
	})
}

func TestReserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b Bucket
		l := Limit{PerSecond: 2, Burst: 2}
		for i, want := range []time.Duration{0, 0, 500 * time.Millisecond, time.Second} {
			if got := b.Reserve(l); got != want {
				t.Errorf("reservation %d waits %v, want %v", i, got, want)
			}
		}
		if got := b.Reserve(Limit{}); got != 0 {
			t.Errorf("without a limit: %v", got)
		}
	})
}
