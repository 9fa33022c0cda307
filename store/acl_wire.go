package store

import (
	"bytes"
	"crypto/sha256"
	"math"
	"time"

	"landbridge/store/wire"
)

// AppendWire appends the token's fields, its secret included.
func (t *ACLToken) AppendWire(b []byte) []byte {
	b = wire.String(b, 2, t.SecretID)
	if t.SecretID == "" {
		b = wire.Bytes(b, 3, t.SecretHash[:])
	}
	b = t.appendContent(b, true)
	b = wire.Uint(b, 14, uint64(t.CreateIndex))
	return wire.Uint(b, 15, uint64(t.ModifyIndex))
}

// appendContent appends what the token means; names are not part of that.
func (t *ACLToken) appendContent(b []byte, names bool) []byte {
	b = wire.String(b, 1, t.AccessorID)
	b = wire.String(b, 4, t.Description)
	b = t.ACLGrants.appendWire(b, names)
	b = appendLinks(b, 6, t.Roles, names)
	b = wire.Bool(b, 10, t.Local)
	b = wire.String(b, 11, t.AuthMethod)
	b = appendTime(b, 12, t.ExpirationTime)
	return appendTime(b, 13, t.CreateTime)
}

// Hash is the token's content without its secret, for readers who may not see it.
func (t *ACLToken) Hash() [sha256.Size]byte { return sha256.Sum256(t.appendContent(nil, false)) }

// Digest covers the hash of the secret.
func (t *ACLToken) Digest() [sha256.Size]byte {
	return sha256.Sum256(wire.Bytes(t.appendContent(nil, false), 3, t.SecretHash[:]))
}

// DecodeWire replaces t by what AppendWire wrote.
func (t *ACLToken) DecodeWire(b []byte) error {
	t.AccessorID, t.SecretID, t.SecretHash, t.Description = "", "", [sha256.Size]byte{}, ""
	t.ACLGrants, t.Roles, t.Local, t.AuthMethod = ACLGrants{}, nil, false, ""
	t.ExpirationTime, t.CreateTime, t.CreateIndex, t.ModifyIndex = time.Time{}, time.Time{}, 0, 0
	t.json.Store(nil)
	t.hidden.Store(nil)
	d := wire.NewDecoder(b)
	for d.Next() {
		var err error
		switch d.Field {
		case 1:
			t.AccessorID = d.String()
		case 2:
			t.SecretID = d.String()
		case 3:
			copy(t.SecretHash[:], d.Bytes())
		case 4:
			t.Description = d.String()
		case 6:
			err = decodeLink(&t.Roles, d.Bytes())
		case 10:
			t.Local = d.Bool()
		case 11:
			t.AuthMethod = d.String()
		case 12:
			t.ExpirationTime = decodeTime(d.Int())
		case 13:
			t.CreateTime = decodeTime(d.Int())
		case 14:
			t.CreateIndex = Index(d.Uint())
		case 15:
			t.ModifyIndex = Index(d.Uint())
		default:
			err = t.ACLGrants.decodeField(&d)
		}
		if err != nil {
			return err
		}
	}
	if t.SecretID != "" {
		t.Seal()
	}
	return d.Err()
}

// Grants have the fields 5, 7, 8 and 9 of the record they are in.
func (g *ACLGrants) appendWire(b []byte, names bool) []byte {
	b = appendLinks(b, 5, g.Policies, names)
	for _, s := range g.ServiceIdentities {
		b = wire.Message(b, 7, func(b []byte) []byte {
			return appendStrings(wire.String(b, 1, s.ServiceName), 2, s.Datacenters)
		})
	}
	for _, n := range g.NodeIdentities {
		b = wire.Message(b, 8, func(b []byte) []byte { return wire.String(wire.String(b, 1, n.NodeName), 2, n.Datacenter) })
	}
	for _, t := range g.TemplatedPolicies {
		b = wire.Message(b, 9, func(b []byte) []byte {
			b = wire.String(b, 1, t.TemplateID)
			b = wire.String(b, 2, t.TemplateName)
			b = wire.String(b, 3, t.Name)
			return appendStrings(b, 4, t.Datacenters)
		})
	}
	return b
}

