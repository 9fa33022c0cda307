package cli

import (
	"encoding/json"
	"flag"

	"landbridge/cmd/internal/client"
)

type aclRole struct {
	ID          string `json:",omitempty"`
	Name        string
	Description string
	aclGrants
	aclMeta
}

var roleKind = &aclKind{word: "role", title: "Role", path: "role", list: "roles", idField: "ID", named: true,
	print: func(c *call, raw json.RawMessage, meta, list bool) error {
		return aclDecode(raw, func(r *aclRole) {
			if list {
				c.printf("%s:\n   ID:           %s\n   Description:  %s\n", printable(r.Name), printable(r.ID), printable(r.Description))
				if meta {
					c.printMeta(&r.aclMeta, "   ", 14)
				}
				c.printGrants(&r.aclGrants, nil, "   ")
				return
			}
			c.printf("ID:           %s\nName:         %s\nDescription:  %s\n", printable(r.ID), printable(r.Name), printable(r.Description))
			if meta {
				c.printMeta(&r.aclMeta, "", 14)
			}
			c.printGrants(&r.aclGrants, nil, "")
		})
	}}

func aclRoleCreate() *command {
	return &command{
		name:     "acl role create",
		synopsis: "Make a role",
		help: `
Makes a role: policies and identities under one name, which tokens refer to.

    $ landbridge acl role create -name=web -policy-name=kv -service-identity=web`,
		setup: func(fs *flag.FlagSet) run {
			var g grantFlags
			r := &aclRole{}
			fs.StringVar(&r.Name, "name", "", "Its name. `NAME`")
			fs.StringVar(&r.Description, "description", "", "What it is for. `TEXT`")
			g.add(fs, "role")
			meta := fs.Bool("meta", false, "Show hash and indexes, too.")
			format := formatFlag(fs)
			api := addAPI(fs)
			return func(c *call) error {
				if err := c.atMost(0); err != nil {
					return err
				}
				if r.Name == "" {
					return usagef("Missing required '-name' flag")
				}
				var err error
				if r.aclGrants, err = g.grants(g.vars); err != nil {
					return err
				}
				if r.aclGrants.empty() {
					return failf("Cannot create a role without specifying -policy-name, -policy-id, -service-identity, -node-identity, -templated-policy-file or -templated-policy at least once")
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				return roleKind.write(c, cl, "", r, *format, *meta, "Failed to create new role")
			}
		},
	}
}

func aclRoleUpdate() *command {
	return &command{
		name:     "acl role update",
		synopsis: "Change a role",
		help: `
Changes a role: policies and identities given are added to what it has, unless
-no-merge: then the role is what the flags say and no more.

    $ landbridge acl role update -name=web -policy-name=metrics
    $ landbridge acl role update -id=6f1e -no-merge -name=web -policy-name=kv`,
		setup: func(fs *flag.FlagSet) run {
			var g grantFlags
			id := fs.String("id", "", "The role's ID, or a beginning that no other has. `ID`")
			name := fs.String("name", "", "Its name; with -id, its new name. `NAME`")
			description := fs.String("description", "", "What it is for. `TEXT`")
			g.add(fs, "role")
			noMerge := fs.Bool("no-merge", false, "Keep nothing of what is not given.")
			meta := fs.Bool("meta", false, "Show hash and indexes, too.")
			format := formatFlag(fs)
			api := addAPI(fs)
			return func(c *call) error {
				if err := c.atMost(0); err != nil {
					return err
				}
				grants, err := g.grants(g.vars)
				if err != nil {
					return err
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				full, err := roleKind.id(c, cl, *id, *name)
				if err != nil {
					return err
				}
				r := aclRole{Name: *name, Description: *description, aclGrants: grants}
				if !*noMerge {
					r = aclRole{}
					if err := cl.Get(c.ctx, client.Path("v1", "acl", "role", full), nil, &r); err != nil {
						return failf("Error when retrieving current role: %w", err)
					}
					replace(&r.Name, *name)
					replace(&r.Description, *description)
					r.merge(grants)
				}
				r.ID, r.aclMeta = "", aclMeta{}
				return roleKind.write(c, cl, full, &r, *format, *meta, "Error updating role \""+full+"\"")
			}
		},
	}
}
