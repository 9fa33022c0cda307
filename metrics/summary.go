package metrics

import (
	"cmp"
	"context"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	gometrics "github.com/hashicorp/go-metrics"
	dto "github.com/prometheus/client_model/go"
)

// interval is what the JSON form of /v1/agent/metrics covers.
const interval = 10 * time.Second

var nan = math.NaN()

// Summary is the JSON form of /v1/agent/metrics: what happened in the last
// complete interval.
type Summary struct {
	Timestamp string
	Gauges    []GaugeValue
	Points    []gometrics.PointValue
	Counters  []SampledValue
	Samples   []SampledValue
}

// GaugeValue is a gauge as it was last set.
type GaugeValue struct {
	Name   string
	Value  number
	Labels map[string]string
}

// SampledValue is what was counted or measured in the interval. Of names that are
// read off our own series Min and Max are the mean: we keep no more of them.
type SampledValue struct {
	Name   string
	Count  int
	Rate   number // of Sum, per second
	Sum    number
	Min    number
	Max    number
	Mean   number
	Stddev number
	Labels map[string]string
}

// number is shown as null where JSON has no number: readers must not lose the
// whole answer for it.
type number float64

// MarshalJSON writes the number without an exponent.
func (n number) MarshalJSON() ([]byte, error) {
	f := float64(n)
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return []byte("null"), nil
	}
	return strconv.AppendFloat(nil, f, 'f', -1, 64), nil
}

// number32 keeps the digits of a float32.
func number32(f float32) number {
	v, err := strconv.ParseFloat(strconv.FormatFloat(float64(f), 'g', -1, 32), 64)
	if err != nil {
		return number(f)
	}
	return number(v)
}

// Gather returns our own series and the known names, for Prometheus. Of endpoints it
// has the known name only, which says the same as our own, five series for each.
func (b *Bridge) Gather() ([]*dto.MetricFamily, error) {
	families, err := b.cfg.Gatherer.Gather()
	byName := familiesByName(families)
	families = slices.DeleteFunc(families, func(f *dto.MetricFamily) bool { return f.GetName() == endpointSeconds })
	for _, f := range shownFamilies(b.cfg.Prefix, knownValues(b.names, byName)) {
		if byName[f.GetName()] == nil { // else raft, memberlist or serf reports to it
			families = append(families, f)
		}
	}
	slices.SortFunc(families, func(x, y *dto.MetricFamily) int { return cmp.Compare(x.GetName(), y.GetName()) })
	return families, err
}

func familiesByName(families []*dto.MetricFamily) map[string]*dto.MetricFamily {
	m := make(map[string]*dto.MetricFamily, len(families))
	for _, f := range families {
		m[f.GetName()] = f
	}
	return m
}

// Run takes note of the known names once in an interval, until ctx ends. Without
// it they are shown as they have been since the start.
func (b *Bridge) Run(ctx context.Context) error {
	for {
		t := time.NewTimer(time.Until(time.Now().Truncate(interval).Add(interval)))
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
			b.tick(time.Now())
		}
	}
}

// tick ends an interval, and notes the runtime's gauges for the next.
func (b *Bridge) tick(now time.Time) {
	if b.global != nil {
		b.global.EmitRuntimeStats()
	}
	values := b.read()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.current = b.differences(values, now.Sub(b.lastAt))
	b.last, b.lastAt = make(map[string]value, len(values)), now
	for i := range values {
		b.last[values[i].key()] = values[i]
	}
	close(b.ticked)
	b.ticked = make(chan struct{})
}

// read returns the known names as they are now. A collector that fails costs its
// own series only.
func (b *Bridge) read() []value {
	families, _ := b.cfg.Gatherer.Gather()
	b.mu.Lock()
	allow, block := b.allow, b.block
	b.mu.Unlock()
	return slices.DeleteFunc(knownValues(b.names, familiesByName(families)), func(v value) bool { return !b.allowed(v.name, allow, block) })
}

// allowed applies telemetry.prefix_filter: the longest prefix decides.
func (b *Bridge) allowed(name string, allow, block []string) bool {
	name = b.cfg.Prefix + "." + name
	best, allowed := -1, b.cfg.FilterDefault
	for _, p := range allow {
		if strings.HasPrefix(name, p) && len(p) > best {
			best, allowed = len(p), true
		}
	}
	for _, p := range block {
		if strings.HasPrefix(name, p) && len(p) >= best {
			best, allowed = len(p), false
		}
	}
	return allowed
}

