package dnsapi

import (
	"bytes"
	"fmt"
	"math/rand/v2"

	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"landbridge/store"
)

// draw is a catalog of a few services on a few nodes, with all that makes answers
// different.
func drawCatalog(t *rapid.T) catalog {
	c := catalog{}
	c.set("dc1")
	address := rapid.SampledFrom([]string{"10.0.0.1", "10.0.0.2", "10.0.0.3", "2001:db8::1", "2001:db8::2", "::ffff:10.0.0.9", "host.example", "n1.node.consul", "bad..name", "x y"})
	for _, dc := range []string{"dc1", "dc2"} {
		n := rapid.IntRange(0, 12).Draw(t, "instances")
		if rapid.IntRange(0, 9).Draw(t, "many") == 0 {
			n += 120
		}
		for k := range n {
			node := rapid.SampledFrom([]string{"n1", "n2", "N3", "n4.rack", "un_der", "bad name", "a..b", strings.Repeat("long", 16)}).Draw(t, "node")
			if k > 12 {
				node = fmt.Sprintf("m%d", k)
			}
			i := store.ServiceInstance{
				Node: &store.Node{Node: node, Address: address.Draw(t, "address"), Meta: map[string]string{}, TaggedAddresses: map[string]string{}},
				Service: &store.Service{ID: fmt.Sprint(k), Name: rapid.SampledFrom([]string{"web", "Web", "db", "alone"}).Draw(t, "name"),
					Port: rapid.IntRange(80, 82).Draw(t, "port"), TaggedAddresses: map[string]store.ServiceAddress{},
					Weights: store.Weights{Passing: rapid.IntRange(1, 3).Draw(t, "weight"), Warning: rapid.SampledFrom([]int{1, 2, -1, 1 << 17}).Draw(t, "warning")}},
			}
			if k > 12 {
				i.Node.Meta["text"] = strings.Repeat("t", 200)
				i.Node.Address, i.Service.Name = fmt.Sprintf("10.1.%d.%d", k%3, k), "web"
			}
			if rapid.Bool().Draw(t, "own address") {
				i.Service.Address = address.Draw(t, "service address")
			}
			for _, tag := range []string{"lan_ipv4", "lan_ipv6", "wan", "wan_ipv4", "wan_ipv6"} {
				if rapid.IntRange(0, 5).Draw(t, tag) == 0 {
					i.Node.TaggedAddresses[tag] = address.Draw(t, "tagged")
				}
				if rapid.IntRange(0, 9).Draw(t, tag) == 0 {
					i.Service.TaggedAddresses[tag] = store.ServiceAddress{Address: address.Draw(t, "tagged"), Port: rapid.IntRange(0, 99).Draw(t, "tagged port")}
				}
			}
			for _, tag := range []string{"v1", "V2", "a.b", "tcp"} {
				if rapid.IntRange(0, 2).Draw(t, "tag") == 0 {
					i.Service.Tags = append(i.Service.Tags, tag)
				}
			}
			for range rapid.IntRange(0, 3).Draw(t, "meta") {
				key := rapid.SampledFrom([]string{"k", "rfc1035-k", "RFC1035-z", "empty", `back\slash`, "long"}).Draw(t, "key")
				i.Node.Meta[key] = rapid.SampledFrom([]string{"", "v", `"quoted"`, `\059`, "é", strings.Repeat("x", 255), strings.Repeat("y", 300), strings.Repeat("z", 510)}).Draw(t, "value")
			}
			status := rapid.SampledFrom([]string{store.Passing, store.Passing, store.Passing, store.Warning, store.Critical}).Draw(t, "status")
			i.Checks = []*store.Check{{Node: node, CheckID: i.Service.ID, Status: status}}
			c.add(dc, i)
		}
	}
	return c
}

