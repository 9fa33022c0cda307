package store

import (
	"time"

	"landbridge/store/wire"
)

// ACLOp is what an ACLChange does. Numbers are on disk and on the wire.
type ACLOp uint8

const (
	ACLCreate ACLOp = 1 // of a record that must not be there
	ACLUpdate ACLOp = 2 // of one that must be
	ACLSet    ACLOp = 3 // either, also if it changes nothing: what replication writes
	ACLDelete ACLOp = 4 // of Key; one that is not there is no error
	ACLExpire ACLOp = 5 // of the token Key, if its time is over at the command's
	// ACLClone makes a token with the grants of the token Key; only in an ACLRequest.
	ACLClone ACLOp = 6
)

// ACLChange is one change of one record.
type ACLChange struct {
	Op     ACLOp
	Kind   ACLKind
	Key    string    // of ACLDelete
	Record ACLRecord // of the others
}

// ACLCommand is the payload of CmdACL: all of its changes, or none. Its result is
// true if anything changed.
type ACLCommand struct {
	Changes []ACLChange
	// Replicated changes are those of the primary: links need not lead anywhere yet,
	// for kinds arrive in any order. What they delete can be undone for a while.
	Replicated bool
	// Replica takes the place of the one with its Version, if that is still there:
	// else the command is refused. nil leaves it.
	Replica *ACLReplica
	Undo    *ACLUndo // after the changes; nil: nothing is undone
	// Unseen is added to what is kept of changes that a promoted primary never saw, but
	// for records of which something is kept already; Seen names what is kept no longer.
	// They come only where a promotion was accepted, which needs version 3.
	Unseen []ACLUnseen
	Seen   []ACLChange // Kind and Key
}

// SetACL is a change that writes a record.
func SetACL(op ACLOp, r ACLRecord) ACLChange { return ACLChange{Op: op, Kind: r.ACLKind(), Record: r} }

// DeleteACL is a change that deletes a record.
func DeleteACL(k ACLKind, key string) ACLChange {
	return ACLChange{Op: ACLDelete, Kind: k, Key: key}
}

// AppendWire appends the command's fields.
func (c *ACLCommand) AppendWire(b []byte) []byte {
	for i := range c.Changes {
		b = wire.Message(b, 1, c.Changes[i].AppendWire)
	}
	b = wire.Bool(b, 2, c.Replicated)
	if c.Replica != nil {
		b = wire.Message(b, 3, c.Replica.AppendWire)
	}
	if c.Undo != nil {
		b = wire.Message(b, 4, c.Undo.appendWire)
	}
	for i := range c.Unseen {
		b = wire.Message(b, 5, c.Unseen[i].AppendWire)
	}
	for i := range c.Seen {
		b = wire.Message(b, 6, c.Seen[i].AppendWire)
	}
	return b
}

// DecodeWire replaces c by what AppendWire wrote.
func (c *ACLCommand) DecodeWire(b []byte) error {
	*c = ACLCommand{}
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			var ch ACLChange
			if err := ch.DecodeWire(d.Bytes()); err != nil {
				return err
			}
			c.Changes = append(c.Changes, ch)
		case 2:
			c.Replicated = d.Bool()
		case 3:
			c.Replica = new(ACLReplica)
			if err := c.Replica.DecodeWire(d.Bytes()); err != nil {
				return err
			}
		case 4:
			c.Undo = new(ACLUndo)
			if err := c.Undo.decodeWire(d.Bytes()); err != nil {
				return err
			}
		case 5:
			var u ACLUnseen
			if err := u.DecodeWire(d.Bytes()); err != nil {
				return err
			}
			c.Unseen = append(c.Unseen, u)
		case 6:
			var ch ACLChange
			if err := ch.DecodeWire(d.Bytes()); err != nil {
				return err
			}
			c.Seen = append(c.Seen, ch)
		}
	}
	return d.Err()
}

