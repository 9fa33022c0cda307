//go:build e2e

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// readers reads the other datacenters from agents until stopped, and counts.
type readers struct {
	stop   chan struct{}
	all    sync.WaitGroup
	reads  atomic.Int64
	failed atomic.Int64
	mu     sync.Mutex
	first  string // failure
}

func read(pairs map[*agentProcess]string) *readers {
	r := &readers{stop: make(chan struct{})}
	for a, dc := range pairs {
		r.all.Go(func() {
			for {
				select {
				case <-r.stop:
					return
				case <-time.After(10 * time.Millisecond):
				}
				r.reads.Add(1)
				if status, body := a.do("GET", "/v1/kv/where?raw&stale&dc="+dc, ""); status != 200 || body != dc {
					r.failed.Add(1)
					r.mu.Lock()
					if r.first == "" {
						r.first = fmt.Sprintf("%s asks %s: %d %s", a.Name, dc, status, body)
					}
					r.mu.Unlock()
				}
			}
		})
	}
	return r
}

// end fails the test if a read failed.
func (r *readers) end(t *testing.T, during string) {
	t.Helper()
	close(r.stop)
	r.all.Wait()
	t.Logf("%s: %d reads, %d failed", during, r.reads.Load(), r.failed.Load())
	if r.failed.Load() > 0 {
		t.Errorf("%s: %d of %d reads failed, the first: %s", during, r.failed.Load(), r.reads.Load(), r.first)
	}
}

type caStatus struct {
	Roots       []struct{ ID, State string }
	Datacenters []struct {
		Name string
		Done bool
	}
	Revoked []struct{ Node, Datacenter string }
}

func (a *agentProcess) ca() (s caStatus) {
	if status, body := a.do("GET", "/v1/internal/federation/ca", ""); status == 200 {
		_ = json.Unmarshal([]byte(body), &s)
	}
	return s
}

