package endpoint

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
	"landbridge/store/state"
)

// Operator is what the methods that act on the Raft group need.
type Operator struct {
	// Autopilot returns what autopilot thinks of the servers; nil unless this
	// server leads and has looked at them.
	Autopilot func() *AutopilotState
	// RemoveServer and TransferLeadership are consensus.Node's.
	RemoveServer       func(ctx context.Context, id string) error
	TransferLeadership func(ctx context.Context, id string) error
}

// AutopilotState is what autopilot thinks of the servers.
type AutopilotState struct {
	Healthy          bool
	FailureTolerance int
	Leader           string
	Voters           []string
	Servers          []AutopilotServer // the leader first, then the other voters
}

// AutopilotServer is what autopilot knows of a server.
type AutopilotServer struct {
	ID, Name, Address, Version string

	NodeStatus  string // alive, failed, left
	Status      string // leader, voter, non-voter, staging, none
	NodeType    string // what autopilot wants it to be
	Meta        map[string]string
	LastContact time.Duration
	LastTerm    uint64
	LastIndex   uint64
	Healthy     bool
	StableSince time.Time
}

// voter is whether it has a vote now.
func (s *AutopilotServer) voter() bool { return s.Status == "leader" || s.Status == "voter" }

// HandleOperator sets the methods that act on the Raft group.
func (s *Set) HandleOperator(cfg Operator) {
	o := &operator{cfg, s}
	s.Handle(rpc.AutopilotHealth, o.health)
	s.Handle(rpc.AutopilotState, o.state)
	s.Handle(rpc.RaftRemovePeer, o.removePeer)
	s.Handle(rpc.RaftTransferLeader, o.transferLeader)
}

type operator struct {
	Operator
	set *Set
}

// autopilot returns the state, or an error of KindNoLeader: a new leader has one
// within a second.
func (o *operator) autopilot(req *rpc.Request) (*AutopilotState, error) {
	if err := wants(req, false); err != nil {
		return nil, err
	}
	st := o.Autopilot()
	if st == nil {
		return nil, store.ErrNoLeader
	}
	return st, nil
}

// answer encodes an answer that is asked for seldom.
func (o *operator) answer(req *rpc.Request, v any) (*rpc.Response, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, store.Errorf(store.KindInternal, "encoding an answer for operators: %w", err)
	}
	resp := o.set.response(req, 1)
	return resp, finish(req, resp, body)
}

// stableSince is how clients know the time: in UTC, to the second.
func stableSince(t time.Time) time.Time { return t.Round(time.Second).UTC() }

func (o *operator) health(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
	st, err := o.autopilot(req)
	if err != nil {
		return nil, err
	}
	type server struct {
		ID, Name, Address, SerfStatus, Version string

		Leader      bool
		LastContact string
		LastTerm    uint64
		LastIndex   uint64
		Healthy     bool
		Voter       bool
		StableSince time.Time
	}
	out := struct {
		Healthy          bool
		FailureTolerance int
		Servers          []server
	}{st.Healthy, st.FailureTolerance, []server{}}
	for i := range st.Servers {
		s := &st.Servers[i]
		out.Servers = append(out.Servers, server{
			s.ID, s.Name, s.Address, s.NodeStatus, s.Version, s.ID == st.Leader, s.LastContact.String(),
			s.LastTerm, s.LastIndex, s.Healthy, s.voter(), stableSince(s.StableSince),
		})
	}
	return o.answer(req, out)
}

func (o *operator) state(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
	st, err := o.autopilot(req)
	if err != nil {
		return nil, err
	}
	type server struct {
		ID, Name, Address, NodeStatus, Version, LastContact string

		LastTerm    uint64
		LastIndex   uint64
		Healthy     bool
		StableSince time.Time
		ReadReplica bool
		Status      string
		Meta        map[string]string
		NodeType    string
	}
	out := struct {
		Healthy          bool
		FailureTolerance int
		// What redundancy zones would add to FailureTolerance; there are none.
		OptimisticFailureTolerance int
		Servers                    map[string]server
		Leader                     string
		Voters                     []string
	}{st.Healthy, st.FailureTolerance, 0, make(map[string]server, len(st.Servers)), st.Leader, append([]string{}, st.Voters...)}
	for i := range st.Servers {
		s := &st.Servers[i]
		out.Servers[s.ID] = server{
			ID: s.ID, Name: s.Name, Address: s.Address, NodeStatus: s.NodeStatus, Version: s.Version, LastContact: s.LastContact.String(),
			LastTerm: s.LastTerm, LastIndex: s.LastIndex, Healthy: s.Healthy, StableSince: stableSince(s.StableSince),
			Status: s.Status, Meta: s.Meta, NodeType: s.NodeType,
		}
	}
	return o.answer(req, out)
}

