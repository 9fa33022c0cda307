//go:build e2e

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// wan is an emulated network of datacenters 20 ms apart, on whose hosts real agents
// run.
type wan struct {
	t      *testing.T
	bin    string // wanlink
	name   string
	dir    string
	agents map[string]*wanAgent // by "dc1/1"
	// conf is merged over the configuration of an agent when it starts; may be nil.
	conf  func(dc, n int) map[string]any
	token string // that get sends; may be empty
}

// wanAgent is a server on a host of the network. It serves HTTP on a Unix socket,
// which is not part of the host's network.
type wanAgent struct {
	w    *wan
	host string
	dir  string // has its log, its socket and its data folder
	cmd  *exec.Cmd
	done chan struct{}
	http *http.Client
}

// newWAN makes the network.
func newWAN(t *testing.T, options ...string) *wan {
	t.Helper()
	if os.Geteuid() != 0 {
		lacks(t, "emulating links between datacenters needs root")
	}
	for _, f := range []string{"/dev/net/tun", "/proc/self/ns/net"} {
		if _, err := os.Stat(f); err != nil {
			lacks(t, "emulating links between datacenters needs "+f)
		}
	}
	if _, err := exec.LookPath("ip"); err != nil {
		lacks(t, "emulating links between datacenters needs iproute2: "+err.Error())
	}
	w := &wan{t: t, dir: t.TempDir(), name: fmt.Sprintf("e2e%d", os.Getpid()%100000), agents: map[string]*wanAgent{}}
	w.bin = filepath.Join(w.dir, "wanlink")
	if out, err := exec.Command("go", "build", "-o", w.bin, "../wanlink").CombinedOutput(); err != nil {
		t.Fatalf("building wanlink: %v\n%s", err, out)
	}
	if out, err := w.link("up", append([]string{"-d", "-prefix", "10.73", "-delay", "20ms"}, options...)...); err != nil {
		lacks(t, fmt.Sprintf("no network of namespaces here: %v: %s", err, out))
	}
	t.Cleanup(func() { // after the agents' own
		if out, err := w.link("down"); err != nil {
			t.Errorf("wanlink down: %v: %s", err, out)
		}
	})
	return w
}

// link runs a command of wanlink on this network.
func (w *wan) link(command string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, w.bin, append([]string{command, "-name", w.name}, args...)...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (w *wan) must(command string, args ...string) {
	w.t.Helper()
	if out, err := w.link(command, args...); err != nil {
		w.t.Fatalf("wanlink %s %v: %v: %s", command, args, err, out)
	}
}

// agent starts the server of a host, or starts it again.
func (w *wan) agent(dc, n int) *wanAgent {
	w.t.Helper()
	ip := func(dc, n int) string { return fmt.Sprintf("10.73.%d.%d", dc, 10+n) }
	settings := map[string]any{
		"bootstrap_expect": 3, "bind_addr": ip(dc, n), "retry_join": []string{ip(dc, 1), ip(dc, 2)}, "retry_join_wan": []string{ip(3-dc, 1)},
	}
	if w.conf != nil {
		maps.Copy(settings, w.conf(dc, n))
	}
	return w.start(dc, n, settings)
}

// start starts a server with more settings than those that all have.
func (w *wan) start(dc, n int, settings map[string]any) *wanAgent {
	w.t.Helper()
	return w.startOn(fmt.Sprintf("dc%d/%d", dc, n), dc, n, settings)
}

// startOn starts a server on some host.
func (w *wan) startOn(at string, dc, n int, settings map[string]any) *wanAgent {
	t := w.t
	t.Helper()
	host := fmt.Sprintf("dc%d/%d", dc, n)
	dir := filepath.Join(w.dir, fmt.Sprintf("%d-%d", dc, n))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	sock := filepath.Join(dir, "http")
	conf := map[string]any{
		"node_name": fmt.Sprintf("s%d", n), "datacenter": fmt.Sprintf("dc%d", dc), "server": true, "encrypt": testKey,
		"data_dir": filepath.Join(dir, "data"), "addresses": map[string]any{"http": "unix://" + sock},
		"retry_interval": "1s", "retry_interval_wan": "1s",
	}
	maps.Copy(conf, settings)
	raw, err := json.Marshal(conf)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "agent.json")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	os.Remove(sock)
	cmd := exec.Command(w.bin, "exec", "-name", w.name, at, "--", binary(t), "agent", "-config-file="+file)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	a := &wanAgent{w: w, host: host, dir: dir, cmd: cmd, done: done, http: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		MaxIdleConnsPerHost: 64,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", sock)
		},
	}}}
	w.agents[host] = a
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
		if t.Failed() && w.agents[host] == a {
			t.Logf("log of %s:\n%s", host, lastLines(filepath.Join(dir, "log")))
		}
	})
	return a
}

// note is deferred by what asks an agent.
func (a *wanAgent) note(what string, err *error) {
	if *err != nil {
		noteBad(a.host, what, *err)
	}
}

// get returns the body of a 200, else an error with what there was instead.
func (a *wanAgent) get(path string) (_ string, err error) {
	defer a.note("GET "+path, &err)
	req, err := http.NewRequest("GET", "http://agent"+path, nil)
	if err != nil {
		return "", err
	}
	if a.w.token != "" {
		req.Header.Set("X-Consul-Token", a.w.token)
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(strings.TrimSpace(string(b)))
	}
	return string(b), err
}

