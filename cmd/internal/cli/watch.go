package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"landbridge/cmd/internal/client"
	"landbridge/federation/watch"
)

func watchCommand() *command {
	return &command{
		name:     "watch",
		args:     "[PROGRAM [ARG...]]",
		synopsis: "Run a program when something changes",
		program:  true,
		help: `
Follows a part of the catalog, a key, or events. Without a program it prints the
current value as JSON and ends. With one it runs it, for the value at the start
(events excepted: only new ones) and again after each change, with the value as
JSON on its standard input and the index in CONSUL_INDEX. The program runs once at
a time; changes meanwhile are one change. If it fails, the watch ends with 1.
Flags must stand before the program.

The types and what they take:

    key            -key=KEY           the key, or null
    keyprefix      -prefix=PREFIX     the keys below it
    services       [-filter]          names and tags of all services
    nodes          [-filter]          all nodes
    service        -service=NAME [-tag=TAG...] [-passingonly=true] [-filter]
    checks         [-service=NAME | -state=STATE] [-filter]
    event          [-name=NAME]       new events
    agent_service  -service=ID        a service of the asked agent, or null
    connect_roots                     the certificate authorities

    $ landbridge watch -type=nodes
    $ landbridge watch -type=key -key=config/web /usr/local/bin/render
    $ landbridge watch -type=service -service=web -'jq length >/run/webs'`,
		setup: func(fs *flag.FlagSet) run {
			s := watch.Spec{}
			fs.StringVar(&s.Type, "type", "", "What to watch; see above. `TYPE`")
			fs.StringVar(&s.Key, "key", "", "Key to watch. `KEY`")
			fs.StringVar(&s.Prefix, "prefix", "", "Prefix of keys to watch. `PREFIX`")
			fs.StringVar(&s.Name, "name", "", "Name of the events to watch (default: all). `NAME`")
			fs.StringVar(&s.Service, "service", "", "Service to watch, or whose checks. `NAME`")
			fs.Var((*lines)(&s.Tags), "tag", "Only instances with this tag; may be repeated, for those with all. `TAG`")
			passing := choiceFlag(fs, "passingonly", "", "Only instances whose checks all pass.", "true", "false")
			fs.StringVar(&s.State, "state", "", "State of the checks to watch: any, passing, warning or critical. `STATE`")
			fs.StringVar(&s.Filter, "filter", "", "Only what matches this expression. `EXPR`")
			shell := fs.Bool("shell", true, "Let /bin/sh run the program, with its pipes and variables. With -shell=false its arguments are taken as they are.")
			api := addAPI(fs)
			return func(c *call) error {
				s.PassingOnly = *passing == "true"
				if s.Type == "agent_service" {
					s.ServiceID, s.Service = s.Service, ""
				}
				plan, err := watch.NewPlan(s)
				if err != nil {
					return failf("%s", problems(err))
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				ctx, stop := signal.NotifyContext(c.ctx, os.Interrupt, syscall.SIGTERM)
				defer stop()
				if len(c.args) == 0 {
					return c.watchOnce(ctx, plan, agentSource{cl})
				}
				script := &watch.Script{Args: c.args, Stdout: c.Stdout, Stderr: c.Stderr}
				if *shell {
					script.Args, script.Shell = nil, strings.Join(c.args, " ")
				}
				return c.watch(ctx, plan, agentSource{cl}, script)
			}
		},
	}
}

// watchOnce prints the current value.
func (c *call) watchOnce(ctx context.Context, plan *watch.Plan, src watch.Source) error {
	v, err := plan.Get(ctx, src)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return failf("Error querying agent: %w", err)
	}
	var b bytes.Buffer
	if err := json.Indent(&b, v.JSON, "", "    "); err != nil {
		return failf("Error encoding output: %w", err)
	}
	b.WriteByte('\n')
	_, err = b.WriteTo(c.Stdout)
	return err
}

// watch runs the script until it fails or a signal comes.
func (c *call) watch(ctx context.Context, plan *watch.Plan, src watch.Source, script *watch.Script) error {
	reached := false
	opts := watch.Options{Failed: func(err error, again time.Duration) error {
		// An agent that was never there is a mistake of the caller; one that answers,
		// or did, is worth waiting for.
		var status *watch.StatusError
		if reached = reached || errors.As(err, &status); !reached {
			return failf("Error querying agent: %w", err)
		}
		fmt.Fprintf(c.Stderr, "Watch (type: %s) errored: %v, retry in %s\n", plan, err, again.Round(time.Millisecond))
		return nil
	}}
	err := plan.Run(ctx, src, opts, func(ctx context.Context, v watch.Value) error {
		reached = true
		if err := script.Run(ctx, v); err != nil {
			return failf("Error executing handler: %w", err)
		}
		return nil
	})
	if ctx.Err() != nil {
		return nil // told to end, and so was the program
	}
	return err
}

// agentSource asks the agent that the command line names.
type agentSource struct{ cl *client.Client }

func (s agentSource) Get(ctx context.Context, path string, query url.Values, _ string) (*watch.Answer, error) {
	resp, err := s.cl.Do(ctx, http.MethodGet, path, query, nil)
	if status := (*client.StatusError)(nil); errors.As(err, &status) {
		return watch.NewAnswer(status.Code, status.Header, []byte(status.Body)), nil
	}
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, client.MaxAnswer))
	if err != nil {
		return nil, err
	}
	return watch.NewAnswer(resp.StatusCode, resp.Header, body), nil
}
