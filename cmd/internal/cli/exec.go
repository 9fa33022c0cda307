package cli

import (
	"context"
	"errors"
	"flag"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"landbridge/cmd/internal/client"
)

// execTTL is the life of the session that holds a job: what agents run ends some
// time after a caller that vanished.
const execTTL = 15 * time.Second

func execCommand() *command {
	return &command{
		name:     "exec",
		args:     "COMMAND...",
		synopsis: "Run a command on agents of a datacenter",
		program:  true,
		help: `
Runs a command on the agents of a datacenter and prints what it says there. Agents
take part that run with disable_remote_exec = false: whoever may write keys and
fire events can run anything on them.

    $ landbridge exec uptime
    $ landbridge exec -node='^web' 'df -h / | tail -1'
    $ landbridge exec -service=web -tag=blue -datacenter=dc2 systemctl reload web

A dash as the command takes a script from the standard input:

    $ landbridge exec - < check.sh

The job lies in the key/value store under -prefix, held by a session, and agents
are told by an event; all of it is removed at the end. Ctrl-C ends the command
everywhere. The exit code is 2 if the command failed on any agent.`,
		setup: func(fs *flag.FlagSet) run {
			x := &remoteExec{}
			fs.StringVar(&x.node, "node", "", "Only agents whose name matches. `REGEXP`")
			fs.StringVar(&x.service, "service", "", "Only agents with a service whose name matches. `REGEXP`")
			fs.StringVar(&x.tag, "tag", "", "With -service: only where a tag of it matches. `REGEXP`")
			fs.StringVar(&x.prefix, "prefix", "_rexec", "Where in the key/value store the job lies. `KEY`")
			shell := fs.Bool("shell", true, "Run the command with a shell; false starts the program itself.")
			fs.BoolVar(&x.verbose, "verbose", false, "Tell what happens meanwhile.")
			fs.DurationVar(&x.wait, "wait", 2*time.Second, "Stop when no agent said anything for so long. `DURATION`")
			fs.DurationVar(&x.replicate, "wait-repl", 200*time.Millisecond, "Wait so long between storing the job and telling agents. `DURATION`")
			api := addAPI(fs)
			return func(c *call) error {
				switch {
				case len(c.args) == 0:
					return usagef("Must specify a command to execute")
				case x.tag != "" && x.service == "":
					return failf("Cannot provide tag filter without service filter.")
				case strings.Trim(x.prefix, "/") == "":
					return failf("-prefix must not be empty")
				case x.wait <= 0 || x.replicate < 0:
					return failf("-wait must be positive, and -wait-repl not negative")
				}
				if err := x.take(c, *shell); err != nil {
					return err
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				x.c, x.cl, x.foreign = c, cl, api.opts.Datacenter != ""
				ctx, stop := signal.NotifyContext(c.ctx, os.Interrupt, syscall.SIGTERM)
				defer stop()
				return x.run(ctx)
			}
		},
	}
}

// remoteExec is one run of the command.
type remoteExec struct {
	node, service, tag, prefix string
	verbose, foreign           bool
	wait, replicate            time.Duration
	job                        execJob

	c       *call
	cl      *client.Client
	session string
}

// execJob is what agents read (lan/agent.ExecJob).
type execJob struct {
	Command string        `json:",omitempty"`
	Args    []string      `json:",omitempty"`
	Script  []byte        `json:",omitempty"`
	Wait    time.Duration // nanoseconds
}

// maxScript leaves room for base64 below the limit of a key's value.
const maxScript = 300 << 10

// take reads the command line.
func (x *remoteExec) take(c *call, shell bool) error {
	x.prefix = strings.Trim(x.prefix, "/")
	x.job.Wait = x.wait
	switch {
	case len(c.args) == 1 && c.args[0] == "-":
		script, err := io.ReadAll(io.LimitReader(c.Stdin, maxScript+1))
		if err != nil {
			return failf("Failed to read stdin: %w", err)
		}
		if len(script) == 0 || len(script) > maxScript {
			return failf("The script must have between 1 and %d bytes", maxScript)
		}
		x.job.Script = script
	case shell:
		x.job.Command = strings.Join(c.args, " ")
	default:
		x.job.Args = c.args
	}
	return nil
}

func (x *remoteExec) logf(format string, args ...any) {
	if x.verbose {
		x.c.printf("==> "+format+"\n", args...)
	}
}

func (x *remoteExec) dir() string { return x.prefix + "/" + x.session }

// run ends early with ctx.
func (x *remoteExec) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if err := x.open(ctx); err != nil {
		return err
	}
	defer x.close()
	renewed := make(chan struct{})
	go func() {
		defer close(renewed)
		x.renew(ctx, cancel)
	}()
	defer func() { cancel(nil); <-renewed }()
	var ok bool
	err := x.cl.Put(ctx, client.KeyPath(x.dir()+"/job"), url.Values{"acquire": {x.session}}, x.job, &ok)
	if err == nil && !ok {
		err = errors.New("the key could not be locked")
	}
	if err != nil {
		return failf("Failed to store the job: %w", err)
	}
	x.logf("Stored the job under %s", x.dir())
	if !pause(ctx, x.replicate) {
		return failf("Interrupted")
	}
	var fired struct{ ID string }
	q := queryOf("node", x.node, "service", x.service, "tag", x.tag)
	payload := struct{ Prefix, Session string }{x.prefix, x.session}
	if err := x.cl.Put(ctx, client.Path("v1", "event", "fire", "_rexec"), q, payload, &fired); err != nil {
		return failf("Failed to fire the event: %w", err)
	}
	x.logf("Fired event %s", fired.ID)
	return x.follow(ctx)
}

