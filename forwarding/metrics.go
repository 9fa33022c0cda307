package forwarding

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landbridge/store"
)

type metrics struct {
	local, leaderOK, leaderErr, serverOK, serverErr, noPath, rateRefused prometheus.Counter
	remoteTotal                                                          *prometheus.CounterVec
	remoteSeconds                                                        *prometheus.HistogramVec
	hedges, resends, silenced                                            prometheus.Counter
	breakers                                                             *prometheus.GaugeVec
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
			Help: "Requests for another datacenter, by datacenter and outcome; refused are those that the breaker or the bound on waiting calls did not let pass.",
		}, []string{"dc", "outcome"}),
		remoteSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "landbridge_forwarding_remote_seconds",
			Help:    "Time until another datacenter answered, retries included; blocking queries count their wait.",
			Buckets: []float64{.002, .005, .01, .025, .05, .1, .2, .4, .8, 1.6, 5, 15, 60, 300},
		}, []string{"dc"}),
	}
	m.hedges = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "landbridge_forwarding_hedges_total",
		Help: "Reads of another datacenter that were sent to a second server because the first one took long.",
	})
	m.resends = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "landbridge_forwarding_resends_total",
		Help: "Requests for another datacenter that were sent to another server because theirs went silent.",
	})
	m.silenced = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "landbridge_forwarding_silent_servers_total",
		Help: "Times a server of another datacenter was left out because it did not answer.",
	})
	m.breakers = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "landbridge_forwarding_breaker_open",
		Help: "1 while requests for a datacenter fail at once, by reason: unreachable (no server answers) or leaderless (only stale reads pass).",
	}, []string{"dc", "reason"})
	reg.MustRegister(requests, m.noPath, m.rateRefused, m.remoteTotal, m.remoteSeconds, m.hedges, m.resends, m.silenced, m.breakers)
	return m
}

// outcomes are the series of one datacenter.
type outcomes struct {
	ok, noLeader, unreachable, timeout, failed, refused prometheus.Counter
	seconds                                             prometheus.Observer
}

func (m *metrics) datacenter(dc string) outcomes {
	m.breaker(dc, false, false)
	c := func(outcome string) prometheus.Counter { return m.remoteTotal.WithLabelValues(dc, outcome) }
	return outcomes{c("ok"), c("no_leader"), c("unreachable"), c("timeout"), c("error"), c("refused"), m.remoteSeconds.WithLabelValues(dc)}
}

func (o *outcomes) observe(err error, took time.Duration) {
	o.seconds.Observe(took.Seconds())
	switch kind := store.KindOf(err); {
	case err == nil:
		o.ok.Inc()
	case kind == store.KindNoLeader || kind == store.KindNoServers:
		o.noLeader.Inc()
	case kind == store.KindUnreachable || kind == store.KindMaybeApplied:
		o.unreachable.Inc()
	case kind == store.KindTimeout:
		o.timeout.Inc()
	default:
		o.failed.Inc()
	}
}

// breaker notes the state of the way to a datacenter.
func (m *metrics) breaker(dc string, down, leaderless bool) {
	set := func(reason string, on bool) {
		v := 0.0
		if on {
			v = 1
		}
		m.breakers.WithLabelValues(dc, reason).Set(v)
	}
	set(BreakerUnreachable.String(), down)
	set(BreakerLeaderless.String(), leaderless)
}

// Datacenter makes the series of a datacenter exist before its first request.
// The directory calls it once for each datacenter that joins.
func (d *Dispatcher) Datacenter(dc string) { d.metrics.datacenter(dc) }
