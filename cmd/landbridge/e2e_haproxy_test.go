//go:build e2e

package main

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// haproxyConfig follows the instances of a service in two datacenters: those of
// dc2 are used when dc1 has none. HAProxy does not check them itself: what it knows
// of their health is what is in DNS.
const haproxyConfig = `
global
  stats socket %[1]s/haproxy.sock mode 600 level admin
  log stdout format raw local0 notice
defaults
  mode http
  timeout connect 1s
  timeout client 5s
  timeout server 5s
  retries 3
  retry-on all-retryable-errors
  option redispatch 1
resolvers landbridge
  nameserver agent %[2]s:8600
  accepted_payload_size 8192
  resolve_retries 3
  timeout resolve 100ms
  timeout retry 100ms
  hold valid 100ms
  hold obsolete 0s
  hold nx 100ms
  hold timeout 10s
  hold refused 10s
  hold other 10s
frontend in
  bind %[3]s:8080
  default_backend web
backend web
  balance roundrobin
  server-template near 8 _web._tcp.service.consul resolvers landbridge resolve-prefer ipv4 init-addr none
  server-template far 4 _web._tcp.service.dc2.consul resolvers landbridge resolve-prefer ipv4 init-addr none backup
`

// haproxy is a running HAProxy.
type haproxy struct {
	t      *testing.T
	url    string
	socket string
	client *http.Client
}

func startHAProxy(t *testing.T, bin, ip, dns string) *haproxy {
	t.Helper()
	dir := t.TempDir()
	conf := filepath.Join(dir, "haproxy.cfg")
	if err := os.WriteFile(conf, fmt.Appendf(nil, haproxyConfig, dir, dns, ip), 0o600); err != nil {
		t.Fatal(err)
	}
	var log safeBuffer
	cmd := command(t, bin, "-db", "-f", conf)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("HAProxy says:\n%s", log.String())
		}
	})
	return &haproxy{t: t, url: "http://" + ip + ":8080/", socket: filepath.Join(dir, "haproxy.sock"),
		client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}}
}

// get is a request through HAProxy: the name of the backend that answered.
func (h *haproxy) get() (string, error) {
	resp, err := h.client.Get(h.url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != 200 {
		err = fmt.Errorf("status %d: %.100s", resp.StatusCode, b)
	}
	return string(b), err
}

// command runs a command of the runtime interface; "" if HAProxy is not there yet.
func (h *haproxy) command(text string) string {
	c, err := net.DialTimeout("unix", h.socket, time.Second)
	if err != nil {
		return ""
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	fmt.Fprintln(c, text)
	b, err := io.ReadAll(c)
	if err != nil {
		h.t.Fatalf("%s: %v", text, err)
	}
	return string(b)
}

// resolved is how many valid answers HAProxy had of the agent's DNS.
func (h *haproxy) resolved() (n int) {
	for line := range strings.Lines(h.command("show resolvers landbridge")) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && k == "valid" {
			fmt.Sscan(v, &n)
		}
	}
	return n
}

// servers are the addresses that HAProxy sends requests to, with their weights.
func (h *haproxy) servers(template string) map[string]string {
	stat := h.command("show stat")
	if stat == "" {
		return nil
	}
	rows, err := csv.NewReader(strings.NewReader(stat)).ReadAll()
	if err != nil || len(rows) == 0 {
		h.t.Fatalf("show stat: %d rows, %v", len(rows), err)
	}
	up := map[string]string{}
	column := func(row []string, name string) string { return row[slices.Index(rows[0], name)] }
	for _, row := range rows[1:] {
		if status := column(row, "status"); strings.HasPrefix(column(row, "svname"), template) && (status == "UP" || status == "no check") {
			up[column(row, "addr")] = column(row, "weight")
		}
	}
	return up
}

// uses waits until HAProxy has exactly these servers, by address and weight.
func (h *haproxy) uses(template string, want map[string]string) {
	h.t.Helper()
	var got map[string]string
	for end := time.Now().Add(15 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if got = h.servers(template); got != nil && maps.Equal(got, want) {
			return
		}
		if time.Now().After(end) {
			h.t.Fatalf("HAProxy uses %v, want %v", got, want)
		}
	}
}

// share sends n requests and counts who answered.
func (h *haproxy) share(n int) map[string]int {
	h.t.Helper()
	by := map[string]int{}
	for range n {
		name, err := h.get()
		if err != nil {
			h.t.Fatal(err)
		}
		by[name]++
	}
	return by
}

type safeBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// webBackend is an instance of the service web: an HTTP server that says its name,
// registered at an agent that checks it.
type webBackend struct {
	name  string
	addr  *net.TCPAddr
	agent *agentProcess
	srv   *http.Server
}

func (b *webBackend) serve() {
	b.agent.t.Helper()
	l, err := net.Listen("tcp", b.addr.String())
	if err != nil {
		b.agent.t.Fatal(err)
	}
	b.addr = l.Addr().(*net.TCPAddr)
	b.srv = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, b.name) })}
	srv := b.srv
	go func() { _ = srv.Serve(l) }() // ends with Close
	b.agent.t.Cleanup(func() { srv.Close() })
}

// register registers the instance with a weight in the units of HAProxy, which
// makes of those of DNS a number up to 256.
func (b *webBackend) register(weight int) {
	b.agent.t.Helper()
	b.agent.put("/v1/agent/service/register", map[string]any{
		"id": b.name, "name": "web", "address": b.addr.IP.String(), "port": b.addr.Port,
		"weights": map[string]int{"passing": weight * 256, "warning": 1},
		"check":   map[string]any{"http": "http://" + b.addr.String() + "/", "interval": "200ms", "timeout": "1s", "status": "passing"},
	})
}