// removePeer takes a server out of the Raft group. One that lives is added again
// when the leader next looks at the members.
func (o *operator) removePeer(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	var peer store.RaftPeer
	if err := peer.DecodeWire(req.Body); err != nil {
		return nil, store.Errorf(store.KindInvalid, "Raft.RemovePeer: %w", err)
	}
	if !o.set.raft.IsLeader() {
		return nil, store.ErrNoLeader
	}
	servers, err := o.set.cfg.Servers()
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(servers, func(s RaftServer) bool {
		return s.ID == peer.ID && peer.ID != "" || s.Address == peer.Address && peer.Address != ""
	})
	if i < 0 {
		return nil, notInGroup(peer)
	}
	o.set.cfg.Logger.Warn("an operator removes a server from raft", "node", servers[i].Node, "id", servers[i].ID, "address", servers[i].Address)
	if err := o.RemoveServer(ctx, servers[i].ID); err != nil {
		return nil, err
	}
	return &rpc.Response{Index: 1, KnownLeader: true}, nil
}

func notInGroup(p store.RaftPeer) error {
	if p.ID != "" {
		return store.Errorf(store.KindInvalid, "id %q was not found in the Raft configuration", p.ID)
	}
	return store.Errorf(store.KindInvalid, "address %q was not found in the Raft configuration", p.Address)
}

// transferLeader has another voter lead, and answers when it does.
func (o *operator) transferLeader(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	if !o.set.raft.IsLeader() {
		return nil, store.ErrNoLeader
	}
	servers, err := o.set.cfg.Servers()
	if err != nil {
		return nil, err
	}
	to := req.Query.Name
	self, _ := o.set.raft.Leader()
	others := slices.ContainsFunc(servers, func(s RaftServer) bool { return s.Voter && s.ID != self })
	if to == "" && !others {
		return nil, store.Errorf(store.KindInvalid, "cannot find peer")
	}
	if to != "" {
		switch i := slices.IndexFunc(servers, func(s RaftServer) bool { return s.ID == to }); {
		case i < 0:
			return nil, notInGroup(store.RaftPeer{ID: to})
		case to == self:
			return nil, store.Errorf(store.KindInvalid, "cannot transfer leadership to itself")
		case !servers[i].Voter:
			return nil, store.Errorf(store.KindInvalid, "cannot transfer leadership to %q, which has no vote", to)
		}
	}
	o.set.cfg.Logger.Info("an operator hands leadership over", "to", to)
	if err := o.TransferLeadership(ctx, to); err != nil {
		var e *store.Error
		if errors.As(err, &e) && e.Kind == store.KindInternal {
			return nil, store.Errorf(store.KindInternal, "leadership was not handed over: %w", errors.Unwrap(e))
		}
		return nil, err
	}
	return &rpc.Response{Index: 1, KnownLeader: true, Body: []byte(`{"Success":true}`)}, nil
}

func (s *Set) raftConfiguration(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	if err := wants(req, false); err != nil {
		return nil, err
	}
	var failed error
	_, servers, err := once(ctx, s, req, nil, func(*state.Store, *state.Watch, *store.Query) (store.Index, []RaftServer) {
		var list []RaftServer
		list, failed = s.cfg.Servers()
		return 1, list
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(struct {
		Servers []RaftServer
		Index   uint64
	}{Servers: append([]RaftServer{}, servers...)})
	if err != nil {
		return nil, store.Errorf(store.KindInternal, "encoding the Raft configuration: %w", err)
	}
	resp := s.response(req, 1)
	return resp, finish(req, resp, body)
}

func (s *Set) autopilotConfig(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	if err := wants(req, true); err != nil {
		return nil, err
	}
	return serve(ctx, s, req, func(st *state.Store, w *state.Watch, _ *store.Query) (store.Index, *store.AutopilotConfig) {
		return st.Autopilot(w)
	}, checked, func(_ *Set, req *rpc.Request, c *store.AutopilotConfig, resp *rpc.Response) error {
		switch {
		case c == nil:
			// A leader stores one when it begins; until then there is nothing to tell.
			return store.Errorf(store.KindNoLeader, "No cluster leader: autopilot's configuration is not stored yet")
		case req.Representation == rpc.Records:
			resp.Body = c.AppendWire(nil)
			return nil
		}
		return finish(req, resp, c.AppendJSON(nil))
	})
}

func (s *Set) autopilotSetConfig(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	var cmd store.AutopilotCommand
	if err := cmd.DecodeWire(req.Body); err != nil {
		return nil, store.Errorf(store.KindInvalid, "Autopilot.SetConfig: %w", err)
	}
	return s.write(ctx, store.CmdAutopilot, req.Body)
}
