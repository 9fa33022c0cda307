package state

import (
	"encoding/binary"
	"time"

	"github.com/tidwall/btree"

	"landbridge/store"
)

// aclTokenTable is the tokens by accessor.
type aclTokenTable struct {
	table[store.ACLToken]
	bySecret *index[store.ACLToken]             // by the secret's SHA-256
	byMethod *index[store.ACLToken]             // made by a login; the method's name in lower case
	expiring btree.Map[string, *store.ACLToken] // by time of expiry, then accessor
}

func newACLTokenTable(j *journal) *aclTokenTable {
	t := &aclTokenTable{table: *newTable[store.ACLToken](j)}
	t.bySecret = t.index(func(_ string, r *store.ACLToken) (string, bool) { return string(r.SecretHash[:]), true })
	t.byMethod = t.index(func(_ string, r *store.ACLToken) (string, bool) { return lower(r.AuthMethod), r.AuthMethod != "" })
	return t
}

func expiryKey(t *store.ACLToken) string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(t.ExpirationTime.UnixNano()))
	return string(b[:]) + t.ACLKey()
}

// expire keeps the order of expiry, also when a transaction is taken back.
func (t *aclTokenTable) expire(old, row *store.ACLToken) {
	if old != nil && !old.ExpirationTime.IsZero() {
		t.expiring.Delete(expiryKey(old))
	}
	if row != nil && !row.ExpirationTime.IsZero() {
		t.expiring.Set(expiryKey(row), row)
	}
	if t.journal.open && old != row {
		t.journal.note(func() { t.expire(row, old) }) // closed by then
	}
}

func (t *aclTokenTable) put(key string, row *store.ACLToken) {
	t.expire(t.get(key), row)
	t.table.put(key, row)
}

func (t *aclTokenTable) remove(key string) *store.ACLToken {
	t.expire(t.get(key), nil)
	return t.table.remove(key)
}

// secret returns the token whose secret has a hash, or nil.
func (t *aclTokenTable) secret(hash [32]byte) *store.ACLToken {
	row := only(t.bySecret.group(string(hash[:])))
	if row == nil || !sameSecret(row.SecretHash, hash) {
		return nil
	}
	return row
}

// ACLToken returns the token with an accessor, or nil; its links have the current
// names, and those that lead nowhere are left out.
func (s *Store) ACLToken(w *Watch, accessor string) (store.Index, *store.ACLToken) {
	key := lower(accessor)
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.watch(w, watchACLRow, aclTopic(store.ACLTokens, key))
	return s.oneToken(s.acl.tokens.get(key))
}

// ACLTokenBySecret is ACLToken by the secret.
func (s *Store) ACLTokenBySecret(w *Watch, secret string) (store.Index, *store.ACLToken) {
	hash := store.HashSecret(secret)
	s.mu.RLock()
	defer s.mu.RUnlock()
	row := s.acl.tokens.secret(hash)
	if row == nil {
		s.watch(w, watchACLTable, store.ACLTokens.String())
	} else {
		s.watch(w, watchACLRow, aclTopic(store.ACLTokens, row.ACLKey()))
	}
	return s.oneToken(row)
}

func (s *Store) oneToken(row *store.ACLToken) (store.Index, *store.ACLToken) {
	if row == nil {
		return atLeastOne(s.acl.tokens.max), nil
	}
	return row.ModifyIndex, s.currentToken(row)
}

// ACLTokens returns all tokens in the order of their accessors, expired ones too.
func (s *Store) ACLTokens(w *Watch) (store.Index, []*store.ACLToken) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.watch(w, watchACLTable, store.ACLTokens.String())
	list := make([]*store.ACLToken, 0, s.acl.tokens.len())
	s.acl.tokens.tree.Scan(func(_ string, t *store.ACLToken) bool {
		list = append(list, s.currentToken(t))
		return true
	})
	return atLeastOne(s.acl.tokens.max), list
}

// ACLExpiry returns when the next token expires; not ok if none does. A watch waits
// for any change of tokens.
func (s *Store) ACLExpiry(w *Watch) (at time.Time, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.watch(w, watchACLTable, store.ACLTokens.String())
	_, t, ok := s.acl.tokens.expiring.Min()
	if !ok {
		return time.Time{}, false
	}
	return t.ExpirationTime, true
}

// ACLExpired returns up to limit tokens whose time is over at now, the oldest
// first, of those that belong to this datacenter alone if only local.
func (s *Store) ACLExpired(now time.Time, limit int, local bool) []*store.ACLToken {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var list []*store.ACLToken
	s.acl.tokens.expiring.Scan(func(_ string, t *store.ACLToken) bool {
		if !t.Expired(now) || len(list) == limit {
			return false
		}
		if !local || t.Local {
			list = append(list, t)
		}
		return true
	})
	return list
}

