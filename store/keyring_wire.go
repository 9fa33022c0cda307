package store

import "landbridge/store/wire"

// AppendWire appends the request's fields.
func (r *KeyringRequest) AppendWire(b []byte) []byte {
	b = wire.Uint(b, 1, uint64(r.Op))
	b = wire.String(b, 2, r.Key)
	b = wire.Uint(b, 3, uint64(r.Relay))
	return wire.Bool(b, 4, r.LocalOnly)
}

// DecodeWire replaces r by what AppendWire wrote.
func (r *KeyringRequest) DecodeWire(b []byte) error {
	*r = KeyringRequest{}
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			r.Op = KeyringOp(min(d.Uint(), 255))
		case 2:
			r.Key = d.String()
		case 3:
			r.Relay = uint8(min(d.Uint(), 255))
		case 4:
			r.LocalOnly = d.Bool()
		}
	}
	return d.Err()
}

// AppendWire appends the ring's fields.
func (r *KeyringRing) AppendWire(b []byte) []byte {
	b = wire.Bool(b, 1, r.WAN)
	b = wire.String(b, 2, r.Datacenter)
	b = wire.StringMap(b, 3, r.Messages)
	b = appendCounts(b, 4, r.Keys)
	b = appendCounts(b, 5, r.PrimaryKeys)
	b = wire.Int(b, 6, int64(r.NumNodes))
	return wire.String(b, 7, r.Error)
}

// DecodeWire replaces r by what AppendWire wrote.
func (r *KeyringRing) DecodeWire(b []byte) error {
	*r = KeyringRing{}
	d := wire.NewDecoder(b)
	for d.Next() {
		var err error
		switch d.Field {
		case 1:
			r.WAN = d.Bool()
		case 2:
			r.Datacenter = d.String()
		case 3:
			d.StringPair(&r.Messages)
		case 4:
			err = decodeCount(d.Bytes(), &r.Keys)
		case 5:
			err = decodeCount(d.Bytes(), &r.PrimaryKeys)
		case 6:
			r.NumNodes = int(d.Int())
		case 7:
			r.Error = d.String()
		}
		if err != nil {
			return err
		}
	}
	return d.Err()
}

func appendCounts(b []byte, field int, m map[string]int) []byte {
	for k, n := range m {
		b = wire.Message(b, field, func(b []byte) []byte { return wire.Int(wire.String(b, 1, k), 2, int64(n)) })
	}
	return b
}

func decodeCount(b []byte, m *map[string]int) error {
	var k string
	var n int
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			k = d.String()
		case 2:
			n = int(d.Int())
		}
	}
	if *m == nil {
		*m = make(map[string]int)
	}
	(*m)[k] = n
	return d.Err()
}
