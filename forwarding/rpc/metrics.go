package rpc

import (
	"errors"
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

type methodMetrics struct {
	name    string
	ok      prometheus.Counter
	ends    *prometheus.CounterVec // the others'
	times   *prometheus.HistogramVec
	seconds atomic.Pointer[prometheus.Observer]
}

func (m *methodMetrics) end(outcome string) { m.ends.WithLabelValues(m.name, outcome).Inc() }

// observe counts how long a call took. The series of a method are made by its first
// call, and those of its failures by the first of them: a server is asked a dozen of
// all methods, and each has a series for every bucket and outcome.
func (m *methodMetrics) observe(took time.Duration) {
	o := m.seconds.Load()
	if o == nil {
		first := m.times.WithLabelValues(m.name)
		m.seconds.Store(&first)
		o = &first
	}
	(*o).Observe(took.Seconds())
}

func newServerMetrics(reg prometheus.Registerer) *serverMetrics {
	calls := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "landbridge_rpc_server_calls_total",
		Help: "Calls of other agents answered here, by method and outcome (ok, error, timeout, cancelled).",
	}, []string{"method", "outcome"})
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "landbridge_rpc_server_seconds",
		Help:    "Time a call of another agent took here; blocking queries count their wait.",
		Buckets: []float64{.0001, .0005, .002, .01, .05, .25, 1, 5, 30, 300},
	}, []string{"method"})
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
	method := func(name string) *methodMetrics {
		return &methodMetrics{
			name:  name,
			ok:    calls.WithLabelValues(name, "ok"),
			ends:  calls,
			times: seconds,
		}
	}
	for _, d := range Methods() {
		m.calls[d.ID] = method(d.Name)
	}
	m.unknown = method("unknown")
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
	switch {
	case gone:
		c.end("cancelled")
	case err == nil:
		c.ok.Inc()
	case store.KindOf(err) == store.KindTimeout:
		c.end("timeout")
	default:
		c.end("error")
	}
	c.observe(took)
}
