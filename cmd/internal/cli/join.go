package cli

import (
	"flag"
	"fmt"
	"io"
	"net/url"
	"strings"

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
		args:     "ADDR... | TOKEN",
		synopsis: "Join another datacenter",
		help: `
Tells a server to join the datacenter of the servers at the given addresses.
Asked once, on one server: all servers of both datacenters find each other, and
of all datacenters that are joined already. ADDR is a host, or a host and the
UDP port its servers use between datacenters (8302 by default).

Joining needs proof, in one of three ways. Two datacenters that share the gossip
key ("encrypt" in the configuration; "landbridge keygen" makes one) need nothing
else. Otherwise a token, which "landbridge wan token" makes in the federation to
join, stands in place of the address; "-" reads it from the standard input.
Where servers have certificates of an operator's authority (tls.internal_rpc),
those are the proof.

    $ landbridge wan join 10.9.1.10
    $ landbridge wan join lbjoin-CAESDGE0...
    $ landbridge wan members
    $ landbridge kv get -datacenter=dc2 greeting`,
		setup: func(fs *flag.FlagSet) run { wan := true; return joinSetup(fs, &wan) },
	}
}

// tokenPrefix begins the tokens of "wan token".
const tokenPrefix = "lbjoin-"

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
			if *wan && addr == "-" {
				text, err := io.ReadAll(io.LimitReader(c.Stdin, 16<<10))
				if err != nil {
					return failf("Error reading the token: %w", err)
				}
				addr = strings.TrimSpace(string(text))
			}
			if *wan && strings.HasPrefix(addr, tokenPrefix) {
				// A secret: it stays out of paths, logs and messages.
				err, addr = cl.Put(c.ctx, "/v1/internal/federation/join", nil, map[string]string{"Token": addr}, nil), "by token"
			} else {
				err = cl.Put(c.ctx, client.Path("v1", "agent", "join", addr), q, nil, nil)
			}
			if err != nil {
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
