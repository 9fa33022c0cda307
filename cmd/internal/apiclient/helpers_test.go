package apiclient

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

// helpers are what this test binary does instead of testing, when the variable
// APICLIENT_HELPER names one: programs of users that a test kills. They say what
// they have on standard output and wait for the end.
var helpers = map[string]func(){
	"lock": func() {
		help(func(c *api.Client, key string) error {
			l, err := c.LockOpts(&api.LockOptions{Key: key, SessionTTL: "10s", LockDelay: time.Second})
			if err != nil {
				return err
			}
			_, err = l.Lock(nil)
			return err
		})
	},
	"semaphore": func() {
		help(func(c *api.Client, key string) error {
			s, err := c.SemaphoreOpts(&api.SemaphoreOptions{Prefix: key, Limit: 2, SessionTTL: "10s"})
			if err != nil {
				return err
			}
			_, err = s.Acquire(nil)
			return err
		})
	},
}

func help(hold func(c *api.Client, key string) error) {
	c, err := api.NewClient(api.DefaultConfig())
	if err == nil {
		err = hold(c, os.Getenv("APICLIENT_KEY"))
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("held")
	select {}
}

// program is a helper that runs.
type program struct {
	cmd  *exec.Cmd
	said chan string
}

// runHelper starts a helper that works through an agent.
func runHelper(t *testing.T, what string, a *agent, key string) *program {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	p := &program{cmd: exec.Command(exe), said: make(chan string, 1)}
	p.cmd.Env = append(os.Environ(), "APICLIENT_HELPER="+what, "APICLIENT_KEY="+key, "CONSUL_HTTP_ADDR="+a.IP+":8500")
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := p.cmd.StdoutPipe()
	must(t, err)
	must(t, p.cmd.Start())
	go func() {
		line, _ := bufio.NewReader(out).ReadString('\n')
		p.said <- strings.TrimSpace(line)
	}()
	t.Cleanup(p.kill)
	return p
}

// holds waits until the program has what it is after.
func (p *program) holds(t *testing.T) {
	t.Helper()
	select {
	case line := <-p.said:
		if line != "held" {
			t.Fatalf("the holder says %q", line)
		}
	case <-time.After(15 * time.Second):
		t.Fatal("the holder does not get it")
	}
}

// kill is kill -9.
func (p *program) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}
