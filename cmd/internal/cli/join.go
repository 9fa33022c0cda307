package cli

import (
	"flag"
	"fmt"
	"net/url"

	"landbridge/cmd/internal/client"
)

func joinCommand() *command {
	return &command{
		name:     "join",
		args:     "ADDR...",
		synopsis: "Make an agent join a cluster",
		help: `
Tells the agent to join the cluster of the agents at the given addresses: any
one that answers is enough. ADDR is a host, or a host and its gossip port.

With -wan, a server joins the servers of another datacenter instead, and brings
its own datacenter with it ("landbridge wan join" is the same).

    $ landbridge join 10.0.1.10
    $ landbridge join -wan 10.9.1.10:8302`,
		setup: func(fs *flag.FlagSet) run {
			return joinSetup(fs, fs.Bool("wan", false, "Join another datacenter's servers, over the WAN."))
		},
	}
}

func wanJoin() *command {
	return &command{
		name:     "wan join",
		args:     "ADDR...",
		synopsis: "Join another datacenter",
		help: `
Tells a server to join the datacenter of the servers at the given addresses.
Asked once, on one server: all servers of both datacenters find each other, and
of all datacenters that are joined already. ADDR is a host, or a host and the
UDP port its servers use between datacenters (8302 by default).

Joining needs proof. Two datacenters that share the gossip key ("encrypt" in the
configuration; "landbridge keygen" makes one) need nothing else.

    $ landbridge wan join 10.9.1.10
    $ landbridge wan members
    $ landbridge kv get -datacenter=dc2 greeting`,
		setup: func(fs *flag.FlagSet) run { wan := true; return joinSetup(fs, &wan) },
	}
}

func joinSetup(fs *flag.FlagSet, wan *bool) run {
	api := addAPI(fs)
	return func(c *call) error {
		if len(c.args) == 0 {
			return usagef("At least one address to join must be specified.")
		}
		cl, err := api.client(c)
		if err != nil {
			return err
		}
		q := url.Values{}
		if *wan {
			q.Set("wan", "1")
		}
		joined := 0
		for _, addr := range c.args {
			if err := cl.Put(c.ctx, client.Path("v1", "agent", "join", addr), q, nil, nil); err != nil {
				fmt.Fprintf(c.Stderr, "Error joining address '%s': %s\n", addr, err)
				continue
			}
			joined++
		}
		if joined == 0 {
			return failf("Failed to join any nodes.")
		}
		c.printf("Successfully joined cluster by contacting %d nodes.\n", joined)
		return nil
	}
}
