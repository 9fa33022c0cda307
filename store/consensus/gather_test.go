package consensus

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Callers that write again as soon as they are answered share an entry, not two.
func TestClosedLoopSharesEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		c.bootstrap()
		l := c.leader(3 * time.Second)
		l.fsm.delay = 2 * time.Millisecond
		const callers, writes = 64, 20
		var wg sync.WaitGroup
		for i := range callers {
			wg.Go(func() {
				for j := range writes {
					if _, err := l.Apply(t.Context(), put(fmt.Sprint(i, j))); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if got := len(l.fsm.batches); got > writes*3/2 {
			t.Errorf("%d entries for %d rounds of %d callers", got, writes, callers)
		}
	})
}

// A caller waits for no other that does not come, or seldom.
func TestLoneWritersDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		c.bootstrap()
		l := c.leader(3 * time.Second)
		const delay = 2 * time.Millisecond
		l.fsm.delay = delay
		write := func() time.Duration {
			begun := time.Now()
			if _, err := l.Apply(t.Context(), put("w")); err != nil {
				t.Error(err)
			}
			return time.Since(begun)
		}
		usual := write()
		for range 20 {
			if got := write(); got != usual {
				t.Fatalf("a lone write in a loop took %v, want %v", got, usual)
			}
			time.Sleep(time.Millisecond)
		}
		// The second comes while the first is on its way; neither comes again.
		late := 0
		for range 300 {
			var wg sync.WaitGroup
			wg.Go(func() { write() })
			time.Sleep(delay / 2)
			if got := write(); got > 2*usual-delay/2 {
				late++
			}
			wg.Wait()
			time.Sleep(time.Second)
		}
		if late > 12 {
			t.Errorf("%d of 300 writes waited for company in vain", late)
		}
	})
}
