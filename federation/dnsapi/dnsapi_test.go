package dnsapi

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newServer(change func(*Config)) *Server {
	cfg := Config{Do: town(), Datacenter: "dc1", Domain: "consul", AltDomain: "corp.example", Settings: DefaultSettings(),
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Registerer: prometheus.NewRegistry()}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		panic(err)
	}
	return s
}

// transcript is the reply as dig would show it, shuffled parts sorted.
func transcript(m *dns.Msg) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s", dns.RcodeToString[m.Rcode])
	if !m.Authoritative {
		b.WriteString(" not-authoritative")
	}
	for _, part := range []struct {
		name string
		rrs  []dns.RR
	}{{"answer", m.Answer}, {"authority", m.Ns}, {"additional", m.Extra}} {
		lines := map[string]bool{}
		for _, rr := range part.rrs {
			line := strings.Join(strings.Fields(rr.String()), " ")
			if rr.Header().Rrtype == dns.TypeSOA {
				line = rr.Header().Name + " SOA"
			}
			if rr.Header().Rrtype == dns.TypeOPT {
				line = fmt.Sprintf("OPT %d", rr.(*dns.OPT).UDPSize())
			}
			lines[line] = true
		}
		var sorted []string
		for l := range lines {
			sorted = append(sorted, l)
		}
		if len(sorted) > 0 {
			slices.Sort(sorted)
			fmt.Fprintf(&b, " | %s: %s", part.name, strings.Join(sorted, "; "))
		}
	}
	return b.String()
}

const soa = " | authority: consul. SOA"

