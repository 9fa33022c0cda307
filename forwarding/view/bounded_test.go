package view

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// remote is a default read of another datacenter.
func remote(name string, edits ...func(*rpc.Request)) *rpc.Request {
	return ask(name, append([]func(*rpc.Request){dc("dc2"), mode(store.Default)}, edits...)...)
}

func orErr(t *testing.T, s *Set, r *rpc.Request, limit time.Duration) (Answer, error) {
	t.Helper()
	a, err := s.Bounded(t.Context(), r, limit)
	if err == nil && a.Kept != (a.Instead.Reason != "") {
		t.Errorf("kept %v for the reason %q", a.Kept, a.Instead.Reason)
	}
	return a, err
}

func mustBound(t *testing.T, s *Set, r *rpc.Request, limit time.Duration) Answer {
	t.Helper()
	a, err := orErr(t, s, r, limit)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// While a datacenter is away its last answer is given with its age, up to the
// limit and not a moment longer; back again, it answers itself.
func TestBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.set("web", "a")
		s := w.newSet(t)
		const limit = time.Minute
		if a := mustBound(t, s, remote("web"), limit); a.Instead.Reason != "" || string(a.Body) != "|dc2|a" {
			t.Fatalf("%q instead for %q", a.Body, a.Instead.Reason)
		}
		time.Sleep(20 * time.Second)
		w.crash(gone)
		began := time.Now()
		a := mustBound(t, s, remote("web"), limit)
		if took := time.Since(began); took > suspectAfter+probeTime {
			t.Errorf("the first answer took %s", took)
		}
		if a.Instead.Reason != Unreachable || string(a.Body) != "|dc2|a" || a.KnownLeader || a.Effective != store.Stale || a.LastContact != a.Age {
			t.Errorf("%q instead for %q: %+v", a.Body, a.Instead.Reason, a.Response)
		}
		if want := 20*time.Second + time.Since(began); a.Age != want {
			t.Errorf("age %s, want %s", a.Age, want)
		}
		began = time.Now()
		if a := mustBound(t, s, remote("web"), limit); time.Since(began) != 0 || a.Instead.Reason != Unreachable {
			t.Errorf("a datacenter known to be away was waited for: %s", time.Since(began))
		}
		// Neither another token nor another question gets it.
		for _, r := range []*rpc.Request{remote("web", token("t")), remote("web", dc("dc3")), remote("db")} {
			if a, err := orErr(t, s, r, limit); err == nil {
				t.Errorf("another question was answered: %q", a.Body)
			}
		}
		time.Sleep(limit)
		if a, err := orErr(t, s, remote("web"), limit); err == nil {
			t.Errorf("older than the limit: %s", a.Age)
		}
		if a, err := orErr(t, s, remote("web"), 10*limit); err != nil || a.Age < limit {
			t.Errorf("a longer limit: %v, %v", a.Age, err)
		}
		w.up()
		time.Sleep(2 * probeRarely)
		if n := s.outages.n.Load(); n != 0 {
			t.Errorf("%d outages though it is back", n)
		}
		if a := mustBound(t, s, remote("web"), limit); a.Instead.Reason != "" {
			t.Errorf("instead for %q though it is back", a.Instead.Reason)
		}
	})
}

// A leader is needed by default reads only.
func TestBoundedWithoutLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.set("web", "a")
		s := w.newSet(t)
		mustBound(t, s, remote("web"), time.Minute)
		w.lose()
		w.set("web", "b")
		if a := mustBound(t, s, remote("web"), time.Minute); a.Instead.Reason != NoLeader || string(a.Body) != "|dc2|a" {
			t.Errorf("%q instead for %q", a.Body, a.Instead.Reason)
		}
		if a := mustBound(t, s, remote("web", mode(store.Stale)), time.Minute); a.Instead.Reason != "" || string(a.Body) != "|dc2|b" {
			t.Errorf("a stale read: %q instead for %q", a.Body, a.Instead.Reason)
		}
		// What the stale read brought is the last good reply.
		if a := mustBound(t, s, remote("web"), time.Minute); a.Instead.Reason != NoLeader || string(a.Body) != "|dc2|b" {
			t.Errorf("%q instead for %q", a.Body, a.Instead.Reason)
		}
	})
}

