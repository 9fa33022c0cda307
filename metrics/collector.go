package metrics

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	gometrics "github.com/hashicorp/go-metrics"
	"github.com/prometheus/client_golang/prometheus"
)

// CollectorConfig describes a server that metrics are sent to, line by line, as
// statsd, statsite and DogStatsD understand them.
type CollectorConfig struct {
	Kind    string // "statsd", "statsite" or "dogstatsd"
	Network string // "udp" or "tcp"
	Addr    string
	// Labels as DogStatsD's tags; else their values become parts of the name.
	Tagged bool
	Tags   []string // put on every series if Tagged
	Prefix string   // of our own series, as the bridge puts it before the others
	// Retry goes on without the server when it cannot be reached at the start.
	Retry      bool
	Gatherer   prometheus.Gatherer
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

const (
	// collectorLines bounds the lines that wait: a few seconds' worth.
	collectorLines   = 4096
	collectorPacket  = 1400 // fits a packet on any path
	collectorFlush   = 100 * time.Millisecond
	collectorGather  = 10 * time.Second
	collectorTimeout = 5 * time.Second // of a dial and a write, and between dials
)

// Collector sends what raft, memberlist and serf report, as it comes, and our own
// series every ten seconds: counters by what they grew, gauges as they are,
// histograms and summaries by the growth of their count and sum.
//
// As a go-metrics sink it never blocks: lines that find the queue full, or no
// connection, are dropped and counted.
type Collector struct {
	cfg     CollectorConfig
	lines   chan []byte
	dropped prometheus.Counter

	// Of Run alone.
	conn   net.Conn
	buf    []byte
	held   int // lines in buf
	next   time.Time
	failed bool // and that was logged
	last   map[string]float64
}

var _ gometrics.MetricSink = (*Collector)(nil)

// NewCollector returns a collector whose Run sends. Without Retry it connects now.
func NewCollector(cfg CollectorConfig) (*Collector, error) {
	c := &Collector{cfg: cfg, lines: make(chan []byte, collectorLines), last: map[string]float64{}}
	if !cfg.Retry {
		conn, err := net.DialTimeout(cfg.Network, cfg.Addr, collectorTimeout)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", cfg.Kind, err)
		}
		c.conn = conn
	}
	dropped := prometheus.NewCounter(prometheus.CounterOpts{
		Name:        "landbridge_metrics_lines_dropped_total",
		Help:        "Lines of metrics that did not reach a collector.",
		ConstLabels: prometheus.Labels{"collector": cfg.Kind},
	})
	cfg.Registerer.MustRegister(dropped)
	c.dropped = dropped
	return c, nil
}

// Run sends until ctx ends, and then what is left.
func (c *Collector) Run(ctx context.Context) {
	flush, gather := time.NewTicker(collectorFlush), time.NewTicker(collectorGather)
	defer flush.Stop()
	defer gather.Stop()
	for {
		select {
		case line := <-c.lines:
			c.add(line)
		case <-flush.C:
			c.flush()
		case <-gather.C:
			c.gather()
		case <-ctx.Done():
			c.gather()
			for len(c.lines) > 0 {
				c.add(<-c.lines)
			}
			c.flush()
			if c.conn != nil {
				c.conn.Close()
			}
			return
		}
	}
}

func (c *Collector) add(line []byte) {
	if len(c.buf)+len(line) > collectorPacket {
		c.flush()
	}
	c.buf = append(c.buf, line...)
	c.held++
}

func (c *Collector) flush() {
	if c.held == 0 {
		return
	}
	if err := c.write(); err != nil {
		c.dropped.Add(float64(c.held))
		if c.conn != nil {
			c.conn.Close()
			c.conn = nil
			c.next = time.Now().Add(collectorTimeout)
		}
		if !c.failed {
			c.failed = true
			c.cfg.Logger.Warn("metrics do not reach the collector", "collector", c.cfg.Kind, "addr", c.cfg.Addr, "err", err)
		}
	} else if c.failed {
		c.failed = false
		c.cfg.Logger.Info("metrics reach the collector again", "collector", c.cfg.Kind, "addr", c.cfg.Addr)
	}
	c.buf, c.held = c.buf[:0], 0
}

func (c *Collector) write() error {
	if c.conn == nil {
		if wait := time.Until(c.next); wait > 0 {
			return fmt.Errorf("not connected, tried again in %s", wait)
		}
		conn, err := net.DialTimeout(c.cfg.Network, c.cfg.Addr, collectorTimeout)
		if err != nil {
			c.next = time.Now().Add(collectorTimeout)
			return err
		}
		c.conn = conn
	}
	if err := c.conn.SetWriteDeadline(time.Now().Add(collectorTimeout)); err != nil {
		return err
	}
	_, err := c.conn.Write(c.buf)
	return err
}