// differences are the known names over an interval. Called with mu held.
func (b *Bridge) differences(values []value, took time.Duration) Summary {
	var s Summary
	for i := range values {
		v := &values[i]
		name := b.cfg.Prefix + "." + v.name
		labels := v.labels
		if labels == nil {
			labels = map[string]string{}
		}
		if v.kind == gauge {
			if math.IsNaN(v.v) {
				continue
			}
			if !b.cfg.DisableHostname {
				name = b.cfg.Prefix + "." + b.cfg.HostName + "." + v.name
			}
			s.Gauges = append(s.Gauges, GaugeValue{name, number(v.v), labels})
			continue
		}
		before := b.last[v.key()]
		n := SampledValue{Name: name, Count: int(v.count - before.count), Sum: number(v.sum - before.sum), Labels: labels}
		if v.kind == counter {
			n.Sum = number(v.v - before.v)
			n.Count = int(n.Sum)
		}
		if n.Count <= 0 {
			continue
		}
		n.Rate = n.Sum / number(max(took.Seconds(), 1))
		n.Mean = n.Sum / number(n.Count)
		n.Min, n.Max = n.Mean, n.Mean
		if v.kind == counter {
			s.Counters = append(s.Counters, n)
		} else {
			s.Samples = append(s.Samples, n)
		}
	}
	return s
}

// Summary returns the last complete interval in the shape of /v1/agent/metrics.
func (b *Bridge) Summary() (any, error) {
	v, err := b.inmem.DisplayMetrics(nil, nil)
	if err != nil {
		return nil, err
	}
	reported := v.(gometrics.MetricsSummary)
	b.mu.Lock()
	ours := b.current
	if b.last == nil { // the first interval is not over
		b.mu.Unlock()
		values := b.read()
		b.mu.Lock()
		ours = b.differences(values, time.Since(b.lastAt))
	}
	b.mu.Unlock()
	return merge(reported, ours), nil
}

// Follow calls each with every interval that ends, until ctx does or each fails.
func (b *Bridge) Follow(ctx context.Context, each func(any) error) error {
	for {
		b.mu.Lock()
		ticked := b.ticked
		b.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil
		case <-ticked:
		}
		v, err := b.Summary()
		if err == nil {
			err = each(v)
		}
		if err != nil {
			return err
		}
	}
}

// merge joins what was reported to us with what we read off our own series, which
// gives way where both know a name.
func merge(reported gometrics.MetricsSummary, ours Summary) Summary {
	s := Summary{Timestamp: reported.Timestamp, Points: reported.Points,
		Gauges: []GaugeValue{}, Counters: sampled(reported.Counters), Samples: sampled(reported.Samples)}
	for _, g := range reported.Gauges {
		s.Gauges = append(s.Gauges, GaugeValue{g.Name, number32(g.Value), g.DisplayLabels})
	}
	for _, g := range reported.PrecisionGauges {
		s.Gauges = append(s.Gauges, GaugeValue{g.Name, number(g.Value), g.DisplayLabels})
	}
	have := make(map[string]bool)
	for _, g := range s.Gauges {
		have[g.Name] = true
	}
	for _, n := range slices.Concat(s.Counters, s.Samples) {
		have[n.Name] = true
	}
	fresh := func(name string) bool { return !have[name] }
	for _, g := range ours.Gauges {
		if fresh(g.Name) {
			s.Gauges = append(s.Gauges, g)
		}
	}
	for _, n := range ours.Counters {
		if fresh(n.Name) {
			s.Counters = append(s.Counters, n)
		}
	}
	for _, n := range ours.Samples {
		if fresh(n.Name) {
			s.Samples = append(s.Samples, n)
		}
	}
	slices.SortStableFunc(s.Gauges, func(x, y GaugeValue) int { return cmp.Compare(x.Name, y.Name) })
	byName := func(x, y SampledValue) int { return cmp.Compare(x.Name, y.Name) }
	slices.SortStableFunc(s.Counters, byName)
	slices.SortStableFunc(s.Samples, byName)
	if s.Points == nil {
		s.Points = []gometrics.PointValue{}
	}
	return s
}

func sampled(list []gometrics.SampledValue) []SampledValue {
	out := make([]SampledValue, 0, len(list))
	for _, v := range list {
		n := SampledValue{Name: v.Name, Mean: number(v.Mean), Stddev: number(v.Stddev), Labels: maps.Clone(v.DisplayLabels)}
		if a := v.AggregateSample; a != nil {
			n.Count, n.Rate, n.Sum, n.Min, n.Max = a.Count, number(a.Rate), number(a.Sum), number(a.Min), number(a.Max)
		}
		out = append(out, n)
	}
	return out
}
