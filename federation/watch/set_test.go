package watch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

func TestDefinitionCheck(t *testing.T) {
	nodes := Spec{Type: "nodes"}
	for _, c := range []struct {
		def Definition
		err string
	}{
		{Definition{Spec: nodes, Args: []string{"x"}}, ""},
		{Definition{Spec: nodes, Script: "x"}, ""},
		{Definition{Spec: nodes, HTTP: &Target{URL: "https://h:1/x"}}, ""},
		{Definition{Spec: nodes}, "needs a handler"},
		{Definition{Spec: nodes, Args: []string{"x"}, Script: "x"}, "only one of"},
		{Definition{Spec: nodes, Args: []string{""}}, "args[0]"},
		{Definition{Spec: nodes, HTTP: &Target{}}, "needs a path"},
		{Definition{Spec: nodes, HTTP: &Target{URL: "/x"}}, `is "/x"`},
		{Definition{Spec: nodes, HTTP: &Target{URL: "http://h", Timeout: -1}}, "timeout"},
		{Definition{Script: "x"}, "Watch type must be specified"},
	} {
		err := c.def.Check()
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%+v: %v, want %q", c.def, err, c.err)
		}
	}
}

// recorded is a set in virtual time whose handlers note what they get, by the
// name of the script, and take a while.
type recorded struct {
	*Set
	log  bytes.Buffer
	mu   sync.Mutex
	runs []string
	took time.Duration
	err  error
}

func newRecorded(src Source) *recorded {
	r := &recorded{}
	r.Set = NewSet(src, slog.New(slog.NewTextHandler(&r.log, nil)), prometheus.NewRegistry())
	r.handler = func(_ *slog.Logger, d *Definition) (func(context.Context, Value) error, func()) {
		return func(ctx context.Context, v Value) error {
			time.Sleep(r.took)
			r.mu.Lock()
			defer r.mu.Unlock()
			r.runs = append(r.runs, fmt.Sprintf("%s %s %v", d.Script, v.JSON, ctx.Err()))
			return r.err
		}, func() {}
	}
	return r
}

// take returns what ran since the last call.
func (r *recorded) take() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := strings.Join(r.runs, "; ")
	r.runs = nil
	return s
}

func defs(names ...string) (list []Definition) {
	for _, n := range names {
		list = append(list, Definition{Spec: Spec{Type: "key", Key: n}, Script: n})
	}
	return list
}

func TestReplace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeAgent(1, "[]")
		r := newRecorded(f)
		if err := r.Replace(defs("a", "b")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if got := r.take(); got != "" {
			t.Errorf("ran before Run: %s", got)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		step := func(want string, act func() error) {
			t.Helper()
			if err := act(); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Minute)
			got := strings.Split(r.take(), "; ")
			for _, w := range strings.Split(want, "; ") {
				if n := strings.Count(strings.Join(got, "; ")+"; ", w+"; "); w != "" && n != 1 {
					t.Errorf("%q ran %d times in %q", w, n, got)
				}
			}
			if want == "" && got[0] != "" {
				t.Errorf("%q ran", got)
			}
		}
		change := func() error { f.put(f.index+1, fmt.Sprintf(`[{"Flags":%d}]`, f.index)); return nil }
		one := func(n int) string {
			return fmt.Sprintf(`{"Key":"","CreateIndex":0,"ModifyIndex":0,"LockIndex":0,"Flags":%d,"Value":null,"Session":""} <nil>`, n)
		}
		step("a null <nil>; b null <nil>", func() error { return nil })
		step("c null <nil>", func() error { return r.Replace(defs("c", "b")) })
		step("b "+one(1)+"; c "+one(1), change)
		step("", func() error {
			if r.Replace([]Definition{{Script: "x"}}) == nil {
				return errors.New("a definition without a type is taken")
			}
			return nil
		})
		step("b "+one(2)+"; c "+one(2), change)
		step("b "+one(2), func() error { return r.Replace(defs("b", "b")) }) // twice the same is two
		step("", func() error { return r.Replace(nil) })
		step("", change)
		if n := testutil.ToFloat64(r.metrics.runs.WithLabelValues("ok")); n != 8 {
			t.Errorf("metrics count %v runs", n)
		}
		cancel()
		<-done
		if err := r.Replace(defs("a")); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		if got := r.take(); got != "" {
			t.Errorf("ran after the end: %s", got)
		}
	})
}

// A handler may be what made the agent read its configuration again.
func TestReplaceLetsAHandlerFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorded(newFakeAgent(1, "[]"))
		r.took = time.Minute
		if err := r.Replace(defs("a")); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		time.Sleep(time.Second)
		start := time.Now()
		if err := r.Replace(nil); err != nil || time.Since(start) > 0 {
			t.Errorf("Replace took %s, %v", time.Since(start), err)
		}
		time.Sleep(2 * time.Minute)
		if got := r.take(); got != "a null <nil>" {
			t.Errorf("got %q", got)
		}
		if err := r.Replace(defs("b")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		cancel() // the end tells a handler, and waits for it
		<-done
		if got := r.take(); got != "b null context canceled" {
			t.Errorf("got %q", got)
		}
	})
}

func TestSetLogsTroubleOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeAgent(1, "[]")
		f.err = errors.New("no leader")
		r := newRecorded(f)
		if err := r.Replace([]Definition{{Spec: Spec{Type: "key", Key: "a", Token: "hunter2"}, Script: "a"}}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		time.Sleep(10 * time.Minute)
		f.set(func(f *fakeAgent) { f.err = nil })
		r.mu.Lock()
		r.err = errors.New("handler broke")
		r.mu.Unlock()
		time.Sleep(10 * time.Minute)
		cancel()
		<-done
		log := r.log.String()
		for text, n := range map[string]int{"watch failed, trying again": 1, "watch answers again": 1, "handler of a watch failed": 1, "hunter2": 0} {
			if got := strings.Count(log, text); got != n {
				t.Errorf("%q stands %d times in the log:\n%s", text, got, log)
			}
		}
		if n := testutil.ToFloat64(r.metrics.runs.WithLabelValues("failed")); n != 1 {
			t.Errorf("%v failed runs", n)
		}
	})
}

// The real handlers, in a set.
func TestSetRunsPrograms(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out")
	var log bytes.Buffer
	f := newFakeAgent(4, "[1]")
	s := NewSet(f, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})), nil)
	if err := s.Replace([]Definition{{Spec: Spec{Type: "nodes"}, Script: `echo hello; read x; echo "$CONSUL_INDEX $x" > ` + file + `.new; mv ` + file + `.new ` + file}}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	await := func(want string) {
		t.Helper()
		var got []byte
		for range forAWhile {
			if got, _ = os.ReadFile(file); string(got) == want {
				return
			}
		}
		t.Errorf("wrote %q, want %q", got, want)
	}
	await("4 [1]\n")
	f.put(5, "[2]")
	await("5 [2]\n")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "output=hello") && !strings.Contains(log.String(), `output="hello\n"`) {
		t.Errorf("what a program says is not in the log:\n%s", log.String())
	}
}

func TestMetricsAreWellNamed(t *testing.T) {
	reg := prometheus.NewRegistry()
	newMetrics(reg)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	if diff := cmp.Diff(3, len(families)); diff != "" {
		t.Errorf("series from the start: %s", diff)
	}
}
