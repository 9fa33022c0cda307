package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"landbridge/lan/internal/procgroup"
	"landbridge/store"
)

// scriptGrace is how long what a script left running may hold its output open.
const scriptGrace = 2 * time.Second

// Slots bounds how many scripts run at once, so that scripts that hang do not fill
// the machine.
type Slots chan struct{}

// Script runs a program: exit code 0 passes, 1 is a warning, all else critical.
type Script struct {
	Args    []string // the program and its arguments; no shell
	Timeout time.Duration
	Limit   int   // bytes of output that are kept
	Slots   Slots // nil: no bound

	grace time.Duration // for tests; 0: scriptGrace
}

// Run runs the program with the agent's environment and nothing on standard input.
// When ctx ends the program's whole process group is killed.
func (c *Script) Run(ctx context.Context) Result {
	if c.Slots != nil {
		select {
		case c.Slots <- struct{}{}:
			defer func() { <-c.Slots }()
		case <-ctx.Done():
			return critical(fmt.Sprintf("Timed out (%s) waiting to run: %d other scripts are running", c.Timeout, cap(c.Slots)))
		}
	}
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	out := &tail{limit: c.Limit}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = cmp.Or(c.grace, scriptGrace)
	procgroup.Own(cmd)
	err := cmd.Run()
	if ctx.Err() != nil {
		return timedOut(c.Timeout)
	}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return exited(exit.ExitCode(), out)
	case err != nil && !errors.Is(err, exec.ErrWaitDelay): // the latter is a program that ended well
		return failure(err)
	}
	return exited(0, out)
}

func timedOut(after time.Duration) Result {
	return critical(fmt.Sprintf("Timed out (%s) running check", after))
}

// exited is the result of a program that ended by itself.
func exited(code int, out *tail) Result {
	status := store.Critical
	switch code {
	case 0:
		status = store.Passing
	case 1:
		status = store.Warning
	}
	return Result{status, out.String()}
}
