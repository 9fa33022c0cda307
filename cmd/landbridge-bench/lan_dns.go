package main

import (
	"time"

	"github.com/miekg/dns"
)

// lanDNS is S5: names of services and nodes at a server and at a client agent, by
// dnsperf with 8 clients. CPU is that of all agents, so an agent that asks a server
// for each question pays for both.
func lanDNS(t *trial) {
	cl := t.lan(lanOptions{servers: 3, clients: 1})
	leader := cl.leader()
	registerWeb(t, leader)
	t.sleep(2 * time.Second)
	for _, at := range []struct {
		name string
		node *node
	}{{"server", leader}, {"client agent", cl.clients[0]}} {
		for _, q := range []struct {
			what, name string
			kind       uint16
		}{
			{"A web, 3 instances", "web.service.consul", dns.TypeA},
			{"SRV web, 3 instances", "web.service.consul", dns.TypeSRV},
			{"A web100, 100 instances", "web100.service.consul", dns.TypeA},
			{"A of a node", "web-node-1.node.consul", dns.TypeA},
		} {
			kase := at.name + ": " + q.what
			o, err := dnsQuestion(at.node, q.name, q.kind, 0)
			t.check(err, kase)
			size, err := o.do()
			o.Close()
			t.check(err, kase)
			t.add(kase, "answers", float64(o.answers), "records", neither)
			t.add(kase, "size of an answer", float64(size), "bytes", neither)
			t.dnsperf(kase, at.node, q.name+" "+dns.TypeToString[q.kind], t.num(8, 2), []string{"-T", "2"}, cl.all()...)
			t.settle(cl.all(), 3*time.Second)
		}
	}
}
