package leader

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"landbridge/store"
	"landbridge/store/state"
)

// create writes a session on the leader's own node, as its endpoint does.
func (s *server) create(id, ttl string) {
	s.w.t.Helper()
	cmd := store.SessionCommand{Op: store.SessionCreate, Session: store.Session{ID: id, Node: s.name, TTL: ttl}}
	if _, err := s.lead.apply(context.Background(), store.CmdSession, cmd.AppendWire(nil)); err != nil {
		s.w.t.Fatal(err)
	}
	if sess := s.renew(id); sess == nil {
		s.w.t.Fatalf("session %s is not there", id)
	}
}

func (s *server) renew(id string) *store.Session {
	s.w.t.Helper()
	sess, err := s.lead.RenewSession(id)
	if err != nil {
		s.w.t.Fatal(err)
	}
	return sess
}

func (s *server) has(id string) bool {
	_, sess := s.state.Session(nil, id)
	return sess != nil
}

// lifeOf waits until a session is gone and returns how long that took, at most
// five minutes.
func (s *server) lifeOf(id string) time.Duration {
	start := time.Now()
	w := s.state.NewWatch()
	defer w.Close()
	limit := time.After(5 * time.Minute)
	for {
		if _, sess := s.state.Session(w, id); sess == nil {
			return time.Since(start)
		}
		select {
		case <-w.C():
		case <-limit:
			return time.Since(start)
		}
	}
}

func (w *world) within(what string, got, low, high time.Duration) {
	w.t.Helper()
	if got < low || got > high {
		w.t.Errorf("%s: after %v, want %v to %v", what, got, low, high)
	}
}

// oneServer is a leader of its own, with its node in the catalog.
func oneServer(t *testing.T) (*world, *server) {
	w := newWorld(t)
	w.add(1, 1).start()
	l := w.leader()
	time.Sleep(time.Second)
	return w, l
}

func TestSessionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := oneServer(t)
		defer w.stopAll()
		l.create("a", "10s")
		w.within("never renewed", l.lifeOf("a"), 20*time.Second, 20*time.Second+100*time.Millisecond)
		if l.renew("a") != nil {
			t.Error("a session that ended was renewed")
		}

		l.create("for ever", "")
		l.create("zero", "0s")
		l.create("b", "10s")
		l.create("c", "15s")
		for range 10 {
			time.Sleep(19 * time.Second)
			if l.renew("b") == nil {
				t.Fatal("a session in time was not renewed")
			}
		}
		if l.has("c") {
			t.Error("renewing one session kept another")
		}
		w.within("after the last renewal", l.lifeOf("b"), 20*time.Second, 20*time.Second+100*time.Millisecond)
		if !l.has("for ever") || !l.has("zero") || l.renew("for ever") == nil {
			t.Error("a session without a time to live ended")
		}

		// One that came without this server's doing, as by a restore, and one
		// that went so.
		cmd := store.SessionCommand{Op: store.SessionCreate, Session: store.Session{ID: "d", Node: l.name, TTL: "10s"}}
		if _, err := l.lead.apply(context.Background(), store.CmdSession, cmd.AppendWire(nil)); err != nil {
			t.Fatal(err)
		}
		l.create("e", "10s")
		cmd = store.SessionCommand{Op: store.SessionDestroy, Session: store.Session{ID: "e"}}
		if _, err := l.lead.apply(context.Background(), store.CmdSession, cmd.AppendWire(nil)); err != nil {
			t.Fatal(err)
		}
		w.within("one that was found", l.lifeOf("d"), 20*time.Second, 22*time.Second)
		synctest.Wait()
		l.lead.sessions.mu.Lock()
		defer l.lead.sessions.mu.Unlock()
		if n, q := len(l.lead.sessions.timers), len(l.lead.sessions.queue); n != 0 || q != 0 {
			t.Errorf("%d timers left, %d in the queue", n, q)
		}
	})
}

