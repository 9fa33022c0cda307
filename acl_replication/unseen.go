package aclreplication

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"landbridge/acl_replication/replica"
	"landbridge/store"
	"landbridge/store/state"
)

// A datacenter that was promoted in another one's place lacks what that one wrote last.
// Where those writes are, in the old primary when it is back and in secondaries that
// had copied more of it, they would be covered by the first copy of the new primary.
// So that copy keeps what it covers (store.ACLUnseen), until an operator brings it to
// the primary or discards it. What the new primary merely lacks is held, as ever.

// promotion is how the datacenter that is copied became the primary, nil if there was
// no promotion.
func (k *sink) promotion() *store.Promotion {
	_, rec := k.cfg.State.Trust(nil)
	if rec == nil || rec.Promotion == nil || rec.Promotion.Primary != k.cfg.Primary() {
		return nil
	}
	return rec.Promotion
}

// exact is whether the promotion names a position in our own log.
func (k *sink) exact(p *store.Promotion) bool {
	c := k.cfg.State.Cluster()
	return p.Former == k.cfg.Datacenter && p.SourceCluster == c.ID && p.SourceHistory == c.HistoryID
}

// ahead is whether there may be changes here that the promoted primary never saw, and
// that no complete copy of it has covered yet.
func (k *sink) ahead(r *store.ACLReplica) bool {
	p := k.promotion()
	switch {
	case p == nil:
		return false
	case r.Datacenter == p.Primary:
		return r.Ahead
	case p.Former == k.cfg.Datacenter:
		// Another cluster of that name has none of its changes.
		return p.SourceCluster == "" || p.SourceCluster == k.cfg.State.ClusterID()
	case r.Datacenter == "":
		return false
	case r.Datacenter != p.Former || r.ClusterID != p.SourceCluster || r.HistoryID != p.SourceHistory:
		return true
	}
	return r.Position > p.SourcePosition
}

// Known: of records that were not changed here since the primary copied them last.
func (k *sink) Known(key replica.Key) bool {
	r := k.cfg.State.ACLReplica()
	p := k.promotion()
	if p == nil || !k.exact(p) || !k.ahead(&r) {
		return false
	}
	rec := k.cfg.State.ACLRecord(store.ACLKind(key.Kind), key.ID)
	if rec == nil {
		return false
	}
	_, modified := rec.Indexes()
	return modified <= p.SourcePosition
}

// unseen is what a change of the primary covers here that it never saw, or nil.
func (k *sink) unseen(here *state.ACLView, key replica.Key, ch *store.ACLChange) *store.ACLUnseen {
	p := k.promotion()
	if p == nil || ch.Record == nil {
		return nil
	}
	r := k.cfg.State.ACLReplica()
	ahead := k.ahead(&r)
	old := here.Record(ch.Kind, key.ID)
	if old == nil {
		if created, _ := ch.Record.Indexes(); ahead && created != 0 && created <= p.Base {
			return &store.ACLUnseen{Change: store.UnseenDeleted, Kind: ch.Kind, Key: key.ID, Record: ch.Record}
		}
		return nil
	}
	if !shared(here, old) {
		return nil
	}
	_, modified := old.Indexes()
	if ahead && old.Digest() != ch.Record.Digest() && (!k.exact(p) || modified > p.SourcePosition) {
		return &store.ACLUnseen{Change: store.UnseenChanged, Kind: ch.Kind, Key: key.ID, Record: old}
	}
	was, ok := old.(*store.ACLToken)
	if now, is := ch.Record.(*store.ACLToken); ok && is && k.cfg.Tokens == Secrets && was.SecretID != "" && now.SecretID == "" && was.SecretHash == now.SecretHash {
		return &store.ACLUnseen{Change: store.UnseenSecret, Kind: ch.Kind, Key: key.ID, Record: old}
	}
	return nil
}

// settled are the kept secrets that a change of the primary leaves nothing to do about:
// it has the secret, or no such token any more.
func (k *sink) settled() func(key replica.Key, ch *store.ACLChange) bool {
	kept := map[string]bool{}
	for _, u := range k.cfg.State.ACLUnseen() {
		if u.Change == store.UnseenSecret {
			kept[u.Key] = true
		}
	}
	return func(key replica.Key, ch *store.ACLChange) bool {
		t, _ := ch.Record.(*store.ACLToken)
		return ch.Kind == store.ACLTokens && kept[key.ID] && (ch.Op == store.ACLDelete || t != nil && t.SecretID != "")
	}
}

// Unseen is a change that the primary never saw.
type Unseen struct {
	Change   string // created, changed, deleted or secret
	Kind, ID string
	Name     string
}

// UnseenList is the body of /v1/internal/federation/unseen.
type UnseenList struct {
	Primary string
	Former  string
	Term    uint64
	Changes []Unseen
}

var unseenWords = map[store.ACLUnseenChange]string{store.UnseenChanged: "changed", store.UnseenDeleted: "deleted", store.UnseenSecret: "secret"}

