package store

import "landbridge/store/wire"

// RaftPeer names a server of the Raft group by its id or by its address.
type RaftPeer struct {
	ID      string
	Address string // host:port
}

// AppendWire appends the peer's fields.
func (p *RaftPeer) AppendWire(b []byte) []byte {
	return wire.String(wire.String(b, 1, p.ID), 2, p.Address)
}

// DecodeWire replaces p by what AppendWire wrote.
func (p *RaftPeer) DecodeWire(b []byte) error {
	*p = RaftPeer{}
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			p.ID = d.String()
		case 2:
			p.Address = d.String()
		}
	}
	return d.Err()
}

// Usage is how much a datacenter's catalog holds.
type Usage struct {
	Nodes            int
	Services         int // distinct names
	ServiceInstances int
	// ConnectInstances by kind, connect-native ones under "connect-native"; kinds
	// that clients know are there with 0.
	ConnectInstances map[string]int
	// BillableInstances are those of typical services: neither proxies and
	// gateways nor the servers themselves.
	BillableInstances int
}

// AppendWire appends the usage's fields.
func (u *Usage) AppendWire(b []byte) []byte {
	b = wire.Uint(b, 1, uint64(u.Nodes))
	b = wire.Uint(b, 2, uint64(u.Services))
	b = wire.Uint(b, 3, uint64(u.ServiceInstances))
	b = appendCounts(b, 4, u.ConnectInstances)
	return wire.Uint(b, 5, uint64(u.BillableInstances))
}

// DecodeWire replaces u by what AppendWire wrote.
func (u *Usage) DecodeWire(b []byte) error {
	*u = Usage{}
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			u.Nodes = int(d.Uint())
		case 2:
			u.Services = int(d.Uint())
		case 3:
			u.ServiceInstances = int(d.Uint())
		case 4:
			if err := decodeCount(d.Bytes(), &u.ConnectInstances); err != nil {
				return err
			}
		case 5:
			u.BillableInstances = int(d.Uint())
		}
	}
	return d.Err()
}

// AppendJSON appends the usage as the HTTP API shows it.
func (u *Usage) AppendJSON(b []byte) []byte {
	b = append(b, '{')
	b = fieldInt(b, "Services", u.Services)
	b = fieldInt(b, "ServiceInstances", u.ServiceInstances)
	b = fieldCounts(b, "ConnectServiceInstances", u.ConnectInstances)
	b = fieldInt(b, "BillableServiceInstances", u.BillableInstances)
	b = fieldInt(b, "Nodes", u.Nodes)
	return append(b, '}')
}
