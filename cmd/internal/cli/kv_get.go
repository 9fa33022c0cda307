package cli

import (
	"encoding/base64"
	"flag"
	"io"
	"net/url"
	"strconv"
	"strings"

	"landbridge/cmd/internal/client"
)

func kvGet() *command {
	return &command{
		name:     "kv get",
		args:     "[KEY or PREFIX]",
		synopsis: "Read a key, or all keys under a prefix",
		help: `
Prints the value of a key. With -recurse or -keys the argument is a prefix, and
may be missing for the whole store. Exits with 1 if the key does not exist.

    $ landbridge kv get config/greeting
    $ landbridge kv get -detailed config/greeting

From another datacenter:

    $ landbridge kv get -datacenter=dc2 config/greeting

All keys and values under a prefix, or only the keys, one level deep:

    $ landbridge kv get -recurse config/
    $ landbridge kv get -keys config/`,
		setup: func(fs *flag.FlagSet) run {
			b64 := fs.Bool("base64", false, "Print values in base64.")
			detailed := fs.Bool("detailed", false, "Print indexes, flags and the session that holds the lock, too.")
			keysOnly := fs.Bool("keys", false, "Print the keys under the prefix, no values.")
			recurse := fs.Bool("recurse", false, "Print all keys and values under the prefix.")
			separator := fs.String("separator", "/", "With -keys: cut keys after its first occurrence beyond the prefix; empty for whole keys. `STRING`")
			format := formatFlag(fs)
			api := addAPI(fs)
			return func(c *call) error {
				if err := c.atMost(1); err != nil {
					return err
				}
				key := ""
				if len(c.args) == 1 {
					key = strings.TrimPrefix(c.args[0], "/")
				}
				if key == "" && !*keysOnly && !*recurse {
					return failf("Error! Missing KEY argument")
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				show := kvShow{c, *b64}
				q := url.Values{}
				switch {
				case *keysOnly:
					q.Set("keys", "")
					if *separator != "" {
						q.Set("separator", *separator)
					}
					list := []string{}
					if err := cl.Get(c.ctx, client.KeyPath(key), q, &list); err != nil && !client.NotFound(err) {
						return failf("Error querying Consul agent: %w", err)
					}
					if *format == "json" {
						return c.printJSON(list)
					}
					for _, k := range list {
						c.println(k)
					}
					return nil
				case *recurse:
					q.Set("recurse", "")
				}
				list := []client.KVPair{}
				err = cl.Get(c.ctx, client.KeyPath(key), q, &list)
				switch {
				case client.NotFound(err) && *recurse:
				case client.NotFound(err):
					return failf("Error! No key exists at: %s", key)
				case err != nil:
					return failf("Error querying Consul agent: %w", err)
				}
				if *format == "json" {
					return c.printJSON(list)
				}
				for i, p := range list {
					switch {
					case *detailed:
						if i > 0 {
							c.println()
						}
						show.details(p)
					case *recurse:
						c.printf("%s:%s\n", p.Key, show.value(p))
					default:
						io.WriteString(c.Stdout, show.value(p)+"\n")
					}
				}
				return nil
			}
		},
	}
}

// kvShow prints entries as asked.
type kvShow struct {
	*call
	base64 bool
}

func (s kvShow) value(p client.KVPair) string {
	if s.base64 {
		return base64.StdEncoding.EncodeToString(p.Value)
	}
	return string(p.Value)
}

func (s kvShow) details(p client.KVPair) {
	session := p.Session
	if session == "" {
		session = "-"
	}
	num := func(n uint64) string { return strconv.FormatUint(n, 10) }
	spaced(s.Stdout, 6, [][]string{ // the width that scripts cut at
		{"CreateIndex", num(p.CreateIndex)},
		{"Flags", num(p.Flags)},
		{"Key", p.Key},
		{"LockIndex", num(p.LockIndex)},
		{"ModifyIndex", num(p.ModifyIndex)},
		{"Session", session},
		{"Value", s.value(p)},
	}, nil)
}
