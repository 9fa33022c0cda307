package cli

import (
	"encoding/json"
	"flag"
	"net/url"

	"landbridge/cmd/internal/client"
)

type aclAuthMethod struct {
	Name          string
	Type          string          `json:",omitempty"`
	DisplayName   string          `json:",omitempty"`
	Description   string          `json:",omitempty"`
	MaxTokenTTL   string          `json:",omitempty"`
	TokenLocality string          `json:",omitempty"`
	Config        json.RawMessage `json:",omitempty"`
	aclMeta
}

var authMethodKind = &aclKind{word: "auth-method", title: "Auth-method", path: "auth-method", list: "auth-methods", idField: "Name",
	print: func(c *call, raw json.RawMessage, meta, list bool) error {
		return aclDecode(raw, func(m *aclAuthMethod) {
			indent := ""
			if list {
				c.printf("%s:\n", printable(m.Name))
				indent = "   "
			} else {
				c.printf("Name:          %s\n", printable(m.Name))
			}
			for _, f := range [][2]string{{"Type:", m.Type}, {"DisplayName:", m.DisplayName}, {"Description:", m.Description}, {"MaxTokenTTL:", m.MaxTokenTTL}, {"TokenLocality:", m.TokenLocality}} {
				if f[1] != "" || f[0] == "Description:" {
					c.printf("%s%-14s %s\n", indent, f[0], printable(f[1]))
				}
			}
			if meta {
				c.printf("%sCreate Index:  %d\n%sModify Index:  %d\n", indent, m.CreateIndex, indent, m.ModifyIndex)
			}
			if !list {
				c.println("Config:")
				_ = c.printJSON(m.Config) // it was decoded from the answer
			}
		})
	}}

// authMethodFlags are those that create and update share.
type authMethodFlags struct {
	m                                 aclAuthMethod
	config, kubeHost, kubeCA, kubeJWT string
}

func (f *authMethodFlags) add(fs *flag.FlagSet) {
	fs.StringVar(&f.m.Name, "name", "", "Its name. `NAME`")
	fs.StringVar(&f.m.DisplayName, "display-name", "", "Name for people. `NAME`")
	fs.StringVar(&f.m.Description, "description", "", "What it is for. `TEXT`")
	fs.StringVar(&f.m.MaxTokenTTL, "max-token-ttl", "", "How long its tokens live, 1m to 24h (default: for ever). `DURATION`")
	fs.StringVar(&f.m.TokenLocality, "token-locality", "", "Where its tokens are known: local (default) or global. `WHERE`")
	fs.StringVar(&f.config, "config", "", `Its configuration as JSON: text, "@FILE", or "-" for standard input. `+"`JSON`")
	fs.StringVar(&f.kubeHost, "kubernetes-host", "", "Type kubernetes: address of the API server. `URL`")
	fs.StringVar(&f.kubeCA, "kubernetes-ca-cert", "", `Type kubernetes: certificate of its authority: PEM, "@FILE" or "-". `+"`PEM`")
	fs.StringVar(&f.kubeJWT, "kubernetes-service-account-jwt", "", "Type kubernetes: token that may review tokens. `JWT`")
}

// fill reads the configuration.
func (f *authMethodFlags) fill(c *call) error {
	if f.config != "" {
		if f.kubeHost+f.kubeCA+f.kubeJWT != "" {
			return failf("Cannot use command line arguments with '-config' flags")
		}
		text, err := c.dataArg(f.config)
		if err != nil {
			return failf("Error loading configuration file: %w", err)
		}
		if !json.Valid([]byte(text)) {
			return failf("Error parsing JSON configuration file: it is not JSON")
		}
		f.m.Config = json.RawMessage(text)
		return nil
	}
	if f.kubeHost+f.kubeCA+f.kubeJWT == "" {
		return nil
	}
	ca, err := c.dataArg(f.kubeCA)
	if err != nil {
		return failf("Error reading -kubernetes-ca-cert: %w", err)
	}
	conf := map[string]string{}
	for k, v := range map[string]string{"Host": f.kubeHost, "CACert": ca, "ServiceAccountJWT": f.kubeJWT} {
		if v != "" {
			conf[k] = v
		}
	}
	f.m.Config, err = json.Marshal(conf)
	return err
}

