package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
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
	log      []string
}

func newExecAgent(t *testing.T, nodes func(write func(key, value string))) (*execAgent, string) {
	a := &execAgent{keys: map[string]string{}, changed: make(chan struct{}), index: 1, nodes: nodes}
	srv := httptest.NewServer(a)
	t.Cleanup(srv.Close)
	return a, srv.Listener.Addr().String()
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
	a.log = append(a.log, r.Method+" "+r.URL.Path)
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

func runExec(ctx context.Context, addr string, stdin string, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = Main(ctx, append([]string{"exec", "-http-addr=" + addr, "-wait=200ms", "-wait-repl=1ms"}, args...),
		Env{Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &errs, Getenv: func(string) string { return "" }})
	return code, out.String(), errs.String()
}

func TestExec(t *testing.T) {
	a, addr := newExecAgent(t, func(write func(key, value string)) {
		write("n2/ack", "")
		write("n1/ack", "")
		write("n1/out/00000", "one\ntw")
		write("n2/out/00000", "\x1b[31mred")
		write("n2/out/00001", "") // a sign of life
		write("n1/out/00001", "o\n")
		write("n2/exit", "3")
		write("n1/exit", "0")
	})
	code, out, errs := runExec(t.Context(), addr, "", "-node=^n", "uptime", "-node", "x")
	for _, line := range []string{"n1: one\n", "n1: two\n", "n2: \ufffd[31mred\n==> n2: finished with exit code 3\n", "==> n1: finished with exit code 0\n"} {
		if strings.Count(out, line) != 1 {
			t.Errorf("output has %q not once:\n%s", line, out)
		}
	}
	if code != 2 || errs != "" || !strings.HasSuffix(out, "2 / 2 node(s) completed / acknowledged\n") || strings.Index(out, "n1: two") > strings.Index(out, "==> n1") {
		t.Errorf("code %d, %q, output\n%s", code, errs, out)
	}
	if len(a.fired) != 1 || a.fired[0] != `node=%5En {"Prefix":"_rexec","Session":"s1"}` {
		t.Errorf("fired %q", a.fired)
	}
	if a.sessions != 0 || len(a.keys) != 0 {
		t.Errorf("%d sessions and %d keys are left", a.sessions, len(a.keys))
	}
}

func TestExecJobs(t *testing.T) {
	for _, tt := range []struct{ stdin, args, want string }{
		{"", "echo a b", `{"Command":"echo a b","Wait":200000000}`},
		{"", "-shell=false echo a -x", `{"Args":["echo","a","-x"],"Wait":200000000}`},
		{"#!/bin/sh\n", "-", `{"Script":"IyEvYmluL3NoCg==","Wait":200000000}`},
	} {
		job := make(chan string, 1)
		var a *execAgent
		a, addr := newExecAgent(t, func(func(key, value string)) {
			a.mu.Lock()
			defer a.mu.Unlock()
			job <- a.keys["_rexec/s1/job"]
		})
		code, out, errs := runExec(t.Context(), addr, tt.stdin, strings.Fields(tt.args)...)
		if got := <-job; got != tt.want {
			t.Errorf("%s: %s, want %s", tt.args, got, tt.want)
		}
		if code != 0 || out != "0 / 0 node(s) completed / acknowledged\n" {
			t.Errorf("%s with no agents: %d %q %q", tt.args, code, out, errs)
		}
	}
}

func TestExecErrors(t *testing.T) {
	_, addr := newExecAgent(t, nil)
	for args, want := range map[string]string{
		"":                     "Must specify a command to execute",
		"-tag=x true":          "Cannot provide tag filter without service filter.",
		"-prefix=/ true":       "-prefix must not be empty",
		"-":                    "The script must have between 1 and",
		"-datacenter=dc2 true": "Failed to find a server",
	} {
		code, out, errs := runExec(t.Context(), addr, "", strings.Fields(args)...)
		if code != 1 || !strings.HasPrefix(errs, want) || out != "" {
			t.Errorf("%q: %d %q %q, want %q", args, code, out, errs, want)
		}
	}
}

// An interrupt ends the session, by which agents know, and leaves nothing behind.
func TestExecInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	a, addr := newExecAgent(t, func(write func(key, value string)) {
		write("n1/ack", "")
		time.Sleep(50 * time.Millisecond) // let the answer to the event go out first
		cancel()
	})
	code, _, errs := runExec(ctx, addr, "", "sleep 100")
	if code != 1 || !strings.HasPrefix(errs, "Interrupted") || a.sessions != 0 || len(a.keys) != 0 {
		t.Errorf("%d %q, %d sessions and keys %v are left", code, errs, a.sessions, a.keys)
	}
}
