package node

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landbridge/forwarding/rpc"
	"landbridge/lan/gossip"
	"landbridge/store"
)

const (
	// missedFirst is between the end of a session and the first look: a process that
	// is killed closes one connection after another.
	missedFirst = 200 * time.Millisecond
	missedEvery = 500 * time.Millisecond
	// missedMost bounds the members that are looked at at once; of more, gossip tells.
	missedMost = 64
	// missedAgree is when gossip, having had ample time, is believed instead.
	missedAgree = time.Minute
	missedTell  = 5 * time.Second // bounds a word to the leader
)

// missed looks at client agents whose session with a server ended, on the leader. One
// whose machine refuses connections for as long as gossip takes at the least to fail a
// member is failed for the catalog: gossip finds it by chance, a few seconds later.
// A process that was started again by then, or stands still, and a machine that says
// nothing are left to gossip.
type missed struct {
	n     *Node
	told  chan string // by servers
	found prometheus.Counter

	mu   sync.Mutex
	seen map[string]bool // looked at; true: its process is gone
}

func newMissed(n *Node) *missed {
	m := &missed{n: n, told: make(chan string, missedMost), seen: make(map[string]bool),
		found: prometheus.NewCounter(prometheus.CounterOpts{Name: "landbridge_lan_missed_agents_total",
			Help: "Client agents failed because their machine refused connections, before gossip found them, as leader."})}
	n.cfg.Registerer.MustRegister(m.found)
	return m
}

// lost is called by any server when a client agent's session ended.
func (m *missed) lost(agent string) {
	select {
	case m.told <- agent:
	default: // so many at once are no single deaths
	}
}

// run tells the leader of agents whose sessions ended here, until ctx ends.
func (m *missed) run(ctx context.Context) error {
	var looks sync.WaitGroup
	defer looks.Wait()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case name := <-m.told:
			if !m.begin(name) {
				continue
			}
			looks.Go(func() {
				defer m.end(name)
				m.look(ctx, name)
			})
		}
	}
}

// begin notes that a member is looked at; false if it is already, or too many are.
func (m *missed) begin(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.seen[name]; ok || len(m.seen) >= missedMost {
		return false
	}
	m.seen[name] = false
	return true
}

func (m *missed) end(name string) {
	m.mu.Lock()
	gone := m.seen[name]
	delete(m.seen, name)
	m.mu.Unlock()
	if gone {
		m.changed()
	}
}

// gone reports whether a member's process is known to have ended.
func (m *missed) gone(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.seen[name]
}

// changed has the leader bring the catalog up to date.
func (m *missed) changed() {
	select {
	case m.n.membersChanged <- struct{}{}:
	default:
	}
}

// look looks at a member until it is there, gossip has found it too, or another server
// leads: a follower looks once and tells the leader.
func (m *missed) look(ctx context.Context, name string) {
	begun, pause := time.Now(), missedFirst
	need := m.n.lan.SoonestFailed()
	for {
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		pause = missedEvery
		member, ok := m.member(name)
		if !ok || !m.n.lan.Refused(member) {
			return
		}
		if !m.n.srv.raft.IsLeader() {
			m.tell(ctx, name)
			return
		}
		switch age := time.Since(begun); {
		case age > need+missedAgree:
			m.n.log.Warn("gossip reaches an agent whose machine refuses this server's connections: it counts as alive", "node", name, "addr", member.AddrPort().String())
			return
		case age >= need && !m.gone(name):
			m.n.log.Info("agent's process is gone: its machine refuses connections", "node", name, "addr", member.AddrPort().String(), "for", age.Round(time.Millisecond))
			m.found.Inc()
			m.mu.Lock()
			m.seen[name] = true
			m.mu.Unlock()
			m.changed()
		}
	}
}

// member returns a client agent that gossip holds for alive.
func (m *missed) member(name string) (gossip.Member, bool) {
	for _, member := range m.n.lan.Members() {
		if member.Name == name {
			return member, member.Status == gossip.Alive && member.Tags["role"] == "node"
		}
	}
	return gossip.Member{}, false
}

func (m *missed) tell(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(ctx, missedTell)
	defer cancel()
	_, err := m.n.dispatcher.Do(ctx, &rpc.Request{Method: rpc.MemberMissed, Query: store.Query{Name: name}})
	if err != nil && ctx.Err() == nil {
		m.n.log.Debug("leader not told of an agent that is missed: gossip will find it", "node", name, "err", err)
	}
}

// answer is MemberMissed: another server misses an agent.
func (m *missed) answer(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
	m.lost(req.Query.Name)
	return &rpc.Response{Index: 1, KnownLeader: true}, nil
}
