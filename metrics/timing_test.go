package metrics

import (
	"math"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

func TestTiming(t *testing.T) {
	var timing Timing
	var none Timings
	none.Add(&timing)
	if !math.IsNaN(none.quantile(0.5)) || none.Count() != 0 {
		t.Error("quantiles of nothing")
	}
	for i := range 100 {
		timing.Observe(time.Duration(i+1) * 10 * time.Microsecond) // to 1 ms
	}
	timing.Observe(time.Minute)
	var s Timings
	s.Add(&timing)
	var h, sum dto.Metric
	if err := s.Histogram(prometheus.NewDesc("h", "h", nil, nil)).Write(&h); err != nil {
		t.Fatal(err)
	}
	if h.Histogram.GetSampleCount() != 101 || h.Histogram.GetSampleSum() < 60.05 || h.Histogram.GetSampleSum() > 60.06 {
		t.Errorf("%v", h.Histogram)
	}
	last := uint64(0)
	for _, b := range h.Histogram.Bucket {
		if b.GetCumulativeCount() < last {
			t.Errorf("bucket %v shrinks", b.GetUpperBound())
		}
		last = b.GetCumulativeCount()
	}
	if last != 100 {
		t.Errorf("%d below ten seconds", last)
	}
	if err := s.Summary(prometheus.NewDesc("s", "s", nil, nil)).Write(&sum); err != nil {
		t.Fatal(err)
	}
	for _, q := range sum.Summary.Quantile {
		want := q.GetQuantile() * 101 / 100_000
		if got := q.GetValue(); math.Abs(got-want) > 0.02*want && q.GetQuantile() < 0.99 {
			t.Errorf("quantile %v is %v, want about %v", q.GetQuantile(), got, want)
		}
	}
}

func BenchmarkTiming(b *testing.B) {
	var t Timing
	for b.Loop() {
		t.Observe(300 * time.Microsecond)
	}
}
