package forwarding

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// latency learns how long answers take: a histogram that forgets. Buckets grow by
// an eighth, from microseconds to a minute.
type latency struct {
	count [latencyBuckets]atomic.Uint32
	total atomic.Uint32

	mu    sync.Mutex // of the reader that computes
	bound atomic.Int64
	next  atomic.Int64 // when it is computed again, Unix nanoseconds
}

const (
	latencyBuckets = 27 * 8
	// latencyMemory is how many answers are remembered: the older half goes when
	// there are more.
	latencyMemory = 4096
	// latencyEnough is how many answers there must be to say something about the
	// slowest fiftieth of them.
	latencyEnough = 50
)

func bucketOf(d time.Duration) int {
	us := uint64(max(d/time.Microsecond, 8))
	e := bits.Len64(us) - 4 // 8 to 15 us are 0
	return min(e*8+int(us>>e)-8, latencyBuckets-1)
}

// upper is the upper end of a bucket.
func upper(b int) time.Duration {
	return time.Duration(b%8+9) << (b / 8) * time.Microsecond
}

func (l *latency) add(d time.Duration) {
	l.count[bucketOf(d)].Add(1)
	l.total.Add(1)
}

// slow is what all but share in hedgeCost answers do not exceed, 0 if that is not
// known. It is computed now and then.
func (l *latency) slow(now time.Time, share int64) time.Duration {
	if now.UnixNano() < l.next.Load() || !l.mu.TryLock() {
		return time.Duration(l.bound.Load())
	}
	defer l.mu.Unlock()
	l.next.Store(now.Add(200 * time.Millisecond).UnixNano())
	total := l.total.Load()
	if total < latencyEnough {
		return time.Duration(l.bound.Load())
	}
	above := uint32(uint64(total) * uint64(share) / hedgeCost)
	for b, n := latencyBuckets-1, uint32(0); b >= 0; b-- {
		if n += l.count[b].Load(); n > above {
			l.bound.Store(int64(upper(b)))
			break
		}
	}
	if total > latencyMemory {
		left := uint32(0)
		for b := range l.count {
			// What is added meanwhile may be lost: it is statistics.
			half := l.count[b].Load() / 2
			l.count[b].Store(half)
			left += half
		}
		l.total.Store(left)
	}
	return time.Duration(l.bound.Load())
}
