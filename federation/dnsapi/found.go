package dnsapi

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"landbridge/store"
)

// found is what a name of a node or service leads to: the records of an answer in
// all but their owner, without doubles. Both ways of answering read it; nobody
// changes it.
type found struct {
	ttl    uint32
	v4, v6 []netip.Addr
	hosts  []string // names where addresses should be, with the final dot
	srv    []srv
	txt    []string // a node's metadata
	// targets is how many different targets srv has.
	targets int
	// follow is whether a target of srv is a name that has to be resolved.
	follow bool
}

// srv is an SRV record and what goes with it into Additional.
type srv struct {
	weight, port uint16
	target       string // in wire form, up to the zone; "" if it is host
	host         string // the name an instance has as its address
	id           int    // of the target, from 0
	v4, v6       netip.Addr
	alias        string   // the name a node has as its address
	txt          []string // the node's metadata
}

// finder makes found of what the catalog says.
type finder struct {
	set     *Settings
	dc      string // where the instances are
	wan     bool   // they are reached by their WAN addresses
	ttl     uint32
	zoneLen int // of the longest zone in wire form
}

func (s *Server) finder(set *Settings, dc string, ttl uint32) finder {
	f := finder{set: set, dc: dc, ttl: ttl, zoneLen: s.zoneLen}
	if dc == "" {
		f.dc = s.cfg.Datacenter
	}
	f.wan = s.cfg.TranslateWAN && f.dc != s.cfg.Datacenter
	return f
}

