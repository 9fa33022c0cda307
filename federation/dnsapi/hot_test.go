package dnsapi

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"landbridge/store"
)

// noClient is for questions that nobody sent.
var noClient netip.Addr

// packet is a question as resolvers send it.
func packet(t testing.TB, name string, qtype, edns uint16) []byte {
	t.Helper()
	r := new(dns.Msg)
	r.SetQuestion(name, qtype)
	if edns > 0 {
		r.SetEdns0(edns, false)
	}
	pkt, err := r.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return pkt
}

// edges is a catalog whose answers have lengths that are easy to get wrong.
func edges() catalog {
	c := town()
	both := inst("both", "10.0.0.7", "b", "both", "", 80, "passing")
	both.Node.TaggedAddresses["lan_ipv6"] = "2001:db8::7"
	both.Node.Meta = map[string]string{"a": "", "rfc1035-0": "", "rfc1035-255": strings.Repeat("x", 255), "rfc1035-256": strings.Repeat("x", 256), "rfc1035-510": strings.Repeat("x", 510), "rfc1035-escaped": strings.Repeat(`\`, 60)}
	c.add("dc1", both)
	for i := range 8 { // targets with labels longer than a record
		c.add("dc1", inst(fmt.Sprintf("far%d", i), "10.5.0.1", "far", "far", fmt.Sprintf("2001:db8::%d", i), 80, "passing"))
	}
	for i := range 150 {
		x := inst(fmt.Sprintf("huge%03d", i), fmt.Sprintf("10.4.0.%d", i+1), "huge", "huge", "", 1000, "passing")
		x.Node.Meta["text"] = strings.Repeat("t", 200)
		c.add("dc1", x)
	}
	return c
}

// What resolvers ask all day takes the hot path, whatever has to be left out, and
// is answered as by the full one.
func TestHotQuestions(t *testing.T) {
	sizes := []uint16{0, 1, 511, 512, 4096, 16383, 16384, 65535}
	for n := uint16(513); n < 1500; n += 41 {
		sizes = append(sizes, n)
	}
	for _, change := range []func(*Settings){
		func(*Settings) {},
		func(s *Settings) { s.EnableTruncate, s.UDPAnswerLimit, s.NodeMetaTXT = true, 1, false },
		func(s *Settings) { s.ARecordLimit, s.DisableCompress, s.Recursors = 2, true, []string{"127.0.0.1:1"} },
	} {
		s := newServer(func(c *Config) { c.Do = edges(); change(&c.Settings) })
		seeded(s, 7)
		for _, name := range []string{"web.service.consul.", "V1.Web.service.dc1.Consul.", "_web._tcp.consul.", "none.service.consul.", "dead.service.consul.", "six.service.corp.example.",
			"alpha.node.consul.", "both.node.dc1.consul.", "none.node.consul.", "both.service.consul.", "big.service.consul.", "huge.service.consul.", "web.service.dc2.dc.consul.", "web.connect.consul."} {
			for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeANY} {
				for _, size := range sizes {
					fast, slow := both(t, s, packet(t, name, qtype, size))
					tooBig := size > 1<<13 && len(slow) > 1<<13
					if fast == nil && !tooBig && !(qtype == dns.TypeSRV && strings.Contains(name, ".node.")) {
						t.Errorf("%s %s, %d: not on the hot path", name, dns.TypeToString[qtype], size)
					}
				}
			}
		}
	}
}

// What the hot path does not understand it leaves alone.
func TestNotHot(t *testing.T) {
	s := newServer(nil)
	plain := packet(t, "web.service.consul.", dns.TypeA, 1232)
	change := func(at int, b ...byte) []byte {
		pkt := append([]byte(nil), plain...)
		copy(pkt[at:], b)
		return pkt
	}
	end := len(plain) - optSize
	for name, pkt := range map[string][]byte{
		"nothing":           nil,
		"a header":          plain[:headerSize],
		"cut name":          plain[:20],
		"cut question":      plain[:end-1],
		"cut OPT":           plain[:len(plain)-1],
		"more behind":       append(change(0), 0),
		"an answer":         change(2, 0x80),
		"an update":         change(2, 5<<3),
		"no question":       change(5, 0),
		"two questions":     change(5, 2),
		"answers":           change(7, 1),
		"authority":         change(9, 1),
		"two additional":    change(11, 2),
		"an OPT not told":   change(11, 0),
		"no OPT, one told":  change(11, 1)[:end],
		"a pointer":         change(headerSize, 0xC0, headerSize),
		"a long label":      change(headerSize, 64),
		"another class":     change(end-1, 3),
		"another type":      change(end-3, 15),
		"OPT of a name":     change(end, 1),
		"not an OPT":        change(end+2, 16),
		"extended rcode":    change(end+5, 1),
		"another version":   change(end+6, 1),
		"options not there": change(end+10, 4),
		"a subnet":          append(change(end+10, 8), 0, 8, 0, 4, 0, 1, 0, 0),
		"a cut option":      append(change(end+10, 3), 0, 10, 0),
		"a long option":     append(change(end+10, 4), 0, 10, 0, 1),
		"a blank":           change(headerSize+2, ' '),
		"another zone":      packet(t, "web.service.example.", dns.TypeA, 0),
		"the zone":          packet(t, "consul.", dns.TypeA, 0),
		"a query":           packet(t, "pq.query.consul.", dns.TypeA, 0),
		"no form":           packet(t, "web.consul.", dns.TypeA, 0),
		"a hostname":        packet(t, "host.service.consul.", dns.TypeA, 0),
		"SRV of a hostname": packet(t, "host.service.consul.", dns.TypeSRV, 0),
		"SRV of a node":     packet(t, "alpha.node.consul.", dns.TypeSRV, 0),
		"a name of the SOA": packet(t, "web.service.ns.consul.", dns.TypeA, 0),
	} {
		if got := s.answerHot(t.Context(), s.newWorker(), pkt, time.Now(), false); got != notHot {
			t.Errorf("%s: outcome %d, want none", name, got)
		}
	}
	odd := newServer(func(c *Config) { c.Datacenter = "service" })
	if got := odd.answerHot(t.Context(), odd.newWorker(), plain, time.Now(), false); got != notHot {
		t.Errorf("a datacenter named like a part of a name: outcome %d", got)
	}
}

func BenchmarkAnswer(b *testing.B) {
	c := town()
	for i := range 100 {
		c.add("dc1", inst(fmt.Sprintf("h%02d", i), fmt.Sprintf("10.5.0.%d", i+1), "hundred", "hundred", "", 1000, store.Passing))
	}
	s := newServer(func(cfg *Config) { cfg.Do = c })
	for _, q := range []struct {
		what, name  string
		qtype, edns uint16
	}{
		{"A of 2", "web.service.consul.", dns.TypeA, 0},
		{"SRV of 2", "web.service.consul.", dns.TypeSRV, 1232},
		{"AAAA of none", "web.service.consul.", dns.TypeAAAA, 0},
		{"A of 100, 3 shown", "hundred.service.consul.", dns.TypeA, 0},
		{"A of 100, all shown", "hundred.service.consul.", dns.TypeA, 4096},
		{"SRV of 100", "hundred.service.consul.", dns.TypeSRV, 1232},
		{"node A", "alpha.node.consul.", dns.TypeA, 0},
		{"NXDOMAIN", "none.service.consul.", dns.TypeA, 0},
	} {
		pkt := packet(b, q.name, q.qtype, q.edns)
		b.Run("hot/"+q.what, func(b *testing.B) {
			w := s.newWorker()
			b.ReportAllocs()
			for b.Loop() {
				if s.answerHot(s.life, w, pkt, time.Now(), true) != answered {
					b.Fatal("not hot")
				}
			}
		})
		b.Run("full/"+q.what, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := new(dns.Msg)
				s.unpack(r, pkt)
				m, _ := s.answer(s.life, r, noClient, false, time.Now())
				s.pack(m, r)
			}
		})
	}
}

// A record whose name is a pointer fits to the last byte, also where the name it
// stands for would not.
func TestFitsToTheByte(t *testing.T) {
	s := newServer(func(c *Config) { c.Do = edges() })
	for size := uint16(513); size < 800; size++ {
		seeded(s, uint64(size))
		both(t, s, packet(t, "far.service.consul.", dns.TypeSRV, size))
	}
}
