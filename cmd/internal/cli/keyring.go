package cli

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"

	"landbridge/cmd/internal/client"
)

func keyringCommand() *command {
	return &command{
		name:     "keyring",
		synopsis: "List and change the keys that encrypt gossip",
		help: `
Lists and changes the keys that encrypt gossip inside the datacenters, in all of
them at once and without a restart. Every agent has the same ring: it sends with
the primary key and understands what any key of the ring encrypts. The primary
key also authenticates ` + "`landbridge wan join`" + `; between datacenters TLS encrypts.

A new key, in three steps, each when all agents have the one before (-list shows
how many of how many):

    $ landbridge keyring -install=$(landbridge keygen)
    $ landbridge keyring -use=NEWKEY
    $ landbridge keyring -remove=OLDKEY

An agent that is away meanwhile misses the change: write the new key into its
configuration and remove its serf/local.keyring before it starts.`,
		setup: func(fs *flag.FlagSet) run {
			list := fs.Bool("list", false, "List all keys and how many agents have them.")
			primary := fs.Bool("list-primary", false, "List the primary keys and how many agents use them.")
			install := fs.String("install", "", "Add this key to all rings. `KEY`")
			use := fs.String("use", "", "Make this key, which is installed, the primary one. `KEY`")
			remove := fs.String("remove", "", "Remove this key, which is not the primary one, from all rings. `KEY`")
			relay := fs.Int("relay-factor", 0, "Let so many other agents pass each answer on, 0 to 5: for networks that lose packets. `NUMBER`")
			local := fs.Bool("local-only", false, "With -list and -list-primary: ask this datacenter only.")
			api := addAPI(fs)
			return func(c *call) error {
				if err := c.atMost(0); err != nil {
					return err
				}
				given := 0
				for _, is := range []bool{*list, *primary, *install != "", *use != "", *remove != ""} {
					if is {
						given++
					}
				}
				switch {
				case given == 0:
					return usagef("One of -list, -list-primary, -install, -use and -remove must be given")
				case given > 1:
					return failf("Only a single action is allowed")
				case *relay < 0 || *relay > 5:
					return failf("Error parsing relay factor: Relay factor must be in range: [0, 5]")
				case *local && !*list && !*primary:
					return failf("-local-only can only be used with -list and -list-primary")
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				q := url.Values{}
				if *relay > 0 {
					q.Set("relay-factor", fmt.Sprint(*relay))
				}
				if *local {
					q.Set("local-only", "true")
				}
				switch {
				case *list:
					return listKeys(c, cl, q, "installed", func(r *keyring) map[string]int { return r.Keys })
				case *primary:
					return listKeys(c, cl, q, "installed primary", func(r *keyring) map[string]int { return r.PrimaryKeys })
				case *install != "":
					return changeKeys(c, cl, q, "Installing new gossip encryption key...", http.MethodPost, *install)
				case *use != "":
					return changeKeys(c, cl, q, "Changing primary gossip encryption key...", http.MethodPut, *use)
				}
				return changeKeys(c, cl, q, "Removing gossip encryption key...", http.MethodDelete, *remove)
			}
		},
	}
}

// keyring is an element of /v1/operator/keyring.
type keyring struct {
	WAN         bool
	Datacenter  string
	Keys        map[string]int
	PrimaryKeys map[string]int
	NumNodes    int
}

func listKeys(c *call, cl *client.Client, q url.Values, what string, keys func(*keyring) map[string]int) error {
	c.printf("==> Gathering %s encryption keys...\n", what)
	var rings []keyring
	if err := cl.Get(c.ctx, "/v1/operator/keyring", q, &rings); err != nil {
		return failf("error: %w", err)
	}
	for i := range rings {
		r := &rings[i]
		name := printable(r.Datacenter) + " (LAN)"
		if r.WAN {
			name = "WAN"
		}
		c.printf("\n%s:\n", name)
		counts := keys(r)
		for _, key := range slices.Sorted(maps.Keys(counts)) {
			c.printf("  %s [%d/%d]\n", printable(key), counts[key], r.NumNodes)
		}
	}
	return nil
}

func changeKeys(c *call, cl *client.Client, q url.Values, doing, method, key string) error {
	c.println("==> " + doing)
	body, err := json.Marshal(struct{ Key string }{key})
	if err != nil {
		return failf("error: %w", err)
	}
	resp, err := cl.Do(c.ctx, method, "/v1/operator/keyring", q, bytes.NewReader(body))
	if err != nil {
		return failf("error: %w", err)
	}
	return resp.Body.Close()
}
