package agent

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"landbridge/store"
)

// TestAntiEntropyModel makes edits, reloads, faults, drift, refusals, restarts and
// crashes in any order, and wants the catalog equal to the agent once all is quiet:
// within the last backoff, the wait of deferred outputs, and the comparison that a
// lost answer asks for. The periodic full sync is hours away, so it heals nothing
// here; only plays with drift, or with refusals, ask for one. What was
// acknowledged is there again after a crash.
func TestAntiEntropyModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp("", "agent")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(dir)
		drift := rapid.Bool().Draw(rt, "drift")
		ops := rapid.SliceOfN(rapid.IntRange(0, 17), 1, 40).Draw(rt, "ops")
		if !drift {
			for i := range ops {
				if slices.Contains([]int{8, 9, 14, 15}, ops[i]) {
					ops[i] = i % 3
				}
			}
		}
		ids := rapid.SliceOfN(rapid.IntRange(0, 2), len(ops), len(ops)).Draw(rt, "services")
		vals := rapid.SliceOfN(rapid.IntRange(0, 5), len(ops), len(ops)).Draw(rt, "values")
		pauses := rapid.SliceOfN(rapid.SampledFrom([]time.Duration{0, 0, time.Millisecond, 50 * time.Millisecond, 2 * time.Second, 40 * time.Second}), len(ops), len(ops)).Draw(rt, "pauses")
		faults := rapid.SliceOfN(rapid.SampledFrom([]fault{works, works, works, works, failsBefore, failsAfter, late, failsSome}), 60, 60).Draw(rt, "faults")
		delays := rapid.SliceOfN(rapid.SampledFrom([]time.Duration{0, time.Millisecond, 60 * time.Millisecond, 3 * time.Second}), 7, 7).Draw(rt, "delays")
		persist := rapid.Bool().Draw(rt, "persist")
		var failure string
		synctest.Test(t, func(t *testing.T) {
			failure = playModel(t, dir, ops, ids, vals, pauses, faults, delays, persist, drift)
		})
		if failure != "" {
			rt.Fatal(failure)
		}
	})
}

// nodeInRack is the node's record with a metadatum that changes.
func nodeInRack(rack int64) *store.Node {
	return &store.Node{ID: "11111111-1111-1111-1111-111111111111", Node: node, Address: "10.0.0.1", Datacenter: "dc1",
		Meta: map[string]string{"rack": fmt.Sprint(rack)}}
}

// fileDefinitions is one of the sets of definitions that files may hold. Some have
// the ids of what the API registers.
func fileDefinitions(set int) ([]*ServiceDefinition, []*CheckDefinition) {
	check := &CheckDefinition{ID: "c1", Name: "file", TTL: Duration(20 * time.Second)}
	switch set {
	case 1:
		return []*ServiceDefinition{{Name: "s0", Port: 100, Checks: []*CheckDefinition{{ID: "c0", TTL: Duration(time.Minute)}}}}, nil
	case 2:
		return []*ServiceDefinition{{Name: "f1", Port: 101}, {Name: "s1", EnableTagOverride: true, Tags: []string{"file"}}}, []*CheckDefinition{check}
	case 3:
		check.ServiceID = "f1"
		return []*ServiceDefinition{{Name: "f1", Port: 102}}, []*CheckDefinition{check}
	}
	return nil, nil
}

