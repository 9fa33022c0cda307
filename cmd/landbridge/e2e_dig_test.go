//go:build e2e

package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// answer is what dig prints of one.
type answer struct {
	status                        string
	flags                         []string
	answers, authority, additions []string // "TYPE DATA", sorted
	edns                          bool
	tcp                           bool // over TCP, in the end
	retried                       bool
}

// parseDig reads the output of dig.
func parseDig(t *testing.T, out string) (a answer) {
	t.Helper()
	section := ""
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		switch {
		case line == "":
			section = ""
		case strings.Contains(line, "status: "):
			_, rest, _ := strings.Cut(line, "status: ")
			a.status, _, _ = strings.Cut(rest, ",")
		case strings.HasPrefix(line, ";; flags: "):
			flags, _, _ := strings.Cut(strings.TrimPrefix(line, ";; flags: "), ";")
			a.flags = strings.Fields(flags)
		case strings.HasPrefix(line, "; EDNS: "):
			a.edns = true
		case strings.HasPrefix(line, ";; Truncated, retrying in TCP mode"):
			a.retried = true
		case strings.HasPrefix(line, ";; SERVER: "):
			a.tcp = strings.HasSuffix(line, "(TCP)")
		case strings.HasSuffix(line, " SECTION:"):
			section = strings.TrimSuffix(strings.TrimPrefix(line, ";; "), " SECTION:")
		case !strings.HasPrefix(line, ";") && section != "":
			f := strings.Fields(line) // name TTL class type data
			if len(f) < 5 {
				t.Fatalf("a record dig prints as %q", line)
			}
			record := f[3] + " " + strings.Join(f[4:], " ")
			switch section {
			case "ANSWER":
				a.answers = append(a.answers, record)
			case "AUTHORITY":
				a.authority = append(a.authority, record)
			case "ADDITIONAL":
				a.additions = append(a.additions, record)
			}
		}
	}
	if a.status == "" {
		t.Fatalf("dig has no answer:\n%s", out)
	}
	for _, s := range [][]string{a.answers, a.authority, a.additions} {
		slices.Sort(s)
	}
	return a
}

