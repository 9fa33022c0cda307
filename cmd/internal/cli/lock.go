package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"landbridge/cmd/internal/lock"
)

const (
	// childGrace is what a child has to end after SIGTERM, before SIGKILL.
	childGrace = 5 * time.Second
	// releaseTime bounds letting go of the lock at the end.
	releaseTime = 15 * time.Second
	// childFailed is the exit code of -child-exit-code.
	childFailed = 2
)

func lockCommand() *command {
	return &command{
		name:     "lock",
		args:     "PREFIX CHILD...",
		synopsis: "Run a program while holding a lock",
		help: `
Waits for the lock at PREFIX, runs CHILD, and lets go of the lock when CHILD
ends. Of all that do so on one PREFIX, on whatever machine, one runs at a time,
or -n of them. If the lock is lost, because the agent or the servers can not be
reached for too long, CHILD gets SIGTERM, and SIGKILL 5 seconds later.

    $ landbridge lock jobs/backup ./backup.sh --all
    $ landbridge lock -n=3 workers ./worker

Give up, with exit code 1, if the lock is not free within a second; and pass on
that the child failed, by exit code 2:

    $ landbridge lock -try=1s -child-exit-code jobs/report ./report.sh

The lock is the key PREFIX/.lock; programs that use locks or semaphores of the
official API client at PREFIX take turns with this command. A holder that is
killed itself is followed by the next one when its session has ended, after 15
to 30 seconds, and the lock-delay of 15 seconds has passed. CHILD finds
LANDBRIDGE_LOCK_HELD=true and CONSUL_LOCK_HELD=true in its environment.`,
		program: true,
		setup: func(fs *flag.FlagSet) run {
			o := &lockOptions{}
			fs.IntVar(&o.limit, "n", 1, "How many may hold the lock at a time. All on a prefix use the same. `N`")
			fs.StringVar(&o.name, "name", "", "Name of the session that holds the lock (default: made from CHILD). `NAME`")
			fs.BoolVar(&o.exitCode, "child-exit-code", false, "Exit with 2 if CHILD fails; otherwise that is only told.")
			fs.IntVar(&o.monitorRetry, "monitor-retry", 3, "How often in a row, a second apart, the agent may fail to say that the lock is still held. `N`")
			fs.BoolVar(&o.passStdin, "pass-stdin", false, "Let CHILD read from standard input.")
			fs.BoolVar(&o.shell, "shell", true, "Run CHILD by a shell: $SHELL, or /bin/sh.")
			fs.DurationVar(&o.timeout, "timeout", 0, "How long to wait for the lock; 0 waits for ever. `DURATION`")
			fs.DurationVar(&o.try, "try", 0, "The same as -timeout; of both, the shorter one counts. `DURATION`")
			fs.BoolVar(&o.verbose, "verbose", false, "Tell what happens.")
			api := addAPI(fs)
			return func(c *call) error {
				if err := o.check(c, api.opts.Stale); err != nil {
					return err
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				return o.run(c, lock.Config{Client: cl, Prefix: o.prefix, Limit: o.limit, Name: o.name, MonitorRetry: o.monitorRetry})
			}
		},
	}
}

type lockOptions struct {
	prefix       string
	limit        int
	name         string
	monitorRetry int
	timeout, try time.Duration
	exitCode     bool
	passStdin    bool
	shell        bool
	verbose      bool
}

func (o *lockOptions) check(c *call, stale bool) error {
	if len(c.args) < 2 {
		return usagef("Key prefix and child command must be specified")
	}
	switch {
	case o.limit < 1:
		return usagef("Lock holder limit must be positive")
	case o.monitorRetry < 0:
		return usagef("Number for 'monitor-retry' must be >= 0")
	case o.timeout < 0 || o.try < 0:
		return usagef("Timeout must be positive")
	case stale:
		return usagef("-stale: whether a lock is held must not be answered from what may be old")
	}
	if o.prefix = strings.Trim(c.args[0], "/"); o.prefix == "" {
		return usagef("Key prefix must not be empty")
	}
	if o.name == "" {
		o.name = fmt.Sprintf("%s lock for '%s' at '%s'", Name, strings.Join(c.args[1:], " "), o.prefix)
	}
	if o.timeout == 0 || o.try > 0 && o.try < o.timeout {
		o.timeout = o.try
	}
	return nil
}

func (o *lockOptions) say(c *call, format string, args ...any) {
	if o.verbose {
		c.printf(format+"\n", args...)
	}
}

// run holds the lock while the child runs.
func (o *lockOptions) run(c *call, cfg lock.Config) (err error) {
	stopped, stop := signal.NotifyContext(c.ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	waiting := stopped
	if o.timeout > 0 {
		var cancel context.CancelFunc
		waiting, cancel = context.WithTimeout(stopped, o.timeout)
		defer cancel()
	}
	o.say(c, "Waiting for the lock at %s/.lock", o.prefix)
	held, err := lock.Acquire(waiting, cfg)
	switch {
	case err == nil:
	case stopped.Err() != nil:
		return failf("Lock acquisition failed: interrupted")
	case errors.Is(err, context.DeadlineExceeded) && waiting.Err() != nil:
		return failf("Lock acquisition failed: not free within %s", o.timeout)
	default:
		return failf("Lock acquisition failed: %w", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), releaseTime)
		defer cancel()
		if freed := held.Release(ctx); freed != nil {
			fmt.Fprintf(c.Stderr, "Lock release failed: %s\n", freed)
			if err == nil {
				err = exit(1)
			}
			return
		}
		o.say(c, "Lock released")
	}()
	o.say(c, "Lock acquired, running '%s'", strings.Join(c.args[1:], " "))
	return o.runChild(c, stopped, held)
}

// runChild runs the child to its end, or ends it: when the lock is lost, or when
// we are told to stop.
func (o *lockOptions) runChild(c *call, stopped context.Context, held *lock.Held) error {
	ch, err := startChild(c, o)
	if err != nil {
		return o.childError(err)
	}
	select {
	case err := <-ch.ended:
		if err != nil {
			return o.childError(err)
		}
		return nil
	case <-held.Lost():
		fmt.Fprintf(c.Stderr, "Lock lost, ending the child: %s\n", held.Err())
	case <-stopped.Done():
		o.say(c, "Interrupted, ending the child")
	}
	if err := ch.end(); err != nil {
		fmt.Fprintf(c.Stderr, "Error running handler: %s\n", err)
	}
	return exit(1)
}

// childError tells of a child that failed: only with -child-exit-code a failure of
// ours, too.
func (o *lockOptions) childError(err error) error {
	code := 0
	if o.exitCode {
		code = childFailed
	}
	return &exitError{code: code, text: fmt.Sprintf("Error running handler: %s", err), cause: err}
}
