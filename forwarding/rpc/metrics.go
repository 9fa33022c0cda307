package rpc

import (
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landbridge/store"
)

// ClientMetrics are shared by all clients of one process.
type ClientMetrics struct {
	inFlight prometheus.Gauge
	refused  prometheus.Counter
	silent   prometheus.Counter
	closed   map[string]prometheus.Counter
}

// NewClientMetrics registers the clients' metrics; reg may be nil.
func NewClientMetrics(reg prometheus.Registerer) *ClientMetrics {
	closed := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "landbridge_rpc_client_sessions_ended_total",
		Help: "Sessions to other agents that ended, by reason: closed by us, stopping (by the peer, in order), silent (three pings missed), or lost.",
	}, []string{"reason"})
	m := &ClientMetrics{
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "landbridge_rpc_client_in_flight_calls",
			Help: "Calls to other agents that wait for an answer, blocking queries included.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "landbridge_rpc_client_refused_calls_total",
			Help: "Calls not sent because too many waited for the same server already.",
		}),
		silent: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "landbridge_rpc_client_silent_total",
			Help: "Sessions given up because the peer missed three pings while calls waited.",
		}),
		closed: map[string]prometheus.Counter{},
	}
	for _, r := range []string{"closed", "stopping", "silent", "lost"} {
		m.closed[r] = closed.WithLabelValues(r)
	}
	if reg != nil {
		reg.MustRegister(closed, m.inFlight, m.refused, m.silent)
	}
	return m
}

func (m *ClientMetrics) ended(cause error) {
	switch {
	case errors.Is(cause, errClientClosed):
		m.closed["closed"].Inc()
	case errors.Is(cause, errPeerStopping):
		m.closed["stopping"].Inc()
	case errors.Is(cause, errPeerSilent):
		m.closed["silent"].Inc()
	default:
		m.closed["lost"].Inc()
	}
}

type serverMetrics struct {
	sessions prometheus.Gauge
	apart    prometheus.Gauge
	inFlight prometheus.Gauge
	refused  map[string]prometheus.Counter
	calls    map[MethodID]*methodMetrics
	unknown  *methodMetrics
}

// methodMetrics makes the series of a method with its first call, and those of its
// failures with the first of them: a server is asked a dozen of all methods.
type methodMetrics struct {
	name  string
	calls *prometheus.CounterVec
	times *prometheus.HistogramVec // by family of methods, what stands before the dot
	made  atomic.Pointer[methodSeries]
}

type methodSeries struct {
	ok      prometheus.Counter
	seconds prometheus.Observer
}

func (m *methodMetrics) series() *methodSeries {
	s := m.made.Load()
	if s == nil {
		family, _, _ := strings.Cut(m.name, ".")
		s = &methodSeries{m.calls.WithLabelValues(m.name, "ok"), m.times.WithLabelValues(family)}
		m.made.Store(s)
	}
	return s
}

func newServerMetrics(reg prometheus.Registerer) *serverMetrics {
	calls := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "landbridge_rpc_server_calls_total",
		Help: "Calls of other agents answered here, by method and outcome (ok, error, timeout, cancelled).",
	}, []string{"method", "outcome"})
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "landbridge_rpc_server_seconds",
		Help:    "Time calls of other agents took here, by family of methods; blocking queries count their wait.",
		Buckets: []float64{.0001, .0005, .002, .01, .05, .25, 1, 5, 30, 300},
	}, []string{"family"})
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "landbridge_rpc_server_refused_total",
		Help: "Calls and streams refused before they ran: calls (too many run), bytes (requests hold too much memory), streams, stopping, denied, protocol.",
	}, []string{"reason"})
	m := &serverMetrics{
		sessions: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "landbridge_rpc_server_sessions",
			Help: "Sessions of other agents that are being served.",
		}),
		apart: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "landbridge_rpc_server_apart_bytes",
			Help: "Bytes of large answers kept until servers of other datacenters have fetched them in pieces.",
		}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "landbridge_rpc_server_in_flight_calls",
			Help: "Calls of other agents that run here now, blocking queries included.",
		}),
		refused: map[string]prometheus.Counter{},
		calls:   map[MethodID]*methodMetrics{},
	}
	for _, r := range []string{"calls", "bytes", "streams", "stopping", "denied", "protocol"} {
		m.refused[r] = refused.WithLabelValues(r)
	}
	for _, d := range Methods() {
		m.calls[d.ID] = &methodMetrics{name: d.Name, calls: calls, times: seconds}
	}
	m.unknown = &methodMetrics{name: "unknown", calls: calls, times: seconds}
	m.unknown.series() // the families exist from the start
	if reg != nil {
		reg.MustRegister(calls, seconds, refused, m.sessions, m.apart, m.inFlight)
	}
	return m
}

func (m *serverMetrics) observe(d *Method, err error, gone bool, took time.Duration) {
	c := m.unknown
	if d != nil {
		c = m.calls[d.ID]
	}
	s := c.series()
	switch {
	case gone:
		c.calls.WithLabelValues(c.name, "cancelled").Inc()
	case err == nil:
		s.ok.Inc()
	case store.KindOf(err) == store.KindTimeout:
		c.calls.WithLabelValues(c.name, "timeout").Inc()
	default:
		c.calls.WithLabelValues(c.name, "error").Inc()
	}
	s.seconds.Observe(took.Seconds())
}
