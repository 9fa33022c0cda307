package cli

import (
	"encoding/json"
	"flag"
	"net/url"

	"landbridge/cmd/internal/client"
)

// accessorFlag declares the ways to name a token.
func accessorFlag(fs *flag.FlagSet) *string {
	id := fs.String("accessor-id", "", "The token: its AccessorID, or a beginning that no other has. `ID`")
	fs.StringVar(id, "id", "", "Old name of -accessor-id. `ID`")
	return id
}

func tokenID(c *call, cl *client.Client, id string) (string, error) {
	return fullID(c, cl, "/v1/acl/tokens", "AccessorID", "token", id)
}

func aclTokenCreate() *command {
	return &command{
		name:     "acl token create",
		synopsis: "Make a token",
		help: `
Makes a token that may do what its policies, roles and identities say.

    $ landbridge acl token create -description="web in dc1" -policy-name=web
    $ landbridge acl token create -service-identity=web:dc1,dc2 -expires-ttl=24h
    $ landbridge acl token create -templated-policy=builtin/service -var=name:web`,
		setup: func(fs *flag.FlagSet) run {
			var g grantFlags
			var roleIDs, roleNames lines
			t := &aclToken{}
			fs.StringVar(&t.AccessorID, "accessor", "", "AccessorID to give it: a UUID (default: a random one). `ID`")
			fs.StringVar(&t.SecretID, "secret", "", "SecretID to give it: a UUID (default: a random one). `ID`")
			fs.StringVar(&t.Description, "description", "", "What it is for. `TEXT`")
			fs.BoolVar(&t.Local, "local", false, "Make it known in this datacenter only.")
			fs.StringVar(&t.ExpirationTTL, "expires-ttl", "", "How long it lives, at least a minute (default: for ever). `DURATION`")
			fs.Var(&roleIDs, "role-id", "Role by its ID; may be repeated. `ID`")
			fs.Var(&roleNames, "role-name", "Role by its name; may be repeated. `NAME`")
			g.add(fs, "token")
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
				t.aclGrants, t.Roles = grants, linksOf(roleIDs, roleNames)
				if t.aclGrants.empty() && len(t.Roles) == 0 {
					return failf("Cannot create a token without specifying -policy-name, -policy-id, -role-name, -role-id, -service-identity, -node-identity, -templated-policy, or -templated-policy-file at least once")
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				var raw json.RawMessage
				if err := cl.Put(c.ctx, "/v1/acl/token", nil, t, &raw); err != nil {
					return failf("Failed to create new token: %w", err)
				}
				return show(c, *format, raw, func(t *aclToken) { c.printToken(t, *meta) })
			}
		},
	}
}