const unseenCreated = "created"

// Unseen lists what the promoted primary never saw. Records that were made here come
// from the deletions that are held, so it is complete at the leader only.
func (s *Secondary) Unseen() UnseenList {
	list := UnseenList{Primary: s.cfg.Primary(), Changes: []Unseen{}}
	k := &sink{&s.cfg}
	p := k.promotion()
	if p == nil {
		return list
	}
	list.Former, list.Term = p.Former, p.Term
	for _, key := range s.follower.Status().Held {
		kind := store.ACLKind(key.Kind)
		list.Changes = append(list.Changes, Unseen{unseenCreated, kind.String(), key.ID, recordName(s.cfg.State.ACLRecord(kind, key.ID))})
	}
	for _, u := range s.cfg.State.ACLUnseen() {
		list.Changes = append(list.Changes, Unseen{unseenWords[u.Change], u.Kind.String(), u.Key, recordName(u.Record)})
	}
	return list
}

func recordName(r store.ACLRecord) string {
	switch r := r.(type) {
	case *store.ACLPolicy:
		return r.Name
	case *store.ACLRole:
		return r.Name
	case *store.ACLToken:
		return r.Description
	}
	return ""
}

// UnseenDone is what became of them.
type UnseenDone struct {
	Applied, Discarded int
	Errors             []string `json:",omitempty"`
}

// JSON is the answer's body.
func (d *UnseenDone) JSON() []byte { b, _ := json.Marshal(d); return b } // plain fields: it cannot fail

// JSON is the answer's body.
func (l *UnseenList) JSON() []byte { b, _ := json.Marshal(l); return b }

func named(ids []string, id string) bool {
	return len(ids) == 0 || slices.ContainsFunc(ids, func(s string) bool { return strings.EqualFold(s, id) })
}

// Reapply has write carry out, in the primary, the changes with some ids, all of them
// for none. What is done is kept no longer; one that fails stays.
func (s *Secondary) Reapply(ctx context.Context, ids []string, write func(ctx context.Context, ch store.ACLChange) error) (UnseenDone, error) {
	var done UnseenDone
	try := func(ch store.ACLChange, id string) bool {
		if err := write(ctx, ch); err != nil {
			if len(done.Errors) < 100 {
				done.Errors = append(done.Errors, ch.Kind.String()+" "+id+": "+err.Error())
			}
			return false
		}
		done.Applied++
		return true
	}
	for _, key := range s.follower.Status().Held {
		kind := store.ACLKind(key.Kind)
		if r := s.cfg.State.ACLRecord(kind, key.ID); r != nil && named(ids, key.ID) {
			try(store.SetACL(store.ACLSet, r), key.ID)
		}
	}
	var seen []store.ACLChange
	// Policies and roles before the tokens that lead to them.
	list := slices.Clone(s.cfg.State.ACLUnseen())
	slices.SortStableFunc(list, func(a, b store.ACLUnseen) int { return order(a.Kind) - order(b.Kind) })
	for _, u := range list {
		if !named(ids, u.Key) {
			continue
		}
		ch := store.SetACL(store.ACLSet, u.Record)
		switch u.Change {
		case store.UnseenDeleted:
			ch = store.DeleteACL(u.Kind, u.Key)
		case store.UnseenSecret: // the primary takes nothing else from it
			ch.Op = store.ACLUpdate
		}
		if try(ch, u.Key) {
			seen = append(seen, store.ACLChange{Kind: u.Kind, Key: u.Key})
		}
	}
	return done, s.forget(ctx, seen)
}

func order(k store.ACLKind) int {
	return slices.Index(kinds(Secrets), replica.Kind(k))
}

// Discard keeps the changes with some ids no longer, all of them for none; then held
// records are deleted, too.
func (s *Secondary) Discard(ctx context.Context, ids []string) (UnseenDone, error) {
	var done UnseenDone
	if st := s.follower.Status(); len(ids) == 0 && len(st.Held) > 0 {
		n, err := s.follower.Approve(ctx, st.HeldID)
		done.Discarded = n
		if err != nil {
			return done, err
		}
	}
	var seen []store.ACLChange
	for _, u := range s.cfg.State.ACLUnseen() {
		if named(ids, u.Key) {
			seen = append(seen, store.ACLChange{Kind: u.Kind, Key: u.Key})
		}
	}
	done.Discarded += len(seen)
	return done, s.forget(ctx, seen)
}

func (s *Secondary) forget(ctx context.Context, seen []store.ACLChange) error {
	k := &sink{&s.cfg}
	for part := range slices.Chunk(seen, applyRows) {
		cmd := store.ACLCommand{Seen: part}
		ctx, cancel := context.WithTimeout(ctx, applyTime)
		_, err := k.cfg.Apply(ctx, store.Command{Kind: store.CmdACL, Payload: cmd.AppendWire(nil)})
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}
