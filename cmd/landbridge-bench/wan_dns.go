package main

import (
	"time"

	"github.com/miekg/dns"
)

// wanDNS is W3: web0.service.dc2.consul (20 instances) at a server and at a client
// agent of dc1, without delay and with 40 ms each way: one question at a time, and
// dnsperf with 400 under way.
func wanDNS(t *trial) {
	o := twoDCs([]string{}...)
	o.clients = 1
	f := t.wan(o)
	f.seed(false)
	f.seedServices(1)
	for _, delay := range []string{"0ms", "40ms"} {
		f.link("set", "dc1", "dc2", "none", "delay="+delay)
		for _, at := range []struct {
			name string
			node *node
		}{{"server", f.dcs[0].follower()}, {"client agent", f.dcs[0].clients[0]}} {
			kase := delay + ", at a " + at.name
			question, err := dnsQuestion(at.node, "web0.service.dc2.consul", dns.TypeA, 4096)
			t.check(err, kase)
			t.check(t.until(10*time.Second, 100*time.Millisecond, "a first answer", func() error { _, err := question.do(); return err }), kase)
			t.addLoad(kase+", c=1", t.closedLoop([]op{question}, 500*time.Millisecond, t.dur(6*time.Second, 2*time.Second)), 0)
			t.dnsperf(kase+", 400 under way", at.node, "web0.service.dc2.consul A", t.num(6, 2), []string{"-q", "400", "-t", "5", "-e"})
		}
	}
}
