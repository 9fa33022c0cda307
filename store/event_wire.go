package store

import (
	"bytes"

	"landbridge/store/wire"
)

// AppendWire appends the event as it is gossiped: without its time, and with the
// 16 bytes of its ID, since all of it has to fit into 512.
func (e *UserEvent) AppendWire(b []byte) []byte {
	if id, err := uuidBytes(e.ID); err == nil {
		b = wire.Bytes(b, 1, id)
	}
	b = wire.String(b, 2, e.Name)
	b = wire.Bytes(b, 3, e.Payload)
	b = wire.String(b, 4, e.NodeFilter)
	b = wire.String(b, 5, e.ServiceFilter)
	return wire.String(b, 6, e.TagFilter)
}

// DecodeWire replaces e by what AppendWire wrote. An event without a valid ID is
// an error.
func (e *UserEvent) DecodeWire(b []byte) error {
	*e = UserEvent{}
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			if id := d.Bytes(); len(id) == 16 {
				e.ID = uuidString(id)
			}
		case 2:
			e.Name = d.String()
		case 3:
			e.Payload = bytes.Clone(d.Bytes())
		case 4:
			e.NodeFilter = d.String()
		case 5:
			e.ServiceFilter = d.String()
		case 6:
			e.TagFilter = d.String()
		}
	}
	if err := d.Err(); err != nil {
		return err
	}
	if e.ID == "" {
		return Errorf(KindInvalid, "event %.64q has no id", e.Name)
	}
	return nil
}
