package aclreplication

import (
	"encoding/json"
	"time"

	"landbridge/acl_replication/replica"
	"landbridge/store"
)

// Status is how replication is doing here.
func (s *Secondary) Status() replica.Status { return s.follower.Status() }

// Types of replication, in the words of /v1/acl/replication.
const (
	typePolicies = "policies"
	typeTokens   = "tokens"
)

// Type says what is replicated.
func (s *Secondary) Type() string {
	if s.cfg.Tokens != NoTokens {
		return typeTokens
	}
	return typePolicies
}

// mostShown bounds the held deletions that a status lists.
const mostShown = 1000

// Detail is the body of /v1/internal/acl/replication.
type Detail struct {
	Enabled          bool
	Running          bool
	Connected        bool
	Healthy          bool
	SourceDatacenter string
	ReplicationType  string
	SourceCluster    string
	SourceHistory    string
	Position         uint64
	SourcePosition   uint64
	LagPositions     uint64
	LagSeconds       float64
	LastSuccess      time.Time
	LastError        time.Time
	LastErrorMessage string
	LastProof        time.Time
	Held             int
	HeldID           string // what approve names
	HeldReason       string
	HeldSince        time.Time
	HeldRecords      []HeldRecord // the first 1000
	Refused          int
	LastRefusal      string
	Undoable         int // records that replication deleted and undo can bring back
	UndoableSince    time.Time
	Unseen           int // changes that the promoted primary never saw (federation unseen)
}

// HeldRecord is a record that the primary does not have.
type HeldRecord struct{ Kind, ID, Name string }

// Detail tells all there is to know. now is the time of the answer.
func (s *Secondary) Detail(now time.Time) Detail {
	st := s.follower.Status()
	d := Detail{
		Enabled: true, Running: st.Running, Connected: st.Connected, Healthy: st.Running && st.Healthy(),
		SourceDatacenter: s.cfg.Primary(), ReplicationType: s.Type(),
		SourceCluster: st.Cursor.Cluster, SourceHistory: st.Cursor.History,
		Position: st.Cursor.Position, SourcePosition: max(st.Top, st.Cursor.Position),
		LagSeconds:  st.Lag(now).Seconds(),
		LastSuccess: st.LastSuccess.UTC(), LastError: st.LastError.UTC(), LastErrorMessage: st.LastErrorMessage, LastProof: st.LastProof.UTC(),
		Held: len(st.Held), HeldID: st.HeldID, HeldReason: st.Cursor.Fence,
		HeldRecords: []HeldRecord{},
		Refused:     st.Refused, LastRefusal: st.LastRefusal,
	}
	d.LagPositions = d.SourcePosition - d.Position
	if d.Held > 0 {
		d.HeldSince = s.cfg.State.ACLReplica().FencedAt
	}
	for _, k := range st.Held[:min(len(st.Held), mostShown)] {
		h := HeldRecord{Kind: store.ACLKind(k.Kind).String(), ID: k.ID}
		switch r := s.cfg.State.ACLRecord(store.ACLKind(k.Kind), k.ID).(type) {
		case *store.ACLPolicy:
			h.Name = r.Name
		case *store.ACLRole:
			h.Name = r.Name
		case *store.ACLToken:
			h.Name = r.Description
		}
		d.HeldRecords = append(d.HeldRecords, h)
	}
	d.Unseen = len(s.cfg.State.ACLUnseen())
	d.Undoable, d.UndoableSince = s.cfg.State.ACLTrash()
	if d.Undoable > 0 {
		d.UndoableSince = d.UndoableSince.UTC()
	}
	return d
}

// JSON is the detail as it is answered.
func (d *Detail) JSON() []byte {
	b, _ := json.Marshal(d) // plain fields: it cannot fail
	return b
}
