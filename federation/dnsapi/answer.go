package dnsapi

import (
	"context"
	"encoding/hex"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// maxFollow bounds how often an answer follows a CNAME inside our own zones.
const maxFollow = 4

// answer is one reply being built of records of miekg/dns: the way for every
// question. hot.go answers the most frequent ones with the same bytes.
type answer struct {
	s        *Server
	set      *Settings
	q        dns.Question
	m        *dns.Msg
	qtype    uint16
	now      time.Time
	zone     string // the domain that was asked, in the asker's own case, with the final dot
	limit    limit
	picker   picker
	from     netip.Addr // where the question comes from: an ECS option's word, or the client's own address
	dropped  bool       // answers were left out for the transport's sake
	bySource bool       // sorted for from alone
	depth    int
}

// inZone answers a question for a name of one of our zones.
func (a *answer) inZone(ctx context.Context, name []byte, l *labels, local int) {
	if a.qtype == dns.TypeSOA { // any name in the zone answers with the zone's
		a.m.Answer = append(a.m.Answer, a.soa())
		a.m.Ns, a.m.Extra = a.nameServers(ctx)
		return
	}
	var q question
	if !q.parse(name, l, local) {
		a.nameError()
		return
	}
	if err := a.lookup(ctx, &q); err != nil {
		a.m.Rcode = rcode(err)
		if a.m.Rcode == dns.RcodeNameError {
			a.nameError()
			return
		}
		a.s.failed(a.q.Name, err)
	}
}

// lookup fills the answer; its error decides the reply code.
func (a *answer) lookup(ctx context.Context, q *question) error {
	switch q.kind {
	case kindZone:
		if a.qtype != dns.TypeNS {
			return errNoName
		}
		a.m.Answer, a.m.Extra = a.nameServers(ctx)
	case kindNode:
		f, err := a.find(ctx, q)
		if err != nil {
			return err
		}
		a.node(ctx, f)
	case kindService, kindConnect:
		f, err := a.find(ctx, q)
		if err != nil {
			return err
		}
		a.picker.shuffle = true
		a.service(ctx, f)
	case kindQuery:
		return a.query(ctx, q)
	case kindVirtual: // no virtual addresses without the mesh: known names have none
		q.kind = kindService
		if _, err := a.find(ctx, q); err != nil {
			return err
		}
		a.noData()
	case kindAddr:
		return a.addr(q)
	}
	return nil
}

func (a *answer) find(ctx context.Context, q *question) (*found, error) {
	return a.s.lookup(ctx, a.set, q, q.appendKey(nil), false)
}

// service answers for a service's instances. TXT and ANY are answered with
// addresses too, as resolvers of this interface expect.
func (a *answer) service(ctx context.Context, f *found) {
	switch a.qtype {
	case dns.TypeSRV:
		a.srv(ctx, f)
	case dns.TypeA, dns.TypeAAAA, dns.TypeANY, dns.TypeTXT:
		a.addresses(ctx, f)
	}
	if len(a.m.Answer) == 0 {
		a.noData()
	}
}

// addresses answers with distinct addresses; a hostname becomes a CNAME, left out
// when there are addresses.
func (a *answer) addresses(ctx context.Context, f *found) {
	n := f.count(a.qtype)
	if n == 0 && len(f.hosts) > 0 {
		a.picker.reset(len(f.hosts))
		a.cname(ctx, f.hosts[a.picker.next(0)], f.ttl)
		return
	}
	most, byTransport := a.limit.addresses(a.set)
	a.picker.reset(n)
	for i := range n {
		if i == most {
			a.dropped = byTransport
			return
		}
		a.m.Answer = append(a.m.Answer, addressRR(a.q.Name, f.address(a.qtype, a.picker.next(i)), f.ttl))
	}
}

// count is how many addresses there are of the family a question asks for; all but
// A and AAAA ask for both.
func (f *found) count(qtype uint16) int {
	switch qtype {
	case dns.TypeA:
		return len(f.v4)
	case dns.TypeAAAA:
		return len(f.v6)
	}
	return len(f.v4) + len(f.v6)
}

// address returns one of these.
func (f *found) address(qtype uint16, i int) netip.Addr {
	if qtype == dns.TypeAAAA {
		return f.v6[i]
	}
	if i < len(f.v4) {
		return f.v4[i]
	}
	return f.v6[i-len(f.v4)]
}

// srv answers with one record for each distinct (weight, port, target), then the
// addresses of the targets, then what their nodes say of themselves.
func (a *answer) srv(ctx context.Context, f *found) {
	seen := make([]bool, f.targets)
	var txt []dns.RR
	a.picker.reset(len(f.srv))
	for i := range f.srv {
		if a.limit.answers > 0 && i == a.limit.answers {
			a.dropped = true
			break
		}
		r := &f.srv[a.picker.next(i)]
		target := r.host
		if target == "" {
			target = dotted(r.target) + a.zone
		}
		a.m.Answer = append(a.m.Answer, &dns.SRV{
			Hdr:      header(a.q.Name, dns.TypeSRV, f.ttl),
			Priority: 1, Weight: r.weight, Port: r.port, Target: target,
		})
		if seen[r.id] {
			continue
		}
		seen[r.id] = true
		for _, ip := range [...]netip.Addr{r.v4, r.v6} {
			if ip.IsValid() {
				a.m.Extra = append(a.m.Extra, addressRR(target, ip, f.ttl))
			}
		}
		if r.alias != "" {
			a.m.Extra = append(a.m.Extra, &dns.CNAME{Hdr: header(target, dns.TypeCNAME, f.ttl), Target: r.alias})
		}
		if name := r.host + r.alias; name != "" && a.s.ours(name) {
			a.m.Extra = append(a.m.Extra, a.follow(ctx, name, dns.TypeANY)...)
		}
		txt = append(txt, textRRs(target, r.txt, f.ttl)...)
	}
	a.m.Extra = append(a.m.Extra, txt...)
}

// node answers for a node, whatever its health.
func (a *answer) node(ctx context.Context, f *found) {
	if a.qtype == dns.TypeA || a.qtype == dns.TypeAAAA || a.qtype == dns.TypeANY {
		n := f.count(a.qtype)
		for i := range n {
			a.m.Answer = append(a.m.Answer, addressRR(a.q.Name, f.address(a.qtype, i), f.ttl))
		}
		if n == 0 && len(f.hosts) > 0 {
			a.cname(ctx, f.hosts[0], f.ttl)
		}
	}
	txt := textRRs(a.q.Name, f.txt, f.ttl)
	switch {
	case a.qtype == dns.TypeTXT, a.qtype == dns.TypeANY:
		a.m.Answer = append(a.m.Answer, txt...)
	case a.set.NodeMetaTXT && (a.qtype == dns.TypeA || a.qtype == dns.TypeAAAA):
		a.m.Extra = append(a.m.Extra, txt...)
	}
}

// addr answers <hex>.addr: 8 digits are IPv4, 32 are IPv6.
func (a *answer) addr(q *question) error {
	b, err := hex.DecodeString(string(q.name))
	ip, ok := netip.AddrFromSlice(b)
	if err != nil || !ok {
		return errNoName
	}
	rr := addressRR(a.q.Name, ip, 0)
	if a.qtype == rr.Header().Rrtype || a.qtype == dns.TypeANY {
		a.m.Answer = append(a.m.Answer, rr)
	} else {
		a.m.Extra = append(a.m.Extra, rr)
	}
	return nil
}

// maxNameServers is how many servers a zone names.
const maxNameServers = 3

// nameServers returns healthy servers at random, and their addresses.
func (a *answer) nameServers(ctx context.Context) (ns, extra []dns.RR) {
	f, err := a.find(ctx, &question{kind: kindService, name: []byte("consul")})
	if err != nil {
		return nil, nil
	}
	ttl := seconds(a.set.NodeTTL)
	seen := make([]bool, f.targets)
	p := picker{rng: a.picker.rng, shuffle: true}
	p.reset(len(f.srv))
	for i := range f.srv {
		r := &f.srv[p.next(i)]
		if len(ns) == maxNameServers || seen[r.id] || !r.oneLabel() {
			continue
		}
		seen[r.id] = true
		name := dotted(r.target) + a.zone
		ns = append(ns, &dns.NS{Hdr: header(a.zone, dns.TypeNS, ttl), Ns: name})
		for _, ip := range [...]netip.Addr{r.v4, r.v6} {
			if ip.IsValid() {
				extra = append(extra, addressRR(name, ip, ttl))
			}
		}
	}
	return ns, extra
}

// oneLabel is whether the target is a node whose name is a label.
func (r *srv) oneLabel() bool {
	return r.target != "" && len(r.target) > int(r.target[0])+6 && r.target[r.target[0]+1:][:5] == "\x04node"
}

// cname answers with an alias and, where the alias leads to our own zones or there
// is a recursor, with what it leads to.
func (a *answer) cname(ctx context.Context, target string, ttl uint32) {
	a.m.Answer = append(a.m.Answer, &dns.CNAME{Hdr: header(a.q.Name, dns.TypeCNAME, ttl), Target: target})
	if a.qtype == dns.TypeA || a.qtype == dns.TypeAAAA || a.qtype == dns.TypeANY {
		a.m.Answer = append(a.m.Answer, a.follow(ctx, target, a.qtype)...)
	}
}

// follow resolves a name for the sake of another: addresses and the aliases that
// lead to them.
func (a *answer) follow(ctx context.Context, name string, qtype uint16) []dns.RR {
	if a.depth >= maxFollow {
		return nil
	}
	var rrs []dns.RR
	if a.s.ours(name) {
		sub := &answer{s: a.s, set: a.set, m: new(dns.Msg), now: a.now, from: a.from, limit: limit{bytes: dns.MaxMsgSize}, depth: a.depth + 1}
		sub.picker.rng = a.picker.rng
		sub.ask(ctx, dns.Question{Name: name, Qtype: qtype, Qclass: dns.ClassINET})
		rrs = sub.m.Answer
	} else if len(a.set.Recursors) > 0 {
		rrs = a.s.resolve(ctx, a.set, name, qtype)
	}
	return slices.DeleteFunc(rrs, func(rr dns.RR) bool {
		t := rr.Header().Rrtype
		return t != dns.TypeA && t != dns.TypeAAAA && t != dns.TypeCNAME
	})
}

// ask answers a question for a name of ours; false if it is none.
func (a *answer) ask(ctx context.Context, q dns.Question) bool {
	var l labels
	buf := make([]byte, maxName+1)
	n, err := dns.PackDomainName(q.Name, buf, 0, nil, false)
	if err != nil || l.scan(buf[:n]) != n {
		return false
	}
	z, local := a.s.zoneOf(buf[:n], &l)
	if z == nil {
		return false
	}
	a.q, a.qtype = q, q.Qtype
	a.m.Authoritative = true
	at, _ := dns.PrevLabel(q.Name, z.labels)
	a.zone = q.Name[at:]
	a.inZone(ctx, buf[:n], &l, local)
	return true
}

// ours is whether a name is in one of our zones.
func (s *Server) ours(name string) bool {
	var l labels
	buf := make([]byte, maxName+1)
	n, err := dns.PackDomainName(name, buf, 0, nil, false)
	if err != nil || l.scan(buf[:n]) != n {
		return false
	}
	z, _ := s.zoneOf(buf[:n], &l)
	return z != nil
}

func (a *answer) soa() dns.RR {
	return &dns.SOA{
		Hdr: header(a.zone, dns.TypeSOA, a.set.SOAMinTTL), Ns: "ns." + a.zone, Mbox: "hostmaster." + a.zone,
		Serial:  uint32(a.now.Unix()),
		Refresh: a.set.SOARefresh, Retry: a.set.SOARetry, Expire: a.set.SOAExpire, Minttl: a.set.SOAMinTTL,
	}
}

// nameError says that the name does not exist, and how long to believe it.
func (a *answer) nameError() {
	a.m.Rcode = dns.RcodeNameError
	a.noData()
}

// noData says that the name has no such record (RFC 2308 section 2.2).
func (a *answer) noData() { a.m.Ns = append(a.m.Ns, a.soa()) }
