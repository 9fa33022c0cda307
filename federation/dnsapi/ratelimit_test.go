package dnsapi

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// A client has its burst at once and its rate from then on, over UDP and TCP each;
// the addresses of a /64 are one client.
func TestRate(t *testing.T) {
	l := newLimiter(Rate{PerSecond: 10, Burst: 5})
	asks := func(at time.Duration, tcp bool, client string, n int) (got int) {
		for range n {
			if ok, forgot := l.take(at, tcp, netip.MustParseAddr(client)); forgot {
				t.Errorf("%s at %s: a client was forgotten", client, at)
			} else if ok {
				got++
			}
		}
		return got
	}
	for _, step := range []struct {
		at     time.Duration
		tcp    bool
		client string
		n, ok  int
	}{
		{0, false, "192.0.2.1", 8, 5},
		{0, true, "192.0.2.1", 8, 5},
		{0, false, "192.0.2.2", 3, 3},
		{0, false, "::ffff:192.0.2.2", 3, 2}, // the same again
		{99 * time.Millisecond, false, "192.0.2.1", 1, 0},
		{100 * time.Millisecond, false, "192.0.2.1", 9, 1},
		{350 * time.Millisecond, false, "192.0.2.1", 9, 2},
		{400 * time.Millisecond, false, "192.0.2.1", 9, 1}, // the half of 350 ms is not lost
		{time.Hour, false, "192.0.2.1", 9, 5},              // and not more than the burst
		{time.Hour, false, "2001:db8::1", 4, 4},
		{time.Hour, false, "2001:db8::ffff:2", 4, 1},
		{time.Hour, false, "2001:db8:0:1::1", 4, 4},
	} {
		if got := asks(step.at, step.tcp, step.client, step.n); got != step.ok {
			t.Errorf("%s at %s, TCP %v: %d of %d, want %d", step.client, step.at, step.tcp, got, step.n, step.ok)
		}
	}
	for _, r := range []Rate{{}, {PerSecond: -1, Burst: 5}, {PerSecond: 1e12, Burst: 5}} {
		if newLimiter(r) != nil {
			t.Errorf("%+v is a limit", r)
		}
	}
	one := newLimiter(Rate{PerSecond: 1})
	if ok, _ := one.take(0, false, noClient); !ok {
		t.Error("no question at all is let through without a burst")
	}
}

// However many clients there are, the table does not grow, nobody is refused for
// what others ask, and who is refused stays so while there is room.
func TestRateOfManyClients(t *testing.T) {
	l := newLimiter(Rate{PerSecond: 0.001, Burst: 1})
	client := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}) }
	forgotten := 0
	const n = 4 * clientSets * clientWays
	for i := range n {
		ok, forgot := l.take(0, false, client(i))
		if !ok {
			t.Fatalf("client %d is refused its first question", i)
		}
		if forgot {
			forgotten++
		}
	}
	if want := n - clientSets*clientWays; forgotten != want {
		t.Errorf("%d clients were forgotten, want %d", forgotten, want)
	}
	few := newLimiter(Rate{PerSecond: 0.001, Burst: 1})
	for i := range 1000 {
		few.take(0, false, client(i))
	}
	for i := range 1000 {
		if ok, _ := few.take(time.Second, false, client(i)); ok {
			t.Errorf("client %d asks again after a second of its 1,000", i)
		}
	}
}

