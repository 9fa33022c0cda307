package dnsapi

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landbridge/forwarding/endpoint"
	"landbridge/forwarding/rpc"
	"landbridge/store"
	"landbridge/store/state"
)

// alone is a Raft group of one that is always the leader and applies at once.
type alone struct{ state *state.Store }

func (a alone) Apply(_ context.Context, cmd store.Command) (store.Result, error) {
	var res [1]store.Result
	a.state.Apply([]store.Command{cmd}, res[:])
	return res[0], nil
}

func (a alone) ApplyAll(_ context.Context, cmds []store.Command) ([]store.Result, []error) {
	res := make([]store.Result, len(cmds))
	a.state.Apply(cmds, res)
	return res, make([]error, len(cmds))
}

func (alone) CheckLease() error                  { return nil }
func (alone) VerifyLeader(context.Context) error { return nil }
func (alone) IsLeader() bool                     { return true }
func (alone) Leader() (id, addr string)          { return "id1", "127.0.0.1:8300" }
func (alone) LastContact() time.Duration         { return 0 }
func (alone) LeaderChanged() <-chan struct{}     { return nil }

// catalog is the servers' methods over real state, one set for each datacenter.
// Prepared queries are answered by executed.
type catalog map[string]*endpoint.Set

// set returns the methods of a datacenter, making it if there is none.
func (c catalog) set(dc string) *endpoint.Set {
	if s := c[dc]; s != nil {
		return s
	}
	st := state.New()
	s, err := endpoint.New(endpoint.Config{
		Datacenter: dc, State: st, Consensus: alone{st},
		Servers:      func() ([]endpoint.RaftServer, error) { return nil, nil },
		Datacenters:  func() []string { return []string{dc} },
		Status:       func() store.ServerStatus { return store.ServerStatus{} },
		RenewSession: func(string) (*store.Session, error) { return nil, store.ErrNoLeader },
		Logger:       slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		panic(err)
	}
	c[dc] = s
	return s
}

// add registers instances in a datacenter.
func (c catalog) add(dc string, list ...store.ServiceInstance) {
	for _, i := range list {
		cmd := store.RegisterCommand{Service: i.Service, Checks: i.Checks}
		cmd.Node = store.Node{ID: i.Node.ID, Node: i.Node.Node, Address: i.Node.Address, Meta: maps.Clone(i.Node.Meta), TaggedAddresses: maps.Clone(i.Node.TaggedAddresses)}
		for _, k := range i.Checks {
			if i.Service != nil {
				k.ServiceID = i.Service.ID
			}
		}
		if _, err := c.set(dc).Do(context.Background(), &rpc.Request{Method: rpc.CatalogRegister, Body: cmd.AppendWire(nil)}); err != nil {
			panic(err)
		}
	}
}

func (c catalog) Do(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	if req.Representation != rpc.Records || req.Consistency != store.Stale {
		return nil, store.Errorf(store.KindInvalid, "want stale records, got %+v", req)
	}
	dc := req.Datacenter
	switch {
	case dc == "":
		dc = "dc1"
	case dc == "broken":
		return nil, store.Errorf(store.KindUnreachable, "nobody there")
	case c[dc] == nil:
		return nil, store.ErrNoPath
	}
	if req.Method == rpc.QueryExecute {
		return executed(req)
	}
	return c.set(dc).Do(ctx, req)
}

// inst is an instance of a service on a node with one check.
func inst(node, addr, id, service, svcAddr string, port int, status string, tags ...string) store.ServiceInstance {
	return store.ServiceInstance{
		Node: &store.Node{Node: node, Address: addr, Datacenter: "dc1", Meta: map[string]string{"rack": "r1", "rfc1035-x": "bare"},
			TaggedAddresses: map[string]string{"wan": "198.51.100.9", "wan_ipv4": "198.51.100.9"}},
		Service: &store.Service{ID: id, Name: service, Address: svcAddr, Port: port, Tags: tags, Weights: store.Weights{Passing: 3, Warning: 1}},
		Checks:  []*store.Check{{Node: node, CheckID: id, Status: status}},
	}
}

// town is the catalog that most tests ask.
func town() catalog {
	c := catalog{}
	c.add("dc2", inst("beta", "10.2.0.1", "web", "web", "", 80, "passing"))
	alpha := inst("alpha", "10.0.0.1", "web", "web", "", 80, "passing", "V1")
	alpha.Node.ID = "4c26b2a0-0000-4000-8000-000000000001"
	c.add("dc1", alpha)
	on := func(id, name, addr, status string, port int) {
		i := inst("alpha", "10.0.0.1", id, name, addr, port, status)
		i.Node.ID = alpha.Node.ID
		c.add("dc1", i)
	}
	c.add("dc1",
		inst("gamma", "10.0.0.3", "web", "web", "10.1.1.2", 81, "warning"),
		inst("sick", "10.0.0.4", "web", "web", "", 80, "critical"))
	on("six", "six", "2001:db8::1", "passing", 80)
	on("h", "host", "alpha.node.consul", "passing", 80)
	on("d", "dead", "", "critical", 80)
	on("consul", "consul", "", "passing", 8300)
	for i := range 40 {
		c.add("dc1", inst(fmt.Sprintf("n%02d", i), fmt.Sprintf("10.3.0.%d", i+1), "big", "big", "", 1000, "passing"))
	}
	return c
}

// A test must not find what the front end would not find in a real catalog.
func TestTownIsReal(t *testing.T) {
	resp, err := town().Do(t.Context(), &rpc.Request{Method: rpc.HealthService, Representation: rpc.Records, Consistency: store.Stale, Query: store.Query{Name: "big"}})
	if err != nil {
		t.Fatal(err)
	}
	if list, err := store.DecodeInstances(resp.Body); err != nil || len(list) != 40 {
		t.Errorf("%d instances, %v; want 40", len(list), err)
	}
}
