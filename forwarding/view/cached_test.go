package view

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

func TestParseControl(t *testing.T) {
	for _, tt := range []struct {
		header string
		want   Control
		bad    bool
	}{
		{"", Control{MaxAge: -1}, false},
		{"max-age=30", Control{MaxAge: 30 * time.Second}, false},
		{"max-age=0", Control{Revalidate: true}, false},
		{"must-revalidate", Control{MaxAge: -1, Revalidate: true}, false},
		{"Max-Age=5, stale-if-error=60", Control{MaxAge: 5 * time.Second, StaleIfError: time.Minute}, false},
		{"no-cache, private", Control{MaxAge: -1}, false},
		{`max-age="7"`, Control{MaxAge: 7 * time.Second}, false},
		{"max-age", Control{}, true},
		{"max-age=", Control{}, true},
		{"max-age=-1", Control{}, true},
		{"max-age=1.5", Control{}, true},
		{"max-age=99999999999999999999", Control{}, true},
		{"stale-if-error=x", Control{}, true},
	} {
		got, err := ParseControl([]string{tt.header})
		if (err != nil) != tt.bad || !tt.bad && got != tt.want {
			t.Errorf("%q: %+v, %v; want %+v", tt.header, got, err, tt.want)
		}
	}
	if got, err := ParseControl([]string{"max-age=1", "stale-if-error=2"}); err != nil || got.StaleIfError != 2*time.Second {
		t.Errorf("two headers: %+v, %v", got, err)
	}
}

var anyAge = Control{MaxAge: -1}

// What can be followed: a miss, then hits of age 0, also for who waits for a change.
func TestCachedViews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.set("web", "a")
		s := w.newSet(t)
		expect := func(req *rpc.Request, hit bool, body string) Answer {
			t.Helper()
			a, err := s.Cached(t.Context(), req, Control{Revalidate: true})
			if err != nil || a.Hit != hit || a.Age != 0 || string(a.Body) != "||"+body || a.Effective != store.Stale {
				t.Errorf("%+v, %v; want hit %v and %q", a, err, hit, body)
			}
			return a
		}
		req := ask("web", mode(store.Default))
		expect(req, false, "a")
		time.Sleep(time.Hour)
		synctest.Wait() // the follower asks anew in the same instant
		w.trace()
		a := expect(req, true, "a")
		if got := w.trace(); got != "" {
			t.Errorf("a hit asked the servers: %q", got)
		}
		time.AfterFunc(time.Minute, func() { w.set("web", "b") })
		start := time.Now()
		b := expect(ask("web", after(a.Index, 5*time.Minute)), true, "b")
		if time.Since(start) != time.Minute {
			t.Errorf("the change came after %v", time.Since(start))
		}
		start = time.Now()
		expect(ask("web", after(b.Index, 10*time.Second)), true, "b")
		if time.Since(start) != 10*time.Second {
			t.Errorf("a wait of 10s took %v", time.Since(start))
		}
		expect(ask("web", after(3, time.Minute)), true, "b") // long past: at once
		// The index of a reader from before a restore: it waits, and gets what is.
		start = time.Now()
		expect(ask("web", after(b.Index+100, 10*time.Second)), true, "b")
		if time.Since(start) != 10*time.Second {
			t.Errorf("a wait for an index that is far took %v", time.Since(start))
		}
		w.mu.Lock()
		w.refuse[""] = store.Errorf(store.KindPermissionDenied, "no")
		w.mu.Unlock()
		time.AfterFunc(time.Second, func() { w.set("web", "c") })
		if _, err := s.Cached(t.Context(), ask("web", after(b.Index, time.Minute)), anyAge); store.KindOf(err) != store.KindPermissionDenied {
			t.Errorf("refused while waiting: %v", err)
		}
	})
}

