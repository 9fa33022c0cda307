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
	return wire.Uint(b, 8, uint64(t.ModifyIndex))
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
	}
	c.RootKey = bytes.Clone(t.RootKey)
	c.Intermediate = bytes.Clone(t.Intermediate)
	c.IntermediateKey = bytes.Clone(t.IntermediateKey)
	c.Datacenters = slices.Clone(t.Datacenters)
	return &c
}

// AppendWire appends the root's fields.
func (r *TrustRoot) AppendWire(b []byte) []byte {
	b = wire.String(b, 1, r.ID)
	b = wire.Bytes(b, 2, r.DER)
	b = wire.String(b, 3, r.FederationID)
	b = wire.Int(b, 4, r.CreatedUnix)
	return wire.Bool(b, 5, r.Active)
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
		}
	}
	return d.Err()
}

// AppendWire appends the datacenter's fields.
func (t *TrustDatacenter) AppendWire(b []byte) []byte {
	b = wire.String(b, 1, t.Name)
	b = wire.String(b, 2, t.ClusterID)
	return wire.String(b, 3, t.KeyHash)
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
