package metrics

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// bounds are the upper ends of a Timing's buckets.
var bounds = [...]time.Duration{
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, time.Second, 5 * time.Second, 10 * time.Second,
}

// Timing counts durations in buckets: for what happens at every request. It costs
// two atomic additions. The zero value is ready.
type Timing struct {
	buckets [len(bounds) + 1]atomic.Uint64
	nanos   atomic.Int64
}

// Observe counts one duration.
func (t *Timing) Observe(d time.Duration) {
	i := 0
	for i < len(bounds) && d > bounds[i] {
		i++
	}
	t.buckets[i].Add(1)
	t.nanos.Add(int64(d))
}

// Timings is what some Timings have counted together.
type Timings struct {
	buckets [len(bounds) + 1]uint64
	count   uint64
	nanos   int64
}

// Add adds what t has counted so far.
func (s *Timings) Add(t *Timing) {
	for i := range t.buckets {
		n := t.buckets[i].Load()
		s.buckets[i] += n
		s.count += n
	}
	s.nanos += t.nanos.Load()
}

// Count is how many durations there were.
func (s *Timings) Count() uint64 { return s.count }

// Histogram is s as a histogram in seconds.
func (s *Timings) Histogram(desc *prometheus.Desc, labels ...string) prometheus.Metric {
	cumulated := make(map[float64]uint64, len(bounds))
	n := uint64(0)
	for i, b := range bounds {
		n += s.buckets[i]
		cumulated[b.Seconds()] = n
	}
	return prometheus.MustNewConstHistogram(desc, s.count, float64(s.nanos)/1e9, cumulated, labels...)
}

// Summary is s as a summary in seconds, whose quantiles are good to their bucket.
func (s *Timings) Summary(desc *prometheus.Desc, labels ...string) prometheus.Metric {
	q := map[float64]float64{0.5: s.quantile(0.5), 0.9: s.quantile(0.9), 0.99: s.quantile(0.99)}
	return prometheus.MustNewConstSummary(desc, s.count, float64(s.nanos)/1e9, q, labels...)
}

// quantile interpolates within the bucket that holds it; NaN without observations.
func (s *Timings) quantile(q float64) float64 {
	if s.count == 0 {
		return math.NaN()
	}
	rank, below := q*float64(s.count), 0.0
	for i, n := range s.buckets {
		if n > 0 && below+float64(n) >= rank {
			low := 0.0
			if i > 0 {
				low = bounds[i-1].Seconds()
			}
			if i == len(bounds) {
				return low
			}
			return low + (bounds[i].Seconds()-low)*(rank-below)/float64(n)
		}
		below += float64(n)
	}
	return bounds[len(bounds)-1].Seconds()
}
