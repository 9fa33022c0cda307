package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

// demo owns the processes it started and ends only those.
type demo struct {
	out           io.Writer
	bin, dir, key string
	shift         int // added to every default port
	color         bool
	procs         []*process
	died          chan string
	stopping      sync.Once
}

type agent struct {
	dc, name, ip string
	server       bool
}

type process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{}
}

// screen is what the demo prints to; when nobody reads any more, it ends the demo.
type screen struct {
	w    io.Writer
	lost func()
	err  error // the first one
}

func (s *screen) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	if err != nil && s.err == nil {
		s.err = err
		s.lost()
	}
	return n, err
}

func isTerminal() bool {
	if os.Getenv("NO_COLOR") != "" {
		return false
	}
	fi, err := os.Stdout.Stat()
	return err == nil && fi.Mode()&os.ModeCharDevice != 0
}

func (d *demo) title(text string) {
	if d.color {
		text = "\033[1m" + text + "\033[0m"
	}
	fmt.Fprintf(d.out, "\n== %s\n", text)
}

// start writes an agent's configuration and starts it.
func (d *demo) start(a agent) error {
	base := a.ip[:strings.LastIndexByte(a.ip, '.')]
	conf := map[string]any{
		"node_name": a.name, "datacenter": a.dc, "server": a.server,
		"data_dir": filepath.Join(d.dir, a.name), "bind_addr": a.ip, "client_addr": a.ip,
		"encrypt": d.key, "retry_join": []string{d.at(base+".1", lanPort), d.at(base+".2", lanPort), d.at(base+".3", lanPort)}, "retry_interval": "1s",
	}
	if d.shift > 0 {
		conf["ports"] = map[string]int{
			"server": rpcPort + d.shift, "serf_lan": lanPort + d.shift, "serf_wan": wanPort + d.shift,
			"http": httpPort + d.shift, "dns": dnsPort + d.shift,
		}
	}
	if a.server {
		conf["bootstrap_expect"] = 3
	}
	raw, err := json.MarshalIndent(conf, "", "  ")
	if err != nil {
		return err
	}
	file := filepath.Join(d.dir, a.name+".json")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		return err
	}
	log, err := os.Create(d.logFile(a.name))
	if err != nil {
		return err
	}
	defer log.Close()
	p := &process{name: a.name, cmd: exec.Command(d.bin, "agent", "-config-file="+file), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	// A group of its own, so that the terminal's Ctrl-C reaches us alone and the
	// agents are stopped in order. Should the demo be killed, they end with it.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", d.bin, err)
	}
	d.procs = append(d.procs, p)
	go func() {
		_ = p.cmd.Wait() // the exit status is of no use: any end before stop is one
		close(p.done)
		select {
		case d.died <- p.name:
		default:
		}
	}()
	kind := "client"
	if a.server {
		kind = "server"
	}
	fmt.Fprintf(d.out, "  %-7s %s %s  http://%s  dns %s\n", a.name, kind, a.dc, d.at(a.ip, httpPort), d.at(a.ip, dnsPort))
	return nil
}

// stop ends all agents, clients first, and waits; what does not end is killed.
func (d *demo) stop() {
	d.stopping.Do(func() {
		slices.Reverse(d.procs)
		for _, p := range d.procs {
			_ = p.cmd.Process.Signal(os.Interrupt) // one that ended already is fine
		}
		deadline := time.After(20 * time.Second)
		for _, p := range d.procs {
			select {
			case <-p.done:
			case <-deadline:
				_ = p.cmd.Process.Kill()
				<-p.done
			}
		}
	})
}

func (d *demo) logFile(name string) string { return filepath.Join(d.dir, name+".log") }

func (d *demo) logTail(name string) string {
	b, err := os.ReadFile(d.logFile(name))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-2000):])
}

// until retries a condition for half a minute, and fails at once when an agent ends.
func (d *demo) until(ctx context.Context, what string, ok func() error) error {
	start := time.Now()
	for {
		err := ok()
		if err == nil {
			fmt.Fprintf(d.out, "  %s (%s)\n", what, time.Since(start).Round(time.Millisecond))
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case name := <-d.died:
			return fmt.Errorf("%s ended by itself; its log:\n%s", name, d.logTail(name))
		case <-time.After(50 * time.Millisecond):
		}
		if time.Since(start) > 30*time.Second {
			return fmt.Errorf("waited 30s for %s: %w", what, err)
		}
	}
}

var client = &http.Client{Timeout: 10 * time.Second}

func fetch(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s: %s", url, resp.Status, b)
	}
	return string(b), nil
}

func (d *demo) hasLeader(ctx context.Context, ip string) error {
	body, err := fetch(ctx, "http://"+d.at(ip, httpPort)+"/v1/status/leader")
	if err == nil && !strings.Contains(body, ":") {
		err = errors.New("no leader yet")
	}
	return err
}

func (d *demo) knows(ctx context.Context, ip, dc string) error {
	body, err := fetch(ctx, "http://"+d.at(ip, httpPort)+"/v1/status/leader?dc="+dc)
	if err == nil && !strings.Contains(body, ":") {
		err = fmt.Errorf("%s has no leader", dc)
	}
	return err
}

// command runs a landbridge command against an agent, and shows both.
func (d *demo) command(ctx context.Context, ip string, args ...string) error {
	fmt.Fprintf(d.out, "  $ CONSUL_HTTP_ADDR=%s landbridge %s\n", d.at(ip, httpPort), strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, d.bin, args...)
	cmd.Env = append(os.Environ(), "CONSUL_HTTP_ADDR="+d.at(ip, httpPort))
	out, err := cmd.CombinedOutput()
	d.indent(string(out))
	if err != nil {
		return fmt.Errorf("landbridge %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

func (d *demo) get(ctx context.Context, url string) error {
	fmt.Fprintf(d.out, "  $ curl '%s'\n", url)
	body, err := fetch(ctx, url)
	d.indent(body)
	return err
}

// dig asks for the addresses of a name and shows the answer as dig does. DNS
// reads are stale: a follower may need a moment to hear of a registration.
func (d *demo) dig(ctx context.Context, server, name string) error {
	host, port, _ := strings.Cut(server, ":")
	fmt.Fprintf(d.out, "  $ dig @%s -p %s %s\n", host, port, strings.TrimSuffix(name, "."))
	m := new(dns.Msg)
	m.SetQuestion(name, dns.TypeA)
	for start := time.Now(); ; {
		r, took, err := new(dns.Client).ExchangeContext(ctx, m, server)
		if err != nil {
			return err
		}
		if len(r.Answer) > 0 {
			fmt.Fprintf(d.out, "    ;; status: %s, %s\n", dns.RcodeToString[r.Rcode], took.Round(10*time.Microsecond))
			for _, rr := range r.Answer {
				fmt.Fprintf(d.out, "    %s\n", rr)
			}
			return nil
		}
		if time.Since(start) > 5*time.Second {
			return fmt.Errorf("%s: no answer, status %s", name, dns.RcodeToString[r.Rcode])
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (d *demo) indent(s string) {
	for line := range strings.Lines(s) {
		fmt.Fprintf(d.out, "    %s\n", strings.TrimRight(line, "\n"))
	}
}