func (b *webBackend) deregister() {
	b.agent.t.Helper()
	b.agent.put("/v1/agent/service/deregister/"+b.name, nil)
}

func startBackend(agent *agentProcess, name, ip string) *webBackend {
	agent.t.Helper()
	b := &webBackend{name: name, addr: &net.TCPAddr{IP: net.ParseIP(ip)}, agent: agent}
	b.serve()
	return b
}

// TestHAProxy has HAProxy discover its servers by SRV records of a client agent.
// While instances come, go and die, no request through it may fail.
func TestHAProxy(t *testing.T) {
	bin := debian(t, "haproxy", "/usr/sbin/haproxy")
	dc1, dc2 := datacenters(t, 30, 1, nil)
	client := newAgent(t, t.TempDir(), "dc1-c1", "dc1", "127.68.30.11", map[string]any{
		"server": false, "encrypt": testKey, "retry_join": []string{dc1[0].IP},
	})
	client.start()
	until(t, 20*time.Second, "the client agent reads both datacenters", func() bool { return client.reads("dc1") && client.reads("dc2") })

	a, b, far := startBackend(client, "a", "127.68.30.101"), startBackend(client, "b", "127.68.30.102"), startBackend(dc2[0], "far", "127.68.31.101")
	a.register(30)
	b.register(10)
	far.register(5)
	h := startHAProxy(t, bin, "127.68.30.200", client.IP)
	h.uses("near", map[string]string{a.addr.String(): "30", b.addr.String(): "10"})
	h.uses("far", map[string]string{far.addr.String(): "5"})
	if by := h.share(200); by["a"] < 140 || by["a"] > 160 || by["b"] != 200-by["a"] {
		t.Errorf("of 200 requests with weights 30 and 10: %v", by)
	}

	// From here on requests never cease.
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	var mu sync.Mutex
	answered, failed := map[string]int{}, []string{}
	for range 4 {
		load.Go(func() {
			for ctx.Err() == nil {
				name, err := h.get()
				mu.Lock()
				if err != nil {
					failed = append(failed, time.Now().Format("15:04:05.000 ")+err.Error())
				}
				answered[name]++
				mu.Unlock()
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	defer func() { stop(); load.Wait() }()

	t.Run("weights change", func(t *testing.T) {
		b.register(30)
		h.uses("near", map[string]string{a.addr.String(): "30", b.addr.String(): "30"})
	})
	var more []*webBackend
	all := map[string]string{a.addr.String(): "30", b.addr.String(): "30"}
	t.Run("scale up", func(t *testing.T) {
		for i := range 4 {
			w := startBackend(client, fmt.Sprint("more", i), fmt.Sprintf("127.68.30.%d", 110+i))
			w.register(30)
			more = append(more, w)
			all[w.addr.String()] = "30"
		}
		h.uses("near", all)
		for _, w := range more {
			until(t, 10*time.Second, w.name+" answers requests", func() bool { mu.Lock(); defer mu.Unlock(); return answered[w.name] > 10 })
		}
	})
	t.Run("an instance is killed", func(t *testing.T) {
		more[0].srv.Close()
		start := time.Now()
		delete(all, more[0].addr.String())
		h.uses("near", all)
		t.Logf("HAProxy left it after %s", time.Since(start).Round(time.Millisecond))
		more[0].serve()
		all[more[0].addr.String()] = "30"
		h.uses("near", all)
	})
	t.Run("maintenance", func(t *testing.T) {
		client.put("/v1/agent/service/maintenance/b?enable=true", nil)
		delete(all, b.addr.String())
		h.uses("near", all)
		client.put("/v1/agent/service/maintenance/b?enable=false", nil)
		all[b.addr.String()] = "30"
		h.uses("near", all)
	})
	t.Run("scale down", func(t *testing.T) {
		for _, w := range more {
			w.deregister()
			delete(all, w.addr.String())
		}
		h.uses("near", all)
		for _, w := range more {
			w.srv.Close()
		}
	})
	t.Run("the agent's server is killed", func(t *testing.T) {
		dc1[0].kill()
		before := h.resolved()
		until(t, 10*time.Second, "the agent still answers", func() bool { return h.resolved() > before+20 })
		h.uses("near", all)
		dc1[0].start()
		until(t, 20*time.Second, "there is a leader again", dc1[0].hasLeader)
		h.uses("near", all)
	})
	t.Run("the other datacenter takes over", func(t *testing.T) {
		// By maintenance, as they still answer until HAProxy has seen that they are
		// not to be used.
		client.put("/v1/agent/maintenance?enable=true", nil)
		h.uses("near", map[string]string{})
		mu.Lock()
		before := answered["far"]
		mu.Unlock()
		until(t, 10*time.Second, "dc2 answers", func() bool { mu.Lock(); defer mu.Unlock(); return answered["far"] > before+10 })
		client.put("/v1/agent/maintenance?enable=false", nil)
		h.uses("near", all)
	})

	stop()
	load.Wait()
	total := 0
	for _, n := range answered {
		total += n
	}
	t.Logf("%d requests, answered by %v", total, answered)
	if len(failed) > 0 {
		t.Errorf("%d requests of %d failed: %q", len(failed), total, failed[:min(len(failed), 5)])
	}
}
