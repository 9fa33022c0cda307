//go:build e2e

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// route reads a key of a datacenter and returns which way the answer came.
func (a *wanAgent) route(path string) (_ string, err error) {
	defer a.note("GET "+path, &err)
	resp, err := a.http.Get("http://agent" + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(strings.TrimSpace(string(b)))
	}
	return resp.Header.Get("X-Landbridge-Route"), err
}

// cpu is the processor time that the agent has used.
func (a *wanAgent) cpu() time.Duration {
	a.w.t.Helper()
	// wanlink exec becomes the command, so that the process is the agent.
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", a.cmd.Process.Pid))
	if err != nil {
		a.w.t.Fatal(err)
	}
	f := strings.Fields(string(b)[strings.LastIndex(string(b), ")")+1:])
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// Real servers of three datacenters; two of them lose their path, and the third
// carries their calls, until the path is back. A third datacenter that is not asked
// to carries nothing.
func TestRelay(t *testing.T) {
	for _, tt := range []struct {
		name   string
		relays bool
	}{
		{"relays", true},
		{"nobody relays", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWAN(t, "-sites", "dc1=1,dc2=1,dc3=1", "-mtu", "1280")
			for dc := 1; dc <= 3; dc++ {
				conf := map[string]any{"bootstrap_expect": 1, "bind_addr": fmt.Sprintf("10.73.%d.11", dc)}
				if dc != 2 {
					conf["retry_join_wan"] = []string{"10.73.2.11"}
				} else if tt.relays {
					conf["federation"] = map[string]any{"relay": true}
				}
				w.start(dc, 1, conf)
			}
			one, two, three := w.agents["dc1/1"], w.agents["dc2/1"], w.agents["dc3/1"]
			until(t, 40*time.Second, "dc3 takes a key", func() bool { return three.put("/v1/kv/k", "value") == nil })
			const read = "/v1/kv/k?raw&dc=dc3"
			until(t, 40*time.Second, "dc1 reads dc3", func() bool { _, err := one.route(read); return err == nil })
			until(t, 40*time.Second, "dc3 reads dc1", func() bool { _, err := three.route("/v1/status/leader?dc=dc1"); return err == nil })
			if r, err := one.route(read); err != nil || strings.Contains(r, "via=") {
				t.Errorf("before the cut: %q, %v", r, err)
			}

			value := make([]byte, 384<<10)
			random := rand.NewChaCha8([32]byte{1})
			const values = 8
			for i := range values {
				random.Read(value)
				if err := three.put(fmt.Sprint("/v1/kv/large/", i), string(value)); err != nil {
					t.Fatal(err)
				}
			}
			if err := three.put("/v1/catalog/register", `{"Node":"n1","Address":"10.9.0.1","Service":{"Service":"web","Port":80}}`); err != nil {
				t.Fatal(err)
			}

			w.must("cut", "dc1", "dc3")
			if !tt.relays {
				for range 20 {
					if r, err := one.route(read); err == nil {
						t.Errorf("an answer without a path, by %q", r)
					}
					time.Sleep(200 * time.Millisecond)
				}
				return
			}
			cut := time.Now()
			until(t, 20*time.Second, "dc1 reads dc3 through dc2", func() bool {
				r, err := one.route(read)
				return err == nil && strings.Contains(r, "via=s1.dc2")
			})
			t.Logf("read through the relay %s after the cut", time.Since(cut).Round(time.Millisecond))
			if err := one.put("/v1/kv/written?dc=dc3", "through"); err != nil {
				t.Errorf("a write: %v", err)
			}
			if v, err := three.get("/v1/kv/written?raw"); err != nil || v != "through" {
				t.Errorf("what was written is %q, %v", v, err)
			}

			began := time.Now()
			if b, err := one.get("/v1/kv/large/?recurse&dc=dc3"); err != nil || len(b) < values*len(value)*4/3 {
				t.Errorf("a large answer: %d bytes, %v", len(b), err)
			}
			t.Logf("%d MB through the relay in %s", values*len(value)*4/3>>20, time.Since(began).Round(time.Millisecond))
			if _, err := exec.LookPath("dig"); err != nil {
				lacks(t, "questions need dig")
			}
			for _, q := range []string{"web.service.dc3.consul", "n1.node.dc3.consul"} {
				if got := strings.TrimSpace(w.in("dc1/1", "", "dig", "+short", "@127.0.0.1", "-p", "8600", q)); got != "10.9.0.1" {
					t.Errorf("DNS says %q of %s", got, q)
				}
			}

			const reads = 100
			took := make([]time.Duration, reads)
			for i := range took {
				began := time.Now()
				if r, err := one.route(read); err != nil || !strings.Contains(r, "via=s1.dc2") {
					t.Errorf("read %d: %q, %v", i, r, err)
				}
				took[i] = time.Since(began)
			}
			slices.Sort(took)
			t.Logf("%d reads through the relay, round trips of 40 ms on both legs: p50 %s, p99 %s", reads,
				took[reads/2].Round(100*time.Microsecond), took[reads*99/100].Round(100*time.Microsecond))

			const callers = 32
			used, at := two.cpu(), time.Now()
			time.Sleep(3 * time.Second)
			idle := float64(two.cpu()-used) / float64(time.Since(at))
			var all sync.WaitGroup
			used, at = two.cpu(), time.Now()
			for range callers {
				all.Go(func() {
					for range 50 {
						if _, err := one.route(read); err != nil {
							t.Error(err)
						}
					}
				})
			}
			all.Wait()
			spent := two.cpu() - used - time.Duration(idle*float64(time.Since(at)))
			t.Logf("%d reads at once: %s of CPU each at the relay", callers, spent/(callers*50))

			// dc3 has not asked for anything: it finds out by the status.
			until(t, 20*time.Second, "both sides tell of the relay, and nothing is wrong", func() bool {
				out, err := one.run("wan", "status")
				return strings.Count(out, "via s1.dc2") == 2 && err == nil
			})
			out, err := one.run("wan", "status", "-format=json")
			type pair struct {
				From, To string
				Via      []string
			}
			var st struct{ Matrix []pair }
			if err == nil {
				err = json.Unmarshal([]byte(out), &st)
			}
			if i := slices.IndexFunc(st.Matrix, func(p pair) bool { return p.From == "dc1" && p.To == "dc3" }); err != nil || i < 0 || !slices.Equal(st.Matrix[i].Via, []string{"s1.dc2"}) {
				t.Errorf("wan status as JSON: %v\n%s", err, out)
			}

			w.must("heal")
			healed := time.Now()
			until(t, 20*time.Second, "dc1 reads dc3 directly", func() bool {
				r, err := one.route(read)
				return err == nil && !strings.Contains(r, "via=")
			})
			t.Logf("read directly %s after the healing", time.Since(healed).Round(time.Millisecond))
			until(t, 30*time.Second, "the relay carries nothing", func() bool {
				m, err := two.get("/v1/agent/metrics?format=prometheus")
				return err == nil && strings.Contains(m, "landbridge_wan_relay_tunnels{role=\"relay\"} 0\n")
			})
			for _, text := range []string{"datacenter is reached through a relay", "datacenter is reached directly again"} {
				if !strings.Contains(one.log(), text) {
					t.Errorf("the log does not say %q", text)
				}
			}
		})
	}
}
