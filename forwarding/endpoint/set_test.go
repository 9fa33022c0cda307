package endpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"landbridge/forwarding/rpc"
	"landbridge/store"
	"landbridge/store/consensus"
	"landbridge/store/state"
)

// fakeRaft applies commands at once, as a group of one would, and can be told to
// lose its lease or its leadership.
type fakeRaft struct {
	state *state.Store

	mu       sync.Mutex
	leader   bool
	lease    []error // answers of the next checks of the lease; then nil
	verified int
	verify   error
	contact  time.Duration
	changed  chan struct{}
}

func newFakeRaft(st *state.Store) *fakeRaft {
	return &fakeRaft{state: st, leader: true, changed: make(chan struct{})}
}

func (f *fakeRaft) Apply(_ context.Context, cmd store.Command) (store.Result, error) {
	f.mu.Lock()
	leads := f.leader
	f.mu.Unlock()
	if !leads {
		return store.Result{}, store.ErrNoLeader
	}
	var res [1]store.Result
	f.state.Apply([]store.Command{cmd}, res[:])
	return res[0], nil
}

func (f *fakeRaft) ApplyAll(ctx context.Context, cmds []store.Command) ([]store.Result, []error) {
	results, errs := make([]store.Result, len(cmds)), make([]error, len(cmds))
	for i, cmd := range cmds {
		results[i], errs[i] = f.Apply(ctx, cmd)
	}
	return results, errs
}

func (f *fakeRaft) CheckLease() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.leader {
		return store.ErrNoLeader
	}
	if len(f.lease) > 0 {
		err := f.lease[0]
		f.lease = f.lease[1:]
		return err
	}
	return nil
}

func (f *fakeRaft) VerifyLeader(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.verified++
	if !f.leader {
		return store.ErrNoLeader
	}
	return f.verify
}

// renew knows every session's end to be far away.
func (f *fakeRaft) renew(id string) (*store.Session, error) {
	if !f.IsLeader() {
		return nil, store.ErrNoLeader
	}
	_, sess := f.state.Session(nil, id)
	return sess, nil
}

func (f *fakeRaft) IsLeader() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.leader
}

func (f *fakeRaft) Leader() (string, string) {
	if f.IsLeader() {
		return "id1", "127.0.0.1:8300"
	}
	return "", ""
}

func (f *fakeRaft) LastContact() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.contact
}

func (f *fakeRaft) LeaderChanged() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

func (f *fakeRaft) lose() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.leader = false
	close(f.changed)
	f.changed = make(chan struct{})
}

