//go:build e2e

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patroniMember is a process of testdata/python/patroni.py, and what answers the
// health checks of the member.
type patroniMember struct {
	t     *testing.T
	name  string
	cmd   *exec.Cmd
	api   *httptest.Server
	lines chan string
}

func startMember(t *testing.T, name string, agent *agentProcess) *patroniMember {
	t.Helper()
	var log safeBuffer
	m := &patroniMember{t: t, name: name, lines: make(chan string)}
	m.api = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "{}") }))
	t.Cleanup(m.api.Close)
	m.cmd = command(t, "/usr/bin/python3", "-B", "testdata/python/patroni.py", name, agent.IP, m.api.URL)
	m.cmd.Stderr = &log
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(m.lines)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			select {
			case m.lines <- sc.Text():
			case <-t.Context().Done():
				return
			}
		}
	})
	t.Cleanup(func() {
		_ = m.cmd.Process.Kill()
		reader.Wait()
		_ = m.cmd.Wait() // what it ended with is known
		if t.Failed() {
			t.Logf("member %s says:\n%s", name, log.String())
		}
	})
	return m
}

// says waits for the next line, and wants that one.
func (m *patroniMember) says(want string, within time.Duration) {
	m.t.Helper()
	start := time.Now()
	select {
	case line, more := <-m.lines:
		if line != want {
			m.t.Fatalf("%s says %q (ended: %t), want %q", m.name, line, !more, want)
		}
	case <-time.After(within):
		m.t.Fatalf("%s does not say %q within %s", m.name, want, within)
	}
	m.t.Logf("%s: %s after %s", m.name, want, time.Since(start).Round(time.Millisecond))
}

// silent is whether nothing changed for it so far.
func (m *patroniMember) silent() {
	m.t.Helper()
	select {
	case line := <-m.lines:
		m.t.Fatalf("%s says %q", m.name, line)
	default:
	}
}

// TestPatroni has two members of a PostgreSQL cluster, by the code of Debian's
// Patroni, keep their leader in landbridge: it survives the death of the server
// that leads, and passes on when its own member dies.
func TestPatroni(t *testing.T) {
	debian(t, "python3-consul", "/usr/lib/python3/dist-packages/consul/std.py")
	ctl := debian(t, "patroni", "/usr/bin/patronictl")
	dir := t.TempDir()
	servers := cluster(t, dir, "dc1", 50, 3, map[string]any{"encrypt": testKey})
	agents := map[string]*agentProcess{}
	for i, name := range []string{"alpha", "beta"} {
		a := newAgent(t, dir, name, "dc1", fmt.Sprintf("127.9.50.1%d", i), map[string]any{
			"server": false, "encrypt": testKey, "retry_join": []string{servers[0].IP, servers[1].IP},
		})
		a.start()
		until(t, 20*time.Second, name+" has a leader", a.hasLeader)
		agents[name] = a
	}
	// instances are the passing ones with a tag, followed at the other member's agent.
	instances := func(tag string, want ...string) {
		t.Helper()
		index, nodes := "0", []string{}
		for end := time.Now().Add(20 * time.Second); ; {
			req, err := http.NewRequest("GET", agents["beta"].url("/v1/health/service/batman?passing&wait=5s&tag="+tag+"&index="+index), nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := httpClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			var found []struct{ Node struct{ Node string } }
			err = json.NewDecoder(resp.Body).Decode(&found)
			resp.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			nodes = nodes[:0]
			for _, n := range found {
				nodes = append(nodes, n.Node.Node)
			}
			if slices.Equal(nodes, want) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("instances with tag %s: %v, want %v", tag, nodes, want)
			}
			index = resp.Header.Get("X-Consul-Index")
		}
	}

	alpha := startMember(t, "alpha", agents["alpha"])
	alpha.says("initialized", 20*time.Second)
	alpha.says("master", 20*time.Second)
	beta := startMember(t, "beta", agents["beta"])
	beta.says("replica", 20*time.Second)
	instances("primary", "alpha")
	instances("replica", "beta")

	conf := filepath.Join(dir, "patroni.yml")
	if err := os.WriteFile(conf, fmt.Appendf(nil, "scope: batman\nconsul: {host: %s, port: 8500}\n", agents["beta"].IP), 0o600); err != nil {
		t.Fatal(err)
	}
	// roles are what patronictl lists: role of each member.
	roles := func() map[string]string {
		t.Helper()
		cmd := command(t, ctl, "-c", conf, "list", "-f", "json")
		cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "HOME="+dir)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("patronictl list: %v\n%s", err, out)
		}
		var members []struct{ Member, Role string }
		if err := json.Unmarshal(out, &members); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		m := map[string]string{}
		for _, e := range members {
			m[e.Member] = e.Role
		}
		return m
	}
	if got := roles(); len(got) != 2 || got["alpha"] != "Leader" || got["beta"] != "Replica" {
		t.Errorf("patronictl lists %v", got)
	}

	l := leaderOf(t, servers)
	l.kill()
	i := slices.Index(servers, l)
	next := servers[(i+1)%3]
	until(t, 20*time.Second, "another server leads", func() bool {
		_, body := next.do("GET", "/v1/status/leader", "")
		return strings.Contains(body, ":") && !strings.Contains(body, l.IP+":")
	})
	l.start()
	// The leader goes on: it writes its position again and again.
	var before string
	until(t, 20*time.Second, "the leader has written twice since", func() bool {
		status, body := next.do("GET", "/v1/kv/service/batman/status?raw", "")
		if status == 200 && before == "" {
			before = body
		}
		return status == 200 && body != before && before != ""
	})
	alpha.silent()
	beta.silent()

	if err := alpha.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	alpha.api.Close()
	beta.says("master", 45*time.Second) // a session of 10 s ends after twice that, at the latest
	instances("primary", "beta")
	if got := roles(); len(got) != 1 || got["beta"] != "Leader" {
		t.Errorf("patronictl lists %v", got)
	}
	if err := beta.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if _, more := <-beta.lines; more {
		t.Error("beta changes its role at its end")
	}
	until(t, 10*time.Second, "beta gave the leadership back", func() bool {
		status, _ := servers[i].do("GET", "/v1/kv/service/batman/leader", "")
		return status == 404
	})
}
