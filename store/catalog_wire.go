package store

import (
	"bytes"

	"landbridge/store/wire"
)

// AppendWire appends the node's fields.
func (n *Node) AppendWire(b []byte) []byte {
	b = wire.String(b, 1, n.ID)
	b = wire.String(b, 2, n.Node)
	b = wire.String(b, 3, n.Address)
	b = wire.String(b, 4, n.Datacenter)
	b = wire.StringMap(b, 5, n.TaggedAddresses)
	b = wire.StringMap(b, 6, n.Meta)
	b = wire.Uint(b, 7, uint64(n.CreateIndex))
	return wire.Uint(b, 8, uint64(n.ModifyIndex))
}

// Wire returns what AppendWire appends, encoded once and shared: callers must not
// change it.
func (n *Node) Wire() []byte { return fragment(&n.wire, n.AppendWire) }

// DecodeWire replaces n by what AppendWire wrote.
func (n *Node) DecodeWire(b []byte) error {
	*n = Node{}
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			n.ID = d.String()
		case 2:
			n.Node = d.String()
		case 3:
			n.Address = d.String()
		case 4:
			n.Datacenter = d.String()
		case 5:
			d.StringPair(&n.TaggedAddresses)
		case 6:
			d.StringPair(&n.Meta)
		case 7:
			n.CreateIndex = Index(d.Uint())
		case 8:
			n.ModifyIndex = Index(d.Uint())
		}
	}
	return d.Err()
}

// AppendWire appends the service's fields.
func (s *Service) AppendWire(b []byte) []byte {
	b = wire.String(b, 1, s.Node)
	b = wire.String(b, 2, s.Kind)
	b = wire.String(b, 3, s.ID)
	b = wire.String(b, 4, s.Name)
	b = appendStrings(b, 5, s.Tags)
	b = wire.String(b, 6, s.Address)
	for k, a := range s.TaggedAddresses {
		b = wire.Message(b, 7, func(b []byte) []byte {
			b = wire.String(b, 1, k)
			b = wire.String(b, 2, a.Address)
			return wire.Int(b, 3, int64(a.Port))
		})
	}
	b = wire.StringMap(b, 8, s.Meta)
	b = wire.Int(b, 9, int64(s.Port))
	b = wire.String(b, 10, s.SocketPath)
	b = wire.Int(b, 11, int64(s.Weights.Passing))
	b = wire.Int(b, 12, int64(s.Weights.Warning))
	b = wire.Bool(b, 13, s.EnableTagOverride)
	b = wire.Bytes(b, 14, s.Proxy)
	b = wire.Bytes(b, 15, s.Connect)
	b = wire.Bytes(b, 16, s.Locality)
	b = wire.Uint(b, 17, uint64(s.CreateIndex))
	return wire.Uint(b, 18, uint64(s.ModifyIndex))
}

// DecodeWire replaces s by what AppendWire wrote.
func (s *Service) DecodeWire(b []byte) error {
	*s = Service{}
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			s.Node = d.String()
		case 2:
			s.Kind = d.String()
		case 3:
			s.ID = d.String()
		case 4:
			s.Name = d.String()
		case 5:
			s.Tags = append(s.Tags, d.String())
		case 6:
			s.Address = d.String()
		case 7:
			if err := s.decodeTagged(d.Bytes()); err != nil {
				return err
			}
		case 8:
			d.StringPair(&s.Meta)
		case 9:
			s.Port = int(d.Int())
		case 10:
			s.SocketPath = d.String()
		case 11:
			s.Weights.Passing = int(d.Int())
		case 12:
			s.Weights.Warning = int(d.Int())
		case 13:
			s.EnableTagOverride = d.Bool()
		case 14:
			s.Proxy = bytes.Clone(d.Bytes())
		case 15:
			s.Connect = bytes.Clone(d.Bytes())
		case 16:
			s.Locality = bytes.Clone(d.Bytes())
		case 17:
			s.CreateIndex = Index(d.Uint())
		case 18:
			s.ModifyIndex = Index(d.Uint())
		}
	}
	return d.Err()
}