func newSet(t testing.TB) (*Set, *fakeRaft) {
	t.Helper()
	st := state.New()
	raft := newFakeRaft(st)
	s, err := New(Config{
		Datacenter: "dc1", State: st, Consensus: raft,
		Servers: func() ([]RaftServer, error) {
			return []RaftServer{{ID: "id1", Node: "a", Address: "127.0.0.1:8300", Leader: true, ProtocolVersion: "3", Voter: true, LastIndex: 7}}, nil
		},
		Datacenters:  func() []string { return []string{"dc1", "dc2"} },
		Status:       func() store.ServerStatus { return store.ServerStatus{NodeID: "id1", Node: "a"} },
		RenewSession: raft.renew,
		Logger:       slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, raft
}

func put(t testing.TB, s *Set, key, value string) store.Index {
	t.Helper()
	cmd := store.KVCommand{Op: store.KVSet, Entry: store.KVEntry{Key: key, Value: []byte(value)}}
	resp, err := s.Do(t.Context(), &rpc.Request{Method: rpc.KVApply, Body: cmd.AppendWire(nil)})
	if err != nil {
		t.Fatal(err)
	}
	if string(resp.Body) != "true" {
		t.Fatalf("put %s: got %s, want true", key, resp.Body)
	}
	return resp.Index
}

func register(t testing.TB, s *Set, cmd *store.RegisterCommand) {
	t.Helper()
	if _, err := s.Do(t.Context(), &rpc.Request{Method: rpc.CatalogRegister, Body: cmd.AppendWire(nil)}); err != nil {
		t.Fatal(err)
	}
}

// web registers an instance of web on a node, with a node check and its own.
func web(t testing.TB, s *Set, node, status string, tags ...string) {
	t.Helper()
	register(t, s, &store.RegisterCommand{
		Node: store.Node{Node: node, Address: "10.0.0.1", Meta: map[string]string{"rack": node},
			TaggedAddresses: map[string]string{"wan": "8.8.8.8"}},
		Service: &store.Service{ID: "web1", Name: "web", Port: 80, Tags: tags, Meta: map[string]string{"v": node},
			TaggedAddresses: map[string]store.ServiceAddress{"wan": {Address: "9.9.9.9", Port: 81}}},
		Checks: []*store.Check{
			{CheckID: store.SerfHealth, Name: "Serf Health Status", Status: store.Passing},
			{CheckID: "web:1", Name: "web check", Status: status, ServiceID: "web1"},
		},
	})
}

func body(t testing.TB, s *Set, req *rpc.Request) string {
	t.Helper()
	resp, err := s.Do(t.Context(), req)
	if err != nil {
		t.Fatalf("%s: %v", rpc.Lookup(req.Method).Name, err)
	}
	if resp.NotFound {
		return "not found"
	}
	return string(resp.Body)
}

func TestKeys(t *testing.T) {
	s, _ := newSet(t)
	get := func(m rpc.MethodID, r rpc.Representation, q store.Query) string {
		return body(t, s, &rpc.Request{Method: m, Representation: r, Query: q})
	}
	if got := get(rpc.KVGet, rpc.JSON, store.Query{Name: "a"}); got != "not found" {
		t.Errorf("missing key: got %q", got)
	}
	if got := get(rpc.KVList, rpc.JSON, store.Query{}); got != "not found" {
		t.Errorf("empty list: got %q", got)
	}
	idx := put(t, s, "a/x", "one")
	put(t, s, "a/b/c", "")
	put(t, s, "b", "<two>")
	for _, tc := range []struct {
		name string
		m    rpc.MethodID
		r    rpc.Representation
		q    store.Query
		want string
	}{
		{"json", rpc.KVGet, rpc.JSON, store.Query{Name: "a/x"},
			fmt.Sprintf(`[{"LockIndex":0,"Key":"a/x","Flags":0,"Value":"b25l","CreateIndex":%d,"ModifyIndex":%[1]d}]`, idx)},
		{"raw", rpc.KVGet, rpc.Raw, store.Query{Name: "b"}, "<two>"},
		{"pretty", rpc.KVKeys, rpc.Pretty, store.Query{Name: "b"}, "[\n    \"b\"\n]\n"},
		{"keys", rpc.KVKeys, rpc.JSON, store.Query{}, `["a/b/c","a/x","b"]`},
		{"separator", rpc.KVKeys, rpc.JSON, store.Query{Name: "a/", Separator: "/"}, `["a/b/","a/x"]`},
		{"no keys", rpc.KVKeys, rpc.JSON, store.Query{Name: "none"}, "not found"},
	} {
		if got := get(tc.m, tc.r, tc.q); got != tc.want {
			t.Errorf("%s: got %s, want %s", tc.name, got, tc.want)
		}
	}
	if got := get(rpc.KVList, rpc.JSON, store.Query{Name: "a/"}); !strings.HasPrefix(got, `[{"LockIndex":0,"Key":"a/b/c"`) || strings.Count(got, "LockIndex") != 2 {
		t.Errorf("list: got %s", got)
	}
	list, err := store.DecodeKVEntries([]byte(get(rpc.KVList, rpc.Records, store.Query{Name: "a/"})))
	if err != nil || len(list) != 2 || list[1].Key != "a/x" {
		t.Errorf("records: got %v, %v", list, err)
	}
}

func TestHealthSelection(t *testing.T) {
	s, _ := newSet(t)
	web(t, s, "n1", store.Passing, "V1", "blue")
	web(t, s, "n2", store.Warning, "v1")
	for _, tc := range []struct {
		name   string
		q      store.Query
		filter string
		want   []string // nodes
	}{
		{name: "all", want: []string{"n1", "n2"}},
		{name: "passing", q: store.Query{PassingOnly: true}, want: []string{"n1"}},
		{name: "tag without case", q: store.Query{Tags: []string{"v1"}}, want: []string{"n1", "n2"}},
		{name: "two tags", q: store.Query{Tags: []string{"v1", "blue"}}, want: []string{"n1"}},
		{name: "node meta", q: store.Query{NodeMeta: map[string]string{"rack": "n2"}}, want: []string{"n2"}},
		{name: "node meta without value", q: store.Query{NodeMeta: map[string]string{"rack": ""}}},
		{name: "filter", filter: `Service.Meta.v == n2 and Node.Node != n1`, want: []string{"n2"}},
		{name: "filter on checks", filter: `Checks.Status == warning`, want: []string{"n2"}},
	} {
		tc.q.Name = "WEB" // names compare without case
		req := &rpc.Request{Method: rpc.HealthService, Representation: rpc.Records, Query: tc.q, Filter: tc.filter}
		list, err := store.DecodeInstances([]byte(body(t, s, req)))
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		var got []string
		for _, i := range list {
			got = append(got, i.Node.Node)
		}
		if fmt.Sprint(got) != fmt.Sprint(tc.want) {
			t.Errorf("%s: got %v, want %v", tc.name, got, tc.want)
		}
		// The JSON form selects alike.
		req.Representation = rpc.JSON
		if n := strings.Count(body(t, s, req), `{"Node":{`); n != len(tc.want) {
			t.Errorf("%s: %d instances in JSON, want %d", tc.name, n, len(tc.want))
		}
	}
}

// A body is shared until its list changes, and only by requests that ask for the
// same.
func TestBodiesFollowTheState(t *testing.T) {
	s, _ := newSet(t)
	web(t, s, "n1", store.Passing)
	web(t, s, "n2", store.Warning)
	req := &rpc.Request{Method: rpc.HealthService, Query: store.Query{Name: "web"}}
	do := func(req *rpc.Request) []byte {
		resp, err := s.Do(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		return resp.Body
	}
	first := do(req)
	if again := do(req); &first[0] != &again[0] {
		t.Error("the same answer was encoded twice")
	}
	passing := &rpc.Request{Method: rpc.HealthService, Query: store.Query{Name: "web", PassingOnly: true}}
	for range 2 {
		if n := strings.Count(string(do(passing)), `{"Node":{`); n != 1 {
			t.Errorf("passing: %d instances, want 1", n)
		}
		if n := strings.Count(string(do(req)), `{"Node":{`); n != 2 {
			t.Errorf("all: %d instances, want 2", n)
		}
	}
	web(t, s, "n2", store.Passing)
	for range 2 {
		if n := strings.Count(string(do(passing)), `{"Node":{`); n != 2 {
			t.Errorf("passing after the change: %d instances, want 2", n)
		}
	}
	if string(first) == string(do(req)) {
		t.Error("the answer did not follow the change")
	}
}

func TestCatalogAnswers(t *testing.T) {
	s, _ := newSet(t)
	web(t, s, "n1", store.Passing, "v1", "blue")
	web(t, s, "n2", store.Critical, "v1")
	for _, tc := range []struct {
		name string
		req  rpc.Request
		want string // the whole, or with a star a part
	}{
		{"datacenters", rpc.Request{Method: rpc.CatalogDatacenters}, `["dc1","dc2"]`},
		{"services", rpc.Request{Method: rpc.CatalogServices}, `{"web":["blue","v1"]}`},
		{"services by filter", rpc.Request{Method: rpc.CatalogServices, Filter: `Node == n2`}, `{"web":["v1"]}`},
		{"services by meta", rpc.Request{Method: rpc.CatalogServices, Query: store.Query{NodeMeta: map[string]string{"rack": "n1"}}}, `{"web":["v1","blue"]}`},
		{"no services", rpc.Request{Method: rpc.CatalogServices, Filter: `ServiceName == db`}, `{}`},
		{"nodes by filter", rpc.Request{Method: rpc.CatalogNodes, Filter: `Meta.rack == n2`}, `*[{"ID":"","Node":"n2","Address":"10.0.0.1","Datacenter":"dc1"`},
		{"no nodes", rpc.Request{Method: rpc.CatalogNodes, Filter: `Node == x`}, `[]`},
		{"service nodes", rpc.Request{Method: rpc.CatalogServiceNodes, Query: store.Query{Name: "web", Tags: []string{"blue"}}}, `*"ServiceID":"web1","ServiceName":"web","ServiceTags":["v1","blue"]`},
		{"service nodes by filter", rpc.Request{Method: rpc.CatalogServiceNodes, Query: store.Query{Name: "web"}, Filter: `ServiceMeta.v == none`}, `[]`},
		{"unknown service", rpc.Request{Method: rpc.CatalogServiceNodes, Query: store.Query{Name: "x"}}, `[]`},
		{"no proxies", rpc.Request{Method: rpc.CatalogConnectNodes, Query: store.Query{Name: "web"}}, `[]`},
		{"unknown node", rpc.Request{Method: rpc.CatalogNodeServices, Query: store.Query{Name: "x"}}, `null`},
		{"unknown node's list", rpc.Request{Method: rpc.CatalogNodeServiceList, Query: store.Query{Name: "x"}}, `{"Node":null,"Services":null}`},
		{"node", rpc.Request{Method: rpc.CatalogNodeServices, Query: store.Query{Name: "N1"}}, `*"Services":{"web1":{"ID":"web1","Service":"web"`},
		{"node's list", rpc.Request{Method: rpc.CatalogNodeServiceList, Query: store.Query{Name: "n1"}}, `*"Services":[{"ID":"web1","Service":"web"`},
		{"node's list by filter", rpc.Request{Method: rpc.CatalogNodeServiceList, Query: store.Query{Name: "n1"}, Filter: `Port == 1`}, `*"Services":[]}`},
		{"checks of a node", rpc.Request{Method: rpc.HealthNode, Query: store.Query{Name: "n1"}, Filter: `CheckID == serfHealth`}, `*[{"Node":"n1","CheckID":"serfHealth"`},
		{"checks of nobody", rpc.Request{Method: rpc.HealthNode, Query: store.Query{Name: "x"}}, `[]`},
		{"checks of a service", rpc.Request{Method: rpc.HealthChecks, Query: store.Query{Name: "web", NodeMeta: map[string]string{"rack": "n2"}}}, `*[{"Node":"n2","CheckID":"web:1"`},
		{"critical", rpc.Request{Method: rpc.HealthState, Query: store.Query{Name: "critical"}}, `*[{"Node":"n2","CheckID":"web:1","Name":"web check","Status":"critical"`},
		{"odd state", rpc.Request{Method: rpc.HealthState, Query: store.Query{Name: "odd"}}, `[]`},
		{"leader", rpc.Request{Method: rpc.StatusLeader}, `"127.0.0.1:8300"`},
		{"peers", rpc.Request{Method: rpc.StatusPeers}, `["127.0.0.1:8300"]`},
		{"raft", rpc.Request{Method: rpc.RaftConfiguration}, `{"Servers":[{"ID":"id1","Node":"a","Address":"127.0.0.1:8300","Leader":true,"ProtocolVersion":"3","Voter":true,"LastIndex":7}],"Index":0}`},
		{"wan addresses", rpc.Request{Method: rpc.HealthService, Query: store.Query{Name: "web"}, TranslateWAN: true, SourceDC: "dc2"}, `*"Address":"9.9.9.9"`},
		{"wan address of a node", rpc.Request{Method: rpc.CatalogNodes, TranslateWAN: true, SourceDC: "dc2"}, `*"Address":"8.8.8.8"`},
		{"own addresses", rpc.Request{Method: rpc.CatalogNodes, TranslateWAN: true, SourceDC: "dc1"}, `*"Address":"10.0.0.1"`},
	} {
		got := body(t, s, &tc.req)
		if want, part := strings.CutPrefix(tc.want, "*"); got != want && !(part && strings.Contains(got, want)) {
			t.Errorf("%s: got %s, want %s", tc.name, got, tc.want)
		}
	}
	list, err := store.DecodeNodeServices([]byte(body(t, s, &rpc.Request{Method: rpc.CatalogByAddress, Representation: rpc.Records, Query: store.Query{Name: "10.0.0.1"}})))
	if err != nil || len(list) != 2 {
		t.Errorf("by address: got %v, %v", list, err)
	}
	register(t, s, &store.RegisterCommand{Node: store.Node{Node: "n3", ID: "4b9d22c6-0000-4000-8000-000000000001", Address: "10.0.0.1"}})
	for name, want := range map[string]bool{"n1": true, "N1": true, "none": false, "4b9d22c6": false} {
		resp, err := s.Do(t.Context(), &rpc.Request{Method: rpc.CatalogNode, Representation: rpc.Records, Query: store.Query{Name: name}})
		var n store.Node
		if err != nil || resp.NotFound == want || want && (n.DecodeWire(resp.Body) != nil || n.Node != "n1" || n.Address != "10.0.0.1") {
			t.Errorf("node %s: got %+v, %v, %v; want it found: %v", name, resp, &n, err, want)
		}
	}
}

func TestRefusals(t *testing.T) {
	s, raft := newSet(t)
	lock := store.KVCommand{Op: store.KVLock, Entry: store.KVEntry{Key: "k", Session: "x"}}
	for _, tc := range []struct {
		name string
		req  rpc.Request
		kind store.Kind
		text string
	}{
		{"filter", rpc.Request{Method: rpc.CatalogNodes, Filter: "Nope == x"}, store.KindInvalid, `Failed to create boolean expression evaluator: Selector "Nope" is not valid`},
		{"no node", rpc.Request{Method: rpc.CatalogRegister, Body: (&store.RegisterCommand{Node: store.Node{Address: "x"}}).AppendWire(nil)}, store.KindInvalid, "Must provide node"},
		{"no address", rpc.Request{Method: rpc.CatalogRegister, Body: (&store.RegisterCommand{Node: store.Node{Node: "x"}}).AppendWire(nil)}, store.KindInvalid, "Must provide address if SkipNodeUpdate is not set"},
		{"deregister nothing", rpc.Request{Method: rpc.CatalogDeregister}, store.KindInvalid, "Must provide node"},
		{"malformed", rpc.Request{Method: rpc.CatalogDeregister, Body: []byte{0xff}}, store.KindInvalid, "Catalog.Deregister: "},
		{"malformed key", rpc.Request{Method: rpc.KVApply, Body: []byte{0xff}}, store.KindInvalid, "malformed"},
		{"lock", rpc.Request{Method: rpc.KVApply, Body: lock.AppendWire(nil)}, store.KindInvalid, `raft apply failed: invalid session "x"`},
		{"malformed session", rpc.Request{Method: rpc.SessionCreate, Body: []byte{0xff}}, store.KindInvalid, "session: malformed"},
		{"session of no node", rpc.Request{Method: rpc.SessionCreate, Body: (&store.SessionCommand{Op: store.SessionCreate}).AppendWire(nil)}, store.KindInvalid, "apply failed: Missing node registration"},
		{"create by the wrong method", rpc.Request{Method: rpc.SessionDestroy, Body: (&store.SessionCommand{Op: store.SessionCreate}).AppendWire(nil)}, store.KindInvalid, "session: operation 1"},
		{"short life", rpc.Request{Method: rpc.SessionCreate, Body: (&store.SessionCommand{Op: store.SessionCreate, Session: store.Session{TTL: "5s"}}).AppendWire(nil)}, store.KindInvalid, "Invalid Session TTL '5000000000', must be between [10s=24h0m0s]"},
		{"no such session", rpc.Request{Method: rpc.SessionRenew, Query: store.Query{Name: "x"}}, store.KindNotFound, "Session id 'x' not found"},
		{"unknown method", rpc.Request{Method: 999}, store.KindInvalid, "unknown method 999"},
		{"not handled", rpc.Request{Method: rpc.TrustRoots}, store.KindNotBuilt, "Trust.Roots is not built yet"},
		{"local only", rpc.Request{Method: rpc.StatusServer, Origin: rpc.FromWAN, Peer: "x.dc2"}, store.KindPermissionDenied, "Permission denied"},
		{"records of keys", rpc.Request{Method: rpc.KVKeys, Representation: rpc.Records}, store.KindInvalid, "KV.Keys has no representation"},
		{"raw list", rpc.Request{Method: rpc.KVList, Representation: rpc.Raw}, store.KindInvalid, "KV.List has no representation"},
		{"no autopilot yet", rpc.Request{Method: rpc.AutopilotConfig}, store.KindNoLeader, "No cluster leader"},
	} {
		before := raft.state.Index()
		_, err := s.Do(t.Context(), &tc.req)
		if err == nil {
			t.Errorf("%s: no error", tc.name)
			continue
		}
		if store.KindOf(err) != tc.kind || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: got kind %d %q, want kind %d %q", tc.name, store.KindOf(err), err, tc.kind, tc.text)
		}
		if m := rpc.Lookup(tc.req.Method); m != nil && !m.Write && raft.state.Index() != before {
			t.Errorf("%s: a read moved the index", tc.name)
		}
	}
}

func TestSessions(t *testing.T) {
	s, raft := newSet(t)
	node := store.RegisterCommand{Node: store.Node{Node: "n", Address: "10.0.0.1"}}
	if _, err := s.Do(t.Context(), &rpc.Request{Method: rpc.CatalogRegister, Body: node.AppendWire(nil)}); err != nil {
		t.Fatal(err)
	}
	create := store.SessionCommand{Op: store.SessionCreate, Session: store.Session{ID: "chosen by the caller", Node: "n", TTL: "10s"}}
	ids := make(map[string]bool)
	for range 2 {
		resp, err := s.Do(t.Context(), &rpc.Request{Method: rpc.SessionCreate, Body: create.AppendWire(nil)})
		if err != nil {
			t.Fatal(err)
		}
		var got struct{ ID string }
		if err := json.Unmarshal(resp.Body, &got); err != nil || !uuidForm.MatchString(got.ID) || ids[got.ID] {
			t.Fatalf("%s, %v", resp.Body, err)
		}
		ids[got.ID] = true
	}
	for id := range ids {
		for _, m := range []rpc.MethodID{rpc.SessionGet, rpc.SessionRenew} {
			resp, err := s.Do(t.Context(), &rpc.Request{Method: m, Query: store.Query{Name: id}, Representation: rpc.Records})
			if err != nil {
				t.Fatal(err)
			}
			list, err := store.DecodeSessions(resp.Body)
			if err != nil || len(list) != 1 || list[0].ID != id || list[0].Behavior != store.BehaviorRelease {
				t.Fatalf("method %d: %v, %v", m, list, err)
			}
		}
	}
	for _, m := range []rpc.MethodID{rpc.SessionList, rpc.SessionNode} {
		resp, err := s.Do(t.Context(), &rpc.Request{Method: m, Query: store.Query{Name: "n"}})
		if err != nil || strings.Count(string(resp.Body), `"Node":"n"`) != 2 {
			t.Errorf("method %d: %v, %v", m, resp, err)
		}
	}
	var id string
	for id = range ids {
	}
	destroy := store.SessionCommand{Op: store.SessionDestroy, Session: store.Session{ID: id}}
	for range 2 {
		if resp, err := s.Do(t.Context(), &rpc.Request{Method: rpc.SessionDestroy, Body: destroy.AppendWire(nil)}); err != nil || string(resp.Body) != "true" {
			t.Errorf("destroy: %v, %v", resp, err)
		}
	}
	if resp, err := s.Do(t.Context(), &rpc.Request{Method: rpc.SessionGet, Query: store.Query{Name: id}}); err != nil || string(resp.Body) != "[]" {
		t.Errorf("after the end: %v, %v", resp, err)
	}
	if n := raft.state.Counts().Sessions; n != 1 {
		t.Errorf("%d sessions left", n)
	}
}

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// A leader that may have been replaced must not tell anybody that a session lives
// on: its successor may end it earlier.
func TestRenewNeedsTheLease(t *testing.T) {
	s, raft := newSet(t)
	must := func(kind store.CommandKind, payload []byte) {
		if res, err := raft.Apply(t.Context(), store.Command{Kind: kind, Payload: payload}); err != nil || res.Err != nil {
			t.Fatal(err, res.Err)
		}
	}
	must(store.CmdRegister, (&store.RegisterCommand{Node: store.Node{Node: "n", Address: "10.0.0.1"}}).AppendWire(nil))
	must(store.CmdSession, (&store.SessionCommand{Op: store.SessionCreate, Session: store.Session{ID: "s", Node: "n"}}).AppendWire(nil))
	renew := func(id string) error {
		_, err := s.Do(t.Context(), &rpc.Request{Method: rpc.SessionRenew, Query: store.Query{Name: id}})
		return err
	}
	if err := renew("s"); err != nil || raft.verified != 0 {
		t.Errorf("with a lease: %v, a quorum asked %d times", err, raft.verified)
	}
	raft.lease = []error{consensus.ErrLease}
	if err := renew("s"); err != nil || raft.verified != 1 {
		t.Errorf("with a quorum: %v, asked %d times", err, raft.verified)
	}
	for _, id := range []string{"s", "unknown"} {
		raft.lease, raft.verify = []error{consensus.ErrLease}, store.ErrNoLeader
		if err := renew(id); !errors.Is(err, store.ErrNoLeader) {
			t.Errorf("%s without a quorum: %v", id, err)
		}
	}
	raft.lose()
	if err := renew("s"); !errors.Is(err, store.ErrNoLeader) {
		t.Errorf("on a follower: %v", err)
	}
}

func TestMetricsLint(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := newMetrics(reg)
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	names := []string{"landbridge_endpoint_requests_total", "landbridge_endpoint_write_seconds"}
	if n, err := testutil.GatherAndCount(reg, names...); err != nil || n != 3 {
		t.Errorf("%d series from the start, %v; want those of KV.Apply", n, err)
	}
	m.methods[rpc.KVGet].failed.Add(1)
	m.methods[rpc.TxnApply].ok.Add(2)
	const want = `
# HELP landbridge_endpoint_requests_total Requests this server answered itself, by method and outcome; of methods that were asked for.
# TYPE landbridge_endpoint_requests_total counter
landbridge_endpoint_requests_total{method="KV.Apply",outcome="error"} 0
landbridge_endpoint_requests_total{method="KV.Apply",outcome="ok"} 0
landbridge_endpoint_requests_total{method="KV.Get",outcome="error"} 1
landbridge_endpoint_requests_total{method="KV.Get",outcome="ok"} 0
landbridge_endpoint_requests_total{method="Txn.Apply",outcome="error"} 0
landbridge_endpoint_requests_total{method="Txn.Apply",outcome="ok"} 2
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), names[0]); err != nil {
		t.Error(err)
	}
	if n, err := testutil.GatherAndCount(reg, names[1]); err != nil || n != 2 {
		t.Errorf("%d methods have durations, %v; want the two that write", n, err)
	}
}

func TestAutopilot(t *testing.T) {
	s, _ := newSet(t)
	cmd := store.AutopilotCommand{Config: store.AutopilotConfig{CleanupDeadServers: true, MaxTrailingLogs: 250, LastContactThreshold: int64(200 * time.Millisecond)}}
	if got := body(t, s, &rpc.Request{Method: rpc.AutopilotSetConfig, Body: cmd.AppendWire(nil)}); got != "true" {
		t.Fatalf("set: got %s", got)
	}
	got := body(t, s, &rpc.Request{Method: rpc.AutopilotConfig})
	if !strings.HasPrefix(got, `{"CleanupDeadServers":true,"LastContactThreshold":"200ms","MaxTrailingLogs":250,`) {
		t.Errorf("got %s", got)
	}
	cmd.CAS, cmd.Config.ModifyIndex = true, 1
	if got := body(t, s, &rpc.Request{Method: rpc.AutopilotSetConfig, Body: cmd.AppendWire(nil)}); got != "false" {
		t.Errorf("set with an old index: got %s, want false", got)
	}
}

func TestConsistency(t *testing.T) {
	lapsed := &store.Error{Kind: store.KindNoLeader, Message: "No cluster leader", Cause: consensus.ErrLease}
	for _, tc := range []struct {
		name     string
		mode     store.Consistency
		lose     bool
		lease    []error
		verify   error
		ok       bool
		verified int
	}{
		{name: "default", mode: store.Default, ok: true},
		{name: "default without leadership", mode: store.Default, lose: true},
		{name: "lease refused before", mode: store.Default, lease: []error{store.ErrNoLeader}},
		{name: "lease refused after", mode: store.Default, lease: []error{nil, store.ErrNoLeader}},
		{name: "lease ran out before: asks a quorum", mode: store.Default, lease: []error{lapsed}, ok: true, verified: 1},
		{name: "lease ran out after: asks and reads again", mode: store.Default, lease: []error{nil, lapsed}, ok: true, verified: 1},
		{name: "lease ran out, no quorum", mode: store.Default, lease: []error{lapsed}, verify: store.ErrNoLeader, verified: 1},
		{name: "consistent", mode: store.Consistent, ok: true, verified: 1},
		{name: "consistent without quorum", mode: store.Consistent, verify: store.ErrNoLeader, verified: 1},
		{name: "stale", mode: store.Stale, ok: true},
		{name: "stale without leader", mode: store.Stale, lose: true, ok: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, raft := newSet(t)
			put(t, s, "k", "v")
			raft.lease, raft.verify, raft.contact = tc.lease, tc.verify, 3*time.Second
			if tc.lose {
				raft.lose()
			}
			resp, err := s.Do(t.Context(), &rpc.Request{Method: rpc.KVGet, Query: store.Query{Name: "k"}, Consistency: tc.mode})
			if (err == nil) != tc.ok {
				t.Fatalf("got %v, want ok %v", err, tc.ok)
			}
			if raft.verified != tc.verified {
				t.Errorf("asked the quorum %d times, want %d", raft.verified, tc.verified)
			}
			if err != nil {
				if store.KindOf(err) != store.KindNoLeader {
					t.Errorf("kind %d, want KindNoLeader", store.KindOf(err))
				}
				return
			}
			if resp.Effective != tc.mode || resp.KnownLeader == tc.lose || (resp.LastContact != 0) != tc.lose {
				t.Errorf("got %+v", resp)
			}
		})
	}
}