func aclTokenUpdate() *command {
	return &command{
		name:     "acl token update",
		synopsis: "Change what a token may do",
		help: `
Changes a token. A list of policies, roles or identities replaces the one it has;
the -append flags add to it. What is not given stays.

    $ landbridge acl token update -accessor-id=6f1e -append-policy-name=web
    $ landbridge acl token update -accessor-id=6f1e -policy-name=web -policy-name=kv`,
		setup: func(fs *flag.FlagSet) run {
			var set, add grantFlags
			var roleIDs, roleNames, addRoleIDs, addRoleNames lines
			id := accessorFlag(fs)
			description := fs.String("description", "", "What it is for. `TEXT`")
			fs.Var(&roleIDs, "role-id", "Role by its ID; may be repeated. `ID`")
			fs.Var(&roleNames, "role-name", "Role by its name; may be repeated. `NAME`")
			fs.Var(&addRoleIDs, "append-role-id", "Add a role by its ID; may be repeated. `ID`")
			fs.Var(&addRoleNames, "append-role-name", "Add a role by its name; may be repeated. `NAME`")
			set.add(fs, "token")
			fs.Var(&set.templates, "replace-templated-policy", "The same as -templated-policy. `NAME`")
			fs.StringVar(&set.file, "replace-templated-policy-file", "", "The same as -templated-policy-file. `FILE`")
			add.addAppend(fs)
			merge := [3]bool{}
			for i, name := range []string{"merge-policies", "merge-roles", "merge-service-identities"} {
				fs.BoolVar(&merge[i], name, false, "Old form of the -append flags: what is given adds to what is there.")
			}
			meta := fs.Bool("meta", false, "Show hash and indexes, too.")
			format := formatFlag(fs)
			api := addAPI(fs)
			return func(c *call) error {
				if err := c.atMost(0); err != nil {
					return err
				}
				if *id == "" {
					return failf("Cannot update a token without specifying the -accessor-id parameter")
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				full, err := tokenID(c, cl, *id)
				if err != nil {
					return failf("Error determining token ID: %w", err)
				}
				path := client.Path("v1", "acl", "token", full)
				var t aclToken
				if err := cl.Get(c.ctx, path, nil, &t); err != nil {
					return failf("Error when retrieving current token: %w", err)
				}
				given, err := set.grants(set.vars)
				if err != nil {
					return err
				}
				more, err := add.grants(set.vars)
				if err != nil {
					return err
				}
				if given.Policies != nil && !merge[0] {
					t.Policies = nil
				}
				if given.ServiceIdentities != nil && !merge[2] {
					t.ServiceIdentities = nil
				}
				if given.NodeIdentities != nil {
					t.NodeIdentities = nil
				}
				if given.TemplatedPolicies != nil {
					t.TemplatedPolicies = nil
				}
				t.merge(given)
				t.merge(more)
				if roles := linksOf(roleIDs, roleNames); roles != nil {
					if !merge[1] {
						t.Roles = nil
					}
					t.Roles = append(t.Roles, roles...)
				}
				t.Roles = append(t.Roles, linksOf(addRoleIDs, addRoleNames)...)
				if *description != "" {
					t.Description = *description
				}
				// Of these the server knows best.
				t.SecretID, t.ExpirationTime, t.aclMeta = "", nil, aclMeta{}
				var raw json.RawMessage
				if err := cl.Put(c.ctx, path, nil, &t, &raw); err != nil {
					return failf("Failed to update token %s: %w", full, err)
				}
				return show(c, *format, raw, func(t *aclToken) { c.printToken(t, *meta) })
			}
		},
	}
}

func aclTokenRead() *command {
	return &command{
		name:     "acl token read",
		synopsis: "Show a token",
		help: `
Shows a token, or the one that the command itself uses; -expanded adds the rules
of everything that gives it rights.

    $ landbridge acl token read -accessor-id=6f1e
    $ landbridge acl token read -self
    $ landbridge acl token read -accessor-id=6f1e -expanded`,
		setup: func(fs *flag.FlagSet) run {
			id := accessorFlag(fs)
			self := fs.Bool("self", false, "Show the token that this command uses.")
			expanded := fs.Bool("expanded", false, "Show the rules of its policies, roles and identities.")
			meta := fs.Bool("meta", false, "Show hash and indexes, too.")
			format := formatFlag(fs)
			api := addAPI(fs)
			return func(c *call) error {
				cl, err := api.noArgs(c)
				if err != nil {
					return err
				}
				path, q := "/v1/acl/token/self", url.Values{}
				switch {
				case *self && *expanded:
					return failf("Cannot use both -expanded and -self. Instead, use -expanded and -accessor-id=<accessor id>")
				case !*self && *id == "":
					return failf("Must specify the -accessor-id parameter")
				case !*self:
					full, err := tokenID(c, cl, *id)
					if err != nil {
						return failf("Error determining token ID: %w", err)
					}
					path = client.Path("v1", "acl", "token", full)
				}
				if *expanded {
					q.Set("expanded", "true")
				}
				var raw json.RawMessage
				if err := cl.Get(c.ctx, path, q, &raw); err != nil {
					return failf("Error reading token: %w", err)
				}
				type full struct {
					aclToken
					ExpandedPolicies                          []aclPolicy
					ExpandedRoles                             []aclRole
					AgentACLDefaultPolicy, AgentACLDownPolicy string
				}
				return show(c, *format, raw, func(t *full) {
					c.printToken(&t.aclToken, *meta)
					if !*expanded {
						return
					}
					c.println("\n=== Rules of all policies ===")
					for i := range t.ExpandedPolicies {
						c.println()
						c.printPolicy(&t.ExpandedPolicies[i], false)
					}
					c.printf("\nDefault policy of the agent: %s\nDown policy of the agent:    %s\n", printable(t.AgentACLDefaultPolicy), printable(t.AgentACLDownPolicy))
				})
			}
		},
	}
}

func aclTokenList() *command {
	return &command{
		name:     "acl token list",
		synopsis: "List the tokens",
		help: `
Lists all tokens. Without acl:write their secrets are hidden.

    $ landbridge acl token list -format=json`,
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
				if err := cl.Get(c.ctx, "/v1/acl/tokens", nil, &raw); err != nil {
					return failf("Failed to retrieve the token list: %w", err)
				}
				return show(c, *format, raw, func(list *[]aclToken) {
					for i := range *list {
						if i > 0 {
							c.println()
						}
						c.printToken(&(*list)[i], *meta)
					}
				})
			}
		},
	}
}

func aclTokenClone() *command {
	return &command{
		name:     "acl token clone",
		synopsis: "Make a token that may do what another may",
		help: `
Makes a token with new IDs and the policies, roles and identities of another.

    $ landbridge acl token clone -accessor-id=6f1e -description="for the second web"`,
		setup: func(fs *flag.FlagSet) run {
			id := accessorFlag(fs)
			description := fs.String("description", "", "What it is for (default: the other's description). `TEXT`")
			meta := fs.Bool("meta", false, "Show hash and indexes, too.")
			format := formatFlag(fs)
			api := addAPI(fs)
			return func(c *call) error {
				if err := c.atMost(0); err != nil {
					return err
				}
				if *id == "" {
					return failf("Cannot clone a token without specifying the -accessor-id parameter")
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				full, err := tokenID(c, cl, *id)
				if err != nil {
					return failf("Error determining token ID: %w", err)
				}
				var raw json.RawMessage
				if err := cl.Put(c.ctx, client.Path("v1", "acl", "token", full, "clone"), nil, map[string]string{"Description": *description}, &raw); err != nil {
					return failf("Error cloning token: %w", err)
				}
				if *format == "pretty" {
					c.println("Token cloned successfully.")
				}
				return show(c, *format, raw, func(t *aclToken) { c.printToken(t, *meta) })
			}
		},
	}
}

func aclTokenDelete() *command {
	return &command{
		name:     "acl token delete",
		synopsis: "Delete a token",
		help: `
Deletes a token: who uses it can do nothing more with it.

    $ landbridge acl token delete -accessor-id=6f1e`,
		setup: func(fs *flag.FlagSet) run {
			id := accessorFlag(fs)
			api := addAPI(fs)
			return func(c *call) error {
				if err := c.atMost(0); err != nil {
					return err
				}
				if *id == "" {
					return failf("Must specify the -accessor-id parameter")
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				full, err := tokenID(c, cl, *id)
				if err != nil {
					return failf("Error determining token ID: %w", err)
				}
				if err := cl.Delete(c.ctx, client.Path("v1", "acl", "token", full), nil, nil); err != nil {
					return failf("Error deleting token %q: %w", full, err)
				}
				c.printf("Token %q deleted successfully\n", full)
				return nil
			}
		},
	}
}
