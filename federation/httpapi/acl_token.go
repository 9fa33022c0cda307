package httpapi

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// grantsBody is what tokens and roles have in common.
type grantsBody struct {
	Policies          []store.ACLLink
	ServiceIdentities []store.ServiceIdentity
	NodeIdentities    []store.NodeIdentity
	TemplatedPolicies []struct {
		TemplateID, TemplateName string
		TemplateVariables        *struct{ Name string }
		Datacenters              []string
	}
}

func (b *grantsBody) grants() store.ACLGrants {
	g := store.ACLGrants{Policies: b.Policies, ServiceIdentities: b.ServiceIdentities, NodeIdentities: b.NodeIdentities}
	for _, t := range b.TemplatedPolicies {
		p := store.TemplatedPolicy{TemplateID: t.TemplateID, TemplateName: t.TemplateName, Datacenters: t.Datacenters}
		if t.TemplateVariables != nil {
			p.Name = t.TemplateVariables.Name
		}
		g.TemplatedPolicies = append(g.TemplatedPolicies, p)
	}
	return g
}

// tokenBody is a token as clients write it.
type tokenBody struct {
	AccessorID, SecretID, Description string
	grantsBody
	Roles               []store.ACLLink
	Local               bool
	AuthMethod          string
	AuthMethodNamespace string
	ExpirationTTL       span
	ExpirationTime      *time.Time
	CreateTime          json.RawMessage
	tenancy
	sentBack
}

func (c *call) tokenBody() (*store.ACLToken, time.Duration, error) {
	var b tokenBody
	if err := c.decodeACL(&b, "Token"); err != nil {
		return nil, 0, err
	}
	if err := b.check("Token"); err != nil {
		return nil, 0, err
	}
	if b.AuthMethodNamespace != "" {
		return nil, 0, badRequest("Token decoding failed: json: unknown field %q", "AuthMethodNamespace")
	}
	t := &store.ACLToken{AccessorID: b.AccessorID, SecretID: b.SecretID, Description: b.Description, ACLGrants: b.grants(),
		Roles: b.Roles, Local: b.Local, AuthMethod: b.AuthMethod}
	if b.ExpirationTime != nil {
		t.ExpirationTime = *b.ExpirationTime
	}
	return t, time.Duration(b.ExpirationTTL), nil
}

func (c *call) tokenCreate() error {
	t, ttl, err := c.tokenBody()
	if err != nil {
		return err
	}
	return c.aclWrite(&store.ACLRequest{ACLChange: store.SetACL(store.ACLCreate, t), TTL: ttl})
}

// tokenPut serves what is below a token's path: its update, and its clone.
func (c *call) tokenPut() error {
	if id, ok := strings.CutSuffix(c.rest, "/clone"); ok {
		return c.tokenClone(id)
	}
	if c.rest == "" {
		return errNoAccessor
	}
	t, ttl, err := c.tokenBody()
	if err != nil {
		return err
	}
	if err := sameID("Token Accessor ID", c.rest, &t.AccessorID); err != nil {
		return err
	}
	return c.aclWrite(&store.ACLRequest{ACLChange: store.SetACL(store.ACLUpdate, t), TTL: ttl})
}

var errNoAccessor = badRequest("Missing token AccessorID")

func (c *call) tokenClone(id string) error {
	if id == "" {
		return errNoAccessor
	}
	var b struct{ Description string }
	// The rest of a token says nothing here.
	if err := c.decodeAs(&b, false, optional(errDecodeACL("Token"))); err != nil {
		return err
	}
	ch := store.SetACL(store.ACLClone, &store.ACLToken{Description: b.Description})
	ch.Key = id
	return c.aclWrite(&store.ACLRequest{ACLChange: ch})
}

func (c *call) tokenRead() error {
	if c.rest == "" {
		return errNoAccessor
	}
	req := c.request(rpc.ACLTokenGet)
	if err := c.query(req, false); err != nil {
		return err
	}
	req.Filter, req.Query = "", store.Query{Name: c.rest}
	if v, given := c.r.URL.Query()["expanded"]; given {
		if on, err := strconv.ParseBool(v[0]); err == nil && on || v[0] == "" {
			req.Query.Separator = "expanded"
		}
	}
	return c.read(req, false)
}

func (c *call) tokenSelf() error   { return c.aclRead(rpc.ACLTokenSelf, "") }
func (c *call) tokenDelete() error { return c.aclDelete(store.ACLTokens, "Missing token AccessorID") }

func (c *call) tokenList() error {
	return c.aclList(rpc.ACLTokenList, "policy", "role", "servicename", "authmethod")
}
