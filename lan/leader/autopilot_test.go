package leader

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"landbridge/store"
)

func TestExpendable(t *testing.T) {
	for _, c := range []struct{ alive, gone, want int }{
		{3, 0, 0},
		{2, 1, 0}, // one of three: it may come back
		{3, 1, 1}, // and its replacement is here
		{4, 1, 0},
		{5, 1, 1},
		{3, 2, 2}, // two of five: without them one more may fail
		{4, 3, 2},
		{5, 4, 4},
	} {
		if got := expendable(c.alive, c.gone); got != c.want {
			t.Errorf("%d alive, %d gone: %d may go, want %d", c.alive, c.gone, got, c.want)
		}
	}
}

// setAutopilot changes the stored configuration through the leader.
func (w *world) setAutopilot(change func(*store.AutopilotConfig)) {
	w.t.Helper()
	cmd := store.AutopilotCommand{Config: DefaultAutopilot()}
	change(&cmd.Config)
	if _, err := w.leader().lead.apply(context.Background(), store.CmdAutopilot, cmd.AppendWire(nil)); err != nil {
		w.t.Fatal(err)
	}
}

// members of the Raft group by name, voters with a "*".
func (w *world) group() []string {
	var names []string
	for _, s := range w.leader().node.Servers() {
		for _, srv := range w.servers {
			if srv.id == s.ID {
				name := srv.name
				if s.Voter {
					name += "*"
				}
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}

func (w *world) wantGroup(when string, want ...string) {
	w.t.Helper()
	if got := w.group(); !slices.Equal(got, want) {
		w.t.Errorf("%s the group is %v, want %v", when, got, want)
	}
}

// trio starts three servers and returns the two that follow.
func (w *world) trio() (leader *server, followers []*server) {
	for n := 1; n <= 3; n++ {
		w.add(n, 3).start()
	}
	leader = w.leader()
	for _, name := range []string{"s1", "s2", "s3"} {
		if s := w.servers[name]; s != leader {
			followers = append(followers, s)
		}
	}
	time.Sleep(15 * time.Second)
	return leader, followers
}

// die ends a server's process, and gossip notices.
func (s *server) die() {
	s.stop()
	s.w.set(s.name, Failed)
}

// A server that died stays in the group, and votes again as soon as it is back,
// until somebody replaces it; then it goes without a second round.
func TestDeadServerWaitsForReplacement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.stopAll()
		_, followers := w.trio()
		dead := followers[0]
		dead.die()
		time.Sleep(2 * time.Minute)
		w.wantVoters(3)
		w.wantStatus(dead.name, store.Critical)
		dead.start()
		time.Sleep(3 * time.Second)
		if st := w.leader().lead.AutopilotState(); st == nil || !st.Healthy {
			t.Errorf("three seconds after its return autopilot finds %+v", st)
		}
		dead.die()
		time.Sleep(5 * time.Second)
		w.add(4, 0).start()
		time.Sleep(2 * time.Second)
		w.wantStatus(dead.name, "none")
		if g := w.group(); len(g) != 3 || !slices.Contains(g, "s4") {
			t.Errorf("two seconds after the replacement came the group is %v, want it there without a vote", g)
		}
		time.Sleep(20 * time.Second)
		w.wantVoters(3)
	})
}

func TestCleanupRules(t *testing.T) {
	for _, c := range []struct {
		name    string
		rules   func(*store.AutopilotConfig)
		removed bool
	}{
		{"by default", func(*store.AutopilotConfig) {}, true},
		{"cleanup off", func(a *store.AutopilotConfig) { a.CleanupDeadServers = false }, false},
		{"min_quorum reached", func(a *store.AutopilotConfig) { a.MinQuorum = 3 }, true},
		{"min_quorum above", func(a *store.AutopilotConfig) { a.MinQuorum = 4 }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				defer w.stopAll()
				_, followers := w.trio()
				w.setAutopilot(c.rules)
				w.add(4, 0).start()
				time.Sleep(20 * time.Second)
				w.wantGroup("with a fourth", "s1*", "s2*", "s3*", "s4*")
				followers[1].die()
				time.Sleep(15 * time.Second) // a round takes 10
				w.wantVoters(map[bool]int{true: 3, false: 4}[c.removed])
			})
		})
	}
}

// Two of five die at once: more than half stay, and without the dead one more may
// fail.
func TestTwoOfFive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.stopAll()
		for n := 1; n <= 5; n++ {
			w.add(n, 5).start()
		}
		l := w.leader()
		time.Sleep(15 * time.Second)
		killed := 0
		for n := 1; n <= 5 && killed < 2; n++ {
			if s := w.servers[fmt.Sprint("s", n)]; s != l {
				s.die()
				killed++
			}
		}
		time.Sleep(15 * time.Second)
		w.wantVoters(3)
		if st := w.leader().lead.AutopilotState(); st == nil || !st.Healthy || st.FailureTolerance != 1 {
			t.Errorf("autopilot finds %+v, want a healthy group of which one may fail", st)
		}
	})
}

// The vote comes after ServerStabilizationTime of health, and not before.
func TestStabilization(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.stopAll()
		w.trio()
		w.setAutopilot(func(a *store.AutopilotConfig) { a.ServerStabilizationTime = int64(time.Minute) })
		time.Sleep(time.Minute)
		w.add(4, 0).start()
		time.Sleep(55 * time.Second)
		w.wantGroup("before its time is over", "s1*", "s2*", "s3*", "s4")
		time.Sleep(20 * time.Second)
		w.wantGroup("afterwards", "s1*", "s2*", "s3*", "s4*")
	})
}

// Health follows what servers are within two rounds of two seconds, and so do the
// metrics: also of a server that gossip still finds alive.
func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.stopAll()
		l, followers := w.trio()
		want := func(when string, healthy bool, tolerance int, statuses map[string]bool) {
			t.Helper()
			st := l.lead.AutopilotState()
			if st == nil || st.Healthy != healthy || st.FailureTolerance != tolerance {
				t.Fatalf("%s autopilot finds %+v, want healthy %v and a tolerance of %d", when, st, healthy, tolerance)
			}
			for _, srv := range st.Servers {
				if is, ok := statuses[srv.Server.Name]; ok && srv.Health.Healthy != is {
					t.Errorf("%s %s is healthy: %v (%+v), want %v", when, srv.Server.Name, srv.Health.Healthy, srv.Stats, is)
				}
			}
			m := l.lead.metrics
			if got := testutil.ToFloat64(m.healthy) == 1; got != healthy {
				t.Errorf("%s the metric of health says %v", when, got)
			}
			if got := testutil.ToFloat64(m.tolerance); got != float64(tolerance) {
				t.Errorf("%s the metric of tolerance says %v", when, got)
			}
			if got := testutil.ToFloat64(m.voters); got != 3 {
				t.Errorf("%s the metric of voters says %v", when, got)
			}
		}
		want("at first", true, 1, nil)
		victim := followers[0]
		victim.stop() // gossip is not told: it may get through where Raft does not
		time.Sleep(4500 * time.Millisecond)
		want("when one is silent", false, 0, map[string]bool{victim.name: false, l.name: true})
		victim.start()
		time.Sleep(4500 * time.Millisecond)
		want("when it is back", true, 1, nil)
	})
}