// decodeField takes the decoder's field if it is one of the grants'.
func (g *ACLGrants) decodeField(d *wire.Decoder) error {
	switch d.Field {
	case 5:
		return decodeLink(&g.Policies, d.Bytes())
	case 7:
		var s ServiceIdentity
		e := wire.NewDecoder(d.Bytes())
		for e.Next() {
			switch e.Field {
			case 1:
				s.ServiceName = e.String()
			case 2:
				s.Datacenters = append(s.Datacenters, e.String())
			}
		}
		g.ServiceIdentities = append(g.ServiceIdentities, s)
		return e.Err()
	case 8:
		var n NodeIdentity
		e := wire.NewDecoder(d.Bytes())
		for e.Next() {
			switch e.Field {
			case 1:
				n.NodeName = e.String()
			case 2:
				n.Datacenter = e.String()
			}
		}
		g.NodeIdentities = append(g.NodeIdentities, n)
		return e.Err()
	case 9:
		var t TemplatedPolicy
		e := wire.NewDecoder(d.Bytes())
		for e.Next() {
			switch e.Field {
			case 1:
				t.TemplateID = e.String()
			case 2:
				t.TemplateName = e.String()
			case 3:
				t.Name = e.String()
			case 4:
				t.Datacenters = append(t.Datacenters, e.String())
			}
		}
		g.TemplatedPolicies = append(g.TemplatedPolicies, t)
		return e.Err()
	}
	return nil
}

func appendLinks(b []byte, field int, links []ACLLink, names bool) []byte {
	for _, l := range links {
		b = wire.Message(b, field, func(b []byte) []byte {
			b = wire.String(b, 1, l.ID)
			if names {
				b = wire.String(b, 2, l.Name)
			}
			return b
		})
	}
	return b
}

func decodeLink(to *[]ACLLink, b []byte) error {
	var l ACLLink
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			l.ID = d.String()
		case 2:
			l.Name = d.String()
		}
	}
	*to = append(*to, l)
	return d.Err()
}

// Times travel as Unix nanoseconds; none is 0.
// appendTime appends nanoseconds since 1970. Who writes 9999 for "never" gets the last
// time that those can tell, in 2262, and no wrapped one.
func appendTime(b []byte, field int, t time.Time) []byte {
	switch first, last := time.Unix(0, math.MinInt64), time.Unix(0, math.MaxInt64); {
	case t.IsZero():
		return b
	case t.Before(first):
		t = first
	case t.After(last):
		t = last
	}
	return wire.Int(b, field, t.UnixNano())
}

func decodeTime(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

// AppendWire appends the policy's fields.
func (p *ACLPolicy) AppendWire(b []byte) []byte {
	b = p.appendContent(b)
	b = wire.Uint(b, 14, uint64(p.CreateIndex))
	return wire.Uint(b, 15, uint64(p.ModifyIndex))
}

func (p *ACLPolicy) appendContent(b []byte) []byte {
	b = wire.String(b, 1, p.ID)
	b = wire.String(b, 2, p.Name)
	b = wire.String(b, 3, p.Description)
	b = wire.String(b, 4, p.Rules)
	return appendStrings(b, 5, p.Datacenters)
}

// Digest is ACLRecord's, and the policy's Hash.
func (p *ACLPolicy) Digest() [sha256.Size]byte { return sha256.Sum256(p.appendContent(nil)) }

// DecodeWire replaces p by what AppendWire wrote.
func (p *ACLPolicy) DecodeWire(b []byte) error {
	p.ID, p.Name, p.Description, p.Rules, p.Datacenters, p.CreateIndex, p.ModifyIndex = "", "", "", "", nil, 0, 0
	p.json.Store(nil)
	p.row.Store(nil)
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			p.ID = d.String()
		case 2:
			p.Name = d.String()
		case 3:
			p.Description = d.String()
		case 4:
			p.Rules = d.String()
		case 5:
			p.Datacenters = append(p.Datacenters, d.String())
		case 14:
			p.CreateIndex = Index(d.Uint())
		case 15:
			p.ModifyIndex = Index(d.Uint())
		}
	}
	return d.Err()
}

// AppendWire appends the role's fields.
func (r *ACLRole) AppendWire(b []byte) []byte {
	b = r.appendContent(b, true)
	b = wire.Uint(b, 14, uint64(r.CreateIndex))
	return wire.Uint(b, 15, uint64(r.ModifyIndex))
}

func (r *ACLRole) appendContent(b []byte, names bool) []byte {
	b = wire.String(b, 1, r.ID)
	b = wire.String(b, 2, r.Name)
	b = wire.String(b, 3, r.Description)
	return r.ACLGrants.appendWire(b, names)
}

