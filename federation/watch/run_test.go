package watch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// story runs a plan in virtual time while tell changes what it follows, and
// returns what the handler got.
func story(t *testing.T, p *Plan, f *fakeAgent, opts Options, tell func()) []string {
	t.Helper()
	var g got
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx, f, opts, g.handle) }()
	synctest.Wait()
	tell()
	time.Sleep(time.Second)
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run ended with %v", err)
	}
	return g.values()
}

func TestChangesAreHandled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeAgent(5, `{"a": []}`)
		values := story(t, mustPlan(t, Spec{Type: "services", Token: "secret"}), f, Options{}, func() {
			time.Sleep(20 * time.Minute) // queries end without news
			f.put(7, `{"a":["x"]}`)
			time.Sleep(time.Second)
			f.put(9, `{ "a": ["x"] }`) // the same, written otherwise
			time.Sleep(time.Second)
			f.put(3, `{"a":["x"]}`) // restored from a snapshot, nothing lost
			time.Sleep(10 * time.Minute)
			f.put(4, `{"b":[]}`)
		})
		want := []string{`5 {"a":[]}`, `7 {"a":["x"]}`, `4 {"b":[]}`}
		if diff := cmp.Diff(want, values); diff != "" {
			t.Errorf("handled (-want +got):\n%s", diff)
		}
		// None, 5 for 20 minutes, 7, 9 until its wait is over, none, 3, 4.
		var asked []string
		for _, q := range slices.Compact(f.queries) {
			asked = append(asked, strings.TrimPrefix(q, "/v1/catalog/services?"))
		}
		if diff := cmp.Diff([]string{" secret", "index=5&wait=5m0s secret", "index=7&wait=5m0s secret", "index=9&wait=5m0s secret",
			" secret", "index=3&wait=5m0s secret", "index=4&wait=5m0s secret"}, asked); diff != "" {
			t.Errorf("asked (-want +got):\n%s", diff)
		}
	})
}

func TestOneHandlerAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeAgent(1, `0`)
		var running, most atomic.Int32
		var g got
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- mustPlan(t, Spec{Type: "nodes"}).Run(ctx, f, Options{}, func(ctx context.Context, v Value) error {
				most.Store(max(most.Load(), running.Add(1)))
				defer running.Add(-1)
				time.Sleep(time.Minute)
				return g.handle(ctx, v)
			})
		}()
		for i := range 50 { // while the first one runs
			time.Sleep(time.Second)
			f.put(uint64(i+2), fmt.Sprint(i+1))
		}
		time.Sleep(10 * time.Minute)
		cancel()
		<-done
		if diff := cmp.Diff([]string{"1 0", "51 50"}, g.values()); diff != "" || most.Load() != 1 {
			t.Errorf("%d at a time, handled (-want +got):\n%s", most.Load(), diff)
		}
	})
}

func TestErrorsAreRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeAgent(5, `[]`)
		down := errors.New("connection refused")
		var waits []time.Duration
		recovered := 0
		opts := Options{
			Failed:    func(_ error, again time.Duration) error { waits = append(waits, again); return nil },
			Recovered: func() { recovered++ },
		}
		values := story(t, mustPlan(t, Spec{Type: "nodes"}), f, opts, func() {
			f.set(func(f *fakeAgent) { f.err = down })
			time.Sleep(time.Hour)
			// Back, with the same value under a smaller index: nothing happened.
			f.set(func(f *fakeAgent) { f.err, f.index = nil, 2 })
			time.Sleep(2 * time.Minute)
			f.set(func(f *fakeAgent) { f.status, f.body = 500, "No cluster leader" })
			time.Sleep(time.Minute)
			f.set(func(f *fakeAgent) { f.status, f.body, f.index = 200, `[1]`, 3 })
			time.Sleep(2 * time.Minute)
		})
		if diff := cmp.Diff([]string{"5 []", "3 [1]"}, values); diff != "" {
			t.Errorf("handled (-want +got):\n%s", diff)
		}
		if recovered < 1 || len(waits) < 60 || len(waits) > 180 {
			t.Errorf("%d failures in an hour, %d recoveries", len(waits), recovered)
		}
		if waits[0] > time.Second || waits[0] < time.Second/2 || waits[20] < retryMost/2 || waits[20] > retryMost {
			t.Errorf("waits %s", waits[:21])
		}
		if waits[20] == waits[21] && waits[21] == waits[22] {
			t.Errorf("waits have no jitter: %s", waits[20:23])
		}
	})
}

