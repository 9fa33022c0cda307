package node

import (
	"github.com/hashicorp/raft"
	autopilot "github.com/hashicorp/raft-autopilot"

	"landbridge/forwarding/endpoint"
)

// operator is what the methods for operators need.
func (s *server) operator() endpoint.Operator {
	return endpoint.Operator{
		Autopilot:          s.autopilot,
		RemoveServer:       s.raft.RemoveServer,
		TransferLeadership: s.raft.TransferLeadership,
	}
}

// autopilot is what the library thinks of the servers, in our own words.
func (s *server) autopilot() *endpoint.AutopilotState {
	st := s.leader.AutopilotState()
	if st == nil {
		return nil
	}
	ids := make([]raft.ServerID, 0, len(st.Servers))
	for id := range st.Servers {
		ids = append(ids, id)
	}
	autopilot.SortServers(ids, st)
	out := &endpoint.AutopilotState{Healthy: st.Healthy, FailureTolerance: st.FailureTolerance, Leader: string(st.Leader)}
	for _, id := range st.Voters {
		out.Voters = append(out.Voters, string(id))
	}
	for _, id := range ids {
		srv := st.Servers[id]
		one := endpoint.AutopilotServer{
			ID: string(id), Name: srv.Server.Name, Address: string(srv.Server.Address), Version: srv.Server.Version,
			NodeStatus: string(srv.Server.NodeStatus), Status: string(srv.State), NodeType: string(srv.Server.NodeType),
			LastContact: srv.Stats.LastContact, LastTerm: srv.Stats.LastTerm, LastIndex: srv.Stats.LastIndex,
			Healthy: srv.Health.Healthy, StableSince: srv.Health.StableSince,
		}
		if _, n := s.state.Node(nil, one.Name); n != nil {
			one.Meta = n.Meta
		}
		out.Servers = append(out.Servers, one)
	}
	return out
}

// raftServers is the Raft group with the names that gossip knows.
func (s *server) raftServers() ([]endpoint.RaftServer, error) {
	names := map[string]string{}
	for _, m := range s.n.lan.Members() {
		names[m.Tags["id"]] = m.Name
	}
	leaderID, _ := s.raft.Leader()
	last := s.raft.Progress()
	group := s.raft.Servers()
	list := make([]endpoint.RaftServer, 0, len(group))
	for _, srv := range group {
		r := endpoint.RaftServer{ID: srv.ID, Node: names[srv.ID], Address: srv.Address, Leader: srv.ID == leaderID, ProtocolVersion: "3", Voter: srv.Voter, LastIndex: last[srv.ID]}
		if r.Node == "" {
			r.Node = "(unknown)"
		}
		list = append(list, r)
	}
	return list, nil
}
