package cli

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"landbridge/cmd/internal/client"
)

const ownToken = "3f0c9a3e-own-token"

// debugAgent answers what a recording asks, with the token of who asks in all of
// it, and says how often.
func debugAgent(t *testing.T, logFile string) (*client.Client, func(path string) int) {
	t.Helper()
	var mu sync.Mutex
	asked := map[string]int{}
	agent := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked[r.URL.Path]++
		mu.Unlock()
		switch r.URL.Path {
		case "/v1/agent/self":
			fmt.Fprintf(w, `{"Config":{"Version":"1.21.4"},"DebugConfig":{"EnableDebug":true,"Logging":{"LogFilePath":%q}},"X":%q}`, logFile, ownToken)
		case "/v1/agent/monitor":
			for n := 0; r.Context().Err() == nil; n++ {
				fmt.Fprintf(w, "line %d of %s\n", n, ownToken)
				w.(http.Flusher).Flush()
				select {
				case <-time.After(5 * time.Millisecond):
				case <-r.Context().Done():
				}
			}
		case "/debug/pprof/profile", "/debug/pprof/trace":
			select {
			case <-time.After(10 * time.Millisecond):
				fmt.Fprint(w, "profile")
			case <-r.Context().Done():
			}
		case "/debug/pprof/heap", "/debug/pprof/goroutine":
			fmt.Fprint(w, "profile")
		case "/v1/agent/metrics":
			fmt.Fprintf(w, `{"Gauges":[{"Name":"consul.acl.token","Value":1}],"Timestamp":%q}`, ownToken)
		default:
			fmt.Fprint(w, "[]")
		}
	})
	return newInProcess(t, agent, ownToken), func(path string) int {
		mu.Lock()
		defer mu.Unlock()
		return asked[path]
	}
}

func TestDebugRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logs := t.TempDir()
		for name, age := range map[string]time.Duration{"lb.log": 0, "lb-1700000000.log": time.Minute, "lb-1600000000.log": 48 * time.Hour, "other.log": 0} {
			path := filepath.Join(logs, name)
			if err := os.WriteFile(path, []byte("old line of "+ownToken), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(path, time.Time{}, time.Now().Add(-age)); err != nil {
				t.Fatal(err)
			}
		}
		cl, asked := debugAgent(t, filepath.Join(logs, "lb.log"))
		t.Chdir(t.TempDir())
		var stdout, stderr bytes.Buffer
		c := &call{Env: Env{Stdout: &stdout, Stderr: &stderr}}
		// Shorter than the command allows.
		o := debugOptions{duration: 450 * time.Millisecond, interval: 100 * time.Millisecond, targets: debugTargets, output: "rec", since: time.Hour}
		if err := c.debug(t.Context(), &recording{debugOptions: o, call: c, cl: cl}); err != nil {
			t.Fatal(err)
		}
		if stderr.Len() > 0 {
			t.Errorf("stderr: %s", stderr.String())
		}
		read := func(name string) string {
			t.Helper()
			b, err := os.ReadFile(filepath.Join("rec", name))
			if err != nil {
				t.Error(err)
			}
			return string(b)
		}
		for _, name := range []string{"agent.json", "host.json", "members.json", "listpeers.json", "index.json"} {
			if read(name) == "" {
				t.Errorf("%s is empty", name)
			}
		}
		if n := strings.Count(read("metrics.json"), "\n"); n != 5 || n != asked("/v1/agent/metrics") {
			t.Errorf("%d lines of metrics, asked %d times", n, asked("/v1/agent/metrics"))
		}
		if log := read("landbridge.log"); !strings.Contains(log, "line 0 of hidden\nline 1 of hidden\n") {
			t.Errorf("log:\n%s", log)
		}
		if read("logs/lb.log") != "old line of hidden" || read("logs/lb-1700000000.log") == "" {
			t.Error("earlier logs are not there")
		}
		if list, _ := filepath.Glob("rec/logs/*"); len(list) != 2 {
			t.Errorf("earlier logs: %s", list)
		}
		if list, _ := filepath.Glob("rec/pprof/*/profile.prof"); len(list) == 0 {
			t.Error("no profile")
		}
		if asked("/debug/pprof/trace") != 1 {
			t.Errorf("%d traces", asked("/debug/pprof/trace"))
		}
		err := filepath.WalkDir("rec", func(p string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(p)
			if bytes.Contains(b, []byte(ownToken)) {
				t.Errorf("%s holds the token", p)
			}
			if fi, err := d.Info(); err != nil || fi.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v", p, fi.Mode(), err)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// A recording that is broken off keeps what there is.
func TestDebugInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl, _ := debugAgent(t, "")
		t.Chdir(t.TempDir())
		var stdout, stderr bytes.Buffer
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		c := &call{Env: Env{Stdout: &stdout, Stderr: &stderr}}
		o := debugOptions{duration: time.Hour, interval: time.Minute, targets: []string{"agent", "logs", "metrics"}, output: "rec", archive: true}
		if err := c.debug(ctx, &recording{debugOptions: o, call: c, cl: cl}); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(stdout.String(), "Ended early") || !strings.Contains(stdout.String(), "Saved debug archive: rec.tar.gz") {
			t.Errorf("stdout: %s", stdout.String())
		}
		if fi, err := os.Stat("rec.tar.gz"); err != nil || fi.Size() == 0 || fi.Mode().Perm() != 0o600 {
			t.Errorf("the archive: %v, %v", fi, err)
		}
		if _, err := os.Stat("rec"); err == nil {
			t.Error("the directory is still there")
		}
	})
}
