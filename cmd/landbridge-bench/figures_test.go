package main

import (
	"math"
	"testing"
	"time"
)

func TestQuantileIsTheNearestRank(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i+1) * time.Millisecond
	}
	for q, want := range map[float64]time.Duration{0: 1, .01: 1, .5: 50, .99: 99, .999: 100, 1: 100} {
		if got := quantile(hundred, q); got != want*time.Millisecond {
			t.Errorf("quantile %g of 1..100 ms is %s, want %d ms", q, got, want)
		}
	}
	if got := quantile([]float64{7}, .99); got != 7 {
		t.Errorf("p99 of one value is %g", got)
	}
}

func TestCarries(t *testing.T) {
	for _, x := range []struct {
		n    int
		q    float64
		want bool
	}{{0, .5, false}, {1, .5, true}, {1, 1, true}, {0, 1, false}, {99, .99, false}, {100, .99, true}, {999, .999, false}, {1000, .999, true}} {
		if got := carries(x.n, x.q); got != x.want {
			t.Errorf("carries(%d, %g) = %t", x.n, x.q, got)
		}
	}
}

func TestMedian(t *testing.T) {
	values := []float64{9, 1, 5}
	if got := median(values); got != 5 {
		t.Errorf("median %g, want 5", got)
	}
	if values[0] != 9 {
		t.Error("median sorts its argument")
	}
	if got := median([]float64{4, 1, 3, 2}); got != 2.5 {
		t.Errorf("median of an even number %g, want 2.5", got)
	}
	if !math.IsNaN(median(nil)) {
		t.Error("median of nothing")
	}
}

func TestWinner(t *testing.T) {
	for _, x := range []struct {
		name   string
		better better
		a, b   []float64
		want   int
	}{
		{"lower", lower, []float64{10, 30, 20}, []float64{5, 6, 7}, 1},
		{"higher", higher, []float64{100}, []float64{50}, 0},
		{"within 5 %", higher, []float64{100}, []float64{104}, -1},
		{"both zero", lower, []float64{0}, []float64{0}, -1},
		{"zero against some", lower, []float64{0}, []float64{3}, 0},
		{"no score", neither, []float64{1}, []float64{9}, -1},
		{"only A was measured", lower, []float64{1}, nil, -1},
	} {
		f := &figure{Better: x.better, A: x.a, B: x.b}
		f.sum()
		if got := f.winner(); got != x.want {
			t.Errorf("%s: winner %d, want %d", x.name, got, x.want)
		}
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 12345: "12345", 12345.6: "12346", 99.94: "99.9", 9.876: "9.88", .5: "0.50", .0123: "0.012", -3: "-3"} {
		if got := number(v); got != want {
			t.Errorf("number(%g) = %s, want %s", v, got, want)
		}
	}
}

func TestQuantileName(t *testing.T) {
	for q, want := range map[float64]string{.5: "p50", .99: "p99", .999: "p99.9", 1: "max"} {
		if got := quantileName(q); got != want {
			t.Errorf("quantileName(%g) = %s, want %s", q, got, want)
		}
	}
}
