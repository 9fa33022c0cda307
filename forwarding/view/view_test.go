package view

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// A name that is asked once makes no view; from the second time on it is followed,
// and what it answers is the same response until something changes.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.set("web", "a")
		s := w.newSet(t)
		if _, err := s.Follow(t.Context(), ask("web")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := w.trace(); got != "web>0 stale" {
			t.Errorf("asked once: %q", got)
		}
		first, err := s.Follow(t.Context(), ask("WEB"))
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := w.trace(); got != "WEB>0 stale, WEB>11 stale" {
			t.Errorf("asked twice: %q", got)
		}
		for range 3 {
			if again, _ := s.Follow(t.Context(), ask("wEb")); again != first {
				t.Error("another response without a change")
			}
		}
		if got := w.trace(); got != "" {
			t.Errorf("hits asked the servers: %q", got)
		}
		w.set("web", "b")
		synctest.Wait()
		if got := value(t, s, ask("web")); got != "b" {
			t.Errorf("after a change: %q", got)
		}
	})
}

// Who must not wait gets what a live view has, or nothing.
func TestFollowWithoutWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.set("web", "a")
		w.delay = time.Second
		s := w.newSet(t)
		now := func() (*rpc.Response, error) {
			req := ask("web")
			req.NoWait = true
			start := time.Now()
			resp, err := s.Follow(t.Context(), req)
			if took := time.Since(start); took > 0 {
				t.Errorf("waited %s", took)
			}
			return resp, err
		}
		if _, err := now(); err != rpc.ErrWouldWait {
			t.Errorf("without a view: %v, want that it would wait", err)
		}
		if got := w.trace(); got != "" {
			t.Errorf("asked the servers: %q", got)
		}
		follow(t, s, ask("web"))
		want, err := s.Follow(t.Context(), ask("web"))
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := now(); resp != want || err != nil {
			t.Errorf("with a view: %v, %v, want what it has", resp, err)
		}
		w.crash(store.ErrNoServers)
		synctest.Wait()
		if _, err := now(); err != rpc.ErrWouldWait {
			t.Errorf("without its server: %v, want that it would wait", err)
		}
	})
}

// The body keeps its identity as long as its bytes are the same: whoever keys by
// it need not look at it again.
func TestBodyKeepsItsIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.set("web", "a")
		s := w.newSet(t)
		before := follow(t, s, ask("web"))
		w.set("web", "a")
		synctest.Wait()
		after, _ := s.Follow(t.Context(), ask("web"))
		if after == before || after.Index != before.Index+1 || &after.Body[0] != &before.Body[0] {
			t.Errorf("index %d then %d, same body %v", before.Index, after.Index, &after.Body[0] == &before.Body[0])
		}
		time.Sleep(6 * time.Minute) // the blocking query's time is over once
		later, _ := s.Follow(t.Context(), ask("web"))
		if later == after || &later.Body[0] != &before.Body[0] {
			t.Error("a wait that ended changed the body")
		}
	})
}

// Many who come while a view is filled share its fetch; a failed fill is told to
// all of them and leaves nothing behind.
func TestFillIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.set("web", "a")
		s := w.newSet(t)
		follow(t, s, ask("other"))
		s.Follow(t.Context(), ask("web"))
		synctest.Wait()
		w.trace()
		w.delay = time.Second
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if got := value(t, s, ask("web")); got != "a" {
					t.Errorf("got %q", got)
				}
			})
		}
		all.Wait()
		synctest.Wait()
		if got := w.trace(); got != "web>0 stale, web>11 stale" {
			t.Errorf("calls %q", got)
		}
		w.crash(gone)
		w.delay = 0
		for range 2 {
			all.Go(func() {
				if _, err := s.Follow(t.Context(), ask("new")); !errors.Is(err, gone) {
					t.Errorf("got %v, want %v", err, gone)
				}
			})
		}
		all.Wait()
		if _, there := s.views[string(appendKey(nil, ask("new"), ""))]; there {
			t.Error("a view that was not filled is kept")
		}
		// Whoever has no time to wait is told so.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Follow(ctx, ask("new")); store.KindOf(err) != store.KindTimeout {
			t.Errorf("got %v, want a time-out", err)
		}
	})
}

