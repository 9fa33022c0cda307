//go:build e2e

package main

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestStart measures what someone who starts a server waits for. The bars are
// generous multiples of what an idle machine shows, since timing is not what
// decides here; the measured figures are logged.
func TestStart(t *testing.T) {
	a := newAgent(t, t.TempDir(), "solo", "dc1", "127.9.10.1", map[string]any{"bootstrap_expect": 1})
	a.start()
	t.Logf("HTTP answers after %s", until(t, 5*time.Second, "HTTP answers", func() bool { s, _ := a.do("GET", "/v1/status/leader", ""); return s != 0 }))
	t.Logf("first acknowledged write after %s more", until(t, 10*time.Second, "a write is acknowledged", func() bool {
		_, body := a.do("PUT", "/v1/kv/first", "x")
		return body == "true"
	}))
	until(t, 7*time.Second, "the certificate authority has a root", func() bool {
		_, body := a.do("GET", "/v1/agent/connect/ca/roots", "")
		return strings.Contains(body, `"Active":true`)
	})
	if code := a.end(syscall.SIGTERM); code != 0 {
		t.Errorf("a server stopped by SIGTERM exits %d, want 0", code)
	}
	a.start()
	t.Logf("restarted: the write is there after %s", until(t, 10*time.Second, "the write is there", func() bool {
		_, body := a.do("GET", "/v1/kv/first?raw", "")
		return body == "x"
	}))
}

// TestNothingAcknowledgedIsLost kills all three servers at once while they write.
func TestNothingAcknowledgedIsLost(t *testing.T) {
	servers := cluster(t, t.TempDir(), "dc1", 11, 3, nil)
	var mu sync.Mutex
	acked := map[string]string{}
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for w := range 16 {
		writers.Go(func() {
			s := servers[w%3]
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				key, value := fmt.Sprintf("w%d/%d", w, i), fmt.Sprint(rand.Uint64())
				if _, body := s.do("PUT", "/v1/kv/"+key, value); body == "true" {
					mu.Lock()
					acked[key] = value
					mu.Unlock()
				}
			}
		})
	}
	time.Sleep(2 * time.Second)
	for _, s := range servers {
		_ = s.cmd.Process.Kill()
	}
	close(stop)
	for _, s := range servers {
		<-s.done
	}
	writers.Wait()
	for _, s := range servers {
		s.start()
	}
	t.Logf("%d writes acknowledged; after the restart the first one after %s", len(acked),
		until(t, 20*time.Second, "writes again", func() bool { _, body := servers[0].do("PUT", "/v1/kv/again", "x"); return body == "true" }))
	if len(acked) < 100 {
		t.Fatalf("only %d writes were acknowledged: the test shows nothing", len(acked))
	}
	lost := 0
	for key, value := range acked {
		if _, body := servers[0].do("GET", "/v1/kv/"+key+"?raw&consistent", ""); body != value {
			lost++
			t.Errorf("%s: got %q, want %q", key, body, value)
		}
		if lost > 5 {
			break
		}
	}

	// One of them alone answers stale reads from what it had, and meanwhile none from
	// an older state.
	for i := range 3 {
		servers[0].want("PUT", fmt.Sprint("/v1/kv/later/", i), "x", "true")
	}
	for _, s := range servers {
		s.kill()
	}
	alone := servers[1]
	alone.start()
	for key, value := range acked {
		until(t, 20*time.Second, "the survivor has "+key, func() bool {
			status, body := alone.do("GET", "/v1/kv/"+key+"?raw&stale", "")
			if status == 404 || status == 200 && body != value {
				t.Fatalf("%s on the survivor: %d %q, want %q", key, status, body, value)
			}
			return status == 200
		})
	}
}

// TestLostStateIsNotServedAsEmpty removes a server's log under it.
func TestLostStateIsNotServedAsEmpty(t *testing.T) {
	a := newAgent(t, t.TempDir(), "amnesiac", "dc1", "127.9.12.1", map[string]any{"bootstrap_expect": 1})
	a.start()
	until(t, 10*time.Second, "a write", func() bool { _, b := a.do("PUT", "/v1/kv/k", "v"); return b == "true" })
	a.kill()
	if err := os.RemoveAll(a.Conf["data_dir"].(string) + "/raft"); err != nil {
		t.Fatal(err)
	}
	a.start()
	if code := a.exit(10 * time.Second); code != 78 {
		t.Errorf("exit code %d, want 78", code)
	}
	if log := a.logTail(); !strings.Contains(log, "operator raft forget") {
		t.Errorf("the log does not name the way out:\n%s", log)
	}
	if out, err := a.run("operator", "raft", "forget", "-yes", "-data-dir", a.Conf["data_dir"].(string)); err != nil {
		t.Fatalf("operator raft forget: %v\n%s", err, out)
	}
	a.start()
	until(t, 10*time.Second, "a write after forget", func() bool { _, b := a.do("PUT", "/v1/kv/k", "v"); return b == "true" })
}

