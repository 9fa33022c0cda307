package trust

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"landbridge/store"
)

const (
	maxNodeName       = 255
	maxDatacenterName = 64
	// trustDomainSuffix follows the federation's id: fixed (spec/http-config-connect 3).
	trustDomainSuffix = ".consul"
)

// role says what a certificate is for. Only servers may use server channels.
type role string

const (
	roleServer  role = "server"
	roleAgent   role = "client agent"
	roleService role = "service"
	roleUnknown role = "unknown"
)

// name is who a certificate says its holder is.
type name struct {
	role        role
	node        string
	datacenter  string
	trustDomain string
}

// String is the member name on the WAN.
func (n name) String() string { return n.node + "." + n.datacenter }

// uri is the SPIFFE id in a server's certificate. It, and not a DNS name, says
// who a server is: node names need not be DNS labels.
func (n name) uri() *url.URL {
	path := "/agent/server/dc/" + url.PathEscape(n.datacenter) + "/id/" + url.PathEscape(n.node)
	u := &url.URL{Scheme: "spiffe", Host: n.trustDomain}
	u.Path, _ = url.PathUnescape(path)
	u.RawPath = path
	return u
}

// nameOf reads the one SPIFFE id of a certificate.
func nameOf(c *x509.Certificate) (name, error) {
	if len(c.URIs) != 1 || c.URIs[0].Scheme != "spiffe" {
		return name{}, fmt.Errorf("certificate has no SPIFFE id")
	}
	u := c.URIs[0]
	n := name{role: roleUnknown, trustDomain: u.Host}
	part := strings.Split(strings.TrimPrefix(u.EscapedPath(), "/"), "/")
	for i := range part {
		s, err := url.PathUnescape(part[i])
		if err != nil {
			return name{}, fmt.Errorf("SPIFFE id %q: %w", u, err)
		}
		part[i] = s
	}
	switch {
	case len(part) == 6 && part[0] == "agent" && part[2] == "dc" && part[4] == "id":
		n.datacenter, n.node = part[3], part[5]
		switch part[1] {
		case "server":
			n.role = roleServer
		case "client":
			n.role = roleAgent
		}
	case len(part) >= 2 && part[len(part)-2] == "svc":
		n.role, n.node = roleService, part[len(part)-1]
	}
	if n.role == roleServer {
		if err := validNode(n.node); err != nil {
			return name{}, err
		}
		if err := validDatacenter(n.datacenter); err != nil {
			return name{}, err
		}
	}
	return n, nil
}

// datacenterURI is the SPIFFE id of a datacenter's intermediate.
func datacenterURI(trustDomain, dc string) *url.URL {
	return &url.URL{Scheme: "spiffe", Host: trustDomain, Path: "/dc/" + dc}
}

// datacenterOf reads an intermediate's datacenter.
func datacenterOf(c *x509.Certificate) (dc, trustDomain string, err error) {
	if len(c.URIs) == 1 && c.URIs[0].Scheme == "spiffe" {
		if dc, ok := strings.CutPrefix(c.URIs[0].Path, "/dc/"); ok && validDatacenter(dc) == nil {
			return dc, c.URIs[0].Host, nil
		}
	}
	return "", "", fmt.Errorf("issuing certificate names no datacenter")
}

// splitPeer parts "<node>.<dc>"; node names may contain dots, datacenters not.
func splitPeer(peer string) (node, dc string, ok bool) {
	i := strings.LastIndexByte(peer, '.')
	if i <= 0 || i == len(peer)-1 {
		return "", "", false
	}
	return peer[:i], peer[i+1:], true
}

// samePeer compares member names; node names compare case-insensitively.
func samePeer(a, b string) bool { return strings.EqualFold(a, b) }

// validDatacenter accepts lower-case letters, digits, - and _ (spec/config.md).
func validDatacenter(dc string) error {
	if dc == "" || len(dc) > maxDatacenterName {
		return store.Errorf(store.KindInvalid, "datacenter name must have 1 to %d characters", maxDatacenterName)
	}
	for i := 0; i < len(dc); i++ {
		if c := dc[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return store.Errorf(store.KindInvalid, "datacenter can only contain lowercase alphanumeric, - or _ characters. received: %q", dc)
		}
	}
	return nil
}

// validNode bounds a name that ends up in certificates and logs. Node names are
// free text.
func validNode(s string) error {
	if s == "" || len(s) > maxNodeName {
		return store.Errorf(store.KindInvalid, "node name must have 1 to %d bytes", maxNodeName)
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return store.Errorf(store.KindInvalid, "node name %q may not hold control characters", s)
	}
	return nil
}

// dnsLabels reports whether s can be the left part of a DNS name in a certificate.
func dnsLabels(s string) bool {
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for i := 0; i < len(label); i++ {
			c := label[i]
			if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}