// TestDig asks two federated datacenters with the tool people ask DNS servers with.
func TestDig(t *testing.T) {
	dig := debian(t, "bind9-dnsutils", "/usr/bin/dig")
	dc1, dc2 := datacenters(t, 10, 1, map[string]any{
		"node_meta": map[string]any{"rack": "r1"}, "dns_config": map[string]any{"enable_truncate": true},
	})
	a, b := dc1[0], dc2[0]
	ask := func(t *testing.T, at *agentProcess, args ...string) answer {
		t.Helper()
		out, err := command(t, dig, append([]string{"@" + at.IP, "-p", "8600", "+tries=1", "+time=5"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("dig %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return parseDig(t, string(out))
	}

	a.put("/v1/agent/service/register", map[string]any{"name": "web", "port": 80, "tags": []string{"v1", "blue.green"}, "weights": map[string]int{"passing": 7, "warning": 1}})
	a.put("/v1/agent/service/register", map[string]any{"id": "web2", "name": "web", "port": 81, "address": "10.1.1.2", "tags": []string{"v2"}})
	a.put("/v1/agent/service/register", map[string]any{"id": "web3", "name": "web", "port": 82, "address": "10.1.1.3", "check": map[string]any{"ttl": "1h", "status": "critical"}})
	a.put("/v1/agent/service/register", map[string]any{"name": "named", "port": 90, "address": "www.example.com"})
	b.put("/v1/agent/service/register", map[string]any{"name": "far", "port": 443, "address": "10.2.2.2"})
	a.send("POST", "/v1/query", map[string]any{"name": "anywhere", "service": map[string]any{"service": "far", "failover": map[string]any{"datacenters": []string{"dc2"}}}})
	// They are on a node without an agent, which would take from the catalog what it
	// does not know of. 30 addresses fit the 1,232 bytes dig takes by UDP, 100 do not.
	a.put("/v1/catalog/register", map[string]any{"Node": "external", "Address": "192.0.2.1"})
	for _, s := range []struct {
		name string
		n    int
	}{{"several", 30}, {"many", 100}} {
		var ops []any
		for i := range s.n {
			ops = append(ops, map[string]any{"Service": map[string]any{"Verb": "set", "Node": "external", "Service": map[string]any{
				"ID": fmt.Sprint(s.name, i), "Service": s.name, "Port": 1000 + i, "Address": fmt.Sprintf("10.9.%d.%d", s.n, i),
			}}})
		}
		for part := range slices.Chunk(ops, 50) {
			a.put("/v1/txn", part)
		}
	}
	until(t, 10*time.Second, "the last registration is in DNS", func() bool {
		return len(ask(t, b, "many.service.dc1.consul", "+tcp").answers) == 100 &&
			len(ask(t, a, "far.service.dc2.consul").answers) == 1
	})

	const webA, web2A = "A 127.68.10.1", "A 10.1.1.2"
	const web1SRV, web2SRV = "SRV 1 7 80 dc1-s1.node.dc1.consul.", "SRV 1 1 81 0a010102.addr.dc1.consul."
	for _, tc := range []struct {
		name, args string
		at         *agentProcess
		want       []string // nil: NXDOMAIN and a SOA
	}{
		{"node", "dc1-s1.node.consul", a, []string{webA}},
		{"node, any case", "DC1-S1.NODE.CONSUL", a, []string{webA}},
		{"node of the other datacenter", "dc2-s1.node.dc2.consul", a, []string{"A 127.68.11.1"}},
		{"node with the dc label", "dc2-s1.node.dc2.dc.consul", a, []string{"A 127.68.11.1"}},
		{"service: not the critical one", "web.service.consul", a, []string{web2A, webA}},
		{"service from the other datacenter", "web.service.dc1.consul", b, []string{web2A, webA}},
		{"service with the dc label", "web.service.dc1.dc.consul", b, []string{web2A, webA}},
		{"service that is only there", "far.service.consul", a, nil},
		{"tag", "v1.web.service.consul", a, []string{webA}},
		{"tag, any case", "V2.web.service.consul", a, []string{web2A}},
		{"tag with a dot", "blue.green.web.service.consul", a, []string{webA}},
		{"unknown tag", "v3.web.service.consul", a, nil},
		{"SRV", "web.service.consul SRV", a, []string{web2SRV, web1SRV}},
		{"SRV of a tag", "v1.web.service.consul SRV", a, []string{web1SRV}},
		{"RFC 2782", "_web._tcp.service.consul SRV", a, []string{web2SRV, web1SRV}},
		{"RFC 2782 without service", "_web._tcp.consul SRV", a, []string{web2SRV, web1SRV}},
		{"RFC 2782 with a tag", "_web._v2.service.dc1.consul SRV", b, []string{web2SRV}},
		{"RFC 2782, other datacenter", "_far._tcp.service.dc2.consul SRV", a, []string{"SRV 1 1 443 0a020202.addr.dc2.consul."}},
		{"SRV target", "0a010102.addr.dc1.consul", b, []string{web2A}},
		{"SRV of a name", "named.service.consul SRV", a, []string{"SRV 1 1 90 www.example.com."}},
		{"A of a name", "named.service.consul", a, []string{"CNAME www.example.com."}},
		{"query with failover", "anywhere.query.consul", a, []string{"A 10.2.2.2"}},
		{"PTR of a node", "-x 127.68.10.1", a, []string{"PTR dc1-s1.node.dc1.consul."}},
		{"PTR of a service", "-x 10.1.1.2", a, []string{"PTR web.service.dc1.consul."}},
		{"PTR of nobody", "-x 10.200.0.1", a, nil},
		{"unknown datacenter", "web.service.dc9.consul", a, nil},
		{"over TCP", "web.service.consul +tcp", a, []string{web2A, webA}},
		{"without EDNS", "web.service.consul +noedns", a, []string{web2A, webA}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := ask(t, tc.at, strings.Fields(tc.args)...)
			status := "NOERROR"
			if tc.want == nil {
				status = "NXDOMAIN"
				if !slices.ContainsFunc(got.authority, func(r string) bool { return strings.HasPrefix(r, "SOA ns.consul. hostmaster.consul. ") }) {
					t.Errorf("no SOA in the authority section: %q", got.authority)
				}
			}
			if got.status != status || !slices.Equal(got.answers, tc.want) {
				t.Errorf("%s %q, want %s %q", got.status, got.answers, status, tc.want)
			}
			if !slices.Contains(got.flags, "aa") || slices.Contains(got.flags, "tc") || slices.Contains(got.flags, "ra") {
				t.Errorf("flags %q", got.flags)
			}
			if edns := !strings.Contains(tc.args, "+noedns"); got.edns != edns {
				t.Errorf("EDNS in the answer: %t, want %t", got.edns, edns)
			}
			if tcp := strings.Contains(tc.args, "+tcp"); got.tcp != tcp {
				t.Errorf("over TCP: %t, want %t", got.tcp, tcp)
			}
		})
	}

	t.Run("SRV brings the addresses", func(t *testing.T) {
		got := ask(t, b, "web.service.dc1.consul", "SRV").additions
		for _, want := range []string{webA, web2A} {
			if !slices.Contains(got, want) {
				t.Errorf("no %q in %q", want, got)
			}
		}
	})
	t.Run("TXT of a node is its meta", func(t *testing.T) {
		if got := ask(t, b, "dc1-s1.node.dc1.consul", "TXT").answers; !slices.Contains(got, `TXT "rack=r1"`) {
			t.Errorf("answers %q", got)
		}
	})
	t.Run("zones of others are refused", func(t *testing.T) {
		if got := ask(t, a, "example.com"); got.status != "REFUSED" || got.edns || slices.Contains(got.flags, "aa") {
			t.Errorf("%+v", got)
		}
	})

	for _, tc := range []struct {
		name, args       string
		answers          int
		tc, retried, tcp bool
	}{
		{"no EDNS: the limit of records, then TCP", "several.service.consul +noedns", 30, false, true, true},
		{"no EDNS, +ignore", "several.service.consul +noedns +ignore", 3, true, false, false},
		{"EDNS 512 is as none", "several.service.consul +bufsize=512 +ignore", 3, true, false, false},
		{"EDNS: all fit", "several.service.consul", 30, false, false, false},
		{"EDNS: too many, then TCP", "many.service.consul", 100, false, true, true},
		{"EDNS 4096: all fit", "many.service.consul +bufsize=4096", 100, false, false, false},
		{"from the other datacenter, then TCP", "many.service.dc1.consul", 100, false, true, true},
		{"SRV by TCP", "many.service.consul SRV +tcp", 100, false, false, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			at := a
			if strings.Contains(tc.args, "dc1") {
				at = b
			}
			got := ask(t, at, strings.Fields(tc.args)...)
			if len(got.answers) != tc.answers || slices.Contains(got.flags, "tc") != tc.tc || got.retried != tc.retried || got.tcp != tc.tcp {
				t.Errorf("%d answers, flags %q, retried %t, TCP %t; want %d, tc %t, %t, %t",
					len(got.answers), got.flags, got.retried, got.tcp, tc.answers, tc.tc, tc.retried, tc.tcp)
			}
		})
	}
	t.Run("EDNS, +ignore: what fits is sent", func(t *testing.T) {
		got := ask(t, a, "many.service.consul", "+ignore")
		if n := len(got.answers); n < 60 || n >= 100 || !slices.Contains(got.flags, "tc") || !got.edns {
			t.Errorf("%d answers, flags %q, EDNS %t", n, got.flags, got.edns)
		}
	})

	// Without enable_truncate, as is the default, dig does not learn that there is more.
	a.Conf["dns_config"] = map[string]any{}
	a.reload()
	until(t, 10*time.Second, "the reload", func() bool {
		got := ask(t, a, "several.service.consul", "+noedns")
		return len(got.answers) == 3 && !got.retried && !slices.Contains(got.flags, "tc")
	})
}