// Digest is ACLRecord's, and the role's Hash.
func (r *ACLRole) Digest() [sha256.Size]byte { return sha256.Sum256(r.appendContent(nil, false)) }

// DecodeWire replaces r by what AppendWire wrote.
func (r *ACLRole) DecodeWire(b []byte) error {
	r.ID, r.Name, r.Description, r.ACLGrants, r.CreateIndex, r.ModifyIndex = "", "", "", ACLGrants{}, 0, 0
	r.json.Store(nil)
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			r.ID = d.String()
		case 2:
			r.Name = d.String()
		case 3:
			r.Description = d.String()
		case 14:
			r.CreateIndex = Index(d.Uint())
		case 15:
			r.ModifyIndex = Index(d.Uint())
		default:
			if err := r.ACLGrants.decodeField(&d); err != nil {
				return err
			}
		}
	}
	return d.Err()
}

// AppendWire appends the rule's fields.
func (r *ACLBindingRule) AppendWire(b []byte) []byte {
	b = r.appendContent(b)
	b = wire.Uint(b, 14, uint64(r.CreateIndex))
	return wire.Uint(b, 15, uint64(r.ModifyIndex))
}

func (r *ACLBindingRule) appendContent(b []byte) []byte {
	b = wire.String(b, 1, r.ID)
	b = wire.String(b, 2, r.Description)
	b = wire.String(b, 3, r.AuthMethod)
	b = wire.String(b, 4, r.Selector)
	b = wire.String(b, 5, r.BindType)
	b = wire.String(b, 6, r.BindName)
	return wire.String(b, 7, r.BindVars)
}

// Digest is ACLRecord's.
func (r *ACLBindingRule) Digest() [sha256.Size]byte { return sha256.Sum256(r.appendContent(nil)) }

// DecodeWire replaces r by what AppendWire wrote.
func (r *ACLBindingRule) DecodeWire(b []byte) error {
	r.ID, r.Description, r.AuthMethod, r.Selector, r.BindType, r.BindName, r.BindVars = "", "", "", "", "", "", ""
	r.CreateIndex, r.ModifyIndex = 0, 0
	r.json.Store(nil)
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			r.ID = d.String()
		case 2:
			r.Description = d.String()
		case 3:
			r.AuthMethod = d.String()
		case 4:
			r.Selector = d.String()
		case 5:
			r.BindType = d.String()
		case 6:
			r.BindName = d.String()
		case 7:
			r.BindVars = d.String()
		case 14:
			r.CreateIndex = Index(d.Uint())
		case 15:
			r.ModifyIndex = Index(d.Uint())
		}
	}
	return d.Err()
}

// AppendWire appends the method's fields.
func (m *ACLAuthMethod) AppendWire(b []byte) []byte {
	b = m.appendContent(b)
	b = wire.Uint(b, 14, uint64(m.CreateIndex))
	return wire.Uint(b, 15, uint64(m.ModifyIndex))
}

func (m *ACLAuthMethod) appendContent(b []byte) []byte {
	b = wire.String(b, 1, m.Name)
	b = wire.String(b, 2, m.Type)
	b = wire.String(b, 3, m.DisplayName)
	b = wire.String(b, 4, m.Description)
	b = wire.Int(b, 5, int64(m.MaxTokenTTL))
	b = wire.String(b, 6, m.TokenLocality)
	return wire.Bytes(b, 7, m.Config)
}

// Digest is ACLRecord's.
func (m *ACLAuthMethod) Digest() [sha256.Size]byte { return sha256.Sum256(m.appendContent(nil)) }

// DecodeWire replaces m by what AppendWire wrote.
func (m *ACLAuthMethod) DecodeWire(b []byte) error {
	m.Name, m.Type, m.DisplayName, m.Description, m.MaxTokenTTL, m.TokenLocality = "", "", "", "", 0, ""
	m.Config, m.CreateIndex, m.ModifyIndex = nil, 0, 0
	m.json.Store(nil)
	m.row.Store(nil)
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			m.Name = d.String()
		case 2:
			m.Type = d.String()
		case 3:
			m.DisplayName = d.String()
		case 4:
			m.Description = d.String()
		case 5:
			m.MaxTokenTTL = time.Duration(d.Int())
		case 6:
			m.TokenLocality = d.String()
		case 7:
			m.Config = bytes.Clone(d.Bytes())
		case 14:
			m.CreateIndex = Index(d.Uint())
		case 15:
			m.ModifyIndex = Index(d.Uint())
		}
	}
	return d.Err()
}
