package cli

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// child is a running program.
type child struct {
	cmd   *exec.Cmd
	group bool       // it leads a process group of its own
	ended chan error // receives once
}

// startChild starts the program of a lock.
func startChild(c *call, o *lockOptions) (*child, error) {
	args := c.args[1:]
	if o.shell {
		shell := c.Getenv("SHELL")
		if shell == "" {
			shell = "/bin/sh"
		}
		args = []string{shell, "-c", strings.Join(args, " ")}
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = c.Stdout, c.Stderr
	cmd.Env = append(os.Environ(), "LANDBRIDGE_LOCK_HELD=true", "CONSUL_LOCK_HELD=true")
	cmd.WaitDelay = childGrace // for output of what it leaves behind
	if o.passStdin {
		cmd.Stdin = c.Stdin
	}
	ch := &child{cmd: cmd, group: !o.passStdin, ended: make(chan error, 1)}
	// A group of its own, so that signals reach all it starts. Not with standard
	// input: a terminal stops groups in the background that read from it.
	cmd.SysProcAttr = childAttributes(ch.group)
	started := make(chan error)
	go func() {
		// The kernel ends the child when the thread that started it ends, and it
		// must not run on without us: so this thread stays.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ch.ended <- cmd.Wait()
		}
	}()
	return ch, <-started
}

// end asks the child to end, and kills it if it does not. It returns what became
// of it, nil if it was what we asked for.
func (ch *child) end() error {
	signalChild(ch.cmd.Process, ch.group, syscall.SIGTERM)
	t := time.NewTimer(childGrace)
	defer t.Stop()
	select {
	case err := <-ch.ended:
		return unlessBy(err, syscall.SIGTERM)
	case <-t.C:
	}
	signalChild(ch.cmd.Process, ch.group, syscall.SIGKILL)
	return unlessBy(<-ch.ended, syscall.SIGKILL)
}

// signalChild sends a signal to a child, or to its whole group. One that has ended
// meanwhile is no error.
func signalChild(p *os.Process, group bool, sig syscall.Signal) {
	if group {
		_ = syscall.Kill(-p.Pid, sig)
		return
	}
	_ = p.Signal(sig)
}

// unlessBy is nil for a child that a signal ended.
func unlessBy(err error, sig syscall.Signal) error {
	var ee *exec.ExitError
	if errors.As(err, &ee) {
		if st, ok := ee.Sys().(syscall.WaitStatus); ok && st.Signaled() && st.Signal() == sig {
			return nil
		}
	}
	return err
}
