package trust

import (
	"crypto/tls"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	expires      *prometheus.GaugeVec
	issued       *prometheus.CounterVec
	failures     *prometheus.CounterVec
	enrollments  *prometheus.CounterVec
	refusedPeers prometheus.Counter

	term, configured, claim, rival prometheus.Gauge
}

// What an enrolment can end in, on either side.
const (
	ended       = "ok"
	endedSame   = "same"
	endedRefuse = "refused"
	endedLimit  = "rate_limited"
	endedError  = "error"
)

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		expires: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "landbridge_trust_certificate_expiry_timestamp_seconds",
			Help: "When the certificate in use expires, 0 while there is none.",
		}, []string{"certificate"}),
		issued: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "landbridge_trust_certificates_issued_total",
			Help: "Certificates signed by this server.",
		}, []string{"certificate"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "landbridge_trust_renewal_failures_total",
			Help: "Failed attempts to get a new certificate; each is retried.",
		}, []string{"certificate"}),
		enrollments: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "landbridge_trust_enrollments_total",
			Help: "Attempts to join datacenters into a federation, by side and how they ended.",
		}, []string{"side", "outcome"}),
		refusedPeers: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "landbridge_trust_peers_refused_total",
			Help: "TLS handshakes on server channels refused for the peer's certificate.",
		}),
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
		reg.MustRegister(g)
		return g
	}
	m.term = gauge("landbridge_trust_term", "Term of the primary datacenter: how often one was promoted.")
	m.configured = gauge("landbridge_trust_primary_overruled_state", "1 while primary_datacenter in the configuration is not the primary, since another datacenter was promoted.")
	m.claim = gauge("landbridge_trust_claim_state", "1 while another datacenter was promoted and that is not accepted here.")
	m.rival = gauge("landbridge_trust_rival_state", "1 while two datacenters were promoted in the same term.")
	reg.MustRegister(m.expires, m.issued, m.failures, m.enrollments, m.refusedPeers)
	for _, c := range []string{"root", "intermediate", "server"} {
		m.expires.WithLabelValues(c)
		m.issued.WithLabelValues(c)
	}
	for _, c := range []string{"root", "intermediate", "server"} {
		m.failures.WithLabelValues(c)
	}
	for _, side := range []string{"dialing", "accepting"} {
		for _, o := range []string{ended, endedSame, endedRefuse, endedLimit, endedError} {
			m.enrollments.WithLabelValues(side, o)
		}
	}
	return m
}

func (m *metrics) expiry(c *tls.Certificate) {
	if c != nil && c.Leaf != nil {
		m.expires.WithLabelValues("server").Set(float64(c.Leaf.NotAfter.Unix()))
	}
}
