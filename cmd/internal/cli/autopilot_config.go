package cli

import (
	"errors"
	"flag"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"landbridge/cmd/internal/client"
)

const autopilotPath = "/v1/operator/autopilot/configuration"

func autopilotGetConfig() *command {
	return &command{
		name:     "operator autopilot get-config",
		synopsis: "Show how autopilot treats the servers",
		help: `
Shows by which rules autopilot removes dead servers and gives new ones a vote.

    $ landbridge operator autopilot get-config`,
		setup: func(fs *flag.FlagSet) run {
			format := formatFlag(fs)
			api := addAPI(fs)
			return func(c *call) error {
				cl, err := api.noArgs(c)
				if err != nil {
					return err
				}
				var conf client.AutopilotConfig
				if err := cl.Get(c.ctx, autopilotPath, nil, &conf); err != nil {
					return failf("Error querying Autopilot configuration: %w", err)
				}
				if *format == "json" {
					return c.printJSON(conf)
				}
				c.printf("CleanupDeadServers = %v\nLastContactThreshold = %s\nMaxTrailingLogs = %d\nMinQuorum = %d\nServerStabilizationTime = %s\n",
					conf.CleanupDeadServers, printable(conf.LastContactThreshold), conf.MaxTrailingLogs, conf.MinQuorum, printable(conf.ServerStabilizationTime))
				c.printf("RedundancyZoneTag = %q\nDisableUpgradeMigration = %v\nUpgradeVersionTag = %q\n",
					conf.RedundancyZoneTag, conf.DisableUpgradeMigration, conf.UpgradeVersionTag)
				return nil
			}
		},
	}
}

// errNoZones refuses what only the reference's other edition does.
var errNoZones = errors.New("landbridge has neither redundancy zones nor upgrade migration; leave it out")

func autopilotSetConfig() *command {
	return &command{
		name:     "operator autopilot set-config",
		synopsis: "Change how autopilot treats the servers",
		help: `
Changes the rules by which autopilot removes dead servers and gives new ones a
vote; what is not named stays. They hold for all servers of the datacenter. What
configuration files say counts only until a datacenter has its first leader.

    $ landbridge operator autopilot set-config -min-quorum=3
    $ landbridge operator autopilot set-config -cleanup-dead-servers=false
    $ landbridge operator autopilot set-config -server-stabilization-time=30s`,
		setup: func(fs *flag.FlagSet) run {
			var edits []func(*client.AutopilotConfig)
			change := func(edit func(*client.AutopilotConfig)) error {
				edits = append(edits, edit)
				return nil
			}
			number := func(s string, set func(*client.AutopilotConfig, uint64)) error {
				n, err := strconv.ParseUint(s, 10, 32)
				if err != nil {
					return errors.New("must be a number")
				}
				return change(func(a *client.AutopilotConfig) { set(a, n) })
			}
			span := func(s string, set func(*client.AutopilotConfig, string)) error {
				d, err := time.ParseDuration(s)
				if err != nil || d < 0 {
					return errors.New("must be a duration such as 200ms")
				}
				return change(func(a *client.AutopilotConfig) { set(a, d.String()) })
			}
			fs.BoolFunc("cleanup-dead-servers", "Remove servers that died, once there is a replacement: true or false.", func(s string) error {
				on, err := strconv.ParseBool(s)
				if err != nil {
					return errors.New("must be true or false")
				}
				return change(func(a *client.AutopilotConfig) { a.CleanupDeadServers = on })
			})
			fs.Func("last-contact-threshold", "A server that heard nothing of the leader for longer is not healthy. `DURATION`", func(s string) error {
				return span(s, func(a *client.AutopilotConfig, d string) { a.LastContactThreshold = d })
			})
			fs.Func("max-trailing-logs", "A server whose log is more entries behind the leader's is not healthy. `NUMBER`", func(s string) error {
				return number(s, func(a *client.AutopilotConfig, n uint64) { a.MaxTrailingLogs = n })
			})
			fs.Func("min-quorum", "Remove no dead server if fewer than so many would stay. `NUMBER`", func(s string) error {
				return number(s, func(a *client.AutopilotConfig, n uint64) { a.MinQuorum = uint(n) })
			})
			fs.Func("server-stabilization-time", "How long a new server must be healthy before it gets a vote. `DURATION`", func(s string) error {
				return span(s, func(a *client.AutopilotConfig, d string) { a.ServerStabilizationTime = d })
			})
			for _, name := range []string{"redundancy-zone-tag", "upgrade-version-tag"} {
				fs.Func(name, "Accepted for compatibility; only empty. `TAG`", func(s string) error {
					if s != "" {
						return errNoZones
					}
					return nil
				})
			}
			fs.BoolFunc("disable-upgrade-migration", "Accepted for compatibility; only false.", func(s string) error {
				if on, err := strconv.ParseBool(s); err != nil || on {
					return errNoZones
				}
				return nil
			})
			api := addAPI(fs)
			return func(c *call) error {
				cl, err := api.noArgs(c)
				if err != nil {
					return err
				}
				// Read, change and write back if it is still the same: nobody's change
				// from the moment between is lost.
				var conf client.AutopilotConfig
				if err := cl.Get(c.ctx, autopilotPath, nil, &conf); err != nil {
					return failf("Error querying Autopilot configuration: %w", err)
				}
				for _, edit := range edits {
					edit(&conf)
				}
				var ok bool
				if err := cl.Put(c.ctx, autopilotPath, url.Values{"cas": {fmt.Sprint(conf.ModifyIndex)}}, conf, &ok); err != nil {
					return failf("Error setting Autopilot configuration: %w", err)
				}
				if !ok {
					return failf("Autopilot configuration could not be atomically updated, please try again")
				}
				c.println("Configuration updated!")
				return nil
			}
		},
	}
}
