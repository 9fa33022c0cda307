package cli

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/url"
	"strings"

	"landbridge/cmd/internal/client"
)

// exportedKey is one entry of what kv export prints and kv import reads.
type exportedKey struct {
	Key   string `json:"key"`
	Flags uint64 `json:"flags"`
	Value []byte `json:"value"` // base64
}

func kvExport() *command {
	return &command{
		name:     "kv export",
		args:     "[PREFIX]",
		synopsis: "Print all keys under a prefix in JSON",
		help: `
Prints all keys that begin with the prefix, or the whole store, as a JSON array
of {"key", "flags", "value"} with values in base64: what "kv import" reads.

    $ landbridge kv export config/ > config.json
    $ landbridge kv export -datacenter=dc2 | landbridge kv import -`,
		setup: func(fs *flag.FlagSet) run {
			api := addAPI(fs)
			return func(c *call) error {
				if err := c.atMost(1); err != nil {
					return err
				}
				prefix := ""
				if len(c.args) == 1 {
					prefix = strings.TrimPrefix(c.args[0], "/")
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				var list []client.KVPair
				if err := cl.Get(c.ctx, client.KeyPath(prefix), url.Values{"recurse": {""}}, &list); err != nil && !client.NotFound(err) {
					return failf("Error querying Consul agent: %w", err)
				}
				out := make([]exportedKey, len(list))
				for i, p := range list {
					out[i] = exportedKey{p.Key, p.Flags, p.Value}
					if p.Value == nil {
						out[i].Value = []byte{} // "" and not null
					}
				}
				var b bytes.Buffer
				enc := json.NewEncoder(&b)
				enc.SetEscapeHTML(false) // keys stay as they are
				enc.SetIndent("", "\t")
				if err := enc.Encode(out); err != nil {
					return err
				}
				_, err = c.Stdout.Write(b.Bytes())
				return err
			}
		},
	}
}
