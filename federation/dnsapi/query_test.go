package dnsapi

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// executed answers as a server that executes prepared queries: some names lead to
// instances, "near" shows the source it was given.
func executed(req *rpc.Request) (*rpc.Response, error) {
	var args store.QueryExecute
	if err := args.DecodeWire(req.Body); err != nil {
		return nil, err
	}
	r := store.QueryResult{Service: "web", Datacenter: "dc1", TTL: "7s"}
	alpha := inst("alpha", "10.0.0.1", "web", "web", "", 80, "passing")
	switch strings.ToLower(req.Query.Name) {
	case "pq", "pq.dot", "web.service", "00000000-0000-4000-8000-000000000001":
		// A warning stays: the query alone decides about health.
		r.Nodes = []store.ServiceInstance{alpha, inst("gamma", "10.0.0.3", "web", "web", "10.1.1.2", 81, "warning")}
	case "ttl":
		r.TTL, r.Nodes = "", []store.ServiceInstance{alpha}
	case "zero":
		r.TTL, r.Nodes = "0s", []store.ServiceInstance{alpha}
	case "far":
		r.Datacenter, r.Failovers, r.Nodes = "dc2", 1, []store.ServiceInstance{inst("beta", "10.2.0.1", "web", "web", "", 80, "passing")}
	case "empty":
	case "near":
		r.BySource = true
		r.Nodes = []store.ServiceInstance{inst(args.Agent, args.Source, "web", "web", "", 80, "passing")}
	default:
		return nil, store.Errorf(store.KindNotFound, "Query not found")
	}
	return &rpc.Response{Body: r.AppendWire(nil)}, nil
}

func TestQueryAnswers(t *testing.T) {
	const (
		nameErr = "NXDOMAIN" + soa
		txt     = `alpha.node.dc1.consul. 7 IN TXT "bare"; alpha.node.dc1.consul. 7 IN TXT "rack=r1"`
	)
	both := func(owner string) string {
		return "NOERROR | answer: " + owner + " 7 IN A 10.0.0.1; " + owner + " 7 IN A 10.1.1.2"
	}
	srv := func(owner string) string {
		return "NOERROR | answer: " + owner + " 7 IN SRV 1 1 81 0a010102.addr.dc1.consul.; " + owner + " 7 IN SRV 1 3 80 alpha.node.dc1.consul." +
			" | additional: 0a010102.addr.dc1.consul. 7 IN A 10.1.1.2; alpha.node.dc1.consul. 7 IN A 10.0.0.1; " + txt
	}
	for _, c := range []struct{ name, qtype, want string }{
		{"pq.query.consul.", "A", both("pq.query.consul.")},
		{"PQ.Query.Consul.", "A", both("PQ.Query.Consul.")},
		{"pq.query.corp.example.", "A", both("pq.query.corp.example.")},
		{"00000000-0000-4000-8000-000000000001.query.consul.", "A", both("00000000-0000-4000-8000-000000000001.query.consul.")},
		{"pq.dot.query.consul.", "A", both("pq.dot.query.consul.")},
		{"web.service.query.consul.", "A", both("web.service.query.consul.")}, // words of other forms are labels like any
		{"pq.query.dc1.consul.", "A", both("pq.query.dc1.consul.")},
		{"pq.query.dc1.dc.consul.", "A", nameErr},
		{"pq.query.dc9.consul.", "A", nameErr},
		{"pq.query.broken.consul.", "A", "SERVFAIL"},
		{"pq.query.consul.", "SRV", srv("pq.query.consul.")},
		{"_pq._tcp.query.consul.", "SRV", srv("_pq._tcp.query.consul.")},
		{"_pq._TCP.Query.dc1.consul.", "A", both("_pq._TCP.Query.dc1.consul.")},
		{"_pq._udp.query.consul.", "SRV", nameErr},
		{"pq._tcp.query.consul.", "SRV", nameErr},
		{"_pq._tcp.query.dc1.dc.consul.", "SRV", nameErr},
		{"pq.query.consul.", "AAAA", "NOERROR" + soa},
		{"pq.query.consul.", "MX", "NOERROR" + soa},
		{"none.query.consul.", "A", nameErr},
		{"empty.query.consul.", "A", nameErr},
		{"query.consul.", "A", nameErr},
		{"ttl.query.consul.", "A", "NOERROR | answer: ttl.query.consul. 9 IN A 10.0.0.1"},
		{"zero.query.consul.", "A", "NOERROR | answer: zero.query.consul. 0 IN A 10.0.0.1"},
		{"far.query.consul.", "A", "NOERROR | answer: far.query.consul. 7 IN A 198.51.100.9"}, // an address that reaches it from here
		{"far.query.consul.", "SRV", `NOERROR | answer: far.query.consul. 7 IN SRV 1 3 80 beta.node.dc2.consul. | additional: beta.node.dc2.consul. 7 IN A 198.51.100.9; ` +
			`beta.node.dc2.consul. 7 IN TXT "bare"; beta.node.dc2.consul. 7 IN TXT "rack=r1"`},
		{"near.query.consul.", "SRV", `NOERROR | answer: near.query.consul. 7 IN SRV 1 3 80 me.node.dc1.consul. | additional: me.node.dc1.consul. 7 IN A 192.0.2.1; ` +
			`me.node.dc1.consul. 7 IN TXT "bare"; me.node.dc1.consul. 7 IN TXT "rack=r1"`},
	} {
		s := newServer(func(c *Config) {
			c.Node, c.TranslateWAN = "me", true
			c.Settings.ServiceTTL = map[string]time.Duration{"web": 9 * time.Second}
			c.Settings.OnlyPassing = true
		})
		r := new(dns.Msg)
		r.SetQuestion(c.name, dns.StringToType[c.qtype])
		if diff := cmp.Diff(c.want, transcript(s.Answer(t.Context(), r, netip.MustParseAddr("192.0.2.1"), true))); diff != "" {
			t.Errorf("%s %s: want -, got +\n%s", c.name, c.qtype, diff)
		}
	}
}

