package cli

import (
	"flag"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strconv"

	"landbridge/cmd/internal/client"
)

func usageInstances() *command {
	return &command{
		name:     "operator usage instances",
		synopsis: "Count the services of a datacenter, or of all",
		help: `
Counts services, their instances and nodes. Billable is a word of the interface: it
means the instances of services proper, without proxies, gateways and the servers
themselves.

    $ landbridge operator usage instances
    $ landbridge operator usage instances -all-datacenters
    $ landbridge operator usage instances -billable -datacenter=dc2`,
		setup: func(fs *flag.FlagSet) run {
			all := fs.Bool("all-datacenters", false, "Count in all datacenters.")
			billable := fs.Bool("billable", false, "Show services proper only.")
			connect := fs.Bool("connect", false, "Show proxies and gateways only.")
			api := addAPI(fs)
			return func(c *call) error {
				if err := c.atMost(0); err != nil {
					return err
				}
				if *billable && *connect {
					return failf("Cannot specify both -billable and -connect flags")
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				q := url.Values{}
				if *all {
					q.Set("global", "")
				}
				var out struct{ Usage map[string]client.Usage }
				if err := cl.Get(c.ctx, "/v1/operator/usage", q, &out); err != nil {
					return failf("Error fetching usage information: %w", err)
				}
				u := usageTables{out.Usage, slices.Sorted(maps.Keys(out.Usage)), *all}
				if !*connect {
					u.billable(c.Stdout)
				}
				if !*billable && !*connect {
					fmt.Fprintln(c.Stdout)
					u.nodes(c.Stdout)
				}
				if !*billable {
					if !*connect {
						fmt.Fprintln(c.Stdout)
					}
					u.connect(c.Stdout)
				}
				return nil
			}
		},
	}
}

// usageTables prints usage in the layout that scripts know.
type usageTables struct {
	usage map[string]client.Usage
	dcs   []string
	all   bool
}

func usageTable(w io.Writer, title string, rows [][]string) {
	for _, row := range rows {
		for i := range row {
			row[i] = printable(row[i])
		}
	}
	fmt.Fprintln(w, title)
	spaced(w, 6, rows, nil)
}

func (u *usageTables) billable(w io.Writer) {
	total, services := 0, 0
	for _, dc := range u.dcs {
		total += u.usage[dc].BillableServiceInstances
	}
	fmt.Fprintf(w, "Billable Service Instances Total: %d\n", total)
	for _, dc := range u.dcs {
		fmt.Fprintf(w, "%s Billable Service Instances: %d\n", printable(dc), u.usage[dc].BillableServiceInstances)
	}
	fmt.Fprintln(w)
	rows := [][]string{{"Services", "Service instances"}}
	if u.all {
		rows[0] = append([]string{"Datacenter"}, rows[0]...)
	}
	for _, dc := range u.dcs {
		s := u.usage[dc]
		row := []string{strconv.Itoa(s.Services), strconv.Itoa(s.BillableServiceInstances)}
		if u.all {
			row = append([]string{dc}, row...)
		}
		rows, services = append(rows, row), services+s.Services
	}
	if u.all {
		rows = append(rows, nil, []string{"Total", strconv.Itoa(services), strconv.Itoa(total)})
	}
	usageTable(w, "Billable Services", rows)
}

func (u *usageTables) nodes(w io.Writer) {
	total := 0
	rows := [][]string{{"Datacenter", "Count"}}
	for _, dc := range u.dcs {
		rows, total = append(rows, []string{dc, strconv.Itoa(u.usage[dc].Nodes)}), total+u.usage[dc].Nodes
	}
	usageTable(w, "Nodes", append(rows, nil, []string{"Total", strconv.Itoa(total)}))
}

func (u *usageTables) connect(w io.Writer) {
	total := 0
	rows := [][]string{{"Type", "Service instances"}}
	if u.all {
		rows[0] = append([]string{"Datacenter"}, rows[0]...)
	}
	for _, dc := range u.dcs {
		kinds := u.usage[dc].ConnectServiceInstances
		for _, kind := range slices.Sorted(maps.Keys(kinds)) {
			row := []string{kind, strconv.Itoa(kinds[kind])}
			if u.all {
				row = append([]string{dc}, row...)
			}
			rows, total = append(rows, row), total+kinds[kind]
		}
	}
	if u.all {
		rows = append(rows, nil, []string{"Total", "", strconv.Itoa(total)})
	}
	usageTable(w, "Connect Services", rows)
}
