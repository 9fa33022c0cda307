package dnsapi

import (
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// upstream is a recursor of the test, over UDP and TCP on one port.
func upstream(t *testing.T, answer func(r *dns.Msg, network string) *dns.Msg) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	pc, err := net.ListenPacket("udp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for network, srv := range map[string]*dns.Server{"tcp": {Listener: ln}, "udp": {PacketConn: pc}} {
		started := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(started) }
		srv.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
			if m := answer(r, network); m != nil {
				w.WriteMsg(m)
			}
		})
		go srv.ActivateAndServe() // ends with Shutdown
		<-started
		t.Cleanup(func() { srv.Shutdown() })
	}
	return pc.LocalAddr().String()
}

func address(r *dns.Msg, ip string) *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(r)
	m.RecursionAvailable = true
	m.Answer = []dns.RR{&dns.A{Hdr: header(r.Question[0].Name, dns.TypeA, 60), A: net.ParseIP(ip)}}
	return m
}

// asked counts who was asked how.
type asked struct {
	mu  sync.Mutex
	how []string
	ids []uint16
}

func (a *asked) add(who string, r *dns.Msg) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.how = append(a.how, who)
	a.ids = append(a.ids, r.Id)
}

func (a *asked) take() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	how := a.how
	a.how, a.ids = nil, nil
	return how
}