// gather reads our own series. The libraries' are in the same registry and begin
// with the prefix: they came through the sink.
func (c *Collector) gather() {
	families, err := c.cfg.Gatherer.Gather()
	if err != nil && len(families) == 0 {
		c.cfg.Logger.Warn("metrics not read", "err", err)
		return
	}
	for _, f := range families {
		name := f.GetName()
		if !strings.HasPrefix(name, "landbridge_") && !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") {
			continue
		}
		for _, m := range f.GetMetric() {
			var labels []gometrics.Label
			for _, l := range m.GetLabel() {
				labels = append(labels, gometrics.Label{Name: l.GetName(), Value: l.GetValue()})
			}
			switch {
			case m.Counter != nil:
				c.grown(name, labels, m.Counter.GetValue())
			case m.Gauge != nil:
				c.add(c.line([]string{c.cfg.Prefix, name}, m.Gauge.GetValue(), "g", labels))
			case m.Histogram != nil:
				c.grown(name+"_count", labels, float64(m.Histogram.GetSampleCount()))
				c.grown(name+"_sum", labels, m.Histogram.GetSampleSum())
			case m.Summary != nil:
				c.grown(name+"_count", labels, float64(m.Summary.GetSampleCount()))
				c.grown(name+"_sum", labels, m.Summary.GetSampleSum())
			}
		}
	}
}

// grown sends by how much a counter grew since the last time.
func (c *Collector) grown(name string, labels []gometrics.Label, now float64) {
	key := fmt.Sprint(name, labels)
	by := now - c.last[key]
	c.last[key] = now
	if by != 0 {
		c.add(c.line([]string{c.cfg.Prefix, name}, by, "c", labels))
	}
}

// line writes name:value|type, with tags behind it if there are any.
func (c *Collector) line(key []string, v float64, kind string, labels []gometrics.Label) []byte {
	var b []byte
	for i, part := range key {
		if i > 0 {
			b = append(b, '.')
		}
		b = appendSafe(b, part)
	}
	if !c.cfg.Tagged {
		for _, l := range labels {
			b = appendSafe(append(b, '.'), l.Value)
		}
	}
	b = append(b, ':')
	b = strconv.AppendFloat(b, v, 'f', -1, 64)
	b = append(b, '|')
	b = append(b, kind...)
	if c.cfg.Tagged && len(labels)+len(c.cfg.Tags) > 0 {
		b = append(b, "|#"...)
		for _, t := range c.cfg.Tags {
			b = append(append(b, t...), ',')
		}
		for _, l := range labels {
			b = appendSafe(b, l.Name)
			b = append(b, ':')
			b = append(appendSafe(b, l.Value), ',')
		}
		b = bytes.TrimSuffix(b, []byte(","))
	}
	return append(b, '\n')
}

// appendSafe adds a part of a name without what has a meaning in a line.
func appendSafe(b []byte, s string) []byte {
	for i := range len(s) {
		switch c := s[i]; c {
		case ':', '|', '@', '#', ',', ' ', '\n':
			b = append(b, '_')
		default:
			b = append(b, c)
		}
	}
	return b
}

func (c *Collector) send(key []string, v float32, kind string, labels []gometrics.Label) {
	// By its shortest text: a float32 made longer would have digits nobody wrote.
	f, _ := strconv.ParseFloat(strconv.FormatFloat(float64(v), 'f', -1, 32), 64)
	select {
	case c.lines <- c.line(key, f, kind, labels):
	default:
		c.dropped.Inc()
	}
}

// SetGauge and the methods below make a Collector a go-metrics sink.
func (c *Collector) SetGauge(key []string, v float32) { c.send(key, v, "g", nil) }

// SetGaugeWithLabels is SetGauge with labels.
func (c *Collector) SetGaugeWithLabels(key []string, v float32, labels []gometrics.Label) {
	c.send(key, v, "g", labels)
}

// EmitKey sends a key and value.
func (c *Collector) EmitKey(key []string, v float32) { c.send(key, v, "kv", nil) }

// IncrCounter sends what is added to a counter.
func (c *Collector) IncrCounter(key []string, v float32) { c.send(key, v, "c", nil) }

// IncrCounterWithLabels is IncrCounter with labels.
func (c *Collector) IncrCounterWithLabels(key []string, v float32, labels []gometrics.Label) {
	c.send(key, v, "c", labels)
}

// AddSample sends a duration in milliseconds.
func (c *Collector) AddSample(key []string, v float32) { c.send(key, v, "ms", nil) }

// AddSampleWithLabels is AddSample with labels.
func (c *Collector) AddSampleWithLabels(key []string, v float32, labels []gometrics.Label) {
	c.send(key, v, "ms", labels)
}
