package cli

import (
	"flag"
	"strings"
)

func wanEvict() *command {
	return &command{
		name:     "wan evict",
		args:     "NODE.DATACENTER",
		synopsis: "Refuse a server, or a datacenter, everywhere",
		help: `
Takes trust away from a server of the WAN: all datacenters refuse its
certificates from now on, open connections are closed, and no other certificate
is issued for its name. Datacenters that cannot be reached now learn of it when
they can be. It survives restarts.

    $ landbridge wan evict s3.dc2

Inside its own datacenter the server goes on: stop it, and take it out with
"landbridge operator raft remove-peer". It has had its datacenter's signing key:
if it fell into other hands, replace that afterwards, and where it was a server
of the primary datacenter, the root:

    $ landbridge wan ca rotate -intermediate -datacenter=dc2
    $ landbridge wan ca rotate -root

To take an eviction back; the server then gets a new certificate by itself, and
what it had before stays refused:

    $ landbridge wan evict -undo s3.dc2

A datacenter that is gone for good, or has to go. Its name is free again, and no
rotation waits for it. After -undo it has to join again ("landbridge wan join"):

    $ landbridge wan evict -whole-datacenter dc3

The primary datacenter has to be reachable. Which evictions are in force, "landbridge
wan ca status" shows.`,
		setup: func(fs *flag.FlagSet) run {
			undo := fs.Bool("undo", false, "Take the eviction back.")
			whole := fs.Bool("whole-datacenter", false, "The argument is a datacenter: evict all its servers.")
			api := addAPI(fs)
			return func(c *call) error {
				if len(c.args) != 1 {
					return usagef("One server, as NODE.DATACENTER, or with -whole-datacenter one datacenter must be named.")
				}
				in := struct {
					Node       string `json:",omitempty"`
					Datacenter string
					Whole      bool `json:",omitempty"`
					Undo       bool `json:",omitempty"`
				}{Datacenter: c.args[0], Whole: *whole, Undo: *undo}
				if !*whole {
					dot := strings.LastIndexByte(c.args[0], '.')
					if dot <= 0 || dot == len(c.args[0])-1 {
						return usagef("%q is not NODE.DATACENTER, as \"landbridge wan members\" lists them.", c.args[0])
					}
					in.Node, in.Datacenter = c.args[0][:dot], c.args[0][dot+1:]
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				if err := cl.Put(c.ctx, "/v1/internal/federation/evict", nil, in, nil); err != nil {
					return failf("Error evicting %s: %w", c.args[0], err)
				}
				if *undo {
					c.printf("The eviction of %s is taken back.\n", printable(c.args[0]))
				} else {
					c.printf("%s is evicted.\n", printable(c.args[0]))
				}
				return nil
			}
		},
	}
}
