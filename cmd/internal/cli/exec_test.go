package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// execAgent is an agent with just enough of sessions, keys and events, and with
// nodes that answer a job as told.
type execAgent struct {
	mu       sync.Mutex
	sessions int
	keys     map[string]string
	changed  chan struct{}
	index    int
	fired    []string // queries of events
	nodes    func(write func(key, value string))
	delay    time.Duration // of the results
}

func newExecAgent(nodes func(write func(key, value string))) *execAgent {
	return &execAgent{keys: map[string]string{}, changed: make(chan struct{}), index: 1, nodes: nodes}
}

func (a *execAgent) write(key, value string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keys["_rexec/s1/"+key] = value
	a.index++
	close(a.changed)
	a.changed = make(chan struct{})
}

func (a *execAgent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	q := r.URL.Query()
	key, isKey := strings.CutPrefix(r.URL.Path, "/v1/kv/")
	a.mu.Lock()
	switch {
	case r.URL.Path == "/v1/session/create":
		a.sessions++
		io.WriteString(w, `{"ID":"s1"}`)
	case strings.HasPrefix(r.URL.Path, "/v1/session/destroy/"):
		a.sessions--
		io.WriteString(w, "true")
	case strings.HasPrefix(r.URL.Path, "/v1/event/fire/"):
		a.fired = append(a.fired, r.URL.RawQuery+" "+string(body))
		io.WriteString(w, `{"ID":"e1"}`)
		go a.nodes(a.write)
	case isKey && r.Method == http.MethodPut:
		a.keys[key] = string(body)
		fmt.Fprint(w, q.Get("acquire") == "s1")
	case isKey && r.Method == http.MethodDelete:
		for k := range a.keys {
			if strings.HasPrefix(k, key) {
				delete(a.keys, k)
			}
		}
		io.WriteString(w, "true")
	case isKey && q.Has("raw"):
		a.mu.Unlock()
		time.Sleep(a.delay)
		a.mu.Lock()
		io.WriteString(w, a.keys[key])
	case isKey:
		if q.Get("index") == fmt.Sprint(a.index) {
			wait, _ := time.ParseDuration(q.Get("wait"))
			changed := a.changed
			a.mu.Unlock()
			select {
			case <-changed:
			case <-time.After(wait):
			case <-r.Context().Done():
			}
			a.mu.Lock()
		}
		var list []string
		for k := range a.keys {
			list = append(list, k)
		}
		slices.Sort(list)
		w.Header().Set("X-Consul-Index", fmt.Sprint(a.index))
		_ = json.NewEncoder(w).Encode(list)
	default:
		w.WriteHeader(404)
	}
	a.mu.Unlock()
}

// run runs a command at the agent, in virtual time.
func (a *execAgent) run(ctx context.Context, t *testing.T, x remoteExec, shell bool, stdin string, args ...string) (stdout string, err error) {
	t.Helper()
	var out bytes.Buffer
	c := &call{ctx: t.Context(), args: args, Env: Env{Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: t.Output()}}
	x.c, x.cl, x.prefix, x.wait = c, newInProcess(t, a, ""), "_rexec", 200*time.Millisecond
	if err := x.take(c, shell); err != nil {
		t.Fatal(err)
	}
	err = x.run(ctx)
	return out.String(), err
}

func TestExec(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newExecAgent(func(write func(key, value string)) {
			write("n2/ack", "")
			write("n1/ack", "")
			time.Sleep(350 * time.Millisecond) // less than twice as long as agents may be silent
			write("n1/out/00000", "one\ntw")
			write("n2/out/00000", "\x1b[31mred")
			write("n2/out/00001", "") // a sign of life
			write("n1/out/00001", "o\n")
			write("n2/exit", "3")
			write("n1/exit", "0")
		})
		out, err := a.run(t.Context(), t, remoteExec{node: "^n", replicate: time.Millisecond}, true, "", "uptime", "-node", "x")
		for _, line := range []string{"n1: one\n", "n1: two\n", "n2: \ufffd[31mred\n==> n2: finished with exit code 3\n", "==> n1: finished with exit code 0\n"} {
			if strings.Count(out, line) != 1 {
				t.Errorf("output has %q not once:\n%s", line, out)
			}
		}
		var ended *exitError
		if !errors.As(err, &ended) || ended.code != 2 || !strings.HasSuffix(out, "2 / 2 node(s) completed / acknowledged\n") || strings.Index(out, "n1: two") > strings.Index(out, "==> n1") {
			t.Errorf("%v, output\n%s", err, out)
		}
		if len(a.fired) != 1 || a.fired[0] != `node=%5En {"Prefix":"_rexec","Session":"s1"}` {
			t.Errorf("fired %q", a.fired)
		}
		if a.sessions != 0 || len(a.keys) != 0 {
			t.Errorf("%d sessions and %d keys are left", a.sessions, len(a.keys))
		}
	})
}

