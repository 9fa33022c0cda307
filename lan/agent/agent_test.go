package agent

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"landbridge/store"
)

// in runs a story of an agent and its catalog in virtual time.
func in(t *testing.T, edit func(*Config, *catalog), story func(t *testing.T, a *Agent, c *catalog)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog()
		cfg := testConfig(c)
		cfg.DataDir = dir
		if edit != nil {
			edit(&cfg, c)
		}
		a, _ := start(t, cfg)
		synctest.Wait()
		story(t, a, c)
	})
}

func (c *catalog) check(id string) *store.Check {
	_, checks := c.state.NodeChecks(nil, node)
	for _, r := range checks {
		if r.CheckID == id {
			return r
		}
	}
	return nil
}

func (c *catalog) service(id string) *store.Service {
	_, _, services := c.state.NodeServices(nil, node)
	for _, r := range services {
		if r.ID == id {
			return r
		}
	}
	return nil
}

func ttl(d time.Duration) []*CheckDefinition { return []*CheckDefinition{{TTL: Duration(d)}} }

func TestRegistrationWaitsForTheCatalog(t *testing.T) {
	in(t, func(_ *Config, c *catalog) { c.delay = func() time.Duration { return 100 * time.Millisecond } },
		func(t *testing.T, a *Agent, c *catalog) {
			time.Sleep(time.Second)
			begun := time.Now()
			if err := a.AddService(t.Context(), &ServiceDefinition{Name: "web", Checks: ttl(time.Minute)}, false); err != nil {
				t.Fatal(err)
			}
			if c.service("web") == nil || c.check("service:web") == nil {
				t.Error("the call returned before the catalog had it")
			}
			if took := time.Since(begun); took != 100*time.Millisecond {
				t.Errorf("it took %v: more than one call", took)
			}
			if err := a.RemoveService(t.Context(), "web"); err != nil || c.service("web") != nil {
				t.Errorf("removal: %v, catalog %v", err, c.service("web"))
			}
		})
}

func TestRegistrationWithoutLeader(t *testing.T) {
	down := true
	in(t, func(_ *Config, c *catalog) {
		c.fault = func(int) fault {
			if down {
				return failsBefore
			}
			return works
		}
	}, func(t *testing.T, a *Agent, c *catalog) {
		begun := time.Now()
		if err := a.AddService(t.Context(), &ServiceDefinition{Name: "web"}, false); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took != 10*time.Second {
			t.Errorf("answered after %v, want 10s", took)
		}
		if len(a.Services()) != 1 {
			t.Error("it is not registered here")
		}
		time.Sleep(10 * time.Minute)
		c.mu.Lock()
		down = false
		c.mu.Unlock()
		a.ServersChanged()
		synctest.Wait()
		if c.service("web") == nil {
			t.Error("it is not in the catalog as soon as there is a leader")
		}
	})
}

func TestCancelledCallerKeepsTheChange(t *testing.T) {
	in(t, func(_ *Config, c *catalog) { c.delay = func() time.Duration { return time.Second } },
		func(t *testing.T, a *Agent, c *catalog) {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(10*time.Millisecond, cancel)
			if err := a.AddService(ctx, &ServiceDefinition{Name: "web"}, false); err == nil {
				t.Error("no error for a caller that left")
			}
			time.Sleep(5 * time.Second)
			if c.service("web") == nil {
				t.Error("the change was lost with its caller")
			}
		})
}

func TestManyRegistrationsAtOnce(t *testing.T) {
	in(t, func(cfg *Config, c *catalog) {
		cfg.DataDir = ""
		c.delay = func() time.Duration { return 10 * time.Millisecond }
	}, func(t *testing.T, a *Agent, c *catalog) {
		time.Sleep(time.Second)
		begun := time.Now()
		done := make(chan error)
		for i := range 500 {
			go func() {
				done <- a.AddService(context.Background(), &ServiceDefinition{Name: fmt.Sprint("s", i), Checks: ttl(time.Hour)}, false)
			}()
		}
		for range 500 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(begun); took > 35*time.Millisecond {
			t.Errorf("500 registrations took %v, want 3 rounds of 10ms and a wait for company of 5ms", took)
		}
		if c.most > 2 { // with the comparison
			t.Errorf("%d calls at once", c.most)
		}
		if d := differences(a, c.state); d != "" {
			t.Error(d)
		}
	})
}

