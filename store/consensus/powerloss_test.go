package consensus

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"landbridge/store/raftlog"
	"landbridge/store/raftlog/raftlogtest"
)

// powered is a cluster whose servers' disks forget what was not synced when the
// power goes. It notes what users were told: their acknowledgements, and the lists of
// all state machines there ever were.
type powered struct {
	*cluster
	rng   *rand.Rand
	disks map[string]*raftlogtest.Disk
	slow  map[string]*atomic.Int64 // about how long syncs take, ns
	dark  map[string]bool          // without power

	mu    sync.Mutex
	nodes map[string]*Node // the newest of each server
	off   map[*Node]bool
	acked []string
	seen  map[string][]string // what a state machine had, by server and when the power went

	ending sync.WaitGroup
}

func newPowered(t testing.TB, seed uint64, without func(*server)) *powered {
	p := &powered{
		rng: rand.New(rand.NewPCG(seed, 7)), disks: map[string]*raftlogtest.Disk{}, slow: map[string]*atomic.Int64{},
		dark: map[string]bool{}, nodes: map[string]*Node{}, off: map[*Node]bool{}, seen: map[string][]string{},
	}
	dir := t.TempDir()
	p.cluster = newCluster(t, 0)
	p.prepare = func(s *server) {
		if p.disks[s.id] == nil {
			p.disks[s.id], p.slow[s.id] = raftlogtest.New(), new(atomic.Int64)
		}
		p.syncs(s.id)
		stores, err := p.disks[s.id].Open(filepath.Join(dir, s.id), raftlog.Options{
			RaftID: s.id, SegmentSize: 16 << 10, Fatal: func(err error) { t.Errorf("fatal: %v", err) },
		})
		if err != nil {
			t.Fatalf("%s: %v", s.id, err)
		}
		s.stores = stores
	}
	p.created = func(s *server) {
		if without != nil {
			without(s)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.nodes[s.id] = s.Node
	}
	p.add(3)
	t.Cleanup(func() {
		for _, s := range p.servers {
			p.end(s.Node, s.stores)
		}
		p.ending.Wait()
	})
	p.bootstrap()
	return p
}

// syncs has the disk of a server take a tenth of slow[id] and more for a sync.
func (p *powered) syncs(id string) {
	rng, slow := rand.New(rand.NewPCG(p.rng.Uint64(), 7)), p.slow[id]
	p.disks[id].SyncTakes(func() time.Duration {
		if d := slow.Load(); d > 0 {
			return time.Duration(d/10 + rng.Int64N(d))
		}
		return 0
	})
}

func (p *powered) fast() {
	for _, slow := range p.slow {
		slow.Store(0)
	}
}

// heal connects all servers that have power.
func (p *powered) heal() {
	clear(p.cut)
	maps.Copy(p.cut, p.dark)
	p.connect()
}

// end stops what is left of a server.
func (p *powered) end(n *Node, stores *raftlog.Stores) {
	p.ending.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		if err := n.Stop(ctx); err != nil {
			p.t.Errorf("stop: %v", err)
		}
		if err := stores.Close(); err != nil {
			p.t.Errorf("close: %v", err)
		}
	})
}

// cutPower takes the power of servers away, all in one moment. With torn, of what was
// being written some reached the disk; else nothing did.
func (p *powered) cutPower(torn bool, servers ...*server) {
	for _, s := range servers {
		p.cut[s.id], p.dark[s.id] = true, true
	}
	p.connect()
	p.mu.Lock()
	for _, s := range servers {
		p.off[s.Node] = true
		p.seen[fmt.Sprintf("%s until %d", s.id, len(p.seen))] = s.fsm.all()
		var rng *rand.Rand
		if torn {
			rng = p.rng
		}
		p.disks[s.id] = p.disks[s.id].PowerLoss(rng)
	}
	p.mu.Unlock()
	for _, s := range servers {
		p.end(s.Node, s.stores)
	}
}

