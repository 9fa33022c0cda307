//go:build e2e

package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is a pseudo terminal with a program in it, and what it wrote.
type terminal struct {
	t    *testing.T
	pty  *os.File
	cmd  *exec.Cmd
	done chan struct{}

	mu  sync.Mutex
	out strings.Builder
}

func startInTerminal(t *testing.T, cols, rows uint16, env []string, name string, args ...string) *terminal {
	t.Helper()
	pty, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pty.Close() })
	if err := unix.IoctlSetPointerInt(int(pty.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(pty.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	x := &terminal{t: t, pty: pty, done: make(chan struct{})}
	x.resize(cols, rows)
	x.cmd = command(t, name, args...)
	x.cmd.Env = append(os.Environ(), env...)
	x.cmd.Stdin, x.cmd.Stdout, x.cmd.Stderr = tty, tty, tty
	x.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := x.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // until the program has closed its side
		b := make([]byte, 4096)
		for {
			n, err := pty.Read(b)
			x.mu.Lock()
			x.out.Write(b[:n])
			x.mu.Unlock()
			if err != nil {
				break
			}
		}
		close(x.done)
	}()
	return x
}

// resize tells the program, as a window manager does.
func (x *terminal) resize(cols, rows uint16) {
	x.t.Helper()
	if err := unix.IoctlSetWinsize(int(x.pty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: cols, Row: rows}); err != nil {
		x.t.Fatal(err)
	}
}

// frames are the screens drawn so far, without colors; raw is all that was written.
func (x *terminal) frames() (frames []string, raw string) {
	x.mu.Lock()
	raw = x.out.String()
	x.mu.Unlock()
	for _, f := range strings.Split(raw, "\033[H")[1:] {
		if f, _, whole := strings.Cut(f, "\033[J"); whole {
			frames = append(frames, regexp.MustCompile(`\033\[[0-9;]*[mK]|\r`).ReplaceAllString(f, ""))
		}
	}
	return frames, raw
}

// wait waits for a frame from the given one on.
func (x *terminal) wait(from int, what string, ok func(frame string) bool) {
	x.t.Helper()
	var last string
	defer func() {
		if x.t.Failed() {
			x.t.Logf("the last frame:\n%s", last)
		}
	}()
	until(x.t, 15*time.Second, what, func() bool {
		frames, raw := x.frames()
		last = raw[max(0, len(raw)-2000):]
		for _, f := range frames[min(from, len(frames)):] {
			if ok(f) {
				return true
			}
		}
		return false
	})
}

func fits(frame string, cols, rows int) bool {
	lines := strings.Split(strings.TrimSuffix(frame, "\n"), "\n")
	for _, l := range lines {
		if len([]rune(l)) > cols {
			return false
		}
	}
	return len(lines) < rows
}

// TestTop watches two datacenters in a terminal that changes its size.
func TestTop(t *testing.T) {
	dir := t.TempDir()
	conf := map[string]any{"encrypt": testKey, "bootstrap_expect": 1}
	a := newAgent(t, dir, "a1", "alpha", "127.9.96.1", conf)
	b := newAgent(t, dir, "b1", "beta", "127.9.96.2", conf)
	for _, s := range []*agentProcess{a, b} {
		s.start()
		until(t, 20*time.Second, s.Name+" knows a leader", s.hasLeader)
	}
	if out, err := a.run("wan", "join", b.IP); err != nil {
		t.Fatalf("wan join: %v\n%s", err, out)
	}
	until(t, 10*time.Second, "alpha reads beta", func() bool { return a.reads("beta") })

	env := []string{"CONSUL_HTTP_ADDR=" + a.IP + ":8500", "TERM=xterm", "NO_COLOR="}
	x := startInTerminal(t, 100, 24, env, binary(t), "top", "-interval=200ms")
	x.wait(0, "both datacenters with their leaders", func(f string) bool {
		return regexp.MustCompile(`beta\*? +ok +1/1 +b1`).MatchString(f) && regexp.MustCompile(`alpha\*? +ok +1/1 +a1`).MatchString(f) && strings.Contains(f, "A second")
	})
	_, raw := x.frames()
	if !strings.Contains(raw, "\033[2m") {
		t.Error("no color in a terminal")
	}
	for _, size := range [][2]uint16{{40, 10}, {20, 5}, {120, 30}} {
		frames, _ := x.frames()
		x.resize(size[0], size[1])
		x.wait(len(frames)+1, fmt.Sprintf("a frame of %dx%d", size[0], size[1]), func(f string) bool {
			return fits(f, int(size[0]), int(size[1])) && strings.Contains(f, "beta") && strings.Contains(f, "ACL lag") == (size[0] == 120)
		})
	}
	frames, _ := x.frames()
	b.kill()
	x.wait(len(frames), "the trouble is the first line", func(f string) bool {
		lines := strings.Split(f, "\n")
		return len(lines) > 4 && strings.HasPrefix(lines[3], "beta") && !strings.Contains(lines[3], " ok ")
	})
	if _, err := x.pty.Write([]byte("q")); err != nil {
		t.Fatal(err)
	}
	if err := x.cmd.Wait(); err != nil {
		t.Errorf("q: %v", err)
	}
	<-x.done
	if _, raw := x.frames(); !strings.HasSuffix(raw, "\033[?25h\033[?1049l") {
		t.Errorf("the terminal is not as it was: %q", raw[max(0, len(raw)-100):])
	}

	x = startInTerminal(t, 80, 24, append(env, "NO_COLOR=1"), binary(t), "top", "-interval=200ms")
	x.wait(2, "three frames", func(f string) bool { return strings.Contains(f, "alpha") })
	if err := x.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := x.cmd.Wait(); err != nil {
		t.Errorf("Ctrl-C: %v", err)
	}
	<-x.done
	if _, raw := x.frames(); regexp.MustCompile(`\033\[[0-9;]*m`).MatchString(raw) {
		t.Error("colors in spite of NO_COLOR")
	}
	if out, err := a.run("top", "-once"); err != nil || strings.Contains(out, "\033") || !strings.Contains(out, "alpha") {
		t.Errorf("without a terminal: %v %q", err, out)
	}
}
