package dnsapi

import "github.com/miekg/dns"

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
	if m.Len() > most { // never too low an estimate, but too high a one for texts with escapes
		n := whole(m, most)
		for len(m.Answer) > 0 && n < len(m.Answer)+len(m.Ns) {
			m.Answer = m.Answer[:min(n, len(m.Answer)-1)]
			m.Extra = a.belonging(m.Extra)
			a.dropped = true
			n = whole(m, most)
		}
		m.Extra = m.Extra[:max(n-len(m.Answer)-len(m.Ns), 0)]
	}
	m.Truncated = a.dropped && a.set.EnableTruncate
}

// whole is how many records of m, in the order they are written, size bytes hold.
func whole(m *dns.Msg, size int) int {
	const label = 64 // PackRR wants room for a name's next label even where a pointer takes its place
	b := make([]byte, max(size, 0)+label)
	var names map[string]int // where they stand, to be pointed at
	if m.Compress {
		names = map[string]int{}
	}
	end := headerSize
	for _, q := range m.Question {
		// A question that came as one is shorter than every limit.
		at, err := dns.PackDomainName(q.Name, b, end, names, m.Compress)
		if end = at + 4; err != nil || end > size {
			return 0
		}
	}
	n := 0
	for _, section := range [...][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			var err error
			if end, err = dns.PackRR(rr, b, end, names, m.Compress); err != nil || end > size {
				return n
			}
			n++
		}
	}
	return n
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