func TestAnswers(t *testing.T) {
	const (
		alphaTXT = `alpha.node.consul. 0 IN TXT "bare"; alpha.node.consul. 0 IN TXT "rack=r1"`
		srvTXT   = `alpha.node.dc1.consul. 0 IN TXT "bare"; alpha.node.dc1.consul. 0 IN TXT "rack=r1"`
		nameErr  = "NXDOMAIN" + soa
	)
	for _, c := range []struct{ name, qtype, want string }{
		{"alpha.node.consul.", "A", "NOERROR | answer: alpha.node.consul. 0 IN A 10.0.0.1 | additional: " + alphaTXT},
		{"ALPHA.Node.Consul.", "A", "NOERROR | answer: ALPHA.Node.Consul. 0 IN A 10.0.0.1 | additional: " + strings.ReplaceAll(alphaTXT, "alpha.node.consul.", "ALPHA.Node.Consul.")},
		{"alpha.node.dc1.consul.", "AAAA", "NOERROR | additional: " + strings.ReplaceAll(alphaTXT, "alpha.node.consul.", "alpha.node.dc1.consul.")},
		{"alpha.node.dc1.dc.consul.", "TXT", "NOERROR | answer: " + strings.ReplaceAll(alphaTXT, "alpha.node.consul.", "alpha.node.dc1.dc.consul.")},
		{"alpha.node.consul.", "MX", "NOERROR"},
		{"nope.node.consul.", "A", nameErr},
		{"4c26b2.node.consul.", "A", nameErr},
		{"web.service.consul.", "A", "NOERROR | answer: web.service.consul. 0 IN A 10.0.0.1; web.service.consul. 0 IN A 10.1.1.2"},
		{"web.service.consul.", "ANY", "NOERROR | answer: web.service.consul. 0 IN A 10.0.0.1; web.service.consul. 0 IN A 10.1.1.2"},
		{"web.service.consul.", "AAAA", "NOERROR" + soa},
		{"six.service.consul.", "AAAA", "NOERROR | answer: six.service.consul. 0 IN AAAA 2001:db8::1"},
		{"six.service.consul.", "SRV", "NOERROR | answer: six.service.consul. 0 IN SRV 1 3 80 20010db8000000000000000000000001.addr.dc1.consul. | additional: 20010db8000000000000000000000001.addr.dc1.consul. 0 IN AAAA 2001:db8::1"},
		{"web.service.consul.", "MX", "NOERROR" + soa},
		{"web.service.consul.", "SRV", "NOERROR | answer: web.service.consul. 0 IN SRV 1 1 81 0a010102.addr.dc1.consul.; web.service.consul. 0 IN SRV 1 3 80 alpha.node.dc1.consul. | additional: 0a010102.addr.dc1.consul. 0 IN A 10.1.1.2; alpha.node.dc1.consul. 0 IN A 10.0.0.1; " + srvTXT},
		{"v1.web.service.consul.", "A", "NOERROR | answer: v1.web.service.consul. 0 IN A 10.0.0.1"},
		{"v2.web.service.consul.", "A", nameErr},
		{"_web._tcp.consul.", "A", "NOERROR | answer: _web._tcp.consul. 0 IN A 10.0.0.1; _web._tcp.consul. 0 IN A 10.1.1.2"},
		{"_web._v1.service.dc1.consul.", "A", "NOERROR | answer: _web._v1.service.dc1.consul. 0 IN A 10.0.0.1"},
		{"_web._udp.consul.", "SRV", nameErr},
		{"web.service.dc2.consul.", "A", "NOERROR | answer: web.service.dc2.consul. 0 IN A 10.2.0.1"},
		{"web.service.dc2.dc.consul.", "SRV", `NOERROR | answer: web.service.dc2.dc.consul. 0 IN SRV 1 3 80 beta.node.dc2.consul. | additional: beta.node.dc2.consul. 0 IN A 10.2.0.1; beta.node.dc2.consul. 0 IN TXT "bare"; beta.node.dc2.consul. 0 IN TXT "rack=r1"`},
		{"web.service.dc9.consul.", "A", nameErr},
		{"web.service.broken.consul.", "A", "SERVFAIL"},
		{"web.service.corp.example.", "A", "NOERROR | answer: web.service.corp.example. 0 IN A 10.0.0.1; web.service.corp.example. 0 IN A 10.1.1.2"},
		{"dead.service.consul.", "A", nameErr},
		{"host.service.consul.", "A", "NOERROR | answer: alpha.node.consul. 0 IN A 10.0.0.1; host.service.consul. 0 IN CNAME alpha.node.consul."},
		{"host.service.consul.", "SRV", "NOERROR | answer: host.service.consul. 0 IN SRV 1 3 80 alpha.node.consul. | additional: alpha.node.consul. 0 IN A 10.0.0.1"},
		{"web.virtual.consul.", "A", "NOERROR" + soa},
		{"0a010102.addr.dc1.consul.", "A", "NOERROR | answer: 0a010102.addr.dc1.consul. 0 IN A 10.1.1.2"},
		{"0a010102.addr.consul.", "AAAA", "NOERROR | additional: 0a010102.addr.consul. 0 IN A 10.1.1.2"},
		{"0a01.addr.consul.", "A", nameErr},
		{"zz010102.addr.consul.", "A", nameErr},
		{"consul.", "A", nameErr},
		{"consul.", "SOA", "NOERROR | answer: consul. SOA | authority: consul. 0 IN NS alpha.node.dc1.consul. | additional: alpha.node.dc1.consul. 0 IN A 10.0.0.1"},
		{"consul.", "NS", "NOERROR | answer: consul. 0 IN NS alpha.node.dc1.consul. | additional: alpha.node.dc1.consul. 0 IN A 10.0.0.1"},
		{"service.consul.", "A", nameErr},
		{"a.b.c.d.consul.", "A", nameErr},
		{"1.0.0.10.in-addr.arpa.", "PTR", "NOERROR | answer: 1.0.0.10.in-addr.arpa. 0 IN PTR alpha.node.dc1.consul."},
		{"2.1.1.10.in-addr.arpa.", "PTR", "NOERROR | answer: 2.1.1.10.in-addr.arpa. 0 IN PTR web.service.dc1.consul."},
		{"9.9.9.9.in-addr.arpa.", "PTR", nameErr},
		{"example.com.", "A", "REFUSED not-authoritative"},
	} {
		r := new(dns.Msg)
		r.SetQuestion(c.name, dns.StringToType[c.qtype])
		if diff := cmp.Diff(c.want, transcript(newServer(nil).Answer(t.Context(), r, netip.Addr{}, true))); diff != "" {
			t.Errorf("%s %s: want -, got +\n%s", c.name, c.qtype, diff)
		}
	}
}

