package cli

import "flag"

func reloadCommand() *command {
	return &command{
		name:     "reload",
		synopsis: "Make an agent read its configuration again",
		help: `
The agent reads its configuration files again and takes over what can change
while it runs; the same as sending it SIGHUP. If they have an error, it is shown
and the agent goes on as before.

    $ landbridge reload`,
		setup: func(fs *flag.FlagSet) run {
			api := addAPI(fs)
			return func(c *call) error {
				cl, err := api.noArgs(c)
				if err != nil {
					return err
				}
				if err := cl.Put(c.ctx, "/v1/agent/reload", nil, nil, nil); err != nil {
					return failf("Error reloading: %w", err)
				}
				c.println("Configuration reload triggered")
				return nil
			}
		},
	}
}
