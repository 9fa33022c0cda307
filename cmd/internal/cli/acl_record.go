package cli

import (
	"encoding/json"
	"flag"
	"strings"

	"landbridge/cmd/internal/client"
)

// aclKind describes the commands that read, list and delete a kind of record: they
// differ in words only.
type aclKind struct {
	word    string // of the command: "policy"
	title   string // of messages: "Policy"
	path    string // of the API: "policy"
	list    string // "policies"
	idField string // "ID", or "Name" for what has no ID
	named   bool   // has a name beside its ID
	print   func(c *call, raw json.RawMessage, meta, list bool) error
}

// id finds the record that the flags name.
func (k *aclKind) id(c *call, cl *client.Client, id, name string) (string, error) {
	switch {
	case k.idField == "Name":
		if name == "" {
			return "", failf("Must specify the -name parameter")
		}
		return name, nil
	case id != "":
		full, err := fullID(c, cl, "/v1/acl/"+k.list, "ID", k.word, id)
		if err != nil {
			return "", failf("Error determining %s ID: %w", k.word, err)
		}
		return full, nil
	case name != "":
		full, err := idByName(c, cl, k.path, name)
		if err != nil {
			return "", failf("Error determining %s ID: %w", k.word, err)
		}
		return full, nil
	case k.named:
		return "", failf("Must specify either the -id or -name parameters")
	}
	return "", failf("Must specify the -id parameter")
}

func (k *aclKind) flags(fs *flag.FlagSet) (id, name *string) {
	id, name = new(string), new(string)
	if k.idField == "ID" {
		fs.StringVar(id, "id", "", "The "+k.word+"'s ID, or a beginning that no other has. `ID`")
	}
	if k.named || k.idField == "Name" {
		fs.StringVar(name, "name", "", "The "+k.word+"'s name. `NAME`")
	}
	return id, name
}

func (k *aclKind) example() string {
	if k.named || k.idField == "Name" {
		return "-name=web"
	}
	return "-id=6f1e"
}

func (k *aclKind) read() *command {
	return &command{
		name: "acl " + k.word + " read", synopsis: "Show " + article(k.word),
		help: "\nShows " + article(k.word) + ".\n\n    $ landbridge acl " + k.word + " read " + k.example(),
		setup: func(fs *flag.FlagSet) run {
			id, name := k.flags(fs)
			meta := fs.Bool("meta", false, "Show hash and indexes, too.")
			format := formatFlag(fs)
			api := addAPI(fs)
			return func(c *call) error {
				cl, err := api.noArgs(c)
				if err != nil {
					return err
				}
				full, err := k.id(c, cl, *id, *name)
				if err != nil {
					return err
				}
				var raw json.RawMessage
				if err := cl.Get(c.ctx, client.Path("v1", "acl", k.path, full), nil, &raw); err != nil {
					return failf("Error reading %s %q: %w", k.word, full, err)
				}
				if *format == "json" {
					return c.printJSON(raw)
				}
				return k.print(c, raw, *meta, false)
			}
		},
	}
}

func (k *aclKind) listAll() *command {
	plural := strings.ReplaceAll(k.list, "-", " ")
	return &command{
		name: "acl " + k.word + " list", synopsis: "List the " + plural,
		help: "\nLists all " + plural + ".\n\n    $ landbridge acl " + k.word + " list -format=json",
		setup: func(fs *flag.FlagSet) run {
			meta := fs.Bool("meta", false, "Show hash and indexes, too.")
			format := formatFlag(fs)
			api := addAPI(fs)
			return func(c *call) error {
				cl, err := api.noArgs(c)
				if err != nil {
					return err
				}
				var raw json.RawMessage
				if err := cl.Get(c.ctx, "/v1/acl/"+k.list, nil, &raw); err != nil {
					return failf("Failed to retrieve the %s list: %w", k.word, err)
				}
				if *format == "json" {
					return c.printJSON(raw)
				}
				var rows []json.RawMessage
				if err := json.Unmarshal(raw, &rows); err != nil {
					return failf("Error decoding the agent's answer: %w", err)
				}
				for _, r := range rows {
					if err := k.print(c, r, *meta, true); err != nil {
						return err
					}
				}
				return nil
			}
		},
	}
}

func (k *aclKind) delete() *command {
	return &command{
		name: "acl " + k.word + " delete", synopsis: "Delete " + article(k.word),
		help: "\nDeletes " + article(k.word) + ".\n\n    $ landbridge acl " + k.word + " delete " + k.example(),
		setup: func(fs *flag.FlagSet) run {
			id, name := k.flags(fs)
			api := addAPI(fs)
			return func(c *call) error {
				cl, err := api.noArgs(c)
				if err != nil {
					return err
				}
				full, err := k.id(c, cl, *id, *name)
				if err != nil {
					return err
				}
				if err := cl.Delete(c.ctx, client.Path("v1", "acl", k.path, full), nil, nil); err != nil {
					return failf("Error deleting %s %q: %w", k.word, full, err)
				}
				c.printf("%s %q deleted successfully\n", k.title, full)
				return nil
			}
		},
	}
}

// article puts the article before a word.
func article(word string) string {
	word = strings.ReplaceAll(word, "-", " ")
	if strings.ContainsRune("aeiou", rune(word[0])) {
		return "an " + word
	}
	return "a " + word
}

// write sends a record: with an id to its path, without one as a new one.
func (k *aclKind) write(c *call, cl *client.Client, id string, body any, format string, meta bool, failed string) error {
	path := "/v1/acl/" + k.path
	if id != "" {
		path = client.Path("v1", "acl", k.path, id)
	}
	var raw json.RawMessage
	if err := cl.Put(c.ctx, path, nil, body, &raw); err != nil {
		return failf("%s: %w", failed, err)
	}
	if format == "json" {
		return c.printJSON(raw)
	}
	return k.print(c, raw, meta, false)
}

// aclDecode decodes a record for printing.
func aclDecode[T any](raw json.RawMessage, print func(*T)) error {
	v := new(T)
	if err := json.Unmarshal(raw, v); err != nil {
		return failf("Error decoding the agent's answer: %w", err)
	}
	print(v)
	return nil
}