// federation starts dc1 and dc2 with three servers each and the same gossip key.
func federation(t *testing.T, network int) (dc1, dc2 []*agentProcess) {
	dir := t.TempDir()
	conf := map[string]any{"encrypt": testKey}
	dc1 = cluster(t, dir, "dc1", network, 3, conf)
	dc2 = cluster(t, dir, "dc2", network+1, 3, conf)
	return dc1, dc2
}

const testKey = "pUqJrVyVRj5jsiYEkM/tFQYfWyJIv4s3XkvDwy7Cu5s="

// reads is whether an agent gets dc's leader from dc itself.
func (a *agentProcess) reads(dc string) bool {
	status, body := a.do("GET", "/v1/status/leader?dc="+dc, "")
	return status == 200 && strings.Contains(body, ":")
}

func TestWANJoin(t *testing.T) {
	dc1, dc2 := federation(t, 20)
	start := time.Now()
	out, err := dc1[1].run("wan", "join", dc2[2].IP)
	if err != nil {
		t.Fatalf("wan join: %v\n%s", err, out)
	}
	t.Logf("wan join took %s: %s", time.Since(start).Round(time.Millisecond), strings.TrimSpace(out))
	for _, a := range dc1 {
		until(t, 10*time.Second, a.Name+" reads dc2", func() bool { return a.reads("dc2") })
	}
	for _, a := range dc2 {
		until(t, 10*time.Second, a.Name+" reads dc1", func() bool { return a.reads("dc1") })
	}
	t.Logf("every server reads the other datacenter %s after the command began", time.Since(start).Round(time.Millisecond))

	dc1[0].want("PUT", "/v1/kv/far?dc=dc2", "value", "true")
	dc2[1].want("GET", "/v1/kv/far?raw", "", "value")
	dc1[2].want("GET", "/v1/kv/far?raw&dc=dc2", "", "value")
	if status, _ := dc1[2].do("GET", "/v1/kv/far", ""); status != 404 {
		t.Errorf("a key of dc2 is in dc1 too: status %d", status)
	}

	t.Run("again is no error", func(t *testing.T) {
		if out, err := dc1[1].run("wan", "join", dc2[2].IP); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	t.Run("a killed server is back on its address", func(t *testing.T) {
		dc2[0].kill()
		for i := range 20 { // no read fails for good while one of three is dead
			// It may have been the leader: then dc2 rightly names none for a while.
			if status, body := dc1[i%3].do("GET", "/v1/status/leader?dc=dc2", ""); status != 200 {
				t.Errorf("read %d while %s is dead: %d %s", i, dc2[0].Name, status, body)
			}
		}
		dc2[0].start()
		until(t, 20*time.Second, "it has a leader", dc2[0].hasLeader)
		t.Logf("it reads dc1 after %s", until(t, 10*time.Second, "it reads dc1", func() bool { return dc2[0].reads("dc1") }))
	})
	t.Run("the leader of the other datacenter dies", func(t *testing.T) {
		l := leaderOf(t, dc2)
		l.kill()
		for _, a := range dc1 {
			t.Logf("%s reads dc2 after %s", a.Name, until(t, 15*time.Second, "reads dc2", func() bool {
				status, body := a.do("GET", "/v1/kv/far?raw&dc=dc2", "")
				return status == 200 && body == "value"
			}))
		}
	})
}

func TestWANJoinIsRefused(t *testing.T) {
	dir := t.TempDir()
	a := cluster(t, dir, "dc1", 30, 1, map[string]any{"encrypt": testKey})[0]
	other := cluster(t, dir, "dc2", 31, 1, map[string]any{"encrypt": "cg8StVXbQJ0gPvMd9o7yrg=="})[0]
	same := newAgent(t, dir, "other-s1", "dc1", "127.9.32.1", map[string]any{"bootstrap_expect": 1, "encrypt": testKey})
	same.start()
	until(t, 20*time.Second, "a leader", same.hasLeader)
	for _, c := range []struct {
		name string
		from *agentProcess
		text string
	}{
		{"another key", other, "key"},
		{"the same datacenter name", same, "dc1"},
	} {
		out, err := c.from.run("wan", "join", a.IP)
		if err == nil || !strings.Contains(out, c.text) {
			t.Errorf("%s: %v\n%s\nwant a refusal that says %q", c.name, err, out, c.text)
		}
		t.Logf("%s: %s", c.name, strings.TrimSpace(out))
	}
	if _, body := a.do("GET", "/v1/catalog/datacenters", ""); body != `["dc1"]` {
		t.Errorf("the refusing side knows %s", body)
	}
	if _, body := a.do("GET", "/v1/agent/members?wan=1", ""); strings.Contains(body, "dc2") {
		t.Errorf("the refusing side kept a member: %s", body)
	}
}

// TestTakenNodeName starts a server with the name of a live one.
func TestTakenNodeName(t *testing.T) {
	dir := t.TempDir()
	servers := cluster(t, dir, "dc1", 33, 3, nil)
	thief := newAgent(t, dir+"/thief", servers[2].Name, "dc1", "127.9.33.9", map[string]any{"retry_join": []string{servers[0].IP}})
	thief.start()
	until(t, 15*time.Second, "the thief's log says why", func() bool {
		return strings.Contains(thief.logTail(), "is held by node")
	})
	_, body := servers[0].do("GET", "/v1/agent/members", "")
	if strings.Contains(body, thief.IP) || strings.Count(body, `"Status":1`) != 3 {
		t.Errorf("members after the refusal: %s", body)
	}
	servers[1].want("PUT", "/v1/kv/after", "x", "true")
}

// TestTwoClustersOfOneName has a cluster that was made apart, with the same
// datacenter name and no gossip key to tell them apart, join a living one.
func TestTwoClustersOfOneName(t *testing.T) {
	dir := t.TempDir()
	servers := cluster(t, dir, "dc1", 36, 3, nil)
	other := newAgent(t, dir, "other", "dc1", "127.9.37.1", map[string]any{"bootstrap_expect": 1})
	other.start()
	until(t, 10*time.Second, "the other cluster writes", func() bool { _, b := other.do("PUT", "/v1/kv/its", "x"); return b == "true" })
	client := newAgent(t, dir, "client", "dc1", "127.9.37.2", map[string]any{"server": false, "retry_join": []string{other.IP}})
	client.start()
	for _, a := range slices.Concat(servers, []*agentProcess{client}) {
		until(t, 10*time.Second, a.Name+" knows its cluster", func() bool {
			_, members := a.do("GET", "/v1/agent/members", "")
			return a.hasLeader() && strings.Contains(members, `"lb_cluster":`)
		})
	}
	for i := range 20 {
		servers[i%3].want("PUT", fmt.Sprint("/v1/kv/ours/", i), "x", "true")
	}
	for _, from := range []*agentProcess{other, client} {
		for _, pair := range [][2]*agentProcess{{from, servers[0]}, {servers[1], from}} {
			out, err := pair[0].run("join", pair[1].IP)
			if err == nil || !strings.Contains(out, "another cluster of datacenter") {
				t.Errorf("%s joins %s: %v\n%s", pair[0].Name, pair[1].Name, err, out)
			}
		}
	}
	time.Sleep(3 * time.Second) // what a leader takes to add servers, several times
	for i := range 20 {
		servers[i%3].want("GET", fmt.Sprintf("/v1/kv/ours/%d?raw&consistent", i), "", "x")
	}
	other.want("GET", "/v1/kv/its?raw&consistent", "", "x")
	for _, s := range servers {
		_, peers := s.do("GET", "/v1/status/peers", "")
		if _, members := s.do("GET", "/v1/agent/members", ""); strings.Contains(peers+members, "127.9.37.") {
			t.Errorf("%s took in the other cluster: %s %s", s.Name, peers, members)
		}
	}
}

// TestGarbageOnEveryPort sends noise everywhere and checks that the server is as
// well as before, and that its log is not flooded.
func TestGarbageOnEveryPort(t *testing.T) {
	a := cluster(t, t.TempDir(), "dc1", 34, 1, nil)[0]
	before, err := os.Stat(a.logFile())
	if err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, 1200)
	for range 300 {
		for i := range noise {
			noise[i] = byte(rand.Uint32())
		}
		for _, port := range []string{"8300", "8301", "8500", "8600"} {
			if c, err := net.DialTimeout("tcp", a.IP+":"+port, time.Second); err == nil {
				_ = c.SetDeadline(time.Now().Add(100 * time.Millisecond))
				_, _ = c.Write(noise[:1+rand.IntN(len(noise))])
				c.Close()
			}
		}
		for _, port := range []string{"8301", "8302", "8600"} {
			if c, err := net.Dial("udp", a.IP+":"+port); err == nil {
				_, _ = c.Write(noise[:1+rand.IntN(len(noise))])
				c.Close()
			}
		}
	}
	a.want("PUT", "/v1/kv/alive", "x", "true")
	after, err := os.Stat(a.logFile())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("2,100 pieces of garbage: %d bytes of log", after.Size()-before.Size())
	if grown := after.Size() - before.Size(); grown > 200_000 {
		t.Errorf("garbage wrote %d bytes to the log", grown)
	}
	errors := strings.Count(a.logTail(), "[ERROR]")
	if errors > 30 {
		t.Errorf("%d error lines at the end of the log", errors)
	}
}

// TestLeaderStops ends the leader by SIGTERM while a follower and a client agent are
// written through: another server leads before it goes, and no write is in doubt. With
// the longest time-outs of Raft, a machine that stands still for half a second is no
// reason for another election, and a hand-over differs the most from one.
func TestLeaderStops(t *testing.T) {
	dir := t.TempDir()
	servers := cluster(t, dir, "dc1", 36, 3, map[string]any{"performance": map[string]any{"raft_multiplier": 10}})
	client := newAgent(t, dir, "client", "dc1", "127.9.36.4", map[string]any{"server": false, "retry_join": []string{servers[0].IP, servers[1].IP}})
	client.start()
	until(t, 10*time.Second, "the client knows a leader", client.hasLeader)
	l := leaderOf(t, servers)
	follower := servers[0]
	if follower == l {
		follower = servers[1]
	}
	time.Sleep(time.Second)
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for _, via := range []*agentProcess{follower, client} {
		for i := range 4 {
			writers.Go(func() {
				last, longest := time.Now(), time.Duration(0)
				for {
					status, body := via.do("PUT", fmt.Sprintf("/v1/kv/via-%s/%d", via.Name, i), "x")
					if body != "true" {
						t.Errorf("a write through %s: %d %s", via.Name, status, body)
					}
					longest, last = max(longest, time.Since(last)), time.Now()
					select {
					case <-stop:
						t.Logf("through %s: the longest time without a write was %s", via.Name, longest)
						// Without a handover it is a heartbeat time-out at least, 1.5 s.
						if longest > 1400*time.Millisecond {
							t.Errorf("through %s: no write for %s while the leader stopped", via.Name, longest)
						}
						return
					case <-time.After(5 * time.Millisecond):
					}
				}
			})
		}
	}
	time.Sleep(500 * time.Millisecond)
	if code := l.end(syscall.SIGTERM); code != 0 {
		t.Errorf("a leader stopped by SIGTERM exits %d, want 0", code)
	}
	time.Sleep(time.Second)
	close(stop)
	writers.Wait()
	if _, body := follower.do("GET", "/v1/status/leader", ""); strings.Contains(body, l.IP+":") || !strings.Contains(body, ":") {
		t.Errorf("leader is %s after %s has stopped", body, l.IP)
	}
}

// TestLeave checks what the others see when an agent goes in good order.
func TestLeave(t *testing.T) {
	dir := t.TempDir()
	servers := cluster(t, dir, "dc1", 35, 3, nil)
	client := newAgent(t, dir, "client", "dc1", "127.9.35.4", map[string]any{"server": false, "retry_join": []string{servers[0].IP}})
	client.start()
	until(t, 10*time.Second, "the client is in the catalog", func() bool {
		_, body := servers[0].do("GET", "/v1/health/node/client", "")
		return strings.Contains(body, "serfHealth")
	})
	client.want("PUT", "/v1/kv/through-the-client", "x", "true")
	if code := client.end(syscall.SIGTERM); code != 0 {
		t.Errorf("a client that left exits %d, want 0", code)
	}
	until(t, 10*time.Second, "its node is gone", func() bool {
		_, body := servers[0].do("GET", "/v1/catalog/node/client", "")
		return body == "null"
	})
	l := leaderOf(t, servers)
	if out, err := l.run("leave"); err != nil {
		t.Fatalf("leave: %v\n%s", err, out)
	}
	l.exit(20 * time.Second)
	for _, s := range servers {
		if s != l {
			t.Logf("%s writes after %s", s.Name, until(t, 10*time.Second, "writes go on", func() bool { _, b := s.do("PUT", "/v1/kv/after-leave", "x"); return b == "true" }))
			_, peers := s.do("GET", "/v1/status/peers", "")
			if strings.Contains(peers, l.IP) {
				t.Errorf("%s still lists %s: %s", s.Name, l.IP, peers)
			}
		}
	}
}
