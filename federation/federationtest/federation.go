package federationtest

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"landbridge/federation/node"
	"landbridge/store/raftlog/raftlogtest"
)

// Ports of every host.
const (
	serverPort  = 8300
	serfLANPort = 8301
	serfWANPort = 8302
)

// Spec describes a datacenter to be made.
type Spec struct {
	name    string
	servers int
	clients int
	key     []byte
	edits   []func(*node.Config)
}

// DC is a datacenter of so many servers, with an encryption key that is the same
// for all datacenters.
func DC(name string, servers int) Spec {
	return Spec{name: name, servers: servers, key: []byte("sixteen byte key")}
}

// Clients adds client agents.
func (s Spec) Clients(n int) Spec { s.clients = n; return s }

// Key replaces the encryption key; nil is none.
func (s Spec) Key(key []byte) Spec { s.key = key; return s }

// Edit changes the configuration of each agent before it starts.
func (s Spec) Edit(f func(*node.Config)) Spec {
	s.edits = append(slices.Clone(s.edits), f)
	return s
}

// Federation is all datacenters of one story. They are not joined to each other
// to begin with.
type Federation struct {
	T     *testing.T
	net   *network
	start time.Time
	dir   string
	dcs   []*Datacenter
	rules []rule
}

// Run tells a story in a bubble of virtual time.
func Run(t *testing.T, story func(f *Federation), specs ...Spec) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { story(New(t, specs...)) })
}

// New makes the datacenters and waits until each has a leader that all its agents
// know. It is called inside a bubble; the end of the test stops everything.
func New(t *testing.T, specs ...Spec) *Federation {
	t.Helper()
	f := &Federation{T: t, net: newNetwork(1), start: time.Now(), dir: t.TempDir()}
	t.Cleanup(f.close)
	for i, spec := range specs {
		dc := &Datacenter{f: f, Name: spec.name, spec: spec, number: i + 1}
		f.dcs = append(f.dcs, dc)
		for range spec.servers {
			dc.add(true)
		}
		for range spec.clients {
			dc.add(false)
		}
	}
	for _, h := range f.Hosts() {
		h.launch()
	}
	for _, dc := range f.dcs {
		dc.AwaitLeader(15 * time.Second)
	}
	return f
}

// close ends all agents, prints what they said if the test failed, and lets a
// minute pass: timers of memberlist and serf end some seconds after their owner.
func (f *Federation) close() {
	if f.T.Failed() {
		for _, h := range f.Hosts() {
			h.log.print(f.T, h.Name)
		}
	}
	var all sync.WaitGroup
	for _, h := range f.Hosts() {
		all.Go(h.halt)
	}
	all.Wait()
	time.Sleep(time.Minute)
}

// DC is the datacenter of that name.
func (f *Federation) DC(name string) *Datacenter {
	f.T.Helper()
	for _, dc := range f.dcs {
		if dc.Name == name {
			return dc
		}
	}
	f.T.Fatalf("the story has no datacenter %q", name)
	return nil
}

// Hosts are all hosts, running or not.
func (f *Federation) Hosts() []*Host {
	var all []*Host
	for _, dc := range f.dcs {
		all = append(all, dc.Hosts()...)
	}
	return all
}

// Must ends the test if err is not nil.
func (f *Federation) Must(err error) {
	f.T.Helper()
	if err != nil {
		f.T.Fatalf("at %s: %v", f.Now(), err)
	}
}

// Now is the time since the story began.
func (f *Federation) Now() time.Duration { return time.Since(f.start) }

