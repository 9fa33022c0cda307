package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path"
	"strconv"
	"sync"
	"time"

	"landbridge/lan/internal/procgroup"
	"landbridge/store"
)

// ExecEvent is the name of the user event that asks for remote execution.
const ExecEvent = "_rexec"

// ExecRequest is the payload of such an event: where the job lies.
type ExecRequest struct {
	Prefix  string
	Session string
}

// ExecJob is what to run, the value of the key <prefix>/<session>/job. That key is
// held by the session, and so is all that agents write below
// <prefix>/<session>/<node>/: ack, out/00000 and so on, exit. It ends with it.
type ExecJob struct {
	Command string   // for the shell; or
	Args    []string // a program and its arguments; or
	Script  []byte   // a file to be run
	// Wait is how long silence may last before its caller gives an agent up.
	Wait time.Duration
}

// Keys is the key/value store as remote execution needs it. Errors are or wrap a
// *store.Error.
type Keys interface {
	// Get returns a key, nil if there is none.
	Get(ctx context.Context, key string) (*store.KVEntry, error)
	// Lock writes a key for a session, and returns whether that holds it. That a
	// session has ended is KindInvalid.
	Lock(ctx context.Context, key string, value []byte, session string) (bool, error)
}

const (
	execBacklog  = 16 // jobs that wait or run; more are refused
	execFlush    = 500 * time.Millisecond
	execChunk    = 4 << 10
	execMost     = 4 << 20 // bytes of output of one job that are passed on
	execWriting  = 10 * time.Second
	execMinAlive = 500 * time.Millisecond
	execMaxAlive = 30 * time.Second
	execGrace    = 2 * time.Second // how long the output may stay open after the command
)

// Exec runs commands that users send to this agent. Whoever may write keys and
// fire events can have any command run here: it is off unless configured.
//
// A job ends when its command does, when the session of its caller ends, or with
// Run; its processes are killed then.
type Exec struct {
	node string
	keys Keys
	log  *slog.Logger
	jobs chan ExecRequest
}

// NewExec returns an Exec for the node; Run does the work.
func NewExec(node string, keys Keys, log *slog.Logger) *Exec {
	return &Exec{node: node, keys: keys, log: log, jobs: make(chan ExecRequest, execBacklog)}
}

// Take accepts an event. It never blocks.
func (e *Exec) Take(ev *store.UserEvent) {
	var r ExecRequest
	if err := json.Unmarshal(ev.Payload, &r); err != nil || r.Prefix == "" || r.Session == "" {
		e.log.Warn("remote execution: event not understood", "id", ev.ID, "err", err)
		return
	}
	select {
	case e.jobs <- r:
	default:
		e.log.Warn("remote execution refused: too many jobs", "session", r.Session)
	}
}

// Run runs jobs until ctx ends, and waits for them.
func (e *Exec) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, execBacklog)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case r := <-e.jobs:
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
			wg.Go(func() {
				defer func() { <-slots }()
				if err := e.run(ctx, r); err != nil && ctx.Err() == nil {
					e.log.Warn("remote execution", "session", r.Session, "err", err)
				}
			})
		}
	}
}

func (e *Exec) run(ctx context.Context, r ExecRequest) error {
	dir := path.Join(r.Prefix, r.Session)
	job, err := e.job(ctx, dir+"/job", r.Session)
	if err != nil {
		return err
	}
	mine := dir + "/" + e.node
	if err := e.write(ctx, mine+"/ack", nil, r.Session); err != nil {
		return fmt.Errorf("acknowledge: %w", err)
	}
	began := time.Now()
	code, err := e.execute(ctx, job, mine, r.Session)
	if err != nil {
		return err
	}
	e.log.Info("remote execution done", "session", r.Session, "exit", code, "took", time.Since(began))
	if err := e.write(ctx, mine+"/exit", strconv.AppendInt(nil, int64(code), 10), r.Session); err != nil {
		return fmt.Errorf("tell the exit code: %w", err)
	}
	return nil
}

// job reads the job. One that its session does not hold was not put there by who
// fired the event.
func (e *Exec) job(ctx context.Context, key, session string) (*ExecJob, error) {
	ctx, cancel := context.WithTimeout(ctx, execWriting)
	defer cancel()
	entry, err := e.keys.Get(ctx, key)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the job: %w", err)
	case entry == nil:
		return nil, errors.New("there is no job")
	case entry.Session != session:
		return nil, errors.New("the job is not held by its session")
	}
	job := new(ExecJob)
	if err := json.Unmarshal(entry.Value, job); err != nil {
		return nil, fmt.Errorf("read the job: %w", err)
	}
	return job, nil
}

