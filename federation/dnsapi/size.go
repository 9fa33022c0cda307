package dnsapi

import (
	"sort"

	"github.com/miekg/dns"
)

// limit is what a transport carries (spec dns.md 4).
type limit struct {
	bytes   int
	answers int // 0 = no limit on their number
}

func limitOf(r *dns.Msg, tcp bool, set *Settings) limit {
	if tcp {
		return limit{bytes: dns.MaxMsgSize}
	}
	if opt := r.IsEdns0(); opt != nil && opt.UDPSize() > dns.MinMsgSize {
		return limit{bytes: int(opt.UDPSize())}
	}
	return limit{bytes: dns.MinMsgSize, answers: set.UDPAnswerLimit}
}

// fit drops what does not fit: first additional records from the end, then
// answers, and with an answer what belongs to it alone. An OPT record still has
// to go in, so its size is set aside.
func (a *answer) fit() {
	m, max := a.m, a.limit.bytes-ednsRoom
	if m.Len() > max {
		extra := m.Extra
		m.Extra = nil
		answers := m.Answer
		if m.Len() > max {
			n := sort.Search(len(answers), func(n int) bool { m.Answer = answers[:n+1]; return m.Len() > max })
			m.Answer = answers[:n]
			a.dropped = true
			extra = a.belonging(extra)
		}
		n := sort.Search(len(extra), func(n int) bool { m.Extra = extra[:n+1]; return m.Len() > max })
		m.Extra = extra[:n]
	}
	m.Truncated = a.dropped && a.set.EnableTruncate
}

// ednsRoom is the size of an OPT record with a client subnet of IPv6.
const ednsRoom = 11 + 4 + 4 + 16

// belonging keeps the additional records of the targets that are still there.
func (a *answer) belonging(extra []dns.RR) []dns.RR {
	targets := map[string]bool{}
	for _, rr := range a.m.Answer {
		targets[rr.Header().Name] = true
		switch rr := rr.(type) {
		case *dns.SRV:
			targets[rr.Target] = true
		case *dns.NS:
			targets[rr.Ns] = true
		case *dns.CNAME:
			targets[rr.Target] = true
		}
	}
	kept := extra[:0:0]
	for _, rr := range extra {
		if targets[rr.Header().Name] {
			kept = append(kept, rr)
		}
	}
	return kept
}
