package apiclient

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

// name makes a word of the running test's own that is fit for nodes and services.
func name(t *testing.T, word string) string {
	return strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-")) + "-" + word
}

// TestCatalogOfAnExternalNode registers, reads and removes what no agent owns.
func TestCatalogOfAnExternalNode(t *testing.T) {
	each(t, func(t *testing.T, c *api.Client) {
		cat, node, svc := c.Catalog(), name(t, "node"), name(t, "svc")
		reg := &api.CatalogRegistration{
			Node: node, Address: "192.0.2.10", NodeMeta: map[string]string{"rack": "r1"},
			TaggedAddresses: map[string]string{"wan": "198.51.100.1"},
			Service: &api.AgentService{
				ID: svc + "-1", Service: svc, Tags: []string{"v1", "primary"}, Port: 8080, Address: "192.0.2.11",
				Meta: map[string]string{"k": "v"}, Weights: api.AgentWeights{Passing: 5, Warning: 2},
			},
			Checks: api.HealthChecks{{
				Node: node, CheckID: svc + "-check", Name: "check", Status: api.HealthWarning, ServiceID: svc + "-1",
				Definition: api.HealthCheckDefinition{HTTP: "http://192.0.2.11/", IntervalDuration: 5 * time.Second},
			}},
		}
		_, err := cat.Register(reg, nil)
		must(t, err)
		nodes, meta, err := cat.Nodes(&api.QueryOptions{NodeMeta: map[string]string{"rack": "r1"}, Filter: fmt.Sprintf("Node == %q", node)})
		must(t, err)
		if len(nodes) != 1 || nodes[0].Address != "192.0.2.10" || nodes[0].TaggedAddresses["wan"] != "198.51.100.1" || nodes[0].Datacenter != "dc1" {
			t.Fatalf("nodes: %+v", nodes)
		}
		if meta.LastIndex < nodes[0].ModifyIndex {
			t.Errorf("index %d below the node's %d", meta.LastIndex, nodes[0].ModifyIndex)
		}
		services, _, err := cat.Services(nil)
		must(t, err)
		if tags := services[svc]; !slices.Contains(tags, "v1") || !slices.Contains(tags, "primary") || len(tags) != 2 {
			t.Errorf("tags of %s: %v", svc, services[svc])
		}
		list, _, err := cat.ServiceMultipleTags(svc, []string{"v1", "PRIMARY"}, nil)
		must(t, err)
		if len(list) != 1 || list[0].ServiceAddress != "192.0.2.11" || list[0].Address != "192.0.2.10" || list[0].ServicePort != 8080 ||
			list[0].ServiceWeights.Passing != 5 || list[0].ServiceMeta["k"] != "v" || list[0].NodeMeta["rack"] != "r1" {
			t.Fatalf("service: %+v", list)
		}
		if list, _, err := cat.Service(svc, "v2", nil); err != nil || len(list) != 0 {
			t.Errorf("by another tag: %v, %v", list, err)
		}
		one, _, err := cat.Node(node, nil)
		must(t, err)
		if one == nil || one.Node.Node != node || one.Services[svc+"-1"] == nil || one.Services[svc+"-1"].Port != 8080 {
			t.Fatalf("node: %+v", one)
		}
		if none, _, err := cat.Node(node+"-other", nil); err != nil || none != nil {
			t.Errorf("an unknown node is %v, %v, want nil", none, err)
		}
		sl, _, err := cat.NodeServiceList(node, nil)
		must(t, err)
		if sl.Node == nil || len(sl.Services) != 1 || sl.Services[0].ID != svc+"-1" {
			t.Errorf("node-services: %+v", sl)
		}
		checks, _, err := c.Health().Checks(svc, nil)
		must(t, err)
		if len(checks) != 1 || checks[0].Status != api.HealthWarning || checks[0].Definition.HTTP == "" || checks[0].ServiceName != svc {
			t.Fatalf("checks: %+v", checks)
		}
		for passing, want := range map[bool]int{false: 1, true: 0} {
			entries, _, err := c.Health().Service(svc, "", passing, nil)
			if err != nil || len(entries) != want {
				t.Errorf("health, passing %t: %d entries, %v, want %d", passing, len(entries), err, want)
			}
		}

		// Blocking until the check passes.
		_, before, err := c.Health().Service(svc, "", true, nil)
		must(t, err)
		woken := make(chan error, 1)
		go func() {
			entries, _, err := c.Health().Service(svc, "", true, &api.QueryOptions{WaitIndex: before.LastIndex, WaitTime: 20 * time.Second})
			if err == nil && len(entries) != 1 {
				err = fmt.Errorf("%d entries", len(entries))
			}
			woken <- err
		}()
		time.Sleep(50 * time.Millisecond)
		reg.Checks[0].Status = api.HealthPassing
		_, err = cat.Register(reg, nil)
		must(t, err)
		must(t, <-woken)

		_, err = cat.Deregister(&api.CatalogDeregistration{Node: node, ServiceID: svc + "-1"}, nil)
		must(t, err)
		if checks, _, err := c.Health().Node(node, nil); err != nil || len(checks) != 0 {
			t.Errorf("the service's checks stay: %v, %v", checks, err)
		}
		_, err = cat.Deregister(&api.CatalogDeregistration{Node: node}, nil)
		must(t, err)
		if one, _, err := cat.Node(node, nil); err != nil || one != nil {
			t.Errorf("the node stays: %v, %v", one, err)
		}
	})
}

