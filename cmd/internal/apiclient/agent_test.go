package apiclient

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

func TestAgentItself(t *testing.T) {
	w := theWorld(t)
	for _, a := range w.agents() {
		t.Run(a.Name, func(t *testing.T) {
			ag := a.client(t).Agent()
			self, err := ag.Self()
			must(t, err)
			conf := self["Config"]
			if conf["Datacenter"] != a.Conf["datacenter"] || conf["NodeName"] != a.Name || conf["Server"] != (a != w.client1) || conf["Version"] == "" {
				t.Errorf("Config: %v", conf)
			}
			if n, err := ag.NodeName(); err != nil || n != a.Name {
				t.Errorf("NodeName is %q, %v", n, err)
			}
			if v, err := ag.Version(); err != nil || v["HumanVersion"] != conf["Version"] {
				t.Errorf("Version is %v, %v, want %v", v, err, conf["Version"])
			}
			want := []string{"c1", "s1"}
			if a == w.remote {
				want = []string{"s2"}
			}
			if got := alive(t, ag, false); !slices.Equal(got, want) {
				t.Errorf("members %v, want %v", got, want)
			}
			if a != w.client1 {
				if got, want := alive(t, ag, true), []string{"s1.dc1", "s2.dc2"}; !slices.Equal(got, want) {
					t.Errorf("WAN members %v, want %v", got, want)
				}
			}
			if _, err := ag.Metrics(); err != nil {
				t.Errorf("metrics: %v", err)
			}
		})
	}
}

func alive(t *testing.T, ag *api.Agent, wan bool) (names []string) {
	t.Helper()
	members, err := ag.Members(wan)
	must(t, err)
	for _, m := range members {
		if m.Status == 1 {
			names = append(names, m.Name)
		}
	}
	slices.Sort(names)
	return names
}

