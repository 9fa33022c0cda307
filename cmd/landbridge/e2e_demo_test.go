//go:build e2e

package main

import (
	"bufio"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func buildDemo(t *testing.T) (demo string) {
	t.Helper()
	demo = t.TempDir() + "/demo"
	build := command(t, "go", "build", "-o", demo, "landbridge/cmd/internal/demo")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return demo
}

func TestDemo(t *testing.T) {
	out, err := command(t, buildDemo(t), "-bin", binary(t), "-once").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"hello from dc1", "web.service.dc2.consul.", "127.0.2.4", "dc2-s3.dc2"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the demo does not show %q:\n%s", want, out)
		}
	}
}

// TestDemoEnds interrupts a demo that runs beside something on a default port,
// one whose reader went away, and one that is killed: no agent stays behind.
func TestDemoEnds(t *testing.T) {
	demo := buildDemo(t)
	beside, err := net.Listen("tcp", "127.0.1.1:8500")
	if err != nil {
		t.Logf("a default port is taken already: %v", err)
	} else {
		defer beside.Close()
	}
	for _, tc := range []struct {
		name string
		end  func(cmd *exec.Cmd, out io.Closer)
		exit int
	}{
		{"interrupt", func(cmd *exec.Cmd, _ io.Closer) { _ = cmd.Process.Signal(os.Interrupt) }, 0},
		{"hang-up", func(cmd *exec.Cmd, _ io.Closer) { _ = cmd.Process.Signal(syscall.SIGHUP) }, 0},
		{"closed pipe", func(_ *exec.Cmd, out io.Closer) { out.Close() }, 1},
		{"killed", func(cmd *exec.Cmd, _ io.Closer) { _ = cmd.Process.Kill() }, -1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tmp := t.TempDir()
			cmd := command(t, demo, "-bin", binary(t))
			cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			text, agents := bufio.NewReader(out), ""
			for {
				line, err := text.ReadString('\n')
				if err != nil {
					t.Fatalf("the demo ended: %v", err)
				}
				if _, url, ok := strings.Cut(line, "http://"); ok && agents == "" {
					agents, _, _ = strings.Cut(url, " ")
				}
				if strings.Contains(line, "a leader, seen") {
					break
				}
			}
			if strings.HasSuffix(agents, ":8500") {
				t.Errorf("the demo is at %s, which is taken", agents)
			}
			tc.end(cmd, out)
			_, _ = io.Copy(io.Discard, text)
			_ = cmd.Wait() // its status is looked at below
			if code := cmd.ProcessState.ExitCode(); code != tc.exit {
				t.Errorf("exit code %d, want %d", code, tc.exit)
			}
			until(t, 10*time.Second, "its agents are gone", func() bool {
				c, err := net.Dial("tcp", agents)
				if err == nil {
					c.Close()
				}
				return err != nil
			})
			if left, _ := filepath.Glob(tmp + "/landbridge-demo-*"); tc.exit >= 0 && len(left) > 0 {
				t.Errorf("left behind: %s", left)
			}
		})
	}
}
