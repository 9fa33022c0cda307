package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"landbridge/cmd/internal/cli/logs"
	"landbridge/cmd/internal/config"
	"landbridge/store/raftlog"
)

// fakeNode runs until told, takes a while to leave, and counts reloads.
type fakeNode struct {
	leaveFor time.Duration
	leaveErr error
	runErr   error
	hangs    bool // does not end when told
	left     chan struct{}
	leaves   atomic.Int32
	reloads  atomic.Int32
	reload   func() error
}

func (f *fakeNode) Run(ctx context.Context) error {
	if f.runErr != nil {
		return f.runErr
	}
	select {
	case <-ctx.Done():
	case <-f.left:
	}
	if f.hangs {
		time.Sleep(time.Hour)
	}
	return nil
}

func (f *fakeNode) Leave(context.Context) error {
	f.leaves.Add(1)
	time.Sleep(f.leaveFor)
	if f.leaveErr == nil {
		close(f.left)
	}
	return f.leaveErr
}

func (f *fakeNode) Reload(context.Context) error {
	f.reloads.Add(1)
	if f.reload != nil {
		return f.reload()
	}
	return nil
}

func TestSignals(t *testing.T) {
	const hup, intr, term = syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM
	for _, c := range []struct {
		name    string
		server  bool
		node    *fakeNode
		signals []os.Signal // one a second
		code    int
		leaves  int32
		reloads int32
		within  time.Duration // after the last signal
	}{
		{name: "a client leaves on SIGTERM", signals: []os.Signal{term}, leaves: 1, within: time.Second},
		{name: "a client leaves on SIGINT", signals: []os.Signal{intr}, leaves: 1, within: time.Second},
		{name: "a server stops on SIGTERM", server: true, signals: []os.Signal{term}},
		{name: "a server stops on SIGINT", server: true, signals: []os.Signal{intr}, code: 1},
		{name: "a second SIGINT ends at once", node: &fakeNode{leaveFor: time.Minute}, signals: []os.Signal{intr, intr}, code: 1, leaves: 1},
		{name: "SIGTERM after SIGINT ends at once", node: &fakeNode{leaveFor: time.Minute}, signals: []os.Signal{intr, term}, code: 1, leaves: 1},
		{name: "a second signal ends a node that hangs", server: true, node: &fakeNode{hangs: true}, signals: []os.Signal{term, term}, code: 1},
		{name: "a leave that fails", node: &fakeNode{leaveErr: errors.New("no")}, signals: []os.Signal{term}, code: 1, leaves: 1},
		{name: "SIGHUP reloads and goes on", server: true, signals: []os.Signal{hup, hup, term}, reloads: 2},
		{name: "a reload that fails goes on", server: true, node: &fakeNode{reload: func() error { return errors.New("bad") }}, signals: []os.Signal{hup, term}, reloads: 1},
		{name: "a part fails", node: &fakeNode{runErr: errors.New("disk")}, code: 1},
		{name: "the Raft state is gone", node: &fakeNode{runErr: fmt.Errorf("open: %w", raftlog.ErrStateMissing)}, code: 78},
		{name: "the group was recovered without it", node: &fakeNode{runErr: fmt.Errorf("rivals: %w", raftlog.ErrOverruled)}, code: 78},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := c.node
				if n == nil {
					n = &fakeNode{}
				}
				n.left = make(chan struct{})
				leave, skip := !c.server, c.server
				a := &agentProcess{call: &call{Env: Env{Stdout: io.Discard}, ctx: t.Context()}, log: logs.New(io.Discard, slog.LevelInfo, false),
					cfg: &config.Config{LeaveOnTerminate: &leave, SkipLeaveOnInterrupt: &skip}}
				signals := make(chan os.Signal, 4)
				done := make(chan error, 1)
				go func() { done <- a.supervise(n, signals) }()
				for _, s := range c.signals {
					time.Sleep(time.Second)
					signals <- s
				}
				start := time.Now()
				err := <-done
				if took := time.Since(start); took > c.within {
					t.Errorf("ended %s after the last signal", took)
				}
				code := 0
				var ee *exitError
				if errors.As(err, &ee) {
					code = ee.code
				} else if err != nil {
					t.Errorf("error %v has no exit code", err)
				}
				if code != c.code {
					t.Errorf("exit code %d, want %d", code, c.code)
				}
				if n.leaves.Load() != c.leaves || n.reloads.Load() != c.reloads {
					t.Errorf("%d leaves, %d reloads; want %d, %d", n.leaves.Load(), n.reloads.Load(), c.leaves, c.reloads)
				}
				time.Sleep(2 * time.Hour) // what a second signal left behind ends
			})
		})
	}
}