// definitions is what an agent is to have again after a crash. What the files
// define as well is theirs then.
func definitions(a *Agent, files int) map[string]string {
	theirs := make(map[string]bool)
	services, checks := fileDefinitions(files)
	for _, s := range services {
		theirs[s.Name] = true
		checks = append(checks, s.Checks...)
	}
	for _, c := range checks {
		theirs[c.ID] = true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make(map[string]string)
	for id, e := range a.services {
		if !e.deleted && !theirs[id] {
			out["service "+id] = fmt.Sprint(e.source, e.def.Port, e.def.Token, e.def.EnableTagOverride)
		}
	}
	for id, e := range a.checks {
		if !e.deleted && !theirs[id] {
			out["check "+id] = fmt.Sprint(e.source, e.def.ServiceID, time.Duration(e.def.TTL))
		}
	}
	return out
}

func playModel(t *testing.T, dir string, ops, ids, vals []int, pauses []time.Duration, faults []fault, delays []time.Duration, persist, drift bool) string {
	c := newCatalog()
	quiet := false
	c.fault = func(call int) fault {
		if quiet {
			return works
		}
		return faults[call%len(faults)]
	}
	n := 0
	c.delay = func() time.Duration {
		n++
		if quiet {
			return time.Millisecond
		}
		return delays[n%len(delays)]
	}
	cfg := testConfig(c)
	cfg.RegisterWait = time.Second
	cfg.CheckUpdateInterval = time.Minute
	cfg.ClusterSize = func() int { return 1 << 60 } // no full sync for an hour
	var rack atomic.Int64
	cfg.NodeInfo = func() *store.Node { return nodeInRack(rack.Load()) }
	if persist {
		cfg.DataDir = dir
	}
	files := 0 // which definitions the files hold
	var a *Agent
	var stop func()
	open := func() (err error) {
		if a, err = New(cfg); err == nil {
			err = a.ReloadDefinitions(fileDefinitions(files))
		}
		if err == nil {
			stop = run(t, a)
		}
		return err
	}
	if err := open(); err != nil {
		return err.Error()
	}
	ctx := context.Background()
	edits := make(chan struct{}, len(ops))
	reloaded := make(chan struct{}) // closed when the last reload is over
	close(reloaded)
	started := 0
	edit := func(f func()) {
		started++
		go func() { f(); edits <- struct{}{} }()
		if vals[0]%2 == 0 {
			<-edits // half of the plays wait for each edit, half let them overlap
			started--
		}
	}
	for i, op := range ops {
		svc := fmt.Sprintf("s%d", ids[i])
		chk := fmt.Sprintf("c%d", vals[i]%3)
		v := vals[i]
		switch op {
		case 0, 1:
			def := &ServiceDefinition{Name: svc, Port: v, Tags: []string{fmt.Sprint("t", v%2)}, EnableTagOverride: v == 3, Token: []string{"", "secret"}[v%2]}
			for k := range v % 3 {
				def.Checks = append(def.Checks, &CheckDefinition{ID: fmt.Sprint("c", k), TTL: Duration(time.Duration(10+v) * time.Second)})
			}
			edit(func() { _ = a.AddService(ctx, def, v == 5) })
		case 2:
			edit(func() { _ = a.RemoveService(ctx, svc) })
		case 3:
			def := &CheckDefinition{Name: chk, ServiceID: svc, TTL: Duration(time.Minute)}
			if v == 4 {
				def.ServiceID = ""
			}
			edit(func() { _ = a.AddCheck(ctx, def) })
		case 4:
			edit(func() { _ = a.RemoveCheck(ctx, chk) })
		case 5, 6:
			status := []string{store.Passing, store.Warning, store.Critical}[v%3]
			_ = a.UpdateTTL(chk, status, fmt.Sprint("o", v))
		case 7:
			edit(func() { _ = a.EnableServiceMaintenance(ctx, svc, "") })
		case 8: // drift: somebody removes the service, or the node
			d := &store.DeregisterCommand{Node: node, ServiceID: svc}
			if v == 0 {
				d.ServiceID = ""
			}
			_ = c.apply(store.CmdDeregister, d.AppendWire(nil))
		case 9: // drift: somebody changes it, or registers a foreign one
			r := &store.RegisterCommand{SkipNodeUpdate: true, Node: store.Node{Node: node, Address: "10.0.0.1"},
				Service: &store.Service{ID: fmt.Sprint("s", v), Name: "drift", Port: 99},
				Checks:  []*store.Check{{CheckID: "x", Status: "odd", ServiceID: fmt.Sprint("s", v)}}}
			_ = c.apply(store.CmdRegister, r.AppendWire(nil))
		case 10:
			a.ServersChanged()
		case 11: // restart
			if !persist {
				break
			}
			for ; started > 0; started-- {
				<-edits
			}
			stop()
			if err := open(); err != nil {
				return err.Error()
			}
		case 12, 13: // files change; reloads follow each other, as those of a process do
			files = v
			before, done := reloaded, make(chan struct{})
			reloaded = done
			edit(func() {
				<-before
				_ = a.ReloadDefinitions(fileDefinitions(v))
				close(done)
			})
		case 14: // the catalog will not have a service, for a while
			c.mu.Lock()
			c.refuse = func(cmd *store.RegisterCommand) error {
				for _, k := range cmd.Checks {
					if k.ServiceID == svc {
						return store.Errorf(store.KindPermissionDenied, "Permission denied")
					}
				}
				if cmd.Service != nil && cmd.Service.ID == svc {
					return store.Errorf(store.KindPermissionDenied, "Permission denied")
				}
				return nil
			}
			c.mu.Unlock()
		case 15: // somebody gives an instance other tags
			if _, n, list := c.state.NodeServices(nil, node); n != nil {
				for _, r := range list {
					if r.ID == svc {
						r = r.Clone()
						r.Tags = []string{fmt.Sprint("theirs", v)}
						_ = c.apply(store.CmdRegister, (&store.RegisterCommand{Node: store.Node{Node: node}, SkipNodeUpdate: true, Service: r}).AppendWire(nil))
					}
				}
			}
		case 16:
			rack.Store(int64(v))
			a.NodeChanged()
		case 17: // crash
			if !persist {
				break
			}
			for ; started > 0; started-- {
				<-edits
			}
			before := definitions(a, files)
			cfg.DataDir = copyDir(t, cfg.DataDir)
			stop()
			if err := open(); err != nil {
				return err.Error()
			}
			if after := definitions(a, files); !maps.Equal(before, after) {
				return fmt.Sprintf("before the crash: %v\nafter it: %v", before, after)
			}
		}
		time.Sleep(pauses[i])
	}
	for ; started > 0; started-- {
		<-edits
	}
	c.mu.Lock()
	quiet, c.refuse = true, nil
	c.mu.Unlock()
	time.Sleep(slices.Max(delays) + lateBy + time.Second) // what has begun takes effect
	if drift {
		a.ServersChanged()
	}
	// A call that hangs, the backoff after it, the deferral of an output.
	time.Sleep(callTimeout + 2*retryMax + 2*cfg.CheckUpdateInterval)
	synctest.Wait()
	diff := differences(a, c.state)
	if _, n, _ := c.state.NodeServices(nil, node); n != nil && !sameNode(n, nodeInRack(rack.Load())) {
		diff += fmt.Sprintf("the node is %s\n", n.AppendJSON(nil))
	}
	if diff == "" {
		a.mu.Lock()
		for id, e := range a.services {
			if e.dirty() || e.busy || e.deleted {
				diff += fmt.Sprintf("service %s is left dirty: %+v\n", id, e.entry)
			}
		}
		for id, e := range a.checks {
			if e.dirty() || e.busy || e.deleted {
				diff += fmt.Sprintf("check %s is left dirty: %+v\n", id, e.entry)
			}
		}
		for id, g := range a.sync.groups {
			if g.flying || a.services[id] == nil && len(g.checks) == 0 && id != "" {
				diff += fmt.Sprintf("group %q is left over\n", id)
			}
		}
		a.mu.Unlock()
	}
	_, writes := c.counts()
	time.Sleep(10 * time.Minute) // TTL checks have all expired before
	if _, now := c.counts(); diff == "" && now != writes {
		diff = fmt.Sprintf("%d writes while nothing changed", now-writes)
	}
	stop()
	return diff
}
