package endpoint

import (
	"context"

	"landbridge/forwarding/rpc"
	"landbridge/store"
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
