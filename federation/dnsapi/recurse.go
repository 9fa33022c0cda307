package dnsapi

import (
	"context"
	"math/rand/v2"
	"slices"

	"github.com/miekg/dns"
)

// recurse asks the recursors, in order or at random, and passes the first answer
// that is NOERROR or NXDOMAIN through. All failing is SERVFAIL (spec dns.md 6).
func (s *Server) recurse(ctx context.Context, r *dns.Msg, set *Settings, tcp bool) *dns.Msg {
	upstreams := set.Recursors
	if set.RecursorStrategy == "random" {
		upstreams = slices.Clone(upstreams)
		rand.Shuffle(len(upstreams), func(i, j int) { upstreams[i], upstreams[j] = upstreams[j], upstreams[i] })
	}
	c := &dns.Client{Timeout: set.RecursorTimeout}
	if tcp {
		c.Net = "tcp"
	}
	for _, up := range upstreams {
		m, _, err := c.ExchangeContext(ctx, r, up)
		if err == nil && (m.Rcode == dns.RcodeSuccess || m.Rcode == dns.RcodeNameError) {
			m.Compress = !set.DisableCompress
			return m
		}
		if err != nil {
			s.cfg.Logger.Warn("recursor did not answer", "recursor", up, "err", err)
		}
	}
	m := new(dns.Msg)
	m.SetRcode(r, dns.RcodeServerFailure)
	m.RecursionAvailable = true
	copyEDNS(m, r, false)
	return m
}
