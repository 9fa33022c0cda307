package cli

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"landbridge/cmd/internal/client"
)

// The records of access control, as the API has them.

type aclLink struct {
	ID   string `json:",omitempty"`
	Name string `json:",omitempty"`
}

type aclService struct {
	ServiceName string
	Datacenters []string `json:",omitempty"`
}

type aclNode struct{ NodeName, Datacenter string }

type aclVariables struct{ Name string }

type aclTemplate struct {
	TemplateID        string `json:",omitempty"`
	TemplateName      string
	TemplateVariables *aclVariables `json:",omitempty"`
	Datacenters       []string      `json:",omitempty"`
}

// aclGrants is what tokens and roles have in common.
type aclGrants struct {
	Policies          []aclLink     `json:",omitempty"`
	ServiceIdentities []aclService  `json:",omitempty"`
	NodeIdentities    []aclNode     `json:",omitempty"`
	TemplatedPolicies []aclTemplate `json:",omitempty"`
}

// aclMeta is shown with -meta.
type aclMeta struct {
	Hash                     []byte `json:",omitempty"`
	CreateIndex, ModifyIndex uint64 `json:",omitempty"`
}

type aclToken struct {
	AccessorID  string `json:",omitempty"`
	SecretID    string `json:",omitempty"`
	Description string
	aclGrants
	Roles          []aclLink `json:",omitempty"`
	Local          bool
	AuthMethod     string     `json:",omitempty"`
	ExpirationTTL  string     `json:",omitempty"`
	ExpirationTime *time.Time `json:",omitempty"`
	CreateTime     time.Time  `json:",omitzero"`
	aclMeta
}

// grantFlags are the flags that give rights.
type grantFlags struct {
	policyIDs, policyNames, services, nodes, templates lines
	file                                               string
	vars                                               lines
}

// add declares the flags; prefix is "append-" for those that add to what is there.
func (g *grantFlags) add(fs *flag.FlagSet, of string) {
	fs.Var(&g.policyIDs, "policy-id", "Policy by its ID; may be repeated. `ID`")
	fs.Var(&g.policyNames, "policy-name", "Policy by its name; may be repeated. `NAME`")
	fs.Var(&g.services, "service-identity", "Rights of a service, in all datacenters or the listed ones; may be repeated. `NAME[:DC,DC]`")
	fs.Var(&g.nodes, "node-identity", "Rights of a node's agent; may be repeated. `NAME:DC`")
	fs.Var(&g.templates, "templated-policy", "Templated policy by its name, with the variables of -var; one. `NAME`")
	fs.StringVar(&g.file, "templated-policy-file", "", "Templated policies of this "+of+" as JSON: {\"NAME\": [{\"Name\": \"web\"}]}. `FILE`")
	fs.Var(&g.vars, "var", "Variable of -templated-policy: name:VALUE; may be repeated. `KEY:VALUE`")
}

func (g *grantFlags) addAppend(fs *flag.FlagSet) {
	fs.Var(&g.policyIDs, "append-policy-id", "Add a policy by its ID; may be repeated. `ID`")
	fs.Var(&g.policyNames, "append-policy-name", "Add a policy by its name; may be repeated. `NAME`")
	fs.Var(&g.services, "append-service-identity", "Add the rights of a service; may be repeated. `NAME[:DC,DC]`")
	fs.Var(&g.nodes, "append-node-identity", "Add the rights of a node's agent; may be repeated. `NAME:DC`")
	fs.Var(&g.templates, "append-templated-policy", "Add a templated policy, with the variables of -var. `NAME`")
	fs.StringVar(&g.file, "append-templated-policy-file", "", "Add templated policies from a file. `FILE`")
}

// linksOf makes links of ids and names.
func linksOf(ids, names []string) []aclLink {
	var out []aclLink
	for _, id := range ids {
		out = append(out, aclLink{ID: id})
	}
	for _, n := range names {
		out = append(out, aclLink{Name: n})
	}
	return out
}

