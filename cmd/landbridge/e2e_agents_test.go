//go:build e2e

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// binary is what the tests run: LANDBRIDGE_BIN, which `make e2e` sets.
func binary(t *testing.T) string {
	t.Helper()
	bin := os.Getenv("LANDBRIDGE_BIN")
	if bin == "" {
		t.Fatal("LANDBRIDGE_BIN is not set: run `make e2e`")
	}
	return bin
}

// agentProcess is one real agent on a loopback address of its own, with the
// default ports, and its data below the test's folder.
type agentProcess struct {
	t    *testing.T
	Name string
	IP   string
	Dir  string
	Conf map[string]any
	Bin  string // "": what the tests run

	Token string // of requests; "": none

	cmd  *exec.Cmd
	done chan struct{}
}

// newAgent describes a server; conf is merged over the defaults.
func newAgent(t *testing.T, dir, name, dc, ip string, conf map[string]any) *agentProcess {
	a := &agentProcess{t: t, Name: name, IP: ip, Dir: filepath.Join(dir, name)}
	a.Conf = map[string]any{
		"node_name": name, "datacenter": dc, "server": true, "data_dir": filepath.Join(a.Dir, "data"),
		"bind_addr": ip, "client_addr": ip, "retry_interval": "1s", "retry_interval_wan": "1s",
	}
	maps.Copy(a.Conf, conf)
	if err := os.MkdirAll(a.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return a
}

// write writes the agent's configuration.
func (a *agentProcess) write() (file string) {
	a.t.Helper()
	raw, err := json.MarshalIndent(a.Conf, "", " ")
	if err != nil {
		a.t.Fatal(err)
	}
	file = filepath.Join(a.Dir, "agent.json")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		a.t.Fatal(err)
	}
	return file
}

// reload writes the configuration and makes the agent read it.
func (a *agentProcess) reload() {
	a.t.Helper()
	a.write()
	if err := a.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		a.t.Fatal(err)
	}
}

// start runs the agent; it ends with the test at the latest.
func (a *agentProcess) start() {
	a.t.Helper()
	file := a.write()
	log, err := os.OpenFile(a.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		a.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(cmp.Or(a.Bin, binary(a.t)), "agent", "-config-file="+file)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	a.cmd, a.done = cmd, done
	a.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
		if a.t.Failed() && a.cmd == cmd { // once, however often it was started
			a.t.Logf("log of %s:\n%s", a.Name, lastLines(a.logFile()))
		}
	})
}

func (a *agentProcess) logFile() string { return filepath.Join(a.Dir, "log") }

func (a *agentProcess) logTail() string {
	b, _ := os.ReadFile(a.logFile())
	return string(b[max(0, len(b)-4000):])
}

// lastLines are the end of a log for who reads of a failure: few lines, as there are
// many agents.
func lastLines(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	lines = lines[max(0, len(lines)-12):]
	for i, l := range lines {
		lines[i] = l[:min(len(l), 300)]
	}
	return strings.Join(lines, "\n")
}

// lastBad is the last answer that was no 200, or command that failed, of all agents of
// the running test: until tells of it when it waits in vain.
var lastBad atomic.Pointer[string]

func noteBad(agent, what string, why any) {
	text := fmt.Sprintf("%s %s: %s: %.500v", time.Now().UTC().Format("15:04:05.000"), agent, what, why)
	lastBad.Store(&text)
}

// kill is kill -9, and waits for the process to be gone.
func (a *agentProcess) kill() {
	_ = a.cmd.Process.Kill()
	<-a.done
}

// end sends a signal and returns the exit code.
func (a *agentProcess) end(sig syscall.Signal) int {
	a.t.Helper()
	if err := a.cmd.Process.Signal(sig); err != nil {
		a.t.Fatal(err)
	}
	return a.exit(15 * time.Second)
}

