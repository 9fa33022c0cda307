package apiclient

import (
	"context"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/consul/api/watch"
	"github.com/hashicorp/go-hclog"
)

// TestWatchPlans runs the client's own watches, which long-running programs are
// built on: each sees what is there, and then a change.
func TestWatchPlans(t *testing.T) {
	each(t, func(t *testing.T, c *api.Client) {
		ag, kv, key := c.Agent(), c.KV(), name(t, "watched")
		put := func(v string) func() error {
			return func() error {
				_, err := kv.Put(&api.KVPair{Key: key + "/k", Value: []byte(v)}, nil)
				return err
			}
		}
		register := func(port int) func() error {
			return func() error {
				return ag.ServiceRegister(&api.AgentServiceRegistration{ID: key, Name: key, Port: port,
					Check: &api.AgentServiceCheck{TTL: "1h", Status: api.HealthPassing}})
			}
		}
		must(t, put("1")())
		must(t, register(1)())
		for _, p := range []struct {
			params map[string]any
			first  func(v any) bool
			change func() error
			then   func(v any) bool
		}{
			{map[string]any{"type": "key", "key": key + "/k"},
				func(v any) bool { return string(v.(*api.KVPair).Value) == "1" }, put("2"),
				func(v any) bool { return string(v.(*api.KVPair).Value) == "2" }},
			{map[string]any{"type": "keyprefix", "prefix": key},
				func(v any) bool { return len(v.(api.KVPairs)) == 1 },
				func() error { _, err := kv.Put(&api.KVPair{Key: key + "/l"}, nil); return err },
				func(v any) bool { return len(v.(api.KVPairs)) == 2 }},
			{map[string]any{"type": "services"},
				func(v any) bool {
					return v.(map[string][]string)["consul"] != nil && v.(map[string][]string)[key+"-new"] == nil
				},
				func() error { return ag.ServiceRegister(&api.AgentServiceRegistration{Name: key + "-new"}) },
				func(v any) bool { return v.(map[string][]string)[key+"-new"] != nil }},
			{map[string]any{"type": "service", "service": key, "passingonly": true},
				func(v any) bool { e := v.([]*api.ServiceEntry); return len(e) == 1 && e[0].Service.Port == 1 },
				func() error { return ag.FailTTL("service:"+key, "") },
				func(v any) bool { return len(v.([]*api.ServiceEntry)) == 0 }},
			{map[string]any{"type": "checks", "service": key},
				func(v any) bool { h := v.([]*api.HealthCheck); return len(h) == 1 && h[0].Status == api.HealthCritical },
				func() error { return ag.PassTTL("service:"+key, "") },
				func(v any) bool { return v.([]*api.HealthCheck)[0].Status == api.HealthPassing }},
			{map[string]any{"type": "agent_service", "service_id": key},
				func(v any) bool { return v.(*api.AgentService).Port == 1 }, register(2),
				func(v any) bool { return v.(*api.AgentService).Port == 2 }},
			{map[string]any{"type": "event", "name": key},
				nil,
				func() error {
					_, _, err := c.Event().Fire(&api.UserEvent{Name: key, Payload: []byte("p")}, nil)
					return err
				},
				func(v any) bool { e := v.([]*api.UserEvent); return len(e) == 1 && string(e[0].Payload) == "p" }},
			{map[string]any{"type": "nodes"},
				func(v any) bool { return len(v.([]*api.Node)) >= 2 },
				func() error {
					_, err := c.Catalog().Register(&api.CatalogRegistration{Node: key, Address: "192.0.2.7"}, nil)
					return err
				},
				func(v any) bool {
					for _, n := range v.([]*api.Node) {
						if n.Node == key {
							return true
						}
					}
					return false
				}},
			{map[string]any{"type": "connect_roots"},
				func(v any) bool { return v.(*api.CARootList).ActiveRootID != "" }, nil, nil},
		} {
			t.Run(fmt.Sprint(p.params["type"]), func(t *testing.T) {
				plan, err := watch.Parse(p.params)
				must(t, err)
				ctx, stop := context.WithCancel(t.Context())
				seen := make(chan any)
				plan.Handler = func(_ uint64, v any) {
					select {
					case seen <- v:
					case <-ctx.Done():
					}
				}
				ended := make(chan error, 1)
				go func() { ended <- plan.RunWithClientAndHclog(c, hclog.NewNullLogger()) }()
				defer func() {
					stop()
					plan.Stop()
					must(t, <-ended)
				}()
				await := func(what string, is func(any) bool) {
					t.Helper()
					var last any
					for limit := time.After(15 * time.Second); ; {
						select {
						case last = <-seen:
							if v := reflect.ValueOf(last); last != nil && !(v.Kind() == reflect.Pointer && v.IsNil()) && is(last) {
								return
							}
						case <-limit:
							t.Fatalf("the watch does not see %s; last it saw %+v", what, last)
						}
					}
				}
				if p.first != nil {
					await("what is there", p.first)
				}
				if p.change != nil {
					must(t, p.change())
					await("the change", p.then)
				}
			})
		}
		for _, id := range []string{key, key + "-new"} {
			must(t, ag.ServiceDeregister(id))
		}
		_, err := c.Catalog().Deregister(&api.CatalogDeregistration{Node: key}, nil)
		must(t, err)
	})
}