// A server dies and another one is there: nobody notices but the age, and for a
// moment only.
func TestServerDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.set("web", "a")
		s := w.newSet(t)
		before := follow(t, s, ask("web"))
		woken := make(chan Answer, 1)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			a, _ := s.Cached(ctx, ask("web", after(before.Index, 5*time.Minute)), Control{MaxAge: -1})
			woken <- a
		}()
		time.Sleep(time.Minute)
		w.trace()
		w.crash(nil)
		time.Sleep(100 * time.Millisecond)
		if got := w.trace(); got != "web>10 stale, web>11 stale" {
			t.Errorf("calls %q, want one that confirms and one that follows", got)
		}
		now, err := s.Follow(t.Context(), ask("web"))
		if err != nil || now.LastContact != 0 || &now.Body[0] != &before.Body[0] {
			t.Errorf("after the change of server: %+v, %v", now, err)
		}
		select {
		case a := <-woken:
			t.Errorf("a waiting reader was woken with %+v", a)
		default:
		}
		w.set("web", "b")
		if a := <-woken; !a.Hit || a.Age != 0 || !strings.HasSuffix(string(a.Body), "b") {
			t.Errorf("the change woke the reader with %+v", a)
		}
		cancel()
	})
}

// While no server is there a view answers with its age, as far as its reader
// allows, and follows again within seconds when one is back.
func TestAllServersAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		for i := range 50 {
			w.set(fmt.Sprint("s", i), "a")
		}
		s := w.newSet(t)
		for i := range 50 { // as ?cached, they do not rest meanwhile
			if _, err := s.Cached(t.Context(), ask(fmt.Sprint("s", i)), Control{MaxAge: -1}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		w.crash(store.ErrNoServers)
		time.Sleep(time.Hour)
		got, err := s.Follow(t.Context(), ask("s1", maxStale(87600*time.Hour)))
		if err != nil || got.LastContact != time.Hour+unnoticed || got.KnownLeader {
			t.Errorf("an hour later: %+v, %v", got, err)
		}
		a, err := s.Cached(t.Context(), ask("s1"), Control{MaxAge: -1})
		if err != nil || !a.Hit || a.Age != time.Hour+unnoticed {
			t.Errorf("?cached an hour later: %+v, %v", a, err)
		}
		if _, err := s.Follow(t.Context(), ask("s1", maxStale(time.Minute))); !errors.Is(err, store.ErrNoServers) {
			t.Errorf("beyond max_stale: %v", err)
		}
		w.trace()
		time.Sleep(time.Hour)
		if n := strings.Count(w.trace(), ","); n < 50*3600/15 || n > 50*3600/5 {
			t.Errorf("%d attempts of 50 views in an hour", n)
		}
		w.up()
		w.set("s1", "b")
		time.Sleep(11 * time.Second)
		if got, err := s.Follow(t.Context(), ask("s1")); err != nil || got.LastContact != 0 || !strings.HasSuffix(string(got.Body), "b") {
			t.Errorf("servers are back: %+v, %v", got, err)
		}
		synctest.Wait()
		if n := w.parked(); n != 50 {
			t.Errorf("%d views follow again, want 50", n)
		}
	})
}

