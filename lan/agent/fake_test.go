package agent

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"landbridge/store"
	"landbridge/store/state"
)

const node = "n1"

// catalog is a Registrar over a real state store, with faults: calls can fail
// before they take effect, after it, or take effect late.
type catalog struct {
	mu     sync.Mutex
	state  *state.Store
	calls  int
	writes int
	fault  func(call int) fault
	delay  func() time.Duration
	refuse func(cmd *store.RegisterCommand) error
	active int
	most   int      // calls at once
	seen   []string // changes with their tokens, beyond the node's record
}

type fault int

const (
	works fault = iota
	failsBefore
	failsAfter // takes effect, but the answer is lost
	late       // fails, and takes effect lateBy later
	failsSome  // every other change is not made; the answer says so
)

const lateBy = 5 * time.Second

func newCatalog() *catalog { return &catalog{state: state.New()} }

func (c *catalog) enter(ctx context.Context) fault {
	c.mu.Lock()
	c.calls++
	c.active++
	c.most = max(c.most, c.active)
	f := works
	if c.fault != nil {
		f = c.fault(c.calls)
	}
	var d time.Duration
	if c.delay != nil {
		d = c.delay()
	}
	c.mu.Unlock()
	if d > 0 {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
	return f
}

func (c *catalog) leave() {
	c.mu.Lock()
	c.active--
	c.mu.Unlock()
}

func (c *catalog) apply(kind store.CommandKind, payload []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes++
	return applyTo(c.state, kind, payload)
}

func applyTo(st *state.Store, kind store.CommandKind, payload []byte) error {
	res := make([]store.Result, 1)
	st.Apply([]store.Command{{Kind: kind, Payload: payload}}, res)
	if res[0].Err != nil {
		return res[0].Err
	}
	return nil
}

// counts returns the calls and the writes so far.
func (c *catalog) counts() (calls, writes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls, c.writes
}

func (c *catalog) see(w store.CatalogWrite) {
	if w.Register == nil {
		c.seen = append(c.seen, fmt.Sprintf("[deregister %s%s: %s]", w.Deregister.ServiceID, w.Deregister.CheckID, w.Token))
		return
	}
	what := ""
	if s := w.Register.Service; s != nil {
		what += " " + s.ID
	}
	for _, k := range w.Register.Checks {
		what += " " + k.CheckID
	}
	if what != "" {
		c.seen = append(c.seen, fmt.Sprintf("[register%s: %s]", what, w.Token))
	}
}

// Sync plays one fault for all of a batch, as a lost call would, and asks refuse
// about each registration.
func (c *catalog) Sync(ctx context.Context, batch *store.CatalogBatch) ([]error, error) {
	f := c.enter(ctx)
	defer c.leave()
	c.mu.Lock()
	refuse := c.refuse
	for _, w := range batch.Writes {
		c.see(w)
	}
	c.mu.Unlock()
	errs := make([]error, len(batch.Writes))
	apply := func() {
		for i, w := range batch.Writes {
			switch {
			case f == failsSome && i%2 == 1:
				errs[i] = store.Errorf(store.KindRateLimited, "too much at once")
			case w.Register == nil:
				errs[i] = c.apply(store.CmdDeregister, w.Deregister.AppendWire(nil))
			case refuse != nil && refuse(w.Register) != nil:
				errs[i] = refuse(w.Register)
			default:
				errs[i] = c.apply(store.CmdRegister, w.Register.AppendWire(nil))
			}
		}
	}
	lost := store.Errorf(store.KindMaybeApplied, "the answer was lost")
	switch f {
	case failsBefore:
		return nil, store.ErrNoLeader
	case failsAfter:
		apply()
		return nil, lost
	case late:
		go func() {
			time.Sleep(lateBy)
			apply()
		}()
		return nil, lost
	}
	apply()
	return errs, nil
}

func (c *catalog) NodeServices(ctx context.Context, name string) (*store.NodeServices, error) {
	f := c.enter(ctx)
	defer c.leave()
	if f != works {
		return nil, store.ErrNoServers
	}
	_, n, services := c.state.NodeServices(nil, name)
	if n == nil {
		return nil, nil
	}
	return &store.NodeServices{Node: n, Services: services}, nil
}

func (c *catalog) NodeChecks(ctx context.Context, name string) ([]*store.Check, error) {
	f := c.enter(ctx)
	defer c.leave()
	if f != works {
		return nil, store.ErrNoServers
	}
	_, checks := c.state.NodeChecks(nil, name)
	return checks, nil
}

func (c *catalog) WatchNodeChecks(ctx context.Context, name, _ string, index store.Index, wait time.Duration) ([]*store.Check, store.Index, error) {
	f := c.enter(ctx)
	defer c.leave()
	if f != works {
		return nil, 0, store.ErrNoServers
	}
	w := c.state.NewWatch()
	defer w.Close()
	over := time.NewTimer(wait)
	defer over.Stop()
	for {
		next, checks := c.state.NodeChecks(w, name)
		if index == 0 || next != index {
			return checks, next, nil
		}
		select {
		case <-w.C():
		case <-over.C:
			return checks, next, nil
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
}

func testConfig(c Registrar) Config {
	return Config{
		Node: node, Datacenter: "dc1", Registrar: c,
		NodeInfo: func() *store.Node {
			return &store.Node{ID: "11111111-1111-1111-1111-111111111111", Node: node, Address: "10.0.0.1", Datacenter: "dc1"}
		},
	}
}

// start runs an agent until the test, or stop, ends it.
func start(t *testing.T, cfg Config) (a *Agent, stop func()) {
	t.Helper()
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a, run(t, a)
}

func run(t *testing.T, a *Agent) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// differences says how the catalog differs from the agent, "" if it does not.
func differences(a *Agent, st *state.Store) string {
	_, n, services := st.NodeServices(nil, node)
	if n == nil {
		return "the catalog has no node"
	}
	_, checks := st.NodeChecks(nil, node)
	a.mu.Lock()
	defer a.mu.Unlock()
	var out string
	live := 0
	for _, e := range a.services {
		if !e.deleted {
			live++
		}
	}
	for _, r := range services {
		if r.ID == "foreign" {
			continue
		}
		e := a.services[r.ID]
		if e == nil || e.deleted {
			out += fmt.Sprintf("catalog has service %s, the agent not\n", r.ID)
		} else if !sameService(e.record, r, false) {
			out += fmt.Sprintf("service %s: agent %s, catalog %s\n", r.ID, e.record.AppendJSON(nil), r.AppendJSON(nil))
		}
	}
	if live != len(services) {
		out += fmt.Sprintf("agent has %d services, catalog %d\n", live, len(services))
	}
	live = 0
	for _, e := range a.checks {
		if !e.deleted {
			live++
		}
	}
	for _, r := range checks {
		e := a.checks[r.CheckID]
		if e == nil || e.deleted {
			out += fmt.Sprintf("catalog has check %s, the agent not\n", r.CheckID)
		} else if !sameCheck(e.record, r, true) {
			out += fmt.Sprintf("check %s: agent %s, catalog %s\n", r.CheckID, e.record.AppendJSON(nil), r.AppendJSON(nil))
		}
	}
	if live != len(checks) {
		out += fmt.Sprintf("agent has %d checks, catalog %d\n", live, len(checks))
	}
	return out
}
