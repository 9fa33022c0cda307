// Package rate limits how often something may happen: token buckets whose
// measure may change while they run.
package rate

import (
	"math"
	"sync"
	"time"
)

// Limit is the measure of a bucket.
type Limit struct {
	PerSecond float64 // at or below 0: no limit
	Burst     int     // how many at once; at least 1 counts
}

// None says that there is no limit.
func (l Limit) None() bool { return l.PerSecond <= 0 || math.IsInf(l.PerSecond, 1) }

// Bucket is full to begin with. It may be used concurrently.
type Bucket struct {
	mu     sync.Mutex
	tokens float64
	at     time.Time // zero: never used
}

// Take takes a token if there is one.
func (b *Bucket) Take(l Limit) bool {
	if l.None() {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fill(l)
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// Reserve takes a token that is perhaps not there yet, and returns how long to
// wait before using it.
func (b *Bucket) Reserve(l Limit) time.Duration {
	if l.None() {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fill(l)
	b.tokens--
	if b.tokens >= 0 {
		return 0
	}
	return time.Duration(-b.tokens / l.PerSecond * float64(time.Second))
}

func (b *Bucket) fill(l Limit) {
	now := time.Now()
	burst := float64(max(l.Burst, 1))
	if b.at.IsZero() {
		b.tokens = burst
	} else {
		b.tokens = min(burst, b.tokens+now.Sub(b.at).Seconds()*l.PerSecond)
	}
	b.at = now
}
