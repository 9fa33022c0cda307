package cli

import (
	"flag"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

func kvDelete() *command {
	return &command{
		name:     "kv delete",
		args:     "KEY or PREFIX",
		synopsis: "Delete a key, or all keys under a prefix",
		help: `
Deletes a key; it is no error if there is none. With -recurse, all keys that
begin with the prefix: an empty one ("") is the whole store.

    $ landbridge kv delete config/greeting
    $ landbridge kv delete -recurse config/
    $ landbridge kv delete -cas -modify-index=42 config/greeting`,
		setup: func(fs *flag.FlagSet) run {
			cas := fs.Bool("cas", false, "Delete only if the key has not changed since -modify-index.")
			index := fs.Uint64("modify-index", 0, "Index for -cas. `N`")
			recurse := fs.Bool("recurse", false, "Delete all keys under the prefix.")
			api := addAPI(fs)
			return func(c *call) error {
				if err := c.atMost(1); err != nil {
					return err
				}
				if len(c.args) == 0 {
					return failf("Error! Missing KEY argument")
				}
				key := strings.TrimPrefix(c.args[0], "/")
				switch {
				case key == "" && !*recurse:
					return failf("Error! Missing KEY argument")
				case *cas && *recurse:
					return failf("Cannot specify both -cas and -recurse!")
				case *cas && *index == 0:
					return failf("Must specify a -modify-index when using -cas.")
				case !*cas && *index != 0:
					return failf("Cannot specify -modify-index without -cas.")
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				q, done := url.Values{}, "Success! Deleted key: "+key
				if *recurse {
					q.Set("recurse", "")
					done = "Success! Deleted keys with prefix: " + key
				}
				if *cas {
					q.Set("cas", strconv.FormatUint(*index, 10))
				}
				ok, err := writeKV(c, cl, http.MethodDelete, key, q, nil)
				switch {
				case err != nil:
					return failf("Error! Did not delete key %s: %w", key, err)
				case !ok && *cas:
					return failf("Error! Did not delete key %s: CAS failed", key)
				case !ok:
					return failf("Error! Did not delete key %s", key)
				}
				c.println(done)
				return nil
			}
		},
	}
}
