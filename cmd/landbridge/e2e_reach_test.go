//go:build e2e

package main

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// in runs a command on a host, or in the router of a site.
func (w *wan) in(place, stdin string, command ...string) string {
	w.t.Helper()
	cmd := exec.Command("ip", append([]string{"netns", "exec", w.name + "-" + strings.ReplaceAll(place, "/", "-")}, command...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("%s: %v: %v: %s", place, command, err, out)
	}
	return string(out)
}

// lanIP is the address of a host behind its datacenter's NAT: the same in each.
func lanIP(n int) string { return fmt.Sprintf("192.168.50.%d", 10+n) }

// behindNAT gives the hosts of a site addresses of the one LAN range that all sites
// have. The router has the only address that others see; it forwards one UDP port to
// each host, from outside alone, and rewrites the source of what leaves.
func (w *wan) behindNAT(dc, hosts int) {
	w.t.Helper()
	site := fmt.Sprintf("dc%d", dc)
	public := fmt.Sprintf("10.73.%d.1", dc)
	w.in(site, "", "ip", "addr", "add", "192.168.50.1/24", "dev", "br0")
	rules := "table ip nat {\n chain pre { type nat hook prerouting priority -100;\n"
	for n := 1; n <= hosts; n++ {
		host := fmt.Sprintf("%s/%d", site, n)
		w.in(host, "", "ip", "addr", "flush", "dev", "eth0")
		w.in(host, "", "ip", "addr", "add", lanIP(n)+"/24", "dev", "eth0")
		w.in(host, "", "ip", "route", "add", "default", "via", "192.168.50.1")
		rules += fmt.Sprintf("  iifname tun0 ip daddr %s udp dport %d dnat to %s:8302\n", public, 18300+n, lanIP(n))
	}
	rules += " }\n chain post { type nat hook postrouting priority 100; oifname tun0 masquerade; }\n}\n" +
		"table ip wall { chain out { type filter hook forward priority 0;\n" +
		"  oifname tun0 ip daddr 192.168.0.0/16 counter name to_lan drop\n  oifname tun0 meta l4proto != { udp, icmp } counter name not_udp drop\n }\n" +
		" counter to_lan {}\n counter not_udp {}\n}\n"
	w.in(site, rules, "nft", "-f", "-")
}

// Two datacenters with the same LAN addresses, each behind a NAT that forwards one
// UDP port to each server and lets nothing of its own back in, are joined by a
// token. Answers about the other one show its WAN addresses, and nobody tries to
// reach its LAN addresses.
func TestSameAddressesBehindNAT(t *testing.T) {
	for _, tool := range []string{"nft", "dig"} {
		if _, err := exec.LookPath(tool); err != nil {
			lacks(t, "this test needs "+tool)
		}
	}
	const servers = 2
	w := newWAN(t, "-sites", "dc1=2,dc2=2")
	for dc := 1; dc <= 2; dc++ {
		w.behindNAT(dc, servers)
		for n := 1; n <= servers; n++ {
			w.start(dc, n, map[string]any{
				"bootstrap_expect": servers, "bind_addr": lanIP(n), "retry_join": []string{lanIP(1), lanIP(2)}, "translate_wan_addrs": true,
				"advertise_addr_wan": fmt.Sprintf("10.73.%d.1", dc), "federation": map[string]any{"advertise_port": 18300 + n},
			})
		}
	}
	a1, b1 := w.agents["dc1/1"], w.agents["dc2/1"]
	for dc, a := range map[string]*wanAgent{"dc1": a1, "dc2": b1} {
		until(t, 40*time.Second, dc+" takes a key", func() bool { return a.put("/v1/kv/where", dc) == nil })
	}
	var token string
	until(t, 20*time.Second, "dc2 takes part in the WAN", func() bool {
		var err error
		token, err = b1.run("wan", "token")
		return err == nil
	})
	if out, err := a1.run("wan", "join", strings.TrimSpace(token)); err != nil {
		t.Fatal(err, out)
	}
	both := func() {
		t.Helper()
		for host, a := range w.agents {
			other := map[string]string{"dc1": "dc2", "dc2": "dc1"}[host[:3]]
			until(t, 20*time.Second, host+" reads "+other, func() bool {
				v, err := a.get("/v1/kv/where?raw&dc=" + other)
				return err == nil && v == other
			})
		}
	}
	both()

	if err := b1.put("/v1/catalog/register", `{"Node":"edge","Address":"192.168.50.98","Service":{"Service":"web","Address":"192.168.50.99","Port":80,
		"TaggedAddresses":{"wan":{"Address":"10.73.2.1","Port":8080}}}}`); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ path, want string }{
		{"/v1/catalog/nodes?dc=dc2", `"Address":"10.73.2.1"`},
		{"/v1/catalog/nodes", `"Address":"192.168.50.11"`},
		{"/v1/health/service/web?dc=dc2", `"Address":"10.73.2.1"`},
		{"/v1/catalog/service/web?dc=dc2", `"ServiceAddress":"10.73.2.1"`},
		{"/v1/catalog/service/web?dc=dc2", `"ServicePort":8080`},
		{"/v1/catalog/node/s1?dc=dc2", `"Address":"10.73.2.1"`},
	} {
		until(t, 10*time.Second, tt.path+" has "+tt.want, func() bool {
			body, err := a1.get(tt.path)
			return err == nil && strings.Contains(body, tt.want)
		})
	}
	for name, want := range map[string]string{
		"s1.node.dc2.consul": "10.73.2.1", "s1.node.consul": "192.168.50.11", "web.service.dc2.consul": "10.73.2.1",
	} {
		until(t, 10*time.Second, fmt.Sprintf("DNS has %s for %s", want, name), func() bool { // of any server there
			return strings.TrimSpace(w.in("dc1/1", "", "dig", "+short", "@127.0.0.1", "-p", "8600", name)) == want
		})
	}

	// The servers of a datacenter reach each other in the WAN pool too, although its
	// NAT lets nobody in from inside: three probes of each other member later all are
	// alive.
	time.Sleep(20 * time.Second)
	for host, a := range w.agents {
		var members []struct {
			Name, Addr string
			Status     int
		}
		body, err := a.get("/v1/agent/members?wan=1")
		if err == nil {
			err = json.Unmarshal([]byte(body), &members)
		}
		if err != nil || len(members) != 2*servers {
			t.Fatalf("%s lists %d members: %v", host, len(members), err)
		}
		for _, m := range members {
			if m.Status != 1 || !strings.HasPrefix(m.Addr, "10.73.") {
				t.Errorf("%s lists %s at %s with status %d", host, m.Name, m.Addr, m.Status)
			}
		}
		metrics, err := a.get("/v1/agent/metrics?format=prometheus")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(metrics) {
			inVain := strings.Contains(line, `outcome="timeout"`) || strings.Contains(line, `outcome="wrong_peer"`)
			if strings.HasPrefix(line, "landbridge_wan_dials_total") && inVain && !strings.HasSuffix(line, " 0\n") {
				t.Errorf("%s dialed in vain: %s", host, line)
			}
		}
		if status, err := a.run("wan", "status"); err != nil {
			t.Errorf("%s: wan status: %v\n%s", host, err, status)
		}
	}

	b1.kill()
	w.start(2, 1, map[string]any{
		"bootstrap_expect": servers, "bind_addr": lanIP(1), "retry_join": []string{lanIP(1), lanIP(2)}, "translate_wan_addrs": true,
		"advertise_addr_wan": "10.73.2.1", "federation": map[string]any{"advertise_port": 18301},
	})
	both()
	for dc := 1; dc <= 2; dc++ {
		for _, counter := range []string{"to_lan", "not_udp"} {
			if out := w.in(fmt.Sprintf("dc%d", dc), "", "nft", "list", "counter", "ip", "wall", counter); !strings.Contains(out, "packets 0 bytes 0") {
				t.Errorf("dc%d tried to send what cannot pass (%s): %s", dc, counter, out)
			}
		}
	}
}

