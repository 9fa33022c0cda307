package apiclient

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

// inBoth runs a test against the datacenter of the asked agent, and against the
// other one.
func inBoth(t *testing.T, test func(t *testing.T, c *api.Client, dc string)) {
	each(t, func(t *testing.T, c *api.Client) {
		for _, dc := range []string{"dc1", "dc2"} {
			t.Run(dc, func(t *testing.T) { test(t, c, dc) })
		}
	})
}

func TestOperatorRaft(t *testing.T) {
	w := theWorld(t)
	inBoth(t, func(t *testing.T, c *api.Client, dc string) {
		server := w.server
		if dc == "dc2" {
			server = w.remote
		}
		op := c.Operator()
		conf, err := op.RaftGetConfiguration(&api.QueryOptions{Datacenter: dc})
		must(t, err)
		if len(conf.Servers) != 1 {
			t.Fatalf("servers: %+v", conf.Servers)
		}
		if s := conf.Servers[0]; s.Node != server.Name || s.Address != server.IP+":8300" || !s.Leader || !s.Voter || s.ID == "" || s.ProtocolVersion != "3" {
			t.Errorf("server: %+v", s)
		}
		if _, err := op.RaftGetConfiguration(&api.QueryOptions{Datacenter: dc, AllowStale: true}); err != nil {
			t.Errorf("stale: %v", err)
		}
		in := &api.WriteOptions{Datacenter: dc}
		refused(t, op.RaftRemovePeerByAddress("192.0.2.1:8300", in), 500, `address "192.0.2.1:8300" was not found in the Raft configuration`)
		refused(t, op.RaftRemovePeerByID("none", in), 500, `id "none" was not found in the Raft configuration`)
		_, err = op.RaftLeaderTransfer("", &api.QueryOptions{Datacenter: dc})
		refused(t, err, 500, "cannot find peer")
		if peers, err := c.Status().PeersWithQueryOptions(&api.QueryOptions{Datacenter: dc}); err != nil || len(peers) != 1 || peers[0] != server.IP+":8300" {
			t.Errorf("peers %v, %v", peers, err)
		}
	})
}

func TestOperatorAutopilot(t *testing.T) {
	inBoth(t, func(t *testing.T, c *api.Client, dc string) {
		op, q, wo := c.Operator(), &api.QueryOptions{Datacenter: dc}, &api.WriteOptions{Datacenter: dc}
		conf, err := op.AutopilotGetConfiguration(q)
		must(t, err)
		trailing := conf.MaxTrailingLogs
		conf.MaxTrailingLogs++
		if ok, err := op.AutopilotCASConfiguration(conf, wo); err != nil || !ok {
			t.Fatalf("compare and set: %v, %v", ok, err)
		}
		if ok, err := op.AutopilotCASConfiguration(conf, wo); err != nil || ok {
			t.Errorf("compare and set with an old index: %v, %v", ok, err)
		}
		got, err := op.AutopilotGetConfiguration(q)
		must(t, err)
		if got.MaxTrailingLogs != trailing+1 || got.LastContactThreshold.Duration() != 200*time.Millisecond {
			t.Errorf("configuration: %+v", got)
		}
		got.MaxTrailingLogs = trailing
		must(t, op.AutopilotSetConfiguration(got, wo))

		until(t, 20*time.Second, "autopilot calls the server healthy", func() error {
			health, err := op.AutopilotServerHealth(q)
			if err == nil && (!health.Healthy || len(health.Servers) != 1 || !health.Servers[0].Voter || health.Servers[0].SerfStatus != "alive") {
				err = fmt.Errorf("%w: %+v", errNotYet, health)
			}
			return err
		})
		state, err := op.AutopilotState(q)
		must(t, err)
		if s := state.Servers[state.Leader]; !state.Healthy || len(state.Voters) != 1 || s.Status != api.AutopilotServerLeader || s.Version == "" {
			t.Errorf("state: %+v", state)
		}
	})
}

func TestOperatorUsage(t *testing.T) {
	each(t, func(t *testing.T, c *api.Client) {
		usage, meta, err := c.Operator().Usage(&api.QueryOptions{Global: true})
		must(t, err)
		if one, other := usage.Usage["dc1"], usage.Usage["dc2"]; one.Nodes < 2 || other.Nodes < 1 || one.ServiceInstances < 1 || meta.LastIndex == 0 {
			t.Errorf("usage: %+v", usage)
		}
	})
}

