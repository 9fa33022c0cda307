package state

import "landbridge/store"

// aclRuleTable is the binding rules by id.
type aclRuleTable struct {
	table[store.ACLBindingRule]
	byMethod *index[store.ACLBindingRule] // the method's name in lower case
}

func newACLRuleTable(j *journal) *aclRuleTable {
	t := &aclRuleTable{table: *newTable[store.ACLBindingRule](j)}
	t.byMethod = t.index(func(_ string, r *store.ACLBindingRule) (string, bool) { return lower(r.AuthMethod), true })
	return t
}

// ACLBindingRule returns the binding rule with an id, or nil.
func (s *Store) ACLBindingRule(w *Watch, id string) (store.Index, *store.ACLBindingRule) {
	key := lower(id)
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.watch(w, watchACLRow, aclTopic(store.ACLBindingRules, key))
	r := s.acl.rules.get(key)
	if r == nil {
		return atLeastOne(s.acl.rules.max), nil
	}
	return r.ModifyIndex, r
}

// ACLBindingRules returns the binding rules of an auth method, or all with "", in
// the order of their ids.
func (s *Store) ACLBindingRules(w *Watch, method string) (store.Index, []*store.ACLBindingRule) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.watch(w, watchACLTable, store.ACLBindingRules.String())
	if method == "" {
		return atLeastOne(s.acl.rules.max), rows(&s.acl.rules.table)
	}
	group := s.acl.rules.byMethod.group(lower(method))
	list := make([]*store.ACLBindingRule, len(group))
	for i, r := range group {
		list[i] = r.row
	}
	return atLeastOne(s.acl.rules.max), list
}

func (s *Store) setBindingRule(op store.ACLOp, r *store.ACLBindingRule, replicated bool) (bool, *store.Error) {
	key := r.ACLKey()
	old := s.acl.rules.get(key)
	switch {
	case key == "":
		return false, store.Errorf(store.KindInvalid, "Invalid Binding Rule: no ID is set")
	case op == store.ACLCreate && old != nil:
		return false, store.Errorf(store.KindInvalid, "Invalid Binding Rule: the ID %q is already in use", r.ID)
	case op == store.ACLUpdate && old == nil:
		return false, store.Errorf(store.KindInvalid, "cannot find binding rule %s", r.ID)
	case !replicated && s.acl.methods.get(lower(r.AuthMethod)) == nil:
		return false, store.Errorf(store.KindInvalid, "cannot find auth method with name %q", r.AuthMethod)
	}
	var was store.ACLRecord
	if old != nil {
		if old.Digest() == r.Digest() && op != store.ACLSet {
			return false, nil
		}
		was = old
	}
	stamp(&r.CreateIndex, &r.ModifyIndex, s.index, was)
	s.acl.rules.put(key, r)
	s.acl.rules.max = s.index
	s.touchACL(store.ACLBindingRules, key, false)
	return true, nil
}