// Links that take no packet over 1,280 bytes, as many tunnels do, and a firewall that
// drops UDP: a join fails within ten seconds with the reason, the retry goes on by
// itself, and works once the firewall lets it through.
func TestSmallPacketsAndBlockedUDP(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil {
		lacks(t, "this test needs nft")
	}
	w := newWAN(t, "-sites", "dc1=1,dc2=1", "-mtu", "1280")
	w.in("dc1", "table ip wall { chain out { type filter hook forward priority 0; meta l4proto udp oifname tun0 drop; }; }", "nft", "-f", "-")
	for dc := 1; dc <= 2; dc++ {
		w.start(dc, 1, map[string]any{"bootstrap_expect": 1, "bind_addr": fmt.Sprintf("10.73.%d.11", dc)})
	}
	a, b := w.agents["dc1/1"], w.agents["dc2/1"]
	big := strings.Repeat("0123456789abcdef", 8<<10)
	for _, s := range []*wanAgent{a, b} {
		until(t, 20*time.Second, s.host+" takes a key", func() bool { return s.put("/v1/kv/big", big) == nil })
	}
	began := time.Now()
	out, err := a.run("wan", "join", "10.73.2.11")
	if took := time.Since(began); err == nil || took > 10*time.Second || !strings.Contains(out, "no answer from 10.73.2.11:8302 over UDP") {
		t.Errorf("a join over blocked UDP ended after %v with %v: %s", took, err, out)
	}

	// The same with retry_join_wan: the log says it, once, and it goes on.
	a.kill()
	a = w.start(1, 1, map[string]any{"bootstrap_expect": 1, "bind_addr": "10.73.1.11", "retry_join_wan": []string{"10.73.2.11"}})
	// It waits eight seconds for an answer, after its start.
	until(t, 20*time.Second, "the log tells of blocked UDP", func() bool {
		return strings.Contains(a.log(), "no answer from 10.73.2.11:8302 over UDP")
	})
	w.in("dc1", "", "nft", "flush", "ruleset")
	for _, s := range []*wanAgent{a, b} {
		other := map[string]string{"dc1/1": "dc2", "dc2/1": "dc1"}[s.host]
		until(t, 20*time.Second, s.host+" reads "+other, func() bool {
			v, err := s.get("/v1/kv/big?raw&dc=" + other)
			return err == nil && v == big
		})
	}
}

