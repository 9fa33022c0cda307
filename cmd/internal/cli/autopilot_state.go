package cli

import (
	"encoding/json"
	"flag"
	"maps"
	"slices"

	"landbridge/cmd/internal/client"
)

func autopilotState() *command {
	return &command{
		name:     "operator autopilot state",
		synopsis: "Show what autopilot thinks of the servers",
		help: `
Shows which servers are healthy, who votes, and how many may fail before the
datacenter can write no more. Autopilot looks every two seconds.

    $ landbridge operator autopilot state
    $ landbridge operator autopilot state -format=json`,
		setup: func(fs *flag.FlagSet) run {
			format := formatFlag(fs)
			api := addAPI(fs)
			return func(c *call) error {
				cl, err := api.noArgs(c)
				if err != nil {
					return err
				}
				var raw json.RawMessage
				if err := cl.Get(c.ctx, "/v1/operator/autopilot/state", nil, &raw); err != nil {
					return failf("Error getting autopilot state: Failed to retrieve autopilot state: %w", err)
				}
				if *format == "json" {
					return c.printJSON(raw)
				}
				var st client.AutopilotState
				if err := json.Unmarshal(raw, &st); err != nil {
					return failf("Error getting autopilot state: %w", err)
				}
				c.printAutopilot(&st)
				return nil
			}
		},
	}
}

func (c *call) printAutopilot(st *client.AutopilotState) {
	c.printf("Healthy:                      %v\nFailure Tolerance:            %d\nOptimistic Failure Tolerance: %d\nLeader:                       %s\nVoters:\n",
		st.Healthy, st.FailureTolerance, st.OptimisticFailureTolerance, printable(st.Leader))
	for _, id := range st.Voters {
		c.printf("   %s\n", printable(id))
	}
	c.println("Servers:")
	for _, id := range slices.Sorted(maps.Keys(st.Servers)) {
		s := st.Servers[id]
		c.printf("   %s\n      Name:            %s\n      Address:         %s\n      Version:         %s\n", printable(id), printable(s.Name), printable(s.Address), printable(s.Version))
		c.printf("      Status:          %s\n      Node Type:       %s\n      Node Status:     %s\n", printable(s.Status), printable(s.NodeType), printable(s.NodeStatus))
		c.printf("      Healthy:         %v\n      Last Contact:    %s\n      Last Term:       %d\n      Last Index:      %d\n", s.Healthy, printable(s.LastContact), s.LastTerm, s.LastIndex)
		if len(s.Meta) > 0 {
			c.println("      Meta")
			for _, k := range slices.Sorted(maps.Keys(s.Meta)) {
				c.printf("         %q: %q\n", k, s.Meta[k])
			}
		}
	}
}