// A view of another datacenter answers DNS only while it is live.
func TestOtherDatacenterAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.set("web", "a")
		s := w.newSet(t)
		follow(t, s, ask("web", dc("dc2")))
		if a, b := follow(t, s, ask("web", dc("dc1"))), follow(t, s, ask("web")); &a.Body[0] != &b.Body[0] {
			t.Error("our own datacenter has two views")
		}
		w.crash(gone)
		time.Sleep(10 * time.Second)
		if _, err := s.Follow(t.Context(), ask("web", dc("dc2"))); !errors.Is(err, gone) {
			t.Errorf("the other datacenter is away: %v", err)
		}
		if a, err := s.Cached(t.Context(), ask("web", dc("dc2")), Control{MaxAge: -1}); err != nil || a.Age < 10*time.Second {
			t.Errorf("?cached: %+v, %v", a, err)
		}
		if _, err := s.Follow(t.Context(), ask("web")); err != nil {
			t.Errorf("our own is: %v", err)
		}
	})
}

// A view takes nothing older than it has from a server that lags, and believes the
// leader.
func TestNeverGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.set("web", "a")
		w.set("web", "b")
		s := w.newSet(t)
		follow(t, s, ask("web"))
		w.mu.Lock()
		w.stale["web"] = row{11, "a", time.Now()} // the next server has less
		w.lags = true
		w.mu.Unlock()
		w.trace()
		w.crash(nil)
		for range 40 {
			time.Sleep(100 * time.Millisecond)
			if got := value(t, s, ask("web")); got != "b" {
				t.Fatalf("went back to %q", got)
			}
		}
		if got := w.trace(); got != "web>11 stale, web>0 leader, web>12 leader" {
			t.Errorf("calls %q", got)
		}
		// The server that lags would not tell of this one.
		w.set("web", "b2")
		synctest.Wait()
		if got := value(t, s, ask("web")); got != "b2" {
			t.Errorf("what the leader had meanwhile: %q", got)
		}
		time.Sleep(confirmTime + shortTime/2)
		if got := w.trace(); got != "web>12 stale, web>0 leader, web>13 leader" {
			t.Errorf("calls %q", got)
		}
		w.lag(false)
		time.Sleep(shortTime)
		if got := w.trace(); got != "web>12 stale, web>13 stale" {
			t.Errorf("calls after it caught up: %q", got)
		}
		w.set("web", "c")
		synctest.Wait()
		if got := value(t, s, ask("web")); got != "c" {
			t.Errorf("after it caught up: %q", got)
		}
		// The leader's word holds, also when history was replaced.
		w.mu.Lock()
		w.leader["web"], w.stale["web"] = row{5, "z", time.Now()}, row{5, "z", time.Now()}
		w.mu.Unlock()
		w.crash(nil)
		time.Sleep(5 * time.Second)
		if got := value(t, s, ask("web")); got != "z" {
			t.Errorf("after a reset: %q", got)
		}
	})
}

// Each token has views of its own, and one that is refused has none any more.
func TestTokensAreApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.set("web", "a")
		s := w.newSet(t)
		for _, tok := range []string{"", "one", "two"} {
			if got := string(follow(t, s, ask("web", token(tok))).Body); !strings.HasPrefix(got, tok+"|") {
				t.Errorf("token %q got %q", tok, got)
			}
		}
		w.mu.Lock()
		w.refuse["one"] = store.Errorf(store.KindPermissionDenied, "ACL not found")
		w.mu.Unlock()
		w.set("web", "b")
		synctest.Wait()
		if _, err := s.Follow(t.Context(), ask("web", token("one"))); store.KindOf(err) != store.KindPermissionDenied {
			t.Errorf("a token that was deleted: %v", err)
		}
		for _, tok := range []string{"", "two"} {
			if got := value(t, s, ask("web", token(tok))); got != "b" {
				t.Errorf("token %q got %q", tok, got)
			}
		}
	})
}