// grants reads the flags.
func (g *grantFlags) grants(vars []string) (out aclGrants, err error) {
	out.Policies = linksOf(g.policyIDs, g.policyNames)
	for _, s := range g.services {
		name, dcs, some := strings.Cut(s, ":")
		id := aclService{ServiceName: name}
		if name == "" || some && dcs == "" {
			return out, failf("Malformed -service-identity argument: %q", s)
		}
		if some {
			id.Datacenters = strings.Split(dcs, ",")
		}
		out.ServiceIdentities = append(out.ServiceIdentities, id)
	}
	for _, n := range g.nodes {
		name, dc, ok := strings.Cut(n, ":")
		if !ok || name == "" || dc == "" {
			return out, failf("Malformed -node-identity argument: %q", n)
		}
		out.NodeIdentities = append(out.NodeIdentities, aclNode{name, dc})
	}
	switch {
	case len(g.templates) > 1:
		return out, failf("Only one templated policy can be given by flags: use a file for more")
	case len(g.templates) > 0 && g.file != "":
		return out, failf("Cannot combine the use of templated-policy flag with templated-policy-file")
	}
	v, err := variablesOf(vars)
	if err != nil {
		return out, err
	}
	for _, name := range g.templates {
		out.TemplatedPolicies = append(out.TemplatedPolicies, aclTemplate{TemplateName: name, TemplateVariables: v})
	}
	if g.file != "" {
		out.TemplatedPolicies, err = templatesOf(g.file)
	}
	return out, err
}

// variablesOf reads name:VALUE; there is one variable.
func variablesOf(vars []string) (*aclVariables, error) {
	var out *aclVariables
	for _, v := range vars {
		key, value, ok := strings.Cut(v, ":")
		if !ok || !strings.EqualFold(key, "name") {
			return nil, failf("Malformed -var argument %q: expected name:VALUE", v)
		}
		out = &aclVariables{value}
	}
	return out, nil
}

func templatesOf(file string) ([]aclTemplate, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, failf("Error reading templated policies: %w", err)
	}
	var byName map[string][]aclVariables
	if err := json.Unmarshal(raw, &byName); err != nil {
		return nil, failf("Error reading templated policies: %s: %w", file, err)
	}
	var out []aclTemplate
	for _, name := range sortedNames(byName) {
		if len(byName[name]) == 0 {
			out = append(out, aclTemplate{TemplateName: name})
		}
		for _, v := range byName[name] {
			out = append(out, aclTemplate{TemplateName: name, TemplateVariables: &v})
		}
	}
	return out, nil
}

