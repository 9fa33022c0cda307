package view

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	hits, misses, aged, passed prometheus.Counter
	fetched, failed            prometheus.Counter
	evicted, joined            prometheus.Counter
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
	reg.MustRegister(requests, fetches, m.evicted, m.joined,
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
