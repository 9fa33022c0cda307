package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landbridge/forwarding/endpoint"
	"landbridge/forwarding/rpc"
	"landbridge/lan/agent"
	"landbridge/store"
	"landbridge/store/state"
)

// raftOfOne applies commands at once and always leads.
type raftOfOne struct{ st *state.Store }

func (r raftOfOne) Apply(_ context.Context, cmd store.Command) (store.Result, error) {
	var res [1]store.Result
	r.st.Apply([]store.Command{cmd}, res[:])
	return res[0], nil
}
func (r raftOfOne) ApplyAll(_ context.Context, cmds []store.Command) ([]store.Result, []error) {
	res := make([]store.Result, len(cmds))
	r.st.Apply(cmds, res)
	return res, make([]error, len(cmds))
}
func (raftOfOne) CheckLease() error                  { return nil }
func (raftOfOne) VerifyLeader(context.Context) error { return nil }
func (raftOfOne) IsLeader() bool                     { return true }
func (raftOfOne) Leader() (id, addr string)          { return "id1", "127.0.0.1:8300" }
func (raftOfOne) LastContact() time.Duration         { return 0 }
func (raftOfOne) LeaderChanged() <-chan struct{}     { return nil }

// fakeAgent records what it was asked for.
type fakeAgent struct {
	calls []string
	err   error
}

func (f *fakeAgent) note(parts ...string) error {
	f.calls = append(f.calls, strings.Join(parts, " "))
	return f.err
}

var selfMember = Member{Name: "a", Addr: "127.0.0.1", Port: 8301, Tags: map[string]string{"role": "consul", "dc": "dc1"},
	Status: 1, ProtocolMin: 1, ProtocolMax: 5, ProtocolCur: 2, DelegateMin: 2, DelegateMax: 5, DelegateCur: 4}

func (f *fakeAgent) Self(context.Context) (*Self, error) {
	return &Self{Config: SelfConfig{Datacenter: "dc1", PrimaryDatacenter: "dc1", NodeName: "a", NodeID: "0e0b2a0c-7e5b-4f0b-8d3e-000000000001", Server: true, Version: "1.21.4"},
		Member: selfMember, Stats: map[string]map[string]string{"agent": {"services": strings.Repeat("1", 1500)}},
		Meta: map[string]string{"consul-network-segment": "", "consul-version": "1.21.4"}}, f.err
}

func (f *fakeAgent) Members(_ context.Context, wan bool) ([]Member, error) {
	if wan {
		return nil, f.err
	}
	return []Member{selfMember}, f.err
}

func (f *fakeAgent) Join(_ context.Context, addr string, wan bool) error {
	if wan {
		addr += " wan"
	}
	return f.note("join", addr)
}
func (f *fakeAgent) Leave(context.Context) error { return f.note("leave") }
func (f *fakeAgent) ForceLeave(_ context.Context, node string, prune, wan bool) error {
	if prune {
		node += " prune"
	}
	if wan {
		node += " wan"
	}
	if node == "none" {
		return errors.New("agent: No node found with name 'none'")
	}
	return f.note("force-leave", node)
}
func (f *fakeAgent) Reload(context.Context) error { return f.note("reload") }
func (f *fakeAgent) MetricsFollow(ctx context.Context, each func([]byte) error) error {
	for i := range 3 {
		if err := each(fmt.Appendf(nil, "{\"n\":%d}\n", i)); err != nil {
			return err
		}
	}
	return nil
}

func (f *fakeAgent) MetricsJSON(context.Context) ([]byte, error) {
	return []byte(`{"Timestamp":"2026-11-22 20:29:00 +0000 UTC","Gauges":[],"Points":[],"Counters":[],"Samples":[]}`), f.err
}
func (f *fakeAgent) Host(context.Context) (any, error) {
	return map[string]int{"CollectionTime": 1}, nil
}

func (f *fakeAgent) Federation(context.Context, string) (any, error) {
	return map[string]any{"Datacenters": []string{"dc1"}}, f.err
}

// catalog is the agent's Registrar over a Doer.
type catalog struct{ do rpc.Doer }

func (c catalog) Sync(ctx context.Context, batch *store.CatalogBatch) ([]error, error) {
	resp, err := c.do.Do(ctx, &rpc.Request{Method: rpc.CatalogSync, Body: batch.AppendWire(nil)})
	if err != nil {
		return nil, err
	}
	var out store.CatalogOutcome
	err = out.DecodeWire(resp.Body)
	return out.Errors, err
}

func (c catalog) NodeServices(ctx context.Context, node string) (*store.NodeServices, error) {
	resp, err := c.do.Do(ctx, &rpc.Request{Method: rpc.CatalogNodeServiceList, Representation: rpc.Records, Query: store.Query{Name: node}})
	if err != nil {
		return nil, err
	}
	list, err := store.DecodeNodeServices(resp.Body)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return &list[0], nil
}

func (c catalog) NodeChecks(ctx context.Context, node string) ([]*store.Check, error) {
	resp, err := c.do.Do(ctx, &rpc.Request{Method: rpc.HealthNode, Representation: rpc.Records, Query: store.Query{Name: node}})
	if err != nil {
		return nil, err
	}
	return store.DecodeChecks(resp.Body)
}

func (c catalog) WatchNodeChecks(ctx context.Context, node, _ string, index store.Index, wait time.Duration) ([]*store.Check, store.Index, error) {
	resp, err := c.do.Do(ctx, &rpc.Request{Method: rpc.HealthNode, MinIndex: index, Wait: wait, Representation: rpc.Records, Query: store.Query{Name: node}})
	if err != nil {
		return nil, 0, err
	}
	checks, err := store.DecodeChecks(resp.Body)
	return checks, resp.Index, err
}

