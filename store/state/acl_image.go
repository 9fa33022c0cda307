package state

import (
	"github.com/tidwall/btree"

	"landbridge/store"
)

// aclSnapshot is the ACL records at one command.
type aclSnapshot struct {
	tokens   *btree.Map[string, *store.ACLToken]
	policies *btree.Map[string, *store.ACLPolicy]
	roles    *btree.Map[string, *store.ACLRole]
	rules    *btree.Map[string, *store.ACLBindingRule]
	methods  *btree.Map[string, *store.ACLAuthMethod]
	indexes  aclIndexes
	replica  store.ACLReplica
	trash    []aclTrash
	unseen   []store.ACLUnseen
}

// snapshot copies the trees; the caller holds what Store.Snapshot does.
func (a *aclTables) snapshot() aclSnapshot {
	return aclSnapshot{a.tokens.tree.Copy(), a.policies.tree.Copy(), a.roles.tree.Copy(), a.rules.tree.Copy(),
		a.methods.tree.Copy(), a.indexes(), a.replica, a.trash, a.unseen}
}

// encode writes policies and roles before what leads to them, methods before their
// rules.
func (a *aclSnapshot) encode(e *encoder) {
	encodeTree(e, recordACLPolicy, a.policies, (*store.ACLPolicy).AppendWire)
	encodeTree(e, recordACLRole, a.roles, (*store.ACLRole).AppendWire)
	encodeTree(e, recordACLToken, a.tokens, (*store.ACLToken).AppendWire)
	encodeTree(e, recordACLAuthMethod, a.methods, (*store.ACLAuthMethod).AppendWire)
	encodeTree(e, recordACLBindingRule, a.rules, (*store.ACLBindingRule).AppendWire)
	if a.indexes != (aclIndexes{}) {
		e.add(recordACLIndexes, a.indexes.appendWire)
	}
	if a.replica != (store.ACLReplica{}) {
		e.add(recordACLReplica, a.replica.AppendWire)
	}
	for i := range a.trash {
		e.add(recordACLTrash, a.trash[i].appendWire)
	}
	for i := range a.unseen {
		e.add(recordACLUnseen, a.unseen[i].AppendWire)
	}
}

// aclKindOf returns the kind of ACL record that a kind of record is.
func aclKindOf(k RecordKind) (store.ACLKind, bool) {
	switch k {
	case recordACLToken:
		return store.ACLTokens, true
	case recordACLPolicy:
		return store.ACLPolicies, true
	case recordACLRole:
		return store.ACLRoles, true
	case recordACLBindingRule:
		return store.ACLBindingRules, true
	case recordACLAuthMethod:
		return store.ACLAuthMethods, true
	}
	return 0, false
}

func (im *Image) addACL(kind store.ACLKind, record []byte) error {
	r := store.NewACLRecord(kind)
	if err := r.DecodeWire(record); err != nil {
		return err
	}
	key, a := r.ACLKey(), im.acl
	if key == "" || a.record(kind, key) != nil {
		return store.Errorf(store.KindInvalid, "%s %q has no valid id or comes twice", kind, key)
	}
	switch r := r.(type) {
	case *store.ACLToken:
		if a.tokens.secret(r.SecretHash) != nil || r.SecretHash == [32]byte{} {
			return store.Errorf(store.KindInvalid, "token %s has no secret, or that of another token", r.AccessorID)
		}
		a.tokens.put(key, r)
	case *store.ACLPolicy:
		if a.policies.named(r.Name) != nil {
			return store.Errorf(store.KindInvalid, "policy name %q comes twice", r.Name)
		}
		a.policies.put(key, r)
	case *store.ACLRole:
		if a.roles.named(r.Name) != nil {
			return store.Errorf(store.KindInvalid, "role name %q comes twice", r.Name)
		}
		a.roles.put(key, r)
	case *store.ACLBindingRule:
		a.rules.put(key, r)
	case *store.ACLAuthMethod:
		a.methods.put(key, r)
	}
	return nil
}

func (im *Image) addACLIndexes(record []byte) error {
	var x aclIndexes
	if err := x.decodeWire(record); err != nil {
		return err
	}
	for i, v := range im.acl.indexFields() {
		*v = x[i]
	}
	return nil
}
