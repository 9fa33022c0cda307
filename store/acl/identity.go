package acl

import (
	"regexp"
	"strings"

	"landbridge/store"
)

// Template is a templated policy: rules with a variable.
type Template struct {
	ID          string
	Name        string
	Description string
	Rules       string // {{.Name}} stands for the variable Name
	// NeedsName is whether there is a variable.
	NeedsName bool
}

// Schema is the JSON schema of the variables, "" where there are none.
func (t *Template) Schema() string {
	if !t.NeedsName {
		return ""
	}
	return `{"type":"object","properties":{"name":{"type":"string","minLength":1}},"required":["name"]}`
}

const (
	discoveryRules = "service_prefix \"\" {\n\tpolicy = \"read\"\n}\nnode_prefix \"\" {\n\tpolicy = \"read\"\n}\n"

	serviceRules = "service \"{{.Name}}\" {\n\tpolicy = \"write\"\n}\n" +
		"service \"{{.Name}}-sidecar-proxy\" {\n\tpolicy = \"write\"\n}\n" + discoveryRules

	nodeRules = "node \"{{.Name}}\" {\n\tpolicy = \"write\"\n}\n" +
		"service_prefix \"\" {\n\tpolicy = \"read\"\n}\n"

	templateIDs = "00000000-0000-0000-0000-0000000000"
)

var templates = [...]Template{
	{templateIDs + "03", "builtin/service", "Gives the token or role permissions to register a service and discover services in the Consul catalog. It also gives the specified service's sidecar proxy the permission to discover and route traffic to other services.", serviceRules, true},
	{templateIDs + "04", "builtin/node", "Gives the token or role permissions for a register an agent/node into the catalog. A node is typically a consul agent but can also be a physical server, cloud instance or a container.", nodeRules, true},
	{templateIDs + "05", "builtin/dns", "Gives the token or role permissions for the Consul DNS to query services in the network.",
		"node_prefix \"\" {\n\tpolicy = \"read\"\n}\nservice_prefix \"\" {\n\tpolicy = \"read\"\n}\nquery_prefix \"\" {\n\tpolicy = \"read\"\n}\n", false},
	{templateIDs + "06", "builtin/nomad-server", "Gives the token or role permissions required for integration with a nomad server.",
		"acl = \"write\"\nagent_prefix \"\" {\n\tpolicy = \"read\"\n}\nnode_prefix \"\" {\n\tpolicy = \"read\"\n}\nservice_prefix \"\" {\n\tpolicy = \"write\"\n}\n", false},
	{templateIDs + "08", "builtin/api-gateway", "Gives the token or role permissions for a Consul api gateway",
		"mesh = \"read\"\nnode_prefix \"\" {\n\tpolicy = \"read\"\n}\nservice_prefix \"\" {\n\tpolicy = \"read\"\n}\nservice \"{{.Name}}\" {\n\tpolicy = \"write\"\n}\n", true},
	{templateIDs + "09", "builtin/nomad-client", "Gives the token or role permissions required for integration with a nomad client.",
		"agent_prefix \"\" {\n\tpolicy = \"read\"\n}\nnode_prefix \"\" {\n\tpolicy = \"read\"\n}\nservice_prefix \"\" {\n\tpolicy = \"write\"\n}\nkey_prefix \"\" {\n\tpolicy = \"read\"\n}\n", false},
}

// Templates returns all templated policies. Nobody changes them.
func Templates() []Template { return templates[:] }

// TemplateNamed finds a templated policy by its name or id, nil if there is none.
func TemplateNamed(name string) *Template {
	for i := range templates {
		if templates[i].Name == name || templates[i].ID == name {
			return &templates[i]
		}
	}
	return nil
}

// Expand returns the rules of the template for a name.
func (t *Template) Expand(name string) (string, error) {
	if !t.NeedsName {
		return t.Rules, nil
	}
	if !ValidName(name) {
		return "", store.Errorf(store.KindInvalid, "validation error for templated policy %q: Name %q is invalid. Only lowercase alphanumeric characters, '-' and '_' are allowed", t.Name, name)
	}
	return strings.ReplaceAll(t.Rules, "{{.Name}}", name), nil
}

var nameForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9_-]{0,254}[a-z0-9])?$`)

// ValidName is whether a service or node identity, or a templated policy, may
// have that name. What rules are made of it is then what its writer meant.
func ValidName(name string) bool { return nameForm.MatchString(name) }

// ServiceIdentity returns the rules of a service identity.
func ServiceIdentity(service string) (string, error) {
	if !ValidName(service) {
		return "", store.Errorf(store.KindInvalid, "Service identity %q has an invalid name. Only lowercase alphanumeric characters, '-' and '_' are allowed", service)
	}
	return strings.ReplaceAll(serviceRules, "{{.Name}}", service), nil
}

// NodeIdentity returns the rules of a node identity.
func NodeIdentity(node string) (string, error) {
	if !ValidName(node) {
		return "", store.Errorf(store.KindInvalid, "Node identity %q has an invalid name. Only lowercase alphanumeric characters, '-' and '_' are allowed", node)
	}
	return strings.ReplaceAll(nodeRules, "{{.Name}}", node), nil
}

// everything lists the words of the built-in policies.
func everything(policy string) string {
	var b strings.Builder
	for _, word := range []string{"acl", "keyring", "operator", "mesh", "peering"} {
		b.WriteString(word + " = \"" + policy + "\"\n")
	}
	for _, word := range []string{"agent", "event", "key", "node", "query", "session"} {
		b.WriteString(word + "_prefix \"\" {\n\tpolicy = \"" + policy + "\"\n}\n")
	}
	b.WriteString("service_prefix \"\" {\n\tpolicy = \"" + policy + "\"\n\tintentions = \"" + policy + "\"\n}\n")
	return b.String()
}

// Rules of the built-in policies (spec acl-rules 5).
var (
	GlobalManagement = everything("write")
	GlobalReadOnly   = everything("read")
)

// RecoveryRules are the rights of acl.tokens.agent_recovery on its agent.
func RecoveryRules(node string) *Rules {
	node = strings.ToLower(node)
	return &Rules{labelled: []rule{{Agent, false, node, write}, {Node, true, "", read}}}
}
