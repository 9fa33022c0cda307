package aclreplication

import (
	"landbridge/acl_replication/replica"
	"landbridge/store"
	"landbridge/store/state"
)

// kinds are what is copied, in the order in which records are written: what others
// lead to comes first.
func kinds(tokens bool) []replica.Kind {
	list := []replica.Kind{
		replica.Kind(store.ACLPolicies), replica.Kind(store.ACLRoles),
		replica.Kind(store.ACLAuthMethods), replica.Kind(store.ACLBindingRules),
	}
	if tokens {
		list = append(list, replica.Kind(store.ACLTokens))
	}
	return list
}

// shared reports whether a record belongs to the whole federation. A binding rule
// goes with its auth method; one whose method is not known yet is not local.
func shared(v *state.ACLView, r store.ACLRecord) bool {
	switch r := r.(type) {
	case nil:
		return false
	case *store.ACLToken:
		return !r.Local
	case *store.ACLAuthMethod:
		return r.Global()
	case *store.ACLBindingRule:
		m, _ := v.Record(store.ACLAuthMethods, methodKey(r)).(*store.ACLAuthMethod)
		return m == nil || m.Global()
	}
	return true
}

func methodKey(r *store.ACLBindingRule) string {
	m := store.ACLAuthMethod{Name: r.AuthMethod}
	return m.ACLKey()
}

// scan calls each for the shared records of a kind.
func scan(v *state.ACLView, kind replica.Kind, each func(id string, d replica.Digest)) {
	v.Scan(store.ACLKind(kind), func(key string, r store.ACLRecord) {
		if shared(v, r) {
			each(key, replica.Digest(r.Digest()))
		}
	})
}
