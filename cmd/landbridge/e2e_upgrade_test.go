//go:build e2e

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// earlier builds the commit that .ci/earlier-commit names, and returns the binary.
// In a copy without history, which CI fetches first if it can, it is this source, under
// an earlier number: servers are replaced under load all the same.
func earlier(t *testing.T) string {
	t.Helper()
	const root = "../.."
	raw, err := os.ReadFile(root + "/.ci/earlier-commit")
	if err != nil {
		t.Fatal(err)
	}
	commit := regexp.MustCompile(`(?m)^[0-9a-f]{40}$`).FindString(string(raw))
	if commit == "" {
		t.Fatalf(".ci/earlier-commit names no commit:\n%s", raw)
	}
	if out, err := command(t, "git", "-C", root, "cat-file", "-e", commit+"^{commit}").CombinedOutput(); err != nil {
		shallow, _ := command(t, "git", "-C", root, "rev-parse", "--is-shallow-repository").Output()
		if strings.TrimSpace(string(shallow)) != "false" {
			t.Logf("commit %s of .ci/earlier-commit is not here, as this clone is shallow, or none (git fetch --unshallow): what is replaced is this same source", commit)
			return build(t, root)
		}
		t.Fatalf("commit %s of .ci/earlier-commit is not in the history: %v\n%s", commit, err, out)
	}
	dir := t.TempDir()
	archive := command(t, "git", "-C", root, "archive", commit)
	untar := command(t, "tar", "-x", "-C", dir)
	if untar.Stdin, err = archive.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := untar.Start(); err != nil {
		t.Fatal(err)
	}
	if err := archive.Run(); err != nil {
		t.Fatalf("git archive: %v", err)
	}
	if err := untar.Wait(); err != nil {
		t.Fatalf("tar: %v", err)
	}
	return build(t, dir)
}

// build makes a binary of the source in dir that calls itself release 0.0.1.
func build(t *testing.T, dir string) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "landbridge")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-X landbridge/cmd/internal/cli.release=0.0.1", "-o", bin, "./cmd/landbridge")
	build.Dir, build.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", dir, err, out)
	}
	return bin
}

// load asks again and again until the test stops it, and keeps what went wrong.
type load struct {
	good    atomic.Int64
	mu      sync.Mutex
	failed  []string
	longest time.Duration // between two that were good
}

// run calls once until stop is closed. once returns "" if it went well.
func (l *load) run(stop <-chan struct{}, once func(i int) string) {
	last := time.Now()
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		case <-time.After(10 * time.Millisecond):
		}
		bad := once(i)
		l.mu.Lock()
		if bad == "" {
			l.good.Add(1)
			l.longest = max(l.longest, time.Since(last))
			last = time.Now()
		} else {
			l.failed = append(l.failed, bad)
		}
		l.mu.Unlock()
	}
}

