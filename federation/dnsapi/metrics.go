package dnsapi

import (
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// The ways a question is answered.
type path uint8

const (
	hot      path = iota // straight from the bytes of the packet
	full                 // through miekg/dns
	recursed             // by a recursor
	paths
)

var pathNames = [paths]string{"hot", "full", "recursed"}

// Why a message was not answered.
type ignored uint8

const (
	ignoredShort     ignored = iota // no whole header
	ignoredResponse                 // no question: replying could start a loop
	ignoredMalformed                // more malformed messages than are answered
	ignoredReasons
)

var ignoredNames = [ignoredReasons]string{"short", "response", "malformed"}

// countedRcodes have a series from the start; others share the last.
var countedRcodes = [...]struct {
	code int
	name string
}{
	{dns.RcodeSuccess, "NOERROR"}, {dns.RcodeNameError, "NXDOMAIN"}, {dns.RcodeServerFailure, "SERVFAIL"}, {dns.RcodeRefused, "REFUSED"},
	{dns.RcodeFormatError, "FORMERR"}, {dns.RcodeNotImplemented, "NOTIMP"}, {dns.RcodeBadVers, "BADVERS"}, {-1, "other"},
}

// metrics has the counters of every question at hand: the hot path may not look
// them up.
type metrics struct {
	answered       [2][paths][len(countedRcodes)]prometheus.Counter
	byCode         [dns.RcodeBadVers + 1]uint8 // index into countedRcodes
	seconds        [paths]prometheus.Observer
	ignored        [2][ignoredReasons]prometheus.Counter
	malformed      [2]prometheus.Counter
	writeErrors    prometheus.Counter
	recursorErrors prometheus.Counter
	busy           prometheus.Counter
	refusedConns   prometheus.Counter
	limited        [2]prometheus.Counter
	forgotten      prometheus.Counter
	panics         prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, s *Server) *metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "landbridge_dnsapi_" + name, Help: help})
		reg.MustRegister(c)
		return c
	}
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "landbridge_dnsapi_" + name, Help: help}, labels)
		reg.MustRegister(v)
		return v
	}
	gauge := func(name, help string, f func() float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "landbridge_dnsapi_" + name, Help: help}, f))
	}
	questions := vec("questions_total", "DNS questions answered, by transport, by the way they were answered (hot: from the packet's bytes, full: through the DNS library, recursed: by a recursor) and by reply code.", "transport", "path", "rcode")
	ignored := vec("ignored_total", "DNS messages that were not answered, by transport and reason (short: no whole header, response: no question, malformed: more malformed messages than are answered).", "transport", "reason")
	malformed := vec("malformed_total", "DNS messages that could not be read, answered with FORMERR or not at all.", "transport")
	limited := vec("rate_limited_total", "DNS questions that were one too many of their client (limits.dns_rate), by transport: over UDP answered with nothing, cut short, over TCP with REFUSED.", "transport")
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "landbridge_dnsapi_answer_seconds",
		Help:    "Time to answer a DNS question, by the way it was answered.",
		Buckets: []float64{.00001, .00005, .0002, .001, .005, .02, .1, .5, 2, 5},
	}, []string{"path"})
	reg.MustRegister(seconds)
	m := &metrics{
		writeErrors:    counter("write_errors_total", "DNS answers that could not be sent."),
		recursorErrors: counter("recursor_errors_total", "Questions to a recursor that failed or got another reply code than NOERROR and NXDOMAIN."),
		busy:           counter("busy_total", "DNS questions answered with SERVFAIL because too many others were waiting for an answer."),
		refusedConns:   counter("refused_connections_total", "TCP connections closed at once because there were too many, of all or of one client."),
		forgotten:      counter("rate_forgotten_clients_total", "Clients whose questions are no longer counted for limits.dns_rate, to make room for others."),
		panics:         counter("panics_total", "DNS questions that met a bug: logged, and answered with SERVFAIL or not at all."),
	}
	gauge("waiting_questions", "DNS questions that wait for an answer of another agent or a recursor.", func() float64 { return float64(len(s.slots)) })
	gauge("cache_bytes", "Memory held by prepared DNS answers.", func() float64 { return float64(s.cache.bytes.Load()) })
	for t, transport := range [...]string{"udp", "tcp"} {
		for p := range paths {
			for i, c := range countedRcodes {
				m.answered[t][p][i] = questions.WithLabelValues(transport, pathNames[p], c.name)
			}
		}
		for r := range ignoredReasons {
			m.ignored[t][r] = ignored.WithLabelValues(transport, ignoredNames[r])
		}
		m.limited[t] = limited.WithLabelValues(transport)
		m.malformed[t] = malformed.WithLabelValues(transport)
	}
	for p := range paths {
		m.seconds[p] = seconds.WithLabelValues(pathNames[p])
	}
	for code := range m.byCode {
		m.byCode[code] = uint8(len(countedRcodes) - 1)
		for i, c := range countedRcodes {
			if c.code == code {
				m.byCode[code] = uint8(i)
			}
		}
	}
	return m
}

// transportIndex is a transport's place in the arrays of metrics.
func transportIndex(tcp bool) int {
	if tcp {
		return 1
	}
	return 0
}

func (m *metrics) observe(tcp bool, p path, rcode int, took time.Duration) {
	i := len(countedRcodes) - 1
	if rcode < len(m.byCode) {
		i = int(m.byCode[rcode])
	}
	m.answered[transportIndex(tcp)][p][i].Inc()
	m.seconds[p].Observe(took.Seconds())
}
