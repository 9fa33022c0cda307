package leader

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"

	"landbridge/store"
	"landbridge/store/consensus"
	"landbridge/store/fsm"
	"landbridge/store/raftlog"
	"landbridge/store/state"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a LAN: a pool whose view is the same for all, unless a server's view
// hides members, and servers with real Raft over an in-memory network.
type world struct {
	t       *testing.T
	mu      sync.Mutex
	members map[string]Member
	hidden  map[string][]string // by viewer: names it does not see
	servers map[string]*server
}

type server struct {
	w       *world
	name    string
	id      string
	member  Member
	trans   *raft.InmemTransport
	stores  *raftlog.Stores
	node    *consensus.Node
	state   *state.Store
	boot    *Bootstrapper
	lead    *Leader
	changed chan struct{}
	started int64
	tasks   []Task

	proc   *proc // nil while it is stopped; guarded by world.mu
	cancel context.CancelFunc
	wg     sync.WaitGroup
	booted bool
}

// proc is a server's process as the others reach it: never changed once it is.
type proc struct {
	id, name string
	node     *consensus.Node
	state    *state.Store
	boot     *Bootstrapper
	started  int64
}

func newWorld(t *testing.T) *world {
	return &world{t: t, members: make(map[string]Member), hidden: make(map[string][]string), servers: make(map[string]*server)}
}

func uuid(n int) string { return fmt.Sprintf("%08d-0000-0000-0000-000000000000", n) }

// add makes a server; start starts it.
func (w *world) add(n, expect int) *server {
	name := fmt.Sprintf("s%d", n)
	s := &server{w: w, name: name, id: uuid(n), stores: raftlog.OpenMemory(), changed: make(chan struct{}, 1)}
	s.member = NewMember(name, netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}), Alive, map[string]string{
		"role": "consul", "id": s.id, "port": "8300", "expect": fmt.Sprint(expect), "raft_vsn": "3", "build": "1.21.4:x"})
	if expect == 1 {
		s.member.Bootstrap = true
	}
	w.mu.Lock()
	w.servers[name] = s
	w.mu.Unlock()
	return s
}