func drawSettings(t *rapid.T) Settings {
	set := DefaultSettings()
	set.NodeTTL = rapid.SampledFrom([]time.Duration{0, 7 * time.Second}).Draw(t, "node_ttl")
	set.ServiceTTL = map[string]time.Duration{"w*": 3 * time.Second, "*": time.Second}
	set.EnableTruncate = rapid.Bool().Draw(t, "enable_truncate")
	set.OnlyPassing = rapid.Bool().Draw(t, "only_passing")
	set.DisableCompress = rapid.IntRange(0, 3).Draw(t, "disable_compression") == 0
	set.UDPAnswerLimit = rapid.SampledFrom([]int{3, 3, 0, 1, 50}).Draw(t, "udp_answer_limit")
	set.ARecordLimit = rapid.SampledFrom([]int{0, 0, 1, 3, 5}).Draw(t, "a_record_limit")
	set.NodeMetaTXT = rapid.Bool().Draw(t, "node meta")
	set.SOAMinTTL = rapid.SampledFrom([]uint32{0, 30}).Draw(t, "min_ttl")
	if rapid.IntRange(0, 3).Draw(t, "recursors") == 0 {
		set.Recursors = []string{"127.0.0.1:1"}
		set.RecursorTimeout = time.Millisecond
	}
	return set
}

func drawName(t *rapid.T) string {
	pick := func(label string, of ...string) string { return rapid.SampledFrom(of).Draw(t, label) }
	name := pick("form", "%s.service", "v1.%s.service", "v2.%s.service", "a.b.%s.service", "_%s._tcp", "_%s._tcp.service", "_%s._v1.service", "%s.connect", "%s.node", "%s.node", "%s.node", "x.%s.node")
	name = fmt.Sprintf(name, pick("name", "web", "db", "alone", "none", "n1", "n1", "n2", "n3", "n4.rack", "un_der"))
	name += pick("dc", "", "", "", ".dc1", ".dc1.dc", ".dc2", ".dc3", ".ns", ".hostmaster", ".broken", ".a.dc") + pick("zone", ".consul.", ".consul.", ".corp.example.")
	b := []byte(name)
	if rapid.IntRange(0, 4).Draw(t, "case") == 0 {
		for i := range b {
			if 'a' <= b[i] && b[i] <= 'z' && rapid.Bool().Draw(t, "upper") {
				b[i] -= 'a' - 'A'
			}
		}
	}
	return string(b)
}

// drawQuestion is a message to s.
func drawQuestion(t *rapid.T, s *Server) *dns.Msg {
	r := new(dns.Msg)
	r.SetQuestion(drawName(t), rapid.SampledFrom([]uint16{dns.TypeA, dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeSRV, dns.TypeANY, dns.TypeTXT, dns.TypeMX}).Draw(t, "type"))
	r.Id = uint16(rapid.IntRange(0, 0xffff).Draw(t, "id"))
	r.RecursionDesired = rapid.Bool().Draw(t, "rd")
	r.CheckingDisabled = rapid.Bool().Draw(t, "cd")
	r.AuthenticatedData = rapid.Bool().Draw(t, "ad")
	var size uint16
	switch rapid.IntRange(0, 3).Draw(t, "sizes") {
	case 0:
	case 1:
		size = rapid.SampledFrom([]uint16{1, 511, 512, 513, 1232, 16383, 16384, 16385, 65535}).Draw(t, "edns")
	default: // about as much as the whole answer needs, or half of it
		m, _ := s.answer(s.life, r, noClient, true, time.Time{})
		whole := m.Len() / rapid.IntRange(1, 2).Draw(t, "part")
		size = uint16(min(max(whole+optSize+rapid.IntRange(-50, 20).Draw(t, "off"), 1), 65535))
	}
	if size > 0 {
		r.SetEdns0(size, rapid.Bool().Draw(t, "do"))
		switch rapid.IntRange(0, 6).Draw(t, "option") {
		case 0:
			r.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0123456789abcdef"}, &dns.EDNS0_PADDING{Padding: make([]byte, 9)}}
		case 1:
			r.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 8, Address: []byte{10, 0, 0, 0}}}
		}
	}
	return r
}

// seeded makes both paths draw the same numbers.
func seeded(s *Server, seed uint64) {
	s.newRand = func() *rand.Rand { return rand.New(rand.NewPCG(1, seed)) }
}

