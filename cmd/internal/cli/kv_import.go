package cli

import (
	"encoding/json"
	"flag"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
)

func kvImport() *command {
	return &command{
		name:     "kv import",
		args:     "[DATA]",
		synopsis: "Write keys from JSON",
		help: `
Writes the keys of a JSON array, as "kv export" prints it. DATA is "@FILE", "-"
for standard input, or the JSON itself. Keys that are not in it stay as they
are. An error ends the import; what was written before stays.

    $ landbridge kv import @config.json
    $ landbridge kv export config/ | landbridge kv import -prefix=backup/ -`,
		setup: func(fs *flag.FlagSet) run {
			prefix := fs.String("prefix", "", "Put this before all keys, with a slash between. `PREFIX`")
			api := addAPI(fs)
			return func(c *call) error {
				if err := c.atMost(1); err != nil {
					return err
				}
				if len(c.args) == 0 {
					return failf("Error! Missing DATA argument")
				}
				data, err := c.dataArg(c.args[0])
				if err != nil {
					return failf("Error! %w", err)
				}
				var list []exportedKey
				if err := json.Unmarshal([]byte(data), &list); err != nil {
					return failf("Cannot unmarshal data: %w", err)
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				for _, e := range list {
					key := strings.TrimPrefix(e.Key, "/")
					if *prefix != "" {
						key = under(*prefix, key)
					}
					if key == "" {
						return failf("Error! An entry has no key")
					}
					q := url.Values{}
					if e.Flags != 0 {
						q.Set("flags", strconv.FormatUint(e.Flags, 10))
					}
					ok, err := writeKV(c, cl, http.MethodPut, key, q, e.Value)
					if err != nil {
						return failf("Error! Failed writing data for key %s: %w", key, err)
					}
					if !ok {
						return failf("Error! Did not write to %s", key)
					}
					c.printf("Imported: %s\n", key)
				}
				return nil
			}
		},
	}
}

// under joins a prefix and a key with one slash, and keeps a slash at the end,
// which path.Join would drop.
func under(prefix, key string) string {
	joined := strings.TrimPrefix(path.Join(prefix, key), "/")
	if strings.HasSuffix(key, "/") {
		joined += "/"
	}
	return joined
}
