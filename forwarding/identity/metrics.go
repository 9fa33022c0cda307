package identity

import (
	"github.com/prometheus/client_golang/prometheus"

	measure "landbridge/metrics"
)

// metrics are a Remote's.
type metrics struct {
	kept, asked, refused prometheus.Counter
	seconds              measure.Timing // of questions
}

// newMetrics registers them, unless reg is nil.
func newMetrics(reg prometheus.Registerer) *metrics {
	lookups := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "landbridge_identity_lookups_total",
		Help: "Tokens that are not in this agent's own state, by what was done: kept (the last answer holds), asked (a server), refused (too many were being asked for).",
	}, []string{"outcome"})
	m := &metrics{
		kept:    lookups.WithLabelValues("kept"),
		asked:   lookups.WithLabelValues("asked"),
		refused: lookups.WithLabelValues("refused"),
	}
	if reg != nil {
		reg.MustRegister(lookups, m)
	}
	return m
}

var askSeconds = prometheus.NewDesc("landbridge_identity_ask_seconds", "Time servers took to say whose a token is.", nil, nil)

// Describe and Collect make it a prometheus.Collector of its Timing.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) { ch <- askSeconds }

func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	var s measure.Timings
	s.Add(&m.seconds)
	ch <- s.Summary(askSeconds)
}