// exit waits for the process to end by itself.
func (a *agentProcess) exit(within time.Duration) int {
	a.t.Helper()
	select {
	case <-a.done:
	case <-time.After(within):
		a.t.Fatalf("%s did not end within %s", a.Name, within)
	}
	return a.cmd.ProcessState.ExitCode()
}

func (a *agentProcess) url(path string) string { return "http://" + a.IP + ":8500" + path }

var httpClient = &http.Client{
	Timeout:       30 * time.Second,
	Transport:     &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// do sends a request and returns its status and body; status 0 is a failed one.
func (a *agentProcess) do(method, path, body string) (int, string) {
	req, err := http.NewRequest(method, a.url(path), strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	if a.Token != "" {
		req.Header.Set("X-Consul-Token", a.Token)
	}
	resp, err := httpClient.Do(req)
	if err != nil {
		noteBad(a.Name, method+" "+path, err)
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		noteBad(a.Name, method+" "+path, err)
		return 0, err.Error()
	}
	if resp.StatusCode != http.StatusOK {
		noteBad(a.Name, method+" "+path, fmt.Sprint(resp.StatusCode, " ", string(b)))
	}
	return resp.StatusCode, string(b)
}

// want fails the test unless the answer is a 200 with that body.
func (a *agentProcess) want(method, path, body, want string) {
	a.t.Helper()
	if status, got := a.do(method, path, body); status != 200 || got != want {
		a.t.Fatalf("%s: %s %s: %d %q, want 200 %q", a.Name, method, path, status, got, want)
	}
}

// until waits for a condition of the running system, and returns how long it took.
func until(t *testing.T, within time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	for !ok() {
		if time.Since(start) > within {
			bad := "none"
			if s := lastBad.Load(); s != nil {
				bad = *s
			}
			t.Fatalf("%s: not within %s, at %s; the last bad answer was: %s", what, within, time.Now().UTC().Format("15:04:05.000"), bad)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return time.Since(start)
}

func (a *agentProcess) hasLeader() bool {
	status, body := a.do("GET", "/v1/status/leader", "")
	return status == 200 && strings.Contains(body, ":")
}

// run executes a landbridge command against the agent.
func (a *agentProcess) run(args ...string) (string, error) {
	cmd := exec.Command(binary(a.t), args...)
	cmd.Env = append(os.Environ(), "CONSUL_HTTP_ADDR="+a.IP+":8500")
	out, err := cmd.CombinedOutput()
	if err != nil {
		noteBad(a.Name, strings.Join(args, " "), fmt.Sprintf("%v: %s", err, out))
	}
	return string(out), err
}

// cluster starts servers s1..sn of a datacenter on 127.9.net.1..n.
func cluster(t *testing.T, dir, dc string, network, servers int, conf map[string]any) []*agentProcess {
	t.Helper()
	var join []string
	for i := 1; i <= servers; i++ {
		join = append(join, fmt.Sprintf("127.9.%d.%d", network, i))
	}
	var list []*agentProcess
	for i, ip := range join {
		c := map[string]any{"bootstrap_expect": servers}
		if servers > 1 {
			c["retry_join"] = join
		}
		maps.Copy(c, conf)
		a := newAgent(t, dir, fmt.Sprintf("%s-s%d", dc, i+1), dc, ip, c)
		a.start()
		list = append(list, a)
	}
	for _, a := range list {
		until(t, 20*time.Second, a.Name+" knows a leader", a.hasLeader)
	}
	return list
}

func leaderOf(t *testing.T, servers []*agentProcess) *agentProcess {
	t.Helper()
	_, body := servers[0].do("GET", "/v1/status/leader", "")
	host, _, err := net.SplitHostPort(strings.Trim(body, `"`))
	if err != nil {
		t.Fatalf("status/leader says %q", body)
	}
	for _, s := range servers {
		if s.IP == host {
			return s
		}
	}
	t.Fatalf("leader %s is none of ours", host)
	return nil
}

// command is a command that ends with the test, at the latest after two minutes.
func command(t *testing.T, name string, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return exec.CommandContext(ctx, name, args...)
}