// Reading the results takes time, in which agents are not silent.
func TestExecOverASlowNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newExecAgent(func(write func(key, value string)) {
			write("n1/ack", "")
			for i := range 5 {
				write(fmt.Sprintf("n1/out/%05d", i), fmt.Sprintf("line %d\n", i))
			}
			time.Sleep(500 * time.Millisecond)
			write("n1/exit", "0")
		})
		a.delay = 450 * time.Millisecond
		out, err := a.run(t.Context(), t, remoteExec{}, true, "", "uptime")
		if err != nil || !strings.HasSuffix(out, "n1: line 4\n==> n1: finished with exit code 0\n1 / 1 node(s) completed / acknowledged\n") {
			t.Errorf("%v, output\n%s", err, out)
		}
	})
}

func TestExecJobs(t *testing.T) {
	for _, tt := range []struct {
		stdin string
		shell bool
		args  string
		want  string
	}{
		{"", true, "echo a b", `{"Command":"echo a b","Wait":200000000}`},
		{"", false, "echo a -x", `{"Args":["echo","a","-x"],"Wait":200000000}`},
		{"#!/bin/sh\n", true, "-", `{"Script":"IyEvYmluL3NoCg==","Wait":200000000}`},
	} {
		synctest.Test(t, func(t *testing.T) {
			job := make(chan string, 1)
			var a *execAgent
			a = newExecAgent(func(func(key, value string)) {
				a.mu.Lock()
				defer a.mu.Unlock()
				job <- a.keys["_rexec/s1/job"]
			})
			out, err := a.run(t.Context(), t, remoteExec{}, tt.shell, tt.stdin, strings.Fields(tt.args)...)
			if got := <-job; got != tt.want {
				t.Errorf("%s: %s, want %s", tt.args, got, tt.want)
			}
			if err != nil || out != "0 / 0 node(s) completed / acknowledged\n" {
				t.Errorf("%s with no agents: %v %q", tt.args, err, out)
			}
		})
	}
}

func TestExecErrors(t *testing.T) {
	srv := httptest.NewServer(newExecAgent(nil))
	defer srv.Close()
	for args, want := range map[string]string{
		"":                     "Must specify a command to execute",
		"-tag=x true":          "Cannot provide tag filter without service filter.",
		"-prefix=/ true":       "-prefix must not be empty",
		"-":                    "The script must have between 1 and",
		"-datacenter=dc2 true": "Failed to find a server",
	} {
		code, out, errs := runMain(t, append([]string{"exec", "-http-addr=" + srv.Listener.Addr().String()}, strings.Fields(args)...)...)
		if code != 1 || !strings.HasPrefix(errs, want) || out != "" {
			t.Errorf("%q: %d %q %q, want %q", args, code, out, errs, want)
		}
	}
}

// An interrupt ends the session, by which agents know, and leaves nothing behind.
func TestExecInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		a := newExecAgent(func(write func(key, value string)) {
			write("n1/ack", "")
			time.Sleep(50 * time.Millisecond) // the results are awaited
			cancel()
		})
		_, err := a.run(ctx, t, remoteExec{}, true, "", "sleep 100")
		if err == nil || !strings.HasPrefix(err.Error(), "Interrupted") || a.sessions != 0 || len(a.keys) != 0 {
			t.Errorf("%v, %d sessions and keys %v are left", err, a.sessions, a.keys)
		}
	})
}
