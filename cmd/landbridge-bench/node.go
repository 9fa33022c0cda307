package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// node is one agent: its addresses, files and configuration outlive its processes.
type node struct {
	process
	t      *trial
	name   string
	server bool
	ip     string
	dir    string
	conf   map[string]any
	http   string // host:port of its HTTP API, as seen from its network namespace
	dns    string
	rpc    string // what status/leader says when it leads
	host   *host  // on an emulated network; nil on loopback
	token  string // ACL token of requests to it; "" for none
}

var errExited = errors.New("exited")

// start writes the configuration and starts the agent; it does not wait for it.
func (n *node) start() {
	conf, err := json.MarshalIndent(n.conf, "", " ")
	n.t.check(err, "configuration of "+n.name)
	n.t.check(os.MkdirAll(n.dir, 0o755), n.name)
	file := filepath.Join(n.dir, "agent.json")
	n.t.check(os.WriteFile(file, conf, 0o600), n.name)
	log, err := os.OpenFile(filepath.Join(n.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	n.t.check(err, n.name)
	defer log.Close()
	cmd := n.command(context.Background(), n.t.binary.Path, "agent", "-config-file="+file)
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, n.dir
	n.t.check(n.t.start(&n.process, cmd, syscall.SIGKILL), "start "+n.name)
}

// stop asks the agent to end, and kills it after five seconds.
func (n *node) stop() { n.end(syscall.SIGTERM, 5*time.Second) }

func stopAll(nodes []*node) {
	_ = each(len(nodes), len(nodes), func(_, i int) error { nodes[i].stop(); return nil }) // f has no errors
}

// command is a command on the node's host.
func (n *node) command(ctx context.Context, args ...string) *exec.Cmd {
	if n.host != nil {
		args = n.host.command(args...)
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.WaitDelay = time.Second
	return cmd
}

// dial connects to an address in the node's network namespace.
func (n *node) dial(network, addr string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: 5 * time.Second}
	if n.host == nil {
		return dialer.Dial(network, addr)
	}
	var c net.Conn
	err := n.host.inside(func() (err error) {
		c, err = dialer.Dial(network, addr)
		return err
	})
	return c, err
}

// exited is an errExited with the end of the agent's log, or nil while it runs.
func (n *node) exited() error {
	if n.alive() {
		return nil
	}
	log, _ := os.ReadFile(filepath.Join(n.dir, "log"))
	return fmt.Errorf("%s %w; its log ends:\n%s", n.name, errExited, log[max(0, len(log)-800):])
}

// request sends one request on a connection of its own, for set-up and polling; an
// answer other than 200 is an error. It may be called concurrently.
func (n *node) request(method, path string, body []byte, limit time.Duration) ([]byte, error) {
	return n.requestAs(n.token, method, path, body, limit)
}

func (n *node) requestAs(token, method, path string, body []byte, limit time.Duration) ([]byte, error) {
	c := n.client()
	defer c.Close()
	err := c.send(appendRequest(nil, method, path, token, body), limit)
	if err != nil {
		err = fmt.Errorf("%s %s at %s: %w", method, path, n.name, err)
	}
	return c.body, err
}

// get reads JSON into out.
func (n *node) get(path string, out any) error {
	body, err := n.request("GET", path, nil, 10*time.Second)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("GET %s at %s: %w", path, n.name, err)
	}
	return nil
}

// put sends in as JSON and reads the answer into out, if that is not nil.
func (n *node) put(path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	answer, err := n.request("PUT", path, body, 30*time.Second)
	if err != nil || out == nil {
		return err
	}
	return json.Unmarshal(answer, out)
}

// reads asks for a path and discards the answer.
func (n *node) reads(path string) error {
	_, err := n.request("GET", path, nil, 10*time.Second)
	return err
}

// leader is the leader's RPC address as the node sees it, or "".
func (n *node) leader() (addr string) {
	if n.get("/v1/status/leader", &addr) != nil {
		return ""
	}
	return addr
}

// writable says why a write through the node is not acknowledged.
func (n *node) writable() error {
	if err := n.exited(); err != nil {
		return err
	}
	if n.leader() == "" {
		return errors.New("no leader")
	}
	answer, err := n.request("PUT", "/v1/kv/ready/"+n.name, []byte("x"), 10*time.Second)
	if err == nil && !bytes.HasPrefix(answer, []byte("true")) {
		err = fmt.Errorf("answer %.20q", answer)
	}
	return err
}

func cpuOf(nodes []*node) (sum time.Duration) {
	for _, n := range nodes {
		sum += n.cpu()
	}
	return sum
}

// meanRSS is the mean resident memory in MiB.
func meanRSS(nodes []*node) (mean float64) {
	for _, n := range nodes {
		mean += n.rss() / float64(len(nodes))
	}
	return mean
}

// idleCPU is the CPU that nodes use during d, in percent of one core.
func (t *trial) idleCPU(nodes []*node, d time.Duration) float64 {
	m := t.meter(nodes...)
	t.sleep(d)
	u := m.read()
	return u.percent(u.agents)
}

// settle waits until nodes use little CPU, or for limit.
func (t *trial) settle(nodes []*node, limit time.Duration) {
	for end := time.Now().Add(limit); time.Now().Before(end); {
		if t.idleCPU(nodes, t.dur(500*time.Millisecond, 200*time.Millisecond)) < 6*float64(len(nodes)) {
			return
		}
	}
}