// A client subnet comes before the client's address, and the answer says whom it
// is for.
func TestQuerySubnet(t *testing.T) {
	for _, c := range []struct {
		name    string
		netmask uint8
		scope   uint8
		want    string
	}{
		{"near.query.consul.", 8, 8, "NOERROR | answer: near.query.consul. 7 IN A 10.0.0.0 | additional: OPT 4096"},
		{"near.query.consul.", 0, 0, "NOERROR | answer: near.query.consul. 7 IN A 192.0.2.1 | additional: OPT 4096"}, // RFC 7871 7.1.2: do not use mine
		{"ttl.query.consul.", 8, 0, "NOERROR | answer: ttl.query.consul. 0 IN A 10.0.0.1 | additional: OPT 4096"},
	} {
		r := new(dns.Msg)
		r.SetQuestion(c.name, dns.TypeA)
		r.SetEdns0(4096, false)
		r.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: c.netmask, Address: []byte{10, 0, 0, 0}}}
		m := newServer(nil).Answer(t.Context(), r, netip.MustParseAddr("192.0.2.1"), true)
		if diff := cmp.Diff(c.want, transcript(m)); diff != "" {
			t.Errorf("%s: want -, got +\n%s", c.name, diff)
		}
		if ecs, ok := m.IsEdns0().Option[0].(*dns.EDNS0_SUBNET); !ok || ecs.SourceScope != c.scope || ecs.SourceNetmask != c.netmask {
			t.Errorf("%s: client subnet came back as %v, want scope %d", c.name, m.IsEdns0().Option, c.scope)
		}
	}
}

// allow_stale and dns_config.use_cache both allow stale reads; the narrower limit
// holds.
func TestStaleness(t *testing.T) {
	for _, tt := range []struct {
		set  Settings
		ok   bool
		most time.Duration
	}{
		{Settings{}, false, 0},
		{Settings{AllowStale: true, MaxStale: time.Hour}, true, time.Hour},
		{Settings{CacheMaxAge: time.Second}, false, 0},
		{Settings{UseCache: true}, true, 0},
		{Settings{UseCache: true, CacheMaxAge: time.Second, MaxStale: time.Hour}, true, time.Second},
		{Settings{AllowStale: true, MaxStale: time.Hour, UseCache: true, CacheMaxAge: time.Minute}, true, time.Minute},
		{Settings{AllowStale: true, MaxStale: time.Second, UseCache: true, CacheMaxAge: time.Minute}, true, time.Second},
		{Settings{AllowStale: true, MaxStale: time.Second, CacheMaxAge: time.Millisecond}, true, time.Second},
	} {
		if ok, most := tt.set.staleness(); ok != tt.ok || most != tt.most {
			t.Errorf("%+v: %v, %v; want %v, %v", tt.set, ok, most, tt.ok, tt.most)
		}
	}
}
