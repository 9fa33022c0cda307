package agent

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"landbridge/store"
)

// shows checks what a check of the agent shows, now.
func shows(t *testing.T, a *Agent, id, status, output string) {
	t.Helper()
	synctest.Wait()
	got := a.Checks()[id]
	begins, open := strings.CutSuffix(output, "*")
	if got == nil || got.Status != status || got.Output != output && !(open && strings.HasPrefix(got.Output, begins)) {
		t.Errorf("check %s: got %+v\nwant %s %q", id, got, status, output)
	}
}

func TestAlias(t *testing.T) {
	in(t, nil, func(t *testing.T, a *Agent, c *catalog) {
		ctx := t.Context()
		_ = a.AddCheck(ctx, &CheckDefinition{Name: "al", AliasService: "db"})
		shows(t, a, "al", store.Critical, "Service db could not be found on node ")
		_ = a.AddService(ctx, &ServiceDefinition{Name: "db"}, false)
		shows(t, a, "al", store.Passing, "No checks found.")
		_ = a.AddCheck(ctx, &CheckDefinition{Name: "c1", ServiceID: "db", TTL: Duration(time.Hour), Status: store.Passing})
		shows(t, a, "al", store.Passing, "All checks passing.")
		_ = a.UpdateTTL("c1", store.Warning, "slow")
		shows(t, a, "al", store.Warning, `Aliased check "c1" failing: slow`)
		_ = a.UpdateTTL("c1", store.Warning, "slower")
		shows(t, a, "al", store.Warning, `Aliased check "c1" failing: slower`)
		_ = a.AddCheck(ctx, &CheckDefinition{Name: "ofnode", TTL: Duration(time.Hour)})
		shows(t, a, "al", store.Critical, `Aliased check "ofnode" failing: `)
		_ = a.RemoveCheck(ctx, "ofnode")
		_ = a.EnableServiceMaintenance(ctx, "db", "")
		shows(t, a, "al", store.Critical, `Aliased check "_service_maintenance:db" failing: `)
		_ = a.DisableServiceMaintenance(ctx, "db")
		_ = a.RemoveCheck(ctx, "c1")
		shows(t, a, "al", store.Passing, "No checks found.")
		_ = a.RemoveService(ctx, "db")
		shows(t, a, "al", store.Critical, "Service db could not be found on node ")
		_ = a.AddCheck(ctx, &CheckDefinition{Name: "al", AliasNode: "N1"})
		shows(t, a, "al", store.Passing, "No checks found.")
		_ = a.AddCheck(ctx, &CheckDefinition{Name: "ofnode", TTL: Duration(time.Hour), Status: store.Warning})
		shows(t, a, "al", store.Warning, `Aliased check "ofnode" failing: `)
		if d := differences(a, c.state); d != "" {
			t.Error(d)
		}
	})
}

// TestAliasesOfAliases has services whose only checks mirror each other.
func TestAliasesOfAliases(t *testing.T) {
	in(t, nil, func(t *testing.T, a *Agent, c *catalog) {
		ctx := t.Context()
		alias := func(name, of string) {
			_ = a.AddService(ctx, &ServiceDefinition{Name: name, Checks: []*CheckDefinition{{ID: name + "-alias", AliasService: of}}}, false)
		}
		// A chain with a leaf at its end.
		alias("front", "middle")
		alias("middle", "back")
		shows(t, a, "front-alias", store.Critical, "Service back could not be found on node ")
		_ = a.AddService(ctx, &ServiceDefinition{Name: "back", Checks: []*CheckDefinition{{TTL: Duration(time.Hour), Status: store.Passing}}}, false)
		shows(t, a, "front-alias", store.Passing, "All checks passing.")
		_ = a.UpdateTTL("service:back", store.Critical, "down")
		shows(t, a, "middle-alias", store.Critical, `Aliased check "service:back" failing: down`)
		shows(t, a, "front-alias", store.Critical, `Aliased check "service:back" failing: down`)
		// A ring holds nobody critical.
		alias("ping", "pong")
		alias("pong", "ping")
		shows(t, a, "ping-alias", store.Passing, "All checks passing.")
		shows(t, a, "pong-alias", store.Passing, "All checks passing.")
		_ = a.AddCheck(ctx, &CheckDefinition{Name: "leaf", ServiceID: "pong", TTL: Duration(time.Hour)})
		for _, id := range []string{"ping-alias", "pong-alias"} {
			shows(t, a, id, store.Critical, `Aliased check "leaf" failing: `)
		}
		_ = a.UpdateTTL("leaf", store.Passing, "")
		for _, id := range []string{"ping-alias", "pong-alias"} {
			shows(t, a, id, store.Passing, "All checks passing.")
		}
	})
}