// TestSnapshot saves, changes and restores a datacenter of its own: others would
// lose what they write.
func TestSnapshot(t *testing.T) {
	a := newAgent(t.TempDir(), "snap", "dc1", "127.21.3.1", map[string]any{"server": true, "bootstrap_expect": 1})
	a.run(t)
	c := a.client(t)
	until(t, 30*time.Second, "there is a leader", func() error {
		_, err := c.KV().Put(&api.KVPair{Key: "kept", Value: []byte("1")}, nil)
		return err
	})
	r, meta, err := c.Snapshot().Save(nil)
	must(t, err)
	archive, err := io.ReadAll(r)
	must(t, err)
	r.Close()
	if meta.LastIndex == 0 || !meta.KnownLeader {
		t.Errorf("meta: %+v", meta)
	}
	_, err = c.KV().Put(&api.KVPair{Key: "later", Value: []byte("2")}, nil)
	must(t, err)
	refused(t, c.Snapshot().Restore(nil, strings.NewReader(string(archive[:len(archive)/2]))), 500, "failed to decompress snapshot: unexpected EOF")
	must(t, c.Snapshot().Restore(nil, strings.NewReader(string(archive))))
	if p, _, err := c.KV().Get("later", nil); err != nil || p != nil {
		t.Errorf("what was written after the snapshot: %v, %v", p, err)
	}
	if p, _, err := c.KV().Get("kept", nil); err != nil || p == nil || string(p.Value) != "1" {
		t.Errorf("what was in the snapshot: %v, %v", p, err)
	}
}

// TestReadsOfTheMesh are the ones that programs make without having a mesh.
func TestReadsOfTheMesh(t *testing.T) {
	each(t, func(t *testing.T, c *api.Client) {
		roots, _, err := c.Connect().CARoots(nil)
		must(t, err)
		if local, _, err := c.Agent().ConnectCARoots(nil); err != nil || local.ActiveRootID != roots.ActiveRootID || local.ActiveRootID == "" {
			t.Errorf("active root %q at the agent, %q in the catalog, %v", local.ActiveRootID, roots.ActiveRootID, err)
		}
		if list, _, err := c.ConfigEntries().List(api.ServiceDefaults, nil); err != nil || len(list) != 0 {
			t.Errorf("config entries: %v, %v", list, err)
		}
		_, _, err = c.ConfigEntries().Get(api.ServiceDefaults, "web", nil)
		refused(t, err, 404, `Config entry not found for "service-defaults" / "web"`)
		if list, _, err := c.Connect().Intentions(nil); err != nil || len(list) != 0 {
			t.Errorf("intentions: %v, %v", list, err)
		}
		if in, _, err := c.Connect().IntentionGetExact("a", "b", nil); err != nil || in != nil {
			t.Errorf("an intention: %v, %v", in, err)
		}
		if list, _, err := c.Health().Ingress("web", false, nil); err != nil || len(list) != 0 {
			t.Errorf("ingress: %v, %v", list, err)
		}
		if list, _, err := c.Catalog().GatewayServices("gw", nil); err != nil || len(list) != 0 {
			t.Errorf("gateway services: %v, %v", list, err)
		}
		svc := name(t, "px")
		must(t, c.Agent().ServiceRegister(&api.AgentServiceRegistration{Kind: api.ServiceKindConnectProxy, ID: svc, Name: svc + "-proxy", Port: 9,
			Proxy: &api.AgentServiceConnectProxyConfig{DestinationServiceName: svc}}))
		if list, _, err := c.Health().Connect(svc, "", true, nil); err != nil || len(list) != 1 || list[0].Service.Proxy.DestinationServiceName != svc {
			t.Errorf("health of what connects to %s: %v, %v", svc, list, err)
		}
		if list, _, err := c.Catalog().Connect(svc, "", nil); err != nil || len(list) != 1 || list[0].ServiceProxy.DestinationServiceName != svc {
			t.Errorf("catalog of what connects to %s: %v, %v", svc, list, err)
		}
		must(t, c.Agent().ServiceDeregister(svc))
	})
}