// TestAgentService is the life of a service with a TTL check on its agent, and in
// the catalog of servers.
func TestAgentService(t *testing.T) {
	each(t, func(t *testing.T, c *api.Client) {
		ag, svc := c.Agent(), name(t, "web")
		id, check := svc+"-1", "service:"+svc+"-1"
		node, err := ag.NodeName()
		must(t, err)
		must(t, ag.ServiceRegister(&api.AgentServiceRegistration{
			ID: id, Name: svc, Tags: []string{"a", "b"}, Port: 80, Address: "192.0.2.1", Meta: map[string]string{"v": "1"},
			Check: &api.AgentServiceCheck{TTL: "1h", Notes: "beat"},
		}))
		local, err := ag.ServicesWithFilter(fmt.Sprintf("Service == %q", svc))
		must(t, err)
		if s := local[id]; s == nil || s.Port != 80 || s.Meta["v"] != "1" || s.Datacenter != "dc1" {
			t.Fatalf("local services: %v", local)
		}
		// Registration answers when the catalog has it.
		list, _, err := c.Catalog().Service(svc, "", nil)
		must(t, err)
		if len(list) != 1 || list[0].Node != node || list[0].ServiceID != id {
			t.Fatalf("catalog: %+v", list)
		}
		status := func(want string) {
			t.Helper()
			got, info, err := ag.AgentHealthServiceByID(id)
			if err != nil || got != want || info == nil || info.AggregatedStatus != want {
				t.Errorf("health of %s is %q, %+v, %v, want %s", id, got, info, err, want)
			}
			if got, infos, err := ag.AgentHealthServiceByName(svc); err != nil || got != want || len(infos) != 1 {
				t.Errorf("health of %s is %q, %+v, %v, want %s", svc, got, infos, err, want)
			}
			until(t, 10*time.Second, "the catalog has the status "+want, func() error {
				checks, _, err := c.Health().Checks(svc, nil)
				if err != nil {
					return err
				}
				if len(checks) != 1 || checks[0].CheckID != check || checks[0].Status != want {
					return fmt.Errorf("%w: %+v", errNotYet, checks)
				}
				return nil
			})
		}
		status(api.HealthCritical)
		must(t, ag.PassTTL(check, "fine"))
		status(api.HealthPassing)
		must(t, ag.WarnTTL(check, "hm"))
		status(api.HealthWarning)
		must(t, ag.UpdateTTL(check, "all good", "pass"))
		status(api.HealthPassing)
		checks, err := ag.Checks()
		must(t, err)
		if got := checks[check]; got == nil || got.Output != "all good" || got.Notes != "beat" || got.ServiceName != svc {
			t.Errorf("local check: %+v", got)
		}
		if entries, _, err := c.Health().Service(svc, "b", true, nil); err != nil || len(entries) != 1 {
			t.Errorf("passing instances: %v, %v", entries, err)
		}
		must(t, ag.EnableServiceMaintenance(id, "busy"))
		if got, info, err := ag.AgentHealthServiceByID(id); err != nil || got != api.HealthCritical || info.AggregatedStatus != api.HealthMaint {
			t.Errorf("in maintenance: %q, %+v, %v", got, info, err)
		}
		must(t, ag.DisableServiceMaintenance(id))
		status(api.HealthPassing)

		one, meta, err := ag.Service(id, nil)
		must(t, err)
		if one.ContentHash == "" || meta.LastContentHash != one.ContentHash {
			t.Errorf("content hash %q, header %q", one.ContentHash, meta.LastContentHash)
		}
		changed := make(chan error, 1)
		go func() {
			next, _, err := ag.Service(id, &api.QueryOptions{WaitHash: one.ContentHash, WaitTime: 20 * time.Second})
			if err == nil && next.Port != 81 {
				err = fmt.Errorf("port %d", next.Port)
			}
			changed <- err
		}()
		time.Sleep(50 * time.Millisecond)
		must(t, ag.ServiceRegister(&api.AgentServiceRegistration{ID: id, Name: svc, Port: 81}))
		must(t, <-changed)

		must(t, ag.ServiceDeregister(id))
		if got, info, err := ag.AgentHealthServiceByID(id); err != nil || got != api.HealthCritical || info != nil {
			t.Errorf("health of what is gone: %q, %v, %v", got, info, err)
		}
		until(t, 10*time.Second, "the catalog forgets the service", func() error {
			list, _, err := c.Catalog().Service(svc, "", nil)
			if err == nil && len(list) != 0 {
				err = errNotYet
			}
			return err
		})
		refused(t, ag.ServiceDeregister(id), 404, `Unknown service ID "`+id+`"`)
	})
}

// TestAgentCheck is a check of the node, which expires by itself.
func TestAgentCheck(t *testing.T) {
	each(t, func(t *testing.T, c *api.Client) {
		ag, id := c.Agent(), name(t, "disk")
		node, err := ag.NodeName()
		must(t, err)
		must(t, ag.CheckRegister(&api.AgentCheckRegistration{
			ID: id, Name: "disk", AgentServiceCheck: api.AgentServiceCheck{TTL: "500ms", Status: api.HealthPassing},
		}))
		inCatalog := func(want string) func() error {
			return func() error {
				checks, _, err := c.Health().Node(node, &api.QueryOptions{Filter: fmt.Sprintf("CheckID == %q", id)})
				if err == nil && (len(checks) != 1 || checks[0].Status != want) {
					err = fmt.Errorf("%w: %v", errNotYet, checks)
				}
				return err
			}
		}
		until(t, 10*time.Second, "the check expires", inCatalog(api.HealthCritical))
		must(t, ag.UpdateTTL(id, "beat", api.HealthPassing))
		until(t, 10*time.Second, "the check expires again", inCatalog(api.HealthCritical))
		refused(t, ag.PassTTL(id+"-none", ""), 404, "Unknown check ID")
		must(t, ag.CheckDeregister(id))
		refused(t, ag.CheckDeregister(id), 404, "Unknown check ID")
		refused(t, ag.CheckRegister(&api.AgentCheckRegistration{Name: "x"}), 400, "Invalid check")
		refused(t, ag.ServiceRegister(&api.AgentServiceRegistration{ID: "x"}), 400, "Missing service name")
	})
}