func TestManyReloadsAreFewer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fakeNode{left: make(chan struct{}), reload: func() error { time.Sleep(time.Second); return nil }}
		no, yes := false, true
		a := &agentProcess{call: &call{ctx: t.Context()}, log: logs.New(io.Discard, slog.LevelInfo, false),
			cfg: &config.Config{LeaveOnTerminate: &no, SkipLeaveOnInterrupt: &yes}}
		signals := make(chan os.Signal)
		done := make(chan error, 1)
		go func() { done <- a.supervise(n, signals) }()
		for range 50 {
			signals <- syscall.SIGHUP
			synctest.Wait() // the first has begun
		}
		time.Sleep(time.Minute)
		signals <- syscall.SIGTERM
		if err := <-done; err != nil {
			t.Error(err)
		}
		if got := n.reloads.Load(); got != 2 {
			t.Errorf("%d reloads for 50 signals during one, want 2: the one and one after it", got)
		}
	})
}

func TestReloadChangesTheLogLevel(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.hcl")
	write := func(level, rest string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(`bind_addr = "127.0.0.1" data_dir = "x" log_level = "`+level+`" ui = true `+rest), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("info", "")
	l := &config.Loader{Files: []string{file}}
	cfg, warnings, err := l.Load()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	log := logs.New(&out, slog.LevelInfo, false)
	log.Open()
	a := &agentProcess{loader: l, cfg: cfg, log: log, warned: map[string]bool{}}
	a.warn(warnings)
	write("debug", `datacenter = "other"`)
	for n := range 2 {
		next, err := a.reload()
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 && log.Level() != slog.LevelInfo {
			t.Error("the level changed before the node took the rest over")
		}
		next.Reloaded()
	}
	if log.Level() != slog.LevelDebug {
		t.Errorf("level %s", log.Level())
	}
	if n := strings.Count(out.String(), "does not have these yet"); n != 1 {
		t.Errorf("the warning was given %d times:\n%s", n, out.String())
	}
	if !strings.Contains(out.String(), "changed settings wait for a restart: keys=datacenter") {
		t.Errorf("nothing says that the datacenter cannot change:\n%s", out.String())
	}
	write("warn", `service { name = "a" check { } check { http = "x" } }`)
	if _, err := a.reload(); err == nil || !strings.Contains(err.Error(), "Interval must be > 0") {
		t.Errorf("a bad definition: %v", err)
	}
	if log.Level() != slog.LevelDebug {
		t.Error("a reload that failed changed the level")
	}
}

// TestEveryKeyHasAUse holds against flags that are parsed and ignored: each
// field of the configuration is named where it takes effect.
func TestEveryKeyHasAUse(t *testing.T) {
	var source strings.Builder
	for _, pattern := range []string{"agent*.go", "../config/addresses.go", "../config/tls.go", "../config/validate.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, f := range files {
			if strings.HasSuffix(f, "_test.go") {
				continue
			}
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			source.Write(b)
		}
	}
	var visit func(typ reflect.Type, path string)
	visit = func(typ reflect.Type, path string) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			if _, ok := f.Tag.Lookup("key"); !ok && !f.Anonymous {
				continue
			}
			ft := f.Type
			if ft.Kind() == reflect.Slice || ft.Kind() == reflect.Pointer {
				ft = ft.Elem()
			}
			if ft.Kind() == reflect.Struct {
				// Gossip is converted as a whole: its fields are the node's.
				if ft != reflect.TypeFor[config.Gossip]() {
					visit(ft, path+f.Name+".")
				}
				continue
			}
			if !strings.Contains(source.String(), "."+f.Name) {
				t.Errorf("%s%s is read and used nowhere", path, f.Name)
			}
		}
	}
	visit(reflect.TypeFor[config.Config](), "")
}

func TestDebugConfigHasNoSecrets(t *testing.T) {
	l := &config.Loader{HCL: []string{`bind_addr = "127.0.0.1" data_dir = "x" encrypt = "cg8StVXbQJ0gPvMd9o7yrg=="
		service { name = "a" token = "hunter2" } acl { tokens { agent = "hunter2" } }`}}
	cfg, warnings, err := l.Load()
	if err != nil {
		t.Fatal(err)
	}
	if s := fmt.Sprint(debugConfig(cfg), warnings); strings.Contains(s, "cg8S") || strings.Contains(s, "hunter2") {
		t.Errorf("a secret shows: %s", s)
	}
}
