package cli

import (
	"flag"
	"maps"
	"slices"
)

func infoCommand() *command {
	return &command{
		name:     "info",
		synopsis: "Show an agent's figures",
		help: `
Shows what an agent tells about itself: Raft, gossip, its version and the
process, for a look by eye. Monitoring reads /v1/agent/metrics instead.

    $ landbridge info`,
		setup: func(fs *flag.FlagSet) run {
			format := formatFlag(fs)
			api := addAPI(fs)
			return func(c *call) error {
				cl, err := api.noArgs(c)
				if err != nil {
					return err
				}
				var self struct {
					Stats map[string]map[string]string
				}
				if err := cl.Get(c.ctx, "/v1/agent/self", nil, &self); err != nil {
					return failf("Error querying agent: %w", err)
				}
				if *format == "json" {
					return c.printJSON(self.Stats)
				}
				for _, section := range slices.Sorted(maps.Keys(self.Stats)) {
					c.printf("%s:\n", printable(section))
					for _, k := range slices.Sorted(maps.Keys(self.Stats[section])) {
						c.printf("\t%s = %s\n", printable(k), printable(self.Stats[section][k]))
					}
				}
				return nil
			}
		},
	}
}
