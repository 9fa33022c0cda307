package state

import "landbridge/store"

// ACLPolicy returns the policy with an id, or nil.
func (s *Store) ACLPolicy(w *Watch, id string) (store.Index, *store.ACLPolicy) {
	key := lower(id)
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.watch(w, watchACLRow, aclTopic(store.ACLPolicies, key))
	return s.onePolicy(s.acl.policies.get(key))
}

// ACLPolicyByName returns the policy with a name, or nil.
func (s *Store) ACLPolicyByName(w *Watch, name string) (store.Index, *store.ACLPolicy) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	// The name may go to another policy: the table tells.
	s.watch(w, watchACLTable, store.ACLPolicies.String())
	return s.onePolicy(s.acl.policies.named(name))
}

func (s *Store) onePolicy(p *store.ACLPolicy) (store.Index, *store.ACLPolicy) {
	if p == nil {
		return atLeastOne(s.acl.policies.max), nil
	}
	return p.ModifyIndex, p
}

// ACLPolicies returns all policies in the order of their ids.
func (s *Store) ACLPolicies(w *Watch) (store.Index, []*store.ACLPolicy) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.watch(w, watchACLTable, store.ACLPolicies.String())
	return atLeastOne(s.acl.policies.max), rows(&s.acl.policies.table)
}

// rows returns all rows of a table in the order of their keys.
func rows[R any](t *table[R]) []*R {
	list := make([]*R, 0, t.len())
	t.tree.Scan(func(_ string, r *R) bool {
		list = append(list, r)
		return true
	})
	return list
}

func (s *Store) setPolicy(op store.ACLOp, p *store.ACLPolicy) (bool, *store.Error) {
	key := p.ACLKey()
	old := s.acl.policies.get(key)
	named := s.acl.policies.named(p.Name)
	switch {
	case key == "" || p.Name == "":
		return false, store.Errorf(store.KindInvalid, "Invalid Policy: no Name is set")
	case op == store.ACLCreate && old != nil:
		return false, store.Errorf(store.KindInvalid, "Invalid Policy: the ID %q is already in use", p.ID)
	case op == store.ACLUpdate && old == nil:
		return false, store.Errorf(store.KindInvalid, "cannot find policy %s", p.ID)
	case named != nil && named != old && op == store.ACLSet && s.fenced():
		return false, errFenced("the name", named)
	case named != nil && named != old && op == store.ACLSet:
		// The primary gave the name to another policy, whose change is on its way.
		// Nothing but replication sets, and what it holds of the old one is outdated.
		s.removeACL(store.ACLPolicies, named.ACLKey(), some(s.acl.policies.remove(named.ACLKey())), &s.acl.policies.max)
	case named != nil && named != old:
		return false, store.Errorf(store.KindInvalid, "Invalid Policy: A Policy with Name %q already exists", p.Name)
	}
	var was store.ACLRecord
	if old != nil {
		if old.Digest() == p.Digest() && op != store.ACLSet {
			return false, nil
		}
		was = old
	}
	stamp(&p.CreateIndex, &p.ModifyIndex, s.index, was)
	s.acl.policies.put(key, p)
	s.acl.policies.max = s.index
	s.touchACL(store.ACLPolicies, key, false)
	return true, nil
}
