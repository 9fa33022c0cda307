package store

import (
	"bytes"

	"landbridge/store/wire"
)

// AppendWire appends the entry's fields.
func (e *KVEntry) AppendWire(b []byte) []byte {
	b = wire.String(b, 1, e.Key)
	b = wire.Bytes(b, 2, e.Value)
	b = wire.Uint(b, 3, e.Flags)
	b = wire.String(b, 4, e.Session)
	b = wire.Uint(b, 5, e.LockIndex)
	b = wire.Uint(b, 6, uint64(e.CreateIndex))
	return wire.Uint(b, 7, uint64(e.ModifyIndex))
}

// DecodeWire replaces e by what AppendWire wrote. Like every DecodeWire it copies
// what it keeps: b may be reused, and a small record never pins a large batch.
func (e *KVEntry) DecodeWire(b []byte) error {
	*e = KVEntry{}
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			e.Key = d.String()
		case 2:
			e.Value = bytes.Clone(d.Bytes())
		case 3:
			e.Flags = d.Uint()
		case 4:
			e.Session = d.String()
		case 5:
			e.LockIndex = d.Uint()
		case 6:
			e.CreateIndex = Index(d.Uint())
		case 7:
			e.ModifyIndex = Index(d.Uint())
		}
	}
	return d.Err()
}

// AppendWire appends the command's fields.
func (c *KVCommand) AppendWire(b []byte) []byte {
	b = wire.Uint(b, 1, uint64(c.Op))
	return wire.Message(b, 2, c.Entry.AppendWire)
}

// DecodeWire replaces c by what AppendWire wrote.
func (c *KVCommand) DecodeWire(b []byte) error {
	*c = KVCommand{}
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			c.Op = KVOp(min(d.Uint(), 255))
		case 2:
			if err := c.Entry.DecodeWire(d.Bytes()); err != nil {
				return err
			}
		}
	}
	return d.Err()
}
