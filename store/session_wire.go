package store

import (
	"time"

	"landbridge/store/wire"
)

// AppendWire appends the session's fields.
func (s *Session) AppendWire(b []byte) []byte {
	b = wire.String(b, 1, s.ID)
	b = wire.String(b, 2, s.Name)
	b = wire.String(b, 3, s.Node)
	b = wire.Int(b, 4, int64(s.LockDelay))
	b = wire.String(b, 5, s.Behavior)
	b = wire.String(b, 6, s.TTL)
	b = appendStrings(b, 7, s.NodeChecks)
	b = appendStrings(b, 8, s.ServiceChecks)
	b = wire.Uint(b, 9, uint64(s.CreateIndex))
	return wire.Uint(b, 10, uint64(s.ModifyIndex))
}

// DecodeWire replaces s by what AppendWire wrote.
func (s *Session) DecodeWire(b []byte) error {
	*s = Session{}
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			s.ID = d.String()
		case 2:
			s.Name = d.String()
		case 3:
			s.Node = d.String()
		case 4:
			s.LockDelay = time.Duration(d.Int())
		case 5:
			s.Behavior = d.String()
		case 6:
			s.TTL = d.String()
		case 7:
			s.NodeChecks = append(s.NodeChecks, d.String())
		case 8:
			s.ServiceChecks = append(s.ServiceChecks, d.String())
		case 9:
			s.CreateIndex = Index(d.Uint())
		case 10:
			s.ModifyIndex = Index(d.Uint())
		}
	}
	return d.Err()
}

// AppendWire appends the command's fields.
func (c *SessionCommand) AppendWire(b []byte) []byte {
	b = wire.Uint(b, 1, uint64(c.Op))
	return wire.Message(b, 2, c.Session.AppendWire)
}

// DecodeWire replaces c by what AppendWire wrote.
func (c *SessionCommand) DecodeWire(b []byte) error {
	*c = SessionCommand{}
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			c.Op = SessionOp(min(d.Uint(), 255))
		case 2:
			if err := c.Session.DecodeWire(d.Bytes()); err != nil {
				return err
			}
		}
	}
	return d.Err()
}

// AppendSessions appends a list of sessions.
func AppendSessions(b []byte, list []*Session) []byte {
	for _, s := range list {
		b = wire.Message(b, 1, s.AppendWire)
	}
	return b
}

// DecodeSessions reads what AppendSessions wrote.
func DecodeSessions(b []byte) ([]*Session, error) { return decodeList[Session](b) }
