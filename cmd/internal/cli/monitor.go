package cli

import (
	"flag"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func monitorCommand() *command {
	return &command{
		name:     "monitor",
		synopsis: "Follow an agent's log",
		help: `
Shows an agent's log as it is written, from now on, whatever level the agent
itself logs at. Ctrl-C ends it.

    $ landbridge monitor
    $ landbridge monitor -log-level=debug`,
		setup: func(fs *flag.FlagSet) run {
			level := fs.String("log-level", "INFO", "Lowest level to show: trace, debug, info, warn or error. `LEVEL`")
			asJSON := fs.Bool("log-json", false, "Show lines in JSON.")
			api := addAPI(fs)
			return func(c *call) error {
				cl, err := api.noArgs(c)
				if err != nil {
					return err
				}
				q := queryOf("loglevel", strings.ToLower(*level))
				if *asJSON {
					q.Set("logjson", "true")
				}
				ctx, stop := signal.NotifyContext(c.ctx, os.Interrupt, syscall.SIGTERM)
				defer stop()
				resp, err := cl.Do(ctx, http.MethodGet, "/v1/agent/monitor", q, nil)
				if err != nil {
					if ctx.Err() != nil {
						return nil
					}
					return failf("Error starting monitor: %w", err)
				}
				defer resp.Body.Close()
				if _, err := io.Copy(c.Stdout, resp.Body); err != nil && ctx.Err() == nil {
					return failf("\nRemote side ended the monitor! This usually means that the remote side has exited or crashed.\n%w", err)
				}
				return nil
			}
		},
	}
}
