//go:build unix

package agent

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"landbridge/store"
)

// execKeys is a key/value store of one session.
type execKeys struct {
	mu      sync.Mutex
	keys    map[string]string
	ended   bool
	written chan string
}

const execSession = "s1"

func newExecKeys(t *testing.T, job ExecJob) *execKeys {
	b, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	return &execKeys{keys: map[string]string{"p/s1/job": string(b)}, written: make(chan string, 4096)}
}

func (k *execKeys) Get(_ context.Context, key string) (*store.KVEntry, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	v, ok := k.keys[key]
	if !ok {
		return nil, nil
	}
	return &store.KVEntry{Key: key, Value: []byte(v), Session: execSession}, nil
}

func (k *execKeys) Lock(_ context.Context, key string, value []byte, session string) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ended || session != execSession {
		return false, store.Errorf(store.KindInvalid, "invalid session %q", session)
	}
	k.keys[key] = string(value)
	k.written <- key
	return true, nil
}

// output joins what was passed on.
func (k *execKeys) output() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(k.keys)) {
		if strings.HasPrefix(key, "p/s1/n1/out/") {
			b.WriteString(k.keys[key])
		}
	}
	return b.String()
}

func (k *execKeys) await(t *testing.T, key string) {
	t.Helper()
	for timeout := time.After(time.Minute); ; {
		select {
		case got := <-k.written:
			if got == key {
				return
			}
		case <-timeout:
			t.Fatalf("%s was not written; output %q", key, k.output())
		}
	}
}

// startExec runs an Exec until the test ends, and gives it the job.
func startExec(t *testing.T, keys Keys, session string) {
	t.Helper()
	e := NewExec("n1", keys, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = e.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	payload, err := json.Marshal(ExecRequest{Prefix: "p", Session: session})
	if err != nil {
		t.Fatal(err)
	}
	e.Take(&store.UserEvent{Payload: []byte("{")}) // not understood: left out
	e.Take(&store.UserEvent{Payload: payload})
}

func TestExecRunsJobs(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name         string
		job          ExecJob
		output, code string
	}{
		{"shell", ExecJob{Command: "echo a; echo b >&2; exit 3"}, "a\nb\n", "3"},
		{"program", ExecJob{Args: []string{"echo", "$HOME", "x y"}}, "$HOME x y\n", "0"},
		{"script", ExecJob{Script: []byte("#!/bin/sh\necho script\n")}, "script\n", "0"},
		{"nothing to say", ExecJob{Command: "true"}, "", "0"},
		{"killed", ExecJob{Command: "kill -9 $$"}, "", "137"},
		{"no such program", ExecJob{Args: []string{"/no/such/program"}}, "fork/exec /no/such/program: no such file or directory\n", "127"},
		{"long", ExecJob{Command: "seq 1 5000"}, "", "0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			keys := newExecKeys(t, tt.job)
			startExec(t, keys, execSession)
			keys.await(t, "p/s1/n1/ack")
			keys.await(t, "p/s1/n1/exit")
			out := keys.output()
			if tt.name == "long" && (strings.Count(out, "\n") != 5000 || !strings.HasSuffix(out, "\n5000\n")) {
				t.Errorf("%d lines, ending in %q", strings.Count(out, "\n"), out[max(0, len(out)-20):])
			} else if tt.name != "long" && out != tt.output {
				t.Errorf("output %q, want %q", out, tt.output)
			}
			if got := keys.keys["p/s1/n1/exit"]; got != tt.code {
				t.Errorf("exit code %q, want %q", got, tt.code)
			}
		})
	}
}

// A silent command shows that it lives; when its caller's session ends it is killed.
func TestExecEndsWithItsSession(t *testing.T) {
	t.Parallel()
	keys := newExecKeys(t, ExecJob{Command: "sleep 1000 & echo $!; wait", Wait: time.Millisecond})
	startExec(t, keys, execSession)
	keys.await(t, "p/s1/n1/out/00001") // empty: a sign of life
	pid := strings.TrimSpace(keys.output())
	keys.mu.Lock()
	keys.ended = true
	keys.mu.Unlock()
	for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(10 * time.Millisecond) {
		if !processLives(pid) {
			return
		}
	}
	t.Errorf("process %s of an ended session lives", pid)
}

func TestExecRefuses(t *testing.T) {
	for name, session := range map[string]string{"a job of another session": "s2", "no job": "s3"} {
		synctest.Test(t, func(t *testing.T) {
			keys := newExecKeys(t, ExecJob{Command: "true"})
			keys.keys["p/s2/job"] = keys.keys["p/s1/job"]
			startExec(t, keys, session)
			time.Sleep(time.Minute)
			if len(keys.written) > 0 {
				t.Errorf("%s: %s was written", name, <-keys.written)
			}
		})
	}
}

// processLives reports whether a process is there and no zombie.
func processLives(pid string) bool {
	b, err := os.ReadFile("/proc/" + pid + "/stat")
	return err == nil && !strings.Contains(string(b), ") Z ")
}
