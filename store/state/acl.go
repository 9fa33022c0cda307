package state

import (
	"crypto/subtle"
	"slices"
	"sync/atomic"
	"time"

	"landbridge/store"
	"landbridge/store/wire"
)

// aclTables holds the ACL records, each kind under its ACLKey, and what happened
// to them of late.
type aclTables struct {
	tokens   *aclTokenTable
	policies *aclNamedTable[store.ACLPolicy]
	roles    *aclNamedTable[store.ACLRole]
	rules    *aclRuleTable
	methods  *table[store.ACLAuthMethod]
	// bootstrapped is when the first token was made, 0 if it was not: the number
	// that lets an operator do it once more.
	bootstrapped store.Index
	log          aclLog

	// In a secondary datacenter: how far it has copied the primary, and what that
	// deleted of late, the oldest first.
	replica store.ACLReplica
	trash   []aclTrash
	// unseen is what a promoted primary never saw, in the order in which it was found.
	// The slice is replaced, never changed.
	unseen []store.ACLUnseen
	// replicating while a command of the primary's changes is applied.
	replicating bool
}

func newACLTables(j *journal) *aclTables {
	return &aclTables{
		tokens:   newACLTokenTable(j),
		policies: newACLNamedTable(j, func(p *store.ACLPolicy) string { return p.Name }),
		roles:    newACLNamedTable(j, func(r *store.ACLRole) string { return r.Name }),
		rules:    newACLRuleTable(j),
		methods:  newTable[store.ACLAuthMethod](j),
	}
}

// aclNamedTable is a table of records with an id and a name of their own.
type aclNamedTable[R any] struct {
	table[R]
	byName *index[R] // in lower case
}

func newACLNamedTable[R any](j *journal, name func(*R) string) *aclNamedTable[R] {
	t := &aclNamedTable[R]{table: *newTable[R](j)}
	t.byName = t.index(func(_ string, r *R) (string, bool) { return lower(name(r)), true })
	return t
}

// named returns the row with a name, or nil.
func (t *aclNamedTable[R]) named(name string) *R { return only(t.byName.group(lower(name))) }

// aclVersion counts the changes of ACL records, restores included.
type aclVersion struct{ n atomic.Uint64 }

// ACLVersion is another number after each change of any ACL record: what was
// compiled from them under one number is true while it lasts. It is raised before
// the command that changed them is answered.
func (s *Store) ACLVersion() uint64 { return s.aclVersion.n.Load() }

// ACLBootstrapped returns the index of the bootstrap that was last, 0 if there was
// none, and whether there are tokens beside the anonymous one.
func (s *Store) ACLBootstrapped() (at store.Index, tokens bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	n := s.acl.tokens.len()
	if s.acl.tokens.get(store.AnonymousAccessor) != nil {
		n--
	}
	return s.acl.bootstrapped, n > 0
}

// ACLIdentity is a token with all it leads to, as of one moment. Links to what is
// not there are left out.
type ACLIdentity struct {
	Token    *store.ACLToken
	Roles    []*store.ACLRole
	Policies []*store.ACLPolicy // of the token and its roles, each once
}

// ACLIdentity returns what the token with a secret stands for; nil if there is no
// such token. Whether it has expired is for the caller to say. A watch waits for
// any change of ACLs.
func (s *Store) ACLIdentity(w *Watch, secret string) (store.Index, *ACLIdentity) {
	hash := store.HashSecret(secret)
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.watch(w, watchACL, "")
	t := s.acl.tokens.secret(hash)
	if t == nil {
		return atLeastOne(s.acl.tokens.max), nil
	}
	id := &ACLIdentity{Token: s.currentToken(t)}
	add := func(links []store.ACLLink) {
		for _, l := range links {
			if p := s.acl.policies.get(lower(l.ID)); p != nil && !slices.Contains(id.Policies, p) {
				id.Policies = append(id.Policies, p)
			}
		}
	}
	add(t.Policies)
	for _, l := range t.Roles {
		if r := s.acl.roles.get(lower(l.ID)); r != nil && !slices.Contains(id.Roles, r) {
			id.Roles = append(id.Roles, r)
			add(r.Policies)
		}
	}
	return atLeastOne(max(s.acl.tokens.max, s.acl.policies.max, s.acl.roles.max)), id
}

// sameSecret compares in constant time, whatever found the token.
func sameSecret(a, b [32]byte) bool { return subtle.ConstantTimeCompare(a[:], b[:]) == 1 }

// applyACL makes all changes of a command, or none.
func (s *Store) applyACL(c *store.ACLCommand) (bool, *store.Error) {
	if c.Replica != nil && c.Replica.Version != s.acl.replica.Version {
		return false, store.Errorf(store.KindNoLeader, "the state of ACL replication is at version %d, not %d: another leader has taken over", s.acl.replica.Version, c.Replica.Version)
	}
	if c.Replicated && s.acl.replica.Owned {
		return false, store.Errorf(store.KindNoLeader, "this datacenter owns the ACLs now: nothing is replicated to it")
	}
	changed := s.begin()
	before, trash := s.acl.log.end(), len(s.acl.trash)
	s.acl.replicating = c.Replicated
	defer func() { s.acl.replicating = false }()
	any := false
	for i := range c.Changes {
		ok, err := s.changeACL(&c.Changes[i], c.Replicated)
		if err != nil {
			s.rollback(changed)
			s.acl.log.cut(before)
			s.acl.trash = s.acl.trash[:trash]
			return false, err
		}
		any = any || ok
	}
	if c.Undo != nil {
		s.acl.replicating = false
		any = s.undoACL(c.Undo) || any
	}
	s.commit()
	s.emptyTrash()
	if c.Replica != nil {
		s.setReplica(*c.Replica)
	}
	s.keepUnseen(c)
	if any {
		s.aclChanged()
	}
	return any || c.Replica != nil || len(c.Seen) > 0, nil
}