func sortedNames[V any](m map[string]V) []string {
	var names []string
	for n := range m {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// empty is whether no right was given.
func (g *aclGrants) empty() bool {
	return len(g.Policies)+len(g.ServiceIdentities)+len(g.NodeIdentities)+len(g.TemplatedPolicies) == 0
}

// merge adds more; what is there twice the server keeps once.
func (g *aclGrants) merge(more aclGrants) {
	g.Policies = append(g.Policies, more.Policies...)
	g.ServiceIdentities = append(g.ServiceIdentities, more.ServiceIdentities...)
	g.NodeIdentities = append(g.NodeIdentities, more.NodeIdentities...)
	g.TemplatedPolicies = append(g.TemplatedPolicies, more.TemplatedPolicies...)
}

// printGrants prints what gives rights, each kind under its title.
func (c *call) printGrants(g *aclGrants, roles []aclLink, indent string) {
	links := func(title string, list []aclLink) {
		if len(list) == 0 {
			return
		}
		c.printf("%s%s:\n", indent, title)
		for _, l := range list {
			c.printf("%s   %s - %s\n", indent, printable(l.ID), printable(l.Name))
		}
	}
	links("Policies", g.Policies)
	links("Roles", roles)
	if len(g.ServiceIdentities) > 0 {
		c.printf("%sService Identities:\n", indent)
		for _, s := range g.ServiceIdentities {
			c.printf("%s   %s (Datacenters: %s)\n", indent, printable(s.ServiceName), datacentersOf(s.Datacenters))
		}
	}
	if len(g.NodeIdentities) > 0 {
		c.printf("%sNode Identities:\n", indent)
		for _, n := range g.NodeIdentities {
			c.printf("%s   %s (Datacenter: %s)\n", indent, printable(n.NodeName), printable(n.Datacenter))
		}
	}
	if len(g.TemplatedPolicies) > 0 {
		c.printf("%sTemplated Policies:\n", indent)
		for _, t := range g.TemplatedPolicies {
			c.printf("%s   %s\n", indent, printable(t.TemplateName))
			if t.TemplateVariables != nil {
				c.printf("%s      Name: %s\n", indent, printable(t.TemplateVariables.Name))
			}
			c.printf("%s      Datacenters: %s\n", indent, datacentersOf(t.Datacenters))
		}
	}
}

func datacentersOf(dcs []string) string {
	if len(dcs) == 0 {
		return "all"
	}
	return printable(strings.Join(dcs, ", "))
}

func (c *call) printMeta(m *aclMeta, indent string, width int) {
	c.printf("%s%-*s%x\n%s%-*s%d\n%s%-*s%d\n", indent, width, "Hash:", m.Hash, indent, width, "Create Index:", m.CreateIndex, indent, width, "Modify Index:", m.ModifyIndex)
}

func (c *call) printToken(t *aclToken, meta bool) {
	c.printf("AccessorID:       %s\nSecretID:         %s\nDescription:      %s\nLocal:            %t\n", printable(t.AccessorID), printable(t.SecretID), printable(t.Description), t.Local)
	if t.AuthMethod != "" {
		c.printf("Auth Method:      %s\n", printable(t.AuthMethod))
	}
	c.printf("Create Time:      %v\n", t.CreateTime)
	if t.ExpirationTime != nil {
		c.printf("Expiration Time:  %v\n", *t.ExpirationTime)
	}
	if meta {
		c.printMeta(&t.aclMeta, "", 18)
	}
	c.printGrants(&t.aclGrants, t.Roles, "")
}

// show prints a record: as JSON, or as print does.
func show[T any](c *call, format string, raw json.RawMessage, print func(*T)) error {
	if format == "json" {
		return c.printJSON(raw)
	}
	v := new(T)
	if err := json.Unmarshal(raw, v); err != nil {
		return failf("Error decoding the agent's answer: %w", err)
	}
	print(v)
	return nil
}

// post sends a POST, for which the API has few endpoints.
func post(c *call, cl *client.Client, path string, body, out any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	resp, err := cl.Do(c.ctx, http.MethodPost, path, nil, strings.NewReader(string(data)))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(out)
}

// uuidLength is how long an ID is: what is shorter may be the beginning of one.
const uuidLength = 36

// fullID finds the ID that begins with prefix in a list; key is the ID's field.
func fullID(c *call, cl *client.Client, list, key, what, prefix string) (string, error) {
	if len(prefix) >= uuidLength {
		return prefix, nil
	}
	var rows []map[string]any
	if err := cl.Get(c.ctx, list, nil, &rows); err != nil {
		return "", err
	}
	found := ""
	for _, r := range rows {
		id, _ := r[key].(string)
		if !strings.HasPrefix(id, prefix) {
			continue
		}
		if found != "" {
			return "", fmt.Errorf("multiple %ss have an ID with the prefix: %s", what, prefix)
		}
		found = id
	}
	if found == "" {
		return "", fmt.Errorf("no such %s ID with prefix: %s", what, prefix)
	}
	return found, nil
}

// idByName finds the ID of a named record.
func idByName(c *call, cl *client.Client, kind, name string) (string, error) {
	var v struct{ ID string }
	if err := cl.Get(c.ctx, client.Path("v1", "acl", kind, "name", name), nil, &v); err != nil {
		return "", err
	}
	return v.ID, nil
}
