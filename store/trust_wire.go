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
	return wire.Uint(b, 13, t.Pruned)
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
