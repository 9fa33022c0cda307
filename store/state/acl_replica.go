package state

import (
	"time"

	"github.com/tidwall/btree"

	"landbridge/store"
	"landbridge/store/wire"
)

// What replication deleted is kept for a day, but no more than so many records.
const (
	trashTime = 24 * time.Hour
	trashMost = 100_000
)

// aclTrash is a record that replication deleted, and when.
type aclTrash struct {
	at     int64 // the command's time
	record store.ACLRecord
}

func (t *aclTrash) appendWire(b []byte) []byte {
	b = wire.Int(b, 1, t.at)
	b = wire.Uint(b, 2, uint64(t.record.ACLKind()))
	return wire.Message(b, 3, t.record.AppendWire)
}

func (im *Image) addACLTrash(record []byte) error {
	var at int64
	var r store.ACLRecord
	d := wire.NewDecoder(record)
	for d.Next() {
		switch d.Field {
		case 1:
			at = d.Int()
		case 2:
			if r = store.NewACLRecord(store.ACLKind(d.Uint())); r == nil {
				return store.Errorf(store.KindInvalid, "a deleted ACL record is of an unknown kind")
			}
		case 3:
			if r == nil {
				return store.Errorf(store.KindInvalid, "a deleted ACL record has no kind")
			}
			if err := r.DecodeWire(d.Bytes()); err != nil {
				return err
			}
		}
	}
	if d.Err() == nil && r != nil {
		im.acl.trash = append(im.acl.trash, aclTrash{at, r})
	}
	return d.Err()
}

// ACLReplica returns how far this datacenter has copied the primary's ACLs; the
// zero value in the primary.
func (s *Store) ACLReplica() store.ACLReplica {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.acl.replica
}

// ACLTrash returns how many records that replication deleted are kept, and since
// when.
func (s *Store) ACLTrash() (n int, oldest time.Time) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if n = len(s.acl.trash); n > 0 {
		oldest = time.Unix(0, s.acl.trash[0].at)
	}
	return n, oldest
}

func (s *Store) setReplica(r store.ACLReplica) {
	r.Version++
	if r.Fence == "" {
		r.FencedAt = time.Time{}
	} else if r.FencedAt.IsZero() {
		r.FencedAt = time.Unix(0, s.now).UTC()
	}
	s.acl.replica = r
}

// fenced is whether no replicated record may push another one out.
func (s *Store) fenced() bool { return s.acl.replicating && s.acl.replica.Fence != "" }

func errFenced(what string, by store.ACLRecord) *store.Error {
	return store.Errorf(store.KindConflict, "%s belongs to the %s %s, which the primary does not have: it is not replaced before its deletion is approved", what, by.ACLKind(), by.ACLKey())
}

// emptyTrash drops what is too old. Slices of it that snapshots hold stay as they
// are.
func (s *Store) emptyTrash() {
	t := s.acl.trash
	for len(t) > 0 && (len(t) > trashMost || s.now-t[0].at > int64(trashTime)) {
		t = t[1:]
	}
	if len(t) == 0 {
		t = nil
	}
	s.acl.trash = t
}

// undoACL puts back what replication deleted since a time, each record as it was
// last, unless it is there again.
func (s *Store) undoACL(u *store.ACLUndo) bool {
	var done store.ACLUndone
	var kept []aclTrash
	type id struct {
		kind store.ACLKind
		key  string
	}
	seen := make(map[id]bool)
	for i := len(s.acl.trash) - 1; i >= 0; i-- {
		t := s.acl.trash[i]
		k := id{t.record.ACLKind(), t.record.ACLKey()}
		switch {
		case t.at < u.Since:
			kept = append(kept, t)
		case seen[k] || s.acl.record(k.kind, k.key) != nil:
			// An older form, or it is back.
		default:
			seen[k] = true
			r := store.NewACLRecord(k.kind)
			// A copy: the row's indexes change, and snapshots may hold the original.
			if err := r.DecodeWire(t.record.AppendWire(nil)); err != nil {
				done.Skipped++
				continue
			}
			ch := store.SetACL(store.ACLCreate, r)
			if ok, err := s.changeACL(&ch, true); err != nil || !ok {
				done.Skipped++
				kept = append(kept, t)
				continue
			}
			done.Restored++
		}
	}
	trash := make([]aclTrash, 0, len(kept))
	for i := len(kept) - 1; i >= 0; i-- {
		trash = append(trash, kept[i])
	}
	s.acl.trash = trash
	s.value = done
	if done.Restored > 0 {
		r := s.acl.replica
		if r.Fence == "" {
			r.Fence = u.Fence
		}
		s.setReplica(r)
	}
	return done.Restored > 0
}

