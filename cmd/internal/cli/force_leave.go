package cli

import (
	"flag"
	"net/url"

	"landbridge/cmd/internal/client"
)

func forceLeave() *command {
	return &command{
		name:     "force-leave",
		args:     "NODE",
		synopsis: "Count a failed member as left",
		help: `
Moves a member that has failed for good to the state "left", so that nobody
waits for it and its node leaves the catalog now rather than in three days. A
member that still lives will come back by itself.

    $ landbridge force-leave web-17

With -prune it also vanishes from the list of members at once.`,
		setup: func(fs *flag.FlagSet) run {
			return forceLeaveSetup(fs, fs.Bool("wan", false, "The member is one of the WAN: NODE.DATACENTER."))
		},
	}
}

func wanForceLeave() *command {
	return &command{
		name:     "wan force-leave",
		args:     "NODE.DATACENTER",
		synopsis: "Count a failed server of the WAN as left",
		help: `
The same as "landbridge force-leave -wan": moves a server of a joined datacenter
that has failed for good to the state "left".

    $ landbridge wan force-leave s3.dc2`,
		setup: func(fs *flag.FlagSet) run { wan := true; return forceLeaveSetup(fs, &wan) },
	}
}

func forceLeaveSetup(fs *flag.FlagSet, wan *bool) run {
	prune := fs.Bool("prune", false, "Take the member off the list at once.")
	api := addAPI(fs)
	return func(c *call) error {
		if len(c.args) != 1 {
			return usagef("A single node name must be specified to force leave.")
		}
		cl, err := api.client(c)
		if err != nil {
			return err
		}
		q := url.Values{}
		if *prune {
			q.Set("prune", "1")
		}
		if *wan {
			q.Set("wan", "1")
		}
		if err := cl.Put(c.ctx, client.Path("v1", "agent", "force-leave", c.args[0]), q, nil, nil); err != nil {
			return failf("Error force leaving: %w", err)
		}
		return nil
	}
}