func (e *Exec) write(ctx context.Context, key string, value []byte, session string) error {
	ctx, cancel := context.WithTimeout(ctx, execWriting)
	defer cancel()
	ok, err := e.keys.Lock(ctx, key, value, session)
	if err == nil && !ok {
		err = errors.New("somebody else holds " + key)
	}
	return err
}

// execute runs the command and passes its output on as it comes.
func (e *Exec) execute(ctx context.Context, job *ExecJob, mine, session string) (code int, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	cmd, clean, err := command(ctx, job)
	if err != nil {
		return 0, err
	}
	defer clean()
	out, in := io.Pipe()
	cmd.Stdout, cmd.Stderr = in, in
	sent := make(chan error, 1)
	go func() { // ends when in is closed, below
		err := e.send(ctx, out, job, mine, session)
		if err != nil {
			cancel(err) // nobody reads: the command has no purpose left
		}
		_, _ = io.Copy(io.Discard, out)
		sent <- err
	}()
	err = cmd.Run()
	_ = in.Close()
	if sendErr := <-sent; sendErr != nil {
		return 0, fmt.Errorf("pass the output on: %w", sendErr)
	}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return procgroup.ExitCode(exit), nil
	case errors.Is(err, exec.ErrWaitDelay):
		return 0, nil // it ended well; something it left behind holds its output open
	case err != nil && ctx.Err() == nil:
		// It did not start: that is an outcome for the user, as a shell has it.
		return 127, e.write(ctx, mine+"/out/00000", []byte(err.Error()+"\n"), session)
	}
	return 0, err
}

// command prepares a job's command; clean removes what it needed.
func command(ctx context.Context, job *ExecJob) (cmd *exec.Cmd, clean func(), err error) {
	clean = func() {}
	switch {
	case len(job.Script) > 0:
		f, err := os.CreateTemp("", "landbridge-exec-*")
		if err != nil {
			return nil, nil, err
		}
		clean = func() { _ = os.Remove(f.Name()) }
		_, err = f.Write(job.Script)
		if err = errors.Join(err, f.Chmod(0o700), f.Close()); err != nil {
			clean()
			return nil, nil, err
		}
		cmd = exec.CommandContext(ctx, "/bin/sh", "-c", f.Name())
	case len(job.Args) > 0:
		cmd = exec.CommandContext(ctx, job.Args[0], job.Args[1:]...)
	case job.Command != "":
		cmd = exec.CommandContext(ctx, "/bin/sh", "-c", job.Command)
	default:
		return nil, nil, errors.New("the job is empty")
	}
	procgroup.Own(cmd)
	cmd.WaitDelay = execGrace
	return cmd, clean, nil
}

// send passes output on in chunks, and an empty one when there was none for a
// while, so that the caller knows that the command is still running. It returns
// at the end of the output, or when it cannot be passed on any more.
func (e *Exec) send(ctx context.Context, out io.Reader, job *ExecJob, mine, session string) error {
	pieces := make(chan []byte)
	stop := make(chan struct{})
	defer close(stop)
	go func() { // ends with the output, or with send and the next piece
		defer close(pieces)
		for {
			buf := make([]byte, execChunk)
			n, err := out.Read(buf)
			if n > 0 {
				select {
				case pieces <- buf[:n]:
				case <-stop:
					return
				}
			}
			if err != nil {
				return
			}
		}
	}()
	alive := min(max(job.Wait, execMinAlive), execMaxAlive)
	flush := time.NewTicker(execFlush)
	defer flush.Stop()
	var waiting []byte
	number, total, last := 0, 0, time.Now()
	put := func() error {
		err := e.write(ctx, fmt.Sprintf("%s/out/%05x", mine, number), waiting, session)
		number, waiting, last = number+1, nil, time.Now()
		return err
	}
	for {
		select {
		case piece, ok := <-pieces:
			if !ok {
				if len(waiting) == 0 {
					return nil
				}
				return put()
			}
			if total >= execMost {
				continue
			}
			waiting, total = append(waiting, piece...), total+len(piece)
			if total >= execMost {
				waiting = append(waiting, "\n(the rest of the output is left out)\n"...)
			}
			if len(waiting) >= execChunk {
				if err := put(); err != nil {
					return err
				}
			}
		case <-flush.C:
			if len(waiting) > 0 || time.Since(last) >= alive {
				if err := put(); err != nil {
					return err
				}
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
