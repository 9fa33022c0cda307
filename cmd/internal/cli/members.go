package cli

import (
	"cmp"
	"flag"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/go-bexpr"

	"landbridge/cmd/internal/client"
)

func membersCommand() *command {
	return &command{
		name:     "members",
		synopsis: "List the members of the cluster, or of the WAN",
		help: `
Lists the agents that the asked one knows of, with their status: alive, leaving,
left (they said so) or failed (they stopped answering). With -wan: the servers
of all joined datacenters, named NODE.DATACENTER; only servers know them.

Exits with 2 if no member matches.

Who is there:

    $ landbridge members

Who has failed, for a script:

    $ landbridge members -status=failed -format=json

All servers of all datacenters:

    $ landbridge members -wan`,
		setup: func(fs *flag.FlagSet) run { return membersSetup(fs, fs.Bool("wan", false, "List the WAN's servers.")) },
	}
}

func wanMembers() *command {
	return &command{
		name:     "wan members",
		synopsis: "List the servers of all joined datacenters",
		help: `
The same as "landbridge members -wan": the servers of all joined datacenters, as
the asked server knows them.

    $ landbridge wan members`,
		setup: func(fs *flag.FlagSet) run { wan := true; return membersSetup(fs, &wan) },
	}
}

func membersSetup(fs *flag.FlagSet, wan *bool) run {
	detailed := fs.Bool("detailed", false, "Show all tags of each member.")
	status := fs.String("status", ".*", "List only members whose status matches. `REGEX`")
	segment := fs.String("segment", "", "Accepted for compatibility. `NAME`")
	filter := fs.String("filter", "", "List only members for which the expression holds. `EXPR`")
	format := formatFlag(fs)
	api := addAPI(fs)
	return func(c *call) error {
		if err := c.atMost(0); err != nil {
			return err
		}
		re, err := regexp.Compile(*status)
		if err != nil {
			return failf("Failed to compile status regexp: %w", err)
		}
		cl, err := api.client(c)
		if err != nil {
			return err
		}
		q := url.Values{}
		if *wan {
			q.Set("wan", "1")
		}
		if *segment != "" {
			q.Set("segment", *segment)
		}
		var chosen *bexpr.Filter
		if *filter != "" {
			if chosen, err = bexpr.CreateFilter(*filter); err != nil {
				return failf("Failed to compile filter: %w", err)
			}
		}
		var all []client.Member
		if err := cl.Get(c.ctx, "/v1/agent/members", q, &all); err != nil {
			return failf("Error retrieving members: %w", err)
		}
		all = slices.DeleteFunc(all, func(m client.Member) bool { return !re.MatchString(statusText(m.Status)) })
		if chosen != nil { // here, since the endpoint takes no filter
			left, err := chosen.Execute(all)
			if err != nil {
				return failf("Failed to filter: %w", err)
			}
			all = left.([]client.Member)
		}
		if len(all) == 0 {
			return exit(2)
		}
		slices.SortFunc(all, func(a, b client.Member) int {
			return cmp.Or(cmp.Compare(memberType(a), memberType(b))*-1, cmp.Compare(a.Name, b.Name))
		})
		if *format == "json" {
			return c.printJSON(all)
		}
		c.printMembers(all, *detailed)
		return nil
	}
}

func (c *call) printMembers(all []client.Member, detailed bool) {
	rows := [][]string{{"Node", "Address", "Status", "Type", "Build", "Protocol", "DC", "Partition", "Segment"}}
	if detailed {
		rows = [][]string{{"Node", "Address", "Status", "Tags"}}
	}
	for _, m := range all {
		segment := m.Tags["segment"]
		if memberType(m) == "server" {
			segment = "<all>"
		} else if segment == "" {
			segment = "<default>"
		}
		row := []string{printable(m.Name), memberAddr(m), statusText(m.Status)}
		if detailed {
			tags := map[string]string{"ap": "default"}
			for k, v := range m.Tags {
				tags[k] = v
			}
			tags["segment"] = segment
			row = append(row, printable(strings.Join(sortedPairs(tags, "="), ",")))
		} else {
			build, _, _ := strings.Cut(m.Tags["build"], ":")
			row = append(row, memberType(m), printable(build), printable(m.Tags["vsn"]), printable(m.Tags["dc"]), "default", printable(segment))
		}
		rows = append(rows, row)
	}
	columns(c.Stdout, rows, func(row, col int, s string) string {
		if row == 0 || col != 2 {
			return s
		}
		return c.paint(map[string]string{"alive": green, "failed": red, "left": dim, "leaving": dim}[s], s)
	})
}

func statusText(status int) string {
	switch status {
	case 0:
		return "none"
	case 1:
		return "alive"
	case 2:
		return "leaving"
	case 3:
		return "left"
	case 4:
		return "failed"
	}
	return fmt.Sprintf("unknown status: %d", status)
}

// memberType reads the role that members announce; the words of the roles are
// part of the interface.
func memberType(m client.Member) string {
	switch m.Tags["role"] {
	case "consul":
		return "server"
	case "node":
		return "client"
	}
	return "unknown"
}

func memberAddr(m client.Member) string {
	if a, err := netip.ParseAddr(m.Addr); err == nil {
		return netip.AddrPortFrom(a, m.Port).String()
	}
	return fmt.Sprintf("%s:%d", printable(m.Addr), m.Port)
}

func sortedPairs(m map[string]string, sep string) []string {
	out := make([]string, 0, len(m))
	for k, v := range m {
		out = append(out, k+sep+v)
	}
	slices.Sort(out)
	return out
}
