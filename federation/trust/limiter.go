package trust

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// Enrolment is rare: these let every server of a large federation retry, and
// keep a flood from costing more than a map look-up per connection.
const (
	sourceRate, sourceBurst = 2, 20
	totalRate, totalBurst   = 20, 100
	maxSources              = 1024
	maxConcurrent           = 64
)

// bucket is a token bucket.
type bucket struct {
	tokens float64
	at     time.Time
}

func (b *bucket) take(now time.Time, rate, burst float64) bool {
	b.tokens = min(burst, b.tokens+now.Sub(b.at).Seconds()*rate)
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// limiter bounds enrolment attempts per source (an IPv4 address, an IPv6 /64)
// and in total. Its memory is bounded: when too many sources are known, those
// whose buckets are full again go, then all.
type limiter struct {
	mu      sync.Mutex
	total   bucket
	sources map[netip.Prefix]*bucket
	active  int
}

func newLimiter(now time.Time) *limiter {
	return &limiter{total: bucket{totalBurst, now}, sources: make(map[netip.Prefix]*bucket)}
}

// acquire reports whether a source may try now; each success needs a release.
func (l *limiter) acquire(source net.Addr, now time.Time) bool {
	key := sourceOf(source)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.active >= maxConcurrent {
		return false
	}
	b := l.sources[key]
	if b == nil {
		if len(l.sources) >= maxSources {
			l.forget(now)
		}
		b = &bucket{sourceBurst, now}
		l.sources[key] = b
	}
	// The source first: one that floods must not use up what others share.
	if !b.take(now, sourceRate, sourceBurst) || !l.total.take(now, totalRate, totalBurst) {
		return false
	}
	l.active++
	return true
}

func (l *limiter) release() {
	l.mu.Lock()
	l.active--
	l.mu.Unlock()
}

func (l *limiter) forget(now time.Time) {
	for k, b := range l.sources {
		if b.tokens+now.Sub(b.at).Seconds()*sourceRate >= sourceBurst {
			delete(l.sources, k)
		}
	}
	if len(l.sources) >= maxSources {
		// Only a flood from a thousand sources gets here, and it stays under the
		// total.
		clear(l.sources)
	}
}

func sourceOf(a net.Addr) netip.Prefix {
	ip := addrOf(a)
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// addrOf returns the IP of an address, invalid if it has none.
func addrOf(a net.Addr) netip.Addr {
	if a == nil {
		return netip.Addr{}
	}
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}
