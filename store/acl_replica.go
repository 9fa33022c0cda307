package store

import (
	"time"

	"landbridge/store/wire"
)

// ACLReplica is how far a secondary datacenter has copied the primary's ACLs. It
// is part of the state and changes with the records it speaks of, so that a new
// leader goes on where the last one was.
type ACLReplica struct {
	// Version counts the changes of this record. A command that carries another one
	// than there is comes from a leader that was deposed, and is refused.
	Version    uint64
	Datacenter string // the primary
	ClusterID  string // the primary's, "" before the first copy
	HistoryID  string
	Position   Index // in the primary's change log: all up to it is here
	WithTokens bool  // tokens are among what was copied
	// Indexes of the primary's tables, which clients are told.
	Policies, Roles, Tokens Index
	// Fence says why no record is deleted that the primary merely does not have; ""
	// if nothing forbids that. While it is up, no record takes the name or secret of
	// another one either.
	Fence    string
	FencedAt time.Time
	// Owned: this datacenter owns the ACLs, nothing is replicated to it.
	Owned bool
	// Ahead: there may be changes here that the primary never saw, for it was promoted
	// without them. Until the first copy is complete, what replication replaces or puts
	// back is kept as an ACLUnseen.
	Ahead bool
}

// Kinds of changes that a promoted primary never saw. Numbers are on disk.
const (
	UnseenChanged ACLUnseenChange = 1 // a record that was there in another form
	UnseenDeleted ACLUnseenChange = 2 // one that was not there any more
	UnseenSecret  ACLUnseenChange = 3 // a token whose secret the primary does not know
)

// ACLUnseenChange says what was changed.
type ACLUnseenChange uint8

// ACLUnseen is a change of before a promotion that the promoted datacenter never saw,
// and that its copy has covered here.
type ACLUnseen struct {
	Change ACLUnseenChange
	Kind   ACLKind
	Key    string
	Record ACLRecord // as it was here; of UnseenDeleted as the primary has it
}

// AppendWire appends the fields.
func (u *ACLUnseen) AppendWire(b []byte) []byte {
	b = wire.Uint(b, 1, uint64(u.Change))
	b = wire.Uint(b, 2, uint64(u.Kind))
	b = wire.String(b, 3, u.Key)
	if u.Record != nil {
		b = wire.Message(b, 4, u.Record.AppendWire)
	}
	return b
}

// DecodeWire replaces u by what AppendWire wrote.
func (u *ACLUnseen) DecodeWire(b []byte) error {
	*u = ACLUnseen{}
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			u.Change = ACLUnseenChange(d.Uint())
		case 2:
			u.Kind = ACLKind(d.Uint())
		case 3:
			u.Key = d.String()
		case 4:
			if u.Record = NewACLRecord(u.Kind); u.Record == nil {
				return Errorf(KindInvalid, "ACL records of kind %d are unknown to this version of landbridge", u.Kind)
			}
			if err := u.Record.DecodeWire(d.Bytes()); err != nil {
				return err
			}
		}
	}
	return d.Err()
}

// AppendWire appends the fields.
func (r *ACLReplica) AppendWire(b []byte) []byte {
	b = wire.Uint(b, 1, r.Version)
	b = wire.String(b, 2, r.Datacenter)
	b = wire.String(b, 3, r.ClusterID)
	b = wire.String(b, 4, r.HistoryID)
	b = wire.Uint(b, 5, uint64(r.Position))
	b = wire.Bool(b, 6, r.WithTokens)
	b = wire.Uint(b, 7, uint64(r.Policies))
	b = wire.Uint(b, 8, uint64(r.Roles))
	b = wire.Uint(b, 9, uint64(r.Tokens))
	b = wire.String(b, 10, r.Fence)
	b = appendTime(b, 11, r.FencedAt)
	b = wire.Bool(b, 12, r.Owned)
	return wire.Bool(b, 13, r.Ahead)
}

// DecodeWire replaces r by what AppendWire wrote.
func (r *ACLReplica) DecodeWire(b []byte) error {
	*r = ACLReplica{}
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			r.Version = d.Uint()
		case 2:
			r.Datacenter = d.String()
		case 3:
			r.ClusterID = d.String()
		case 4:
			r.HistoryID = d.String()
		case 5:
			r.Position = Index(d.Uint())
		case 6:
			r.WithTokens = d.Bool()
		case 7:
			r.Policies = Index(d.Uint())
		case 8:
			r.Roles = Index(d.Uint())
		case 9:
			r.Tokens = Index(d.Uint())
		case 10:
			r.Fence = d.String()
		case 11:
			r.FencedAt = decodeTime(d.Int())
		case 12:
			r.Owned = d.Bool()
		case 13:
			r.Ahead = d.Bool()
		}
	}
	return d.Err()
}

// ACLUndo takes back what replication deleted.
type ACLUndo struct {
	// Since is how far back, in Unix nanoseconds of the log's clock; 0 is as far as
	// anything is kept.
	Since int64
	Fence string // of the replica from now on, or the next comparison would delete them again
}

// ACLUndone is the Result.Value of a command with an ACLUndo.
type ACLUndone struct {
	Restored int
	Skipped  int // whose name or secret another record has now
}

func (u *ACLUndo) appendWire(b []byte) []byte {
	return wire.String(wire.Int(b, 1, u.Since), 2, u.Fence)
}

func (u *ACLUndo) decodeWire(b []byte) error {
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			u.Since = d.Int()
		case 2:
			u.Fence = d.String()
		}
	}
	return d.Err()
}
