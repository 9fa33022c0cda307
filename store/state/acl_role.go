package state

import "landbridge/store"

// ACLRole returns the role with an id, or nil; its links have the current names.
func (s *Store) ACLRole(w *Watch, id string) (store.Index, *store.ACLRole) {
	key := lower(id)
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.watch(w, watchACLRow, aclTopic(store.ACLRoles, key))
	return s.oneRole(s.acl.roles.get(key))
}

// ACLRoleByName returns the role with a name, or nil.
func (s *Store) ACLRoleByName(w *Watch, name string) (store.Index, *store.ACLRole) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.watch(w, watchACLTable, store.ACLRoles.String())
	return s.oneRole(s.acl.roles.named(name))
}

func (s *Store) oneRole(r *store.ACLRole) (store.Index, *store.ACLRole) {
	if r == nil {
		return atLeastOne(s.acl.roles.max), nil
	}
	return r.ModifyIndex, s.currentRole(r)
}

// ACLRoles returns all roles in the order of their ids.
func (s *Store) ACLRoles(w *Watch) (store.Index, []*store.ACLRole) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.watch(w, watchACLTable, store.ACLRoles.String())
	list := rows(&s.acl.roles.table)
	for i, r := range list {
		list[i] = s.currentRole(r)
	}
	return atLeastOne(s.acl.roles.max), list
}

func (s *Store) currentRole(r *store.ACLRole) *store.ACLRole {
	policies, differ := currentLinks(r.Policies, s.policyName)
	if !differ {
		return r
	}
	r = r.Clone()
	r.Policies = policies
	return r
}

func (s *Store) setRole(op store.ACLOp, r *store.ACLRole, replicated bool) (bool, *store.Error) {
	key := r.ACLKey()
	old := s.acl.roles.get(key)
	named := s.acl.roles.named(r.Name)
	switch {
	case key == "" || r.Name == "":
		return false, store.Errorf(store.KindInvalid, "Invalid Role: no Name is set")
	case op == store.ACLCreate && old != nil:
		return false, store.Errorf(store.KindInvalid, "Invalid Role: the ID %q is already in use", r.ID)
	case op == store.ACLUpdate && old == nil:
		return false, store.Errorf(store.KindInvalid, "cannot find role %s", r.ID)
	case named != nil && named != old && op == store.ACLSet && s.fenced():
		return false, errFenced("the name", named)
	case named != nil && named != old && op == store.ACLSet: // as with policies
		s.removeACL(store.ACLRoles, named.ACLKey(), some(s.acl.roles.remove(named.ACLKey())), &s.acl.roles.max)
	case named != nil && named != old:
		return false, store.Errorf(store.KindInvalid, "Invalid Role: A Role with Name %q already exists", r.Name)
	}
	if !replicated {
		if err := s.checkLinks(r.Policies, "policy", s.policyName); err != nil {
			return false, err
		}
	}
	var was store.ACLRecord
	if old != nil {
		if old.Digest() == r.Digest() && op != store.ACLSet {
			return false, nil
		}
		was = old
	}
	stamp(&r.CreateIndex, &r.ModifyIndex, s.index, was)
	s.acl.roles.put(key, r)
	s.acl.roles.max = s.index
	s.touchACL(store.ACLRoles, key, false)
	return true, nil
}
