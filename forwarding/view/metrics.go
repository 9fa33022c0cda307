package view

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	hits, misses, aged, passed prometheus.Counter
	fetched, failed            prometheus.Counter
	evicted, joined            prometheus.Counter
	keptEvicted                prometheus.Counter
	instead                    map[Reason]prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, s *Set) *metrics {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "landbridge_view_requests_total",
		Help: "Reads that could be answered from a view, by outcome: hit, miss (it was filled first), aged (no server was there), passed (on to the servers).",
	}, []string{"outcome"})
	fetches := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "landbridge_view_fetches_total",
		Help: "Calls that views made to be filled or to follow, by outcome.",
	}, []string{"outcome"})
	m := &metrics{
		hits: requests.WithLabelValues("hit"), misses: requests.WithLabelValues("miss"),
		aged: requests.WithLabelValues("aged"), passed: requests.WithLabelValues("passed"),
		fetched: fetches.WithLabelValues("ok"), failed: fetches.WithLabelValues("error"),
		evicted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "landbridge_view_evicted_total",
			Help: "Views forgotten before their time because there were too many views or bytes.",
		}),
		joined: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "landbridge_view_joined_calls_total",
			Help: "Requests that joined the call of another one.",
		}),
	}
	instead := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "landbridge_view_stale_answers_total",
		Help: "Reads answered with the last good reply because their datacenter did not answer, or had no leader, by reason (stale-if-error).",
	}, []string{"reason"})
	m.instead = make(map[Reason]prometheus.Counter)
	for _, r := range reasons {
		m.instead[r] = instead.WithLabelValues(string(r))
	}
	m.keptEvicted = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "landbridge_view_kept_evicted_total",
		Help: "Replies kept for stale-if-error that were forgotten for lack of room (federation.stale_cache_bytes).",
	})
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	count := func(of func(*view) bool) func() float64 {
		return func() (n float64) {
			s.mu.RLock()
			defer s.mu.RUnlock()
			for _, v := range s.views {
				if of(v) {
					n++
				}
			}
			return n
		}
	}
	reg.MustRegister(requests, fetches, m.evicted, m.joined, instead, m.keptEvicted, outageCollector{s},
		gauge("landbridge_view_kept_replies", "Replies kept for stale-if-error.", func() float64 { n, _ := s.replies.load(); return float64(n) }),
		gauge("landbridge_view_kept_bytes", "Bytes of the replies kept for stale-if-error.", func() float64 { _, n := s.replies.load(); return float64(n) }),
		gauge("landbridge_view_views", "Answers kept.", count(func(*view) bool { return true })),
		gauge("landbridge_view_following_views", "Views that follow the servers, or try to.", count(func(v *view) bool { return v.cancel != nil })),
		gauge("landbridge_view_away_views", "Views that try to follow and find no server.", count(func(v *view) bool {
			st := v.cur.Load()
			return v.cancel != nil && st != nil && st.away
		})),
		gauge("landbridge_view_bytes", "Bytes of the answers kept.", func() float64 {
			s.mu.RLock()
			defer s.mu.RUnlock()
			return float64(s.bytes)
		}))
	return m
}

var (
	outageDesc = prometheus.NewDesc("landbridge_view_outage_seconds",
		"For how long a datacenter is away, by reason: meanwhile reads with stale-if-error are answered from what is kept. Absent while it is there.", []string{"dc", "reason"}, nil)
	outagesDesc = prometheus.NewDesc("landbridge_view_outages_total",
		"Times that a datacenter was found to be away by a read with stale-if-error, by the reason it began with.", []string{"reason"}, nil)
)

// outageCollector shows the outages there are when it is scraped.
type outageCollector struct{ s *Set }

func (c outageCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- outageDesc
	ch <- outagesDesc
}

func (c outageCollector) Collect(ch chan<- prometheus.Metric) {
	o := &c.s.outages
	o.mu.Lock()
	defer o.mu.Unlock()
	for dc, out := range o.by {
		if out.reason != "" {
			ch <- prometheus.MustNewConstMetric(outageDesc, prometheus.GaugeValue, time.Since(out.since).Seconds(), c.s.label(dc), string(out.reason))
		}
	}
	for _, r := range []Reason{Unreachable, NoLeader} {
		ch <- prometheus.MustNewConstMetric(outagesDesc, prometheus.CounterValue, float64(o.began[r]), string(r))
	}
}