// A federation without a single IPv4 address, not even 127.0.0.1.
func TestIPv6Only(t *testing.T) {
	w := newWAN(t, "-sites", "dc1=1")
	ns := "dc1/1"
	w.in(ns, "", "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=0")
	w.in(ns, "", "ip", "addr", "flush", "dev", "eth0")
	w.in(ns, "", "ip", "addr", "del", "127.0.0.1/8", "dev", "lo")
	ip := func(dc, n int) string { return fmt.Sprintf("fd00:%d::%d", dc, n) }
	for dc := 1; dc <= 2; dc++ {
		for n := 1; n <= 2; n++ {
			w.in(ns, "", "ip", "-6", "addr", "add", ip(dc, n)+"/128", "dev", "lo", "nodad")
		}
	}
	for dc := 1; dc <= 2; dc++ {
		for n := 1; n <= 2; n++ {
			w.startOn(ns, dc, n, map[string]any{
				"bootstrap_expect": 2, "bind_addr": ip(dc, n), "client_addr": ip(dc, n), "retry_join": []string{"[" + ip(dc, 1) + "]:8301", ip(dc, 2)},
				"retry_join_wan": []string{ip(3-dc, 1), "[" + ip(3-dc, 2) + "]:8302"},
			})
		}
	}
	for dc := 1; dc <= 2; dc++ {
		a := w.agents[fmt.Sprintf("dc%d/2", dc)]
		until(t, 20*time.Second, a.host+" takes a key", func() bool { return a.put("/v1/kv/where", fmt.Sprintf("dc%d", dc)) == nil })
	}
	for host, a := range w.agents {
		other := map[string]string{"dc1": "dc2", "dc2": "dc1"}[host[:3]]
		until(t, 20*time.Second, host+" reads "+other, func() bool {
			v, err := a.get("/v1/kv/where?raw&dc=" + other)
			return err == nil && v == other
		})
	}
	if out, err := w.agents["dc1/1"].run("wan", "status"); err != nil {
		t.Errorf("wan status: %v\n%s", err, out)
	}
}

