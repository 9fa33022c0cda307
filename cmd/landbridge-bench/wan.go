package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

var wanSuite = suite{
	name:    "wan",
	example: "W1,W4.kill",
	about: `Measures across datacenters whose links wanlink emulates. Needs root, /dev/net/tun and iproute2.
Two datacenters of three servers (W7: also five of one), each scenario on a network of its own.
Requests go to a follower of dc1, over its loopback, from this process. "RTT" is round trips of the link.`,
	ready: wanReady,
	scenarios: []scenario{
		{name: "W1", title: "reads from another datacenter, on four links", run: wanReads},
		{name: "W2", title: "small reads beside answers of 4 MB", run: wanBulk},
		{name: "W3", title: "DNS of another datacenter", needs: []string{"dnsperf"}, run: wanDNS},
		{name: "W4.join", title: "joining two datacenters", run: wanJoin},
		{name: "W4.kill", title: "servers of the other datacenter are killed; 10 % loss", run: wanKill},
		{name: "W4.cut", title: "the link is cut for a minute", run: wanCut},
		{name: "W5", title: "ACL replication", run: wanACL},
		{name: "W6", title: "500 blocking queries for a key of another datacenter", run: wanWatch},
		{name: "W7", title: "idle federations", run: wanIdle},
	},
}

// wanReady says what is missing to run any wan scenario.
func wanReady(o *options) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("needs root, to make network namespaces")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return fmt.Errorf("needs TUN devices: %w", err)
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return fmt.Errorf("needs iproute2: %w", err)
	}
	o.wanlink, err = findWanlink(o.wanlink)
	return err
}

// topology shapes a federation.
type topology struct {
	dcs, servers int // servers in each
	clients      int // client agents in dc1
	joined       bool
	acl          bool
	link         []string // settings of all links, as flags of "wanlink up"
}

// twoDCs are two datacenters of three servers, joined, and 40 ms apart each way
// (a round trip of 80 ms) unless links are named.
func twoDCs(link ...string) topology {
	if link == nil {
		link = []string{"-delay", "40ms"}
	}
	return topology{dcs: 2, servers: 3, joined: true, link: link}
}

// roundTrip is that of 40 ms each way.
const roundTrip = 80 * time.Millisecond

// federation is datacenters dc1, dc2 ... on an emulated network.
type federation struct {
	*network
	t   *trial
	dcs []*cluster
}

// wan makes a federation, waits until it works as far as it was asked to join, and
// lets it come to rest.
func (t *trial) wan(o topology) *federation {
	var sites []string
	for i := range o.dcs {
		hosts := o.servers
		if i == 0 {
			hosts += o.clients
		}
		sites = append(sites, fmt.Sprintf("dc%d=%d", i+1, hosts))
	}
	f := &federation{t: t, network: t.newNetwork(strings.Join(sites, ","), o.link...)}
	first := func(i int) string { return fmt.Sprintf("10.77.%d.11", i+1) }
	for i := range o.dcs {
		s := site{
			dc: fmt.Sprintf("dc%d", i+1), servers: o.servers, federated: true, acl: o.acl,
			address: func(h int) string { return fmt.Sprintf("10.77.%d.%d", i+1, 11+h) },
			host:    func(h int) *host { return f.host(fmt.Sprintf("dc%d/%d", i+1, h+1)) },
		}
		if i == 0 {
			s.clients = o.clients
		}
		for other := range o.dcs {
			if o.joined && other != i {
				s.joinWAN = append(s.joinWAN, first(other))
			}
		}
		f.dcs = append(f.dcs, t.newCluster(s))
	}
	start(f.agents())
	t.waitWritable(f.agents(), time.Minute)
	if o.joined {
		f.waitJoined()
	}
	t.sleep(t.dur(3*time.Second, time.Second))
	return f
}

// close ends the agents and the network, between parts of a scenario.
func (f *federation) close() {
	stopAll(f.agents())
	f.down()
}

func (f *federation) agents() (all []*node) {
	for _, cl := range f.dcs {
		all = append(all, cl.all()...)
	}
	return all
}

func (f *federation) servers() (all []*node) {
	for _, cl := range f.dcs {
		all = append(all, cl.servers...)
	}
	return all
}

