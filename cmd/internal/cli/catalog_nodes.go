package cli

import (
	"cmp"
	"flag"
	"net/url"
	"slices"
	"strings"

	"landbridge/cmd/internal/client"
)

func catalogNodes() *command {
	return &command{
		name:     "catalog nodes",
		synopsis: "List the nodes of a datacenter",
		help: `
Lists the nodes in the catalog: the members of the cluster, and what was
registered by hand.

    $ landbridge catalog nodes
    $ landbridge catalog nodes -datacenter=dc2 -detailed

Nodes that run a service, or that match an expression:

    $ landbridge catalog nodes -service=web
    $ landbridge catalog nodes -filter='Meta.rack == "r1"'`,
		setup: func(fs *flag.FlagSet) run {
			detailed := fs.Bool("detailed", false, "Show whole IDs, tagged addresses and metadata.")
			filter := fs.String("filter", "", "List only nodes for which the expression holds. `EXPR`")
			near := fs.String("near", "", "Sort by distance from this node; _agent is the asked one. `NODE`")
			meta := pairs{}
			fs.Var(&meta, "node-meta", "List only nodes with this metadata; may be repeated. `KEY=VALUE`")
			service := fs.String("service", "", "List only nodes that run this service. `NAME`")
			format := formatFlag(fs)
			api := addAPI(fs)
			return func(c *call) error {
				cl, err := api.noArgs(c)
				if err != nil {
					return err
				}
				q := queryOf("filter", *filter, "near", *near)
				for k, v := range meta {
					q.Add("node-meta", k+":"+v)
				}
				nodes := []client.Node{}
				if *service != "" {
					nodes, err = nodesOf(c, cl, *service, q)
				} else {
					err = cl.Get(c.ctx, "/v1/catalog/nodes", q, &nodes)
				}
				if err != nil {
					return failf("Error listing nodes: %w", err)
				}
				if *format == "json" {
					return c.printJSON(nodes)
				}
				if len(nodes) == 0 {
					c.println("No nodes match the given query - try expanding your search.")
					return nil
				}
				printNodes(c, nodes, *detailed)
				return nil
			}
		},
	}
}

// nodesOf lists the nodes that run a service, each once.
func nodesOf(c *call, cl *client.Client, service string, q url.Values) ([]client.Node, error) {
	nodes := []client.Node{}
	if err := cl.Get(c.ctx, client.Path("v1", "catalog", "service", service), q, &nodes); err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	nodes = slices.DeleteFunc(nodes, func(n client.Node) bool {
		again := seen[n.Node]
		seen[n.Node] = true
		return again
	})
	for i := range nodes {
		nodes[i].Meta, nodes[i].NodeMeta = nodes[i].NodeMeta, nil
	}
	if q.Get("near") == "" {
		slices.SortFunc(nodes, func(a, b client.Node) int { return cmp.Compare(a.Node, b.Node) })
	}
	return nodes, nil
}

func printNodes(c *call, nodes []client.Node, detailed bool) {
	rows := [][]string{{"Node", "ID", "Address", "DC"}}
	if detailed {
		rows[0] = append(rows[0], "TaggedAddresses", "Meta")
	}
	for _, n := range nodes {
		id := n.ID
		if !detailed && len(id) > 8 {
			id = id[:8]
		}
		row := []string{n.Node, id, n.Address, n.Datacenter}
		if detailed {
			row = append(row, strings.Join(sortedPairs(n.TaggedAddresses, "="), ", "), strings.Join(sortedPairs(n.Meta, "="), ", "))
		}
		for i := range row {
			row[i] = printable(row[i])
		}
		rows = append(rows, row)
	}
	columns(c.Stdout, rows, nil)
}

// queryOf makes a query of the values that are not empty.
func queryOf(namesAndValues ...string) url.Values {
	q := url.Values{}
	for i := 0; i < len(namesAndValues); i += 2 {
		if v := namesAndValues[i+1]; v != "" {
			q.Set(namesAndValues[i], v)
		}
	}
	return q
}
