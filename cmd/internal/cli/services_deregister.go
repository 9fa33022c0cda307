package cli

import (
	"cmp"
	"flag"

	"landbridge/cmd/internal/client"
)

func servicesDeregister() *command {
	return &command{
		name:     "services deregister",
		args:     "[FILE...]",
		synopsis: "Deregister services from an agent",
		help: `
Takes a service off the asked agent, with its checks: by its ID, or all that
definition files hold.

    $ landbridge services deregister -id=web
    $ landbridge services deregister web.hcl`,
		setup: func(fs *flag.FlagSet) run {
			id := fs.String("id", "", "ID of the service. `ID`")
			api := addAPI(fs)
			return func(c *call) error {
				ids := []string{*id}
				switch {
				case len(c.args) > 0 && *id != "":
					return failf("Services are named by -id or by files, not both")
				case len(c.args) > 0:
					list, err := servicesIn(c.args)
					if err != nil {
						return err
					}
					ids = nil
					for _, s := range list {
						ids = append(ids, cmp.Or(s.ID, s.Name))
					}
				case *id == "":
					return failf("Service deregistration requires at least one argument or -id.")
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				for _, id := range ids {
					if err := cl.Put(c.ctx, client.Path("v1", "agent", "service", "deregister", id), nil, nil, nil); err != nil {
						return failf("Error deregistering service %q: %w", id, err)
					}
					c.printf("Deregistered service: %s\n", id)
				}
				return nil
			}
		},
	}
}
