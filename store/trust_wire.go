package store

import (
	"bytes"
	"slices"

	"landbridge/store/wire"
)

// AppendWire appends the record's fields, keys included.
func (t *Trust) AppendWire(b []byte) []byte {
	b = wire.String(b, 1, t.FederationID)
	b = wire.String(b, 2, t.Primary)
	for i := range t.Roots {
		b = wire.Message(b, 3, t.Roots[i].AppendWire)
	}
	b = wire.Bytes(b, 4, t.RootKey)
	b = wire.Bytes(b, 5, t.Intermediate)
	b = wire.Bytes(b, 6, t.IntermediateKey)
	for i := range t.Datacenters {
		b = wire.Message(b, 7, t.Datacenters[i].AppendWire)
	}
	b = wire.Uint(b, 8, uint64(t.ModifyIndex))
	b = wire.Uint(b, 9, t.Revision)
	for i := range t.Revoked {
		b = wire.Message(b, 10, t.Revoked[i].AppendWire)
	}
	for i := range t.Tokens {
		b = wire.Message(b, 11, t.Tokens[i].AppendWire)
	}
	b = wire.Int(b, 12, t.RenewedUnix)
	b = wire.Uint(b, 13, t.Pruned)
	if t.Promotion != nil {
		b = wire.Message(b, 14, t.Promotion.AppendWire)
	}
	if t.Claim != nil {
		b = wire.Message(b, 15, t.Claim.AppendWire)
	}
	for _, c := range t.Alternates {
		b = wire.Element(b, 16, c)
	}
	return b
}

// DecodeWire replaces t by what AppendWire wrote.
func (t *Trust) DecodeWire(b []byte) error {
	*t = Trust{}
	d := wire.NewDecoder(b)
	for d.Next() {
		var err error
		switch d.Field {
		case 1:
			t.FederationID = d.String()
		case 2:
			t.Primary = d.String()
		case 3:
			var r TrustRoot
			err = r.DecodeWire(d.Bytes())
			t.Roots = append(t.Roots, r)
		case 4:
			t.RootKey = bytes.Clone(d.Bytes())
		case 5:
			t.Intermediate = bytes.Clone(d.Bytes())
		case 6:
			t.IntermediateKey = bytes.Clone(d.Bytes())
		case 7:
			var dc TrustDatacenter
			err = dc.DecodeWire(d.Bytes())
			t.Datacenters = append(t.Datacenters, dc)
		case 8:
			t.ModifyIndex = Index(d.Uint())
		case 9:
			t.Revision = d.Uint()
		case 10:
			var r TrustRevocation
			err = r.DecodeWire(d.Bytes())
			t.Revoked = append(t.Revoked, r)
		case 11:
			var k TrustToken
			err = k.DecodeWire(d.Bytes())
			t.Tokens = append(t.Tokens, k)
		case 12:
			t.RenewedUnix = d.Int()
		case 13:
			t.Pruned = d.Uint()
		case 14:
			t.Promotion = new(Promotion)
			err = t.Promotion.DecodeWire(d.Bytes())
		case 15:
			t.Claim = new(Promotion)
			err = t.Claim.DecodeWire(d.Bytes())
		case 16:
			t.Alternates = append(t.Alternates, bytes.Clone(d.Bytes()))
		}
		if err != nil {
			return err
		}
	}
	return d.Err()
}

// Clone returns a copy that shares nothing with t.
func (t *Trust) Clone() *Trust {
	c := *t
	c.Roots = slices.Clone(t.Roots)
	for i := range c.Roots {
		c.Roots[i].DER = bytes.Clone(c.Roots[i].DER)
		c.Roots[i].Cross = bytes.Clone(c.Roots[i].Cross)
	}
	c.RootKey = bytes.Clone(t.RootKey)
	c.Intermediate = bytes.Clone(t.Intermediate)
	c.IntermediateKey = bytes.Clone(t.IntermediateKey)
	c.Datacenters = slices.Clone(t.Datacenters)
	c.Revoked = slices.Clone(t.Revoked)
	c.Tokens = slices.Clone(t.Tokens)
	for i := range c.Tokens {
		c.Tokens[i].Verifier = bytes.Clone(c.Tokens[i].Verifier)
	}
	c.Alternates = slices.Clone(t.Alternates) // certificates and promotions never change
	return &c
}

