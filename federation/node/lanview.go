package node

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"landbridge/forwarding"
	"landbridge/forwarding/rpc"
	"landbridge/lan/gossip"
)

// lanDialTimeout bounds a dial inside the datacenter: a host without power refuses
// nothing. One lost packet of TCP's handshake, sent again after a second, fits in.
const lanDialTimeout = 2 * time.Second

// lanView shows the dispatcher the servers of this datacenter, as the LAN pool and
// Raft know them.
type lanView struct {
	self string // our node name
	pool *rpc.Pool
	// leader, leaderChanged and outlook are a server's; a client agent has none.
	leader        func() (id, addr string)
	leaderChanged func() <-chan struct{}
	outlook       func(context.Context) forwarding.Outlook
	ping          func(context.Context, forwarding.Peer) error

	mu      sync.Mutex
	servers []forwarding.Peer // in the order of preference
	names   map[string]string // Raft id -> node name
	cmds    map[string]int    // Raft id -> version of commands
	id      string            // the cluster's, as a living server tells
}

// serverPeer reads a LAN member that is a server.
func serverPeer(m gossip.Member) (forwarding.Peer, bool) {
	port := m.Tags["port"]
	if m.Tags["role"] != "consul" || port == "" {
		return forwarding.Peer{}, false
	}
	return forwarding.Peer{Name: m.Name, Addr: net.JoinHostPort(m.Addr.String(), port), Federated: m.Tags["wan_join_port"] != ""}, true
}

// commandVersion is the version of commands that a server of the Raft group has, also
// of one that is away; 0 if the pool does not know it.
func (v *lanView) commandVersion(id string) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.cmds[id]
}

// refresh takes over what the pool says. Servers that stay keep their place, and
// the first of them its calls; new ones come in behind it at random. That client
// agents spread over them is the business of rotate.
func (v *lanView) refresh(members []gossip.Member) {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := map[string]forwarding.Peer{}
	v.names, v.cmds, v.id = map[string]string{}, map[string]int{}, ""
	for _, m := range members {
		p, ok := serverPeer(m)
		if !ok {
			continue
		}
		v.names[m.Tags["id"]] = m.Name
		v.cmds[m.Tags["id"]], _ = strconv.Atoi(m.Tags[commandTag]) // 0: it does not say
		if m.Status == gossip.Alive && m.Name != v.self {
			now[p.Name] = p
			v.id = cmp.Or(m.Tags[clusterTag], v.id)
		}
	}
	next := make([]forwarding.Peer, 0, len(now))
	for _, p := range v.servers {
		if q, ok := now[p.Name]; ok {
			next = append(next, q)
			delete(now, p.Name)
		}
	}
	first := min(len(next), 1)
	for _, p := range now {
		next = slices.Insert(next, first+rand.IntN(len(next)-first+1), p)
	}
	v.servers = next
}

func (v *lanView) cluster() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.id
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
	name := v.nameOf(id)
	return forwarding.Peer{Name: name, Addr: addr}, name != v.self
}

// nameOf is the node name of a Raft id, or the id.
func (v *lanView) nameOf(id string) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return cmp.Or(v.names[id], id)
}

func (v *lanView) Outlook(ctx context.Context) forwarding.Outlook {
	if v.outlook == nil {
		return forwarding.Electing
	}
	return v.outlook(ctx)
}

func (v *lanView) LeaderChanged() <-chan struct{} {
	if v.leaderChanged == nil {
		return nil
	}
	return v.leaderChanged()
}

// Dial returns the connection to a server. While that has to be made, it waits
// only as long as the leader stays the same: the likeliest reason for a leader
// that does not answer is that there is another one by now.
func (v *lanView) Dial(ctx context.Context, p forwarding.Peer) (rpc.Doer, error) {
	if c := v.pool.Ready(p.Addr, p.Name); c != nil {
		return c, nil
	}
	if v.leaderChanged == nil {
		return v.pool.Get(ctx, p.Addr, p.Name)
	}
	changed := v.leaderChanged()
	if leader, ok := v.Leader(); !ok || leader.Addr != p.Addr {
		return v.pool.Get(ctx, p.Addr, p.Name)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-changed:
			cancel(errLeaderChanged)
		case <-ctx.Done():
		}
	}()
	c, err := v.pool.Get(ctx, p.Addr, p.Name)
	cancel(nil)
	<-done
	if err != nil {
		return nil, err
	}
	return c, nil
}

var errLeaderChanged = errors.New("there is another leader")
