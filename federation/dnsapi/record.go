package dnsapi

import (
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

func header(name string, rrtype uint16, ttl uint32) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: ttl}
}

// addressRR makes an A or AAAA record of a valid address.
func addressRR(owner string, ip netip.Addr, ttl uint32) dns.RR {
	if ip.Is4() {
		return &dns.A{Hdr: header(owner, dns.TypeA, ttl), A: ip.AsSlice()}
	}
	return &dns.AAAA{Hdr: header(owner, dns.TypeAAAA, ttl), AAAA: ip.AsSlice()}
}

// maxTXT is the length of one character-string (RFC 1035 section 3.3).
const maxTXT = 255

// textRRs makes a TXT record of each text.
func textRRs(owner string, list []string, ttl uint32) []dns.RR {
	rrs := make([]dns.RR, len(list))
	for i, text := range list {
		rrs[i] = &dns.TXT{Hdr: header(owner, dns.TypeTXT, ttl), Txt: split(text)}
	}
	return rrs
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