// open makes the session. A session belongs to a node: the agent's, or in another
// datacenter that of a server.
func (x *remoteExec) open(ctx context.Context) error {
	body := map[string]string{"Name": "Remote Exec via landbridge exec", "TTL": execTTL.String(), "Behavior": "delete", "LockDelay": "0s"}
	if x.foreign {
		var list []struct{ Node struct{ Node string } }
		if err := x.cl.Get(ctx, "/v1/health/service/consul", url.Values{"passing": {"true"}}, &list); err != nil {
			return failf("Failed to find a server: %w", err)
		}
		if len(list) == 0 {
			return failf("Failed to find a server: none is healthy")
		}
		body["Node"] = list[0].Node.Node
	}
	var made struct{ ID string }
	if err := x.cl.Put(ctx, "/v1/session/create", nil, body, &made); err != nil {
		return failf("Failed to create the session: %w", err)
	}
	x.session = made.ID
	x.logf("Created session %s", made.ID)
	return nil
}

// close removes all, also after an interrupt.
func (x *remoteExec) close() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.c.ctx), 10*time.Second)
	defer cancel()
	err := x.cl.Put(ctx, client.Path("v1", "session", "destroy", x.session), nil, nil, nil)
	err = errors.Join(err, x.cl.Delete(ctx, client.KeyPath(x.dir()+"/"), url.Values{"recurse": {""}}, nil))
	if err != nil {
		io.WriteString(x.c.Stderr, "Failed to remove the job: "+err.Error()+"\n")
	}
}

func (x *remoteExec) renew(ctx context.Context, lost context.CancelCauseFunc) {
	for pause(ctx, execTTL/3) {
		err := x.cl.Put(ctx, client.Path("v1", "session", "renew", x.session), nil, nil, nil)
		if client.NotFound(err) {
			lost(errors.New("the session ended"))
			return
		}
	}
}

// pause waits; false means that ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// keysBelow lists the keys of the job once they change, at most after wait.
func (x *remoteExec) keysBelow(ctx context.Context, index string, wait time.Duration) (keys []string, next string, err error) {
	q := url.Values{"keys": {""}, "index": {index}, "wait": {max(wait, 10*time.Millisecond).String()}}
	resp, err := x.cl.Do(ctx, http.MethodGet, client.KeyPath(x.dir()+"/"), q, nil)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	err = decodeJSON(resp.Body, &keys)
	return keys, resp.Header.Get("X-Consul-Index"), err
}