// TestIdentity joins datacenters that share no key by tokens, replaces every
// certificate under load while one datacenter is away, and evicts a server.
func TestIdentity(t *testing.T) {
	dir := t.TempDir()
	start := func(dc string, number, servers int) (list []*agentProcess) {
		var ips []string
		for n := 1; n <= servers; n++ {
			ips = append(ips, fmt.Sprintf("127.74.%d.%d", number, n))
		}
		for i, ip := range ips {
			conf := map[string]any{"bootstrap_expect": servers, "retry_join": ips}
			if servers == 1 {
				delete(conf, "retry_join")
			}
			// Bound to a loopback address all could join without proof.
			conf["serf_wan"] = "0.0.0.0"
			conf["advertise_addr"] = ip
			conf["ports"] = map[string]any{"serf_wan": 8300 + 10*number + i}
			conf["encrypt"] = map[string]string{"dc1": testKey, "dc2": "cg8StVXbQJ0gPvMd9o7yrg=="}[dc]
			a := newAgent(t, dir, fmt.Sprintf("%s-s%d", dc, i+1), dc, ip, conf)
			a.start()
			list = append(list, a)
		}
		for _, a := range list {
			until(t, 20*time.Second, a.Name+" knows a leader", a.hasLeader)
		}
		list[0].want("PUT", "/v1/kv/where", dc, "true")
		return list
	}
	dc1, dc2, dc3 := start("dc1", 1, 3), start("dc2", 2, 2), start("dc3", 3, 1)
	run := func(a *agentProcess, args ...string) string {
		t.Helper()
		out, err := a.run(args...)
		if err != nil {
			t.Fatalf("%s: landbridge %s: %v\n%s", a.Name, strings.Join(args, " "), err, out)
		}
		return strings.TrimSpace(out)
	}
	refused := func(a *agentProcess, want string, args ...string) {
		t.Helper()
		if out, err := a.run(args...); err == nil || !strings.Contains(out, want) {
			t.Errorf("%s: landbridge %s: %v\n%s\nwant a refusal that says %q", a.Name, strings.Join(args[:2], " "), err, out, want)
		}
	}
	reads := func(pairs map[*agentProcess]string) {
		t.Helper()
		for a, dc := range pairs {
			until(t, 20*time.Second, a.Name+" reads "+dc, func() bool { return a.reads(dc) })
		}
	}

	for _, a := range []*agentProcess{dc2[0], dc3[0]} {
		refused(a, "landbridge wan token", "wan", "join", dc1[0].IP+":8310")
	}
	token := run(dc1[1], "wan", "token")
	run(dc2[1], "wan", "join", token)
	refused(dc3[0], "was used", "wan", "join", token)
	token = run(dc2[0], "wan", "token", "-for=dc3")
	run(dc3[0], "wan", "join", token)
	both := map[*agentProcess]string{dc1[0]: "dc2", dc1[1]: "dc2", dc1[2]: "dc2", dc2[0]: "dc1", dc2[1]: "dc1"}
	reads(both)
	reads(map[*agentProcess]string{dc3[0]: "dc1", dc1[0]: "dc3"})

	t.Run("rotation", func(t *testing.T) {
		// One that is killed before it has written down whom it met is found by the
		// others, half a minute later.
		until(t, 20*time.Second, "dc3 has written down the servers of dc1", func() bool {
			files, _ := filepath.Glob(filepath.Join(dc3[0].data(), "serf", "remote.snapshot*"))
			return slices.ContainsFunc(files, func(file string) bool {
				b, err := os.ReadFile(file)
				return err == nil && strings.Contains(string(b), "alive: dc1-s1.dc1 ")
			})
		})
		dc3[0].kill()
		load := read(both)
		before := dc1[0].ca().Roots
		run(dc1[0], "wan", "ca", "rotate", "-servers")
		run(dc1[0], "wan", "ca", "rotate", "-intermediate", "-datacenter=dc2")
		run(dc2[0], "wan", "ca", "rotate", "-root")
		took := until(t, 30*time.Second, "dc2 is done with the old root", func() bool {
			for _, d := range dc1[2].ca().Datacenters {
				if !d.Done && d.Name != "dc3" {
					return false
				}
			}
			roots := dc2[1].ca().Roots
			return len(roots) == 2 && roots[0].ID != before[0].ID
		})
		t.Logf("dc1 and dc2 use the new root %s after the command", took.Round(time.Millisecond))
		dc3[0].start()
		took = until(t, 60*time.Second, "dc3 has caught up and the old root is gone", func() bool {
			for _, a := range []*agentProcess{dc1[0], dc2[0], dc3[0]} {
				if roots := a.ca().Roots; len(roots) != 1 || roots[0].ID == before[0].ID {
					return false
				}
			}
			return true
		})
		t.Logf("only the new root is trusted %s after dc3 was started", took.Round(time.Millisecond))
		load.end(t, "all certificates are replaced")
		reads(map[*agentProcess]string{dc3[0]: "dc2", dc2[1]: "dc3"})
	})
	t.Run("eviction", func(t *testing.T) {
		victim, other := dc2[0], dc2[1]
		if leaderOf(t, dc2) == victim {
			victim, other = other, victim
		}
		load := read(map[*agentProcess]string{dc1[0]: "dc2", dc1[1]: "dc2", dc3[0]: "dc2", other: "dc1"})
		run(dc3[0], "wan", "evict", victim.Name+".dc2")
		t.Logf("the evicted server reads nothing of dc1 and dc3 %s after the command", until(t, 30*time.Second, "the evicted server is refused", func() bool {
			return !victim.reads("dc1") && !victim.reads("dc3")
		}).Round(time.Millisecond))
		load.end(t, "a server of dc2 is evicted")
		until(t, 30*time.Second, "dc3 has heard of the eviction", func() bool { return len(dc3[0].ca().Revoked) == 1 })
		dc3[0].kill()
		dc3[0].start()
		until(t, 20*time.Second, "dc3 leads itself", dc3[0].hasLeader)
		reads(map[*agentProcess]string{dc3[0]: "dc2"})
		if victim.reads("dc3") {
			t.Error("a restarted server has forgotten the eviction")
		}
		// It goes when gossip finds it dead: a round of probes, and three minutes of
		// suspicion where few confirm it. A minute is usual.
		until(t, 4*time.Minute, "the evicted server is off the lists", func() bool {
			return !strings.Contains(run(dc1[0], "wan", "members"), victim.Name)
		})
		run(dc1[0], "wan", "evict", "-undo", victim.Name+".dc2")
		took := until(t, 60*time.Second, "it is back", func() bool { return victim.reads("dc1") && victim.reads("dc3") })
		t.Logf("let in again, it reads dc1 and dc3 after %s", took.Round(time.Millisecond))
		took = until(t, 15*time.Second, "it is on the lists again", func() bool {
			for _, a := range []*agentProcess{dc1[0], dc1[2], dc3[0], other} {
				if !strings.Contains(run(a, "wan", "members"), victim.Name+".dc2") {
					return false
				}
			}
			return true
		})
		t.Logf("it is on the lists %s after that", took.Round(time.Millisecond))
	})
}
