package httpapi

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	measure "landbridge/metrics"
	"landbridge/store"
)

// family groups endpoints for metrics and for the table of what is not built.
type family uint8

const (
	famKV family = iota
	famCatalog
	famHealth
	famStatus
	famAgent
	famOperator
	famConnect
	famACL
	famSession
	famTxn
	famQuery
	famEvent
	famCoordinate
	famConfig
	famSnapshot
	famOther
	families
)

var familyNames = [families]string{"kv", "catalog", "health", "status", "agent", "operator", "connect", "acl",
	"session", "txn", "query", "event", "coordinate", "config", "snapshot", "other"}

func (f family) String() string { return familyNames[f] }

type metrics struct {
	requests    [families][6]prometheus.Counter // by status / 100
	other       measure.Timing                  // of what no endpoint answers
	connections prometheus.Gauge
	refused     prometheus.Counter
	limited     map[store.Kind]prometheus.Counter // requests, by what refused them
	lost        prometheus.Counter
	handed      prometheus.Counter
	once        sync.Once
	prometheus  http.Handler
}

func newMetrics(reg prometheus.Registerer, t *table) *metrics {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "landbridge_httpapi_requests_total",
		Help: "HTTP requests answered, by family of endpoints and class of status.",
	}, []string{"family", "code"})
	m := &metrics{
		connections: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "landbridge_httpapi_connections",
			Help: "Open HTTP and HTTPS connections.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "landbridge_httpapi_connections_refused_total",
			Help: "Connections closed because their client had too many open (limits.http_max_conns_per_client).",
		}),
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "landbridge_httpapi_answers_lost_total",
			Help: "Answers that could not be written because the client had gone.",
		}),
	}
	m.handed = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "landbridge_httpapi_connections_handed_over_total",
		Help: "Plain HTTP connections that went to the general server, for a stream or a request that is not a simple one.",
	})
	limited := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "landbridge_httpapi_requests_limited_total",
		Help: "Requests refused by a limit, of this agent or another that was asked: rate (429), busy (503) and size (413).",
	}, []string{"reason"})
	m.limited = map[store.Kind]prometheus.Counter{
		store.KindRateLimited: limited.WithLabelValues("rate"),
		store.KindBusy:        limited.WithLabelValues("busy"),
		store.KindTooLarge:    limited.WithLabelValues("size"),
	}
	for f := range families {
		for class := 2; class <= 5; class++ {
			m.requests[f][class] = requests.WithLabelValues(f.String(), strconv.Itoa(class)+"xx")
		}
	}
	reg.MustRegister(requests, &timings{m, t}, m.connections, m.refused, limited, m.lost, m.handed)
	return m
}

func (m *metrics) observe(f family, status int, seconds *measure.Timing, took time.Duration) {
	if c := m.requests[f][min(max(status/100, 2), 5)]; c != nil {
		c.Inc()
	}
	if seconds != nil {
		seconds.Observe(took)
	}
}

var (
	familySeconds = prometheus.NewDesc("landbridge_httpapi_request_seconds",
		"Time to answer HTTP requests, by family of endpoints, of those that were asked; without blocking queries and streams.", []string{"family"}, nil)
	endpointSeconds = prometheus.NewDesc("landbridge_httpapi_endpoint_seconds",
		"Time to answer HTTP requests, by endpoint, of those that were asked; without blocking queries and streams.", []string{"method", "path"}, nil)
)

// timings shows how long requests took, when it is scraped.
type timings struct {
	m *metrics
	t *table
}

func (t *timings) Describe(ch chan<- *prometheus.Desc) {
	ch <- familySeconds
	ch <- endpointSeconds
}

func (t *timings) Collect(ch chan<- prometheus.Metric) {
	var all [families]measure.Timings
	all[famOther].Add(&t.m.other)
	t.t.all(func(ep *entry) {
		for i, r := range ep.routes {
			var one measure.Timings
			one.Add(ep.seconds[i])
			all[ep.family].Add(ep.seconds[i])
			if one.Count() > 0 {
				ch <- one.Summary(endpointSeconds, r.method, ep.label())
			}
		}
	})
	for f := range all {
		if all[f].Count() > 0 || family(f) == famOther { // so that it exists from the start
			ch <- all[f].Histogram(familySeconds, family(f).String())
		}
	}
}

// show answers with all series of the process in Prometheus' text form.
func (m *metrics) show(c *call) {
	m.once.Do(func() {
		m.prometheus = promhttp.HandlerFor(c.s.cfg.Gatherer, promhttp.HandlerOpts{
			ErrorHandling: promhttp.ContinueOnError, // one broken collector must not hide the rest
			Timeout:       10 * time.Second,
		})
	})
	m.prometheus.ServeHTTP(c.w, c.r)
}
