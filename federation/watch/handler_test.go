package watch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestScript(t *testing.T) {
	big := Value{1, bytes.Repeat([]byte("1"), 1<<20)}
	for _, c := range []struct {
		name   string
		script Script
		value  Value
		out    string
		fails  bool
	}{
		{"arguments are taken as they are", Script{Args: []string{"echo", "$HOME", "a  b"}}, Value{}, "$HOME a  b\n", false},
		{"a line is the shell's", Script{Shell: `cat; echo "$CONSUL_INDEX" | tr 4 5`}, Value{42, []byte(`{"a":1}`)}, "{\"a\":1}\n52\n", false},
		{"errors are told", Script{Shell: "echo no >&2; exit 3"}, Value{}, "no\n", true},
		{"a value that nobody reads", Script{Args: []string{"true"}}, big, "", false},
		{"a value that is large", Script{Shell: "wc -c"}, big, "1048577\n", false},
		{"no such program", Script{Args: []string{"/is/not/there"}}, Value{}, "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			c.script.Stdout, c.script.Stderr = &out, &out
			if err := c.script.Run(t.Context(), c.value); (err != nil) != c.fails {
				t.Errorf("error %v", err)
			}
			if got := strings.TrimLeft(out.String(), " "); got != c.out {
				t.Errorf("output %q, want %q", got, c.out)
			}
		})
	}
}

// forAWhile bounds what nothing else does: when a process gets to run.
func forAWhile(yield func() bool) {
	for began := time.Now(); time.Since(began) < time.Minute && yield(); time.Sleep(5 * time.Millisecond) {
	}
}

// pidIn waits until a script has written its number.
func pidIn(t *testing.T, file string) int {
	t.Helper()
	for range forAWhile {
		if b, err := os.ReadFile(file); err == nil && bytes.HasSuffix(b, []byte("\n")) {
			pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	t.Fatalf("%s was not written", file)
	return 0
}

// gone says whether a process has ended, be it unburied.
func gone(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return strings.HasPrefix(rest, "Z") || strings.HasPrefix(rest, "X")
}

func TestScriptEndsWithItsContext(t *testing.T) {
	dir := t.TempDir()
	file, obeyed := filepath.Join(dir, "pid"), filepath.Join(dir, "obeyed")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		// What the shell started ends with it.
		done <- (&Script{Shell: "trap 'touch " + obeyed + "; exit' TERM; sleep 100 & echo $! > " + file + "; wait"}).Run(ctx, Value{})
	}()
	pid := pidIn(t, file)
	cancel()
	if err := <-done; err == nil {
		t.Error("a program that was told to end has done its work")
	}
	if _, err := os.Stat(obeyed); err != nil {
		t.Errorf("the program was killed, not told to end: %v", err)
	}
	for range forAWhile {
		if gone(pid) {
			return
		}
	}
	t.Errorf("process %d still runs", pid)
}

func TestTarget(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		seen = append(seen, fmt.Sprintf("%s %s %s index=%s x=%s host=%s type=%s", r.Method, r.URL, body,
			r.Header.Get("X-Consul-Index"), strings.Join(r.Header["X-A"], ","), r.Host, r.Header.Get("Content-Type")))
		mu.Unlock()
		switch r.URL.Path {
		case "/slow":
			<-r.Context().Done()
		case "/bad":
			http.Error(w, "no", http.StatusTeapot)
		}
	}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // a handshake that is broken off is wanted
	srv.StartTLS()
	defer srv.Close()
	host := strings.TrimPrefix(srv.URL, "https://")
	const anything = "*" // it may not even have been sent
	for _, c := range []struct {
		target Target
		want   string
		err    string
	}{
		{Target{URL: srv.URL + "/a?b=c", TLSSkipVerify: true}, `POST /a?b=c {"x":1} index=7 x= host=` + host + ` type=application/json`, ""},
		{Target{URL: srv.URL, TLSSkipVerify: true, Method: "PUT", Header: map[string][]string{"x-a": {"1", "2"}, "Host": {"h"}, "Content-Type": {"text/x"}}},
			`PUT / {"x":1} index=7 x=1,2 host=h type=text/x`, ""},
		{Target{URL: srv.URL}, "", "certificate"},
		{Target{URL: srv.URL + "/bad", TLSSkipVerify: true}, `POST /bad {"x":1} index=7 x= host=` + host + ` type=application/json`, "Unexpected response code: 418 (no)"},
		{Target{URL: srv.URL + "/slow", TLSSkipVerify: true, Timeout: 500 * time.Millisecond}, anything, "Timeout"},
	} {
		mu.Lock()
		seen = nil
		mu.Unlock()
		caller := newCaller(c.target)
		err := caller.call(t.Context(), Value{7, []byte(`{"x":1}`)})
		caller.close()
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: error %v, want %q", c.target.URL, err, c.err)
		}
		mu.Lock()
		got := strings.Join(seen, "\n")
		mu.Unlock()
		if got != c.want && c.want != anything {
			t.Errorf("%s: got %q, want %q", c.target.URL, got, c.want)
		}
	}
}
