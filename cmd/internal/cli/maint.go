package cli

import (
	"flag"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"landbridge/cmd/internal/client"
)

func maintCommand() *command {
	return &command{
		name:     "maint",
		synopsis: "Take a node or a service out of use for a while",
		help: `
Puts the asked agent's node, or one of its services, into maintenance: a critical
check is added, so that DNS and health queries leave it out, until maintenance is
disabled again, restarts included. Without -enable or -disable it lists what is in
maintenance.

    $ landbridge maint -enable -reason='kernel update'
    $ landbridge maint -enable -service=web -reason='moving its data'
    $ landbridge maint
    $ landbridge maint -disable -service=web`,
		setup: func(fs *flag.FlagSet) run {
			enable := fs.Bool("enable", false, "Begin maintenance.")
			disable := fs.Bool("disable", false, "End maintenance.")
			reason := fs.String("reason", "", "Why, for those who look at the check. `TEXT`")
			service := fs.String("service", "", "ID of the service (default: the whole node). `ID`")
			api := addAPI(fs)
			return func(c *call) error {
				switch {
				case *enable && *disable:
					return usagef("Only one of -enable or -disable may be provided")
				case *reason != "" && !*enable:
					return usagef("Reason may only be provided with -enable")
				case *service != "" && !*enable && !*disable:
					return usagef("-service needs -enable or -disable")
				}
				cl, err := api.noArgs(c)
				if err != nil {
					return err
				}
				if !*enable && !*disable {
					return c.listMaintenance(cl)
				}
				return c.setMaintenance(cl, *service, *enable, *reason)
			}
		},
	}
}

func (c *call) setMaintenance(cl *client.Client, service string, on bool, reason string) error {
	q := url.Values{"enable": {strconv.FormatBool(on)}}
	if reason != "" {
		q.Set("reason", reason)
	}
	path, doing, now := "/v1/agent/maintenance", "enabling", "enabled"
	if !on {
		doing, now = "disabling", "disabled"
	}
	what := "node"
	if service != "" {
		path, what = client.Path("v1", "agent", "service", "maintenance", service), "service"
	}
	if err := cl.Put(c.ctx, path, q, nil, nil); err != nil {
		return failf("Error %s %s maintenance: %w", doing, what, err)
	}
	if service != "" {
		c.printf("Service maintenance is now %s for %q\n", now, service)
		return nil
	}
	c.printf("Node maintenance is now %s\n", now)
	return nil
}

// Checks of maintenance have these IDs.
const (
	nodeMaintenance    = "_node_maintenance"
	serviceMaintenance = "_service_maintenance:"
)

func (c *call) listMaintenance(cl *client.Client) error {
	var checks map[string]struct {
		Node, CheckID, Notes, ServiceID string
	}
	if err := cl.Get(c.ctx, "/v1/agent/checks", nil, &checks); err != nil {
		return failf("Error getting checks: %w", err)
	}
	var ids []string
	for id := range checks {
		if id == nodeMaintenance || strings.HasPrefix(id, serviceMaintenance) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids) // the node comes first
	for i, id := range ids {
		check := checks[id]
		if i > 0 {
			c.println()
		}
		if id == nodeMaintenance {
			c.printf("Node:\n  Name:   %s\n", printable(check.Node))
		} else {
			c.printf("Service:\n  ID:     %s\n", printable(strings.TrimPrefix(id, serviceMaintenance)))
		}
		c.printf("  Reason: %s\n", printable(check.Notes))
	}
	return nil
}