func aclAuthMethodCreate() *command {
	return &command{
		name:     "acl auth-method create",
		synopsis: "Trust somebody else to say who logs in",
		help: `
Makes an auth method: whoever presents what it trusts can log in, and gets what
its binding rules say.

    $ landbridge acl auth-method create -name=ci -type=jwt -config=@ci.json
    $ landbridge acl auth-method create -name=k8s -type=kubernetes \
        -kubernetes-host=https://10.0.0.1:6443 -kubernetes-ca-cert=@ca.pem \
        -kubernetes-service-account-jwt=eyJ…`,
		setup: func(fs *flag.FlagSet) run {
			f := &authMethodFlags{}
			fs.StringVar(&f.m.Type, "type", "", "Its type: jwt or kubernetes. `TYPE`")
			f.add(fs)
			meta := fs.Bool("meta", false, "Show indexes, too.")
			format := formatFlag(fs)
			api := addAPI(fs)
			return func(c *call) error {
				if err := c.atMost(0); err != nil {
					return err
				}
				if f.m.Type == "" {
					return usagef("Missing required '-type' flag")
				}
				if f.m.Name == "" {
					return usagef("Missing required '-name' flag")
				}
				if err := f.fill(c); err != nil {
					return err
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				return authMethodKind.write(c, cl, "", &f.m, *format, *meta, "Failed to create new auth method")
			}
		},
	}
}

func aclAuthMethodUpdate() *command {
	return &command{
		name:     "acl auth-method update",
		synopsis: "Change an auth method",
		help: `
Changes an auth method. What is not given stays, unless -no-merge. A configuration
is replaced as a whole; of the flags of type kubernetes each replaces its part.

    $ landbridge acl auth-method update -name=ci -max-token-ttl=30m`,
		setup: func(fs *flag.FlagSet) run {
			f := &authMethodFlags{}
			f.add(fs)
			noMerge := fs.Bool("no-merge", false, "Keep nothing of what is not given.")
			meta := fs.Bool("meta", false, "Show indexes, too.")
			format := formatFlag(fs)
			api := addAPI(fs)
			return func(c *call) error {
				if err := c.atMost(0); err != nil {
					return err
				}
				if f.m.Name == "" {
					return usagef("Cannot update an auth method without specifying the -name parameter")
				}
				if err := f.fill(c); err != nil {
					return err
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				var now aclAuthMethod
				if err := cl.Get(c.ctx, client.Path("v1", "acl", "auth-method", f.m.Name), nil, &now); err != nil {
					return failf("Error when retrieving current auth method: %w", err)
				}
				m := f.m
				m.Type = now.Type
				if !*noMerge {
					m = now
					m.aclMeta = aclMeta{}
					replace(&m.DisplayName, f.m.DisplayName)
					replace(&m.Description, f.m.Description)
					replace(&m.MaxTokenTTL, f.m.MaxTokenTTL)
					replace(&m.TokenLocality, f.m.TokenLocality)
					switch {
					case f.config != "":
						m.Config = f.m.Config
					case f.m.Config != nil:
						if m.Config, err = mergeConfig(now.Config, f.m.Config); err != nil {
							return failf("Error updating auth method %q: %w", m.Name, err)
						}
					}
				}
				return authMethodKind.write(c, cl, m.Name, &m, *format, *meta, "Error updating auth method \""+m.Name+"\"")
			}
		},
	}
}

func mergeConfig(old, given json.RawMessage) (json.RawMessage, error) {
	all := map[string]any{}
	for _, raw := range []json.RawMessage{old, given} {
		if err := json.Unmarshal(raw, &all); err != nil {
			return nil, err
		}
	}
	return json.Marshal(all)
}

type aclBindingRule struct {
	ID          string `json:",omitempty"`
	Description string
	AuthMethod  string
	Selector    string
	BindType    string
	BindName    string
	BindVars    *aclVariables `json:",omitempty"`
	aclMeta
}

var bindingRuleKind = &aclKind{word: "binding-rule", title: "Binding rule", path: "binding-rule", list: "binding-rules", idField: "ID",
	print: func(c *call, raw json.RawMessage, meta, list bool) error {
		return aclDecode(raw, func(r *aclBindingRule) {
			indent := ""
			if list {
				c.printf("%s:\n", printable(r.ID))
				indent = "   "
			} else {
				c.printf("ID:           %s\n", printable(r.ID))
			}
			vars := ""
			if r.BindVars != nil {
				vars = "Name: " + r.BindVars.Name
			}
			for _, f := range [][2]string{{"AuthMethod:", r.AuthMethod}, {"Description:", r.Description}, {"BindType:", r.BindType}, {"BindName:", r.BindName}, {"BindVars:", vars}, {"Selector:", r.Selector}} {
				if f[0] != "BindVars:" || f[1] != "" {
					c.printf("%s%-13s %s\n", indent, f[0], printable(f[1]))
				}
			}
			if meta {
				c.printf("%sCreate Index: %d\n%sModify Index: %d\n", indent, r.CreateIndex, indent, r.ModifyIndex)
			}
		})
	}}

type bindingRuleFlags struct {
	r    aclBindingRule
	vars lines
}

func (f *bindingRuleFlags) add(fs *flag.FlagSet) {
	fs.StringVar(&f.r.Description, "description", "", "What it is for. `TEXT`")
	fs.StringVar(&f.r.BindType, "bind-type", "", "What a login gets: service, node, role, policy or templated-policy (default of create: service). `TYPE`")
	fs.StringVar(&f.r.BindName, "bind-name", "", "Its name; ${variable} stands for what is known of who logs in. `NAME`")
	fs.Var(&f.vars, "bind-vars", "Variable of a templated policy: name=VALUE. `KEY=VALUE`")
	fs.StringVar(&f.r.Selector, "selector", "", "For whom (default: for all who log in). `EXPR`")
}

func (f *bindingRuleFlags) fill() error {
	for _, v := range f.vars {
		p := pairs{}
		if err := p.Set(v); err != nil || p["name"] == "" && p["Name"] == "" {
			return failf("Malformed -bind-vars argument %q: expected name=VALUE", v)
		}
		f.r.BindVars = &aclVariables{p["name"] + p["Name"]}
	}
	return nil
}

func aclBindingRuleCreate() *command {
	return &command{
		name:     "acl binding-rule create",
		synopsis: "Say what a login gives",
		help: `
Makes a rule of an auth method: to whom it applies, and what it gives.

    $ landbridge acl binding-rule create -method=ci -bind-type=role \
        -bind-name=deployer -selector='value.project == "web"'
    $ landbridge acl binding-rule create -method=k8s \
        -bind-name='${serviceaccount.name}'`,
		setup: func(fs *flag.FlagSet) run {
			f := &bindingRuleFlags{}
			fs.StringVar(&f.r.AuthMethod, "method", "", "The auth method. `NAME`")
			f.add(fs)
			meta := fs.Bool("meta", false, "Show indexes, too.")
			format := formatFlag(fs)
			api := addAPI(fs)
			return func(c *call) error {
				if err := c.atMost(0); err != nil {
					return err
				}
				if f.r.AuthMethod == "" {
					return usagef("Missing required '-method' flag")
				}
				if f.r.BindType == "" {
					f.r.BindType = "service"
				}
				if f.r.BindName == "" {
					return usagef("Missing required '-bind-name' flag")
				}
				if err := f.fill(); err != nil {
					return err
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				return bindingRuleKind.write(c, cl, "", &f.r, *format, *meta, "Failed to create new binding rule")
			}
		},
	}
}

func aclBindingRuleUpdate() *command {
	return &command{
		name:     "acl binding-rule update",
		synopsis: "Change a binding rule",
		help: `
Changes a binding rule. What is not given stays, unless -no-merge: then the rule is
what the flags say and no more.

    $ landbridge acl binding-rule update -id=6f1e -selector='value.project == "web"'`,
		setup: func(fs *flag.FlagSet) run {
			f := &bindingRuleFlags{}
			id := fs.String("id", "", "The rule's ID, or a beginning that no other has. `ID`")
			f.add(fs)
			noMerge := fs.Bool("no-merge", false, "Keep nothing of what is not given.")
			meta := fs.Bool("meta", false, "Show indexes, too.")
			format := formatFlag(fs)
			api := addAPI(fs)
			return func(c *call) error {
				if err := c.atMost(0); err != nil {
					return err
				}
				if *id == "" {
					return failf("Cannot update a binding rule without specifying the -id parameter")
				}
				if err := f.fill(); err != nil {
					return err
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				full, err := bindingRuleKind.id(c, cl, *id, "")
				if err != nil {
					return err
				}
				r := f.r
				if !*noMerge {
					r = aclBindingRule{}
					if err := cl.Get(c.ctx, client.Path("v1", "acl", "binding-rule", full), nil, &r); err != nil {
						return failf("Error when retrieving current binding rule: %w", err)
					}
					replace(&r.Description, f.r.Description)
					replace(&r.Selector, f.r.Selector)
					replace(&r.BindType, f.r.BindType)
					replace(&r.BindName, f.r.BindName)
					if f.r.BindVars != nil {
						r.BindVars = f.r.BindVars
					}
				}
				r.ID, r.aclMeta = "", aclMeta{}
				return bindingRuleKind.write(c, cl, full, &r, *format, *meta, "Error updating binding rule \""+full+"\"")
			}
		},
	}
}

func aclTemplateList() *command {
	return &command{
		name:     "acl templated-policy list",
		synopsis: "List the templated policies",
		help: `
Lists the names of the templated policies: rules with a variable.

    $ landbridge acl templated-policy list`,
		setup: func(fs *flag.FlagSet) run {
			format := formatFlag(fs)
			api := addAPI(fs)
			return func(c *call) error {
				cl, err := api.noArgs(c)
				if err != nil {
					return err
				}
				var raw json.RawMessage
				if err := cl.Get(c.ctx, "/v1/acl/templated-policies", nil, &raw); err != nil {
					return failf("Failed to list the templated policies: %w", err)
				}
				return show(c, *format, raw, func(all *map[string]json.RawMessage) {
					for _, name := range sortedNames(*all) {
						c.println(printable(name))
					}
				})
			}
		},
	}
}

func aclTemplateRead() *command {
	return &command{
		name:     "acl templated-policy read",
		synopsis: "Show a templated policy",
		help: `
Shows the rules of a templated policy, and which variables it has.

    $ landbridge acl templated-policy read -name=builtin/service`,
		setup: func(fs *flag.FlagSet) run {
			name := fs.String("name", "", "Its name. `NAME`")
			format := formatFlag(fs)
			api := addAPI(fs)
			return func(c *call) error {
				if err := c.atMost(0); err != nil {
					return err
				}
				if *name == "" {
					return usagef("Cannot read a templated policy without specifying -name")
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				var raw json.RawMessage
				if err := cl.Get(c.ctx, "/v1/acl/templated-policy/name/"+url.PathEscape(*name), nil, &raw); err != nil {
					return failf("Error reading templated policy %q: %w", *name, err)
				}
				type template struct{ TemplateName, Description, Schema, Template string }
				return show(c, *format, raw, func(t *template) {
					c.printf("Name:            %s\nDescription:     %s\nInput variables:", printable(t.TemplateName), printable(t.Description))
					if t.Schema == "" {
						c.println(" None")
					} else {
						c.println("\n\tname: String - Required")
					}
					c.printf("Raw Template:\n%s\n", t.Template)
				})
			}
		},
	}
}

func aclTemplatePreview() *command {
	return &command{
		name:     "acl templated-policy preview",
		synopsis: "Show the rules that a templated policy stands for",
		help: `
Shows the policy that a templated policy makes of its variables.

    $ landbridge acl templated-policy preview -name=builtin/service -var=name:web
    $ landbridge acl templated-policy preview -file=templates.json`,
		setup: func(fs *flag.FlagSet) run {
			name := fs.String("name", "", "Its name. `NAME`")
			file := fs.String("file", "", "Templates with variables as JSON: {\"NAME\": [{\"Name\": \"web\"}]}. `FILE`")
			var vars lines
			fs.Var(&vars, "var", "Variable: name:VALUE. `KEY:VALUE`")
			format := formatFlag(fs)
			api := addAPI(fs)
			return func(c *call) error {
				if err := c.atMost(0); err != nil {
					return err
				}
				var list []aclTemplate
				switch {
				case *name == "" && *file == "" || *name != "" && *file != "":
					return usagef("Cannot preview a templated policy without specifying either -name or -file, and not both")
				case *file != "":
					var err error
					if list, err = templatesOf(*file); err != nil {
						return err
					}
				default:
					v, err := variablesOf(vars)
					if err != nil {
						return err
					}
					list = []aclTemplate{{TemplateName: *name, TemplateVariables: v}}
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				for _, t := range list {
					v := aclVariables{}
					if t.TemplateVariables != nil {
						v = *t.TemplateVariables
					}
					var raw json.RawMessage
					if err := post(c, cl, "/v1/acl/templated-policy/preview/"+url.PathEscape(t.TemplateName), v, &raw); err != nil {
						return failf("Failed to generate the templated policy preview: %w", err)
					}
					if err := show(c, *format, raw, func(p *aclPolicy) { c.printPolicy(p, false) }); err != nil {
						return err
					}
				}
				return nil
			}
		},
	}
}
