package cli

import "flag"

func leaveCommand() *command {
	return &command{
		name:     "leave",
		synopsis: "Make an agent leave the cluster and stop",
		help: `
The agent says good-bye to the cluster, so that it counts as left and not as
failed, its node leaves the catalog at once, and the process ends. A server also
leaves the Raft group: with too few servers left, the datacenter stops taking
writes.

    $ landbridge leave`,
		setup: func(fs *flag.FlagSet) run {
			api := addAPI(fs)
			return func(c *call) error {
				cl, err := api.noArgs(c)
				if err != nil {
					return err
				}
				if err := cl.Put(c.ctx, "/v1/agent/leave", nil, nil, nil); err != nil {
					return failf("Error leaving: %w", err)
				}
				c.println("Graceful leave complete")
				return nil
			}
		},
	}
}
