package dnsapi

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// recurse asks the recursors, in order or at random, and passes the first answer
// that is NOERROR or NXDOMAIN through. All failing is SERVFAIL (spec dns.md 6).
func (s *Server) recurse(ctx context.Context, r *dns.Msg, set *Settings, tcp bool) *dns.Msg {
	network := "udp"
	if tcp {
		network = "tcp"
	}
	m, err := s.exchange(ctx, r, set, network)
	if err == nil {
		m.Compress = !set.DisableCompress
		return m
	}
	m = new(dns.Msg)
	m.SetRcode(r, dns.RcodeServerFailure)
	m.RecursionAvailable = true
	if opt, _ := ednsOf(r); opt != nil {
		m.Extra = append(m.Extra, replyOPT(opt, false))
	}
	return m
}

// resolve asks the recursors for our own sake. An answer too long for a datagram
// comes over TCP.
func (s *Server) resolve(ctx context.Context, set *Settings, name string, qtype uint16) []dns.RR {
	r := new(dns.Msg)
	r.SetQuestion(name, qtype)
	r.SetEdns0(1232, false)
	m, err := s.exchange(ctx, r, set, "udp")
	if err == nil && m.Truncated {
		m, err = s.exchange(ctx, r, set, "tcp")
	}
	if err != nil {
		return nil // exchange has told
	}
	return m.Answer
}

// exchange asks one recursor after the other. Each question has an id of its own:
// the client's could be known to who wants to forge an answer.
func (s *Server) exchange(ctx context.Context, r *dns.Msg, set *Settings, network string) (*dns.Msg, error) {
	upstreams := set.Recursors
	if set.RecursorStrategy == "random" {
		upstreams = slices.Clone(upstreams)
		rand.Shuffle(len(upstreams), func(i, j int) { upstreams[i], upstreams[j] = upstreams[j], upstreams[i] })
	}
	c := &dns.Client{Net: network, Timeout: set.RecursorTimeout}
	q := r.Copy()
	err := errors.New("there are no recursors")
	for _, up := range upstreams {
		q.Id = dns.Id()
		var m *dns.Msg
		m, _, err = c.ExchangeContext(ctx, q, up)
		switch {
		case err != nil:
		case !answers(m, r):
			err = errors.New("the answer is to another question")
		case m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError:
			err = errors.New(dns.RcodeToString[m.Rcode])
		default:
			m.Id = r.Id
			return m, nil
		}
		s.metrics.recursorErrors.Inc()
		s.complain("recursor did not answer", "recursor", up, "err", err)
	}
	return nil, err
}

// answers is whether m has r's question. Recursors may write names in their own
// case.
func answers(m, r *dns.Msg) bool {
	if len(m.Question) != 1 || !m.Response {
		return false
	}
	a, b := m.Question[0], r.Question[0]
	return a.Qtype == b.Qtype && a.Qclass == b.Qclass && strings.EqualFold(a.Name, b.Name)
}

// patience is how long a question may take: each recursor has its own time.
func (set *Settings) patience() time.Duration {
	return max(questionTimeout, time.Duration(len(set.Recursors))*set.RecursorTimeout+time.Second)
}
