package httpapi

import (
	"encoding/json"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

type policyBody struct {
	ID, Name, Description, Rules string
	Datacenters                  []string
	tenancy
	sentBack
}

func (c *call) policyBody() (*store.ACLPolicy, error) {
	var b policyBody
	if err := c.decodeACL(&b, "Policy"); err != nil {
		return nil, err
	}
	return &store.ACLPolicy{ID: b.ID, Name: b.Name, Description: b.Description, Rules: b.Rules, Datacenters: b.Datacenters}, b.check("Policy")
}

func (c *call) policyCreate() error {
	p, err := c.policyBody()
	if err != nil {
		return err
	}
	if p.ID != "" {
		return badRequest("Cannot specify the ID when creating a new policy")
	}
	return c.aclSet(store.ACLCreate, p)
}

func (c *call) policyUpdate() error {
	if c.rest == "" {
		return badRequest("Missing policy ID")
	}
	p, err := c.policyBody()
	if err != nil {
		return err
	}
	if err := sameID("Policy ID", c.rest, &p.ID); err != nil {
		return err
	}
	return c.aclSet(store.ACLUpdate, p)
}

func (c *call) policyRead() error {
	if c.rest == "" {
		return badRequest("Missing policy ID")
	}
	return c.aclRead(rpc.ACLPolicyGet, c.rest)
}

func (c *call) policyByName() error {
	if c.rest == "" {
		return badRequest("Missing policy Name")
	}
	return c.aclRead(rpc.ACLPolicyByName, c.rest)
}

func (c *call) policyDelete() error { return c.aclDelete(store.ACLPolicies, "Missing policy ID") }
func (c *call) policyList() error   { return c.aclList(rpc.ACLPolicyList) }

type roleBody struct {
	ID, Name, Description string
	grantsBody
	tenancy
	sentBack
}

func (c *call) roleBody() (*store.ACLRole, error) {
	var b roleBody
	if err := c.decodeACL(&b, "Role"); err != nil {
		return nil, err
	}
	return &store.ACLRole{ID: b.ID, Name: b.Name, Description: b.Description, ACLGrants: b.grants()}, b.check("Role")
}

func (c *call) roleCreate() error {
	r, err := c.roleBody()
	if err != nil {
		return err
	}
	if r.ID != "" {
		return badRequest("Cannot specify the ID when creating a new role")
	}
	return c.aclSet(store.ACLCreate, r)
}

func (c *call) roleUpdate() error {
	if c.rest == "" {
		return badRequest("Missing role ID")
	}
	r, err := c.roleBody()
	if err != nil {
		return err
	}
	if err := sameID("Role ID", c.rest, &r.ID); err != nil {
		return err
	}
	return c.aclSet(store.ACLUpdate, r)
}

func (c *call) roleRead() error {
	if c.rest == "" {
		return badRequest("Missing role ID")
	}
	return c.aclRead(rpc.ACLRoleGet, c.rest)
}

func (c *call) roleByName() error {
	if c.rest == "" {
		return badRequest("Missing role Name")
	}
	return c.aclRead(rpc.ACLRoleByName, c.rest)
}

func (c *call) roleDelete() error { return c.aclDelete(store.ACLRoles, "Missing role ID") }
func (c *call) roleList() error   { return c.aclList(rpc.ACLRoleList, "policy") }

type methodBody struct {
	Name, Type, DisplayName, Description string
	MaxTokenTTL                          span
	TokenLocality                        string
	Config                               json.RawMessage
	NamespaceRules                       []json.RawMessage
	tenancy
	sentBack
}

func (c *call) methodBody() (*store.ACLAuthMethod, error) {
	var b methodBody
	if err := c.decodeACL(&b, "AuthMethod"); err != nil {
		return nil, err
	}
	if len(b.NamespaceRules) > 0 {
		return nil, badRequest("AuthMethod decoding failed: json: unknown field %q", "NamespaceRules")
	}
	return &store.ACLAuthMethod{Name: b.Name, Type: b.Type, DisplayName: b.DisplayName, Description: b.Description,
		MaxTokenTTL: time.Duration(b.MaxTokenTTL), TokenLocality: b.TokenLocality, Config: b.Config}, b.check("AuthMethod")
}

func (c *call) methodCreate() error {
	m, err := c.methodBody()
	if err != nil {
		return err
	}
	return c.aclSet(store.ACLCreate, m)
}

func (c *call) methodUpdate() error {
	if c.rest == "" {
		return badRequest("Missing auth method name")
	}
	m, err := c.methodBody()
	if err != nil {
		return err
	}
	if err := sameID("Auth Method name", c.rest, &m.Name); err != nil {
		return err
	}
	return c.aclSet(store.ACLUpdate, m)
}

func (c *call) methodRead() error {
	if c.rest == "" {
		return badRequest("Missing auth method name")
	}
	return c.aclRead(rpc.ACLAuthMethodGet, c.rest)
}

func (c *call) methodDelete() error {
	return c.aclDelete(store.ACLAuthMethods, "Missing auth method name")
}
func (c *call) methodList() error { return c.aclList(rpc.ACLAuthMethodList) }

type ruleBody struct {
	ID, Description, AuthMethod, Selector, BindType, BindName string
	BindVars                                                  *struct{ Name string }
	tenancy
	sentBack
}

func (c *call) ruleBody() (*store.ACLBindingRule, error) {
	var b ruleBody
	if err := c.decodeACL(&b, "BindingRule"); err != nil {
		return nil, err
	}
	r := &store.ACLBindingRule{ID: b.ID, Description: b.Description, AuthMethod: b.AuthMethod, Selector: b.Selector, BindType: b.BindType, BindName: b.BindName}
	if b.BindVars != nil {
		r.BindVars = b.BindVars.Name
	}
	return r, b.check("BindingRule")
}

func (c *call) ruleCreate() error {
	r, err := c.ruleBody()
	if err != nil {
		return err
	}
	if r.ID != "" {
		return badRequest("Cannot specify the ID when creating a new binding rule")
	}
	return c.aclSet(store.ACLCreate, r)
}

func (c *call) ruleUpdate() error {
	if c.rest == "" {
		return badRequest("Missing binding rule ID")
	}
	r, err := c.ruleBody()
	if err != nil {
		return err
	}
	if err := sameID("Binding Rule ID", c.rest, &r.ID); err != nil {
		return err
	}
	ch := store.SetACL(store.ACLUpdate, r)
	ch.Key = r.ID // says where it belongs when its method is left out
	return c.aclWrite(&store.ACLRequest{ACLChange: ch})
}

func (c *call) ruleRead() error {
	if c.rest == "" {
		return badRequest("Missing binding rule ID")
	}
	return c.aclRead(rpc.ACLBindingRuleGet, c.rest)
}

func (c *call) ruleDelete() error {
	return c.aclDelete(store.ACLBindingRules, "Missing binding rule ID")
}

func (c *call) ruleList() error {
	return c.aclRead(rpc.ACLBindingRuleList, c.r.URL.Query().Get("authmethod"))
}
