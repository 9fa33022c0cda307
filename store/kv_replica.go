package store

import (
	"bytes"
	"time"

	"landbridge/store/wire"
)

// KVReplica is how far a datacenter has copied keys of another one. It is part of the
// state and changes with the keys it speaks of, so that a new leader goes on where the
// last one was.
type KVReplica struct {
	// Version counts the changes of this record. A command that carries another one
	// than there is comes from a leader that was deposed, and is refused.
	Version   uint64
	ClusterID string // of the source, "" before the first copy
	HistoryID string
	Position  Index // all that happened up to it is here
	// Fence says why no key is deleted that the source merely does not have; "" if
	// nothing forbids that.
	Fence    string
	FencedAt time.Time
}

// KVChange writes a key, or deletes it. Locks stay as they are.
type KVChange struct {
	Key    string
	Value  []byte
	Flags  uint64
	Delete bool
}

// KVReplicateCommand is the payload of CmdKVReplicate: all of its changes, of keys that
// were copied under the name Of.
type KVReplicateCommand struct {
	Of      string
	Changes []KVChange
	Replica KVReplica // its Version is what there has to be
}

func (r *KVReplica) appendWire(b []byte) []byte {
	b = wire.Uint(b, 1, r.Version)
	b = wire.String(b, 2, r.ClusterID)
	b = wire.String(b, 3, r.HistoryID)
	b = wire.Uint(b, 4, uint64(r.Position))
	b = wire.String(b, 5, r.Fence)
	return appendTime(b, 6, r.FencedAt)
}

func (r *KVReplica) decodeWire(b []byte) error {
	*r = KVReplica{}
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			r.Version = d.Uint()
		case 2:
			r.ClusterID = d.String()
		case 3:
			r.HistoryID = d.String()
		case 4:
			r.Position = Index(d.Uint())
		case 5:
			r.Fence = d.String()
		case 6:
			r.FencedAt = decodeTime(d.Int())
		}
	}
	return d.Err()
}

func (c *KVChange) appendWire(b []byte) []byte {
	b = wire.String(b, 1, c.Key)
	b = wire.Bytes(b, 2, c.Value)
	b = wire.Uint(b, 3, c.Flags)
	return wire.Bool(b, 4, c.Delete)
}

func (c *KVChange) decodeWire(b []byte) error {
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			c.Key = d.String()
		case 2:
			c.Value = bytes.Clone(d.Bytes())
		case 3:
			c.Flags = d.Uint()
		case 4:
			c.Delete = d.Bool()
		}
	}
	return d.Err()
}

// AppendWire appends the command's fields.
func (c *KVReplicateCommand) AppendWire(b []byte) []byte {
	b = wire.String(b, 1, c.Of)
	for i := range c.Changes {
		b = wire.Message(b, 2, c.Changes[i].appendWire)
	}
	return wire.Message(b, 3, c.Replica.appendWire)
}

// DecodeWire replaces c by what AppendWire wrote.
func (c *KVReplicateCommand) DecodeWire(b []byte) error {
	*c = KVReplicateCommand{}
	d := wire.NewDecoder(b)
	for d.Next() {
		var err error
		switch d.Field {
		case 1:
			c.Of = d.String()
		case 2:
			var ch KVChange
			err = ch.decodeWire(d.Bytes())
			c.Changes = append(c.Changes, ch)
		case 3:
			err = c.Replica.decodeWire(d.Bytes())
		}
		if err != nil {
			return err
		}
	}
	return d.Err()
}