// An unused view rests, keeps its answer for when nobody is there, and is
// forgotten after three days.
func TestUnusedViewsRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.set("web", "a")
		w.set("keep", "a")
		s := w.newSet(t)
		follow(t, s, ask("web"))
		if a, err := s.Cached(t.Context(), ask("keep"), Control{MaxAge: -1}); err != nil || a.Hit {
			t.Errorf("%+v, %v", a, err)
		}
		for range 25 {
			time.Sleep(time.Minute)
		}
		synctest.Wait()
		if n := w.parked(); n != 1 {
			t.Errorf("%d views follow, want only that of ?cached", n)
		}
		w.set("web", "b")
		if got := value(t, s, ask("web")); got != "b" {
			t.Errorf("a view that rested answers %q", got)
		}
		time.Sleep(25 * time.Minute)
		w.crash(gone)
		if got, err := s.Follow(t.Context(), ask("web")); err != nil || got.LastContact < 4*time.Minute || got.LastContact > 5*time.Minute {
			t.Errorf("a view that rested, with nobody there: %+v, %v", got, err)
		}
		w.up()
		time.Sleep(80 * time.Hour)
		if n, bytes := s.left(); n != 0 || bytes != 0 || w.parked() != 0 {
			t.Errorf("%d views with %d bytes are left, %d calls wait", n, bytes, w.parked())
		}
	})
}

// Too many views or bytes: the longest unused go.
func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.padding = 1000
		s := w.newSet(t, func(c *Config) { c.MaxViews, c.MaxBytes = 32, 1<<20 })
		for i := range 40 {
			follow(t, s, ask(fmt.Sprint("s", i)))
			s.Follow(t.Context(), ask("s0"))
			time.Sleep(time.Second)
		}
		if n := len(s.views); n < 30 || n > 32 {
			t.Errorf("%d views", n)
		}
		w.trace()
		for _, name := range []string{"s0", "s39"} {
			s.Follow(t.Context(), ask(name))
		}
		if got := w.trace(); got != "" {
			t.Errorf("views in use were given up: %q", got)
		}
		w.mu.Lock()
		w.padding = 200 << 10
		w.mu.Unlock()
		for i := range 10 {
			follow(t, s, ask(fmt.Sprint("big", i)))
			time.Sleep(time.Second)
		}
		if s.bytes > 1<<20 || len(s.views) > 10 {
			t.Errorf("%d views with %d bytes", len(s.views), s.bytes)
		}
		w.mu.Lock()
		w.padding = 300 << 10
		w.mu.Unlock()
		if got := follow(t, s, ask("huge")); len(got.Body) < 300<<10 {
			t.Errorf("a body too large to keep: %d bytes", len(got.Body))
		}
		synctest.Wait()
		if v := s.views[string(appendKey(nil, ask("huge"), ""))]; v != nil {
			t.Error("it was kept")
		}
		synctest.Wait()
		if n := w.parked(); n != len(s.views) {
			t.Errorf("%d calls wait for %d views", n, len(s.views))
		}
	})
}

// cache.entry_fetch_rate: a value that changes all the time is fetched so often.
func TestFetchRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.set("web", "0")
		s := w.newSet(t, func(c *Config) { c.Limits = Limits{FetchRate: 2, FetchBurst: 3} })
		follow(t, s, ask("web"))
		time.Sleep(time.Minute)
		w.trace()
		for i := range 1000 {
			w.set("web", fmt.Sprint(i))
			time.Sleep(10 * time.Millisecond)
		}
		if n := strings.Count(w.trace(), ",") + 1; n < 20 || n > 24 {
			t.Errorf("%d fetches in 10 s at 2 a second", n)
		}
		s.Reload(Limits{FetchRate: -1})
		time.Sleep(time.Second)
		w.trace()
		for i := range 100 {
			w.set("web", fmt.Sprint(i))
			time.Sleep(10 * time.Millisecond)
		}
		if n := strings.Count(w.trace(), ",") + 1; n != 100 {
			t.Errorf("%d fetches of 100 changes without a limit", n)
		}
	})
}

