package watch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// stopGrace is how long a program that is told to end may take, and how long
// what it left running may hold its output.
const stopGrace = 2 * time.Second

// Script runs a program for a value.
type Script struct {
	Args  []string // the program and its arguments, or
	Shell string   // a line for /bin/sh
	// Stdout and Stderr take the program's output; nil drops it.
	Stdout, Stderr io.Writer
}

// Run runs the program once, with the value as a line of JSON on its standard
// input and its index in CONSUL_INDEX. When ctx ends the program and all it
// started get SIGTERM; what is left of them once the program has ended, or after
// stopGrace, gets SIGKILL.
func (s *Script) Run(ctx context.Context, v Value) error {
	args := s.Args
	if len(args) == 0 {
		args = []string{"/bin/sh", "-c", s.Shell}
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdin = io.MultiReader(bytes.NewReader(v.JSON), bytes.NewReader([]byte{'\n'}))
	cmd.Stdout, cmd.Stderr = s.Stdout, s.Stderr
	cmd.Env = append(cmd.Environ(), "CONSUL_INDEX="+strconv.FormatUint(v.Index, 10))
	// A group of its own: shells start further programs, which must end too.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = stopGrace
	err := cmd.Run()
	if ctx.Err() != nil && cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // no such group: all have ended
		return context.Cause(ctx)
	}
	if errors.Is(err, exec.ErrWaitDelay) {
		return nil // it ended well, and left something running that holds its output
	}
	return err
}

// head keeps the beginning of what is written, and drops the rest.
type head struct {
	b       bytes.Buffer
	limit   int
	dropped bool
}

func (h *head) Write(p []byte) (int, error) {
	if room := h.limit - h.b.Len(); len(p) > room {
		h.dropped = true
		h.b.Write(p[:max(room, 0)])
		return len(p), nil
	}
	return h.b.Write(p)
}
