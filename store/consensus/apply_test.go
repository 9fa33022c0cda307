package consensus

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"landbridge/store"
)

func TestGroupsKeepOrderAndResults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		c.bootstrap()
		l := c.leader(3 * time.Second)
		l.fsm.delay = 5 * time.Millisecond
		const n = 1500
		var wg sync.WaitGroup
		errs := make([]error, n)
		results := make([]store.Result, n)
		for i := range n {
			payload := fmt.Sprintf("w %d", i)
			if i%3 == 2 {
				payload = fmt.Sprintf("cas %d", 2*(i/3+1)+1) // it takes effect only in its right place
			}
			wg.Go(func() { results[i], errs[i] = l.Apply(t.Context(), put(payload)) })
			synctest.Wait() // Apply is in the queue before the next one
		}
		wg.Wait()
		next := store.Index(0)
		for i := range n {
			if errs[i] != nil {
				t.Fatalf("command %d: %v", i, errs[i])
			}
			if results[i].OK {
				next++
			}
			if results[i].Index != next {
				t.Fatalf("command %d has index %d, want %d: order was lost", i, results[i].Index, next)
			}
		}
		time.Sleep(10 * time.Second)
		want := l.fsm.all()
		if len(want) != int(next) {
			t.Errorf("%d applied, want %d", len(want), next)
		}
		for _, o := range c.others(l) {
			if got := o.fsm.all(); !slices.Equal(got, want) {
				t.Errorf("%s differs from the leader", o.id)
			}
		}
		if m := slices.Max(l.fsm.batches); m < 2 || m > maxGroup {
			t.Errorf("largest group %d commands", m)
		}
	})
}

func TestApplyAllSharesAnEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		c.bootstrap()
		l := c.leader(3 * time.Second)
		cmds := make([]store.Command, maxGroup+100)
		for i := range cmds {
			cmds[i] = put(fmt.Sprintf("w %d", i))
		}
		applied := len(l.fsm.batches)
		results, errs := l.ApplyAll(t.Context(), cmds)
		for i := range cmds {
			if errs[i] != nil || i > 0 && results[i].Index != results[i-1].Index+1 {
				t.Fatalf("command %d: index %d after %d, %v", i, results[i].Index, results[i-1].Index, errs[i])
			}
		}
		if got := l.fsm.batches[applied:]; !slices.Equal(got, []int{maxGroup, 100}) {
			t.Errorf("groups of %v, want %d and 100", got, maxGroup)
		}
		if results, errs := l.ApplyAll(t.Context(), nil); len(results) != 0 || len(errs) != 0 {
			t.Errorf("nothing gave %v %v", results, errs)
		}
		_, errs = c.others(l)[0].ApplyAll(t.Context(), cmds[:2])
		for _, err := range errs {
			wantKind(t, err, store.KindNoLeader)
		}
		// A caller that leaves leaves with all of them, and those not begun are not made.
		l.fsm.delay = time.Second
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, errs = l.ApplyAll(ctx, cmds[:2])
		wantKind(t, errs[0], store.KindMaybeApplied)
		wantKind(t, errs[1], store.KindMaybeApplied)
	})
}

func TestGroupBounds(t *testing.T) {
	var q queue
	q.init(newMetrics(newReg()).queued)
	push := func(size int) {
		if err := q.push(q.get(store.Command{Payload: make([]byte, size)})); err != nil {
			t.Fatal(err)
		}
	}
	for range 1000 {
		push(1)
	}
	if got := len(q.take(nil)); got != 512 {
		t.Errorf("first group has %d commands, want 512", got)
	}
	if got := len(q.take(nil)); got != 488 {
		t.Errorf("second group has %d commands, want 488", got)
	}
	for _, size := range []int{100 << 10, 100 << 10, 100 << 10, 600 << 10, 1, 1} {
		push(size)
	}
	var groups []int
	for _, want := range []int{2, 1, 1, 2} {
		got := len(q.take(nil))
		groups = append(groups, got)
		if got != want {
			t.Fatalf("groups %v, want 2 1 1 2: at most 256 KB, a larger one alone", groups)
		}
	}
	if got := q.take(nil); len(got) != 0 {
		t.Errorf("an empty queue gave %d", len(got))
	}
}

func TestApplyHeedsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		c.bootstrap()
		s := c.leader(time.Second)
		s.fsm.delay = time.Second
		bg := func(payload string) chan error {
			done := make(chan error, 1)
			go func() { _, err := s.Apply(context.Background(), put(payload)); done <- err }()
			synctest.Wait()
			return done
		}
		first, second := bg("a"), bg("b") // both entries on the way
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		begin := time.Now()
		_, err := s.Apply(ctx, put("never"))
		wantKind(t, err, store.KindTimeout)
		if d := time.Since(begin); d != 100*time.Millisecond {
			t.Errorf("left after %v, want 100ms", d)
		}
		if err := <-first; err != nil {
			t.Error(err)
		}
		if err := <-second; err != nil {
			t.Error(err)
		}
		ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err = s.Apply(ctx, put("c"))
		wantKind(t, err, store.KindMaybeApplied)
		time.Sleep(5 * time.Second)
		if got := s.fsm.all(); !slices.Equal(got, []string{"a", "b", "c"}) {
			t.Errorf("applied %v, want a b c", got)
		}
		canceled, cancel2 := context.WithCancel(t.Context())
		cancel2()
		_, err = s.Apply(canceled, put("d"))
		wantKind(t, err, store.KindTimeout)
	})
}
