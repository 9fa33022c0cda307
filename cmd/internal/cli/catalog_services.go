package cli

import (
	"flag"
	"maps"
	"slices"
	"strings"

	"landbridge/cmd/internal/client"
)

func catalogServices() *command {
	return &command{
		name:     "catalog services",
		synopsis: "List the services of a datacenter",
		help: `
Lists the names of the services in the catalog.

    $ landbridge catalog services
    $ landbridge catalog services -tags -datacenter=dc2
    $ landbridge catalog services -node=web-17`,
		setup: func(fs *flag.FlagSet) run {
			node := fs.String("node", "", "List only services of this node, by name or ID. `NODE`")
			meta := pairs{}
			fs.Var(&meta, "node-meta", "List only services of nodes with this metadata; may be repeated. `KEY=VALUE`")
			tags := fs.Bool("tags", false, "Show the services' tags.")
			format := formatFlag(fs)
			api := addAPI(fs)
			return func(c *call) error {
				if err := c.atMost(0); err != nil {
					return err
				}
				if *node != "" && len(meta) > 0 {
					return failf("Error: -node names one node, so -node-meta has nothing to choose from")
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				services := map[string][]string{}
				if *node != "" {
					services, err = servicesOf(c, cl, *node)
				} else {
					q := queryOf()
					for k, v := range meta {
						q.Add("node-meta", k+":"+v)
					}
					err = cl.Get(c.ctx, "/v1/catalog/services", q, &services)
				}
				if err != nil {
					return failf("Error listing services: %w", err)
				}
				if *format == "json" {
					return c.printJSON(services)
				}
				if len(services) == 0 {
					c.println("No services match the given query - try expanding your search.")
					return nil
				}
				var rows [][]string
				for _, name := range slices.Sorted(maps.Keys(services)) {
					row := []string{printable(name)}
					if *tags {
						list := slices.Sorted(slices.Values(services[name]))
						row = append(row, printable(strings.Join(list, ",")))
					}
					rows = append(rows, row)
				}
				columns(c.Stdout, rows, nil)
				return nil
			}
		},
	}
}

// servicesOf lists a node's services with the tags of all their instances.
func servicesOf(c *call, cl *client.Client, node string) (map[string][]string, error) {
	var n client.CatalogNode
	if err := cl.Get(c.ctx, client.Path("v1", "catalog", "node", node), nil, &n); err != nil {
		return nil, err
	}
	out := map[string][]string{}
	for _, s := range n.Services {
		tags := out[s.Service]
		for _, tag := range s.Tags {
			if !slices.Contains(tags, tag) {
				tags = append(tags, tag)
			}
		}
		out[s.Service] = tags
	}
	return out, nil
}
