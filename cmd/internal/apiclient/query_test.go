package apiclient

import (
	"slices"
	"testing"

	"github.com/hashicorp/consul/api"
)

// external registers an instance of a service on a node that no agent owns.
func external(t *testing.T, c *api.Client, dc, node, service, status string, tags ...string) {
	t.Helper()
	q := &api.WriteOptions{Datacenter: dc}
	_, err := c.Catalog().Register(&api.CatalogRegistration{
		Datacenter: dc, Node: node, Address: "192.0.2.30",
		Service: &api.AgentService{ID: service, Service: service, Port: 80, Tags: tags},
		Check:   &api.AgentCheck{Node: node, CheckID: service + "-check", Name: "check", Status: status, ServiceID: service},
	}, q)
	must(t, err)
	t.Cleanup(func() { _, _ = c.Catalog().Deregister(&api.CatalogDeregistration{Datacenter: dc, Node: node}, q) })
}

func TestPreparedQuery(t *testing.T) {
	each(t, func(t *testing.T, c *api.Client) {
		pq, svc := c.PreparedQuery(), name(t, "svc")
		external(t, c, "dc1", name(t, "n1"), svc, api.HealthPassing, "v1")
		external(t, c, "dc1", name(t, "n2"), svc, api.HealthWarning, "v1", "old")
		external(t, c, "dc1", name(t, "n3"), svc, api.HealthCritical, "v1")
		nodes := func(idOrName string) []string {
			t.Helper()
			resp, _, err := pq.Execute(idOrName, nil)
			must(t, err)
			var names []string
			for _, e := range resp.Nodes {
				names = append(names, e.Node.Node)
			}
			slices.Sort(names)
			if resp.Service != svc || resp.Datacenter != "dc1" || resp.Failovers != 0 || resp.DNS.TTL != "7s" {
				t.Errorf("execution: %+v", resp)
			}
			return names
		}
		def := &api.PreparedQueryDefinition{Name: name(t, "query"), Service: api.ServiceQuery{Service: svc, Tags: []string{"v1"}}, DNS: api.QueryDNSOptions{TTL: "7s"}}
		id, _, err := pq.Create(def, nil)
		must(t, err)
		t.Cleanup(func() { _, _ = pq.Delete(id, nil) })
		if got, want := nodes(def.Name), []string{name(t, "n1"), name(t, "n2")}; !slices.Equal(got, want) {
			t.Errorf("by name: %v, want %v", got, want)
		}
		if got := nodes(id); len(got) != 2 {
			t.Errorf("by ID: %v", got)
		}
		def.ID, def.Service.OnlyPassing, def.Service.Tags = id, true, []string{"v1", "!old"}
		_, err = pq.Update(def, nil)
		must(t, err)
		if got, want := nodes(id), []string{name(t, "n1")}; !slices.Equal(got, want) {
			t.Errorf("after the update: %v, want %v", got, want)
		}
		one, _, err := pq.Get(id, nil)
		must(t, err)
		if len(one) != 1 || one[0].ID != id || one[0].Name != def.Name || !one[0].Service.OnlyPassing || one[0].DNS.TTL != "7s" {
			t.Errorf("get: %+v", one)
		}
		list, meta, err := pq.List(nil)
		must(t, err)
		if meta.LastIndex == 0 || !slices.ContainsFunc(list, func(d *api.PreparedQueryDefinition) bool { return d.ID == id }) {
			t.Errorf("list: %+v, index %d", list, meta.LastIndex)
		}
		_, _, err = pq.Create(&api.PreparedQueryDefinition{Name: def.Name, Service: api.ServiceQuery{Service: svc}}, nil)
		refused(t, err, 500, "aliases an existing query name")
		_, _, err = pq.Create(&api.PreparedQueryDefinition{Service: api.ServiceQuery{Service: svc}}, nil)
		refused(t, err, 500, "Must be bound to a session")
		_, err = pq.Delete(id, nil)
		must(t, err)
		_, _, err = pq.Execute(def.Name, nil)
		refused(t, err, 404, "Query not found")
	})
}

// TestPreparedQueryFailover answers from the datacenter that has the service, and
// from a template.
func TestPreparedQueryFailover(t *testing.T) {
	each(t, func(t *testing.T, c *api.Client) {
		svc := name(t, "svc")
		external(t, c, "dc2", name(t, "n1"), svc, api.HealthPassing)
		for what, failover := range map[string]api.QueryFailoverOptions{
			"nearest": {NearestN: 1}, "list": {Datacenters: []string{"dc9", "dc2"}},
		} {
			prefix := name(t, what) + "-"
			id, _, err := c.PreparedQuery().Create(&api.PreparedQueryDefinition{
				Name: prefix, Template: api.QueryTemplate{Type: "name_prefix_match"},
				Service: api.ServiceQuery{Service: "${name.suffix}", Failover: failover},
			}, nil)
			must(t, err)
			t.Cleanup(func() { _, _ = c.PreparedQuery().Delete(id, nil) })
			resp, _, err := c.PreparedQuery().Execute(prefix+svc, nil)
			must(t, err)
			if resp.Datacenter != "dc2" || resp.Failovers < 1 || len(resp.Nodes) != 1 || resp.Nodes[0].Node.Node != name(t, "n1") || resp.Service != svc {
				t.Errorf("%s: %+v", what, resp)
			}
		}
	})
}
