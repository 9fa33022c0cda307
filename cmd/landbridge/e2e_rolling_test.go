//go:build e2e

package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// region is a datacenter of three servers and a client agent.
type region struct {
	dc      string
	net     int // its addresses are 127.9.net.x
	servers []*agentProcess
	client  *agentProcess
}

func (r *region) agent(t *testing.T, dir, name string, host int, conf map[string]any) *agentProcess {
	all := map[string]any{"encrypt": testKey, "retry_join": []string{r.ip(1), r.ip(2), r.ip(3)}, "autopilot": map[string]any{"server_stabilization_time": "2s"}}
	maps.Copy(all, conf)
	return newAgent(t, dir, r.dc+"-"+name, r.dc, r.ip(host), all)
}

func (r *region) ip(host int) string { return fmt.Sprintf("127.9.%d.%d", r.net, host) }

// TestRollingUpgrade restarts the nine servers of three datacenters one after the
// other, leaders last, as `operator upgrade-check` allows, while client agents read
// and write, over HTTP and DNS, in their own datacenter and in the others: no read
// fails, and writes pause no longer than a change of leader takes. TestUpgrade has two
// releases; here both are this one, whose servers have to stop well, too.
func TestRollingUpgrade(t *testing.T) {
	dir := t.TempDir()
	regions := []*region{{dc: "dc1", net: 101}, {dc: "dc2", net: 102}, {dc: "dc3", net: 103}}
	for _, r := range regions {
		for i := 1; i <= 3; i++ {
			r.servers = append(r.servers, r.agent(t, dir, fmt.Sprint("s", i), i, map[string]any{"bootstrap_expect": 3}))
		}
		r.client = r.agent(t, dir, "client", 11, map[string]any{"server": false})
		for _, a := range append(slices.Clone(r.servers), r.client) {
			a.start()
		}
	}
	for _, r := range regions {
		for _, a := range append(slices.Clone(r.servers), r.client) {
			until(t, 60*time.Second, a.Name+" knows a leader", a.hasLeader)
		}
	}
	for _, r := range regions[1:] {
		if out, err := r.servers[0].run("wan", "join", regions[0].servers[0].IP); err != nil {
			t.Fatalf("wan join: %v\n%s", err, out)
		}
	}
	for _, r := range regions {
		r.client.want("PUT", "/v1/kv/here", r.dc, "true")
		r.client.want("PUT", "/v1/agent/service/register", `{"Name":"web","Port":80}`, "")
	}
	for _, r := range regions {
		for _, other := range regions {
			until(t, 60*time.Second, r.dc+" reads "+other.dc, func() bool { return r.client.reads(other.dc) && resolves(r.client, other) == "" })
		}
	}

	stop := make(chan struct{})
	var running sync.WaitGroup
	loads := map[string]*load{}
	begin := func(name string, once func(i int) string) {
		l := &load{}
		loads[name] = l
		running.Go(func() { l.run(stop, once) })
	}
	for _, r := range regions {
		begin("reads at "+r.client.Name, func(i int) string {
			dc := regions[i%len(regions)].dc
			if status, body := r.client.do("GET", "/v1/kv/here?raw&dc="+dc, ""); status != 200 || body != dc {
				return fmt.Sprintf("%s: %d %s", dc, status, body)
			}
			return ""
		})
		begin("health at "+r.client.Name, func(i int) string {
			dc := regions[i%len(regions)].dc
			if status, body := r.client.do("GET", "/v1/health/service/web?passing&dc="+dc, ""); status != 200 || !strings.Contains(body, `"web"`) {
				return fmt.Sprintf("%s: %d %s", dc, status, body)
			}
			return ""
		})
		begin("DNS at "+r.client.Name, func(i int) string { return resolves(r.client, regions[i%len(regions)]) })
		begin("writes at "+r.client.Name, func(i int) string {
			if status, body := r.client.do("PUT", fmt.Sprint("/v1/kv/new/", i), "x"); status != 200 || body != "true" {
				return fmt.Sprintf("new/%d: %d %s", i, status, body)
			}
			return ""
		})
	}

	for _, r := range regions {
		lead := leaderOf(t, r.servers)
		order := slices.DeleteFunc(slices.Clone(r.servers), func(s *agentProcess) bool { return s == lead })
		for _, s := range append(order, lead) {
			if out, err := s.run("operator", "upgrade-check", "-wait=60s"); err != nil || !strings.Contains(out, s.Name+" may be stopped") {
				t.Fatalf("upgrade-check before %s: %v\n%s", s.Name, err, out)
			}
			start := time.Now()
			if code := s.end(syscall.SIGTERM); code != 0 {
				t.Errorf("%s exits %d, want 0", s.Name, code)
			}
			t.Logf("%s stopped in %s", s.Name, time.Since(start).Round(time.Millisecond))
			s.start()
			until(t, 30*time.Second, s.Name+" knows a leader", s.hasLeader)
		}
		until(t, 60*time.Second, "all is well in "+r.dc, func() bool {
			_, err := r.servers[0].run("operator", "upgrade-check")
			return err == nil
		})
	}
	close(stop)
	running.Wait()
	for _, name := range slices.Sorted(maps.Keys(loads)) {
		l := loads[name]
		t.Logf("%s: %d good, %d failed, longest pause %s", name, l.good.Load(), len(l.failed), l.longest.Round(time.Millisecond))
		if l.good.Load() < 100 {
			t.Errorf("%s: only %d were good: the test shows nothing", name, l.good.Load())
		}
		if strings.HasPrefix(name, "writes") {
			if l.longest > 8*time.Second {
				t.Errorf("%s paused for %s", name, l.longest)
			}
			continue
		}
		if len(l.failed) > 0 {
			t.Errorf("%s: %d failed, the first: %s", name, len(l.failed), l.failed[0])
		}
	}
	for _, r := range regions {
		for _, s := range r.servers {
			_, body := s.do("GET", "/v1/agent/metrics?format=prometheus", "")
			series := 0
			for line := range strings.Lines(body) {
				if line[0] != '#' {
					series++
				}
			}
			if series < 500 || series > 2000 { // as docs/operations/metrics.md says
				t.Errorf("%s has %d series", s.Name, series)
			}
			t.Logf("%s has %d series", s.Name, series)
		}
	}
}

// resolves asks an agent's DNS for the service of a region's client, and returns "" if
// the answer is right.
func resolves(at *agentProcess, of *region) string {
	m := new(dns.Msg)
	m.SetQuestion("web.service."+of.dc+".consul.", dns.TypeA)
	c := dns.Client{Timeout: 10 * time.Second}
	r, _, err := c.Exchange(m, at.IP+":8600")
	if err != nil {
		return err.Error()
	}
	if len(r.Answer) != 1 || !strings.HasSuffix(r.Answer[0].String(), of.client.IP) {
		return r.String()
	}
	return ""
}
