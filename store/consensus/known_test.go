package consensus

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"landbridge/store/raftlog"
)

// One of three servers that all stopped starts alone: it has what it had, although
// no leader says what of it is committed; more than NewRaft could hand over.
func TestAloneWithWhatItKnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		open := func(s *server) {
			st, err := raftlog.Open(filepath.Join(dir, s.id), raftlog.Options{RaftID: s.id, Fatal: func(err error) { t.Errorf("fatal: %v", err) }})
			if err != nil {
				t.Fatal(err)
			}
			s.stores = st
		}
		end := func(s *server) {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			if err := s.Stop(ctx); err != nil {
				t.Errorf("stop %s: %v", s.id, err)
			}
			if err := s.stores.Close(); err != nil {
				t.Errorf("close %s: %v", s.id, err)
			}
		}
		c := &cluster{t: t, cut: map[string]bool{}, prepare: open}
		c.add(3)
		c.bootstrap()
		l := c.leader(10 * time.Second)
		var want []string
		for i := range 200 {
			want = append(want, fmt.Sprint("v", i))
			mustApply(t, l, want[i])
		}
		// A follower may be behind the majority, and then takes many entries in one append.
		// After each sleep it has all that was sent, also if real fsyncs are slow.
		for _, v := range []string{"lets followers know that", "has them note it"} {
			time.Sleep(time.Second)
			mustApply(t, l, v)
		}
		time.Sleep(time.Second)
		for _, s := range c.servers {
			end(s)
		}

		s := c.others(l)[0]
		s.fsm, c.servers = &listFSM{}, []*server{s}
		open(s)
		c.begin(s)
		defer end(s)
		time.Sleep(time.Second)
		if !s.Restored() {
			t.Error("it does not say that it has what it had")
		}
		if got := s.fsm.all(); len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
			t.Errorf("it has %d entries, want at least the %d acknowledged before the last two", len(got), len(want))
		}
		time.Sleep(time.Minute)
		if id, _ := s.Leader(); id != "" || s.IsLeader() {
			t.Errorf("it takes %q for the leader", id)
		}
	})
}