// AppendWire appends the root's fields.
func (r *TrustRoot) AppendWire(b []byte) []byte {
	b = wire.String(b, 1, r.ID)
	b = wire.Bytes(b, 2, r.DER)
	b = wire.String(b, 3, r.FederationID)
	b = wire.Int(b, 4, r.CreatedUnix)
	b = wire.Bool(b, 5, r.Active)
	b = wire.Bytes(b, 6, r.Cross)
	return wire.Bool(b, 7, r.Provisional)
}

// DecodeWire replaces r by what AppendWire wrote.
func (r *TrustRoot) DecodeWire(b []byte) error {
	*r = TrustRoot{}
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			r.ID = d.String()
		case 2:
			r.DER = bytes.Clone(d.Bytes())
		case 3:
			r.FederationID = d.String()
		case 4:
			r.CreatedUnix = d.Int()
		case 5:
			r.Active = d.Bool()
		case 6:
			r.Cross = bytes.Clone(d.Bytes())
		case 7:
			r.Provisional = d.Bool()
		}
	}
	return d.Err()
}

// AppendWire appends the datacenter's fields.
func (t *TrustDatacenter) AppendWire(b []byte) []byte {
	b = wire.String(b, 1, t.Name)
	b = wire.String(b, 2, t.ClusterID)
	b = wire.String(b, 3, t.KeyHash)
	return wire.String(b, 4, t.Root)
}

// DecodeWire replaces t by what AppendWire wrote.
func (t *TrustDatacenter) DecodeWire(b []byte) error {
	*t = TrustDatacenter{}
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			t.Name = d.String()
		case 2:
			t.ClusterID = d.String()
		case 3:
			t.KeyHash = d.String()
		case 4:
			t.Root = d.String()
		}
	}
	return d.Err()
}

// AppendWire appends the revocation's fields.
func (r *TrustRevocation) AppendWire(b []byte) []byte {
	b = wire.String(b, 1, r.Node)
	b = wire.String(b, 2, r.Datacenter)
	b = wire.Int(b, 3, r.Unix)
	return wire.Int(b, 4, r.LiftedUnix)
}

// DecodeWire replaces r by what AppendWire wrote.
func (r *TrustRevocation) DecodeWire(b []byte) error {
	*r = TrustRevocation{}
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			r.Node = d.String()
		case 2:
			r.Datacenter = d.String()
		case 3:
			r.Unix = d.Int()
		case 4:
			r.LiftedUnix = d.Int()
		}
	}
	return d.Err()
}

// AppendWire appends the token's fields.
func (t *TrustToken) AppendWire(b []byte) []byte {
	b = wire.String(b, 1, t.ID)
	b = wire.Bytes(b, 2, t.Verifier)
	b = wire.Int(b, 3, t.ExpiresUnix)
	b = wire.String(b, 4, t.Datacenter)
	b = wire.String(b, 5, t.UsedBy)
	return wire.String(b, 6, t.UsedKey)
}

// DecodeWire replaces t by what AppendWire wrote.
func (t *TrustToken) DecodeWire(b []byte) error {
	*t = TrustToken{}
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			t.ID = d.String()
		case 2:
			t.Verifier = bytes.Clone(d.Bytes())
		case 3:
			t.ExpiresUnix = d.Int()
		case 4:
			t.Datacenter = d.String()
		case 5:
			t.UsedBy = d.String()
		case 6:
			t.UsedKey = d.String()
		}
	}
	return d.Err()
}

// AppendWire appends the command's fields.
func (c *TrustCommand) AppendWire(b []byte) []byte {
	return wire.Message(b, 1, c.Trust.AppendWire)
}

