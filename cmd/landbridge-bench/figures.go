package main

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"time"
)

// better says which direction of a figure is good.
type better string

const (
	lower   better = "lower"
	higher  better = "higher"
	neither better = "" // tells how to read other figures; no score
)

// figure is one measured number, with a sample for each time that it was measured.
type figure struct {
	Scenario string    `json:"scenario"`
	Case     string    `json:"case"`   // what was done, such as "leader c=64"
	Name     string    `json:"figure"` // what was measured, such as "p99"
	Unit     string    `json:"unit"`
	Better   better    `json:"better,omitempty"`
	A        []float64 `json:"a,omitempty"` // samples of binary A
	B        []float64 `json:"b,omitempty"`
	MedianA  *float64  `json:"median_a,omitempty"`
	MedianB  *float64  `json:"median_b,omitempty"`
	Ratio    *float64  `json:"b_over_a,omitempty"` // of the medians
}

// sum fills in what follows from the samples.
func (f *figure) sum() {
	f.MedianA, f.MedianB, f.Ratio = medianOf(f.A), medianOf(f.B), nil
	if f.MedianA != nil && f.MedianB != nil && *f.MedianA != 0 {
		q := *f.MedianB / *f.MedianA
		f.Ratio = &q
	}
}

func medianOf(samples []float64) *float64 {
	if len(samples) == 0 {
		return nil
	}
	m := median(samples)
	return &m
}

// winner is 0 for A and 1 for B where their medians differ by more than 5 %, and -1
// where they do not or where neither direction is good.
func (f *figure) winner() int {
	if f.MedianA == nil || f.MedianB == nil || f.Better == neither {
		return -1
	}
	a, b := *f.MedianA, *f.MedianB
	if math.Abs(a-b) <= .05*max(math.Abs(a), math.Abs(b)) {
		return -1
	}
	if (a < b) == (f.Better == lower) {
		return 0
	}
	return 1
}

// quantile is the q-quantile (0 to 1) of sorted values: the smallest value that at
// least a share q of them does not exceed. The values must not be empty.
func quantile[T cmp.Ordered](sorted []T, q float64) T {
	at := int(math.Ceil(q*float64(len(sorted))-1e-9)) - 1
	return sorted[min(max(at, 0), len(sorted)-1)]
}

// carries says whether n samples are enough for a quantile: p99 needs 100, p99.9
// 1,000. With fewer it would be the maximum (1) by another name.
func carries(n int, q float64) bool {
	return n > 0 && (q <= .5 || q == 1 || float64(n)*(1-q) > 1-1e-9)
}

// median is the middle of the values, which stay in their order, or the mean of
// the two in the middle; NaN of none.
func median(values []float64) float64 {
	n := len(values)
	if n == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(values))
	return (s[(n-1)/2] + s[n/2]) / 2
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// number writes a figure for people: whole numbers in full, others with about three
// digits that count.
func number(v float64) string {
	switch a := math.Abs(v); {
	case v == math.Trunc(v) && a < 1e15, a >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case a >= .1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	default:
		return strconv.FormatFloat(v, 'g', 2, 64)
	}
}

// spread is a cell of the table: the median, and the range if there are several
// samples.
func spread(samples []float64) string {
	switch len(samples) {
	case 0:
		return "-"
	case 1:
		return number(samples[0])
	}
	return number(median(samples)) + " (" + number(slices.Min(samples)) + " to " + number(slices.Max(samples)) + ")"
}