// keepUnseen does what a command says of changes that the primary never saw.
func (s *Store) keepUnseen(c *store.ACLCommand) {
	if len(c.Unseen) == 0 && len(c.Seen) == 0 {
		return
	}
	type id struct {
		kind store.ACLKind
		key  string
	}
	gone, have := map[id]bool{}, map[id]bool{}
	for i := range c.Seen {
		gone[id{c.Seen[i].Kind, lower(c.Seen[i].Key)}] = true
	}
	var next []store.ACLUnseen
	for _, u := range s.acl.unseen {
		if k := (id{u.Kind, u.Key}); !gone[k] {
			have[k] = true
			next = append(next, u)
		}
	}
	for _, u := range c.Unseen {
		if k := (id{u.Kind, u.Key}); !have[k] && u.Record != nil {
			have[k] = true
			next = append(next, u)
		}
	}
	s.acl.unseen = next
}

// ACLUnseen returns what is kept of changes that the promoted primary never saw. It
// must not be changed.
func (s *Store) ACLUnseen() []store.ACLUnseen {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.acl.unseen
}

// ACLView is all ACL records at one position. It never changes.
type ACLView struct {
	Index                   store.Index
	Cluster                 store.Cluster
	Version                 uint64      // ACLVersion then
	Policies, Roles, Tokens store.Index // of the tables
	tables                  aclSnapshot
}

// ACLView returns the records as they are now.
func (s *Store) ACLView() *ACLView {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.copyMu.Lock()
	defer s.copyMu.Unlock()
	return &ACLView{s.index, s.cluster, s.aclVersion.n.Load(), s.acl.policies.max, s.acl.roles.max, s.acl.tokens.max, s.acl.snapshot()}
}

// Record returns the record of a kind under an ACLKey as it was written, or nil.
func (v *ACLView) Record(kind store.ACLKind, key string) store.ACLRecord {
	t := &v.tables
	switch kind {
	case store.ACLTokens:
		return fromTree(t.tokens, key)
	case store.ACLPolicies:
		return fromTree(t.policies, key)
	case store.ACLRoles:
		return fromTree(t.roles, key)
	case store.ACLBindingRules:
		return fromTree(t.rules, key)
	case store.ACLAuthMethods:
		return fromTree(t.methods, key)
	}
	return nil
}

func fromTree[R any, P interface {
	*R
	store.ACLRecord
}](t *btree.Map[string, *R], key string) store.ACLRecord {
	r, _ := t.Get(key)
	return some(P(r))
}

// Scan calls each for the records of a kind in the order of their keys.
func (v *ACLView) Scan(kind store.ACLKind, each func(key string, r store.ACLRecord)) {
	t := &v.tables
	switch kind {
	case store.ACLTokens:
		eachOf(t.tokens, each)
	case store.ACLPolicies:
		eachOf(t.policies, each)
	case store.ACLRoles:
		eachOf(t.roles, each)
	case store.ACLBindingRules:
		eachOf(t.rules, each)
	case store.ACLAuthMethods:
		eachOf(t.methods, each)
	}
}

func eachOf[R any, P interface {
	*R
	store.ACLRecord
}](t *btree.Map[string, *R], each func(string, store.ACLRecord)) {
	t.Scan(func(key string, r *R) bool {
		each(key, P(r))
		return true
	})
}

// ACLFeed is what happened to ACL records after a position.
type ACLFeed struct {
	Cluster store.Cluster
	// Whole says that the log goes back to the position and knows it.
	Whole                   bool
	Events                  []ACLEvent
	UpTo                    store.Index // the position they lead to
	More                    bool        // the limit cut them short
	Policies, Roles, Tokens store.Index // of the tables
}

// ACLFeed is ACLChanges with the history they belong to, as of one moment: that of
// the view, if there is one, else now.
func (s *Store) ACLFeed(w *Watch, after store.Index, limit int, v *ACLView) ACLFeed {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.watch(w, watchACL, "")
	a := s.acl
	f := ACLFeed{Cluster: s.cluster, Policies: a.policies.max, Roles: a.roles.max, Tokens: a.tokens.max, UpTo: s.index}
	if v != nil {
		f.UpTo, f.Policies, f.Roles, f.Tokens = v.Index, v.Policies, v.Roles, v.Tokens
	}
	l := &a.log
	if after < l.floor || after > s.index {
		return f
	}
	f.Whole = true
	from, to := l.after(after), len(l.events)
	if v != nil {
		to = max(l.after(v.Index), from)
	}
	if end := to; to-from > limit {
		for to = from + max(limit, 1); to < end && l.events[to].Index == l.events[to-1].Index; to++ {
		}
		if to < end {
			f.UpTo, f.More = l.events[to-1].Index, true
		}
	}
	f.Events = append(f.Events, l.events[from:to]...)
	return f
}
