package dnsapi

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// reverse answers a PTR question; false if the address is nobody's.
func (a *answer) reverse(ctx context.Context) bool {
	a.zone = a.s.primary
	ip, ok := addressOfReverse(a.q.Name)
	if !ok {
		a.nameError()
		return false
	}
	name, err := a.nameOf(ctx, ip)
	switch {
	case err != nil:
		a.m.Rcode = dns.RcodeServerFailure
		a.s.failed(a.q.Name, err)
		return true
	case name == "":
		a.nameError()
		return false
	}
	a.m.Answer = append(a.m.Answer, &dns.PTR{Hdr: header(a.q.Name, dns.TypePTR, 0), Ptr: name})
	return true
}

// nameOf is the name of an address: of the node that has it, else of the service.
func (a *answer) nameOf(ctx context.Context, ip netip.Addr) (string, error) {
	resp, err := a.s.do(ctx, a.set, &rpc.Request{Method: rpc.CatalogByAddress, Query: store.Query{Name: ip.String()}})
	if err != nil {
		return "", err
	}
	found, err := store.DecodeNodeServices(resp.Body)
	if err != nil {
		return "", err
	}
	name := func(name, kind string) (string, bool) {
		s := fmt.Sprintf("%s.%s.%s.%s", name, kind, a.s.cfg.Datacenter, a.zone)
		_, ok := dns.IsDomainName(s)
		return s, ok && !strings.ContainsAny(name, "\\\x00 ")
	}
	for _, ns := range found {
		if ns.Node != nil && parseIP(ns.Node.Address) == ip {
			if s, ok := name(ns.Node.Node, "node"); ok {
				return s, nil
			}
		}
	}
	for _, ns := range found {
		for _, svc := range ns.Services {
			if parseIP(svc.Address) == ip {
				if s, ok := name(svc.Name, "service"); ok {
					return s, nil
				}
			}
		}
	}
	return "", nil
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
	return netip.AddrFrom16(raw).Unmap(), true
}
