package leader

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"landbridge/store"
	"landbridge/store/consensus"
)

func status(s *server, node string) string {
	_, checks := s.state.NodeChecks(nil, node)
	for _, c := range checks {
		if c.CheckID == store.SerfHealth {
			return c.Status
		}
	}
	return "none"
}

func (w *world) wantStatus(node, want string) {
	w.t.Helper()
	l := w.leader()
	if got := status(l, node); got != want {
		w.t.Errorf("serfHealth of %s is %q, want %q", node, got, want)
	}
}

func TestMembersBecomeNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.stopAll()
		w.add(1, 1).start()
		l := w.leader()
		time.Sleep(time.Second)
		if l.state.ClusterID() == "" {
			t.Error("the cluster has no id")
		}
		w.wantStatus("s1", store.Passing)
		_, n, services := l.state.NodeServices(nil, "s1")
		if n == nil || n.ID != l.id || n.Address != "10.0.0.1" || len(services) != 1 || services[0].Name != "consul" || services[0].Port != 8300 {
			t.Fatalf("the server's node is %+v with %d services", n, len(services))
		}
		if got := services[0].Meta["version"]; got != "1.21.4" {
			t.Errorf("version is %q", got)
		}

		w.put(clientMember(1, Alive))
		time.Sleep(time.Second)
		w.wantStatus("c1", store.Passing)
		index := l.state.Index()
		time.Sleep(5 * time.Minute)
		if l.state.Index() != index {
			t.Errorf("%d commands while nothing changed", l.state.Index()-index)
		}

		// The agent's own words survive a change of status and of address.
		own := &store.RegisterCommand{Node: store.Node{ID: uuid(101), Node: "c1", Address: "10.0.1.1",
			TaggedAddresses: map[string]string{"wan": "1.2.3.4"}, Meta: map[string]string{"rack": "a"}}}
		if _, err := l.lead.apply(context.Background(), store.CmdRegister, own.AppendWire(nil)); err != nil {
			t.Fatal(err)
		}
		w.put(clientMember(1, Failed))
		time.Sleep(time.Second)
		w.wantStatus("c1", store.Critical)
		back := clientMember(1, Alive)
		back.Addr = clientMember(9, Alive).Addr
		w.put(back)
		time.Sleep(time.Second)
		w.wantStatus("c1", store.Passing)
		if _, n, _ := l.state.NodeServices(nil, "c1"); n.Address != "10.0.1.9" || n.Meta["rack"] != "a" || n.TaggedAddresses["wan"] != "1.2.3.4" {
			t.Errorf("after the move the node is %s", n.AppendJSON(nil))
		}

		// The same name on another machine: the old one is gone.
		other := back
		other.ID, other.Tags = uuid(55), map[string]string{"role": "node", "id": uuid(55)}
		w.put(other)
		time.Sleep(time.Second)
		if _, n, _ := l.state.NodeServices(nil, "c1"); n == nil || n.ID != uuid(55) || n.Meta["rack"] != "" {
			t.Errorf("after the replacement the node is %+v", n)
		}

		w.set("c1", Left)
		time.Sleep(time.Second)
		w.wantStatus("c1", "none")
		// Reaped members go at once, and external nodes stay.
		ext := &store.RegisterCommand{Node: store.Node{Node: "ext", Address: "10.9.9.9"}}
		if _, err := l.lead.apply(context.Background(), store.CmdRegister, ext.AppendWire(nil)); err != nil {
			t.Fatal(err)
		}
		w.put(clientMember(2, Alive))
		time.Sleep(time.Second)
		w.wantStatus("c2", store.Passing)
		w.drop("c2")
		time.Sleep(time.Second)
		if _, n, _ := l.state.NodeServices(nil, "c2"); n != nil {
			t.Error("a reaped member is still a node")
		}
		time.Sleep(5 * time.Minute)
		if _, n, _ := l.state.NodeServices(nil, "ext"); n == nil {
			t.Error("an external node was removed")
		}
	})
}

// A leader that starts with a short list of members must not empty the catalog.
func TestUnknownNodesHaveGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.stopAll()
		s := w.add(1, 1).start()
		w.put(clientMember(1, Alive))
		w.put(clientMember(2, Alive))
		w.leader()
		time.Sleep(2 * time.Second)
		s.stop()
		w.drop("c1")
		w.drop("c2")
		s.start()
		w.leader()
		time.Sleep(80 * time.Second)
		w.wantStatus("c1", store.Passing)
		w.put(clientMember(1, Alive)) // gossip catches up with one
		time.Sleep(5 * time.Minute)
		w.wantStatus("c1", store.Passing)
		w.wantStatus("c2", "none")
	})
}

func TestServersJoinAndLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.stopAll()
		for n := 1; n <= 3; n++ {
			w.add(n, 3).start()
		}
		l := w.leader()
		time.Sleep(15 * time.Second)
		w.wantVoters(3)
		// A fourth starts without a vote and gets one when it has been stable.
		s4 := w.add(4, 0).start()
		time.Sleep(5 * time.Second)
		w.wantVoters(3)
		if len(l.node.Servers()) != 4 {
			t.Fatalf("servers: %v", l.node.Servers())
		}
		time.Sleep(25 * time.Second)
		w.wantVoters(4)
		// It leaves in order.
		w.set("s4", Left)
		time.Sleep(time.Second)
		s4.stop()
		w.wantVoters(3)
		if len(l.node.Servers()) != 3 {
			t.Errorf("servers: %v", l.node.Servers())
		}
		w.wantStatus("s4", "none")

		// One dies; its replacement joins, and autopilot clears the dead one.
		var dead *server
		for _, s := range w.servers {
			if s.node != nil && s != l {
				dead = s
			}
		}
		dead.stop()
		w.set(dead.name, Failed)
		time.Sleep(time.Second)
		w.wantStatus(dead.name, store.Critical)
		w.add(5, 0).start()
		time.Sleep(time.Minute)
		w.wantVoters(3)
		w.wantStatus(dead.name, "none")
		if st := w.leader().lead.AutopilotState(); st == nil || !st.Healthy {
			t.Errorf("autopilot: %+v", st)
		}
	})
}

func (w *world) wantVoters(n int) {
	w.t.Helper()
	voters := 0
	for _, s := range w.leader().node.Servers() {
		if s.Voter {
			voters++
		}
	}
	if voters != n {
		w.t.Errorf("%d voters, want %d: %v", voters, n, w.leader().node.Servers())
	}
}

// A server that comes back without its state never votes for what it forgot,
// with a new id or with the old one, and makes no cluster of its own.
func TestWipedServer(t *testing.T) {
	for _, sameID := range []bool{false, true} {
		t.Run(fmt.Sprint("same id ", sameID), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				defer w.stopAll()
				for n := 1; n <= 3; n++ {
					w.add(n, 3).start()
				}
				l := w.leader()
				time.Sleep(15 * time.Second)
				cluster := l.state.ClusterID()
				victim := w.servers["s1"]
				if victim == l {
					victim = w.servers["s2"]
				}
				victim.stop()
				if !sameID { // the same one is back before gossip notices
					w.set(victim.name, Failed)
					time.Sleep(4 * time.Second)
				}
				time.Sleep(time.Second)
				n := 0 // the lowest id of all: it would be its turn to bootstrap
				if sameID {
					_, _ = fmt.Sscanf(victim.name, "s%d", &n)
				}
				again := w.add(n, 3)
				again.name, again.member.Name, again.member.Addr = victim.name, victim.name, victim.member.Addr
				w.mu.Lock()
				delete(w.servers, "s0")
				w.servers[victim.name] = again
				w.mu.Unlock()
				again.start()
				time.Sleep(4 * time.Second)
				for _, s := range w.leader().node.Servers() {
					if s.ID == again.id && s.Voter {
						t.Errorf("a server without state has a vote: %v", w.leader().node.Servers())
					}
				}
				time.Sleep(time.Minute)
				w.wantVoters(3)
				if again.booted || again.state.ClusterID() != cluster {
					t.Errorf("it bootstrapped (%v) or follows cluster %s instead of %s", again.booted, again.state.ClusterID(), cluster)
				}
			})
		})
	}
}

