package forwarding

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	local, leaderOK, leaderErr, serverOK, serverErr, noPath, rateRefused prometheus.Counter
	remoteTotal                                                          *prometheus.CounterVec
	remoteSeconds                                                        *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "landbridge_forwarding_requests_total",
		Help: "Requests for this datacenter, by where they ran (here, leader, server) and outcome of that attempt.",
	}, []string{"where", "outcome"})
	m := &metrics{
		local:     requests.WithLabelValues("here", "any"),
		leaderOK:  requests.WithLabelValues("leader", "ok"),
		leaderErr: requests.WithLabelValues("leader", "error"),
		serverOK:  requests.WithLabelValues("server", "ok"),
		serverErr: requests.WithLabelValues("server", "error"),
		noPath: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "landbridge_forwarding_no_path_total",
			Help: "Requests for a datacenter that was never a member of the federation.",
		}),
		rateRefused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "landbridge_forwarding_rate_refused_total",
			Help: "Requests this client agent did not send because it sent too many (limits.rpc_rate).",
		}),
		remoteTotal: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "landbridge_forwarding_remote_requests_total",
			Help: "Requests sent to another datacenter, by datacenter and outcome.",
		}, []string{"dc", "outcome"}),
		remoteSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "landbridge_forwarding_remote_seconds",
			Help:    "Time until another datacenter answered, retries included; blocking queries count their wait.",
			Buckets: []float64{.002, .005, .01, .025, .05, .1, .2, .4, .8, 1.6, 5, 15, 60, 300},
		}, []string{"dc"}),
	}
	reg.MustRegister(requests, m.noPath, m.rateRefused, m.remoteTotal, m.remoteSeconds)
	return m
}

// Datacenter makes the series of a datacenter exist before its first request.
// The directory calls it once for each datacenter that joins.
func (d *Dispatcher) Datacenter(dc string) {
	for _, o := range []string{"ok", "no_leader", "unreachable", "timeout", "error"} {
		d.metrics.remoteTotal.WithLabelValues(dc, o)
	}
	d.metrics.remoteSeconds.WithLabelValues(dc)
}

func (m *metrics) remote(dc, outcome string, took time.Duration) {
	m.remoteTotal.WithLabelValues(dc, outcome).Inc()
	m.remoteSeconds.WithLabelValues(dc).Observe(took.Seconds())
}
