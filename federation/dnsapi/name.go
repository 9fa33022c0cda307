package dnsapi

import (
	"strings"

	"github.com/miekg/dns"
)

// kind is the word of a name that says what is asked for.
type kind uint8

const (
	kindNone kind = iota
	kindNode
	kindService
	kindConnect
	kindVirtual
	kindAddr
	kindQuery
	kindZone // the domain itself
)

// kindOf reads the word of a name.
func kindOf(label []byte) kind {
	switch len(label) {
	case 4:
		if foldIs(label, "node") {
			return kindNode
		}
		if foldIs(label, "addr") {
			return kindAddr
		}
	case 5:
		if foldIs(label, "query") {
			return kindQuery
		}
	case 7:
		switch {
		case foldIs(label, "service"):
			return kindService
		case foldIs(label, "connect"):
			return kindConnect
		case foldIs(label, "virtual"):
			return kindVirtual
		}
	}
	return kindNone
}

// foldIs compares without regard to case, as names in DNS do (RFC 4343); word is
// in lower case.
func foldIs[T string | []byte](b []byte, word T) bool {
	if len(b) != len(word) {
		return false
	}
	for i := range b {
		if lower(b[i]) != word[i] {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// maxName bounds a name in wire form, with its root (RFC 1035 section 3.1).
const maxName = 255

// labels are where the labels of a name in wire form begin.
type labels struct {
	at [maxName/2 + 1]uint8 // offsets of the length bytes, the root's last
	n  int                  // without the root
}

// scan reads the uncompressed name that b begins with and returns its size in
// wire form, 0 if there is none.
func (l *labels) scan(b []byte) int {
	l.n = 0
	for off := 0; off < min(len(b), maxName); {
		size := int(b[off])
		l.at[l.n] = uint8(off)
		if size == 0 {
			return off + 1
		}
		if size > 63 { // a pointer, or a kind of label that nobody uses
			return 0
		}
		l.n++
		off += 1 + size
	}
	return 0
}

// of returns a label of the name that was scanned.
func (l *labels) of(name []byte, i int) []byte { return name[l.at[i]+1 : l.at[i+1]] }

// zone is a domain that is ours.
type zone struct {
	name   string // in lower case, with the final dot
	wire   []byte // in lower case
	labels int
}

func newZone(domain string) (zone, error) {
	z := zone{name: strings.ToLower(dns.Fqdn(domain)), labels: dns.CountLabel(domain)}
	buf := make([]byte, maxName)
	n, err := dns.PackDomainName(z.name, buf, 0, nil, false)
	z.wire = buf[:n]
	return z, err
}

// zoneOf returns the zone a name is in, the innermost one, and how many labels it
// has before the zone.
func (s *Server) zoneOf(name []byte, l *labels) (z *zone, local int) {
	for i := range s.zones {
		z := &s.zones[i]
		if local := l.n - z.labels; local >= 0 && foldIs(name[l.at[local]:], z.wire) {
			return z, local
		}
	}
	return nil, 0
}

// question is a name of our zones, taken apart. What it holds is in lower case;
// the dots of a name of several labels are between them.
type question struct {
	kind kind
	name []byte // node, service, prepared query or hex address
	tag  []byte // of a service; none = any
	dc   []byte // none = the own datacenter
	buf  [maxName]byte
}

// parse takes a name apart of which the first local labels are before the zone
// (spec dns.md 1). A name that has no form is reported as not ok.
func (q *question) parse(name []byte, l *labels, local int) (ok bool) {
	q.kind, q.name, q.tag, q.dc = kindNone, nil, nil, nil
	if local == 0 {
		q.kind = kindZone
		return true
	}
	if local >= 2 && underscored(l.of(name, 0)) && underscored(l.of(name, 1)) && !isQuery(name, l, local) {
		return q.parseRFC2782(name, l, local)
	}
	at := 0
	q.kind, at = kindAt(name, l, local)
	if at < 1 || !q.takeDatacenter(name, l, at+1, local) {
		return false // the kind alone, or none
	}
	switch q.kind {
	case kindService:
		q.name = q.join(name, l, at-1, at)
		q.tag = q.join(name, l, 0, at-1) // more labels join into the tag
	case kindNode:
		q.name = q.join(name, l, 0, at) // node names may have dots
	case kindQuery:
		if local > at+2 {
			return false // <dc> only, not <dc>.dc
		}
		q.name = q.join(name, l, 0, at) // so may names of queries
		if at == 2 && foldIs(l.of(name, 1), "_tcp") {
			// _<query>._tcp is the SRV form; without the first underscore it is none.
			if !underscored(l.of(name, 0)) {
				return false
			}
			q.name = q.join(name, l, 0, 1)[1:]
		}
	default:
		if at != 1 {
			return false
		}
		q.name = q.join(name, l, 0, 1)
	}
	return true
}

// parseRFC2782 takes _service._tag[.service][.dc[.dc]] apart; the tag _tcp means any.
func (q *question) parseRFC2782(name []byte, l *labels, local int) bool {
	q.kind, q.name = kindService, q.join(name, l, 0, 1)[1:]
	if tag := q.join(name, l, 1, 2)[1:]; string(tag) != "tcp" {
		q.tag = tag
	}
	rest := 2
	if rest < local && kindOf(l.of(name, rest)) == kindService {
		rest++
	}
	return q.takeDatacenter(name, l, rest, local)
}

// isQuery is whether what follows _name._tcp makes it the SRV form of a query's
// name, rather than of a service's.
func isQuery(name []byte, l *labels, local int) bool {
	return (local == 3 || local == 4) && kindOf(l.of(name, 2)) == kindQuery
}

// takeDatacenter reads [<dc>[.dc]] from label at up to the zone.
func (q *question) takeDatacenter(name []byte, l *labels, at, local int) bool {
	switch {
	case at == local:
		return true
	case local == at+1, local == at+2 && foldIs(l.of(name, at+1), "dc"):
		q.dc = q.join(name, l, at, at+1)
		return true
	}
	return false
}

// join copies labels into buf, in lower case, with dots between them.
func (q *question) join(name []byte, l *labels, from, to int) []byte {
	if from == to {
		return nil
	}
	first, end := int(l.at[from])+1, int(l.at[to])
	for i := first; i < end; i++ {
		q.buf[i] = lower(name[i])
	}
	for i := from + 1; i < to; i++ {
		q.buf[l.at[i]] = '.'
	}
	return q.buf[first:end]
}

// kindAt finds the kind: the last label, or one or two before it when a
// datacenter follows. -1 if there is none.
func kindAt(name []byte, l *labels, local int) (kind, int) {
	for at := local - 1; at >= max(0, local-3); at-- {
		if k := kindOf(l.of(name, at)); k != kindNone {
			return k, at
		}
	}
	return kindNone, -1
}

func underscored(label []byte) bool { return len(label) > 1 && label[0] == '_' }