// both answers a packet on both paths; hot is nil if that path gave it up.
func both(t interface {
	Helper()
	Fatalf(string, ...any)
}, s *Server, pkt []byte) (hotBytes, fullBytes []byte) {
	t.Helper()
	w, now := s.newWorker(), time.Unix(1e9, 0)
	if s.answerHot(s.life, w, pkt, now, false) == answered {
		hotBytes = bytes.Clone(w.out)
	}
	r := new(dns.Msg)
	if s.unpack(r, pkt) != dns.MsgAccept {
		if hotBytes != nil {
			t.Fatalf("the hot path answered what is no question: %x", pkt)
		}
		return nil, nil
	}
	m, way := s.answer(s.life, r, noClient, false, now)
	if hotBytes != nil && way != full {
		t.Fatalf("the hot path answered %v, the full one did not", r)
	}
	fullBytes, _ = s.pack(m, r)
	if hotBytes != nil && !bytes.Equal(hotBytes, fullBytes) {
		got := new(dns.Msg)
		err := got.Unpack(hotBytes)
		t.Fatalf("question %v\nhot path, %d bytes: %v, %v\nfull path, %d bytes: %v\nhot:  %x\nfull: %x", r, len(hotBytes), got, err, len(fullBytes), m, hotBytes, fullBytes)
	}
	return hotBytes, fullBytes
}

// The hot path answers to the byte what the full path does.
func TestPathsAgree(t *testing.T) {
	var hots, questions int
	rapid.Check(t, func(t *rapid.T) {
		c := drawCatalog(t)
		s := newServer(func(cfg *Config) {
			cfg.Do, cfg.Settings, cfg.TranslateWAN = c, drawSettings(t), rapid.Bool().Draw(t, "translate_wan_addrs")
		})
		defer s.end()
		for range 40 {
			r := drawQuestion(t, s)
			pkt, err := r.Pack()
			if err != nil {
				t.Fatal(err)
			}
			seeded(s, rapid.Uint64().Draw(t, "seed"))
			fast, slow := both(t, s, pkt)
			if size := limitOf(s.settings.Load(), ednsSize(r), false).bytes; len(slow) > size {
				t.Fatalf("%v: %d bytes, limit %d", r, len(slow), size)
			}
			questions++
			if fast != nil {
				hots++
			}
		}
	})
	t.Logf("%d of %d questions took the hot path", hots, questions)
	if hots < questions/4 {
		t.Errorf("%d of %d questions took the hot path: this tests little", hots, questions)
	}
}

func ednsSize(r *dns.Msg) uint16 {
	if o := r.IsEdns0(); o != nil {
		return o.UDPSize()
	}
	return 0
}

// FuzzPacket feeds both paths whatever comes over the network.
func FuzzPacket(f *testing.F) {
	for _, name := range []string{"web.service.consul.", "v1.web.service.dc1.consul.", "_web._tcp.consul.", "alpha.node.consul.", "six.service.corp.example.", "none.service.consul.", "big.service.consul."} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeANY} {
			r := new(dns.Msg)
			r.SetQuestion(name, qtype)
			pkt, _ := r.Pack()
			f.Add(pkt)
			r.SetEdns0(1232, true)
			r.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0123456789abcdef"}}
			pkt, _ = r.Pack()
			f.Add(pkt)
		}
	}
	s := newServer(nil)
	seeded(s, 1)
	f.Fuzz(func(t *testing.T, pkt []byte) {
		if len(pkt) < headerSize || len(pkt) > dns.MaxMsgSize {
			return
		}
		before := slices.Clone(pkt)
		hotBytes, _ := both(t, s, pkt)
		if !bytes.Equal(before, pkt) {
			t.Error("the packet was written to")
		}
		if hotBytes != nil && len(hotBytes) > 4*len(pkt)+1400 && ednsOfPacket(pkt) <= 512 {
			t.Errorf("%d bytes for a packet of %d", len(hotBytes), len(pkt))
		}
	})
}

func ednsOfPacket(pkt []byte) uint16 {
	r := new(dns.Msg)
	if r.Unpack(pkt) != nil {
		return 0
	}
	return ednsSize(r)
}
