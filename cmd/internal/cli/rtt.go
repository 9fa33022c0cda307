package cli

import (
	"flag"
	"strings"
	"time"

	"landbridge/cmd/internal/client"
	"landbridge/store"
)

func rttCommand() *command {
	return &command{
		name:     "rtt",
		args:     "NODE1 [NODE2]",
		synopsis: "Estimate the round trip between two nodes",
		help: `
Estimates the network round trip between two nodes from their coordinates, which
agents keep up to date with the gossip they exchange anyway: nothing is measured
now. Without NODE2 it is the agent that is asked.

    $ landbridge rtt web-1 db-1
    Estimated web-1 <-> db-1 rtt: 0.697 ms (using LAN coordinates)

With -wan it is servers, and each is named with its datacenter. Coordinates of
two datacenters are comparable in the WAN only.

    $ landbridge rtt -wan s1.dc1 s2.dc2

A new node has a coordinate after about 20 seconds, and a good one after some
minutes.`,
		setup: func(fs *flag.FlagSet) run {
			wan := fs.Bool("wan", false, "Names are servers of the WAN, as NODE.DATACENTER.")
			api := addAPI(fs)
			return func(c *call) error {
				if len(c.args) < 1 || len(c.args) > 2 {
					return usagef("One or two node names must be specified")
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				names := c.args
				if len(names) == 1 {
					var self struct {
						Config struct{ Datacenter, NodeName string }
					}
					if err := cl.Get(c.ctx, "/v1/agent/self", nil, &self); err != nil {
						return failf("Unable to look up local node name: %w", err)
					}
					own := self.Config.NodeName
					if *wan {
						own += "." + self.Config.Datacenter
					}
					names = append(names, own)
				}
				source, look := "LAN", lanCoordinate
				if *wan {
					source, look = "WAN", wanCoordinate
				}
				var at [2]*store.Coord
				for i, name := range names {
					if at[i], err = look(c, cl, name); err != nil {
						return err
					}
				}
				ms := float64(at[0].Distance(at[1])) / float64(time.Millisecond)
				c.printf("Estimated %s <-> %s rtt: %.3f ms (using %s coordinates)\n", names[0], names[1], ms, source)
				return nil
			}
		},
	}
}

// place is an element of an answer of /v1/coordinate.
type place struct {
	Node  string
	Coord store.Coord
}

func lanCoordinate(c *call, cl *client.Client, name string) (*store.Coord, error) {
	var list []place
	err := cl.Get(c.ctx, client.Path("v1", "coordinate", "node", name), nil, &list)
	if err != nil && !client.NotFound(err) {
		return nil, failf("Error getting coordinates: %w", err)
	}
	return findCoordinate(list, name, name)
}

func wanCoordinate(c *call, cl *client.Client, name string) (*store.Coord, error) {
	dot := strings.LastIndexByte(name, '.')
	if dot <= 0 || dot == len(name)-1 {
		return nil, usagef("Node names must be specified as NODE.DATACENTER with -wan, %q is not", name)
	}
	var list []struct {
		Datacenter  string
		Coordinates []place
	}
	if err := cl.Get(c.ctx, "/v1/coordinate/datacenters", nil, &list); err != nil {
		return nil, failf("Error getting coordinates: %w", err)
	}
	for _, dc := range list {
		if dc.Datacenter == name[dot+1:] {
			return findCoordinate(dc.Coordinates, name[:dot], name)
		}
	}
	return findCoordinate(nil, "", name)
}

func findCoordinate(list []place, node, name string) (*store.Coord, error) {
	for i := range list {
		if strings.EqualFold(list[i].Node, node) && list[i].Coord.Valid() {
			return &list[i].Coord, nil
		}
	}
	return nil, failf("Could not find a coordinate for node %q", name)
}