// visible is whether an instance may be shown.
func visible(set *Settings, checks []*store.Check) bool {
	switch health(checks) {
	case store.Critical:
		return false
	case store.Warning:
		return !set.OnlyPassing
	}
	return true
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

// reachable is where something is reached: an address of each family at most, or a
// name for the family that has none.
type reachable struct {
	v4, v6 netip.Addr
	main   netip.Addr // the one that names it
	host   string
}

// reach chooses the addresses to show (spec dns.md 2): tagged ones of their family
// come first, those for the WAN if that is the way.
func (f *finder) reach(addr string, tagged func(tag string) string) (e reachable) {
	four, six := "lan_ipv4", "lan_ipv6"
	if f.wan {
		four, six = "wan_ipv4", "wan_ipv6"
		if a := tagged("wan"); a != "" {
			addr = a
		}
	}
	if ip := parseIP(tagged(four)); ip.Is4() {
		e.v4 = ip
	}
	if ip := parseIP(tagged(six)); ip.Is6() {
		e.v6 = ip
	}
	e.main = parseIP(addr)
	switch {
	case e.main.Is4():
		if !e.v4.IsValid() {
			e.v4 = e.main
		}
	case e.main.Is6():
		if !e.v6.IsValid() {
			e.v6 = e.main
		}
	default:
		e.host = hostname(addr)
		if e.main = e.v4; !e.main.IsValid() {
			e.main = e.v6
		}
	}
	return e
}

func (e *reachable) empty() bool { return !e.main.IsValid() && e.host == "" }

// parseIP is the zero Addr for what is none.
func parseIP(s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	ip, err := netip.ParseAddr(s)
	if err != nil || ip.Zone() != "" { // records have no zones
		return netip.Addr{}
	}
	return ip.Unmap()
}

// hostname is the name in an address field, "" if it is none that a record could
// hold.
func hostname(s string) string {
	if s == "" || strings.ContainsAny(s, "\\\x00 ") {
		return ""
	}
	s = dns.Fqdn(s)
	if _, ok := dns.IsDomainName(s); !ok || s == "." {
		return ""
	}
	return s
}

func (f *finder) reachNode(n *store.Node) reachable {
	return f.reach(n.Address, func(tag string) string { return n.TaggedAddresses[tag] })
}

// reachInstance says where an instance is reached, at which port, and whether by
// its node's address.
func (f *finder) reachInstance(i *store.ServiceInstance) (e reachable, port int, byNode bool) {
	svc := i.Service
	e = f.reach(svc.Address, func(tag string) string { return svc.TaggedAddresses[tag].Address })
	if e.empty() {
		return f.reachNode(i.Node), svc.Port, true
	}
	tags := [...]string{"lan_ipv4", "lan_ipv6"}
	if f.wan {
		tags = [...]string{"wan_ipv4", "wan"}
	}
	for _, tag := range tags {
		if t := svc.TaggedAddresses[tag]; t.Address != "" && t.Port != 0 {
			return e, t.Port, false
		}
	}
	return e, svc.Port, false
}

// node makes found of a node.
func (f *finder) node(n *store.Node) *found {
	out := &found{ttl: f.ttl, txt: texts(n)}
	out.add(f.reachNode(n))
	return out
}

func (out *found) add(e reachable) {
	if e.v4.IsValid() {
		out.v4 = append(out.v4, e.v4)
	}
	if e.v6.IsValid() {
		out.v6 = append(out.v6, e.v6)
	}
	if e.host != "" {
		out.hosts = append(out.hosts, e.host)
	}
}

// instances makes found of a service's instances, all of which may be shown.
func (f *finder) instances(list []store.ServiceInstance) *found {
	out := &found{ttl: f.ttl, srv: make([]srv, 0, len(list))}
	type tuple struct {
		weight, port uint16
		target       int
	}
	var (
		addresses = make(map[netip.Addr]bool, len(list))
		hosts     = make(map[string]bool)
		targets   = make(map[string]int, len(list))
		records   = make(map[tuple]bool, len(list))
	)
	for n := range list {
		i := &list[n]
		e, port, byNode := f.reachInstance(i)
		if e.empty() {
			continue
		}
		r := srv{weight: weight(i), port: uint16(port), v4: e.v4, v6: e.v6}
		f.target(&r, i, &e, byNode)
		id, known := targets[r.target+r.host]
		if !known {
			id = len(targets)
			targets[r.target+r.host] = id
		}
		r.id = id
		if t := (tuple{r.weight, r.port, id}); !records[t] {
			records[t] = true
			out.srv = append(out.srv, r)
			out.follow = out.follow || r.host != "" || r.alias != ""
		}
		for _, ip := range [...]*netip.Addr{&e.v4, &e.v6} {
			if addresses[*ip] {
				*ip = netip.Addr{}
			} else {
				addresses[*ip] = true
			}
		}
		if hosts[e.host] {
			e.host = ""
		}
		hosts[e.host] = true
		out.add(e)
	}
	out.targets = len(targets)
	return out
}

// target sets an SRV record's target and what goes with it: the node's name, or a
// name made of the service's own address, which resolves by itself. So does an
// instance on a node whose name is none in DNS.
func (f *finder) target(r *srv, i *store.ServiceInstance, e *reachable, byNode bool) {
	if byNode {
		if name, ok := f.wireName(i.Node.Node, "node"); ok {
			r.target, r.alias = name, e.host
			if f.set.NodeMetaTXT {
				r.txt = texts(i.Node)
			}
			return
		}
	}
	r.v4, r.v6 = netip.Addr{}, netip.Addr{}
	switch {
	case e.host != "": // what it leads to is not ours to say
		r.host = e.host
		return
	case e.main.Is4(): // the name stands for one address
		r.v4 = e.main
	default:
		r.v6 = e.main
	}
	r.target, _ = f.wireName(hex.EncodeToString(e.main.AsSlice()), "addr")
}

// wireName is <name>.<kind>.<dc> in wire form, if it can stand before every zone.
func (f *finder) wireName(name, kind string) (string, bool) {
	b := make([]byte, 0, len(name)+len(kind)+len(f.dc)+3)
	for _, part := range [...]string{name, kind, f.dc} {
		for label := range strings.SplitSeq(part, ".") {
			if !isLabel(label) {
				return "", false
			}
			b = append(append(b, byte(len(label))), label...)
		}
	}
	return string(b), len(b)+f.zoneLen <= maxName
}

// dotted turns labels in wire form, all of them valid, into text.
func dotted(wire string) string {
	b := []byte(wire)
	for at := 0; at < len(b); {
		size := int(b[at])
		b[at] = '.'
		at += 1 + size
	}
	return string(b[1:]) + "."
}

// isLabel is whether a word can be a label of a name that is shown.
func isLabel(s string) bool {
	if s == "" || len(s) > 63 {
		return false
	}
	for i := range len(s) {
		switch c := lower(s[i]); {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}

// weight of an instance in SRV records, by its health.
func weight(i *store.ServiceInstance) uint16 {
	w := i.Service.Weights.Passing
	if health(i.Checks) == store.Warning {
		w = i.Service.Weights.Warning
	}
	return uint16(min(max(w, 0), 0xffff))
}

// texts makes a text of each pair of a node's metadata, sorted by key. A key that
// begins with rfc1035- gives the bare value.
func texts(n *store.Node) []string {
	keys := make([]string, 0, len(n.Meta))
	for k := range n.Meta {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for i, k := range keys {
		text := n.Meta[k]
		if !strings.HasPrefix(strings.ToLower(k), "rfc1035-") {
			text = k + "=" + text
		}
		keys[i] = text
	}
	return keys
}

// size is about what found takes of the memory.
func (f *found) size() int {
	n := 128 + 24*(len(f.v4)+len(f.v6))
	for _, h := range f.hosts {
		n += 16 + len(h)
	}
	for _, t := range f.txt {
		n += 16 + len(t)
	}
	for i := range f.srv {
		r := &f.srv[i]
		n += 160 + len(r.target) + len(r.host) + len(r.alias)
		for _, t := range r.txt {
			n += 16 + len(t)
		}
	}
	return n
}
