package store

import (
	"encoding/base64"
	"time"
)

// AppendJSON appends the token as the HTTP API shows it to who may see its secret.
func (t *ACLToken) AppendJSON(b []byte) []byte { return t.appendJSON(b, t.SecretID) }

// JSON returns the token's JSON with its secret, encoded once and shared: callers
// must not change it.
func (t *ACLToken) JSON() []byte { return fragment(&t.json, t.AppendJSON) }

// HiddenJSON is JSON without the secret.
func (t *ACLToken) HiddenJSON() []byte {
	return fragment(&t.hidden, func(b []byte) []byte { return t.appendJSON(b, HiddenSecret) })
}

func (t *ACLToken) appendJSON(b []byte, secret string) []byte {
	if secret == "" {
		secret = HiddenSecret // only its hash is kept here
	}
	b = append(b, '{')
	b = fieldString(b, "AccessorID", t.AccessorID)
	b = fieldString(b, "SecretID", secret)
	b = fieldString(b, "Description", t.Description)
	b = fieldLinks(b, "Policies", t.Policies)
	b = fieldLinks(b, "Roles", t.Roles)
	b = t.ACLGrants.appendIdentities(b)
	b = fieldBool(b, "Local", t.Local)
	if t.AuthMethod != "" {
		b = fieldString(b, "AuthMethod", t.AuthMethod)
	}
	if !t.ExpirationTime.IsZero() {
		b = fieldTime(b, "ExpirationTime", t.ExpirationTime)
	}
	b = fieldTime(b, "CreateTime", t.CreateTime)
	h := t.Hash()
	b = fieldHash(b, h[:])
	b = fieldUint(b, "CreateIndex", uint64(t.CreateIndex))
	b = fieldUint(b, "ModifyIndex", uint64(t.ModifyIndex))
	return append(b, '}')
}

// appendIdentities appends the grants that are no links; empty lists are left out.
func (g *ACLGrants) appendIdentities(b []byte) []byte {
	b = fieldList(b, "ServiceIdentities", g.ServiceIdentities, func(b []byte, s *ServiceIdentity) []byte {
		return fieldAny(fieldString(b, "ServiceName", s.ServiceName), "Datacenters", s.Datacenters)
	})
	b = fieldList(b, "NodeIdentities", g.NodeIdentities, func(b []byte, n *NodeIdentity) []byte {
		return fieldString(fieldString(b, "NodeName", n.NodeName), "Datacenter", n.Datacenter)
	})
	return fieldList(b, "TemplatedPolicies", g.TemplatedPolicies, func(b []byte, t *TemplatedPolicy) []byte {
		b = fieldString(b, "TemplateID", t.TemplateID)
		b = fieldString(b, "TemplateName", t.TemplateName)
		if t.Name != "" {
			b = fieldVariables(b, "TemplateVariables", t.Name)
		}
		return fieldAny(b, "Datacenters", t.Datacenters)
	})
}

func fieldVariables(b []byte, name, value string) []byte {
	b = append(field(b, name), '{')
	return append(fieldString(b, "name", value), '}')
}

// fieldAny appends a list unless it is empty.
func fieldAny(b []byte, name string, v []string) []byte {
	if len(v) == 0 {
		return b
	}
	return fieldStrings(b, name, v)
}

// fieldList appends a list of objects unless it is empty.
func fieldList[T any](b []byte, name string, list []T, fields func([]byte, *T) []byte) []byte {
	if len(list) == 0 {
		return b
	}
	b = append(field(b, name), '[')
	for i := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(fields(append(b, '{'), &list[i]), '}')
	}
	return append(b, ']')
}

func fieldLinks(b []byte, name string, links []ACLLink) []byte {
	return fieldList(b, name, links, func(b []byte, l *ACLLink) []byte {
		return fieldString(fieldString(b, "ID", l.ID), "Name", l.Name)
	})
}

func fieldTime(b []byte, name string, t time.Time) []byte {
	b = append(field(b, name), '"')
	return append(t.UTC().AppendFormat(b, time.RFC3339Nano), '"')
}

func fieldHash(b, hash []byte) []byte {
	b = append(field(b, "Hash"), '"')
	return append(base64.StdEncoding.AppendEncode(b, hash), '"')
}

// AppendJSON appends the policy as the HTTP API shows a single one.
func (p *ACLPolicy) AppendJSON(b []byte) []byte {
	b = append(b, '{')
	b = fieldString(b, "ID", p.ID)
	b = fieldString(b, "Name", p.Name)
	b = fieldString(b, "Description", p.Description)
	b = fieldString(b, "Rules", p.Rules)
	b = fieldAny(b, "Datacenters", p.Datacenters)
	return p.appendEnd(b)
}

