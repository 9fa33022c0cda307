package endpoint

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// group is a Raft group that operators act on: its calls are noted.
type group struct {
	servers []RaftServer
	pilot   *AutopilotState
	fails   error
	calls   []string
}

func newGroup(t *testing.T) (*Set, *fakeRaft, *group) {
	s, raft := newSet(t)
	g := &group{servers: []RaftServer{
		{ID: "id1", Node: "a", Address: "10.0.0.1:8300", Leader: true, Voter: true},
		{ID: "id2", Node: "b", Address: "10.0.0.2:8300", Voter: true},
		{ID: "id3", Node: "(unknown)", Address: "10.0.0.3:8300"},
	}}
	s.cfg.Servers = func() ([]RaftServer, error) { return g.servers, nil }
	s.HandleOperator(Operator{
		Autopilot:          func() *AutopilotState { return g.pilot },
		RemoveServer:       func(_ context.Context, id string) error { g.calls = append(g.calls, "remove "+id); return g.fails },
		TransferLeadership: func(_ context.Context, id string) error { g.calls = append(g.calls, "transfer "+id); return g.fails },
	})
	return s, raft, g
}

func TestRaftOperations(t *testing.T) {
	for _, c := range []struct {
		name  string
		peer  *store.RaftPeer // nil: a transfer
		to    string
		alone bool
		fails error
		want  string // of the answer or the error
		call  string
		kind  store.Kind
	}{
		{name: "remove by id", peer: &store.RaftPeer{ID: "id3"}, call: "remove id3"},
		{name: "remove by address", peer: &store.RaftPeer{Address: "10.0.0.2:8300"}, call: "remove id2"},
		{name: "remove an unknown id", peer: &store.RaftPeer{ID: "zz"}, want: `id "zz" was not found in the Raft configuration`, kind: store.KindInvalid},
		{name: "remove an unknown address", peer: &store.RaftPeer{Address: "1.2.3.4:8300"}, want: `address "1.2.3.4:8300" was not found in the Raft configuration`, kind: store.KindInvalid},
		{name: "remove nobody", peer: &store.RaftPeer{}, want: `address "" was not found in the Raft configuration`, kind: store.KindInvalid},
		{name: "remove without a quorum", peer: &store.RaftPeer{ID: "id3"}, fails: store.Errorf(store.KindTimeout, "stopped waiting"), call: "remove id3", want: "stopped waiting", kind: store.KindTimeout},
		{name: "transfer", want: `{"Success":true}`, call: "transfer "},
		{name: "transfer to one", to: "id2", want: `{"Success":true}`, call: "transfer id2"},
		{name: "transfer when alone", alone: true, want: "cannot find peer", kind: store.KindInvalid},
		{name: "transfer to a stranger", to: "zz", want: `id "zz" was not found in the Raft configuration`, kind: store.KindInvalid},
		{name: "transfer to the leader", to: "id1", want: "cannot transfer leadership to itself", kind: store.KindInvalid},
		{name: "transfer to one without a vote", to: "id3", want: `cannot transfer leadership to "id3", which has no vote`, kind: store.KindInvalid},
		{name: "transfer that fails", to: "id2", call: "transfer id2", want: "leadership was not handed over: leadership transfer timeout", kind: store.KindInternal,
			fails: &store.Error{Kind: store.KindInternal, Message: "write refused: leadership transfer timeout", Cause: errors.New("leadership transfer timeout")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, _, g := newGroup(t)
			g.fails = c.fails
			if c.alone {
				g.servers = g.servers[:1]
			}
			req := &rpc.Request{Method: rpc.RaftTransferLeader, Query: store.Query{Name: c.to}}
			if c.peer != nil {
				req = &rpc.Request{Method: rpc.RaftRemovePeer, Body: c.peer.AppendWire(nil)}
			}
			resp, err := s.Do(t.Context(), req)
			got := ""
			if err != nil {
				got = err.Error()
			} else {
				got = string(resp.Body)
			}
			if got != c.want || store.KindOf(err) != c.kind && err != nil {
				t.Errorf("got %q of kind %d, want %q of kind %d", got, store.KindOf(err), c.want, c.kind)
			}
			if calls := strings.Join(g.calls, ", "); calls != c.call {
				t.Errorf("Raft was told to %q, want %q", calls, c.call)
			}
		})
	}
	s, raft, g := newGroup(t)
	raft.lose()
	for _, m := range []rpc.MethodID{rpc.RaftRemovePeer, rpc.RaftTransferLeader, rpc.AutopilotHealth, rpc.AutopilotState} {
		if _, err := s.Do(t.Context(), &rpc.Request{Method: m}); !errors.Is(err, store.ErrNoLeader) {
			t.Errorf("%s of a follower: %v, want no leader", rpc.Lookup(m).Name, err)
		}
	}
	if len(g.calls) > 0 {
		t.Errorf("a follower did %v", g.calls)
	}
}

