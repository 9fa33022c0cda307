package cli

import (
	"encoding/json"
	"flag"
	"strings"

	"landbridge/cmd/internal/client"
)

type aclPolicy struct {
	ID          string `json:",omitempty"`
	Name        string
	Description string
	Rules       string
	Datacenters []string `json:",omitempty"`
	aclMeta
}

var policyKind = &aclKind{word: "policy", title: "Policy", path: "policy", list: "policies", idField: "ID", named: true,
	print: func(c *call, raw json.RawMessage, meta, list bool) error {
		return aclDecode(raw, func(p *aclPolicy) {
			if list {
				c.printf("%s:\n   ID:           %s\n   Description:  %s\n   Datacenters:  %s\n", printable(p.Name), printable(p.ID), printable(p.Description), printable(strings.Join(p.Datacenters, ", ")))
				if meta {
					c.printMeta(&p.aclMeta, "   ", 14)
				}
				return
			}
			c.printPolicy(p, meta)
		})
	}}

func (c *call) printPolicy(p *aclPolicy, meta bool) {
	c.printf("ID:           %s\nName:         %s\nDescription:  %s\nDatacenters:  %s\n", printable(p.ID), printable(p.Name), printable(p.Description), printable(strings.Join(p.Datacenters, ", ")))
	if meta {
		c.printMeta(&p.aclMeta, "", 14)
	}
	c.printf("Rules:\n%s\n", p.Rules)
}

func aclPolicyCreate() *command {
	return &command{
		name:     "acl policy create",
		synopsis: "Make a policy",
		help: `
Makes a policy: rules, in HCL or JSON, with a name. Rules may be "-" for standard
input, or "@FILE".

    $ landbridge acl policy create -name=web -rules='service "web" { policy = "write" }'
    $ landbridge acl policy create -name=kv -rules=@kv.hcl -valid-datacenter=dc1`,
		setup: func(fs *flag.FlagSet) run {
			p := &aclPolicy{}
			fs.StringVar(&p.Name, "name", "", "Its name. `NAME`")
			fs.StringVar(&p.Description, "description", "", "What it is for. `TEXT`")
			rules := fs.String("rules", "", `The rules: text, "@FILE", or "-" for standard input. `+"`RULES`")
			var dcs lines
			fs.Var(&dcs, "valid-datacenter", "Datacenter where it applies (default: all); may be repeated. `NAME`")
			meta := fs.Bool("meta", false, "Show hash and indexes, too.")
			format := formatFlag(fs)
			api := addAPI(fs)
			return func(c *call) error {
				if err := c.atMost(0); err != nil {
					return err
				}
				if p.Name == "" {
					return usagef("Missing required '-name' flag")
				}
				var err error
				if p.Rules, err = c.dataArg(*rules); err != nil {
					return failf("Error loading rules: %w", err)
				}
				p.Datacenters = dcs
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				return policyKind.write(c, cl, "", p, *format, *meta, "Failed to create new policy")
			}
		},
	}
}

func aclPolicyUpdate() *command {
	return &command{
		name:     "acl policy update",
		synopsis: "Change a policy",
		help: `
Changes a policy. What is not given stays, unless -no-merge: then the policy is
what the flags say and no more.

    $ landbridge acl policy update -name=web -rules=@web.hcl
    $ landbridge acl policy update -id=6f1e -name=web2`,
		setup: func(fs *flag.FlagSet) run {
			id := fs.String("id", "", "The policy's ID, or a beginning that no other has. `ID`")
			name := fs.String("name", "", "Its name; with -id, its new name. `NAME`")
			description := fs.String("description", "", "What it is for. `TEXT`")
			rules := fs.String("rules", "", `The rules: text, "@FILE", or "-" for standard input. `+"`RULES`")
			var dcs lines
			fs.Var(&dcs, "valid-datacenter", "Datacenter where it applies; may be repeated. `NAME`")
			noMerge := fs.Bool("no-merge", false, "Keep nothing of what is not given.")
			meta := fs.Bool("meta", false, "Show hash and indexes, too.")
			format := formatFlag(fs)
			api := addAPI(fs)
			return func(c *call) error {
				cl, err := api.noArgs(c)
				if err != nil {
					return err
				}
				full, err := policyKind.id(c, cl, *id, *name)
				if err != nil {
					return err
				}
				given := aclPolicy{Name: *name, Description: *description, Datacenters: dcs}
				if given.Rules, err = c.dataArg(*rules); err != nil {
					return failf("Error loading rules: %w", err)
				}
				p := given
				if !*noMerge {
					p = aclPolicy{}
					if err := cl.Get(c.ctx, client.Path("v1", "acl", "policy", full), nil, &p); err != nil {
						return failf("Error reading policy %q: %w", full, err)
					}
					replace(&p.Name, given.Name)
					replace(&p.Description, given.Description)
					replace(&p.Rules, given.Rules)
					if dcs != nil {
						p.Datacenters = dcs
					}
				}
				p.ID, p.aclMeta = "", aclMeta{}
				return policyKind.write(c, cl, full, &p, *format, *meta, "Error updating policy \""+full+"\"")
			}
		},
	}
}

// replace sets what was given.
func replace(at *string, v string) {
	if v != "" {
		*at = v
	}
}