func TestSettingsChangeAnswers(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		q      string
		qtype  uint16
		want   string
	}{
		{"only passing", func(c *Config) { c.Settings.OnlyPassing = true }, "web.service.consul.", dns.TypeA, "NOERROR | answer: web.service.consul. 0 IN A 10.0.0.1"},
		{"translate", func(c *Config) { c.TranslateWAN = true }, "web.service.dc2.consul.", dns.TypeA, "NOERROR | answer: web.service.dc2.consul. 0 IN A 198.51.100.9"},
		{"ttl", func(c *Config) {
			c.Settings.ServiceTTL = map[string]time.Duration{"*": time.Second, "we*": 2 * time.Second, "w*": 3 * time.Second}
		}, "v1.web.service.consul.", dns.TypeA, "NOERROR | answer: v1.web.service.consul. 2 IN A 10.0.0.1"},
		{"no meta", func(c *Config) { c.Settings.NodeMetaTXT = false; c.Settings.NodeTTL = 7 * time.Second }, "alpha.node.consul.", dns.TypeA, "NOERROR | answer: alpha.node.consul. 7 IN A 10.0.0.1"},
		{"soa ttl", func(c *Config) { c.Settings.SOAMinTTL = 30 }, "nope.consul.", dns.TypeA, "NXDOMAIN" + soa},
	} {
		r := new(dns.Msg)
		r.SetQuestion(c.q, c.qtype)
		if diff := cmp.Diff(c.want, transcript(newServer(c.change).Answer(t.Context(), r, netip.Addr{}, true))); diff != "" {
			t.Errorf("%s: want -, got +\n%s", c.name, diff)
		}
	}
}

func TestSizes(t *testing.T) {
	for _, c := range []struct {
		name     string
		q        string
		qtype    uint16
		edns     uint16
		tcp      bool
		change   func(*Config)
		answers  int
		tc       bool
		maxBytes int
	}{
		{name: "udp without EDNS", q: "big.service.consul.", qtype: dns.TypeA, answers: 3, maxBytes: 512},
		{name: "udp without EDNS, truncation shown", q: "big.service.consul.", qtype: dns.TypeA, change: func(c *Config) { c.Settings.EnableTruncate = true }, answers: 3, tc: true, maxBytes: 512},
		{name: "udp with 1232 bytes", q: "big.service.consul.", qtype: dns.TypeA, edns: 1232, answers: 40, maxBytes: 1232},
		{name: "udp with 512 bytes", q: "big.service.consul.", qtype: dns.TypeA, edns: 512, answers: 3, maxBytes: 512},
		{name: "tcp", q: "big.service.consul.", qtype: dns.TypeA, tcp: true, answers: 40, maxBytes: 65535},
		{name: "a_record_limit on tcp", q: "big.service.consul.", qtype: dns.TypeA, tcp: true, change: func(c *Config) { c.Settings.ARecordLimit = 5 }, answers: 5, maxBytes: 65535},
		{name: "srv in 600 bytes", q: "big.service.consul.", qtype: dns.TypeSRV, edns: 600, answers: 14, maxBytes: 600},
	} {
		r := new(dns.Msg)
		r.SetQuestion(c.q, c.qtype)
		if c.edns > 0 {
			r.SetEdns0(c.edns, false)
		}
		m := newServer(c.change).Answer(t.Context(), r, netip.Addr{}, c.tcp)
		if len(m.Answer) != c.answers || m.Truncated != c.tc || m.Len() > c.maxBytes {
			t.Errorf("%s: %d answers, tc %v, %d bytes; want %d, %v, at most %d", c.name, len(m.Answer), m.Truncated, m.Len(), c.answers, c.tc, c.maxBytes)
		}
		if opt := m.IsEdns0(); (opt != nil) != (c.edns > 0) || (opt != nil && opt.UDPSize() != c.edns) {
			t.Errorf("%s: OPT %v, want size %d", c.name, opt, c.edns)
		}
	}
}

// Answers make room for the authority section, which stays whole.
func TestFitKeepsAuthority(t *testing.T) {
	r := new(dns.Msg)
	r.SetQuestion("web.service.consul.", dns.TypeTXT)
	set := DefaultSettings()
	set.EnableTruncate = true
	for _, c := range []struct{ size, answers, extra int }{{2000, 2, 1}, {512, 1, 0}, {300, 0, 0}, {100, 0, 0}, {5, 0, 0}} {
		m := new(dns.Msg)
		m.SetReply(r)
		text := textRRs(r.Question[0].Name, []string{strings.Repeat("x", 200)}, 0)[0]
		m.Answer, m.Ns, m.Extra = []dns.RR{text, text}, []dns.RR{text}, []dns.RR{text}
		a := answer{m: m, set: &set, limit: limit{bytes: c.size}}
		a.fit(0)
		if len(m.Answer) != c.answers || len(m.Ns) != 1 || len(m.Extra) != c.extra || m.Truncated != (c.answers < 2) {
			t.Errorf("%d bytes: %v; want %d answers, one authority, %d additional", c.size, m, c.answers, c.extra)
		}
	}
}

