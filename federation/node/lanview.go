package node

import (
	"context"
	"math/rand/v2"
	"net"
	"slices"
	"sync"

	"landbridge/forwarding"
	"landbridge/forwarding/rpc"
	"landbridge/lan/gossip"
)

// lanView shows the dispatcher the servers of this datacenter, as the LAN pool and
// Raft know them.
type lanView struct {
	self string // our node name
	pool *rpc.Pool
	// leader and leaderChanged are Raft's; on a client agent there is neither.
	leader        func() (id, addr string)
	leaderChanged func() <-chan struct{}

	mu      sync.Mutex
	servers []forwarding.Peer // in the order of preference
	names   map[string]string // Raft id -> node name
}

// serverPeer reads a LAN member that is a server.
func serverPeer(m gossip.Member) (forwarding.Peer, bool) {
	port := m.Tags["port"]
	if m.Tags["role"] != "consul" || port == "" {
		return forwarding.Peer{}, false
	}
	return forwarding.Peer{Name: m.Name, Addr: net.JoinHostPort(m.Addr.String(), port), Federated: m.Tags["wan_join_port"] != ""}, true
}

// refresh takes over what the pool says. Servers that stay keep their place; new
// ones come in at random, so that client agents spread over them.
func (v *lanView) refresh(members []gossip.Member) {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := map[string]forwarding.Peer{}
	v.names = map[string]string{}
	for _, m := range members {
		p, ok := serverPeer(m)
		if !ok {
			continue
		}
		v.names[m.Tags["id"]] = m.Name
		if m.Status == gossip.Alive && m.Name != v.self {
			now[p.Name] = p
		}
	}
	next := make([]forwarding.Peer, 0, len(now))
	for _, p := range v.servers {
		if q, ok := now[p.Name]; ok {
			next = append(next, q)
			delete(now, p.Name)
		}
	}
	for _, p := range now {
		next = slices.Insert(next, rand.IntN(len(next)+1), p)
	}
	v.servers = next
}

func (v *lanView) Servers() []forwarding.Peer {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.servers)
}

func (v *lanView) Failed(p forwarding.Peer) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if i := slices.IndexFunc(v.servers, func(q forwarding.Peer) bool { return q.Name == p.Name }); i >= 0 {
		failed := v.servers[i]
		v.servers = append(slices.Delete(v.servers, i, i+1), failed)
	}
}

func (v *lanView) Leader() (forwarding.Peer, bool) {
	if v.leader == nil {
		return forwarding.Peer{}, false
	}
	id, addr := v.leader()
	if addr == "" {
		return forwarding.Peer{}, false
	}
	v.mu.Lock()
	name, ok := v.names[id]
	v.mu.Unlock()
	if !ok {
		name = id
	}
	return forwarding.Peer{Name: name, Addr: addr}, name != v.self
}

func (v *lanView) LeaderChanged() <-chan struct{} {
	if v.leaderChanged == nil {
		return nil
	}
	return v.leaderChanged()
}

func (v *lanView) Dial(ctx context.Context, p forwarding.Peer) (rpc.Doer, error) {
	return v.pool.Get(ctx, p.Addr, p.Name)
}