// What cannot be followed is kept as Cache-Control allows.
func TestCachedAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.set("q", "a")
		s := w.newSet(t)
		req := ask("q", method(rpc.QueryExecute))
		step := func(what string, c Control, hit bool, age time.Duration, fails bool) {
			t.Helper()
			a, err := s.Cached(t.Context(), req, c)
			if (err != nil) != fails || !fails && (a.Hit != hit || a.Age != age) {
				t.Errorf("%s: %+v, %v; want hit %v, age %v", what, a, err, hit, age)
			}
		}
		step("first", anyAge, false, 0, false)
		time.Sleep(time.Minute)
		step("any age", anyAge, true, time.Minute, false)
		step("young enough", Control{MaxAge: time.Minute}, true, time.Minute, false)
		step("too old", Control{MaxAge: time.Second}, false, 0, false)
		time.Sleep(time.Second)
		step("asked to revalidate", Control{MaxAge: -1, Revalidate: true}, false, 0, false)
		time.Sleep(time.Second)
		w.crash(store.ErrNoServers)
		at := time.Now()
		step("nobody there", Control{Revalidate: true}, false, 0, true)
		step("nobody there, and old ones will do", Control{Revalidate: true, StaleIfError: time.Minute}, true, time.Second+time.Since(at)+7*time.Second, false)
		time.Sleep(time.Minute)
		step("but not so old ones", Control{Revalidate: true, StaleIfError: time.Minute}, false, 0, true)
		step("any age, nobody there", anyAge, true, time.Second+time.Since(at), false)
		w.up()
		w.mu.Lock()
		w.refuse[""] = store.Errorf(store.KindNotFound, "Query not found")
		w.mu.Unlock()
		step("gone", Control{Revalidate: true, StaleIfError: time.Hour}, false, 0, true)
		time.Sleep(73 * time.Hour)
		if n, bytes := s.left(); n != 0 || bytes != 0 {
			t.Errorf("%d answers with %d bytes are left", n, bytes)
		}
	})
}

// A server answers for its own datacenter from its own state, and keeps nothing.
func TestCachedOnAServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.set("web", "a")
		s := w.newSet(t, func(c *Config) { c.Server = true })
		for i, want := range []bool{false, true, true} {
			a, err := s.Cached(t.Context(), ask("web", dc("dc1"), mode(store.Default)), anyAge)
			if err != nil || a.Hit != want || a.Age != 0 {
				t.Errorf("call %d: %+v, %v", i, a, err)
			}
		}
		if got := w.trace(); got != "web>0 stale, web>0 stale, web>0 stale" || len(s.views) != 0 {
			t.Errorf("calls %q, %d views", got, len(s.views))
		}
		follow(t, s, ask("web", dc("dc2")))
		if len(s.views) != 1 {
			t.Errorf("%d views of another datacenter", len(s.views))
		}
	})
}

func TestMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(time.Minute, 100)
		if m.seen([]byte("a")) || !m.seen([]byte("a")) {
			t.Error("a key is known from the second time on")
		}
		time.Sleep(90 * time.Second)
		if !m.seen([]byte("a")) {
			t.Error("it is forgotten too early")
		}
		time.Sleep(3 * time.Minute)
		if m.seen([]byte("a")) {
			t.Error("it is never forgotten")
		}
		for i := range 10000 {
			m.seen(fmt.Append(nil, i))
		}
		if n := len(m.new) + len(m.old); n > 202 {
			t.Errorf("%d keys are held", n)
		}
	})
}

// Keys differ if anything of the question does.
func TestKeys(t *testing.T) {
	edits := map[string]func(*rpc.Request){
		"plain":      func(*rpc.Request) {},
		"method":     method(rpc.CatalogServiceNodes),
		"name":       func(r *rpc.Request) { r.Query.Name = "web2" },
		"dc":         dc("dc2"),
		"token":      token("t"),
		"filter":     func(r *rpc.Request) { r.Filter = "t" },
		"near":       func(r *rpc.Request) { r.Query.Near = "t" },
		"separator":  func(r *rpc.Request) { r.Query.Separator = "t" },
		"source":     func(r *rpc.Request) { r.SourceDC = "t" },
		"tag":        func(r *rpc.Request) { r.Query.Tags = []string{"t"} },
		"tags":       func(r *rpc.Request) { r.Query.Tags = []string{"t", "t"} },
		"meta":       func(r *rpc.Request) { r.Query.NodeMeta = map[string]string{"t": "t"} },
		"form":       func(r *rpc.Request) { r.Representation = rpc.JSON },
		"passing":    func(r *rpc.Request) { r.Query.PassingOnly = true },
		"translated": func(r *rpc.Request) { r.TranslateWAN = true },
		"body":       func(r *rpc.Request) { r.Body = []byte("t") },
	}
	keys := map[string]string{}
	for name, edit := range edits {
		r := ask("web", edit)
		k := string(appendKey(nil, r, r.Datacenter))
		if other, ok := keys[k]; ok {
			t.Errorf("%s and %s have one key", name, other)
		}
		keys[k] = name
	}
	same := ask("web", mode(store.Consistent), after(5, time.Second), maxStale(time.Second))
	if keys[string(appendKey(nil, same, ""))] != "plain" {
		t.Error("how fresh an answer must be is part of the key")
	}
	kv := func(name string) string { return string(appendKey(nil, ask(name, method(rpc.KVGet)), "")) }
	if kv("A") == kv("a") {
		t.Error("keys of the store have one case")
	}
}