func TestTTLAndDeferredOutput(t *testing.T) {
	in(t, nil, func(t *testing.T, a *Agent, c *catalog) {
		_ = a.AddService(t.Context(), &ServiceDefinition{Name: "web", Checks: ttl(10 * time.Second)}, false)
		id := "service:web"
		if got := c.check(id); got.Status != store.Critical || got.Output != "" || got.Type != "ttl" || got.Name != "Service 'web' check" {
			t.Errorf("at first: %s", got.AppendJSON(nil))
		}
		must := func(status, output string) {
			t.Helper()
			if err := a.UpdateTTL(id, status, output); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		must(store.Passing, "fine")
		if got := c.check(id); got.Status != store.Passing || got.Output != "fine" {
			t.Errorf("a status is not pushed at once: %s", got.AppendJSON(nil))
		}
		_, writes := c.counts()
		for i := range 12 {
			time.Sleep(9 * time.Second)
			must(store.Passing, fmt.Sprint("fine ", i))
		}
		if got := a.Checks()[id].Output; got != "fine 11" {
			t.Errorf("the agent shows %q", got)
		}
		if _, now := c.counts(); now != writes {
			t.Errorf("%d writes for outputs alone", now-writes)
		}
		time.Sleep(9 * time.Second)
		must(store.Warning, "hm")
		if got := c.check(id); got.Status != store.Warning || got.Output != "hm" {
			t.Errorf("a status waits with the output: %s", got.AppendJSON(nil))
		}
		time.Sleep(11 * time.Second)
		if got := c.check(id); got.Status != store.Critical || got.Output != "TTL expired" {
			t.Errorf("after the TTL: %s", got.AppendJSON(nil))
		}
		must(store.Passing, "x")
		must(store.Passing, strings.Repeat("y", 5000))
		if got := a.Checks()[id].Output; !strings.HasPrefix(got, "Captured 4096 of 5000 bytes\n...\ny") {
			t.Errorf("long output: %.40q", got)
		}
		for range 60 { // keep it alive until the output is due
			time.Sleep(9 * time.Second)
			must(store.Passing, "last")
		}
		if got := c.check(id).Output; got != "last" {
			t.Errorf("the output never came: %q", got)
		}
	})
}

func TestMaintenanceAndHealth(t *testing.T) {
	in(t, nil, func(t *testing.T, a *Agent, c *catalog) {
		ctx := t.Context()
		_ = a.AddService(ctx, &ServiceDefinition{Name: "web", Checks: []*CheckDefinition{{TTL: Duration(time.Hour), Status: store.Passing}}}, false)
		want := func(status string) {
			t.Helper()
			got, list := a.ServiceHealthByName("WEB")
			if got != status || len(list) != 1 || list[0].AggregatedStatus != status {
				t.Errorf("got %q %v, want %q", got, list, status)
			}
		}
		want(store.Passing)
		_ = a.UpdateTTL("service:web", store.Warning, "")
		want(store.Warning)
		if err := a.EnableNodeMaintenance(ctx, "r"); err != nil {
			t.Fatal(err)
		}
		want(store.Maintenance)
		if got := c.check(NodeMaintenance); got == nil || got.Status != store.Critical || got.Notes != "r" || got.Type != "maintenance" {
			t.Errorf("got %+v", got)
		}
		_ = a.EnableNodeMaintenance(ctx, "again")
		_ = a.EnableServiceMaintenance(ctx, "web", "")
		_ = a.DisableNodeMaintenance(ctx)
		_ = a.DisableNodeMaintenance(ctx)
		want(store.Maintenance)
		if c.check(NodeMaintenance) != nil {
			t.Error("node maintenance stays")
		}
		_ = a.DisableServiceMaintenance(ctx, "web")
		want(store.Warning)
		if got, list := a.ServiceHealthByName("none"); got != "" || len(list) != 0 {
			t.Errorf("got %q %v", got, list)
		}
		if _, ok := a.ServiceHealthByID("none"); ok {
			t.Error("found a service that is not there")
		}
	})
}

func TestChecksStayUnlessReplaced(t *testing.T) {
	in(t, nil, func(t *testing.T, a *Agent, c *catalog) {
		ctx := t.Context()
		two := []*CheckDefinition{{TTL: Duration(time.Hour)}, {TTL: Duration(time.Hour)}}
		_ = a.AddService(ctx, &ServiceDefinition{Name: "web", Checks: two}, false)
		_ = a.UpdateTTL("service:web:1", store.Passing, "kept")
		_ = a.UpdateTTL("service:web:2", store.Passing, "kept")
		_ = a.AddService(ctx, &ServiceDefinition{Name: "web", Tags: []string{"v2"}, Checks: []*CheckDefinition{{ID: "service:web:1", TTL: Duration(time.Hour)}}}, false)
		for _, id := range []string{"service:web:1", "service:web:2"} {
			if got := c.check(id); got == nil || got.Status != store.Passing || got.Output != "kept" || len(got.ServiceTags) != 1 {
				t.Errorf("%s: %+v", id, got)
			}
		}
		_ = a.AddService(ctx, &ServiceDefinition{Name: "web", Checks: ttl(time.Hour)}, true)
		if c.check("service:web:1") != nil || c.check("service:web:2") != nil || c.check("service:web") == nil {
			t.Error("replace-existing-checks did not replace")
		}
	})
}

func TestTagOverride(t *testing.T) {
	in(t, nil, func(t *testing.T, a *Agent, c *catalog) {
		_ = a.AddService(t.Context(), &ServiceDefinition{Name: "web", Tags: []string{"mine"}, EnableTagOverride: true, Checks: ttl(time.Hour)}, false)
		r := c.service("web").Clone()
		r.Tags = []string{"override"}
		cmd := &store.RegisterCommand{Node: store.Node{Node: node}, SkipNodeUpdate: true, Service: r}
		if err := c.apply(store.CmdRegister, cmd.AppendWire(nil)); err != nil {
			t.Fatal(err)
		}
		_, writes := c.counts()
		time.Sleep(3 * time.Minute)
		if got := a.Services()["web"].Tags; len(got) != 1 || got[0] != "override" {
			t.Errorf("local tags are %v", got)
		}
		if tags := fmt.Sprint(c.service("web").Tags, c.check("service:web").ServiceTags); tags != "[override] [override]" {
			t.Errorf("the catalog has tags %s", tags)
		}
		if _, now := c.counts(); now != writes+1 { // the check takes them over
			t.Errorf("%d writes: the override was fought", now-writes)
		}
	})
}

// Each item goes with its own token, and the node's with none: the agent's.
func TestTokensOfItems(t *testing.T) {
	in(t, nil, func(t *testing.T, a *Agent, c *catalog) {
		def := &ServiceDefinition{Name: "web", Token: "web-token", Checks: []*CheckDefinition{
			{ID: "a", TTL: Duration(time.Hour)}, {ID: "b", TTL: Duration(time.Hour), Token: "b-token"}}}
		_ = a.AddService(t.Context(), def, false)
		_ = a.AddCheck(t.Context(), &CheckDefinition{Name: "node", TTL: Duration(time.Hour)})
		_ = a.RemoveService(t.Context(), "web")
		want := "[register web a: web-token] [register b: b-token] [register node: ] [deregister web: web-token]"
		if got := strings.Join(c.seen, " "); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
}

func TestDriftIsHealed(t *testing.T) {
	in(t, func(cfg *Config, _ *catalog) { cfg.Server = true }, func(t *testing.T, a *Agent, c *catalog) {
		_ = a.AddService(t.Context(), &ServiceDefinition{Name: "web", Port: 80, Checks: ttl(time.Hour)}, false)
		leaders := &store.RegisterCommand{Node: store.Node{Node: node}, SkipNodeUpdate: true,
			Service: &store.Service{ID: "consul", Name: "consul"}, Checks: []*store.Check{{CheckID: store.SerfHealth, Status: store.Passing}}}
		foreign := &store.RegisterCommand{Node: store.Node{Node: node}, SkipNodeUpdate: true,
			Service: &store.Service{ID: "foreign2", Name: "f"}, Checks: []*store.Check{{CheckID: "odd"}}}
		for _, cmd := range []*store.RegisterCommand{leaders, foreign} {
			if err := c.apply(store.CmdRegister, cmd.AppendWire(nil)); err != nil {
				t.Fatal(err)
			}
		}
		gone := &store.DeregisterCommand{Node: node, ServiceID: "web"}
		_ = c.apply(store.CmdDeregister, gone.AppendWire(nil))
		time.Sleep(2*time.Minute + time.Second)
		if c.service("web") == nil || c.check("service:web") == nil {
			t.Error("what was removed is not back")
		}
		if c.service("foreign2") != nil || c.check("odd") != nil {
			t.Error("what is not ours stays")
		}
		if c.service("consul") == nil || c.check(store.SerfHealth) == nil {
			t.Error("what is the leader's was removed")
		}
	})
}

func TestRefusedItemDoesNotStopOthers(t *testing.T) {
	in(t, func(_ *Config, c *catalog) {
		c.refuse = func(cmd *store.RegisterCommand) error {
			if cmd.Service != nil && cmd.Service.ID == "secret" {
				return store.Errorf(store.KindPermissionDenied, "Permission denied")
			}
			return nil
		}
	}, func(t *testing.T, a *Agent, c *catalog) {
		begun := time.Now()
		for _, name := range []string{"secret", "web"} {
			if err := a.AddService(t.Context(), &ServiceDefinition{Name: name}, false); err != nil {
				t.Error(err)
			}
		}
		if time.Since(begun) > time.Second || c.service("web") == nil {
			t.Errorf("took %v, web is %v", time.Since(begun), c.service("web"))
		}
		calls, _ := c.counts()
		time.Sleep(50 * time.Second)
		if now, _ := c.counts(); now-calls > 4 {
			t.Errorf("%d calls while a refused item waits for the full sync", now-calls)
		}
		c.mu.Lock()
		c.refuse = nil
		c.mu.Unlock()
		time.Sleep(2 * time.Minute)
		if c.service("secret") == nil {
			t.Error("a refused item is never tried again")
		}
	})
}

// An agent that the catalog refuses everything, as one without a token, says so at
// once and then once a minute.
func TestRefusalsAreNotLoggedAllTheTime(t *testing.T) {
	var log bytes.Buffer
	in(t, func(cfg *Config, c *catalog) {
		cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
		c.refuse = func(*store.RegisterCommand) error {
			return store.Errorf(store.KindPermissionDenied, "Permission denied")
		}
	}, func(t *testing.T, a *Agent, c *catalog) {
		if err := a.AddCheck(t.Context(), &CheckDefinition{Name: "busy", TTL: Duration(time.Hour)}); err != nil {
			t.Fatal(err)
		}
		calls, _ := c.counts()
		for i := range 120 {
			if err := a.UpdateTTL("busy", store.Critical, fmt.Sprint("output ", i)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if now, _ := c.counts(); now-calls > 8 {
			t.Errorf("%d calls in two minutes for outputs that are refused", now-calls)
		}
		synctest.Wait()
		log.Reset()
		for i := range 180 {
			if err := a.UpdateTTL("busy", []string{store.Passing, store.Warning}[i%2], ""); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		synctest.Wait()
		said, counted := strings.Count(log.String(), "catalog refused an update"), 0
		for _, m := range regexp.MustCompile(`more=(\d+)`).FindAllStringSubmatch(log.String(), -1) {
			n, _ := strconv.Atoi(m[1])
			counted += 1 + n
		}
		if said < 2 || said > 4 || counted < 115 {
			t.Errorf("said %d times in three minutes that it was refused %d times, want once a minute, and all but the last minute's:\n%s", said, counted, &log)
		}
	})
}

func TestRestartRestoresWhatTheAPIRegistered(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog()
		cfg := testConfig(c)
		cfg.DataDir = dir
		ctx := t.Context()
		a, stop := start(t, cfg)
		file := []*ServiceDefinition{{Name: "fromfile", Port: 1}}
		if err := a.ReloadDefinitions(file, nil); err != nil {
			t.Fatal(err)
		}
		_ = a.AddService(ctx, &ServiceDefinition{Name: "web", Token: "secret-token", Checks: ttl(time.Minute)}, false)
		_ = a.AddService(ctx, &ServiceDefinition{Name: "gone"}, false)
		_ = a.AddCheck(ctx, &CheckDefinition{Name: "onfile", ServiceID: "fromfile", TTL: Duration(time.Minute)})
		_ = a.UpdateTTL("service:web", store.Passing, "alive")
		_ = a.UpdateTTL("onfile", store.Warning, "hm")
		_ = a.RemoveService(ctx, "gone")
		_ = a.EnableNodeMaintenance(ctx, "because")
		stop()
		// A write that was cut off, and a file of somebody else.
		_ = os.WriteFile(filepath.Join(dir, "services", "half.tmp"), []byte("{"), 0o600)
		_ = os.WriteFile(filepath.Join(dir, "services", "odd"), []byte("not json"), 0o600)
		_, writes := c.counts()

		time.Sleep(30 * time.Second)
		b, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.ReloadDefinitions(file, nil); err != nil {
			t.Fatal(err)
		}
		run(t, b)
		time.Sleep(time.Second)
		if d := differences(b, c.state); d != "" {
			t.Error(d)
		}
		if _, now := c.counts(); now != writes {
			t.Errorf("%d writes after a restart that changed nothing", now-writes)
		}
		if got := b.Checks(); got["service:web"].Status != store.Passing || got["onfile"].Status != store.Warning || got[NodeMaintenance] == nil || got[NodeMaintenance].Notes != "because" {
			t.Errorf("checks after the restart: %v", got)
		}
		if len(b.Services()) != 2 {
			t.Errorf("services after the restart: %v", b.Services())
		}
		if e := b.services["web"]; e.def.Token != "secret-token" {
			t.Error("the token is lost")
		}
		info, err := os.Stat(b.disk.path(keyOf(servicesDir, "web")))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the file that holds a token: %v %v", info.Mode(), err)
		}
		if _, err := os.Stat(filepath.Join(dir, "services", "half.tmp")); err == nil {
			t.Error("a half-written file stays")
		}
	})
}

func TestExpiredTTLStateIsNotRestored(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig(newCatalog())
		cfg.DataDir = dir
		a, stop := start(t, cfg)
		_ = a.AddCheck(t.Context(), &CheckDefinition{Name: "c", TTL: Duration(10 * time.Second)})
		_ = a.UpdateTTL("c", store.Passing, "")
		stop()
		time.Sleep(11 * time.Second)
		b, err := New(cfg)
		if err != nil || b.Checks()["c"].Status != store.Critical {
			t.Errorf("%v %v", err, b.Checks()["c"])
		}
	})
}

func TestReload(t *testing.T) {
	in(t, nil, func(t *testing.T, a *Agent, c *catalog) {
		reload := func(services []*ServiceDefinition, checks ...*CheckDefinition) error {
			err := a.ReloadDefinitions(services, checks)
			synctest.Wait()
			return err
		}
		_ = a.AddService(t.Context(), &ServiceDefinition{Name: "api", Port: 1}, false)
		_ = a.AddService(t.Context(), &ServiceDefinition{Name: "both", Port: 1}, false)
		err := reload([]*ServiceDefinition{{Name: "both", Port: 2, Checks: ttl(time.Hour)}, {Name: "one", Checks: ttl(time.Hour)}}, &CheckDefinition{Name: "nodecheck", TTL: Duration(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		_ = a.UpdateTTL("service:both", store.Passing, "")
		if c.service("both").Port != 2 || c.check("nodecheck") == nil {
			t.Error("files do not win")
		}
		time.Sleep(2 * materialiseAfter)
		if _, err := os.Stat(a.disk.path(keyOf(servicesDir, "both"))); err == nil {
			t.Error("the API's definition would come back without the file")
		}
		// Invalid: nothing changes, and all that is wrong is named.
		err = reload([]*ServiceDefinition{{Name: "a", Checks: []*CheckDefinition{{HTTP: "http://x"}}}}, &CheckDefinition{Name: "b"})
		want := "service \"a\": check \"\": Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks\ncheck \"b\": TTL must be > 0 for TTL checks"
		if err == nil || err.Error() != want {
			t.Errorf("got %v\nwant %s", err, want)
		}
		if c.service("one") == nil {
			t.Error("a refused reload changed something")
		}
		err = reload([]*ServiceDefinition{{Name: "two"}, {Name: "both", Port: 3, Checks: ttl(time.Hour)}})
		if err != nil || c.service("one") != nil || c.check("service:one") != nil || c.check("nodecheck") != nil || c.service("two") == nil || c.service("api") == nil {
			t.Errorf("after a renamed service: %v, %v", err, a.Services())
		}
		if got := c.check("service:both"); c.service("both").Port != 3 || got.Status != store.Passing {
			t.Errorf("a changed service lost its check's state: %s", got.AppendJSON(nil))
		}
	})
}

func TestReloadWithoutDataDirForgetsTheAPI(t *testing.T) {
	in(t, func(cfg *Config, _ *catalog) { cfg.DataDir = "" }, func(t *testing.T, a *Agent, c *catalog) {
		_ = a.AddService(t.Context(), &ServiceDefinition{Name: "api", Checks: ttl(time.Hour)}, false)
		_ = a.AddCheck(t.Context(), &CheckDefinition{Name: "c", TTL: Duration(time.Hour)})
		if err := a.ReloadDefinitions(nil, nil); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(a.Services()) != 0 || len(a.Checks()) != 0 || c.service("api") != nil || c.check("c") != nil {
			t.Errorf("left: %v %v", a.Services(), a.Checks())
		}
	})
}

func TestWaitService(t *testing.T) {
	in(t, nil, func(t *testing.T, a *Agent, c *catalog) {
		_ = a.AddService(t.Context(), &ServiceDefinition{Name: "web", Port: 1, Checks: ttl(time.Hour)}, false)
		s, _ := a.Service("web")
		begun := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_ = time.AfterFunc(time.Second, func() { _ = a.UpdateTTL("service:web", store.Passing, "") })
		if got, err := a.WaitService(ctx, "web", s.ContentHash); err != nil || got.ContentHash != s.ContentHash || time.Since(begun) != time.Minute {
			t.Errorf("unchanged: %v after %v", err, time.Since(begun))
		}
		if got, err := a.WaitService(t.Context(), "web", "other"); err != nil || got.ContentHash != s.ContentHash {
			t.Errorf("wrong hash: %v", err)
		}
		_ = time.AfterFunc(time.Second, func() {
			_ = a.AddService(context.Background(), &ServiceDefinition{Name: "web", Port: 2}, false)
		})
		if got, err := a.WaitService(t.Context(), "web", s.ContentHash); err != nil || got.Port != 2 {
			t.Errorf("changed: %v %v", got, err)
		} else {
			s = got
		}
		_ = time.AfterFunc(time.Second, func() { _ = a.RemoveService(context.Background(), "web") })
		if _, err := a.WaitService(t.Context(), "web", s.ContentHash); store.KindOf(err) != store.KindNotFound {
			t.Errorf("removed: %v", err)
		}
	})
}

func TestCriticalServiceIsReaped(t *testing.T) {
	in(t, nil, func(t *testing.T, a *Agent, c *catalog) {
		_ = a.AddService(t.Context(), &ServiceDefinition{Name: "web", Checks: []*CheckDefinition{{TTL: Duration(time.Second), DeregisterCriticalServiceAfter: Duration(5 * time.Second)}}}, false)
		time.Sleep(50 * time.Second)
		_ = a.UpdateTTL("service:web", store.Passing, "")
		time.Sleep(50 * time.Second)
		if len(a.Services()) != 1 {
			t.Error("removed within the minute that is the least")
		}
		time.Sleep(60 * time.Second)
		if len(a.Services()) != 0 || c.service("web") != nil {
			t.Error("not removed")
		}
	})
}

func TestFullSyncEvery(t *testing.T) {
	for members, want := range map[int]time.Duration{0: 1, 1: 1, 128: 1, 129: 2, 256: 2, 512: 3, 1024: 4, 5000: 7} {
		if got := fullSyncEvery(members); got != want*time.Minute {
			t.Errorf("%d members: %v, want %v", members, got, want*time.Minute)
		}
	}
}

// spy notes what is pushed, the node's record too.
type spy struct {
	*catalog
	pushed map[string]string // what -> token
}

func (s *spy) Sync(ctx context.Context, batch *store.CatalogBatch) ([]error, error) {
	for _, w := range batch.Writes {
		what := ""
		if r := w.Register; r != nil {
			if !r.SkipNodeUpdate {
				what = "node"
			}
			if r.Service != nil {
				what += " " + r.Service.ID
			}
		}
		if what = strings.TrimSpace(what); what != "" {
			s.pushed[what] = w.Token
		}
	}
	return s.catalog.Sync(ctx, batch)
}

// The node's record does not travel with a token that is for services: it may not
// write nodes.
func TestTheNodeGoesWithTheAgentsToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &spy{catalog: newCatalog(), pushed: map[string]string{}}
		cfg := testConfig(s)
		cfg.Token = func(fromFile bool) string {
			if fromFile {
				return "file-token"
			}
			return "user-token"
		}
		a, stop := start(t, cfg)
		defer stop()
		_ = a.AddService(t.Context(), &ServiceDefinition{Name: "web", Token: "own-token"}, false)
		_ = a.AddService(t.Context(), &ServiceDefinition{Name: "api"}, false)
		if err := a.ReloadDefinitions([]*ServiceDefinition{{Name: "filed"}}, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		want := map[string]string{"node": "", "web": "own-token", "api": "user-token", "filed": "file-token"}
		if !maps.Equal(s.pushed, want) {
			t.Errorf("got  %v\nwant %v", s.pushed, want)
		}
	})
}
