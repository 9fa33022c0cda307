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

// limitOf is the limit of a question; edns is the size its OPT record names, 0
// without one.
func limitOf(set *Settings, edns uint16, tcp bool) limit {
	switch {
	case tcp:
		return limit{bytes: dns.MaxMsgSize}
	case edns > dns.MinMsgSize:
		return limit{bytes: int(edns)}
	}
	return limit{bytes: dns.MinMsgSize, answers: set.UDPAnswerLimit}
}

// addresses is how many address records may be shown, -1 = all, and whether a
// larger transport would carry more.
func (l limit) addresses(set *Settings) (most int, byTransport bool) {
	switch r := set.ARecordLimit; {
	case r > 0 && (l.answers == 0 || r <= l.answers):
		return r, false
	case l.answers > 0:
		return l.answers, true
	}
	return -1, false
}

// minRecord is the size of the smallest record: a pointer, and no data.
const minRecord = 12

// fit drops what does not fit: first additional records from the end, then
// answers, and with an answer what belongs to it alone. room is set aside for the
// OPT record.
func (a *answer) fit(room int) {
	m, most := a.m, a.limit.bytes-room
	if n := a.limit.answers; n > 0 && len(m.Answer) > n {
		m.Answer = m.Answer[:n]
		m.Extra = a.belonging(m.Extra)
		a.dropped = true
	}
	if m.Len() > most {
		// What cannot fit in any case need not be measured again and again.
		m.Extra = m.Extra[:min(len(m.Extra), most/minRecord)]
		extra := m.Extra
		m.Extra = nil
		answers := m.Answer
		if m.Len() > most {
			n := sort.Search(len(answers), func(n int) bool { m.Answer = answers[:n+1]; return m.Len() > most })
			m.Answer = answers[:n]
			a.dropped = true
			extra = a.belonging(extra)
		}
		n := sort.Search(len(extra), func(n int) bool { m.Extra = extra[:n+1]; return m.Len() > most })
		m.Extra = extra[:n]
	}
	m.Truncated = a.dropped && a.set.EnableTruncate
}

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
			if c, ok := rr.(*dns.CNAME); ok { // and what it leads to
				targets[c.Target] = true
			}
		}
	}
	return kept
}