func TestAutopilotAnswers(t *testing.T) {
	s, _, g := newGroup(t)
	g.pilot = &AutopilotState{FailureTolerance: 1, Leader: "id1", Voters: []string{"id1", "id2"}, Servers: []AutopilotServer{
		{ID: "id1", Name: "a", Address: "10.0.0.1:8300", Version: "1.21.4", NodeStatus: "alive", Status: "leader", NodeType: "voter",
			Meta: map[string]string{"rack": "r1"}, LastTerm: 2, LastIndex: 416, Healthy: true, StableSince: time.Unix(1e9, 6e8)},
		{ID: "id3", Name: "c", Address: "10.0.0.3:8300", NodeStatus: "failed", Status: "non-voter", NodeType: "voter",
			LastContact: 3 * time.Millisecond, StableSince: time.Unix(2e9, 0).In(time.FixedZone("x", 3600))},
	}}
	if got, want := body(t, s, &rpc.Request{Method: rpc.AutopilotHealth}),
		`{"Healthy":false,"FailureTolerance":1,"Servers":[`+
			`{"ID":"id1","Name":"a","Address":"10.0.0.1:8300","SerfStatus":"alive","Version":"1.21.4","Leader":true,"LastContact":"0s","LastTerm":2,"LastIndex":416,"Healthy":true,"Voter":true,"StableSince":"2001-09-09T01:46:41Z"},`+
			`{"ID":"id3","Name":"c","Address":"10.0.0.3:8300","SerfStatus":"failed","Version":"","Leader":false,"LastContact":"3ms","LastTerm":0,"LastIndex":0,"Healthy":false,"Voter":false,"StableSince":"2033-05-18T03:33:20Z"}]}`; got != want {
		t.Errorf("health:\n%s\nwant\n%s", got, want)
	}
	if got, want := body(t, s, &rpc.Request{Method: rpc.AutopilotState}),
		`{"Healthy":false,"FailureTolerance":1,"OptimisticFailureTolerance":0,"Servers":{`+
			`"id1":{"ID":"id1","Name":"a","Address":"10.0.0.1:8300","NodeStatus":"alive","Version":"1.21.4","LastContact":"0s","LastTerm":2,"LastIndex":416,"Healthy":true,"StableSince":"2001-09-09T01:46:41Z","ReadReplica":false,"Status":"leader","Meta":{"rack":"r1"},"NodeType":"voter"},`+
			`"id3":{"ID":"id3","Name":"c","Address":"10.0.0.3:8300","NodeStatus":"failed","Version":"","LastContact":"3ms","LastTerm":0,"LastIndex":0,"Healthy":false,"StableSince":"2033-05-18T03:33:20Z","ReadReplica":false,"Status":"non-voter","Meta":null,"NodeType":"voter"}},`+
			`"Leader":"id1","Voters":["id1","id2"]}`; got != want {
		t.Errorf("state:\n%s\nwant\n%s", got, want)
	}
}

func TestUsage(t *testing.T) {
	f := newFederation(t, "dc1", "dc2", "dc3")
	s := f.sets["dc1"]
	web(t, s, "n1", store.Passing)
	web(t, s, "n2", store.Passing)
	register(t, s, &store.RegisterCommand{Node: store.Node{Node: "n1", Address: "10.0.0.1"}, Service: &store.Service{ID: store.ServerService, Name: store.ServerService}})
	register(t, s, &store.RegisterCommand{Node: store.Node{Node: "n1", Address: "10.0.0.1"}, Service: &store.Service{ID: "gw", Name: "gw", Kind: "mesh-gateway"}})
	register(t, s, &store.RegisterCommand{Node: store.Node{Node: "n1", Address: "10.0.0.1"}, Service: &store.Service{ID: "nat", Name: "nat", Connect: []byte(`{"Native":true}`)}})
	const kinds = `{"api-gateway":0,"connect-native":%,"connect-proxy":0,"ingress-gateway":0,"mesh-gateway":%,"terminating-gateway":0}`
	one, none := strings.ReplaceAll(kinds, "%", "1"), strings.ReplaceAll(kinds, "%", "0")
	const tail = `},"Index":6,"LastContact":0,"KnownLeader":true,"ConsistencyLevel":"leader","NotModified":false,"Backend":0,"ResultsFilteredByACLs":false}`
	dc1 := `{"Usage":{"dc1":{"Services":4,"ServiceInstances":5,"ConnectServiceInstances":` + one + `,"BillableServiceInstances":3,"Nodes":2}`
	other := `{"Services":0,"ServiceInstances":0,"ConnectServiceInstances":` + none + `,"BillableServiceInstances":0,"Nodes":0}`
	if got := body(t, s, &rpc.Request{Method: rpc.OperatorUsage}); got != dc1+tail {
		t.Errorf("got\n%s\nwant\n%s", got, dc1+tail)
	}
	global := &rpc.Request{Method: rpc.OperatorUsage, Query: store.Query{Name: rpc.UsageGlobal}, Token: "secret"}
	if got, want := body(t, s, global), dc1+`,"dc2":`+other+`,"dc3":`+other+tail; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	// A datacenter without an answer is no datacenter without services.
	f.down["dc3"] = store.ErrNoPath
	_, err := s.Do(t.Context(), global)
	if store.KindOf(err) != store.KindNoPath || err.Error() != "no usage of dc3: No path to datacenter" {
		t.Errorf("with dc3 down: %v", err)
	}
}
