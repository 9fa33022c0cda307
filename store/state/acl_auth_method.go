package state

import (
	"slices"

	"landbridge/store"
)

// ACLAuthMethod returns the auth method with a name, or nil.
func (s *Store) ACLAuthMethod(w *Watch, name string) (store.Index, *store.ACLAuthMethod) {
	key := lower(name)
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.watch(w, watchACLRow, aclTopic(store.ACLAuthMethods, key))
	m := s.acl.methods.get(key)
	if m == nil {
		return atLeastOne(s.acl.methods.max), nil
	}
	return m.ModifyIndex, m
}

// ACLAuthMethods returns all auth methods in the order of their names.
func (s *Store) ACLAuthMethods(w *Watch) (store.Index, []*store.ACLAuthMethod) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.watch(w, watchACLTable, store.ACLAuthMethods.String())
	return atLeastOne(s.acl.methods.max), rows(s.acl.methods)
}

func (s *Store) setAuthMethod(op store.ACLOp, m *store.ACLAuthMethod) (bool, *store.Error) {
	key := m.ACLKey()
	old := s.acl.methods.get(key)
	switch {
	case key == "":
		return false, store.Errorf(store.KindInvalid, "Invalid Auth Method: no Name is set")
	case op == store.ACLCreate && old != nil:
		return false, store.Errorf(store.KindInvalid, "Invalid Auth Method: the Name %q is already in use", m.Name)
	case op == store.ACLUpdate && old == nil:
		return false, store.Errorf(store.KindInvalid, "cannot find auth method with name %q", m.Name)
	case old != nil && old.Type != m.Type && op != store.ACLSet:
		return false, store.Errorf(store.KindInvalid, "Changing an auth method's type from %q to %q is not permitted.", old.Type, m.Type)
	}
	var was store.ACLRecord
	if old != nil {
		if old.Digest() == m.Digest() && op != store.ACLSet {
			return false, nil
		}
		was = old
	}
	stamp(&m.CreateIndex, &m.ModifyIndex, s.index, was)
	s.acl.methods.put(key, m)
	s.acl.methods.max = s.index
	s.touchACL(store.ACLAuthMethods, key, false)
	return true, nil
}

// deleteAuthMethod also deletes the method's rules and the tokens made with it.
func (s *Store) deleteAuthMethod(key string) bool {
	if !s.removeACL(store.ACLAuthMethods, key, some(s.acl.methods.remove(key)), &s.acl.methods.max) {
		return false
	}
	for _, r := range slices.Clone(s.acl.rules.byMethod.group(key)) {
		s.removeACL(store.ACLBindingRules, r.key, some(s.acl.rules.remove(r.key)), &s.acl.rules.max)
	}
	for _, t := range slices.Clone(s.acl.tokens.byMethod.group(key)) {
		s.removeACL(store.ACLTokens, t.key, some(s.acl.tokens.remove(t.key)), &s.acl.tokens.max)
	}
	return true
}
