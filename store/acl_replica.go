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
	return appendTime(b, 11, r.FencedAt)
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
