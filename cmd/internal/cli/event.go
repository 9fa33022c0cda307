package cli

import (
	"flag"

	"landbridge/cmd/internal/client"
)

func eventCommand() *command {
	return &command{
		name:     "event",
		args:     "[PAYLOAD]",
		synopsis: "Send an event to agents of a datacenter",
		help: `
Sends an event to the agents of the datacenter by gossip: within a second or two
each running agent has it, best effort, and remembers the newest 256. Name, filters
and payload together have room for about 450 bytes.

    $ landbridge event -name=deploy 1.4.2
    Event ID: 0e3b2c1a-...

Only agents whose name matches a regular expression, or that run a service with a
matching name (and tag):

    $ landbridge event -name=deploy -node='^web' 1.4.2
    $ landbridge event -name=deploy -service=web -tag=blue -datacenter=dc2 1.4.2

See what an agent got with /v1/event/list.`,
		setup: func(fs *flag.FlagSet) run {
			name := fs.String("name", "", "Name of the event. `NAME`")
			node := fs.String("node", "", "Only agents whose name matches. `REGEXP`")
			service := fs.String("service", "", "Only agents with a service whose name matches. `REGEXP`")
			tag := fs.String("tag", "", "With -service: only where a tag of it matches. `REGEXP`")
			api := addAPI(fs)
			return func(c *call) error {
				if *name == "" {
					return usagef("Event name must be specified")
				}
				if err := c.atMost(1); err != nil {
					return err
				}
				if *tag != "" && *service == "" {
					return failf("Cannot provide tag filter without service filter.")
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				var payload []byte
				if len(c.args) == 1 {
					payload = []byte(c.args[0])
				}
				var fired struct{ ID string }
				q := queryOf("node", *node, "service", *service, "tag", *tag)
				if err := cl.Put(c.ctx, client.Path("v1", "event", "fire", *name), q, payload, &fired); err != nil {
					return failf("Error firing event: %w", err)
				}
				c.println("Event ID: " + fired.ID)
				return nil
			}
		},
	}
}
