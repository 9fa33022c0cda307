package endpoint

import (
	"context"
	"encoding/json"

	"landbridge/forwarding/rpc"
	"landbridge/store"
	"landbridge/store/state"
)

// known starts the answer of a method that any server answers from what it knows.
func (s *Set) known() *rpc.Response {
	resp := &rpc.Response{Index: 1, KnownLeader: true, Effective: store.Stale}
	if !s.raft.IsLeader() {
		id, _ := s.raft.Leader()
		resp.KnownLeader = id != ""
		resp.LastContact = s.raft.LastContact()
	}
	return resp
}

func (s *Set) ping(context.Context, *rpc.Request) (*rpc.Response, error) {
	return &rpc.Response{Index: 1}, nil
}

func (s *Set) statusLeader(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
	if err := wants(req, false); err != nil {
		return nil, err
	}
	_, addr := s.raft.Leader()
	resp := s.known()
	return resp, finish(req, resp, store.AppendJSONString(nil, addr))
}

func (s *Set) statusPeers(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
	if err := wants(req, false); err != nil {
		return nil, err
	}
	servers, err := s.cfg.Servers()
	if err != nil {
		return nil, err
	}
	addrs := make([]string, len(servers))
	for i, srv := range servers {
		addrs[i] = srv.Address
	}
	resp := s.known()
	return resp, finish(req, resp, store.AppendJSONStrings(nil, addrs))
}

// statusServer has records only: it is for the servers of this datacenter.
func (s *Set) statusServer(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
	if req.Representation != rpc.Records {
		return nil, store.Errorf(store.KindInvalid, "Status.Server answers with records only")
	}
	st := s.cfg.Status()
	resp := s.known()
	resp.Body = st.AppendWire(nil)
	return resp, nil
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
	}, func(_ *Set, req *rpc.Request, c *store.AutopilotConfig, resp *rpc.Response) error {
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
