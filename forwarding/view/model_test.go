package view

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// version is a value with the time in which some server had it for its newest.
type version struct {
	index    store.Index
	value    string
	from, to time.Time // zero to: it still is
}

// history is what servers had, by name.
type history struct {
	w    *world
	seen map[string][]version
}

// note looks at what the servers have now. It is called after each step, and no
// time passes in between.
func (h *history) note() {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	now := time.Now()
	for name, list := range h.seen {
		for i := range list {
			v := &list[i]
			if v.to.IsZero() && h.w.leader[name].index != v.index && h.w.stale[name].index != v.index {
				v.to = now
			}
		}
	}
	for _, rows := range []map[string]row{h.w.leader, h.w.stale} {
		for name, r := range rows {
			list := h.seen[name]
			known := false
			for i := range list {
				if v := &list[i]; v.index == r.index {
					known, v.to = true, time.Time{}
				}
			}
			if !known {
				h.seen[name] = append(list, version{index: r.index, value: r.value, from: now})
			}
		}
	}
}

// check is whether an answer of that age is one that a server had.
func (h *history) check(name string, resp *rpc.Response) error {
	got := strings.SplitN(string(resp.Body), "|", 3)[2]
	since := time.Now().Add(-resp.LastContact)
	for _, v := range h.seen[name] {
		if v.index != resp.Index {
			continue
		}
		if v.value != got {
			return fmt.Errorf("%s at index %d is %q, was %q", name, resp.Index, got, v.value)
		}
		if !v.to.IsZero() && v.to.Before(since) {
			return fmt.Errorf("%s is %q at an age of %v, and is not since %v", name, got, resp.LastContact, time.Since(v.to))
		}
		return nil
	}
	return fmt.Errorf("%s never was %q at index %d", name, got, resp.Index)
}

// Whatever happens to the servers, a view answers with what some server had, no
// older than its age, never goes back, and is current soon after all is well.
func TestModel(t *testing.T) {
	names := []string{"a", "b", "c"}
	type step struct {
		do, name string
		wait     time.Duration
	}
	rapid.Check(t, func(rt *rapid.T) {
		// All of it is drawn before the bubble: rapid ends a case by panics.
		var steps []step
		for range rapid.IntRange(5, 60).Draw(rt, "steps") {
			one := step{
				do:   rapid.SampledFrom([]string{"set", "set", "ask", "ask", "dns", "die", "die", "older", "down", "up", "lag", "catch up", "wait", "wait", "refuse"}).Draw(rt, "do"),
				name: rapid.SampledFrom(names).Draw(rt, "name"),
			}
			if one.do == "wait" {
				one.wait = rapid.SampledFrom([]time.Duration{time.Millisecond, 300 * time.Millisecond, 3 * time.Second, time.Minute, 10 * time.Minute}).Draw(rt, "for")
			}
			steps = append(steps, one)
		}
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			for _, name := range names { // nothing is a value too
				w.leader[name], w.stale[name] = row{index: 1}, row{index: 1}
			}
			h := &history{w, map[string][]version{}}
			s := New(Config{Do: w, Datacenter: "dc1", Logger: discard, Registerer: registry()})
			defer s.Stop(context.Background())
			highest := map[string]store.Index{}
			wrong := ""
			look := func(name string, dns bool) *rpc.Response {
				synctest.Wait()
				h.note()
				ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
				defer cancel()
				var resp *rpc.Response
				var err error
				if dns {
					resp, err = s.Follow(ctx, ask(name, maxStale(time.Hour)))
				} else {
					var a Answer
					if a, err = s.Cached(ctx, ask(name), Control{MaxAge: -1}); err == nil {
						resp = a.Response
						if a.Age > 0 && a.Age > resp.LastContact {
							wrong = fmt.Sprintf("Age %v, LastContact %v", a.Age, resp.LastContact)
						}
					}
				}
				h.note()
				if err != nil {
					if w.down == nil && w.refuse[""] == nil {
						wrong = fmt.Sprintf("%s: %v, and servers are there", name, err)
					}
					return nil
				}
				if err := h.check(name, resp); err != nil {
					wrong = err.Error()
				}
				if !dns {
					if resp.Index < highest[name] {
						wrong = fmt.Sprintf("%s went back from index %d to %d", name, highest[name], resp.Index)
					}
					highest[name] = resp.Index
				}
				return resp
			}
			for i, one := range steps {
				name := one.name
				switch one.do {
				case "set":
					w.set(name, fmt.Sprint(i))
				case "ask":
					look(name, false)
				case "dns":
					look(name, true)
				case "die":
					w.crash(w.down)
				case "older": // the next server has less than the one that died
					w.mu.Lock()
					w.lags = true
					for name, list := range h.seen {
						v := list[len(list)/2]
						w.stale[name] = row{index: v.index, value: v.value}
					}
					w.mu.Unlock()
					w.crash(w.down)
				case "down":
					w.crash(store.ErrNoServers)
				case "up":
					w.up()
				case "lag":
					w.lag(true)
				case "catch up":
					w.lag(false)
				case "wait":
					time.Sleep(one.wait)
				case "refuse":
					// The view is gone, and the next may begin with less.
					w.mu.Lock()
					w.refuse[""] = store.Errorf(store.KindPermissionDenied, "no")
					w.mu.Unlock()
					w.set(name, fmt.Sprint(i))
					time.Sleep(2 * lastPause) // as long as it may take until a server is asked again
					if w.down == nil && !w.lags && look(name, false) != nil {
						wrong = "a token that is refused got an answer"
					}
					w.mu.Lock()
					w.refuse = map[string]error{}
					w.mu.Unlock()
					clear(highest)
				}
				h.note()
				if wrong != "" {
					break
				}
			}
			w.up()
			w.lag(false)
			time.Sleep(6 * time.Minute)
			for _, name := range names {
				if wrong != "" {
					break
				}
				resp := look(name, false)
				if resp == nil || resp.LastContact != 0 || resp.Index != max(w.leader[name].index, 1) {
					wrong = fmt.Sprintf("%s is %+v after all is well, want index %d", name, resp, w.leader[name].index)
				}
			}
			if wrong != "" {
				rt.Log(wrong)
				rt.Fail()
			}
		})
	})
}
