package gossip

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	refused *prometheus.CounterVec
	events  *prometheus.CounterVec
	resyncs prometheus.Counter
}

var (
	refusals   = []string{"name", "id", "address", "tags", "datacenter", "refused"}
	eventKinds = []EventKind{Joined, Updated, Gone, Lost, Reaped}
	statuses   = []Status{Alive, Leaving, Left, Failed}
)

func newMetrics(reg prometheus.Registerer, scope string, p *Pool) *metrics {
	prefix := "landbridge_" + scope + "_"
	m := &metrics{
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + "members_refused_total",
			Help: "Messages about members that may not be in the pool, by reason."}, []string{"reason"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + "member_events_total",
			Help: "Changes of members, by kind."}, []string{"kind"}),
		resyncs: prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + "member_resyncs_total",
			Help: "Times a subscriber fell behind and had to read all members."}),
	}
	for _, r := range refusals {
		m.refused.WithLabelValues(r)
	}
	for _, k := range eventKinds {
		m.events.WithLabelValues(k.String())
	}
	reg.MustRegister(m.refused, m.events, m.resyncs, newStateCollector(prefix, p))
	return m
}

// stateCollector reads the pool's state when it is scraped.
type stateCollector struct {
	p       *Pool
	members *prometheus.Desc
	queue   *prometheus.Desc
	health  *prometheus.Desc
}

func newStateCollector(prefix string, p *Pool) *stateCollector {
	return &stateCollector{
		p:       p,
		members: prometheus.NewDesc(prefix+"members", "Members of the pool, by status.", []string{"status"}, nil),
		queue:   prometheus.NewDesc(prefix+"gossip_queue_messages", "Messages waiting to be gossiped, by queue.", []string{"queue"}, nil),
		health: prometheus.NewDesc(prefix+"gossip_health_score",
			"0 when this agent keeps up with probes; above, it doubts itself before others.", nil, nil),
	}
}

func (c *stateCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.members
	ch <- c.queue
	ch <- c.health
}

func (c *stateCollector) Collect(ch chan<- prometheus.Metric) {
	counts := make(map[Status]int)
	for _, m := range c.p.Members() {
		counts[m.Status]++
	}
	for _, s := range statuses {
		ch <- prometheus.MustNewConstMetric(c.members, prometheus.GaugeValue, float64(counts[s]), s.String())
	}
	stats := c.p.Stats()
	for _, q := range []string{"intent", "event", "query"} {
		n, _ := strconv.ParseFloat(stats[q+"_queue"], 64)
		ch <- prometheus.MustNewConstMetric(c.queue, prometheus.GaugeValue, n, q)
	}
	score, _ := strconv.ParseFloat(stats["health_score"], 64)
	ch <- prometheus.MustNewConstMetric(c.health, prometheus.GaugeValue, score)
}