// A large answer that takes long is no outage.
func TestBoundedSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.set("web", "a")
		s := w.newSet(t)
		mustBound(t, s, remote("web"), time.Minute)
		w.mu.Lock()
		w.slow = map[string]time.Duration{"web": 20 * time.Second}
		w.mu.Unlock()
		w.set("web", "b")
		began := time.Now()
		if a := mustBound(t, s, remote("web"), time.Minute); a.Instead.Reason != "" || string(a.Body) != "|dc2|b" || time.Since(began) != 20*time.Second {
			t.Errorf("after %s %q instead for %q", time.Since(began), a.Body, a.Instead.Reason)
		}
	})
}

// What a datacenter refuses is not answered with what it once allowed.
func TestBoundedRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.set("web", "a")
		resolved := error(nil)
		s := w.newSet(t, func(c *Config) {
			c.Resolve = func(context.Context, *rpc.Request) error { return resolved }
		})
		denied := store.Errorf(store.KindPermissionDenied, "ACL not found")
		mustBound(t, s, remote("web", token("t")), time.Minute)
		w.mu.Lock()
		w.refuse["t"] = denied
		w.mu.Unlock()
		if _, err := orErr(t, s, remote("web", token("t")), time.Minute); store.KindOf(err) != store.KindPermissionDenied {
			t.Errorf("refused: %v", err)
		}
		w.crash(gone)
		if a, err := orErr(t, s, remote("web", token("t")), time.Minute); err == nil {
			t.Errorf("after the token was refused: %q", a.Body)
		}
		w.up()
		time.Sleep(time.Minute)

		mustBound(t, s, remote("web", token("u")), time.Minute)
		w.crash(gone)
		resolved = denied
		for range 2 { // the second time nothing is kept any more
			if a, err := orErr(t, s, remote("web", token("u")), time.Minute); err == nil {
				t.Errorf("with a token that is gone: %q", a.Body)
			}
		}
	})
}

// A blocking query that has seen what is kept waits: for its time, the limit, or
// the datacenter.
func TestBoundedBlocking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.set("web", "a")
		s := w.newSet(t)
		first := mustBound(t, s, remote("web"), time.Hour)
		// A query that waits when the datacenter goes, and one that begins then.
		ended := make(chan string, 2)
		block := func(wait time.Duration) {
			began := time.Now()
			a, err := s.Bounded(t.Context(), remote("web", after(first.Index, wait)), time.Hour)
			text := fmt.Sprint(err)
			if err == nil {
				text = fmt.Sprintf("%s %q after %s", a.Body, a.Instead.Reason, time.Since(began))
			}
			ended <- text
		}
		go block(time.Minute)
		time.Sleep(10 * time.Second)
		w.crash(gone)
		if got, want := <-ended, `|dc2|a "unreachable" after 1m0s`; got != want {
			t.Errorf("a query in an outage ended with %q, want %q", got, want)
		}
		go block(10 * time.Minute)
		time.Sleep(20 * time.Second)
		w.up()
		time.Sleep(10 * time.Second)
		w.set("web", "b")
		if got := <-ended; !strings.HasPrefix(got, `|dc2|b "" after 30s`) {
			t.Errorf("back with another value: %q", got)
		}
		// One that has seen something else is answered at once.
		w.crash(gone)
		mustBound(t, s, remote("web"), time.Hour)
		began := time.Now()
		if a := mustBound(t, s, remote("web", after(first.Index, time.Minute)), time.Hour); a.Instead.Reason == "" || time.Since(began) != 0 {
			t.Errorf("an older index: %q after %s", a.Instead.Reason, time.Since(began))
		}
		// And nothing is older than its limit when it comes.
		began = time.Now()
		a, err := s.Bounded(t.Context(), remote("web", after(first.Index+1, time.Hour)), time.Minute)
		if err == nil {
			t.Errorf("answered after %s with age %s", time.Since(began), a.Age)
		}
		if took := time.Since(began); took > 2*time.Minute {
			t.Errorf("the error took %s", took)
		}
	})
}