func (s *server) start() *server {
	w, t := s.w, s.w.t
	t.Helper()
	addr := raft.ServerAddress(s.member.RaftAddress())
	_, s.trans = raft.NewInmemTransport(addr)
	w.mu.Lock()
	for _, o := range w.servers {
		if o != s && o.trans != nil {
			o.trans.Connect(addr, s.trans)
			s.trans.Connect(raft.ServerAddress(o.member.RaftAddress()), o.trans)
		}
	}
	w.mu.Unlock()
	s.state = state.New()
	s.started = time.Now().UnixNano()
	log := slog.New(slog.DiscardHandler)
	var err error
	s.node, err = consensus.New(consensus.Config{NodeID: s.id, FSM: fsm.New(s.state, log), Stores: s.stores, Transport: s.trans,
		Logger: log, Fatal: func(err error) { t.Errorf("%s: fatal: %v", s.name, err) }})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.node.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	s.lead, err = New(Config{
		NodeID: s.id, Node: s.name, Datacenter: "dc1", Members: s.view, MembersChanged: s.changed,
		Consensus: s.node, State: s.state, ServerStatus: s.status, Tasks: s.tasks, Bootstrap: s.member.Bootstrap,
		ForceLeave: func(name string) error { w.set(name, Left); return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	s.boot, err = NewBootstrapper(BootstrapConfig{
		NodeID: s.id, Address: s.member.RaftAddress(), Expect: s.member.Expect, Members: s.view, Raft: s.node.Servers,
		Bootstrap: func(conf []consensus.Server) error { s.booted = true; return s.node.Bootstrap(conf) },
		Ask: func(ctx context.Context, m Member, candidate string) (*store.ServerStatus, error) {
			o := w.server(m.Name)
			if o == nil {
				return nil, errors.New("unreachable")
			}
			if err := o.boot.Promise(candidate); err != nil {
				return nil, err
			}
			st := o.own()
			return &st, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	var ctx context.Context
	ctx, s.cancel = context.WithCancel(context.Background())
	s.wg.Go(func() { _ = s.lead.Run(ctx) })
	s.wg.Go(func() {
		if err := s.boot.Run(ctx); err != nil {
			t.Errorf("%s: bootstrap: %v", s.name, err)
		}
	})
	w.mu.Lock()
	w.members[s.name] = s.member
	s.proc = &proc{s.id, s.name, s.node, s.state, s.boot, s.started}
	w.mu.Unlock()
	w.notify()
	return s
}

// stop ends the process; gossip is told separately.
func (s *server) stop() {
	s.cancel()
	s.wg.Wait()
	s.w.mu.Lock()
	for _, o := range s.w.servers {
		if o.trans != nil {
			o.trans.Disconnect(raft.ServerAddress(s.member.RaftAddress()))
		}
	}
	s.trans.DisconnectAll()
	s.trans, s.proc = nil, nil
	s.w.mu.Unlock()
	if err := s.node.Stop(context.Background()); err != nil {
		s.w.t.Error(err)
	}
	s.node = nil
}

func (w *world) server(name string) *proc {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := w.servers[name]; s != nil {
		return s.proc
	}
	return nil
}

func (s *server) view() []Member {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	var out []Member
	for name, m := range s.w.members {
		if !slices.Contains(s.w.hidden[s.name], name) {
			out = append(out, m)
		}
	}
	return out
}

func (s *proc) own() store.ServerStatus {
	st := store.ServerStatus{NodeID: s.id, Node: s.name, ClusterID: s.state.ClusterID(), Leader: s.node.IsLeader(),
		HasState: s.node.HasState(), LastContact: s.node.LastContact(), Started: s.started}
	for _, p := range s.node.Servers() {
		st.Peers = append(st.Peers, p.ID)
	}
	st.LastIndex = s.node.Raft().LastIndex()
	_, _ = fmt.Sscan(s.node.Stats()["last_log_term"], &st.LastTerm)
	return st
}

func (s *server) status(ctx context.Context, m Member) (*store.ServerStatus, error) {
	o := s.w.server(m.Name)
	if o == nil {
		return nil, store.Errorf(store.KindUnreachable, "%s does not answer", m.Name)
	}
	st := o.own()
	return &st, nil
}

func (w *world) put(m Member) {
	w.mu.Lock()
	w.members[m.Name] = m
	w.mu.Unlock()
	w.notify()
}

func (w *world) set(name string, status Status) {
	w.mu.Lock()
	m := w.members[name]
	m.Status = status
	w.members[name] = m
	w.mu.Unlock()
	w.notify()
}

func (w *world) drop(name string) {
	w.mu.Lock()
	delete(w.members, name)
	w.mu.Unlock()
	w.notify()
}

func (w *world) notify() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.servers {
		select {
		case s.changed <- struct{}{}:
		default:
		}
	}
}

func (w *world) stopAll() {
	for _, name := range slices.Sorted(maps.Keys(w.servers)) {
		if s := w.servers[name]; s.node != nil {
			s.stop()
		}
	}
}

// leader waits for the one server that leads, at most a minute.
func (w *world) leader() *server {
	w.t.Helper()
	for range 600 {
		var found []*server
		for _, s := range w.servers {
			if s.node != nil && s.node.IsLeader() && s.node.CheckLease() == nil {
				found = append(found, s)
			}
		}
		if len(found) == 1 {
			return found[0]
		}
		time.Sleep(100 * time.Millisecond)
	}
	w.t.Fatal("no single leader after a minute")
	return nil
}

func clientMember(n int, status Status) Member {
	return NewMember(fmt.Sprintf("c%d", n), netip.AddrFrom4([4]byte{10, 0, 1, byte(n)}), status, map[string]string{"role": "node", "id": uuid(100 + n)})
}