func TestAliasOfALongOutput(t *testing.T) {
	in(t, func(cfg *Config, _ *catalog) { cfg.CheckOutputMaxSize = 50 }, func(t *testing.T, a *Agent, c *catalog) {
		ctx := t.Context()
		_ = a.AddCheck(ctx, &CheckDefinition{Name: "al", AliasNode: node})
		_ = a.AddCheck(ctx, &CheckDefinition{Name: "c", TTL: Duration(time.Hour)})
		_ = a.UpdateTTL("c", store.Warning, strings.Repeat("x", 1000))
		shows(t, a, "al", store.Warning, `Aliased check "c" failing: Captured 50 of 1000 byt`)
		a.DiscardCheckOutput(true)
		_ = a.UpdateTTL("c", store.Critical, "y")
		shows(t, a, "al", store.Critical, "")
		shows(t, a, "c", store.Critical, "")
	})
}

func TestAliasOfAnotherNode(t *testing.T) {
	var mu sync.Mutex
	down := false
	in(t, func(cfg *Config, c *catalog) {
		c.fault = func(int) fault {
			mu.Lock()
			defer mu.Unlock()
			if down {
				return failsBefore
			}
			return works
		}
	}, func(t *testing.T, a *Agent, c *catalog) {
		ctx := context.Background()
		put := func(service string, checks ...*store.Check) {
			t.Helper()
			cmd := &store.RegisterCommand{Node: store.Node{ID: "22222222-2222-2222-2222-222222222222", Node: "far", Address: "10.0.0.2"}, Checks: checks}
			if service != "" {
				cmd.Service = &store.Service{ID: service, Name: service}
			}
			if err := c.apply(store.CmdRegister, cmd.AppendWire(nil)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(aliasPause)
		}
		_ = a.AddCheck(ctx, &CheckDefinition{Name: "al", AliasNode: "far", AliasService: "db"})
		_ = a.AddCheck(ctx, &CheckDefinition{Name: "whole", AliasNode: "far"})
		shows(t, a, "al", store.Critical, "Service db could not be found on node far")
		put("db")
		time.Sleep(aliasWait) // it has no checks, whose change would tell
		shows(t, a, "al", store.Passing, "No checks found.")
		put("x", &store.Check{CheckID: "other", ServiceID: "x", Status: store.Critical})
		put("db", &store.Check{CheckID: "c1", ServiceID: "db", Status: store.Warning, Output: "slow"})
		shows(t, a, "al", store.Warning, `Aliased check "c1" failing: slow`)
		shows(t, a, "whole", store.Passing, "No checks found.")
		put("", &store.Check{CheckID: "serfHealth", Status: store.Critical, Output: "gone"})
		shows(t, a, "al", store.Critical, `Aliased check "serfHealth" failing: gone`)
		shows(t, a, "whole", store.Critical, `Aliased check "serfHealth" failing: gone`)
		put("", &store.Check{CheckID: "serfHealth", Status: store.Passing})
		shows(t, a, "whole", store.Passing, "All checks passing.")

		// A quiet hour costs a read a minute for each.
		calls, _ := c.counts()
		time.Sleep(time.Hour)
		if now, _ := c.counts(); now-calls > 60*(2+2+2)+10 { // and two of each full sync
			t.Errorf("%d calls in an hour without a change", now-calls)
		}
		mu.Lock()
		down = true
		mu.Unlock()
		time.Sleep(2 * aliasWait)
		shows(t, a, "al", store.Critical, "Failed to read checks of node far: No known Consul servers")
		mu.Lock()
		down = false
		mu.Unlock()
		time.Sleep(2 * retryMax)
		shows(t, a, "al", store.Warning, `Aliased check "c1" failing: slow`)
		_ = a.RemoveCheck(ctx, "al")
	})
}