func TestRecursors(t *testing.T) {
	var log asked
	good := upstream(t, func(r *dns.Msg, network string) *dns.Msg {
		log.add("good "+network, r)
		m := address(r, "192.0.2.1")
		switch r.Question[0].Name {
		case "none.example.":
			m.Answer, m.Rcode = nil, dns.RcodeNameError
		case "Mixed.example.":
			m.Question[0].Name = "mixed.example."
		case "long.example.":
			if m.Truncated = network == "udp"; m.Truncated {
				m.Answer = nil
			}
		}
		return m
	})
	failing := upstream(t, func(r *dns.Msg, network string) *dns.Msg {
		log.add("failing "+network, r)
		m := new(dns.Msg)
		return m.SetRcode(r, dns.RcodeServerFailure)
	})
	lying := upstream(t, func(r *dns.Msg, network string) *dns.Msg {
		log.add("lying "+network, r)
		m := address(r, "203.0.113.66")
		m.Question[0].Name = "other.example."
		return m
	})
	silent := upstream(t, func(r *dns.Msg, network string) *dns.Msg { log.add("silent "+network, r); return nil })
	c := catalog{}
	c.add("dc1", inst("alias", "host.example", "web", "web", "long.example", 80, "passing"))
	server := func(strategy string, recursors ...string) *Server {
		timeout := 10 * time.Second
		if slices.Contains(recursors, silent) {
			timeout = time.Second
		}
		return newServer(func(cfg *Config) {
			cfg.Do = c
			cfg.Settings.Recursors, cfg.Settings.RecursorStrategy, cfg.Settings.RecursorTimeout = recursors, strategy, timeout
		})
	}
	for _, tc := range []struct {
		name      string
		recursors []string
		q         string
		tcp       bool
		want      string
		asked     []string
	}{
		{"the first", []string{good, failing}, "www.example.", false, "NOERROR not-authoritative | answer: www.example. 60 IN A 192.0.2.1", []string{"good udp"}},
		{"tcp for tcp", []string{good}, "www.example.", true, "NOERROR not-authoritative | answer: www.example. 60 IN A 192.0.2.1", []string{"good tcp"}},
		{"NXDOMAIN is an answer", []string{good, failing}, "none.example.", false, "NXDOMAIN not-authoritative", []string{"good udp"}},
		{"names in another case", []string{good}, "Mixed.example.", false, "NOERROR not-authoritative | answer: Mixed.example. 60 IN A 192.0.2.1", []string{"good udp"}},
		{"SERVFAIL is none", []string{failing, good}, "www.example.", false, "NOERROR not-authoritative | answer: www.example. 60 IN A 192.0.2.1", []string{"failing udp", "good udp"}},
		{"nor is silence", []string{silent, good}, "www.example.", false, "NOERROR not-authoritative | answer: www.example. 60 IN A 192.0.2.1", []string{"silent udp", "good udp"}},
		{"nor another question's", []string{lying, good}, "www.example.", false, "NOERROR not-authoritative | answer: www.example. 60 IN A 192.0.2.1", []string{"lying udp", "good udp"}},
		{"all fail", []string{failing, lying}, "www.example.", false, "SERVFAIL not-authoritative", []string{"failing udp", "lying udp"}},
		{"truncated is passed on", []string{good}, "long.example.", false, "NOERROR not-authoritative", []string{"good udp"}},
		{"reverse names of others", []string{good}, "9.2.0.192.in-addr.arpa.", false, "NOERROR not-authoritative | answer: 9.2.0.192.in-addr.arpa. 60 IN A 192.0.2.1", []string{"good udp"}},
		{"an alias is followed", []string{good}, "alias.node.consul.", false,
			`NOERROR | answer: alias.node.consul. 0 IN CNAME host.example.; host.example. 60 IN A 192.0.2.1 | additional: alias.node.consul. 0 IN TXT "bare"; alias.node.consul. 0 IN TXT "rack=r1"`, []string{"good udp"}},
		{"whatever its length", []string{good}, "web.service.consul.", false,
			"NOERROR | answer: long.example. 60 IN A 192.0.2.1; web.service.consul. 0 IN CNAME long.example.", []string{"good udp", "good tcp"}},
		{"without an answer the alias is one", []string{failing}, "web.service.consul.", false,
			"NOERROR | answer: web.service.consul. 0 IN CNAME long.example.", []string{"failing udp"}},
	} {
		s := server("sequential", tc.recursors...)
		r := new(dns.Msg)
		r.SetQuestion(tc.q, dns.TypeA)
		if tc.q[0] == '9' {
			r.Question[0].Qtype = dns.TypePTR
		}
		m := s.Answer(t.Context(), r, noClient, tc.tcp)
		if got := transcript(m); got != tc.want || m.Id != r.Id || !m.RecursionAvailable {
			t.Errorf("%s: got %s, RA %v; want %s", tc.name, got, m.RecursionAvailable, tc.want)
		}
		if got := log.take(); !slices.Equal(got, tc.asked) {
			t.Errorf("%s: asked %v, want %v", tc.name, got, tc.asked)
		}
		failed := 0
		for _, who := range tc.asked {
			if who[:4] != "good" {
				failed++
			}
		}
		if n := testutil.ToFloat64(s.metrics.recursorErrors); n != float64(failed) {
			t.Errorf("%s: %v failures counted, want %d", tc.name, n, failed)
		}
		if tc.name == "truncated is passed on" && !m.Truncated {
			t.Errorf("%s: it was not", tc.name)
		}
	}

	first := map[string]bool{}
	s := server("random", good, failing, lying)
	for range 100 { // one of three is never first once in 10^17
		r := new(dns.Msg)
		r.SetQuestion("www.example.", dns.TypeA)
		r.Id = 7
		if m := s.Answer(t.Context(), r, noClient, false); m.Rcode != dns.RcodeSuccess || m.Id != 7 {
			t.Fatalf("at random: %v", m)
		}
		log.mu.Lock()
		own := slices.Contains(log.ids, 7) && len(log.ids) > 1 && log.ids[0] == log.ids[1]
		log.mu.Unlock()
		if own {
			t.Error("the client's id was passed on")
		}
		first[log.take()[0]] = true
	}
	if len(first) != 3 {
		t.Errorf("at random, first asked were %v", first)
	}
	quick := Settings{Recursors: []string{good, good, good}, RecursorTimeout: 200 * time.Millisecond}
	if got, want := quick.patience(), questionTimeout; got != want {
		t.Errorf("three quick recursors: patience %v, want %v", got, want)
	}
	slow := Settings{Recursors: []string{good, good, good}, RecursorTimeout: 2 * time.Second}
	if got := slow.patience(); got != 7*time.Second {
		t.Errorf("three recursors of 2s: patience %v, want 7s", got)
	}
}