// AppendWire appends the change's fields.
func (c *ACLChange) AppendWire(b []byte) []byte {
	b = wire.Uint(b, 1, uint64(c.Op))
	b = wire.Uint(b, 2, uint64(c.Kind))
	b = wire.String(b, 3, c.Key)
	if c.Record != nil {
		b = wire.Message(b, 4, c.Record.AppendWire)
	}
	return b
}

// DecodeWire replaces c by what AppendWire wrote. A kind that this version does not
// know is an error: the record cannot be kept.
func (c *ACLChange) DecodeWire(b []byte) error {
	*c = ACLChange{}
	var record []byte
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			c.Op = ACLOp(d.Uint())
		case 2:
			c.Kind = ACLKind(d.Uint())
		case 3:
			c.Key = d.String()
		case 4:
			record = d.Bytes()
		}
	}
	if err := d.Err(); err != nil {
		return err
	}
	if c.Op == ACLDelete || c.Op == ACLExpire {
		return nil
	}
	if c.Record = NewACLRecord(c.Kind); c.Record == nil {
		return Errorf(KindInvalid, "ACL records of kind %d are unknown to this version of landbridge", c.Kind)
	}
	return c.Record.DecodeWire(record)
}

// ACLRequest is what a user asks for: a change whose record is not complete, with
// links by name. The server that carries it out makes an ACLCommand of it.
type ACLRequest struct {
	ACLChange
	TTL time.Duration // of a new token; 0: as its ExpirationTime says
}

// AppendWire appends the request's fields.
func (r *ACLRequest) AppendWire(b []byte) []byte {
	b = wire.Message(b, 1, r.ACLChange.AppendWire)
	return wire.Int(b, 2, int64(r.TTL))
}

// DecodeWire replaces r by what AppendWire wrote.
func (r *ACLRequest) DecodeWire(b []byte) error {
	*r = ACLRequest{}
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			if err := r.ACLChange.DecodeWire(d.Bytes()); err != nil {
				return err
			}
		case 2:
			r.TTL = time.Duration(d.Int())
		}
	}
	return d.Err()
}

// ACLLogin is what somebody who logs in presents.
type ACLLogin struct {
	Method string
	Bearer string            // secret
	Meta   map[string]string // shown in the token's description
}

// AppendWire appends the login's fields.
func (l *ACLLogin) AppendWire(b []byte) []byte {
	b = wire.String(b, 1, l.Method)
	b = wire.String(b, 2, l.Bearer)
	return wire.StringMap(b, 3, l.Meta)
}

// DecodeWire replaces l by what AppendWire wrote.
func (l *ACLLogin) DecodeWire(b []byte) error {
	*l = ACLLogin{}
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			l.Method = d.String()
		case 2:
			l.Bearer = d.String()
		case 3:
			d.StringPair(&l.Meta)
		}
	}
	return d.Err()
}

// ACLReplication is the state of the copy of the primary's ACLs.
type ACLReplication struct {
	Enabled              bool
	Running              bool
	SourceDatacenter     string
	ReplicationType      string // "policies" or "tokens"
	ReplicatedIndex      uint64
	ReplicatedRoleIndex  uint64
	ReplicatedTokenIndex uint64
	LastSuccess          time.Time
	LastError            time.Time
	LastErrorMessage     string
}

// ACLBootstrapCommand is the payload of CmdACLBootstrap: the first token of a
// datacenter, once, or once more with the index of the last time. The result's
// value is nothing; a refusal names that index.
type ACLBootstrapCommand struct {
	Token *ACLToken
	Reset Index
}

// AppendWire appends the command's fields.
func (c *ACLBootstrapCommand) AppendWire(b []byte) []byte {
	b = wire.Message(b, 1, c.Token.AppendWire)
	return wire.Uint(b, 2, uint64(c.Reset))
}

// DecodeWire replaces what AppendWire wrote.
func (c *ACLBootstrapCommand) DecodeWire(b []byte) error {
	*c = ACLBootstrapCommand{Token: new(ACLToken)}
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			if err := c.Token.DecodeWire(d.Bytes()); err != nil {
				return err
			}
		case 2:
			c.Reset = Index(d.Uint())
		}
	}
	return d.Err()
}