// DecodeWire replaces c by what AppendWire wrote.
func (c *TrustCommand) DecodeWire(b []byte) error {
	*c = TrustCommand{}
	d := wire.NewDecoder(b)
	for d.Next() {
		if d.Field == 1 {
			if err := c.Trust.DecodeWire(d.Bytes()); err != nil {
				return err
			}
		}
	}
	return d.Err()
}

// AppendSigned appends all fields that the signature covers, in their order.
func (p *Promotion) AppendSigned(b []byte) []byte {
	b = p.AppendClaim(b)
	b = wire.String(b, 13, p.Accessor)
	return wire.Bytes(b, 14, p.Consent)
}

// AppendClaim appends the fields that Consent covers, in their order.
func (p *Promotion) AppendClaim(b []byte) []byte {
	b = wire.Uint(b, 1, p.Term)
	b = wire.String(b, 2, p.FederationID)
	b = wire.String(b, 3, p.Primary)
	b = wire.String(b, 4, p.Former)
	b = wire.Int(b, 5, p.Unix)
	b = wire.String(b, 6, p.Cluster)
	b = wire.String(b, 7, p.History)
	b = wire.Bytes(b, 8, p.Root)
	b = wire.String(b, 9, p.SourceCluster)
	b = wire.String(b, 10, p.SourceHistory)
	b = wire.Uint(b, 11, uint64(p.SourcePosition))
	return wire.Uint(b, 12, uint64(p.Base))
}

// AppendWire appends the promotion's fields.
func (p *Promotion) AppendWire(b []byte) []byte {
	b = p.AppendSigned(b)
	for _, c := range p.Chain {
		b = wire.Element(b, 15, c)
	}
	return wire.Bytes(b, 16, p.Signature)
}

// maxPromotionChain bounds the certificates of a promotion.
const maxPromotionChain = 8

// DecodeWire replaces p by what AppendWire wrote.
func (p *Promotion) DecodeWire(b []byte) error {
	*p = Promotion{}
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			p.Term = d.Uint()
		case 2:
			p.FederationID = d.String()
		case 3:
			p.Primary = d.String()
		case 4:
			p.Former = d.String()
		case 5:
			p.Unix = d.Int()
		case 6:
			p.Cluster = d.String()
		case 7:
			p.History = d.String()
		case 8:
			p.Root = bytes.Clone(d.Bytes())
		case 9:
			p.SourceCluster = d.String()
		case 10:
			p.SourceHistory = d.String()
		case 11:
			p.SourcePosition = Index(d.Uint())
		case 12:
			p.Base = Index(d.Uint())
		case 13:
			p.Accessor = d.String()
		case 14:
			p.Consent = bytes.Clone(d.Bytes())
		case 15:
			if len(p.Chain) == maxPromotionChain {
				return Errorf(KindInvalid, "a promotion with more than %d certificates", maxPromotionChain)
			}
			p.Chain = append(p.Chain, bytes.Clone(d.Bytes()))
		case 16:
			p.Signature = bytes.Clone(d.Bytes())
		}
	}
	return d.Err()
}

// AppendWire appends the command's fields.
func (c *PromotionCommand) AppendWire(b []byte) []byte {
	b = wire.Message(b, 1, c.Trust.AppendWire)
	b = wire.Bool(b, 2, c.Owns)
	b = wire.Bool(b, 3, c.Begins)
	return wire.Uint(b, 4, c.ReplicaVersion)
}

// DecodeWire replaces c by what AppendWire wrote.
func (c *PromotionCommand) DecodeWire(b []byte) error {
	*c = PromotionCommand{}
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			if err := c.Trust.DecodeWire(d.Bytes()); err != nil {
				return err
			}
		case 2:
			c.Owns = d.Bool()
		case 3:
			c.Begins = d.Bool()
		case 4:
			c.ReplicaVersion = d.Uint()
		}
	}
	return d.Err()
}
