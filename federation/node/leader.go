package node

import (
	"context"
	"errors"

	"landbridge/forwarding/endpoint"
	"landbridge/forwarding/rpc"
	"landbridge/lan/gossip"
	"landbridge/lan/leader"
	"landbridge/store"
	"landbridge/store/consensus"
)

// newLeader builds what only the leader does, and what makes the first one.
func (s *server) newLeader(set *endpoint.Set) (err error) {
	n, cfg := s.n, &s.n.cfg
	n.membersChanged = make(chan struct{}, 1)
	lc := leader.Config{
		NodeID: n.id, Node: cfg.NodeName, Datacenter: cfg.Datacenter,
		Members: s.leaderMembers, MembersChanged: n.membersChanged,
		Consensus: s.raft, State: s.state, ServerStatus: s.askStatus,
		ForceLeave: func(name string) error { return n.lan.RemoveFailed(name, false) },
		Autopilot:  cfg.Autopilot, HeartbeatPause: consensus.HeartbeatPause(cfg.RaftMultiplier), Bootstrap: cfg.Bootstrap,
		ACL: s.leaderACL(), Loops: s.replicationLoops(), Logger: n.logger("leader"), Registerer: cfg.Registerer,
	}
	lc.Tasks = append(lc.Tasks, leader.Task{Name: "certificate authority", Run: s.authority.EstablishLeadership})
	if s.leader, err = leader.New(lc); err != nil {
		return err
	}
	expect := cfg.BootstrapExpect
	if cfg.Bootstrap || cfg.DevMode {
		expect = 1
	}
	s.boot, err = leader.NewBootstrapper(leader.BootstrapConfig{
		NodeID: n.id, Address: n.lanAddr(cfg.Ports.Server).String(), Expect: expect,
		Members: s.leaderMembers, Joining: func() bool { return n.joining.Load() },
		Raft: s.raft.Servers, Bootstrap: s.raft.Bootstrap, Ask: s.askPromise,
		Logger: n.logger("bootstrap"),
	})
	s.rivalsChanged = make(chan struct{}, 1)
	s.rivals = leader.NewRivals(leader.RivalsConfig{
		NodeID: n.id, Members: s.leaderMembers, Changed: s.rivalsChanged, History: s.history,
		HasLeader: func() bool { id, _ := s.raft.Leader(); return id != "" },
		Ask:       s.askStatus, Logger: n.logger("leader"), Registerer: cfg.Registerer,
	})
	set.Handle(rpc.StatusBootstrap, s.promise)
	set.Handle(rpc.MemberMissed, s.missed.answer)
	set.Handle(rpc.CoordinateUpdate, s.updateCoordinate)
	set.Handle(rpc.EventFire, s.fireEvent)
	set.Handle(rpc.KeyringRings, s.keyringRings)
	set.Handle(rpc.KeyringRing, s.keyringRing)
	return err
}

// watchRivals ends this server when its group was recovered without it, and sees
// to it that it does not start again.
func (s *server) watchRivals(ctx context.Context) error {
	err := s.rivals.Run(ctx)
	var over *leader.OverruledError
	if errors.As(err, &over) {
		return errors.Join(err, s.stores.Overrule(over.Recovery))
	}
	return err
}

// askPromise asks a server to let only candidate bootstrap.
func (s *server) askPromise(ctx context.Context, m leader.Member, candidate string) (*store.ServerStatus, error) {
	return s.ask(ctx, m, &rpc.Request{Method: rpc.StatusBootstrap, Query: store.Query{Name: candidate}})
}

// promise is StatusBootstrap.
func (s *server) promise(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
	if err := s.boot.Promise(req.Query.Name); err != nil {
		return nil, err
	}
	st := s.status()
	return &rpc.Response{Body: st.AppendWire(nil)}, nil
}

func (s *server) leaderMembers() []leader.Member {
	members := s.n.lan.Members()
	list := make([]leader.Member, len(members))
	for i, m := range members {
		list[i] = leaderMember(m)
		if m.Status == gossip.Alive && s.missed.gone(m.Name) {
			list[i].Status = leader.Failed
		}
	}
	return list
}

func leaderMember(m gossip.Member) leader.Member {
	lm := leader.NewMember(m.Name, m.Addr, leader.Status(m.Status), m.Tags)
	lm.ProtocolMin, lm.ProtocolMax, lm.ProtocolCur = m.ProtocolMin, m.ProtocolMax, m.ProtocolCur
	return lm
}

// askStatus asks a server of this datacenter, or ourselves, how it is.
func (s *server) askStatus(ctx context.Context, m leader.Member) (*store.ServerStatus, error) {
	if m.ID == s.n.id {
		st := s.status()
		return &st, nil
	}
	return s.ask(ctx, m, &rpc.Request{Method: rpc.StatusServer})
}

// askLeader asks the server that Raft takes for the leader how it is.
func (s *server) askLeader(ctx context.Context) (*store.ServerStatus, error) {
	p, ok := s.n.lanView.Leader()
	if !ok {
		return nil, store.ErrNoLeader
	}
	conn, err := s.n.lanView.Dial(ctx, p)
	if err != nil {
		return nil, err
	}
	return statusFrom(ctx, conn, &rpc.Request{Method: rpc.StatusServer})
}

func (s *server) ask(ctx context.Context, m leader.Member, req *rpc.Request) (*store.ServerStatus, error) {
	conn, err := s.n.lanView.pool.Get(ctx, m.RaftAddress(), m.Name)
	if err != nil {
		return nil, err
	}
	return statusFrom(ctx, conn, req)
}

func statusFrom(ctx context.Context, conn rpc.Doer, req *rpc.Request) (*store.ServerStatus, error) {
	req.Representation, req.Hops = rpc.Records, 1
	resp, err := conn.Do(ctx, req)
	if err != nil {
		return nil, err
	}
	st := new(store.ServerStatus)
	return st, st.DecodeWire(resp.Body)
}