// TestBootstrapOnce starts servers in any order, at any time, with views that
// lag behind, and wants exactly one cluster of all.
func TestBootstrapOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(3, 5).Draw(rt, "servers")
		order := rapid.Permutation([]int{1, 2, 3, 4, 5}[:n]).Draw(rt, "order")
		pauses := rapid.SliceOfN(rapid.SampledFrom([]time.Duration{0, time.Millisecond, 249 * time.Millisecond, 3 * time.Second}), n, n).Draw(rt, "pauses")
		blind := rapid.SliceOfN(rapid.SliceOfN(rapid.IntRange(1, 5), 0, 2), n, n).Draw(rt, "not seen at first")
		var failure string
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			defer w.stopAll()
			for i, k := range order {
				s := w.add(k, 3)
				for _, b := range blind[i] {
					if b != k {
						w.hidden[s.name] = append(w.hidden[s.name], fmt.Sprint("s", b))
					}
				}
			}
			for i, k := range order {
				w.servers[fmt.Sprint("s", k)].start()
				time.Sleep(pauses[i])
			}
			w.mu.Lock()
			clear(w.hidden)
			w.mu.Unlock()
			w.notify()
			l := w.leader()
			time.Sleep(time.Minute)
			booted := 0
			for _, s := range w.servers {
				if s.booted {
					booted++
				}
				if s.state.ClusterID() != l.state.ClusterID() || len(s.node.Servers()) != n {
					failure = fmt.Sprintf("%s is in cluster %q with %v", s.name, s.state.ClusterID(), s.node.Servers())
				}
			}
			if booted != 1 {
				failure = fmt.Sprintf("%d servers bootstrapped", booted)
			}
		})
		if failure != "" {
			rt.Fatal(failure)
		}
	})
}

// TestTwoClusters lets the leaders of two clusters see each other's servers, as
// nothing but a gap in gossip's own check could: neither takes in the other's.
func TestTwoClusters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.stopAll()
		group := []*server{w.add(1, 3), w.add(2, 3), w.add(3, 3)}
		alone := w.add(4, 1)
		w.hidden["s4"] = []string{"s1", "s2", "s3"}
		for _, s := range group {
			w.hidden[s.name] = []string{"s4"}
		}
		for _, s := range append(group, alone) {
			s.start()
		}
		time.Sleep(time.Minute)
		theirs, its := group[0].state.ClusterID(), alone.state.ClusterID()
		w.mu.Lock()
		clear(w.hidden)
		w.mu.Unlock()
		w.notify()
		time.Sleep(5 * time.Minute)
		for _, s := range group {
			if got := s.state.ClusterID(); got != theirs || len(s.node.Servers()) != 3 {
				t.Errorf("%s: cluster %s of %v, want %s of three servers", s.name, got, s.node.Servers(), theirs)
			}
		}
		if got := alone.state.ClusterID(); got != its || got == theirs || len(alone.node.Servers()) != 1 {
			t.Errorf("s4: cluster %s of %v, want %s of one server", got, alone.node.Servers(), its)
		}
	})
}

func TestPromise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := NewBootstrapper(BootstrapConfig{NodeID: "b", Expect: 3, Members: func() []Member { return nil },
			Raft: func() []consensus.Server { return nil }, Bootstrap: func([]consensus.Server) error { return nil },
			Ask: func(context.Context, Member, string) (*store.ServerStatus, error) { return nil, nil }})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Promise("a"); err != nil {
			t.Fatal(err)
		}
		if err := b.Promise("a"); err != nil {
			t.Errorf("a promise cannot be renewed: %v", err)
		}
		if err := b.Promise("c"); store.KindOf(err) != store.KindConflict {
			t.Errorf("promised to two: %v", err)
		}
		time.Sleep(promiseLife)
		if err := b.Promise("c"); err != nil {
			t.Errorf("a promise lasts too long: %v", err)
		}
		if err := b.Promise(""); err == nil {
			t.Error("promised to nobody")
		}
	})
}

func TestTasksRunInOrderAndEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.stopAll()
		var got []string
		fails := 2
		cancelled := make(chan struct{})
		s := w.add(1, 1)
		s.tasks = []Task{
			{"first", func(context.Context) error {
				got = append(got, "first")
				if fails--; fails >= 0 {
					return errors.New("not yet")
				}
				return nil
			}},
			{"second", func(ctx context.Context) error {
				got = append(got, "second")
				<-ctx.Done()
				close(cancelled)
				return ctx.Err()
			}},
			{"third", func(context.Context) error { got = append(got, "third"); return nil }},
		}
		s.start()
		w.leader()
		time.Sleep(5 * time.Second)
		s.stop()
		<-cancelled
		if want := []string{"first", "first", "first", "second"}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}