// A server of another datacenter comes back with another address while it is read:
// the members learn of it, and no read fails.
func TestAddressChangesUnderLoad(t *testing.T) {
	w := newWAN(t, "-sites", "dc1=3,dc2=3")
	settings := func(dc, n int, ip string) map[string]any {
		at := func(dc, n int) string { return fmt.Sprintf("10.73.%d.%d", dc, 10+n) }
		return map[string]any{
			"bootstrap_expect": 3, "bind_addr": ip, "retry_join": []string{at(dc, 1), at(dc, 2), at(dc, 3)}, "retry_join_wan": []string{at(3-dc, 1)},
		}
	}
	for dc := 1; dc <= 2; dc++ {
		for n := 1; n <= 3; n++ {
			w.start(dc, n, settings(dc, n, fmt.Sprintf("10.73.%d.%d", dc, 10+n)))
		}
	}
	until(t, 40*time.Second, "dc2 takes a key", func() bool { return w.agents["dc2/1"].put("/v1/kv/k", "value") == nil })
	for host, a := range w.agents {
		until(t, 40*time.Second, host+" reads dc2", func() bool {
			v, err := a.get("/v1/kv/k?raw&dc=dc2")
			return err == nil && v == "value"
		})
	}
	moved := w.remote(false)
	n := int(moved.host[4] - '0')
	ip := fmt.Sprintf("10.73.2.%d", 50+n)
	for _, err := range w.during("", func() {
		moved.signal(syscall.SIGTERM)
		<-moved.done
		w.in(moved.host, "", "ip", "addr", "flush", "dev", "eth0")
		w.in(moved.host, "", "ip", "addr", "add", ip+"/24", "dev", "eth0")
		w.in(moved.host, "", "ip", "route", "add", "default", "via", "10.73.2.1")
		moved = w.start(2, n, settings(2, n, ip))
		began := time.Now()
		for host, a := range w.agents {
			until(t, 10*time.Second, fmt.Sprintf("%s knows s%d.dc2 at %s", host, n, ip), func() bool {
				body, err := a.get("/v1/agent/members?wan=1")
				return err == nil && strings.Contains(body, ip)
			})
			t.Logf("%s knows the new address after %v", host, time.Since(began))
		}
	}) {
		t.Errorf("while a server moved: %v", err)
	}
	// Its own datacenter has it back as soon as its old address was declared dead there.
	began := time.Now()
	until(t, 30*time.Second, "the server that moved follows the leader", func() bool {
		fresh, err := moved.get("/v1/kv/k?raw")
		own, err2 := moved.get("/v1/kv/k?raw&stale")
		return err == nil && err2 == nil && fresh == "value" && own == "value"
	})
	t.Logf("it follows the leader %v later", time.Since(began))
	// It is asked where it is now: by all, as others are not there to answer.
	for m := 1; m <= 3; m++ {
		if m != n {
			w.agents[fmt.Sprintf("dc2/%d", m)].signal(syscall.SIGSTOP)
		}
	}
	for m := 1; m <= 3; m++ {
		a := w.agents[fmt.Sprintf("dc1/%d", m)]
		if v, err := a.get("/v1/kv/k?raw&stale&dc=dc2"); err != nil || v != "value" {
			t.Errorf("%s reads the server that moved: %q, %v", a.host, v, err)
		}
	}
}