func TestRunEndsWithTheHandlersError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := errors.New("bad")
		f := newFakeAgent(1, "[]")
		if err := mustPlan(t, Spec{Type: "nodes"}).Run(t.Context(), f, Options{}, func(context.Context, Value) error { return bad }); !errors.Is(err, bad) {
			t.Errorf("ended with %v", err)
		}
		f.err = errors.New("refused")
		opts := Options{Failed: func(err error, _ time.Duration) error { return fmt.Errorf("gave up: %w", err) }}
		if err := mustPlan(t, Spec{Type: "nodes"}).Run(t.Context(), f, opts, nil); !errors.Is(err, f.err) {
			t.Errorf("ended with %v", err)
		}
	})
}

func TestEvents(t *testing.T) {
	ids := func(from, to int) string {
		var list []string
		for i := from; i <= to; i++ {
			list = append(list, fmt.Sprintf(`{"ID":"%d"}`, i))
		}
		return "[" + strings.Join(list, ",") + "]"
	}
	synctest.Test(t, func(t *testing.T) {
		f := newFakeAgent(900, ids(1, 3))
		f.unequal = true
		values := story(t, mustPlan(t, Spec{Type: "event", Name: "x"}), f, Options{}, func() {
			f.put(100, ids(1, 5)) // its index is like a hash: it may fall
			time.Sleep(time.Second)
			f.put(500, ids(1, 5)) // an event of another name
			time.Sleep(time.Second)
			f.put(101, ids(4, 7)) // the agent forgets old ones
			time.Sleep(time.Second)
			f.set(func(f *fakeAgent) { f.err = errors.New("agent restarts") })
			time.Sleep(time.Second)
			f.set(func(f *fakeAgent) { f.err, f.body, f.index = nil, ids(7, 8), 300 })
			time.Sleep(10 * time.Second)
		})
		want := []string{"100 " + ids(4, 5), "101 " + ids(6, 7), "300 " + ids(8, 8)}
		if diff := cmp.Diff(want, values); diff != "" {
			t.Errorf("handled (-want +got):\n%s", diff)
		}
	})
	synctest.Test(t, func(t *testing.T) { // the first event ever
		f := newFakeAgent(1, "[]")
		f.unequal = true
		values := story(t, mustPlan(t, Spec{Type: "event"}), f, Options{}, func() { f.put(77, ids(1, 1)) })
		if diff := cmp.Diff([]string{"77 " + ids(1, 1)}, values); diff != "" {
			t.Errorf("handled (-want +got):\n%s", diff)
		}
	})
}

func TestServiceOfTheAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeAgent(0, `{"ID":"web","Port":1}`)
		f.hash = "h1"
		values := story(t, mustPlan(t, Spec{Type: "agent_service", ServiceID: "web"}), f, Options{}, func() {
			time.Sleep(20 * time.Minute)
			f.set(func(f *fakeAgent) { f.hash, f.body = "h2", `{"ID":"web","Port":2}` })
			time.Sleep(time.Second)
			f.set(func(f *fakeAgent) { f.hash, f.status, f.body = "", 404, "unknown service ID: web" })
			time.Sleep(time.Minute)
			f.set(func(f *fakeAgent) { f.hash, f.status, f.body = "h2", 200, `{"ID":"web","Port":2}` })
			time.Sleep(time.Minute)
		})
		want := []string{`0 {"ID":"web","Port":1}`, `0 {"ID":"web","Port":2}`, "0 null", `0 {"ID":"web","Port":2}`}
		if diff := cmp.Diff(want, values); diff != "" {
			t.Errorf("handled (-want +got):\n%s", diff)
		}
		if n := f.asked(); n > 35 {
			t.Errorf("asked %d times in 22 minutes", n)
		}
	})
}