// TestAgentTools are what operators' programs ask of an agent.
func TestAgentTools(t *testing.T) {
	each(t, func(t *testing.T, c *api.Client) {
		ag := c.Agent()
		host, err := ag.Host()
		must(t, err)
		if host["Memory"] == nil || host["CPU"] == nil || host["Host"] == nil || host["Disk"] == nil || host["CollectionTime"] == nil {
			t.Errorf("host: %v", host)
		}
		if m, err := ag.MembersOpts(api.MembersOpts{Segment: "_all"}); err != nil || len(m) < 2 {
			t.Errorf("members of all segments: %v, %v", m, err)
		}
		self, err := ag.NodeName()
		must(t, err)
		// A member that lives comes back by itself.
		must(t, ag.ForceLeave(self))
		refused(t, ag.ForceLeave("none"), 500, "agent: No node found with name 'none'")
		refused(t, ag.ForceLeavePrune("none"), 500, "agent: No node found with name 'none'")

		for what, follow := range map[string]func(string, <-chan struct{}, *api.QueryOptions) (chan string, error){"text": ag.Monitor, "JSON": ag.MonitorJSON} {
			stop := make(chan struct{})
			lines, err := follow("info", stop, nil)
			must(t, err)
			time.Sleep(50 * time.Millisecond)
			must(t, ag.Reload())
			select {
			case line := <-lines:
				if !strings.Contains(line, "reload") || (what == "JSON") != strings.HasPrefix(line, "{") {
					t.Errorf("the %s log says %q", what, line)
				}
			case <-time.After(10 * time.Second):
				t.Errorf("the %s log says nothing of the reload", what)
			}
			close(stop)
		}
		must(t, ag.EnableNodeMaintenance("away"))
		checks, err := ag.ChecksWithFilter(`CheckID == "_node_maintenance"`)
		if err != nil || len(checks) != 1 || checks["_node_maintenance"].Notes != "away" {
			t.Errorf("maintenance: %v, %v", checks, err)
		}
		must(t, ag.DisableNodeMaintenance())

		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		stream, err := ag.MetricsStream(ctx)
		must(t, err)
		defer stream.Close()
		var m api.MetricsInfo
		if err := json.NewDecoder(stream).Decode(&m); err != nil || len(m.Gauges) == 0 {
			t.Errorf("the stream of metrics begins with %+v, %v", m, err)
		}

		for what, profile := range map[string]func() ([]byte, error){
			"heap": c.Debug().Heap, "goroutine": c.Debug().Goroutine,
			"profile": func() ([]byte, error) { return c.Debug().Profile(1) },
			"trace":   func() ([]byte, error) { return c.Debug().Trace(1) },
		} {
			if b, err := profile(); err != nil || len(b) == 0 {
				t.Errorf("%s: %d bytes, %v", what, len(b), err)
			}
		}
	})
}

// TestAgentLeaves tells a client agent to go: it is gone for the others at once.
func TestAgentLeaves(t *testing.T) {
	w := theWorld(t)
	a := newAgent(t.TempDir(), "leaver", "dc1", "127.21.1.12", map[string]any{"retry_join": []string{w.server.IP}})
	a.run(t)
	c, server := a.client(t), w.server.client(t)
	nodes := func() (int, error) {
		list, _, err := server.Catalog().Nodes(&api.QueryOptions{Filter: `Node == "leaver"`})
		return len(list), err
	}
	until(t, 30*time.Second, "it is in the catalog", func() error {
		n, err := nodes()
		if err == nil && n != 1 {
			err = errNotYet
		}
		return err
	})
	must(t, c.Agent().Leave())
	select {
	case <-a.done:
	case <-time.After(20 * time.Second):
		t.Fatal("the process does not end")
	}
	if code := a.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	until(t, 10*time.Second, "it is not in the catalog any more", func() error {
		n, err := nodes()
		if err == nil && n != 0 {
			err = errNotYet
		}
		return err
	})
}