// The datacenter of a client agent's own servers is like any other; a server reads
// its own state.
func TestBoundedOwnDatacenter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.set("web", "a")
		client := w.newSet(t)
		server := w.newSet(t, func(c *Config) { c.Server = true })
		own := remote("web", dc("dc1"))
		mustBound(t, client, own, time.Minute)
		mustBound(t, server, own, time.Minute)
		w.crash(store.ErrNoServers)
		if a := mustBound(t, client, own, time.Minute); a.Instead.Reason != Unreachable {
			t.Errorf("client agent: instead for %q", a.Instead.Reason)
		}
		if _, err := orErr(t, server, own, time.Minute); err == nil {
			t.Error("a server answered with what it kept of itself")
		}
	})
}

// Only answers that may be kept are, and they are bounded.
func TestBoundedRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.padding = 1000
		s := w.newSet(t, func(c *Config) { c.KeptBytes = 20 << 10 })
		for i := range 100 {
			mustBound(t, s, remote(fmt.Sprint("s", i)), time.Minute)
			mustBound(t, s, remote("s0"), time.Minute) // in use: it stays
		}
		n, bytes := s.replies.load()
		if bytes > 20<<10 || n < 10 {
			t.Errorf("%d replies of %d bytes", n, bytes)
		}
		w.padding = 6 << 10
		mustBound(t, s, remote("large"), time.Minute)
		mustBound(t, s, remote("s1", mode(store.Consistent)), time.Minute)
		mustBound(t, s, remote("s2", method(rpc.StatusPeers)), time.Minute)
		w.crash(gone)
		mustBound(t, s, remote("s0"), time.Minute)
		for _, r := range []*rpc.Request{remote("large"), remote("s1"), remote("s0", mode(store.Consistent)), remote("s2", method(rpc.StatusPeers))} {
			if a, err := orErr(t, s, r, time.Minute); err == nil {
				t.Errorf("%s was kept: %q", r.Query.Name, a.Body[:10])
			}
		}
	})
}

// DNS has a limit of its own.
func TestFollowBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.set("web", "a")
		reg := prometheus.NewRegistry()
		s := w.newSet(t, func(c *Config) { c.DNSStale, c.Registerer = time.Minute, reg })
		follow(t, s, remote("web", mode(store.Stale)))
		if _, err := s.Follow(t.Context(), remote("once", mode(store.Stale))); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		w.crash(gone)
		time.Sleep(10 * time.Second)
		for _, name := range []string{"web", "once"} { // from a view, and from what is kept
			resp, err := s.Follow(t.Context(), remote(name, mode(store.Stale)))
			if err != nil || !resp.Kept || resp.LastContact < 10*time.Second || resp.LastContact > time.Minute {
				t.Errorf("%s: %+v, %v", name, resp, err)
			}
		}
		synctest.Wait()
		if n := testutil.CollectAndCount(outageCollector{s}, "landbridge_view_outage_seconds"); n != 1 {
			t.Errorf("%d outages are shown, want 1", n)
		}
		time.Sleep(time.Minute)
		for _, name := range []string{"web", "once"} {
			if resp, err := s.Follow(t.Context(), remote(name, mode(store.Stale))); err == nil {
				t.Errorf("%s after more than the limit: %s", name, resp.LastContact)
			}
		}
		s.Reload(Limits{})
		w.up()
		time.Sleep(time.Minute)
		follow(t, s, remote("web", mode(store.Stale)))
		w.crash(gone)
		time.Sleep(10 * time.Second)
		if _, err := s.Follow(t.Context(), remote("web", mode(store.Stale))); err == nil {
			t.Error("answered without a limit in the configuration")
		}
	})
}