// TestUpgrade replaces three servers of the earlier release by this one's, one after
// the other as `operator upgrade-check` allows, while agents of both releases read,
// one of them in another datacenter: no read fails, and writes pause no longer than a
// change of leader takes.
func TestUpgrade(t *testing.T) {
	old := earlier(t)
	dir := t.TempDir()
	var servers []*agentProcess
	for i := 1; i <= 3; i++ {
		a := newAgent(t, dir, fmt.Sprint("dc1-s", i), "dc1", fmt.Sprint("127.9.90.", i),
			map[string]any{"encrypt": testKey, "bootstrap_expect": 3, "retry_join": []string{"127.9.90.1", "127.9.90.2", "127.9.90.3"}})
		a.Bin = old
		a.start()
		servers = append(servers, a)
	}
	far := newAgent(t, dir, "dc2-s1", "dc2", "127.9.91.1", map[string]any{"encrypt": testKey, "bootstrap_expect": 1})
	far.Bin = old
	far.start()
	clients := map[string]*agentProcess{}
	for i, name := range []string{"client-old", "client-new"} {
		c := newAgent(t, dir, name, "dc1", fmt.Sprint("127.9.90.", 11+i), map[string]any{"encrypt": testKey, "server": false, "retry_join": []string{"127.9.90.1", "127.9.90.2", "127.9.90.3"}})
		if name == "client-old" {
			c.Bin = old
		}
		clients[name] = c
		c.start()
	}
	for _, a := range append([]*agentProcess{far, clients["client-old"], clients["client-new"]}, servers...) {
		until(t, 30*time.Second, a.Name+" knows a leader", a.hasLeader)
	}
	if out, err := far.run("wan", "join", servers[0].IP); err != nil {
		t.Fatalf("wan join: %v\n%s", err, out)
	}
	until(t, 20*time.Second, "dc2 reads dc1", func() bool { return far.reads("dc1") })

	// State of every kind that the earlier release has.
	oldClient := clients["client-old"]
	for i := range 500 {
		oldClient.want("PUT", fmt.Sprint("/v1/kv/kept/", i), fmt.Sprint("value ", i), "true")
	}
	oldClient.want("PUT", "/v1/agent/service/register", `{"Name":"web","Port":80,"Check":{"TTL":"1h","Status":"passing"}}`, "")
	if status, body := oldClient.do("POST", "/v1/query", `{"Name":"find-web","Service":{"Service":"web"}}`); status != 200 {
		t.Fatalf("a prepared query: %d %s", status, body)
	}
	_, body := oldClient.do("PUT", "/v1/session/create", `{"Name":"holder","TTL":"3600s","LockDelay":"0s"}`)
	var session struct{ ID string }
	if err := json.Unmarshal([]byte(body), &session); err != nil {
		t.Fatalf("session: %s", body)
	}
	oldClient.want("PUT", "/v1/kv/lock?acquire="+session.ID, "held", "true")

	stop := make(chan struct{})
	var running sync.WaitGroup
	loads := map[string]*load{}
	begin := func(name string, once func(i int) string) {
		l := &load{}
		loads[name] = l
		running.Go(func() { l.run(stop, once) })
	}
	for _, from := range []*agentProcess{clients["client-old"], clients["client-new"], far} {
		begin("reads at "+from.Name, func(i int) string {
			n := i % 500
			if status, body := from.do("GET", fmt.Sprintf("/v1/kv/kept/%d?raw&dc=dc1", n), ""); status != 200 || body != fmt.Sprint("value ", n) {
				return fmt.Sprintf("kept/%d: %d %s", n, status, body)
			}
			return ""
		})
	}
	begin("health at client-new", func(int) string {
		if status, body := clients["client-new"].do("GET", "/v1/health/service/web?passing", ""); status != 200 || !strings.Contains(body, `"web"`) {
			return fmt.Sprintf("%d %s", status, body)
		}
		return ""
	})
	begin("writes at client-new", func(i int) string {
		if status, body := clients["client-new"].do("PUT", fmt.Sprint("/v1/kv/new/", i), "x"); status != 200 || body != "true" {
			return fmt.Sprintf("new/%d: %d %s", i, status, body)
		}
		return ""
	})

	lead := leaderOf(t, servers)
	order := []*agentProcess{}
	for _, s := range servers {
		if s != lead {
			order = append(order, s)
		}
	}
	for n, s := range append(order, lead) {
		if out, err := s.run("operator", "upgrade-check", "-wait=60s"); err != nil || !strings.Contains(out, s.Name+" may be stopped") {
			t.Fatalf("upgrade-check before %s: %v\n%s", s.Name, err, out)
		}
		if code := s.end(syscall.SIGTERM); code != 0 {
			t.Errorf("%s exits %d, want 0", s.Name, code)
		}
		if n == 0 {
			until(t, 15*time.Second, "the check says to leave the others alone", func() bool {
				out, err := lead.run("operator", "upgrade-check", "-node="+order[1].Name)
				return err != nil && strings.Contains(out, "NO  quorum")
			})
		}
		s.Bin = ""
		s.start()
		until(t, 30*time.Second, s.Name+" knows a leader", s.hasLeader)
		if out, err := s.run("federation", "promote"); n == 0 && leaderOf(t, servers) == lead && (err == nil || !strings.Contains(out, lead.Name+" (0.0.1)") || strings.Contains(out, s.Name)) {
			t.Errorf("a promotion with servers of two releases: %v\n%s", err, out)
		}
		// Both releases at once: every server takes writes of every kind.
		for _, at := range servers {
			until(t, 15*time.Second, at.Name+" writes", func() bool { _, b := at.do("PUT", "/v1/kv/mixed/"+at.Name, fmt.Sprint(n)); return b == "true" })
			at.want("GET", "/v1/kv/mixed/"+at.Name+"?raw&consistent", "", fmt.Sprint(n))
			if status, body := at.do("PUT", "/v1/txn", fmt.Sprintf(`[{"KV":{"Verb":"set","Key":"mixed/txn","Value":"eA=="}},{"KV":{"Verb":"cas","Key":"mixed/%s-%d","Value":"eA==","Index":0}}]`, at.Name, n)); status != 200 {
				t.Errorf("a transaction at %s: %d %s", at.Name, status, body)
			}
			at.want("PUT", "/v1/kv/mixed/"+at.Name+"?dc=dc2", fmt.Sprint(n), "true")
		}
	}
	until(t, 60*time.Second, "all is well with the new release", func() bool {
		out, err := servers[0].run("operator", "upgrade-check", "-format=json")
		return err == nil && strings.Count(out, `"Release": "0.0.1"`) == 0 && strings.Contains(out, `"Safe": true`)
	})
	close(stop)
	running.Wait()
	for name, l := range loads {
		t.Logf("%s: %d good, %d failed, longest pause %s", name, l.good.Load(), len(l.failed), l.longest.Round(time.Millisecond))
		if l.good.Load() < 100 {
			t.Errorf("%s: only %d were good: the test shows nothing", name, l.good.Load())
		}
		if strings.HasPrefix(name, "writes") {
			if l.longest > 8*time.Second {
				t.Errorf("%s paused for %s", name, l.longest)
			}
		} else if len(l.failed) > 0 {
			t.Errorf("%s: %d failed, the first: %s", name, len(l.failed), l.failed[0])
		}
	}

	// What the earlier release wrote is there, on each server by itself.
	for _, s := range servers {
		for i := range 500 {
			s.want("GET", fmt.Sprintf("/v1/kv/kept/%d?raw&stale", i), "", fmt.Sprint("value ", i))
		}
		_, lock := s.do("GET", "/v1/kv/lock?stale", "")
		if !strings.Contains(lock, session.ID) {
			t.Errorf("%s: the lock is %s, want that of session %s", s.Name, lock, session.ID)
		}
		if status, body := s.do("GET", "/v1/query/find-web/execute", ""); status != 200 || !strings.Contains(body, "client-old") {
			t.Errorf("%s: the prepared query: %d %s", s.Name, status, body)
		}
	}
}
