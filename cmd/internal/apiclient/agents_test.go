package apiclient

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

const gossipKey = "pUqJrVyVRj5jsiYEkM/tFQYfWyJIv4s3XkvDwy7Cu5s="

// agent is one real agent, with its data below a folder of its own.
type agent struct {
	Name string
	IP   string
	Dir  string
	Conf map[string]any
	Env  []string // added to the test's own

	cmd  *exec.Cmd
	done chan struct{}
}

// newAgent describes an agent; conf is merged over what all have.
func newAgent(dir, name, dc, ip string, conf map[string]any) *agent {
	a := &agent{Name: name, IP: ip, Dir: filepath.Join(dir, name)}
	a.Conf = map[string]any{
		"node_name": name, "datacenter": dc, "data_dir": filepath.Join(a.Dir, "data"), "encrypt": gossipKey,
		"bind_addr": ip, "client_addr": ip, "retry_interval": "1s", "retry_interval_wan": "1s",
	}
	maps.Copy(a.Conf, conf)
	return a
}

// start runs the agent. The kernel kills it if the test process dies first.
func (a *agent) start() error {
	bin := os.Getenv("LANDBRIDGE_BIN")
	if bin == "" {
		return errors.New("LANDBRIDGE_BIN is not set: run `make e2e`")
	}
	raw, err := json.Marshal(a.Conf)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(a.Dir, 0o755); err != nil {
		return err
	}
	file := filepath.Join(a.Dir, "agent.json")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(a.Dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(bin, "agent", "-config-file="+file)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), a.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	a.cmd, a.done = cmd, done
	return nil
}

// run starts an agent that ends with the test.
func (a *agent) run(t *testing.T) {
	t.Helper()
	if err := a.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		a.kill()
		if t.Failed() {
			t.Logf("log of %s:\n%s", a.Name, a.logTail())
		}
	})
}

// kill is kill -9, and waits for the process to be gone.
func (a *agent) kill() {
	if a.cmd != nil {
		_ = a.cmd.Process.Kill()
		<-a.done
	}
}

func (a *agent) logTail() string {
	b, _ := os.ReadFile(filepath.Join(a.Dir, "log"))
	return string(b[max(0, len(b)-4000):])
}

// client is the official client of this agent.
func (a *agent) client(t *testing.T) *api.Client {
	t.Helper()
	c, err := a.dial()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (a *agent) dial() (*api.Client, error) {
	conf := api.DefaultNonPooledConfig()
	conf.Address = a.IP + ":8500"
	return api.NewClient(conf)
}

// await waits for a condition of the running system.
func await(within time.Duration, what string, cond func() error) error {
	for end := time.Now().Add(within); ; time.Sleep(20 * time.Millisecond) {
		err := cond()
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s: not within %s: %w", what, within, err)
		}
	}
}

// until is await for tests.
func until(t *testing.T, within time.Duration, what string, cond func() error) {
	t.Helper()
	if err := await(within, what, cond); err != nil {
		t.Fatal(err)
	}
}

// world is two datacenters that most tests share: dc1 with a server and a client
// agent, dc2 with a server that joined by retry_join_wan.
type world struct {
	dir                     string
	server, client1, remote *agent
}

func (w *world) agents() []*agent { return []*agent{w.server, w.client1, w.remote} }

// begun is the world once its agents are being started; TestMain ends them.
var begun atomic.Pointer[world]

var shared = sync.OnceValues(func() (*world, error) {
	dir, err := os.MkdirTemp("", "apiclient")
	if err != nil {
		return nil, err
	}
	w := &world{
		dir:     dir,
		server:  newAgent(dir, "s1", "dc1", "127.21.1.1", map[string]any{"server": true, "bootstrap_expect": 1, "enable_debug": true}),
		client1: newAgent(dir, "c1", "dc1", "127.21.1.11", map[string]any{"retry_join": []string{"127.21.1.1"}, "enable_debug": true}),
		remote: newAgent(dir, "s2", "dc2", "127.21.2.1", map[string]any{
			"server": true, "bootstrap_expect": 1, "retry_join_wan": []string{"127.21.1.1"},
		}),
	}
	begun.Store(w)
	for _, a := range w.agents() {
		if err := a.start(); err != nil {
			return w, err
		}
	}
	return w, w.await()
})

// await waits until every agent reads both datacenters and the catalog of dc1 has
// both its nodes.
func (w *world) await() error {
	for _, a := range w.agents() {
		c, err := a.dial()
		if err != nil {
			return err
		}
		for _, dc := range []string{"dc1", "dc2"} {
			err := await(30*time.Second, a.Name+" reads "+dc, func() error {
				leader, err := c.Status().LeaderWithQueryOptions(&api.QueryOptions{Datacenter: dc})
				if err == nil && leader == "" {
					err = errors.New("no leader")
				}
				return err
			})
			if err != nil {
				return err
			}
		}
		err = await(30*time.Second, "the catalog of dc1 has both nodes", func() error {
			nodes, _, err := c.Catalog().Nodes(&api.QueryOptions{Datacenter: "dc1"})
			if err == nil && len(nodes) != 2 {
				err = fmt.Errorf("%d nodes", len(nodes))
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// theWorld is the shared datacenters; t waits for them at first use.
func theWorld(t *testing.T) *world {
	t.Helper()
	w, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// each runs a test through a server and through a client agent of dc1.
func each(t *testing.T, test func(t *testing.T, c *api.Client)) {
	w := theWorld(t)
	for name, a := range map[string]*agent{"server": w.server, "client": w.client1} {
		t.Run(name, func(t *testing.T) { test(t, a.client(t)) })
	}
}

func TestMain(m *testing.M) {
	if run, ok := helpers[os.Getenv("APICLIENT_HELPER")]; ok {
		run()
		return
	}
	// Tests that are parallel wait for sessions to expire, all at once.
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	code := m.Run()
	if w := begun.Load(); w != nil {
		for _, a := range w.agents() {
			a.kill()
			if code != 0 {
				fmt.Fprintf(os.Stderr, "log of %s:\n%s\n", a.Name, a.logTail())
			}
		}
		_ = os.RemoveAll(w.dir)
	}
	os.Exit(code)
}

// must ends the test on an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refused checks that err is an answer with that status whose body has text.
func refused(t *testing.T, err error, code int, text string) {
	t.Helper()
	var status api.StatusError
	switch {
	case err == nil:
		t.Errorf("no error, want %d %q", code, text)
	case !errors.As(err, &status):
		t.Errorf("got %T %v, want a StatusError", err, err)
	case status.Code != code || !strings.Contains(status.Body, text):
		t.Errorf("got %d %q, want %d %q", status.Code, status.Body, code, text)
	}
}
