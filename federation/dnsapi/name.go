package dnsapi

import (
	"strings"
)

// kind is the word of a name that says what is asked for.
type kind string

const (
	kindNode    kind = "node"
	kindService kind = "service"
	kindConnect kind = "connect"
	kindVirtual kind = "virtual"
	kindAddr    kind = "addr"
	kindQuery   kind = "query"
	kindZone    kind = "zone" // the domain itself
)

// question is a name of our zones, taken apart.
type question struct {
	kind kind
	name string // node, service, prepared query or hex address
	tag  string // of a service; "" = any
	dc   string // "" = the own datacenter
	zone string // the domain that was asked, in the asker's own case, with the final dot
}

// parse takes a fully qualified name of one of our zones apart (spec dns.md 1).
// Names that are in the zone but have no form are reported as not ok.
func parse(qname, zone string) (question, bool) {
	q := question{zone: qname[len(qname)-len(zone):]}
	local := strings.TrimSuffix(qname[:len(qname)-len(zone)], ".")
	if local == "" {
		q.kind = kindZone
		return q, true
	}
	labels := strings.Split(local, ".")
	for _, l := range labels {
		if l == "" {
			return q, false
		}
	}
	if len(labels) >= 2 && isUnderscored(labels[0]) && isUnderscored(labels[1]) && !isQuery(labels[2:]) {
		return parseRFC2782(q, labels)
	}
	at := kindAt(labels)
	if at < 1 {
		return q, false // the kind alone, or none
	}
	q.kind = kind(strings.ToLower(labels[at]))
	if !takeDatacenter(&q, labels[at+1:]) {
		return q, false
	}
	before := labels[:at]
	switch q.kind {
	case kindService:
		q.name = before[len(before)-1]
		q.tag = strings.Join(before[:len(before)-1], ".") // more labels join into the tag
	case kindNode:
		q.name = strings.Join(before, ".") // node names may have dots
	case kindQuery:
		if len(labels) > at+2 {
			return q, false // <dc> only, not <dc>.dc
		}
		q.name = strings.Join(before, ".") // so may names of queries
		if len(before) == 2 && strings.EqualFold(before[1], "_tcp") {
			// _<query>._tcp is the SRV form; without the first underscore it is none.
			if !isUnderscored(before[0]) {
				return q, false
			}
			q.name = before[0][1:]
		}
	default:
		if len(before) != 1 {
			return q, false
		}
		q.name = before[0]
	}
	return q, true
}

// parseRFC2782 takes _service._tag[.service][.dc[.dc]] apart; the tag _tcp means any.
func parseRFC2782(q question, labels []string) (question, bool) {
	q.kind, q.name = kindService, labels[0][1:]
	if tag := labels[1][1:]; !strings.EqualFold(tag, "tcp") {
		q.tag = tag
	}
	rest := labels[2:]
	if len(rest) > 0 && strings.EqualFold(rest[0], string(kindService)) {
		rest = rest[1:]
	}
	return q, takeDatacenter(&q, rest)
}

// isQuery is whether what follows _name._tcp makes it the SRV form of a query's
// name, rather than of a service's.
func isQuery(rest []string) bool {
	return (len(rest) == 1 || len(rest) == 2) && strings.EqualFold(rest[0], string(kindQuery))
}

// takeDatacenter reads [<dc>[.dc]] behind the kind.
func takeDatacenter(q *question, rest []string) bool {
	switch {
	case len(rest) == 0:
	case len(rest) == 1, len(rest) == 2 && strings.EqualFold(rest[1], "dc"):
		q.dc = strings.ToLower(rest[0])
	default:
		return false
	}
	return true
}

// kindAt finds the kind: the last label, or one or two before it when a
// datacenter follows. -1 if there is none.
func kindAt(labels []string) int {
	for back := 1; back <= 3 && back <= len(labels); back++ {
		switch kind(strings.ToLower(labels[len(labels)-back])) {
		case kindNode, kindService, kindConnect, kindVirtual, kindAddr, kindQuery:
			return len(labels) - back
		}
	}
	return -1
}

func isUnderscored(label string) bool { return len(label) > 1 && label[0] == '_' }

// zoneOf returns the zone a name belongs to, or "".
func (s *Server) zoneOf(qname string) string {
	lower := strings.ToLower(qname)
	for _, z := range s.zones {
		if lower == z || strings.HasSuffix(lower, "."+z) {
			return z
		}
	}
	return ""
}
