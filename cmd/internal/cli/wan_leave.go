package cli

import "flag"

func wanLeave() *command {
	return &command{
		name:     "wan leave",
		synopsis: "Take this datacenter out of the federation",
		help: `
All servers of the asked agent's datacenter say good-bye to the other datacenters
and go on by themselves: services, keys and sessions here are not touched. Within
a minute the others do not list the datacenter any more, and requests for it are
answered with "No path to datacenter".

It stays out, over restarts too and whatever retry_join_wan says, until it is
joined again:

    $ landbridge wan leave
    $ landbridge wan join 10.9.1.10

The primary datacenter holds the root of the federation and can only leave when it
is alone. A single server leaves everything with "landbridge leave"; one that is
gone for good is removed with "landbridge wan force-leave".`,
		setup: func(fs *flag.FlagSet) run {
			api := addAPI(fs)
			return func(c *call) error {
				cl, err := api.noArgs(c)
				if err != nil {
					return err
				}
				if err := cl.Put(c.ctx, "/v1/internal/federation/leave", nil, nil, nil); err != nil {
					return failf("Error leaving the federation: %w", err)
				}
				c.println("This datacenter left the federation")
				return nil
			}
		},
	}
}