// testNode is a front end over a server of one.
type testNode struct {
	*Server
	set   *endpoint.Set
	agent *fakeAgent
	state *state.Store
	reg   *prometheus.Registry
}

func newDatacenter(t testing.TB, dc, node string, change ...func(*endpoint.Config)) (*endpoint.Set, *state.Store) {
	t.Helper()
	st := state.New()
	cfg := endpoint.Config{
		Datacenter: dc, State: st, Consensus: raftOfOne{st},
		Servers: func() ([]endpoint.RaftServer, error) {
			return []endpoint.RaftServer{{ID: "0e0b2a0c-7e5b-4f0b-8d3e-000000000001", Node: node, Address: "127.0.0.1:8300", Leader: true, ProtocolVersion: "3", Voter: true, LastIndex: 7}}, nil
		},
		Datacenters: func() []string { return []string{"dc1", "dc2"} },
		Status:      func() store.ServerStatus { return store.ServerStatus{} },
		RenewSession: func(id string) (*store.Session, error) {
			_, sess := st.Session(nil, id)
			return sess, nil
		},
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	}
	for _, f := range change {
		f(&cfg)
	}
	set, err := endpoint.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	set.HandleOperator(endpoint.Operator{
		Autopilot: func() *endpoint.AutopilotState {
			return &endpoint.AutopilotState{Healthy: dc == "dc1", Leader: "id1", Voters: []string{"id1"}, Servers: []endpoint.AutopilotServer{
				{ID: "id1", Name: node, Address: "127.0.0.1:8300", NodeStatus: "alive", Status: "leader", NodeType: "voter", Healthy: dc == "dc1"}}}
		},
		RemoveServer:       func(context.Context, string) error { return nil },
		TransferLeadership: func(context.Context, string) error { return nil },
	})
	set.Handle(rpc.TrustRoots, func(context.Context, *rpc.Request) (*rpc.Response, error) {
		return &rpc.Response{Index: 5, KnownLeader: true, Body: []byte(`{"ActiveRootID":"aa","TrustDomain":"x.consul","Roots":[{"RootCert":"PEM\n"}]}`)}, nil
	})
	apply := func(kind store.CommandKind, payload []byte) {
		var res [1]store.Result
		st.Apply([]store.Command{{Kind: kind, Payload: payload}}, res[:])
		if res[0].Err != nil {
			t.Fatal(res[0].Err)
		}
	}
	cmd := store.RegisterCommand{
		Node: store.Node{ID: "0e0b2a0c-7e5b-4f0b-8d3e-000000000001", Node: node, Address: "127.0.0.1", Datacenter: dc,
			TaggedAddresses: map[string]string{"lan": "127.0.0.1", "lan_ipv4": "127.0.0.1", "wan": "127.0.0.1", "wan_ipv4": "127.0.0.1"},
			Meta:            map[string]string{"consul-network-segment": "", "consul-version": "1.21.4"}},
		Service: &store.Service{ID: "consul", Name: "consul", Port: 8300},
		Checks:  []*store.Check{{CheckID: store.SerfHealth, Name: "Serf Health Status", Status: store.Passing, Output: "Agent alive and reachable"}},
	}
	if err := cmd.Prepare(); err != nil {
		t.Fatal(err)
	}
	apply(store.CmdRegister, cmd.AppendWire(nil))
	auto := store.AutopilotCommand{Config: store.AutopilotConfig{CleanupDeadServers: true, LastContactThreshold: int64(200 * time.Millisecond),
		MaxTrailingLogs: 250, ServerStabilizationTime: int64(10 * time.Second)}}
	apply(store.CmdAutopilot, auto.AppendWire(nil))
	return set, st
}

func newNode(t testing.TB, change func(*Config)) *testNode {
	t.Helper()
	set, st := newDatacenter(t, "dc1", "a")
	return nodeOver(t, set, st, change)
}

func nodeOver(t testing.TB, set *endpoint.Set, st *state.Store, change func(*Config)) *testNode {
	t.Helper()
	far, _ := newDatacenter(t, "dc2", "b")
	local, err := agent.New(agent.Config{Node: "a", Datacenter: "dc1", Server: true, Registrar: catalog{set},
		NodeInfo: func() *store.Node {
			return &store.Node{ID: "0e0b2a0c-7e5b-4f0b-8d3e-000000000001", Node: "a", Address: "127.0.0.1",
				TaggedAddresses: map[string]string{"lan": "127.0.0.1", "lan_ipv4": "127.0.0.1", "wan": "127.0.0.1", "wan_ipv4": "127.0.0.1"},
				Meta:            map[string]string{"consul-network-segment": "", "consul-version": "1.21.4"}}
		}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- local.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ran; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	n := &testNode{set: set, agent: &fakeAgent{}, state: st, reg: prometheus.NewRegistry()}
	cfg := Config{
		Do: rpc.DoerFunc(func(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
			switch req.Datacenter {
			case "", "dc1":
				return set.Do(ctx, req)
			case "dc2":
				return far.Do(ctx, req)
			}
			return nil, store.ErrNoPath
		}),
		Agent: n.agent, Local: local, Datacenter: "dc1", NodeName: "a",
		Version:  Version{HumanVersion: "1.21.4", Release: "0.1.0"},
		Gatherer: n.reg, Registerer: n.reg, Logger: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	if n.Server, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	return n
}

// ask sends a request with headers "Name: value".
func (n *testNode) ask(t testing.TB, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req := httptest.NewRequest(method, target, r)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	n.ServeHTTP(w, req)
	return w
}

var _ http.Handler = (*Server)(nil)
