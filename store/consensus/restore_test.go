package consensus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"landbridge/store"
)

func streamOf(lines ...string) func() (io.Reader, int64, error) {
	text := strings.Join(lines, "\n")
	return func() (io.Reader, int64, error) { return strings.NewReader(text), int64(len(text)), nil }
}

// All servers get the restored state; writes before it are gone, writes after it
// follow it, and open sees all that was acknowledged before.
func TestRestoreReachesAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		c.bootstrap()
		l := c.leader(3 * time.Second)
		var mu sync.Mutex
		acked := map[string]bool{}
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					name := fmt.Sprintf("w%d-%d", w, i)
					if _, err := l.Apply(context.Background(), put(name)); err != nil {
						t.Errorf("a write beside a restore: %v", err)
						return
					}
					mu.Lock()
					acked[name] = true
					mu.Unlock()
					time.Sleep(time.Millisecond)
				}
			})
		}
		time.Sleep(50 * time.Millisecond)
		var seen []string
		err := l.Restore(t.Context(), func() (io.Reader, int64, error) {
			mu.Lock()
			defer mu.Unlock()
			seen = l.fsm.all()
			for name := range acked {
				if !slices.Contains(seen, name) {
					t.Errorf("%s was acknowledged and is not applied", name)
				}
			}
			return streamOf("x", "y")()
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
		close(stop)
		wg.Wait()
		time.Sleep(time.Second)
		for _, s := range c.servers {
			got := s.fsm.all()
			if len(got) < 3 || got[0] != "x" || got[1] != "y" {
				t.Errorf("%s has %v", s.id, got)
			}
			for _, name := range seen {
				if slices.Contains(got, name) {
					t.Errorf("%s still has %s", s.id, name)
				}
			}
			if !slices.Equal(got, l.fsm.all()) {
				t.Errorf("%s differs from the leader", s.id)
			}
		}
	})
}

func TestRestoreThatFailsChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		c.bootstrap()
		l := c.leader(3 * time.Second)
		mustApply(t, l, "a")
		broken := errors.New("the archive is bad")
		if err := l.Restore(t.Context(), func() (io.Reader, int64, error) { return nil, 0, broken }); !errors.Is(err, broken) {
			t.Errorf("open fails: %v", err)
		}
		err := l.Restore(t.Context(), func() (io.Reader, int64, error) {
			return io.MultiReader(strings.NewReader("half"), readerFunc(func([]byte) (int, error) { return 0, broken })), 8, nil
		})
		if err == nil || !strings.Contains(err.Error(), broken.Error()) {
			t.Errorf("the stream fails: %v", err)
		}
		if err := l.Restore(t.Context(), func() (io.Reader, int64, error) { return strings.NewReader("short"), 8, nil }); err == nil {
			t.Error("a short stream: no error")
		}
		for _, s := range c.others(l) {
			wantKind(t, s.Restore(t.Context(), streamOf("x")), store.KindNoLeader)
		}
		mustApply(t, l, "b")
		time.Sleep(time.Second)
		for _, s := range c.servers {
			if got := s.fsm.all(); !slices.Equal(got, []string{"a", "b"}) || s.fsm.restore > 0 {
				t.Errorf("%s has %v", s.id, got)
			}
		}
	})
}

// A server that was away during a restore gets its state, and one that restarts
// finds it.
func TestRestoreOutlastsRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		c.bootstrap()
		l := c.leader(3 * time.Second)
		mustApply(t, l, "a")
		away := c.others(l)[0]
		c.isolate(away)
		if err := l.Restore(t.Context(), streamOf("x")); err != nil {
			t.Fatal(err)
		}
		mustApply(t, l, "b")
		c.heal()
		time.Sleep(10 * time.Second)
		if err := away.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		away.fsm = &listFSM{}
		c.begin(away)
		time.Sleep(10 * time.Second)
		if got := away.fsm.all(); !slices.Equal(got, []string{"x", "b"}) {
			t.Errorf("after a restart: %v", got)
		}
	})
}
