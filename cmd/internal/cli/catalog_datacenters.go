package cli

import "flag"

func catalogDatacenters() *command {
	return &command{
		name:     "catalog datacenters",
		synopsis: "List the datacenters that are joined, nearest first",
		help: `
Lists the datacenters that the asked one knows, its own first, the others by
distance.

    $ landbridge catalog datacenters`,
		setup: func(fs *flag.FlagSet) run {
			format := formatFlag(fs)
			api := addAPI(fs)
			return func(c *call) error {
				cl, err := api.noArgs(c)
				if err != nil {
					return err
				}
				list := []string{}
				if err := cl.Get(c.ctx, "/v1/catalog/datacenters", nil, &list); err != nil {
					return failf("Error listing datacenters: %w", err)
				}
				if *format == "json" {
					return c.printJSON(list)
				}
				for _, dc := range list {
					c.println(printable(dc))
				}
				return nil
			}
		},
	}
}
