package cli

import (
	"encoding/json"
	"flag"
	"time"

	"landbridge/cmd/internal/client"
)

func wanToken() *command {
	return &command{
		name:     "wan token",
		synopsis: "Make a token that lets one datacenter join",
		help: `
Makes a token for a datacenter that shares no gossip key with this federation.
It works once, for an hour unless -ttl says otherwise, and only with this
federation: it names the servers to join and the fingerprint of the root. Treat
it as a secret.

Here, in any datacenter of the federation:

    $ landbridge wan token
    lbjoin-CAESDGE0...

On a server of the datacenter that is to join:

    $ landbridge wan join lbjoin-CAESDGE0...

For the datacenter "paris" alone, within ten minutes, and by the address that
others reach this one at:

    $ landbridge wan token -for=paris -ttl=10m -addr=198.51.100.7:8302`,
		setup: func(fs *flag.FlagSet) run {
			dc := fs.String("for", "", "Only the datacenter of this name may use it. `NAME`")
			ttl := fs.Duration("ttl", time.Hour, "How long it is good for, at most 24h. `DURATION`")
			var addrs lines
			fs.Var(&addrs, "addr", "Address and UDP port of a server of the primary datacenter, as the other side reaches it; may be repeated. Without it, the addresses its servers advertise. `ADDR`")
			format := formatFlag(fs)
			api := addAPI(fs)
			return func(c *call) error {
				cl, err := api.noArgs(c)
				if err != nil {
					return err
				}
				in := struct {
					Datacenter string   `json:",omitempty"`
					TTL        string   `json:",omitempty"`
					Addresses  []string `json:",omitempty"`
				}{*dc, ttl.String(), addrs}
				var raw json.RawMessage
				if err := cl.Put(c.ctx, "/v1/internal/federation/token", nil, in, &raw); err != nil {
					return failf("Error making a join token: %w", err)
				}
				if *format == "json" {
					return c.printJSON(raw)
				}
				var t client.JoinToken
				if err := json.Unmarshal(raw, &t); err != nil {
					return failf("Error making a join token: %w", err)
				}
				c.println(printable(t.Token))
				return nil
			}
		},
	}
}
