package dnsapi

import (
	"net/netip"

	"github.com/miekg/dns"
)

// ednsOf returns the OPT record of a question, nil if it has none; ok is false if
// it has several (RFC 6891 section 6.1.1).
func ednsOf(r *dns.Msg) (opt *dns.OPT, ok bool) {
	for _, rr := range r.Extra {
		if o, is := rr.(*dns.OPT); is {
			if opt != nil {
				return nil, false
			}
			opt = o
		}
	}
	return opt, true
}

// subnetOf is the client subnet a resolver tells of (RFC 7871), if it does.
func subnetOf(opt *dns.OPT) (netip.Addr, bool) {
	if opt == nil {
		return netip.Addr{}, false
	}
	for _, o := range opt.Option {
		if ecs, ok := o.(*dns.EDNS0_SUBNET); ok {
			if a, ok := netip.AddrFromSlice(ecs.Address); ok && ecs.SourceNetmask > 0 {
				return a.Unmap(), true
			}
		}
	}
	return netip.Addr{}, false
}

// replyOPT is the OPT record for a reply to a question that has one: with the same
// UDP size, and the client subnet: with scope 0, for everyone, unless the answer
// was sorted by it (RFC 7871 section 7.2.1).
func replyOPT(in *dns.OPT, bySource bool) *dns.OPT {
	out := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
	out.SetUDPSize(in.UDPSize())
	for _, o := range in.Option {
		if ecs, ok := o.(*dns.EDNS0_SUBNET); ok {
			echo := *ecs
			echo.SourceScope = 0
			if bySource {
				echo.SourceScope = ecs.SourceNetmask
			}
			out.Option = append(out.Option, &echo)
		}
	}
	return out
}