// run runs a command of landbridge with this agent, and the network's token.
func (a *wanAgent) run(args ...string) (string, error) {
	a.w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary(a.w.t), args...)
	cmd.Env = append(os.Environ(), "CONSUL_HTTP_ADDR=unix://"+filepath.Join(a.dir, "http"), "CONSUL_HTTP_TOKEN="+a.w.token)
	out, err := cmd.CombinedOutput()
	if err != nil {
		noteBad(a.host, strings.Join(args, " "), fmt.Sprintf("%v: %s", err, out))
	}
	return string(out), err
}

// put makes a PUT request and returns what is wrong with its answer.
func (a *wanAgent) put(path, body string) (err error) {
	defer a.note("PUT "+path, &err)
	req, err := http.NewRequest("PUT", "http://agent"+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		return errors.New(strings.TrimSpace(string(b)))
	}
	return nil
}

// log is what the agent has logged in all its lives.
func (a *wanAgent) log() string {
	b, err := os.ReadFile(filepath.Join(a.dir, "log"))
	if err != nil {
		a.w.t.Fatal(err)
	}
	return string(b)
}

func (a *wanAgent) signal(sig syscall.Signal) {
	a.w.t.Helper()
	if err := a.cmd.Process.Signal(sig); err != nil {
		a.w.t.Fatal(err)
	}
}

// leads says whether the agent is its datacenter's leader.
func (a *wanAgent) leads() bool {
	self, err := a.get("/v1/agent/self")
	return err == nil && strings.Contains(self, `"leader":"true"`)
}

// leader returns dc2's leader, or one that follows it.
func (w *wan) remote(leads bool) (a *wanAgent) {
	w.t.Helper()
	until(w.t, 20*time.Second, "dc2 has a leader", func() bool {
		var leader, other *wanAgent
		for _, b := range []*wanAgent{w.agents["dc2/1"], w.agents["dc2/2"], w.agents["dc2/3"]} {
			if b.leads() {
				leader = b
			} else {
				other = b
			}
		}
		if a = other; leads {
			a = leader
		}
		return leader != nil
	})
	return a
}

// during reads dc2's key at a server of dc1 while f runs and for some seconds more,
// and returns the errors.
func (w *wan) during(query string, f func()) (errs []error) {
	var mu sync.Mutex
	var all sync.WaitGroup
	over := make(chan struct{})
	all.Go(func() {
		for tick := time.NewTicker(20 * time.Millisecond); ; {
			select {
			case <-over:
				tick.Stop()
				return
			case <-tick.C:
			}
			all.Go(func() {
				if _, err := w.agents["dc1/2"].get("/v1/kv/k?raw&dc=dc2" + query); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
			})
		}
	})
	time.Sleep(time.Second)
	f()
	time.Sleep(5 * time.Second)
	close(over)
	all.Wait()
	return errs
}

// TestOtherDatacenterInTrouble kills, freezes and cuts off servers of another
// datacenter while it is read.
func TestOtherDatacenterInTrouble(t *testing.T) {
	w := newWAN(t, "-sites", "dc1=3,dc2=3")
	for dc := 1; dc <= 2; dc++ {
		for n := 1; n <= 3; n++ {
			w.agent(dc, n)
		}
	}
	until(t, 40*time.Second, "dc2 takes a key", func() bool { return w.agents["dc2/1"].put("/v1/kv/k", "value") == nil })
	healthy := func() {
		t.Helper()
		for host, a := range w.agents {
			until(t, 40*time.Second, host+" reads dc2", func() bool {
				v, err := a.get("/v1/kv/k?raw&dc=dc2")
				return err == nil && v == "value"
			})
		}
	}
	healthy()
	again := func(a *wanAgent) {
		var dc, n int
		fmt.Sscanf(a.host, "dc%d/%d", &dc, &n)
		w.agent(dc, n)
		healthy()
	}

	follower := w.remote(false)
	for _, err := range w.during("", follower.kill) {
		t.Errorf("a follower was killed: %v", err)
	}
	again(follower)
	leader := w.remote(true)
	for _, err := range w.during("&stale", leader.kill) {
		t.Errorf("the leader was killed: %v", err)
	}
	again(leader)
	frozen := w.remote(true)
	for _, err := range w.during("&stale", func() { frozen.signal(syscall.SIGSTOP) }) {
		t.Errorf("the leader is frozen: %v", err)
	}
	frozen.signal(syscall.SIGCONT)
	healthy()

	errs := w.during("", func() {
		w.must("cut", "dc1", "dc2")
		time.Sleep(2 * time.Second)
		for range 50 {
			if _, err := w.agents["dc1/2"].get("/v1/status/leader"); err != nil {
				t.Errorf("a local read during the cut: %v", err)
			}
		}
	})
	if len(errs) == 0 {
		t.Error("nobody noticed that dc2 is cut off")
	}
	for _, err := range errs {
		if !strings.HasPrefix(err.Error(), `rpc error `) || !strings.Contains(err.Error(), `dc "dc2"`) {
			t.Errorf("during the cut: %v", err)
		}
	}
	w.must("heal")
	healthy()
}

// kill is kill -9, and waits for the process to be gone.
func (a *wanAgent) kill() {
	_ = a.cmd.Process.Kill()
	<-a.done
}