// aclChanged makes a change known that lasts.
func (s *Store) aclChanged() {
	s.aclVersion.n.Add(1)
	s.change(watchACL, "")
}

func (s *Store) changeACL(c *store.ACLChange, replicated bool) (bool, *store.Error) {
	switch c.Op {
	case store.ACLDelete:
		return s.deleteACL(c.Kind, lower(c.Key))
	case store.ACLExpire:
		// Another token may have the accessor by now.
		if t := s.acl.tokens.get(lower(c.Key)); t == nil || !t.Expired(time.Unix(0, s.now)) {
			return false, nil
		}
		return s.deleteACL(store.ACLTokens, lower(c.Key))
	}
	if c.Op < store.ACLCreate || c.Op > store.ACLSet {
		return false, store.Errorf(store.KindInvalid, "unknown ACL operation %d", c.Op)
	}
	switch r := c.Record.(type) {
	case *store.ACLToken:
		return s.setToken(c.Op, r, replicated)
	case *store.ACLPolicy:
		return s.setPolicy(c.Op, r)
	case *store.ACLRole:
		return s.setRole(c.Op, r, replicated)
	case *store.ACLBindingRule:
		return s.setBindingRule(c.Op, r, replicated)
	case *store.ACLAuthMethod:
		return s.setAuthMethod(c.Op, r)
	}
	return false, store.Errorf(store.KindInvalid, "an ACL change without a record")
}

func (s *Store) deleteACL(kind store.ACLKind, key string) (bool, *store.Error) {
	switch kind {
	case store.ACLTokens:
		if key == store.AnonymousAccessor {
			return false, store.Errorf(store.KindInvalid, "Delete operation not permitted on the anonymous token")
		}
		return s.removeACL(kind, key, some(s.acl.tokens.remove(key)), &s.acl.tokens.max), nil
	case store.ACLPolicies:
		if p := s.acl.policies.get(key); p != nil && store.BuiltinPolicy(p.ID) {
			return false, store.Errorf(store.KindInvalid, "Delete operation not permitted on the builtin %s policy", p.Name)
		}
		return s.removeACL(kind, key, some(s.acl.policies.remove(key)), &s.acl.policies.max), nil
	case store.ACLRoles:
		return s.removeACL(kind, key, some(s.acl.roles.remove(key)), &s.acl.roles.max), nil
	case store.ACLBindingRules:
		return s.removeACL(kind, key, some(s.acl.rules.remove(key)), &s.acl.rules.max), nil
	case store.ACLAuthMethods:
		return s.deleteAuthMethod(key), nil
	}
	return false, store.Errorf(store.KindInvalid, "ACL records of kind %d are unknown to this version of landbridge", kind)
}

// removeACL does what follows the removal of a record, nil if it was not there.
func (s *Store) removeACL(kind store.ACLKind, key string, was store.ACLRecord, top *store.Index) bool {
	if was == nil {
		return false
	}
	if s.acl.replicating {
		s.acl.trash = append(s.acl.trash, aclTrash{s.now, was})
	}
	*top = s.index
	s.touchACL(kind, key, true)
	return true
}

// touchACL tells watches and followers of a change of one record.
func (s *Store) touchACL(kind store.ACLKind, key string, deleted bool) {
	s.change(watchACLTable, kind.String())
	s.change(watchACLRow, aclTopic(kind, key))
	s.acl.log.add(ACLEvent{Index: s.index, Kind: kind, Key: key, Deleted: deleted, at: s.now})
}

// aclTopic is one record's name among the topics of watches.
func aclTopic(kind store.ACLKind, key string) string { return string(rune('0'+kind)) + key }

// stamp gives a record that is about to replace old, which may be nil, its indexes.
func stamp(created, modified *store.Index, now store.Index, old store.ACLRecord) {
	*created, *modified = now, now
	if old != nil {
		*created, _ = old.Indexes()
	}
}

// applyACLBootstrap makes the first token, or another one if the operator knows
// the index of the last time.
func (s *Store) applyACLBootstrap(c *store.ACLBootstrapCommand) (bool, *store.Error) {
	if at := s.acl.bootstrapped; at != 0 && c.Reset != at {
		return false, store.Errorf(store.KindPermissionDenied, "Permission denied: ACL bootstrap no longer allowed (reset index: %d)", at)
	}
	ok, err := s.setToken(store.ACLCreate, c.Token, true)
	if ok {
		s.acl.bootstrapped = s.index
		s.aclChanged()
	}
	return ok, err
}

// Numbers of the fields of recordACLIndexes.
func (a *aclTables) indexFields() []*store.Index {
	return []*store.Index{&a.tokens.max, &a.policies.max, &a.roles.max, &a.rules.max, &a.methods.max, &a.bootstrapped}
}

// aclIndexes are the values of indexFields.
type aclIndexes [6]store.Index

func (a *aclTables) indexes() (x aclIndexes) {
	for i, v := range a.indexFields() {
		x[i] = *v
	}
	return x
}

func (x aclIndexes) appendWire(b []byte) []byte {
	for i, v := range x {
		b = wire.Uint(b, i+1, uint64(v))
	}
	return b
}

func (x *aclIndexes) decodeWire(b []byte) error {
	d := wire.NewDecoder(b)
	for d.Next() {
		if d.Field <= len(x) {
			x[d.Field-1] = store.Index(d.Uint())
		}
	}
	return d.Err()
}
