//go:build e2e

package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestWatches follows keys and services from an agent's configuration, changes
// what it follows by SIGHUP, and does the same with the command.
func TestWatches(t *testing.T) {
	dir := t.TempDir()
	var mu sync.Mutex
	var told []string
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		told = append(told, r.Header.Get("X-Consul-Index")+" "+string(body))
	}))
	t.Cleanup(hook.Close)
	seen := func(name string) string {
		b, _ := os.ReadFile(filepath.Join(dir, name))
		return string(b)
	}
	line := func(name string) string {
		return fmt.Sprintf("cat >> %s/%s; echo $CONSUL_INDEX >> %[1]s/%[2]s.index", dir, name)
	}
	key := func(name, key string) map[string]any {
		return map[string]any{"type": "key", "key": key, "handler": line(name)}
	}
	a := newAgent(t, dir, "solo", "dc1", "127.9.80.1", map[string]any{"bootstrap_expect": 1, "watches": []any{
		key("one", "a"), key("two", "a"),
		map[string]any{"type": "service", "service": "web", "handler_type": "http", "http_handler_config": map[string]any{"path": hook.URL}},
		map[string]any{"type": "event", "name": "deploy", "handler": line("events")},
		map[string]any{"type": "agent_service", "service_id": "web", "args": []string{"sh", "-c", line("local")}},
	}})
	a.start()
	until(t, 20*time.Second, "there is a leader", a.hasLeader)
	until(t, 20*time.Second, "the handlers ran for the start", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return seen("one") == "null\n" && seen("two") == "null\n" && seen("local") == "null\n" && len(told) == 1
	})

	// A change that waits is handled at once.
	a.want("PUT", "/v1/kv/a", "x", "true")
	took := until(t, 5*time.Second, "both saw the key", func() bool {
		return strings.Contains(seen("one"), `"Value":"eA=="`) && strings.Contains(seen("two"), `"Value":"eA=="`)
	})
	t.Logf("handlers done %s after the write", took)
	a.want("PUT", "/v1/agent/service/register", `{"Name":"web","Port":80}`, "")
	until(t, 15*time.Second, "the endpoint was told of the service, and the agent's own watch saw it", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return strings.Contains(told[len(told)-1], `"Port":80`) && strings.Contains(seen("local"), `"Port":80`)
	})

	// Events: only new ones of that name, each once.
	for _, name := range []string{"deploy", "other", "deploy"} {
		if out, err := a.run("event", "-name="+name, "v-"+name); err != nil {
			t.Errorf("event: %v, %s", err, out)
		}
	}
	until(t, 10*time.Second, "the events were handled", func() bool { return strings.Count(seen("events"), `"ID"`) >= 2 })
	if got := seen("events"); strings.Count(got, `"Name":"deploy"`) != 2 || strings.Contains(got, "other") {
		t.Errorf("events handled: %s", got)
	}

	// one stays, two goes, three comes.
	a.Conf["watches"] = []any{key("one", "a"), key("three", "b")}
	before := seen("one")
	a.reload()
	until(t, 10*time.Second, "the new watch runs", func() bool { return seen("three") == "null\n" })
	if seen("one") != before {
		t.Errorf("a watch that stayed ran again: %s", seen("one"))
	}
	a.want("PUT", "/v1/kv/a", "y", "true")
	a.want("PUT", "/v1/kv/b", "z", "true")
	until(t, 5*time.Second, "both are seen", func() bool {
		return strings.Contains(seen("one"), `"Value":"eQ=="`) && strings.Contains(seen("three"), `"Value":"eg=="`)
	})
	if strings.Contains(seen("two"), `"Value":"eQ=="`) {
		t.Error("a watch that is gone still runs")
	}
	// A bad one is refused, and what runs goes on.
	a.Conf["watches"] = []any{map[string]any{"type": "bogus", "handler": "x"}}
	a.write()
	if out, err := a.run("reload"); err == nil || !strings.Contains(out, "Unsupported watch type: bogus") {
		t.Errorf("a bad watch: %v, %s", err, out)
	}
	a.want("PUT", "/v1/kv/a", "end", "true")
	until(t, 5*time.Second, "the old watches go on", func() bool { return strings.Contains(seen("one"), `"Value":"ZW5k"`) })

	// The command.
	if out, err := a.run("watch", "-type=key", "-key=a"); err != nil || !strings.Contains(out, `    "Value": "ZW5k",`) {
		t.Errorf("watch: %v, %s", err, out)
	}
	cmd := command(t, binary(t), "watch", "-http-addr="+a.IP+":8500", "-type=keyprefix", "-prefix=p/", line("four"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, 10*time.Second, "the command ran", func() bool { return seen("four") == "[]\n" })
	for i := range 3 {
		a.want("PUT", fmt.Sprintf("/v1/kv/p/%d", i), "x", "true")
		until(t, 5*time.Second, "the command ran again", func() bool { return strings.Count(seen("four"), "\n") == i+2 })
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("watch ended by a signal: %v", err)
	}
	if code := a.end(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestMaintenance takes a node and a service out and in again.
func TestMaintenance(t *testing.T) {
	a := newAgent(t, t.TempDir(), "solo", "dc1", "127.9.81.1", map[string]any{"bootstrap_expect": 1})
	a.start()
	until(t, 20*time.Second, "there is a leader", a.hasLeader)
	a.want("PUT", "/v1/agent/service/register", `{"Name":"web","Port":80}`, "")
	step := func(want string, args ...string) {
		t.Helper()
		if out, err := a.run(append([]string{"maint"}, args...)...); err != nil || out != want {
			t.Errorf("maint %q: %v, %q, want %q", args, err, out, want)
		}
	}
	step("")
	step("Node maintenance is now enabled\n", "-enable", "-reason=x")
	step("Service maintenance is now enabled for \"web\"\n", "-enable", "-service=web", "-reason=y")
	step("Node:\n  Name:   solo\n  Reason: x\n\nService:\n  ID:     web\n  Reason: y\n")
	step("Node maintenance is now disabled\n", "-disable")
	step("Service maintenance is now disabled for \"web\"\n", "-disable", "-service=web")
	step("")
}

// TestDebug records a real agent.
func TestDebug(t *testing.T) {
	dir := t.TempDir()
	a := newAgent(t, dir, "solo", "dc1", "127.9.82.1", map[string]any{"bootstrap_expect": 1, "enable_debug": true, "encrypt": "cg8StVXbQJ0gPvMd9o7yrg=="})
	a.start()
	until(t, 20*time.Second, "there is a leader", a.hasLeader)
	out, err := a.run("debug", "-duration=10s", "-interval=5s", "-archive=false", "-output="+filepath.Join(dir, "rec"))
	if err != nil || strings.Contains(out, "Left out") {
		t.Fatalf("debug: %v, %s", err, out)
	}
	for _, pattern := range []string{"agent.json", "host.json", "members.json", "listpeers.json", "index.json", "metrics.json", "landbridge.log",
		"pprof/*/heap.prof", "pprof/*/profile.prof", "pprof/*/trace.out"} {
		list, err := filepath.Glob(filepath.Join(dir, "rec", pattern))
		if err != nil || len(list) == 0 {
			t.Errorf("%s is not there", pattern)
		}
		for _, p := range list {
			b, err := os.ReadFile(p)
			if err != nil || len(b) == 0 && filepath.Ext(p) != ".log" {
				t.Errorf("%s: %d bytes, %v", p, len(b), err)
			}
			if strings.Contains(string(b), "cg8StVXbQJ0gPvMd9o7yrg") {
				t.Errorf("%s holds the gossip key", p)
			}
		}
	}
}
