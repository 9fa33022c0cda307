package dnsapi

import (
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// maxFollow bounds how often an answer follows a CNAME inside our own zones.
const maxFollow = 4

// answer is one reply being built.
type answer struct {
	s        *Server
	set      *Settings
	q        dns.Question
	m        *dns.Msg
	qtype    uint16
	limit    limit
	from     netip.Addr // where the question comes from: an ECS option's word, or the client's own address
	dropped  bool       // answers were left out
	bySource bool       // sorted for from alone
	depth    int
}

// zone answers a question for one of our zones.
func (a *answer) zone(ctx context.Context, zone string) {
	q, ok := parse(a.q.Name, zone)
	if !ok {
		a.nameError(a.q.Name[len(a.q.Name)-len(zone):])
		return
	}
	if q.kind == kindZone {
		a.zoneItself(ctx, q)
		return
	}
	if a.qtype == dns.TypeSOA { // any name in the zone answers with the zone's
		a.m.Answer = append(a.m.Answer, a.soa(q.zone))
		a.m.Ns, a.m.Extra = a.nameServers(ctx, q)
		return
	}
	if err := a.lookup(ctx, q); err != nil {
		a.m.Rcode = rcode(err)
		if a.m.Rcode == dns.RcodeNameError {
			a.nameError(q.zone)
			return
		}
		a.s.cfg.Logger.Warn("dns question not answered", "name", a.q.Name, "err", err)
	}
}

// lookup fills the answer; its error decides the reply code.
func (a *answer) lookup(ctx context.Context, q question) error {
	switch q.kind {
	case kindNode:
		n, err := a.s.node(ctx, a.set, q)
		if err != nil {
			return err
		}
		a.node(ctx, q, n)
	case kindService, kindConnect:
		list, err := a.s.instances(ctx, a.set, q)
		if err != nil {
			return err
		}
		a.service(ctx, q, list, a.set.serviceTTL(q.name))
	case kindQuery:
		return a.query(ctx, q)
	case kindVirtual: // no virtual addresses without the mesh: known names have none
		if _, err := a.s.instances(ctx, a.set, q); err != nil {
			return err
		}
		a.noData(q.zone)
	case kindAddr:
		return a.addr(q)
	}
	return nil
}

// do runs a read with the front end's token and staleness.
func (s *Server) do(ctx context.Context, set *Settings, req *rpc.Request) (*rpc.Response, error) {
	req.Representation = rpc.Records
	req.SourceDC = s.cfg.Datacenter
	if s.cfg.Token != nil {
		req.Token = s.cfg.Token()
	}
	if ok, most := set.staleness(); ok {
		req.Consistency, req.MaxStale = store.Stale, most
	}
	return s.cfg.Do.Do(ctx, req)
}

var errNoName = &store.Error{Kind: store.KindNotFound, Message: "no such name"}

func (s *Server) node(ctx context.Context, set *Settings, q question) (*store.Node, error) {
	resp, err := s.do(ctx, set, &rpc.Request{Method: rpc.CatalogNode, Datacenter: q.dc, Query: store.Query{Name: q.name}})
	if err != nil {
		return nil, err
	}
	if resp.NotFound {
		return nil, errNoName
	}
	n := new(store.Node)
	return n, n.DecodeWire(resp.Body)
}

// instances returns the instances of a service that may be shown, shuffled.
func (s *Server) instances(ctx context.Context, set *Settings, q question) ([]store.ServiceInstance, error) {
	req := &rpc.Request{Method: rpc.HealthService, Datacenter: q.dc, Query: store.Query{Name: q.name}}
	if q.kind == kindConnect {
		req.Method = rpc.HealthConnect
	}
	if q.tag != "" {
		req.Query.Tags = []string{q.tag}
	}
	resp, err := s.do(ctx, set, req)
	if err != nil {
		return nil, err
	}
	all, err := store.DecodeInstances(resp.Body)
	if err != nil {
		return nil, err
	}
	list := all[:0]
	for _, inst := range all {
		switch health(inst.Checks) {
		case store.Critical:
			continue
		case store.Warning:
			if set.OnlyPassing {
				continue
			}
		}
		list = append(list, inst)
	}
	if len(list) == 0 {
		return nil, errNoName
	}
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list, nil
}

// health is the worst status among checks.
func health(checks []*store.Check) string {
	worst := store.Passing
	for _, c := range checks {
		switch c.Status {
		case store.Critical:
			return store.Critical
		case store.Warning:
			worst = store.Warning
		}
	}
	return worst
}

// addressOf is the address to show for an instance, and its port: the service's
// own or its node's, of the family asked for, WAN ones for other datacenters.
func (a *answer) addressOf(q question, inst store.ServiceInstance) (string, int) {
	svc := inst.Service
	if svc.Address == "" {
		return a.nodeAddress(q, inst.Node), svc.Port
	}
	for _, tag := range a.tags(q) {
		if t, ok := svc.TaggedAddresses[tag]; ok && t.Address != "" {
			if port := t.Port; port != 0 {
				return t.Address, port
			}
			return t.Address, svc.Port
		}
	}
	return svc.Address, svc.Port
}

func (a *answer) nodeAddress(q question, n *store.Node) string {
	for _, tag := range a.tags(q) {
		if addr := n.TaggedAddresses[tag]; addr != "" {
			return addr
		}
	}
	return n.Address
}

// tags lists the tagged addresses that come before the plain one.
func (a *answer) tags(q question) []string {
	v6 := a.qtype == dns.TypeAAAA
	if a.s.cfg.TranslateWAN && q.dc != "" && q.dc != a.s.cfg.Datacenter {
		if v6 {
			return []string{"wan_ipv6", "wan"}
		}
		return []string{"wan_ipv4", "wan"}
	}
	if v6 {
		return []string{"lan_ipv6"}
	}
	return []string{"lan_ipv4"}
}

// wantsAddress is whether the question's type is answered with addresses: TXT
// and ANY of a service are, as resolvers of this interface expect.
func wantsAddress(qtype uint16) bool {
	return qtype == dns.TypeA || qtype == dns.TypeAAAA || qtype == dns.TypeANY || qtype == dns.TypeTXT
}

// service answers for a service's instances.
func (a *answer) service(ctx context.Context, q question, list []store.ServiceInstance, ttl uint32) {
	switch {
	case a.qtype == dns.TypeSRV:
		a.srv(ctx, q, list, ttl)
	case wantsAddress(a.qtype):
		a.addresses(ctx, q, list, ttl)
	}
	if len(a.m.Answer) == 0 {
		a.noData(q.zone)
	}
}

// addresses answers with distinct addresses; a hostname becomes a CNAME, left out
// when there are addresses.
func (a *answer) addresses(ctx context.Context, q question, list []store.ServiceInstance, ttl uint32) {
	most := a.limit.answers
	if r := a.set.ARecordLimit; r > 0 && (most == 0 || r < most) {
		most = r
	}
	seen := make(map[string]bool, len(list))
	var host string
	for _, inst := range list {
		addr, _ := a.addressOf(q, inst)
		if seen[addr] {
			continue
		}
		seen[addr] = true
		rr, isHost := addressRR(a.q.Name, addr, ttl, a.qtype)
		if isHost {
			host = addr
		}
		if rr == nil {
			continue
		}
		if most > 0 && len(a.m.Answer) == most {
			a.dropped = true
			return
		}
		a.m.Answer = append(a.m.Answer, rr)
	}
	if len(a.m.Answer) == 0 && host != "" {
		a.cname(ctx, host, ttl)
	}
}

// srv answers with one record for each distinct (weight, port, target).
func (a *answer) srv(ctx context.Context, q question, list []store.ServiceInstance, ttl uint32) {
	type tuple struct {
		weight, port uint16
		target       string
	}
	seen := make(map[tuple]bool, len(list))
	targets := map[string]bool{}
	for _, inst := range list {
		addr, port := a.addressOf(q, inst)
		t := tuple{weight: weight(inst), port: uint16(port), target: a.target(q, inst, addr)}
		if seen[t] {
			continue
		}
		seen[t] = true
		if a.limit.answers > 0 && len(a.m.Answer) == a.limit.answers {
			a.dropped = true
			return
		}
		a.m.Answer = append(a.m.Answer, &dns.SRV{
			Hdr:      header(a.q.Name, dns.TypeSRV, ttl),
			Priority: 1, Weight: t.weight, Port: t.port, Target: t.target,
		})
		if targets[t.target] {
			continue
		}
		targets[t.target] = true
		if rr, isHost := addressRR(t.target, addr, ttl, dns.TypeANY); rr != nil {
			a.m.Extra = append(a.m.Extra, rr)
		} else if isHost && a.s.zoneOf(dns.Fqdn(addr)) != "" {
			a.m.Extra = append(a.m.Extra, a.follow(ctx, dns.Fqdn(addr), dns.TypeA)...)
		}
		if a.set.NodeMetaTXT && inst.Service.Address == "" {
			a.m.Extra = append(a.m.Extra, metaTXT(t.target, inst.Node, ttl)...)
		}
	}
}

func weight(inst store.ServiceInstance) uint16 {
	if health(inst.Checks) == store.Warning {
		return uint16(inst.Service.Weights.Warning)
	}
	return uint16(inst.Service.Weights.Passing)
}

// target is an SRV record's: the node's name, or a name made of the service's own
// address, which resolves by itself.
func (a *answer) target(q question, inst store.ServiceInstance, addr string) string {
	dc := q.dc
	if dc == "" {
		dc = a.s.cfg.Datacenter
	}
	if inst.Service.Address == "" {
		return fmt.Sprintf("%s.node.%s.%s", inst.Node.Node, dc, q.zone)
	}
	ip, err := netip.ParseAddr(addr)
	if err != nil {
		return dns.Fqdn(addr)
	}
	return fmt.Sprintf("%x.addr.%s.%s", ip.Unmap().AsSlice(), dc, q.zone)
}

// node answers for a node, whatever its health.
func (a *answer) node(ctx context.Context, q question, n *store.Node) {
	ttl := seconds(a.set.NodeTTL)
	addr := a.nodeAddress(q, n)
	txt := metaTXT(a.q.Name, n, ttl)
	if a.qtype == dns.TypeA || a.qtype == dns.TypeAAAA || a.qtype == dns.TypeANY {
		if rr, isHost := addressRR(a.q.Name, addr, ttl, a.qtype); rr != nil {
			a.m.Answer = append(a.m.Answer, rr)
		} else if isHost {
			a.cname(ctx, addr, ttl)
		}
	}
	switch {
	case a.qtype == dns.TypeTXT, a.qtype == dns.TypeANY:
		a.m.Answer = append(a.m.Answer, txt...)
	case a.set.NodeMetaTXT && (a.qtype == dns.TypeA || a.qtype == dns.TypeAAAA):
		a.m.Extra = append(a.m.Extra, txt...)
	}
}

// addr answers <hex>.addr: 8 digits are IPv4, 32 are IPv6.
func (a *answer) addr(q question) error {
	b, err := hex.DecodeString(q.name)
	ip, ok := netip.AddrFromSlice(b)
	if err != nil || !ok {
		return errNoName
	}
	rr, _ := addressRR(a.q.Name, ip.String(), 0, dns.TypeANY)
	if a.qtype == rr.Header().Rrtype || a.qtype == dns.TypeANY {
		a.m.Answer = append(a.m.Answer, rr)
	} else {
		a.m.Extra = append(a.m.Extra, rr)
	}
	return nil
}

// zoneItself answers for the domain's own name.
func (a *answer) zoneItself(ctx context.Context, q question) {
	switch a.qtype {
	case dns.TypeSOA:
		a.m.Answer = append(a.m.Answer, a.soa(q.zone))
		a.m.Ns, a.m.Extra = a.nameServers(ctx, q)
	case dns.TypeNS:
		a.m.Answer, a.m.Extra = a.nameServers(ctx, q)
	default:
		a.nameError(q.zone)
	}
}

// nameServers returns up to three healthy servers at random, and their addresses.
func (a *answer) nameServers(ctx context.Context, q question) (ns, extra []dns.RR) {
	list, err := a.s.instances(ctx, a.set, question{kind: kindService, name: "consul"})
	if err != nil {
		return nil, nil
	}
	ttl := seconds(a.set.NodeTTL)
	for _, inst := range list {
		if len(ns) == 3 {
			break
		}
		name := fmt.Sprintf("%s.node.%s.%s", inst.Node.Node, a.s.cfg.Datacenter, q.zone)
		if _, ok := dns.IsDomainName(name); !ok || !isLabel(inst.Node.Node) {
			continue
		}
		ns = append(ns, &dns.NS{Hdr: header(q.zone, dns.TypeNS, ttl), Ns: name})
		if rr, _ := addressRR(name, inst.Node.Address, ttl, dns.TypeANY); rr != nil {
			extra = append(extra, rr)
		}
	}
	return ns, extra
}

// reverse answers a PTR question; false if the address is nobody's.
func (a *answer) reverse(ctx context.Context) bool {
	ip, ok := addressOfReverse(a.q.Name)
	if !ok {
		a.nameError(dns.Fqdn(a.s.cfg.Domain))
		return false
	}
	resp, err := a.s.do(ctx, a.set, &rpc.Request{Method: rpc.CatalogByAddress, Query: store.Query{Name: ip.String()}})
	if err != nil {
		a.m.Rcode = dns.RcodeServerFailure
		return true
	}
	found, err := store.DecodeNodeServices(resp.Body)
	if err != nil {
		a.m.Rcode = dns.RcodeServerFailure
		return true
	}
	zone := dns.Fqdn(a.s.cfg.Domain)
	ptr := func(name, kind string) {
		a.m.Answer = append(a.m.Answer, &dns.PTR{Hdr: header(a.q.Name, dns.TypePTR, 0), Ptr: fmt.Sprintf("%s.%s.%s.%s", name, kind, a.s.cfg.Datacenter, zone)})
	}
	for _, ns := range found {
		if sameIP(ns.Node.Address, ip) {
			ptr(ns.Node.Node, "node")
			return true
		}
	}
	for _, ns := range found {
		for _, svc := range ns.Services {
			if sameIP(svc.Address, ip) {
				ptr(svc.Name, "service")
				return true
			}
		}
	}
	a.nameError(zone)
	return false
}

// cname answers with an alias and, where the alias leads to our own zones or there
// is a recursor, with what it leads to.
func (a *answer) cname(ctx context.Context, host string, ttl uint32) {
	target := dns.Fqdn(host)
	a.m.Answer = append(a.m.Answer, &dns.CNAME{Hdr: header(a.q.Name, dns.TypeCNAME, ttl), Target: target})
	a.m.Answer = append(a.m.Answer, a.follow(ctx, target, a.qtype)...)
}

// follow resolves a name for the sake of another.
func (a *answer) follow(ctx context.Context, name string, qtype uint16) []dns.RR {
	if a.depth >= maxFollow || (qtype != dns.TypeA && qtype != dns.TypeAAAA && qtype != dns.TypeANY) {
		return nil
	}
	q := dns.Question{Name: name, Qtype: qtype, Qclass: dns.ClassINET}
	if zone := a.s.zoneOf(name); zone != "" {
		sub := &answer{s: a.s, set: a.set, q: q, m: new(dns.Msg), qtype: qtype, from: a.from, limit: limit{bytes: dns.MaxMsgSize}, depth: a.depth + 1}
		sub.zone(ctx, zone)
		return sub.m.Answer
	}
	if len(a.set.Recursors) == 0 {
		return nil
	}
	r := new(dns.Msg)
	r.SetQuestion(name, qtype)
	return a.s.recurse(ctx, r, a.set, false).Answer
}

func (a *answer) soa(zone string) dns.RR {
	return &dns.SOA{
		Hdr: header(zone, dns.TypeSOA, a.set.SOAMinTTL), Ns: "ns." + zone, Mbox: "hostmaster." + zone,
		Serial:  uint32(time.Now().Unix()),
		Refresh: a.set.SOARefresh, Retry: a.set.SOARetry, Expire: a.set.SOAExpire, Minttl: a.set.SOAMinTTL,
	}
}

// nameError says that the name does not exist, and how long to believe it.
func (a *answer) nameError(zone string) {
	a.m.Rcode = dns.RcodeNameError
	a.noData(zone)
}

// noData says that the name has no such record (RFC 2308 section 2.2).
func (a *answer) noData(zone string) { a.m.Ns = append(a.m.Ns, a.soa(zone)) }