func TestNoBusyLoop(t *testing.T) {
	for name, spoil := range map[string]func(*fakeAgent){
		"answers without an index":  func(f *fakeAgent) { f.index = 0 },
		"answers that are no JSON":  func(f *fakeAgent) { f.body = "<html>" },
		"an index that never rests": func(f *fakeAgent) { f.unequal = true },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeAgent(1, "[]")
				spoil(f)
				values := story(t, mustPlan(t, Spec{Type: "nodes"}), f, Options{}, func() {
					for i := range 10000 {
						if f.unequal { // writes beside what is watched
							f.put(uint64(i+2), "[]")
						}
						time.Sleep(time.Millisecond)
					}
				})
				if len(values) > 1 {
					t.Errorf("%d runs of the handler for one value", len(values))
				}
				if n := f.asked(); n > 120 {
					t.Errorf("asked %d times in 11 seconds", n)
				}
			})
		})
	}
}

func TestGet(t *testing.T) {
	f := newFakeAgent(9, `[{"ID":"1"}]`)
	v, err := mustPlan(t, Spec{Type: "event"}).Get(t.Context(), f)
	if err != nil || v.Index != 9 || string(v.JSON) != `[{"ID":"1"}]` {
		t.Errorf("%d %s, %v", v.Index, v.JSON, err)
	}
	f.status, f.body = 403, "Permission denied\n"
	_, err = mustPlan(t, Spec{Type: "key", Key: "a"}).Get(t.Context(), f)
	var status *StatusError
	if !errors.As(err, &status) || err.Error() != "Unexpected response code: 403 (Permission denied)" {
		t.Errorf("error %v", err)
	}
}

// TestModel: whatever happens to a value, its index, the agent and the handler's
// speed, the handler sees the start, ends with the last state, and is never run
// for what it has just seen.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		type step struct{ op, value, index, wait int }
		steps := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) step {
			return step{rapid.IntRange(0, 4).Draw(rt, "op"), rapid.IntRange(0, 3).Draw(rt, "value"),
				rapid.IntRange(1, 50).Draw(rt, "index"), rapid.SampledFrom([]int{0, 1, 90, 2000, 400000}).Draw(rt, "wait")}
		}), 1, 20).Draw(rt, "steps")
		slow := time.Duration(rapid.SampledFrom([]int{0, 1, 5000}).Draw(rt, "slow")) * time.Millisecond
		var values []string
		last := "0"
		synctest.Test(t, func(t *testing.T) {
			f := newFakeAgent(10, last)
			var g got
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() {
				done <- mustPlan(t, Spec{Type: "nodes"}).Run(ctx, f, Options{}, func(ctx context.Context, v Value) error {
					time.Sleep(slow)
					return g.handle(ctx, v)
				})
			}()
			synctest.Wait()
			for _, s := range steps {
				f.set(func(f *fakeAgent) {
					switch s.op {
					case 0, 1: // a write
						last = fmt.Sprint(s.value)
						f.body, f.index = last, f.index+1
					case 2: // a write elsewhere
						f.index++
					case 3: // a restore; the index may fall
						last = fmt.Sprint(s.value)
						f.body, f.index = last, uint64(s.index)
					case 4:
						if f.err == nil {
							f.err = errors.New("down")
						} else {
							f.err = nil
						}
					}
				})
				time.Sleep(time.Duration(s.wait) * time.Millisecond)
			}
			f.set(func(f *fakeAgent) { f.err = nil })
			time.Sleep(15 * time.Minute) // more than a wait and the longest pause
			cancel()
			<-done
			values = g.values()
		})
		before := ""
		for _, v := range values {
			_, v, _ = strings.Cut(v, " ")
			if v == before {
				rt.Errorf("run again for %s: %v", v, values)
			}
			before = v
		}
		if len(values) == 0 || before != last {
			rt.Errorf("handled %v, the last value is %s", values, last)
		}
	})
}