// onServers calls do for all servers at once, until it is content or limit is over.
func (f *federation) onServers(limit, every time.Duration, what string, do func(n *node) error) error {
	servers := f.servers()
	return each(len(servers), len(servers), func(_, i int) error {
		return f.t.until(limit, every, servers[i].name+" "+what, func() error { return do(servers[i]) })
	})
}

// knows says why a server does not list count datacenters.
func (n *node) knows(count int) error {
	var list []string
	if err := n.get("/v1/catalog/datacenters", &list); err != nil {
		return err
	}
	if len(list) != count {
		return fmt.Errorf("lists datacenters %v", list)
	}
	return nil
}

// readsFromAll says why a server cannot read from one of the datacenters.
func (f *federation) readsFromAll(n *node) error {
	for _, cl := range f.dcs {
		if err := n.reads("/v1/kv/ready/" + cl.servers[0].name + "?dc=" + cl.dc); err != nil {
			return err
		}
	}
	return nil
}

// waitJoined waits until each server lists all datacenters and all their servers,
// and can read from each.
func (f *federation) waitJoined() {
	f.t.check(f.onServers(90*time.Second, 200*time.Millisecond, "is federated", func(n *node) error {
		if err := n.knows(len(f.dcs)); err != nil {
			return err
		}
		var members []struct{ Name string }
		if err := n.get("/v1/agent/members?wan=1", &members); err != nil {
			return err
		}
		if len(members) != len(f.servers()) {
			return fmt.Errorf("lists %d members of the WAN", len(members))
		}
		return f.readsFromAll(n)
	}), "join")
}

// What the reads ask for, in dc2: key x, keys x0 to x999, and services web0 to
// web99 of 20 instances, so that reads that are under way at once ask for
// different things.
const (
	seedKeys      = 1000
	seedServices  = 100
	seedInstances = 20
	readX         = "/v1/kv/x?dc=dc2"
)

// seed writes key x, and with many the others and the services.
func (f *federation) seed(many bool) {
	n, value := f.dcs[1].servers[0], bytes.Repeat([]byte("v"), 256)
	f.t.putAll(n, 1, 1, func(int) (string, []byte) { return "/v1/kv/x", value })
	last := readX
	if many {
		f.t.putAll(n, seedKeys, 16, func(i int) (string, []byte) { return fmt.Sprintf("/v1/kv/x%d", i), value })
		f.seedServices(seedServices)
		last = fmt.Sprintf("/v1/health/service/web%d?dc=dc2", seedServices-1)
	}
	f.t.check(f.onServers(20*time.Second, 100*time.Millisecond, "reads what was written", func(n *node) error { return n.reads(last) }), "seed")
}

func (f *federation) seedServices(count int) {
	f.t.putAll(f.dcs[1].servers[0], count*seedInstances, 8, func(i int) (string, []byte) {
		return "/v1/catalog/register", registration(fmt.Sprintf("web-%d", i%seedInstances), fmt.Sprintf("10.9.0.%d", i%seedInstances+1),
			fmt.Sprintf("web%d", i/seedInstances), 8080, "")
	})
}

// addOutage records what a steady load saw after a fault: requests that failed or
// took longer than normal, the worst, and when the last of them ended.
func (t *trial) addOutage(kase string, samples []sample, fault time.Time, normal time.Duration) {
	o := outageOf(samples, fault, normal)
	t.add(kase, "failed requests", float64(o.failed.sum()), "", lower)
	t.add(kase, "slow requests", float64(o.slow), "", lower)
	t.add(kase, "worst latency", milliseconds(o.worst), "ms", lower)
	t.add(kase, "disturbed for", o.until.Seconds(), "s", lower)
	if len(o.failed) > 0 {
		t.notef("%s: %s", kase, o.failed)
	}
}

type outage struct {
	failed       errorCounts
	slow         int
	worst, until time.Duration // until is after the fault
}

// outageOf looks at the samples that had not ended at the fault.
func outageOf(samples []sample, fault time.Time, normal time.Duration) outage {
	samples = slices.DeleteFunc(slices.Clone(samples), func(s sample) bool { return s.due.Add(s.took).Before(fault) })
	o := outage{}
	_, o.failed = answered(samples)
	for _, s := range samples {
		o.worst = max(o.worst, s.took)
		if s.err == nil && s.took > normal {
			o.slow++
		}
		if s.err != nil || s.took > normal {
			o.until = max(o.until, s.due.Add(s.took).Sub(fault))
		}
	}
	return o
}
