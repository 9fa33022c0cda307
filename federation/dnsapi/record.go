package dnsapi

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"landbridge/store"
)

func header(name string, rrtype uint16, ttl uint32) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: ttl}
}

// addressRR makes an A or AAAA record of an address, if its family is the one
// asked for (all but AAAA and A ask for either). isHost says it is no address.
func addressRR(owner, addr string, ttl uint32, qtype uint16) (rr dns.RR, isHost bool) {
	ip, err := netip.ParseAddr(addr)
	if err != nil {
		return nil, addr != ""
	}
	ip = ip.Unmap()
	if ip.Is4() {
		if qtype == dns.TypeAAAA {
			return nil, false
		}
		return &dns.A{Hdr: header(owner, dns.TypeA, ttl), A: ip.AsSlice()}, false
	}
	if qtype == dns.TypeA {
		return nil, false
	}
	return &dns.AAAA{Hdr: header(owner, dns.TypeAAAA, ttl), AAAA: ip.AsSlice()}, false
}

// maxTXT is the length of one character-string (RFC 1035 section 3.3).
const maxTXT = 255

// metaTXT makes a TXT record of each pair of a node's meta, sorted. A key that
// begins with rfc1035- gives the bare value.
func metaTXT(owner string, n *store.Node, ttl uint32) []dns.RR {
	keys := make([]string, 0, len(n.Meta))
	for k := range n.Meta {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var out []dns.RR
	for _, k := range keys {
		text := n.Meta[k]
		if !strings.HasPrefix(strings.ToLower(k), "rfc1035-") {
			text = k + "=" + text
		}
		out = append(out, &dns.TXT{Hdr: header(owner, dns.TypeTXT, ttl), Txt: split(text)})
	}
	return out
}

// split cuts a text into character-strings, escaped as miekg/dns wants them.
func split(text string) []string {
	var parts []string
	for len(text) > maxTXT {
		parts = append(parts, escape(text[:maxTXT]))
		text = text[maxTXT:]
	}
	return append(parts, escape(text))
}

func escape(s string) string { return strings.ReplaceAll(s, `\`, `\\`) }

// isLabel is whether a node's name can stand in a DNS name.
func isLabel(name string) bool {
	if name == "" || len(name) > 63 {
		return false
	}
	for _, c := range name {
		if c != '-' && c != '.' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}

func sameIP(addr string, ip netip.Addr) bool {
	a, err := netip.ParseAddr(addr)
	return err == nil && a.Unmap() == ip
}

// addressOfReverse reads the address out of an in-addr.arpa or ip6.arpa name
// (RFC 1035 section 3.5, RFC 3596 section 2.5).
func addressOfReverse(name string) (netip.Addr, bool) {
	name = strings.ToLower(name)
	if v4, ok := strings.CutSuffix(name, ".in-addr.arpa."); ok {
		labels := strings.Split(v4, ".")
		if len(labels) != 4 {
			return netip.Addr{}, false
		}
		slices.Reverse(labels)
		ip, err := netip.ParseAddr(strings.Join(labels, "."))
		return ip, err == nil && ip.Is4()
	}
	v6, ok := strings.CutSuffix(name, ".ip6.arpa.")
	labels := strings.Split(v6, ".")
	if !ok || len(labels) != 32 {
		return netip.Addr{}, false
	}
	var raw [16]byte
	for i, l := range labels { // the least significant nibble comes first
		v, err := strconv.ParseUint(l, 16, 8)
		if err != nil || len(l) != 1 {
			return netip.Addr{}, false
		}
		at := 31 - i
		if at%2 == 0 {
			v <<= 4
		}
		raw[at/2] |= byte(v)
	}
	return netip.AddrFrom16(raw), true
}
