//go:build e2e

package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

func (a *agentProcess) data() string { return a.Conf["data_dir"].(string) }

// TestRecovery loses two of three servers and recovers the third. Nothing that it
// had acknowledged is lost and no index goes back; the two come back as new servers
// from empty disks, and not at all with the old ones.
func TestRecovery(t *testing.T) {
	dir := t.TempDir()
	servers := cluster(t, dir, "dc1", 15, 3, nil)
	var mu sync.Mutex
	acked := map[string]string{}
	var writers sync.WaitGroup
	for w := range 8 {
		writers.Go(func() {
			for i := range 100 {
				key, value := fmt.Sprintf("w%d/%d", w, i), fmt.Sprint(rand.Uint64())
				if _, body := servers[i%3].do("PUT", "/v1/kv/"+key, value); body == "true" {
					mu.Lock()
					acked[key] = value
					mu.Unlock()
				}
			}
		})
	}
	writers.Wait()
	survivor := servers[0]
	if survivor == leaderOf(t, servers) {
		survivor = servers[1]
	}
	var lost []*agentProcess
	for _, s := range servers {
		if s != survivor {
			lost = append(lost, s)
		}
	}
	leaderOf(t, servers).want("PUT", "/v1/kv/watched", "before", "true")
	index := keyIndex(t, survivor, "watched")
	until(t, 5*time.Second, "the survivor has all", func() bool { _, b := survivor.do("GET", "/v1/kv/watched?raw&stale", ""); return b == "before" })

	refused := func(why string) {
		t.Helper()
		out, err := survivor.run("operator", "raft", "recover", "-yes", "-data-dir", survivor.data())
		if err == nil || !strings.Contains(out, why) {
			t.Fatalf("a recovery was not refused because of %q: %v\n%s", why, err, out)
		}
	}
	refused("in use by another process")
	survivor.kill()
	refused("3 of 3 voters answer or are this server, which is a majority")
	lost[0].kill()
	refused("2 of 3 voters answer or are this server, which is a majority")
	survivor.start() // as the refusal says
	until(t, 20*time.Second, "two of three write", func() bool { _, b := survivor.do("PUT", "/v1/kv/two", "x"); return b == "true" })
	lost[1].kill()
	survivor.kill()

	if out, err := survivor.run("operator", "raft", "recover", "-data-dir", survivor.data()); err == nil || !strings.Contains(out, "Say -yes") {
		t.Fatalf("without -yes: %v\n%s", err, out)
	}
	start := time.Now()
	out, err := survivor.run("operator", "raft", "recover", "-yes", "-data-dir", survivor.data())
	if err != nil {
		t.Fatalf("operator raft recover: %v\n%s", err, out)
	}
	t.Logf("recovered in %s:\n%s", time.Since(start).Round(time.Millisecond), out)
	survivor.start()
	t.Logf("it writes %s after its start", until(t, 10*time.Second, "the survivor writes", func() bool {
		_, b := survivor.do("PUT", "/v1/kv/watched", "after")
		return b == "true"
	}))
	for key, value := range acked {
		if _, body := survivor.do("GET", "/v1/kv/"+key+"?raw&consistent", ""); body != value {
			t.Fatalf("%s: got %q, want %q", key, body, value)
		}
	}
	t.Logf("all %d acknowledged keys are there", len(acked))
	if len(acked) < 700 {
		t.Errorf("only %d writes were acknowledged: the test shows little", len(acked))
	}
	if now := keyIndex(t, survivor, "watched"); now <= index {
		t.Errorf("the index went from %d to %d", index, now)
	}
	if _, body := survivor.do("GET", fmt.Sprintf("/v1/kv/watched?raw&wait=20s&index=%d", index), ""); body != "after" {
		t.Errorf("who watched from before gets %q", body)
	}

	// The old disks: the servers end, accept nothing, and start no more.
	for _, s := range lost {
		s.start()
	}
	for _, s := range lost {
		if code := s.exit(10 * time.Second); code != 78 {
			t.Errorf("%s with its old disk exits %d, want 78", s.Name, code)
		}
		if log := s.logTail(); !strings.Contains(log, "operator raft forget -yes") {
			t.Errorf("%s does not name the way out:\n%s", s.Name, log)
		}
	}
	lost[0].start()
	if code := lost[0].exit(10 * time.Second); code != 78 {
		t.Errorf("a second start exits %d, want 78", code)
	}
	survivor.want("GET", "/v1/kv/watched?raw&consistent", "", "after")

	// Empty disks, and one that was told to forget.
	if err := os.RemoveAll(lost[0].data()); err != nil {
		t.Fatal(err)
	}
	if out, err := lost[1].run("operator", "raft", "forget", "-yes", "-data-dir", lost[1].data()); err != nil {
		t.Fatalf("operator raft forget: %v\n%s", err, out)
	}
	for _, s := range lost {
		s.start()
	}
	t.Logf("three voters again after %s", until(t, 60*time.Second, "three voters", func() bool {
		_, body := survivor.do("GET", "/v1/operator/raft/configuration", "")
		return strings.Count(body, `"Voter":true`) == 3
	}))
	until(t, 10*time.Second, "autopilot finds all healthy", func() bool {
		status, body := lost[0].do("GET", "/v1/operator/autopilot/health", "")
		return status == 200 && strings.Contains(body, `"FailureTolerance":1`)
	})
	survivor.kill()
	until(t, 10*time.Second, "the new ones go on without the survivor", func() bool { _, b := lost[0].do("PUT", "/v1/kv/on", "x"); return b == "true" })
	for key, value := range acked {
		lost[1].want("GET", "/v1/kv/"+key+"?raw", "", value)
	}
}
