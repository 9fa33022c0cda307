package forwarding

import (
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func TestBucketsOfLatency(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(int64(8*time.Microsecond), int64(time.Minute)).Draw(t, "d"))
		b := bucketOf(d)
		if up := upper(b); d > up || d < up*7/9-time.Microsecond {
			t.Fatalf("%s is in bucket %d, which ends at %s", d, b, up)
		}
	})
	for _, d := range []time.Duration{-1, 0, time.Nanosecond, time.Hour} {
		bucketOf(d) // no panic
	}
}

// The slowest fiftieth is learned, and unlearned when answers become faster.
func TestLatencyLearns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l latency
		if got := l.slow(time.Now(), 1); got != 0 {
			t.Errorf("knows %s before any answer", got)
		}
		learn := func(n int, d time.Duration) {
			for range n {
				l.add(d)
			}
		}
		learn(970, 80*time.Millisecond)
		learn(30, 400*time.Millisecond)
		time.Sleep(time.Second)
		if got := l.slow(time.Now(), 1); got < 400*time.Millisecond || got > 460*time.Millisecond {
			t.Errorf("98%% within %s, want some 400ms", got)
		}
		for range 4 {
			learn(latencyMemory, 80*time.Millisecond)
			time.Sleep(time.Second)
			l.slow(time.Now(), 1)
		}
		if got := l.slow(time.Now(), 1); got < 80*time.Millisecond || got > 95*time.Millisecond {
			t.Errorf("98%% within %s after many fast answers, want some 80ms", got)
		}
	})
}