// Await waits until cond returns nil, and ends the test if that took longer than
// within. It returns how long it took. Looking again costs nothing: time is
// virtual.
func (f *Federation) Await(within time.Duration, what string, cond func() error) time.Duration {
	f.T.Helper()
	start := time.Now()
	for {
		err := cond()
		took := time.Since(start)
		switch {
		case err == nil && took <= within:
			return took
		case err == nil:
			f.T.Fatalf("at %s: %s took %s, want at most %s", f.Now(), what, took, within)
		case took > within:
			f.T.Fatalf("at %s: not within %s: %s: %v", f.Now(), within, what, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Side is one end of paths: a Host, a Datacenter or a Group.
type Side interface{ hosts() []*Host }

// Group is any set of hosts.
type Group []*Host

func (g Group) hosts() []*Host { return g }

// Partition cuts everything between the two sides, both ways: packets are lost
// and connections hang.
func (f *Federation) Partition(a, b Side) {
	f.eachPair(a, b, func(x, y netip.Addr) { f.net.setCut(x, y, true) })
}

// Heal undoes Partition. What connections held back arrives.
func (f *Federation) Heal(a, b Side) {
	f.eachPair(a, b, func(x, y netip.Addr) { f.net.setCut(x, y, false) })
}

// Slow gives the WAN packets between two sides a round trip time.
func (f *Federation) Slow(a, b Side, rtt time.Duration) { f.Lossy(a, b, rtt, 0) }

// Lossy gives them a round trip time and loses a share of them, 0 to 1.
func (f *Federation) Lossy(a, b Side, rtt time.Duration, loss float64) {
	f.eachPair(a, b, func(x, y netip.Addr) { f.net.packets.SetPath(x, y, rtt/2, loss) })
}

// rule is what was done to the paths between two sides, to be done again for a
// host that a side gets later.
type rule struct {
	a, b Side
	do   func(x, y netip.Addr)
}

func (f *Federation) eachPair(a, b Side, do func(x, y netip.Addr)) {
	r := rule{a, b, do}
	f.rules = append(f.rules, r)
	r.apply(nil)
}

// apply does it for all pairs, or for those of one host.
func (r rule) apply(only *Host) {
	for _, x := range r.a.hosts() {
		for _, y := range r.b.hosts() {
			if x != y && (only == nil || x == only || y == only) {
				r.do(x.addr, y.addr)
			}
		}
	}
}

// Datacenter is one of the story's datacenters.
type Datacenter struct {
	Name string

	f      *Federation
	spec   Spec
	number int
	list   []*Host
}

func (dc *Datacenter) hosts() []*Host { return dc.list }

// Hosts are its agents, running or not: servers first, in the order of their making.
func (dc *Datacenter) Hosts() []*Host { return slices.Clone(dc.list) }

// Servers are its servers, running or not.
func (dc *Datacenter) Servers() []*Host {
	return slices.DeleteFunc(dc.Hosts(), func(h *Host) bool { return !h.server })
}

// Server is its i-th server.
func (dc *Datacenter) Server(i int) *Host { return dc.Servers()[i] }

// Client is its i-th client agent.
func (dc *Datacenter) Client(i int) *Host {
	return slices.DeleteFunc(dc.Hosts(), func(h *Host) bool { return h.server })[i]
}

// add makes a host that does not run yet.
func (dc *Datacenter) add(server bool) *Host {
	n := len(dc.list) + 1
	h := &Host{
		Name: fmt.Sprintf("%s-%d", dc.Name, n), f: dc.f, dc: dc, server: server,
		addr: netip.AddrFrom4([4]byte{10, byte(dc.number), 0, byte(n)}), disk: raftlogtest.New(),
	}
	h.dir = filepath.Join(dc.f.dir, h.Name)
	dc.list = append(dc.list, h)
	return h
}

// Add starts one more server, which joins the datacenter.
func (dc *Datacenter) Add() *Host {
	h := dc.add(true)
	for _, r := range dc.f.rules {
		r.apply(h)
	}
	h.launch()
	return h
}

// Leader is the server that says that it leads, nil if there is none.
func (dc *Datacenter) Leader() *Host {
	for _, h := range dc.Servers() {
		if h.Leads() {
			return h
		}
	}
	return nil
}

// Followers are the running servers that do not lead.
func (dc *Datacenter) Followers() []*Host {
	return slices.DeleteFunc(dc.Servers(), func(h *Host) bool { return !h.Running() || h.Leads() })
}

// AwaitLeader waits until all running agents of the datacenter agree on a leader,
// and returns it.
func (dc *Datacenter) AwaitLeader(within time.Duration) (leader *Host) {
	dc.f.T.Helper()
	dc.f.Await(within, dc.Name+" has a leader", func() error {
		if leader = dc.Leader(); leader == nil {
			return fmt.Errorf("no server of %s leads", dc.Name)
		}
		for _, h := range dc.list {
			if !h.Running() {
				continue
			}
			if got := h.knownLeader(); got != leader.serverAddr() {
				return fmt.Errorf("%s takes %q for the leader, %s says it is", h.Name, got, leader.Name)
			}
		}
		return nil
	})
	return leader
}