// A new leader knows of no renewal: it gives each session one full time to live,
// and never ends one earlier.
func TestSessionsOutliveTheLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.stopAll()
		for n := 1; n <= 3; n++ {
			w.add(n, 3).start()
		}
		old := w.leader()
		time.Sleep(15 * time.Second) // all three have a vote
		old.create("a", "10s")
		old.create("b", "10s")
		time.Sleep(19 * time.Second)
		old.renew("b")
		if f := w.follower(old); f != nil {
			if _, err := f.lead.RenewSession("a"); !errors.Is(err, store.ErrNoLeader) {
				t.Errorf("a follower renews: %v", err)
			}
		}
		if err := old.node.TransferLeadership(context.Background(), ""); err != nil {
			t.Fatal(err)
		}
		l := w.leader()
		if l == old {
			t.Fatal("leadership did not move")
		}
		if !l.has("a") {
			t.Fatal("a session ended before its time")
		}
		w.within("after a change of leader", l.lifeOf("a"), 9*time.Second, 11*time.Second)
		for range 10 {
			time.Sleep(5 * time.Second)
			if l.has("b") {
				t.Fatal("a session outlives its time under the new leader")
			}
		}
		if _, err := old.lead.RenewSession("b"); !errors.Is(err, store.ErrNoLeader) {
			t.Errorf("the former leader renews: %v", err)
		}
	})
}

func (w *world) follower(leader *server) *server {
	for _, s := range w.servers {
		if s != leader {
			return s
		}
	}
	return nil
}

// Very many at once: their ends are joined, and all come in time.
func TestManySessionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := oneServer(t)
		defer w.stopAll()
		for i := range 2000 {
			l.create(fmt.Sprint(i), "10s")
		}
		time.Sleep(22 * time.Second)
		if n := l.state.Counts().Sessions; n != 0 {
			t.Errorf("%d of 2000 sessions left", n)
		}
	})
}

// A process that stood still has taken no renewals: what ran out meanwhile gets
// one more time to live.
func TestStandstill(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSessions(nil)
		now := time.Now()
		ttl := 10 * time.Second
		over := make(map[string]bool)
		for i := range rapid.IntRange(0, 6).Draw(t, "sessions") {
			id := fmt.Sprint(i)
			left := time.Duration(rapid.IntRange(-20, 20).Draw(t, "left")) * time.Second
			s.set(id, ttl, now.Add(left))
			s.timers[id].ending = rapid.Bool().Draw(t, "ending")
			over[id] = left <= 0
		}
		stoodStill := rapid.Bool().Draw(t, "stood still")
		due := make(map[string]bool)
		for _, id := range s.due(now, stoodStill) {
			due[id] = true
		}
		for id, tm := range s.timers {
			want := over[id] && (!stoodStill || tm.ending)
			if due[id] != want || want && !tm.ending {
				t.Fatalf("session %s: due %v, ending %v, want %v", id, due[id], tm.ending, want)
			}
			if over[id] && !want && !tm.at.Equal(now.Add(ttl)) {
				t.Fatalf("session %s gets %v more", id, tm.at.Sub(now))
			}
			if s.queue[tm.slot] != tm {
				t.Fatal("the queue lost its order")
			}
		}
	})
}

func BenchmarkRenewSession(b *testing.B) {
	st := state.New()
	apply := func(kind store.CommandKind, payload []byte) {
		var res [1]store.Result
		st.Apply([]store.Command{{Kind: kind, Payload: payload}}, res[:])
		if res[0].Err != nil {
			b.Fatal(res[0].Err)
		}
	}
	apply(store.CmdRegister, (&store.RegisterCommand{Node: store.Node{Node: "n", Address: "10.0.0.1"}}).AppendWire(nil))
	const sessions = 10000
	ids := make([]string, sessions)
	for i := range ids {
		ids[i] = newUUID()
		apply(store.CmdSession, (&store.SessionCommand{Op: store.SessionCreate,
			Session: store.Session{ID: ids[i], Node: "n", TTL: "10s"}}).AppendWire(nil))
	}
	l := &Leader{cfg: Config{State: st}}
	l.sessions = newSessions(l)
	l.sessions.leads = true
	n := 0
	for b.Loop() {
		if sess, err := l.RenewSession(ids[n%sessions]); sess == nil || err != nil {
			b.Fatal(sess, err)
		}
		n++
	}
}