func TestCatalogErrors(t *testing.T) {
	each(t, func(t *testing.T, c *api.Client) {
		_, err := c.Catalog().Register(&api.CatalogRegistration{Address: "192.0.2.1"}, nil)
		refused(t, err, 500, "Must provide node")
		_, err = c.Catalog().Register(&api.CatalogRegistration{Node: "x"}, nil)
		refused(t, err, 500, "Must provide address if SkipNodeUpdate is not set")
		_, _, err = c.Catalog().Nodes(&api.QueryOptions{Filter: "Bogus == 1"})
		refused(t, err, 500, `Selector "Bogus" is not valid`)
		_, _, err = c.Catalog().Service("", "", nil)
		refused(t, err, 400, "Missing service name")
	})
}

func TestHealthOfTheAgents(t *testing.T) {
	each(t, func(t *testing.T, c *api.Client) {
		for _, node := range []string{"s1", "c1"} {
			checks, _, err := c.Health().Node(node, nil)
			must(t, err)
			if len(checks) == 0 || checks[0].CheckID != "serfHealth" || checks[0].Status != api.HealthPassing || checks[0].Output != "Agent alive and reachable" {
				t.Errorf("checks of %s: %+v", node, checks)
			}
		}
		state, _, err := c.Health().State(api.HealthAny, &api.QueryOptions{Filter: `CheckID == "serfHealth"`})
		must(t, err)
		if len(state) != 2 || state.AggregatedStatus() != api.HealthPassing {
			t.Errorf("state any: %+v", state)
		}
		entries, _, err := c.Health().Service("consul", "", true, nil)
		must(t, err)
		if len(entries) != 1 || entries[0].Node.Node != "s1" || entries[0].Service.Port != 8300 {
			t.Errorf("service consul: %+v", entries)
		}
	})
}

func TestStatus(t *testing.T) {
	each(t, func(t *testing.T, c *api.Client) {
		leader, err := c.Status().Leader()
		must(t, err)
		peers, err := c.Status().Peers()
		must(t, err)
		if leader != "127.21.1.1:8300" || !slices.Equal(peers, []string{leader}) {
			t.Errorf("leader %s, peers %v", leader, peers)
		}
	})
}

// TestDatacenters reads and writes each datacenter through agents of the other.
func TestDatacenters(t *testing.T) {
	w := theWorld(t)
	for _, a := range w.agents() {
		t.Run(a.Name, func(t *testing.T) {
			c, own, other := a.client(t), "dc1", "dc2"
			if a == w.remote {
				own, other = other, own
			}
			dcs, err := c.Catalog().Datacenters()
			if err != nil || !slices.Equal(dcs, []string{own, other}) {
				t.Errorf("datacenters %v, %v, want its own first", dcs, err)
			}
			key := folder(t) + "k"
			for _, dc := range dcs {
				_, err := c.KV().Put(&api.KVPair{Key: key, Value: []byte(dc)}, &api.WriteOptions{Datacenter: dc})
				must(t, err)
			}
			for _, reader := range w.agents() {
				for _, dc := range dcs {
					p, meta, err := reader.client(t).KV().Get(key, &api.QueryOptions{Datacenter: dc})
					if err != nil || p == nil || string(p.Value) != dc || !meta.KnownLeader {
						t.Errorf("%s reads %s: %v, %v", reader.Name, dc, p, err)
					}
				}
			}
			p, _, err := c.KV().Get(key, &api.QueryOptions{Datacenter: other})
			must(t, err)
			ok, _, err := c.KV().CAS(&api.KVPair{Key: key, Value: []byte("cas"), ModifyIndex: p.ModifyIndex}, &api.WriteOptions{Datacenter: other})
			if err != nil || !ok {
				t.Errorf("cas in %s: %t, %v", other, ok, err)
			}
			_, meta, err := c.KV().Get(key, &api.QueryOptions{Datacenter: other, RequireConsistent: true})
			must(t, err)
			woken := make(chan error, 1)
			go func() {
				p, _, err := c.KV().Get(key, &api.QueryOptions{Datacenter: other, WaitIndex: meta.LastIndex, WaitTime: 20 * time.Second})
				if err == nil && string(p.Value) != "blocked" {
					err = fmt.Errorf("got %q", p.Value)
				}
				woken <- err
			}()
			time.Sleep(50 * time.Millisecond)
			_, err = c.KV().Put(&api.KVPair{Key: key, Value: []byte("blocked")}, &api.WriteOptions{Datacenter: other})
			must(t, err)
			must(t, <-woken)
			nodes, _, err := c.Catalog().Nodes(&api.QueryOptions{Datacenter: other})
			must(t, err)
			for _, n := range nodes {
				if n.Datacenter != other {
					t.Errorf("a node of %s says %q", other, n.Datacenter)
				}
			}
			_, _, err = c.KV().Get(key, &api.QueryOptions{Datacenter: "dc9"})
			refused(t, err, 500, "No path to datacenter")
			_, err = c.KV().Put(&api.KVPair{Key: key}, &api.WriteOptions{Datacenter: "dc9"})
			refused(t, err, 500, "No path to datacenter")
			var none *api.KVPair
			if none, _, err = c.KV().Get(key, &api.QueryOptions{Datacenter: own}); err != nil || string(none.Value) != own {
				t.Errorf("the own datacenter's key became %v, %v", none, err)
			}
		})
	}
}

var errNotYet = errors.New("not yet")