func TestClassesAndSubnets(t *testing.T) {
	r := new(dns.Msg)
	r.SetQuestion("web.service.consul.", dns.TypeA)
	r.Question[0].Qclass = dns.ClassCHAOS
	if m := newServer(nil).Answer(t.Context(), r, netip.Addr{}, false); m.Rcode != dns.RcodeRefused {
		t.Errorf("class CH: %s, want REFUSED", dns.RcodeToString[m.Rcode])
	}
	r.SetQuestion("web.service.consul.", dns.TypeA)
	r.SetEdns0(4096, false)
	r.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 8, SourceScope: 8, Address: []byte{10, 0, 0, 0}}}
	m := newServer(nil).Answer(t.Context(), r, netip.Addr{}, false)
	if ecs, ok := m.IsEdns0().Option[0].(*dns.EDNS0_SUBNET); !ok || ecs.SourceScope != 0 || ecs.SourceNetmask != 8 {
		t.Errorf("client subnet came back as %v, want scope 0", m.IsEdns0().Option)
	}
}

// TestOverSockets asks a listening server and a recursor with a real resolver.
func TestOverSockets(t *testing.T) {
	upstream := newServer(func(c *Config) { c.Domain = "upstream.example"; c.AltDomain = "" })
	up, err := upstream.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := "127.0.0.1:1"
	s := newServer(func(c *Config) { c.Settings.Recursors = []string{dead, up.String()} })
	addr, err := s.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, srv := range []*Server{s, upstream} {
			if err := srv.Stop(context.Background()); err != nil {
				t.Error(err)
			}
		}
	})
	for _, network := range []string{"udp", "tcp"} {
		c := &dns.Client{Net: network, Timeout: 5 * time.Second}
		for name, want := range map[string]int{"web.service.consul.": 2, "web.service.upstream.example.": 2} {
			r := new(dns.Msg)
			r.SetQuestion(name, dns.TypeA)
			m, _, err := c.Exchange(r, addr.String())
			if err != nil || len(m.Answer) != want || !m.RecursionAvailable && strings.HasSuffix(name, "consul.") {
				t.Errorf("%s over %s: %v, %v; want %d addresses", name, network, m, err, want)
			}
		}
		r := new(dns.Msg)
		r.SetQuestion("web.service.consul.", dns.TypeA)
		r.Opcode = dns.OpcodeUpdate
		if m, _, err := c.Exchange(r, addr.String()); err != nil || m.Rcode != dns.RcodeNotImplemented {
			t.Errorf("UPDATE over %s: %v, %v; want NOTIMP", network, m, err)
		}
		// A header that counts a question which does not follow.
		conn, err := dns.DialTimeout(network, addr.String(), 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := conn.Write([]byte{0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}); err != nil {
			t.Error(err)
		}
		if m, err := conn.ReadMsg(); err != nil || m.Rcode != dns.RcodeFormatError || m.Id != 0x1234 {
			t.Errorf("a question that is not there, over %s: %v, %v; want FORMERR", network, m, err)
		}
		conn.Close()
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"\x03web\x07service", "\x02_a\x02_b\x07service\x03dc1\x02dc", "\x01a\x01b\x04node\x03dc2", "\x020a\x04addr", "", "\x00", "\x01x\x07service\x00", "\x02_q\x04_tcp\x05query"} {
		f.Add([]byte(s))
	}
	s := newServer(nil)
	f.Fuzz(func(t *testing.T, local []byte) {
		name := append(local, "\x06consul\x00"...)
		var l labels
		if l.scan(name) != len(name) || !slices.Contains(l.at[:l.n], uint8(len(local))) {
			return // no name, or one whose label takes in the zone's
		}
		z, n := s.zoneOf(name, &l)
		if z == nil || z.name != "consul." {
			t.Fatalf("%q: not in our zone", name)
		}
		var q question
		if q.parse(name, &l, n) && q.kind != kindZone && len(q.name) == 0 {
			t.Errorf("%q: accepted without a name: %+v", name, q)
		}
	})
}
