//go:build e2e

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// holding is a running `landbridge lock` on the prefix e2e, whose child writes to
// a file that it runs.
type holding struct {
	t        *testing.T
	a        *agentProcess
	cmd      *exec.Cmd
	out      bytes.Buffer
	started  string
	finished string
}

func hold(t *testing.T, a *agentProcess, child string, flags ...string) *holding {
	t.Helper()
	dir := t.TempDir()
	h := &holding{t: t, a: a, started: filepath.Join(dir, "started"), finished: filepath.Join(dir, "finished")}
	args := append(append([]string{"lock"}, flags...), "e2e", "echo $$ > "+h.started+"; "+child)
	h.cmd = exec.Command(binary(t), args...)
	h.cmd.Env = append(os.Environ(), "CONSUL_HTTP_ADDR="+a.IP+":8500", "SHELL=/bin/sh", "FINISHED="+h.finished)
	h.cmd.Stdout, h.cmd.Stderr = &h.out, &h.out
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, 10*time.Second, "the child runs", func() bool {
		b, err := os.ReadFile(h.started)
		return err == nil && bytes.HasSuffix(b, []byte("\n"))
	})
	return h
}

// childGone is whether the child's shell has ended.
func (h *holding) childGone() bool {
	pid, err := os.ReadFile(h.started)
	if err != nil {
		h.t.Fatal(err)
	}
	stat, err := os.ReadFile("/proc/" + strings.TrimSpace(string(pid)) + "/stat")
	return err != nil || bytes.Contains(stat, []byte(") Z ")) // a zombie has ended, too
}

func (h *holding) session() string {
	_, body := h.a.do("GET", "/v1/kv/e2e/.lock", "")
	var list []struct{ Session string }
	if err := json.Unmarshal([]byte(body), &list); err != nil || len(list) != 1 {
		h.t.Fatalf("%s, %v", body, err)
	}
	return list[0].Session
}

func TestLockChildren(t *testing.T) {
	a := cluster(t, t.TempDir(), "lock", 40, 1, nil)[0]
	until(t, 20*time.Second, "the agent is in its own catalog", func() bool {
		_, body := a.do("GET", "/v1/health/node/"+a.Name, "")
		return strings.Contains(body, "serfHealth")
	})
	t.Run("told to stop", func(t *testing.T) {
		h := hold(t, a, `trap 'echo TERM > $FINISHED; exit 0' TERM; while :; do sleep 0.1; done`)
		if err := h.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := h.cmd.Wait(); h.cmd.ProcessState.ExitCode() != 1 {
			t.Errorf("%v: %s", err, &h.out)
		}
		if b, err := os.ReadFile(h.finished); err != nil || string(b) != "TERM\n" {
			t.Errorf("the child ended by %q, %v", b, err)
		}
		a.want("GET", "/v1/session/list", "", "[]")
		if status, body := a.do("GET", "/v1/kv/e2e/.lock", ""); status != 404 {
			t.Errorf("left behind: %d %s", status, body)
		}
	})
	t.Run("lock lost", func(t *testing.T) {
		h := hold(t, a, `trap '' TERM; while :; do sleep 0.1; done`)
		a.want("PUT", "/v1/session/destroy/"+h.session(), "", "true")
		start := time.Now()
		if err := h.cmd.Wait(); h.cmd.ProcessState.ExitCode() != 1 || !strings.Contains(h.out.String(), "Lock lost") {
			t.Errorf("%v: %s", err, &h.out)
		}
		if took := time.Since(start); took < 5*time.Second || took > 8*time.Second || !h.childGone() {
			t.Errorf("a child that ignores SIGTERM ended after %s, gone %v", took, h.childGone())
		}
	})
	t.Run("killed", func(t *testing.T) {
		until(t, 20*time.Second, "the lock-delay is over", func() bool {
			_, err := a.run("lock", "-try=1s", "e2e", "true")
			return err == nil
		})
		h := hold(t, a, `while :; do sleep 0.1; done`)
		if err := h.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = h.cmd.Wait()
		until(t, 5*time.Second, "the child ends with its holder", h.childGone)
		if out, err := a.run("lock", "-try=1s", "e2e", "true"); err == nil {
			t.Errorf("the lock of a dead holder was free at once: %s", out)
		}
	})
	t.Run("in turn", func(t *testing.T) {
		a.want("DELETE", "/v1/kv/e2e?recurse", "", "true")
		h := hold(t, a, `sleep 1; echo done > $FINISHED`)
		if out, err := a.run("lock", "e2e", "cat "+h.finished); err != nil || out != "done\n" {
			t.Errorf("the second began before the first was done: %q, %v", out, err)
		}
		if err := h.cmd.Wait(); err != nil {
			t.Errorf("%v: %s", err, &h.out)
		}
	})
}