// What is too much is cut short over UDP, to be asked again over TCP, and REFUSED
// there. What is no question gets no answer.
func TestTooManyQuestions(t *testing.T) {
	s, reg, at := listen(t, "127.0.0.1:0", func(c *Config) {
		c.Do = town()
		c.Settings.Rate = Rate{PerSecond: 0.001, Burst: 3}
	})
	udp, tcp := dial(t, "udp", at), dial(t, "tcp", at)
	for i := range 6 {
		m := ask(t, udp, "web.service.consul.", dns.TypeA)
		if cut := i >= 3; m.Truncated != cut || (len(m.Answer) == 0) != cut || m.Rcode != dns.RcodeSuccess || len(m.Question) != 1 {
			t.Errorf("question %d over UDP:\n%s", i+1, m)
		}
		m = ask(t, tcp, "web.service.consul.", dns.TypeA)
		if refused := i >= 3; (m.Rcode == dns.RcodeRefused) != refused || (len(m.Answer) == 0) != refused || m.Truncated {
			t.Errorf("question %d over TCP:\n%s", i+1, m)
		}
	}
	// Of another zone, with an OPT record: a question too.
	pkt := packet(t, "example.org.", dns.TypeTXT, 1232)
	if _, err := udp.Write(pkt); err != nil {
		t.Fatal(err)
	}
	m := receive(t, udp, "example.org.")
	if opt := m.IsEdns0(); !m.Truncated || opt == nil || opt.UDPSize() != 1232 || !m.RecursionDesired || len(m.Answer)+len(m.Ns) > 0 {
		t.Errorf("the answer to another zone's:\n%s", m)
	}
	w := s.newWorker()
	if !s.truncated(w, pkt) || len(w.out) > len(pkt) {
		t.Errorf("an answer of %d bytes to a question of %d", len(w.out), len(pkt))
	}
	pkt = packet(t, "web.service.consul.", dns.TypeA, 0)
	for name, damage := range map[string]func([]byte) []byte{
		"a response":       func(b []byte) []byte { b[2] |= 0x80; return b },
		"an update":        func(b []byte) []byte { b[2] |= 5 << 3; return b },
		"a header":         func(b []byte) []byte { return b[:headerSize] },
		"half a header":    func(b []byte) []byte { return b[:headerSize/2] },
		"two questions":    func(b []byte) []byte { b[5] = 2; return b },
		"a pointer":        func(b []byte) []byte { b[headerSize] = 0xC0; return b },
		"half a question":  func(b []byte) []byte { return b[:len(b)-1] },
		"nothing whatever": func([]byte) []byte { return nil },
	} {
		if s.truncated(w, damage(append([]byte(nil), pkt...))) {
			t.Errorf("%s is answered", name)
		}
	}
	limited := func() string {
		return fmt.Sprint(testutil.ToFloat64(s.metrics.limited[0]), " ", testutil.ToFloat64(s.metrics.limited[1]))
	}
	if got := limited(); got != "4 3" {
		t.Errorf("%s questions too many over UDP and TCP, want 4 and 3", got)
	}
	if refused := counted(t, reg, "tcp", "full", "REFUSED"); refused != 3 {
		t.Errorf("%v answers are REFUSED, want 3", refused)
	}

	// Settings that leave the limit alone do not forgive.
	set := *s.settings.Load()
	set.NodeTTL = time.Second
	s.Reload(set)
	if m := ask(t, udp, "web.service.consul.", dns.TypeA); !m.Truncated {
		t.Error("a reload of something else forgives")
	}
	set.Rate.PerSecond = -1
	s.Reload(set)
	for range 10 {
		if m := ask(t, udp, "web.service.consul.", dns.TypeA); m.Truncated {
			t.Error("the limit is still there")
		}
	}
	if got := limited(); got != "5 3" {
		t.Errorf("%s questions too many, want 5 and 3", got)
	}
}

func BenchmarkRefuses(b *testing.B) {
	for _, r := range []Rate{{}, {PerSecond: 1e8, Burst: 1 << 30}} {
		s := newServer(func(c *Config) { c.Settings.Rate = r })
		for _, from := range []string{"192.0.2.1", "2001:db8::1"} {
			addr, now := netip.MustParseAddr(from), time.Now()
			b.Run(fmt.Sprint("rate ", r.PerSecond, "/", from), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if s.refuses(false, addr, now) {
						b.Fatal("refused")
					}
				}
			})
		}
	}
}
