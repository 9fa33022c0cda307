package dnsapi

import (
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	questions   *prometheus.CounterVec
	seconds     prometheus.Histogram
	writeErrors prometheus.Counter
}

var countedRcodes = []int{dns.RcodeSuccess, dns.RcodeNameError, dns.RcodeServerFailure, dns.RcodeRefused, dns.RcodeFormatError, dns.RcodeNotImplemented}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		questions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "landbridge_dnsapi_questions_total",
			Help: "DNS questions answered, by transport and reply code.",
		}, []string{"transport", "rcode"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "landbridge_dnsapi_answer_seconds",
			Help:    "Time to answer a DNS question.",
			Buckets: []float64{.0001, .0005, .001, .005, .02, .1, .5, 2, 5},
		}),
		writeErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "landbridge_dnsapi_write_errors_total",
			Help: "DNS answers that could not be sent.",
		}),
	}
	reg.MustRegister(m.questions, m.seconds, m.writeErrors)
	for _, transport := range []string{"udp", "tcp"} {
		for _, c := range countedRcodes {
			m.questions.WithLabelValues(transport, dns.RcodeToString[c])
		}
	}
	return m
}

func (m *metrics) observe(rcode int, tcp bool, took time.Duration) {
	transport := "udp"
	if tcp {
		transport = "tcp"
	}
	m.questions.WithLabelValues(transport, dns.RcodeToString[rcode]).Inc()
	m.seconds.Observe(took.Seconds())
}