func (s *Service) decodeTagged(b []byte) error {
	var name string
	var a ServiceAddress
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			name = d.String()
		case 2:
			a.Address = d.String()
		case 3:
			a.Port = int(d.Int())
		}
	}
	if err := d.Err(); err != nil {
		return err
	}
	if s.TaggedAddresses == nil {
		s.TaggedAddresses = make(map[string]ServiceAddress)
	}
	s.TaggedAddresses[name] = a
	return nil
}

// AppendWire appends the check's fields.
func (c *Check) AppendWire(b []byte) []byte {
	b = wire.String(b, 1, c.Node)
	b = wire.String(b, 2, c.CheckID)
	b = wire.String(b, 3, c.Name)
	b = wire.String(b, 4, c.Status)
	b = wire.String(b, 5, c.Notes)
	b = wire.String(b, 6, c.Output)
	b = wire.String(b, 7, c.ServiceID)
	b = wire.String(b, 8, c.ServiceName)
	b = appendStrings(b, 9, c.ServiceTags)
	b = wire.String(b, 10, c.Type)
	b = wire.String(b, 11, c.Interval)
	b = wire.String(b, 12, c.Timeout)
	b = wire.Int(b, 13, int64(c.ExposedPort))
	b = wire.Bytes(b, 14, c.Definition)
	b = wire.Uint(b, 15, uint64(c.CreateIndex))
	return wire.Uint(b, 16, uint64(c.ModifyIndex))
}

// DecodeWire replaces c by what AppendWire wrote.
func (c *Check) DecodeWire(b []byte) error {
	*c = Check{}
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			c.Node = d.String()
		case 2:
			c.CheckID = d.String()
		case 3:
			c.Name = d.String()
		case 4:
			c.Status = d.String()
		case 5:
			c.Notes = d.String()
		case 6:
			c.Output = d.String()
		case 7:
			c.ServiceID = d.String()
		case 8:
			c.ServiceName = d.String()
		case 9:
			c.ServiceTags = append(c.ServiceTags, d.String())
		case 10:
			c.Type = d.String()
		case 11:
			c.Interval = d.String()
		case 12:
			c.Timeout = d.String()
		case 13:
			c.ExposedPort = int(d.Int())
		case 14:
			c.Definition = bytes.Clone(d.Bytes())
		case 15:
			c.CreateIndex = Index(d.Uint())
		case 16:
			c.ModifyIndex = Index(d.Uint())
		}
	}
	return d.Err()
}

// AppendWire appends the command's fields.
func (c *RegisterCommand) AppendWire(b []byte) []byte {
	b = wire.Message(b, 1, c.Node.AppendWire)
	b = wire.Bool(b, 2, c.SkipNodeUpdate)
	if c.Service != nil {
		b = wire.Message(b, 3, c.Service.AppendWire)
	}
	for _, check := range c.Checks {
		b = wire.Message(b, 4, check.AppendWire)
	}
	return b
}

// DecodeWire replaces c by what AppendWire wrote.
func (c *RegisterCommand) DecodeWire(b []byte) error {
	*c = RegisterCommand{}
	d := wire.NewDecoder(b)
	for d.Next() {
		var err error
		switch d.Field {
		case 1:
			err = c.Node.DecodeWire(d.Bytes())
		case 2:
			c.SkipNodeUpdate = d.Bool()
		case 3:
			c.Service = new(Service)
			err = c.Service.DecodeWire(d.Bytes())
		case 4:
			check := new(Check)
			err = check.DecodeWire(d.Bytes())
			c.Checks = append(c.Checks, check)
		}
		if err != nil {
			return err
		}
	}
	return d.Err()
}

// AppendWire appends the command's fields.
func (c *DeregisterCommand) AppendWire(b []byte) []byte {
	b = wire.String(b, 1, c.Node)
	b = wire.String(b, 2, c.ServiceID)
	return wire.String(b, 3, c.CheckID)
}

// DecodeWire replaces c by what AppendWire wrote.
func (c *DeregisterCommand) DecodeWire(b []byte) error {
	*c = DeregisterCommand{}
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			c.Node = d.String()
		case 2:
			c.ServiceID = d.String()
		case 3:
			c.CheckID = d.String()
		}
	}
	return d.Err()
}

func appendStrings(b []byte, field int, v []string) []byte {
	for _, s := range v {
		b = wire.StringElement(b, field, s)
	}
	return b
}
