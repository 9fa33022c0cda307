package view

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// many sends a request n times at once, and returns the bodies when all are back.
func many(t *testing.T, s *Set, n int, req *rpc.Request) (bodies []string, errs []error) {
	var mu sync.Mutex
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			resp, err := s.Do(t.Context(), req)
			mu.Lock()
			defer mu.Unlock()
			if errs = append(errs, err); err == nil {
				bodies = append(bodies, string(resp.Body))
			}
		})
	}
	all.Wait()
	return bodies, errs
}

// Stale and blocking reads share a call, and no others do.
func TestWhoShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			name  string
			req   *rpc.Request
			calls int
		}{
			{"stale", ask("web"), 1},
			{"stale key", ask("web", method(rpc.KVGet)), 1},
			{"default", ask("web", mode(store.Default)), 20},
			{"consistent", ask("web", mode(store.Consistent)), 20},
			{"blocking", ask("web", mode(store.Default), after(5, time.Minute)), 1},
			{"blocking and stale", ask("web", after(5, time.Minute)), 1},
			{"blocking and consistent", ask("web", mode(store.Consistent), after(5, time.Minute)), 20},
			{"write", ask("web", method(rpc.KVApply)), 20},
			{"execution of a query", ask("web", method(rpc.QueryExecute)), 1},
			{"index of a method that does not block", ask("web", mode(store.Default), method(rpc.QueryExecute), after(5, time.Minute)), 20},
		} {
			w := newWorld()
			w.set("web", "a")
			w.delay = time.Second
			s := w.newSet(t)
			bodies, _ := many(t, s, 20, tt.req)
			if n := strings.Count(w.trace(), ",") + 1; n != tt.calls || len(bodies) != 20 {
				t.Errorf("%s: %d calls for %d answers, want %d", tt.name, n, len(bodies), tt.calls)
			}
			if len(s.flights.open) != 0 {
				t.Errorf("%s: %d flights are left", tt.name, len(s.flights.open))
			}
		}
	})
}

// On a server, only what goes to other datacenters is shared.
func TestServersShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.delay = time.Second
		s := w.newSet(t, func(c *Config) { c.Server = true })
		many(t, s, 5, ask("web"))
		many(t, s, 5, ask("web", dc("dc2")))
		if n := strings.Count(w.trace(), ",") + 1; n != 6 {
			t.Errorf("%d calls, want 5 of its own and one", n)
		}
	})
}

// A thousand readers wait for one change by one call; each that leaves, the first
// too, leaves the others undisturbed.
func TestWatchersShareOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.set("web", "a")
		s := w.newSet(t)
		req := func(wait time.Duration) *rpc.Request { return ask("web", mode(store.Default), after(11, wait)) }
		type end struct {
			after time.Duration
			body  string
			err   error
		}
		start := time.Now()
		watch := func(ctx context.Context, wait time.Duration) <-chan end {
			c := make(chan end, 1)
			go func() {
				resp, err := s.Do(ctx, req(wait))
				e := end{after: time.Since(start), err: err}
				if err == nil {
					e.body = string(resp.Body)
				}
				c <- e
			}()
			synctest.Wait()
			return c
		}
		first, cancelFirst := context.WithCancel(t.Context())
		gone := watch(first, 5*time.Minute)
		short := watch(t.Context(), 10*time.Second) // leads when the first has gone
		var others []<-chan end
		for range 1000 {
			others = append(others, watch(t.Context(), 5*time.Minute))
		}
		brief := watch(t.Context(), 8*time.Second) // never leads
		if n := w.parked(); n != 1 {
			t.Errorf("%d calls wait, want 1", n)
		}
		time.Sleep(time.Second)
		cancelFirst()
		if e := <-gone; e.err == nil {
			t.Errorf("the first was not given up: %+v", e)
		}
		for name, c := range map[string]<-chan end{"who leads": short, "who does not": brief} {
			if e := <-c; e.err != nil || e.body != "||a" || e.after < 8*time.Second || e.after > 11*time.Second {
				t.Errorf("%s when its wait is over: %+v", name, e)
			}
		}
		synctest.Wait()
		if n := w.parked(); n != 1 {
			t.Errorf("%d calls wait after others left, want 1", n)
		}
		time.Sleep(time.Minute)
		w.trace()
		w.set("web", "b")
		for _, c := range others {
			if e := <-c; e.err != nil || e.body != "||b" || e.after > 71*time.Second {
				t.Fatalf("a watcher got %+v", e)
			}
		}
		if got := w.trace(); got != "" {
			t.Errorf("the change made calls: %q", got)
		}
		if len(s.flights.open) != 0 {
			t.Error("a flight is left")
		}
	})
}

// What went wrong is told to all who wait; tokens do not meet.
func TestSharedErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.delay = time.Second
		w.refuse["bad"] = store.Errorf(store.KindPermissionDenied, "ACL not found")
		s := w.newSet(t)
		var all sync.WaitGroup
		for _, tok := range []string{"bad", "good"} {
			all.Go(func() {
				bodies, errs := many(t, s, 5, ask("web", token(tok)))
				for _, err := range errs {
					if (tok == "bad") != errors.Is(err, &store.Error{Kind: store.KindPermissionDenied}) {
						t.Errorf("token %s: %v", tok, err)
					}
				}
				for _, b := range bodies {
					if !strings.HasPrefix(b, "good|") {
						t.Errorf("token %s got %q", tok, b)
					}
				}
			})
		}
		all.Wait()
		if n := strings.Count(w.trace(), ",") + 1; n != 2 {
			t.Errorf("%d calls", n)
		}
	})
}

func BenchmarkShared(b *testing.B) {
	w := newWorld()
	w.set("web", "a")
	s := New(Config{Do: w, Datacenter: "dc1", Logger: discard, Registerer: registry()})
	defer s.Stop(context.Background())
	req := ask("web")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Do(context.Background(), req); err != nil {
			b.Fatal(err)
		}
		w.calls = w.calls[:0]
	}
}

// Watchers whose time is over all at once ask again together, for what was current
// when they came or later.
func TestWatchersWhoseTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.set("web", "a")
		w.delay = 80 * time.Millisecond
		s := w.newSet(t)
		bodies, errs := many(t, s, 500, ask("web", mode(store.Default), after(11, 10*time.Second)))
		for _, err := range errs {
			if err != nil {
				t.Fatal(err)
			}
		}
		if n := strings.Count(w.trace(), ",") + 1; n > 20 || len(bodies) != 500 {
			t.Errorf("%d calls for %d watchers", n, len(bodies))
		}
		if len(s.flights.open) != 0 {
			t.Errorf("%d flights are left", len(s.flights.open))
		}
	})
}