func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.set("web", "a")
		s := w.newSet(t)
		follow(t, s, ask("web"))
		for range 2 {
			if err := s.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if n := w.parked(); n != 0 {
			t.Errorf("%d calls are left", n)
		}
		if got := value(t, s, ask("web")); got != "a" {
			t.Errorf("after the stop: %q", got)
		}
		if a, err := s.Cached(t.Context(), ask("web"), Control{MaxAge: -1}); err != nil || a.Hit {
			t.Errorf("?cached after the stop: %+v, %v", a, err)
		}
	})
}

// A hit allocates nothing.
func TestHitAllocatesNothing(t *testing.T) {
	w := newWorld()
	w.set("web", "a")
	s := w.newSet(t)
	req := ask("web", token("31a2c0f8-0000-4000-8000-1234567890ab"), maxStale(87600*time.Hour))
	follow(t, s, req)
	if n := testing.AllocsPerRun(100, func() { s.Follow(context.Background(), req) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkHit(b *testing.B) {
	w := newWorld()
	w.set("web", "a")
	s := New(Config{Do: w, Datacenter: "dc1", Logger: discard, Registerer: registry()})
	defer s.Stop(context.Background())
	req := ask("web", maxStale(87600*time.Hour))
	for range 3 {
		s.Follow(context.Background(), req)
	}
	for _, bench := range []struct {
		name string
		do   func(context.Context, *rpc.Request) (*rpc.Response, error)
	}{
		{"follow", s.Follow},
		{"cached", func(ctx context.Context, r *rpc.Request) (*rpc.Response, error) {
			a, err := s.Cached(ctx, r, Control{MaxAge: -1})
			return a.Response, err
		}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := bench.do(context.Background(), req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// left is how many views there are, and their bytes.
func (s *Set) left() (views int, bytes int64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.views), int64(s.bytes)
}

// Nobody follows an address or a prepared query: while the servers are there each
// question is a call, and while they are away the last answer does, with its age.
func TestFollowLastKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.set("q", "a")
		s := w.newSet(t)
		for _, m := range []rpc.MethodID{rpc.QueryExecute, rpc.CatalogByAddress} {
			follow(t, s, ask("q", method(m)))
		}
		w.set("q", "b")
		once := ask("once", method(rpc.QueryExecute))
		value(t, s, once)
		for _, m := range []rpc.MethodID{rpc.QueryExecute, rpc.CatalogByAddress} {
			if got := value(t, s, ask("q", method(m))); got != "b" {
				t.Errorf("%d: %q with servers there, want b", m, got)
			}
		}
		w.crash(gone)
		time.Sleep(time.Hour)
		for _, m := range []rpc.MethodID{rpc.QueryExecute, rpc.CatalogByAddress} {
			resp, err := s.Follow(t.Context(), ask("q", method(m), maxStale(87600*time.Hour)))
			if err != nil || string(resp.Body) != "||b" || !resp.Kept || resp.LastContact < time.Hour || resp.KnownLeader {
				t.Errorf("%d: %+v, %v; want b, an hour old", m, resp, err)
			}
			if resp, err := s.Follow(t.Context(), ask("q", method(m), maxStale(time.Minute))); err == nil {
				t.Errorf("%d: an answer of %s for a reader that takes a minute", m, resp.LastContact)
			}
			if _, err := s.Follow(t.Context(), ask("q", method(m), token("other"))); err == nil {
				t.Errorf("%d: one token's answer was given to another", m)
			}
			if _, err := s.Follow(t.Context(), ask("q", method(m), dc("dc2"))); err == nil {
				t.Errorf("%d: another datacenter's answer without dns_config.stale_if_error", m)
			}
		}
		if _, err := s.Follow(t.Context(), once); err == nil {
			t.Error("a question asked once was kept")
		}
		w.up()
		time.Sleep(time.Minute)
		if resp, err := s.Follow(t.Context(), ask("q", method(rpc.QueryExecute))); err != nil || resp.Kept {
			t.Errorf("%+v, %v with the servers back", resp, err)
		}
	})
}