// currentToken is the row itself unless a link has another name now, or leads
// nowhere.
func (s *Store) currentToken(t *store.ACLToken) *store.ACLToken {
	policies, p := currentLinks(t.Policies, s.policyName)
	roles, r := currentLinks(t.Roles, s.roleName)
	if !p && !r {
		return t
	}
	t = t.Clone()
	t.Policies, t.Roles = policies, roles
	return t
}

func (s *Store) policyName(id string) (string, bool) {
	if p := s.acl.policies.get(lower(id)); p != nil {
		return p.Name, true
	}
	return "", false
}

func (s *Store) roleName(id string) (string, bool) {
	if r := s.acl.roles.get(lower(id)); r != nil {
		return r.Name, true
	}
	return "", false
}

// currentLinks returns the links as they are now, and whether that differs from
// what was written.
func currentLinks(links []store.ACLLink, name func(id string) (string, bool)) (now []store.ACLLink, differ bool) {
	for i, l := range links {
		n, ok := name(l.ID)
		if ok && n == l.Name {
			if differ {
				now = append(now, l)
			}
			continue
		}
		if !differ {
			differ = true
			now = append(now, links[:i]...)
		}
		if ok {
			now = append(now, store.ACLLink{ID: l.ID, Name: n})
		}
	}
	if !differ {
		return links, false
	}
	return now, true
}

func (s *Store) checkLinks(links []store.ACLLink, what string, name func(id string) (string, bool)) *store.Error {
	for _, l := range links {
		if _, ok := name(l.ID); !ok {
			return store.Errorf(store.KindInvalid, "No such ACL %s with ID %q", what, l.ID)
		}
	}
	return nil
}

func (s *Store) setToken(op store.ACLOp, t *store.ACLToken, replicated bool) (bool, *store.Error) {
	key := t.ACLKey()
	old := s.acl.tokens.get(key)
	owner := s.acl.tokens.secret(t.SecretHash)
	switch {
	case key == "" || t.SecretHash == [32]byte{}:
		return false, store.Errorf(store.KindInvalid, "Invalid Token: it needs an AccessorID and a SecretID")
	case op == store.ACLCreate && old != nil:
		return false, store.Errorf(store.KindInvalid, "Invalid Token: AccessorID is already in use")
	case op == store.ACLUpdate && old == nil:
		return false, store.Errorf(store.KindInvalid, "Cannot find token %q", t.AccessorID)
	case op == store.ACLUpdate && old.SecretHash != t.SecretHash:
		return false, store.Errorf(store.KindInvalid, "Changing a token's SecretID is not permitted")
	case op == store.ACLUpdate && old.Local != t.Local:
		return false, store.Errorf(store.KindInvalid, "Cannot toggle local mode of %s", t.AccessorID)
	case owner != nil && owner != old && op == store.ACLSet && s.fenced():
		return false, errFenced("the secret", owner)
	case owner != nil && owner != old && op == store.ACLSet:
		// As with policies; a local token of the same secret gives way as well.
		s.removeACL(store.ACLTokens, owner.ACLKey(), some(s.acl.tokens.remove(owner.ACLKey())), &s.acl.tokens.max)
	case owner != nil && owner != old:
		return false, store.Errorf(store.KindInvalid, "Invalid Token: SecretID is already in use")
	case t.AuthMethod != "" && op == store.ACLCreate && !replicated && s.acl.methods.get(lower(t.AuthMethod)) == nil:
		// Deleted while somebody logged in: such a token would outlive its method.
		return false, store.Errorf(store.KindPermissionDenied, "ACL not found: auth method %q not found", t.AuthMethod)
	}
	if !replicated {
		if err := s.checkLinks(t.Policies, "policy", s.policyName); err != nil {
			return false, err
		}
		if err := s.checkLinks(t.Roles, "role", s.roleName); err != nil {
			return false, err
		}
	}
	if old != nil && op != store.ACLSet && old.Digest() == t.Digest() && (t.SecretID == "" || old.SecretID != "") {
		return false, nil
	}
	if t.SecretID == "" && !replicated && old != nil && old.SecretHash == t.SecretHash {
		t.SecretID = old.SecretID // a writer who may not see it cannot take it away
	}
	var was store.ACLRecord
	if old != nil {
		was = old
	}
	stamp(&t.CreateIndex, &t.ModifyIndex, s.index, was)
	s.acl.tokens.put(key, t)
	s.acl.tokens.max = s.index
	s.touchACL(store.ACLTokens, key, false)
	return true, nil
}
