package main

import (
	"fmt"
	"time"
)

var lanSuite = suite{
	name:    "lan",
	example: "S2,S5",
	about: `Measures inside one datacenter, on loopback (127.77.0.0/16, ports 283xx, 285xx and 286xx).
Configuration is the binary's default, but for limits of connections and retry_interval;
"raft_multiplier=1" marks a tuned variant.`,
	scenarios: []scenario{
		{name: "S1", title: "startup, idle cost, binary size", run: lanStartup},
		{name: "S2", title: "KV PUT, 3 servers, values of 128 bytes", run: lanKVPut},
		{name: "S3", title: "KV GET, 3 servers", run: lanKVGet},
		{name: "S4", title: "health/service reads, 64 at a time", run: lanHealth},
		{name: "S5", title: "DNS over UDP (dnsperf)", needs: []string{"dnsperf"}, run: lanDNS},
		{name: "S6", title: "blocking queries", run: lanWatch},
		{name: "S8", title: "leader failover", run: lanFailover},
		{name: "S11", title: "scale: 10,000 services, 200,000 keys", run: lanScale},
		{name: "S12", title: "20 client agents", run: lanClients},
		{name: "S13", title: "durability: kill -9 of all servers", run: lanDurability},
		{name: "S14", title: "registrations with a client agent", run: lanRegistrations},
	},
}

// lanOptions shapes the cluster of a lan scenario.
type lanOptions struct {
	servers, clients int
	fast             bool // performance.raft_multiplier = 1
}

// newLAN makes a datacenter on loopback; each has addresses of its own, so that an
// earlier one's connections do not meet it.
func (t *trial) newLAN(o lanOptions) *cluster {
	t.mu.Lock()
	net := len(t.nodes) % 250
	t.mu.Unlock()
	return t.newCluster(site{dc: "dc1", servers: o.servers, clients: o.clients, fast: o.fast, loopback: true,
		address: func(i int) string { return fmt.Sprintf("127.77.%d.%d", net, i+1) }})
}

// lan makes a datacenter and waits until all of it works.
func (t *trial) lan(o lanOptions) *cluster {
	cl := t.newLAN(o)
	start(cl.servers)
	t.waitWritable(cl.servers, time.Minute)
	start(cl.clients)
	t.waitWritable(cl.clients, time.Minute)
	cl.waitCatalog(o.servers+o.clients, time.Minute)
	return cl
}

func tuning(fast bool) string {
	if fast {
		return "raft_multiplier=1"
	}
	return "default"
}

// lanLoad runs a load of ops and records it; CPU is that of all agents of cl.
func (t *trial) lanLoad(cl *cluster, kase string, ops []op) *load {
	l := t.closedLoop(ops, t.dur(time.Second, 200*time.Millisecond), t.dur(6*time.Second, time.Second), cl.all()...)
	t.addLoad(kase, l, 0)
	t.settle(cl.all(), 3*time.Second)
	return l
}

// value128 is a value of 128 bytes that differs with i: writing the value that is
// already there may cost next to nothing.
func value128(i int) []byte {
	return fmt.Appendf(make([]byte, 0, 128), "%0128d", i)
}

// registration is a catalog/register body of one instance of a service and its check.
func registration(node, address, service string, port int, output string) []byte {
	return fmt.Appendf(nil, `{"Node":%q,"Address":%q,"Service":{"ID":%q,"Service":%q,"Port":%d,"Tags":["v1","primary"],"Meta":{"version":"1.2.3"}},`+
		`"Check":{"CheckID":"service:%s","Name":"alive","ServiceID":%q,"Status":"passing","Output":%q}}`,
		node, address, service, service, port, service, service, output)
}

// registerWeb registers service "web" on 3 nodes and "web100" on 100.
func registerWeb(t *trial, n *node) {
	for _, s := range []struct {
		name  string
		count int
	}{{"web", 3}, {"web100", 100}} {
		t.putAll(n, s.count, 8, func(i int) (string, []byte) {
			return "/v1/catalog/register", registration(fmt.Sprintf("%s-node-%d", s.name, i), fmt.Sprintf("10.1.%d.%d", s.count, i+1), s.name, 8000, "ok")
		})
	}
}
