package state

import (
	"encoding/json"
	"fmt"
	"time"

	"landbridge/store"
	"landbridge/store/wire"
)

// Name returns what a kind of record is called in lists for people, plural where
// there are many: the names tools for such archives know where they have one.
func (k RecordKind) Name() string {
	switch k {
	case recordMaxima:
		return "TableIndex"
	case recordNode:
		return "Node"
	case recordService:
		return "Service"
	case recordCheck:
		return "Check"
	case recordNodeIndex:
		return "NodeIndex"
	case recordServiceIndex:
		return "ServiceIndex"
	case recordConnectIndex:
		return "ConnectIndex"
	case recordKV:
		return "KVS"
	case recordTombstone:
		return "Tombstone"
	case recordTrust:
		return "Trust"
	case recordAutopilot:
		return "Autopilot"
	case recordSession:
		return "Session"
	case recordLockDelay:
		return "LockDelay"
	case recordCoordinate:
		return "Coordinate"
	case recordCoordinateMax:
		return "CoordinateIndex"
	case recordQuery:
		return "PreparedQuery"
	case recordQueryMax:
		return "PreparedQueryIndex"
	case recordACLToken:
		return "ACLToken"
	case recordACLPolicy:
		return "ACLPolicy"
	case recordACLRole:
		return "ACLRole"
	case recordACLBindingRule:
		return "ACLBindingRule"
	case recordACLAuthMethod:
		return "ACLAuthMethod"
	case recordACLIndexes:
		return "ACLIndex"
	}
	return fmt.Sprintf("Kind%d", uint16(k))
}

// Key returns the key that a record of the key/value store is under.
func (k RecordKind) Key(record []byte) (key string, ok bool) {
	if k != recordKV {
		return "", false
	}
	d := wire.NewDecoder(record)
	for d.Next() {
		if d.Field == 1 {
			return d.String(), true
		}
	}
	return "", false
}

// AppendJSON appends a record as JSON: as the HTTP API shows it if it does, else
// {"Bytes": base64} of its encoding.
func (k RecordKind) AppendJSON(b, record []byte) ([]byte, error) {
	type row interface {
		DecodeWire([]byte) error
		AppendJSON([]byte) []byte
	}
	var r row
	switch k {
	case recordNode:
		r = new(store.Node)
	case recordCheck:
		r = new(store.Check)
	case recordService:
		r = new(store.Service)
	case recordKV:
		r = new(store.KVEntry)
	case recordAutopilot:
		r = new(store.AutopilotConfig)
	case recordSession:
		r = new(store.Session)
	case recordCoordinate:
		r = new(store.Coordinate)
	case recordQuery:
		r = new(store.PreparedQuery)
	case recordACLToken, recordACLPolicy, recordACLRole, recordACLBindingRule, recordACLAuthMethod:
		kind, _ := aclKindOf(k)
		r = store.NewACLRecord(kind)
	default:
		v, err := k.plain(record)
		if err != nil {
			return b, err
		}
		text, err := json.Marshal(v)
		return append(b, text...), err
	}
	if err := r.DecodeWire(record); err != nil {
		return b, err
	}
	return r.AppendJSON(b), nil
}

func (k RecordKind) plain(record []byte) (any, error) {
	switch k {
	case recordNodeIndex, recordServiceIndex, recordConnectIndex:
		var r indexRecord
		err := r.decodeWire(record)
		return struct {
			Name                    string
			Catalog, Health, Checks store.Index
		}{r.name, r.catalog, r.health, r.checks}, err
	case recordMaxima:
		var m maxima
		err := m.decodeWire(record)
		return struct{ KV, KVFloor, Nodes, Services, Checks store.Index }{m.kv, m.kvFloor, m.nodes, m.services, m.checks}, err
	case recordTombstone:
		t, err := decodeTombstone(record)
		return struct {
			Key   string
			Index store.Index
		}{t.key, t.index}, err
	case recordLockDelay:
		key, delay, err := decodeLockDelay(record)
		return struct {
			Key   string
			Began time.Time
			Lasts string
		}{key, time.Unix(0, delay.from).UTC(), time.Duration(delay.length).String()}, err
	case recordCoordinateMax, recordQueryMax:
		d := wire.NewDecoder(record)
		var index store.Index
		for d.Next() {
			if d.Field == 1 {
				index = store.Index(d.Uint())
			}
		}
		return struct{ Index store.Index }{index}, d.Err()
	case recordACLIndexes:
		var x aclIndexes
		err := x.decodeWire(record)
		return struct{ Tokens, Policies, Roles, BindingRules, AuthMethods, Bootstrap store.Index }{x[0], x[1], x[2], x[3], x[4], x[5]}, err
	}
	return struct{ Bytes []byte }{record}, nil
}

// Kept reports whether a restore by a user keeps this kind of record of the live
// cluster instead of the archive's: what says whom the cluster trusts must not
// roll back.
func (k RecordKind) Kept() bool { return k == recordTrust }

// EncodeKept is Encode for the records that a restore keeps.
func (sn *Snapshot) EncodeKept(emit func(kind RecordKind, record []byte) error) error {
	e := &encoder{emit: emit}
	if sn.trust != nil {
		e.add(recordTrust, sn.trust.AppendWire)
	}
	return e.err
}

// Public returns the snapshot without what a restore keeps, which holds private
// keys: what may leave the cluster.
func (sn *Snapshot) Public() *Snapshot {
	p := *sn
	p.trust = nil
	return &p
}