// power starts servers again whose power went.
func (p *powered) power(servers ...*server) {
	for _, s := range servers {
		delete(p.cut, s.id)
		delete(p.dark, s.id)
		s.fsm = &listFSM{}
		p.prepare(s)
		p.begin(s)
	}
}

// put writes through a server and notes whether it was acknowledged while the server
// had power.
func (p *powered) put(n *Node, payload string, within time.Duration) bool {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	_, err := n.Apply(ctx, put(payload))
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil || p.off[n] {
		return false
	}
	p.acked = append(p.acked, payload)
	return true
}

// violations waits until all servers, which run and are connected, have the same log,
// and says what was promised and not kept.
func (p *powered) violations() (list []string) {
	p.t.Helper()
	p.fast()
	p.heal()
	l := p.leader(time.Minute)
	for i := range 3 { // the followers hear of a commit with the next entry
		for !p.put(l.Node, fmt.Sprint("settled ", i), 10*time.Second) {
			l = p.leader(time.Minute)
		}
	}
	time.Sleep(5 * time.Second)
	want := l.fsm.all()
	for _, s := range p.servers {
		if got := s.fsm.all(); !slices.Equal(got, want) {
			list = append(list, fmt.Sprintf("%s has %v, the leader %v", s.id, got, want))
		}
	}
	for was, got := range p.seen {
		if len(got) > len(want) || !slices.Equal(got, want[:len(got)]) {
			list = append(list, fmt.Sprintf("%s had %v, which is no beginning of %v", was, got, want))
		}
	}
	for _, a := range p.acked {
		if n := strings.Count(strings.Join(want, "\n")+"\n", a+"\n"); n != 1 {
			list = append(list, fmt.Sprintf("%q was acknowledged and is there %d times", a, n))
		}
	}
	return list
}

// gates are what keeps an entry that only the leader's memory and one disk hold from
// being seen; without one of them the story beside it ends badly.
var gates = []struct {
	name   string
	remove func(*server)
}{
	{"the state machine waits for the disk", func(s *server) { s.Node.fsm.waitDurable = func(uint64) error { return nil } }},
	{"followers are not told", func(s *server) { s.Node.transport.durable = func() uint64 { return ^uint64(0) } }},
}

// behind is the story in which it matters whether the leader counts: one follower has
// nothing of an entry, the other one all, and the leader, whose disk is slow, loses it.
// Then those two who do not have it go on, while the one that has it is cut off: it
// lost its power too, or not.
func behind(p *powered, followerToo bool) {
	l := p.leader(10 * time.Second)
	for i := range 5 {
		p.put(l.Node, fmt.Sprint("before ", i), time.Second)
	}
	time.Sleep(time.Second)
	has, lacks := p.others(l)[0], p.others(l)[1]
	p.isolate(lacks)
	p.slow[l.id].Store(int64(4 * time.Second)) // and 400 ms at the least
	told := make(chan bool, 1)
	go func() { told <- p.put(l.Node, "in doubt", time.Second) }()
	time.Sleep(300 * time.Millisecond) // Raft tells of commits every 50 to 100 ms
	off := []*server{l}
	if followerToo {
		off = append(off, has)
	}
	p.isolate(has)
	p.cutPower(false, off...)
	<-told
	p.fast()
	delete(p.cut, lacks.id)
	p.power(l)
	next := p.leader(30 * time.Second)
	for i := range 3 {
		p.put(next.Node, fmt.Sprint("after ", i), 10*time.Second)
	}
	if followerToo {
		p.power(has)
	}
}

func TestPowerLossWhileTheLeaderIsAheadOfItsDisk(t *testing.T) {
	for _, followerToo := range []bool{false, true} {
		t.Run(fmt.Sprintf("follower too %t", followerToo), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPowered(t, 1, nil)
				behind(p, followerToo)
				for _, v := range p.violations() {
					t.Error(v)
				}
				if len(p.acked) < 11 {
					t.Errorf("only %q were acknowledged", p.acked)
				}
			})
		})
	}
}