// JSON returns the policy's JSON, encoded once and shared.
func (p *ACLPolicy) JSON() []byte { return fragment(&p.json, p.AppendJSON) }

// RowJSON is the policy as lists show it: without its rules.
func (p *ACLPolicy) RowJSON() []byte {
	return fragment(&p.row, func(b []byte) []byte {
		b = append(b, '{')
		b = fieldString(b, "ID", p.ID)
		b = fieldString(b, "Name", p.Name)
		b = fieldString(b, "Description", p.Description)
		b = fieldSome(b, "Datacenters", p.Datacenters)
		return p.appendEnd(b)
	})
}

func (p *ACLPolicy) appendEnd(b []byte) []byte {
	h := p.Digest()
	b = fieldHash(b, h[:])
	b = fieldUint(b, "CreateIndex", uint64(p.CreateIndex))
	b = fieldUint(b, "ModifyIndex", uint64(p.ModifyIndex))
	return append(b, '}')
}

// AppendJSON appends the role as the HTTP API shows it.
func (r *ACLRole) AppendJSON(b []byte) []byte {
	b = append(b, '{')
	b = fieldString(b, "ID", r.ID)
	b = fieldString(b, "Name", r.Name)
	b = fieldString(b, "Description", r.Description)
	b = fieldLinks(b, "Policies", r.Policies)
	b = r.ACLGrants.appendIdentities(b)
	h := r.Digest()
	b = fieldHash(b, h[:])
	b = fieldUint(b, "CreateIndex", uint64(r.CreateIndex))
	b = fieldUint(b, "ModifyIndex", uint64(r.ModifyIndex))
	return append(b, '}')
}

// JSON returns the role's JSON, encoded once and shared.
func (r *ACLRole) JSON() []byte { return fragment(&r.json, r.AppendJSON) }

// AppendJSON appends the rule as the HTTP API shows it.
func (r *ACLBindingRule) AppendJSON(b []byte) []byte {
	b = append(b, '{')
	b = fieldString(b, "ID", r.ID)
	b = fieldString(b, "Description", r.Description)
	b = fieldString(b, "AuthMethod", r.AuthMethod)
	b = fieldString(b, "Selector", r.Selector)
	b = fieldString(b, "BindType", r.BindType)
	b = fieldString(b, "BindName", r.BindName)
	if r.BindVars != "" {
		b = append(field(b, "BindVars"), '{')
		b = append(fieldString(b, "Name", r.BindVars), '}')
	}
	b = fieldUint(b, "CreateIndex", uint64(r.CreateIndex))
	b = fieldUint(b, "ModifyIndex", uint64(r.ModifyIndex))
	return append(b, '}')
}

// JSON returns the rule's JSON, encoded once and shared.
func (r *ACLBindingRule) JSON() []byte { return fragment(&r.json, r.AppendJSON) }

// AppendJSON appends the method as the HTTP API shows a single one.
func (m *ACLAuthMethod) AppendJSON(b []byte) []byte { return m.appendJSON(b, true) }

// JSON returns the method's JSON, encoded once and shared.
func (m *ACLAuthMethod) JSON() []byte { return fragment(&m.json, m.AppendJSON) }

// RowJSON is the method as lists show it: without its configuration.
func (m *ACLAuthMethod) RowJSON() []byte {
	return fragment(&m.row, func(b []byte) []byte { return m.appendJSON(b, false) })
}

func (m *ACLAuthMethod) appendJSON(b []byte, config bool) []byte {
	b = append(b, '{')
	b = fieldString(b, "Name", m.Name)
	b = fieldString(b, "Type", m.Type)
	if m.DisplayName != "" {
		b = fieldString(b, "DisplayName", m.DisplayName)
	}
	b = fieldString(b, "Description", m.Description)
	if m.MaxTokenTTL != 0 {
		b = fieldString(b, "MaxTokenTTL", m.MaxTokenTTL.String())
	}
	if m.TokenLocality != "" {
		b = fieldString(b, "TokenLocality", m.TokenLocality)
	}
	if config {
		b = fieldRaw(b, "Config", m.Config, "{}")
	}
	b = fieldUint(b, "CreateIndex", uint64(m.CreateIndex))
	b = fieldUint(b, "ModifyIndex", uint64(m.ModifyIndex))
	return append(b, '}')
}