func TestPowerLossFindsAMissingGate(t *testing.T) {
	for i, g := range gates {
		t.Run(g.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPowered(t, 1, g.remove)
				behind(p, i == 0)
				found := p.violations()
				if len(found) == 0 {
					t.Error("nothing was found")
				}
				t.Log(found)
			})
		})
	}
}

// Users write through whoever leads, on disks of all speeds, while the power of the
// leader, of a majority or of all goes and the network is cut: what they were told, and
// what any state machine ever showed, stays.
func TestPowerLoss(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPowered(t, seed, nil)
				outages(p, 8)
				for _, v := range p.violations() {
					t.Error(v)
				}
				if len(p.acked) < 100 {
					t.Errorf("only %d writes were acknowledged", len(p.acked))
				}
			})
		})
	}
}

// And a disk that says of everything at once that it is durable is found out.
func TestPowerLossFindsADiskThatLies(t *testing.T) {
	for seed := range uint64(20) {
		found := false
		synctest.Test(t, func(t *testing.T) {
			p := newPowered(t, seed, func(s *server) {
				for _, g := range gates {
					g.remove(s)
				}
			})
			outages(p, 8)
			v := p.violations()
			if found = len(v) > 0; found {
				t.Logf("seed %d: %s", seed, v[0])
			}
		})
		if found {
			return
		}
	}
	t.Error("no seed found it")
}

// whoLeads is a server that has power and says that it leads, or any.
func (p *powered) whoLeads(rng *rand.Rand) *Node {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range p.nodes {
		if n.IsLeader() && !p.off[n] {
			return n
		}
	}
	return p.nodes[p.servers[rng.IntN(len(p.servers))].id]
}

// outages takes the power of some servers n times, while users write.
func outages(p *powered, n int) {
	over := make(chan struct{})
	var users sync.WaitGroup
	for u := range 4 {
		rng := rand.New(rand.NewPCG(p.rng.Uint64(), 7))
		users.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-over:
					return
				case <-time.After(time.Duration(rng.Int64N(int64(40 * time.Millisecond)))):
				}
				p.put(p.whoLeads(rng), fmt.Sprintf("user %d write %d", u, i), 2*time.Second)
			}
		})
	}
	for range n {
		for _, s := range p.servers {
			p.slow[s.id].Store(int64([]time.Duration{0, time.Millisecond, 30 * time.Millisecond, 300 * time.Millisecond}[p.rng.IntN(4)]))
		}
		time.Sleep(time.Duration(p.rng.Int64N(int64(3 * time.Second))))
		l := p.servers[p.rng.IntN(3)]
		for _, s := range p.servers {
			if s.IsLeader() {
				l = s
			}
		}
		rest := p.others(l)
		if p.rng.IntN(2) == 0 {
			slices.Reverse(rest)
		}
		if p.rng.IntN(2) == 0 { // one is behind
			p.isolate(rest[1])
			time.Sleep(time.Duration(p.rng.Int64N(int64(400 * time.Millisecond))))
		}
		off := append([]*server{l}, rest[:p.rng.IntN(3)]...)
		if p.rng.IntN(2) == 0 {
			p.isolate(rest[0]) // the one that is not behind, if any, cannot help
		}
		p.cutPower(p.rng.IntN(2) == 0, off...)
		time.Sleep(time.Duration(p.rng.Int64N(int64(time.Second))))
		first := 1 + p.rng.IntN(len(off))
		delete(p.cut, rest[1].id)
		p.power(off[:first]...)
		time.Sleep(time.Duration(p.rng.Int64N(int64(5 * time.Second))))
		p.heal()
		p.power(off[first:]...)
		p.heal()
	}
	close(over)
	users.Wait()
}
