package aclreplication

import (
	"landbridge/acl_replication/replica"
	"landbridge/store"
	"landbridge/store/state"
)

// Tokens says whether tokens are copied, and how.
type Tokens uint8

const (
	NoTokens Tokens = iota
	// Secrets: whole.
	Secrets
	// Hashes: without their secrets, which nobody can find out from the copy. They are
	// recognised by the hash.
	Hashes
)

// kinds are what is copied, in the order in which records are written: what others
// lead to comes first.
func kinds(tokens Tokens) []replica.Kind {
	list := []replica.Kind{
		replica.Kind(store.ACLPolicies), replica.Kind(store.ACLRoles),
		replica.Kind(store.ACLAuthMethods), replica.Kind(store.ACLBindingRules),
	}
	if tokens != NoTokens {
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

// scan calls each for the shared records of a kind. A token without its secret, as it
// is or as it is sent to who asked for Hashes, has another digest than a whole one.
func scan(v *state.ACLView, kind replica.Kind, sent Tokens, each func(id string, d replica.Digest)) {
	v.Scan(store.ACLKind(kind), func(key string, r store.ACLRecord) {
		if !shared(v, r) {
			return
		}
		d := replica.Digest(r.Digest())
		if t, ok := r.(*store.ACLToken); ok && (t.SecretID == "" || sent == Hashes && !public(t)) {
			d[0] ^= 1
		}
		each(key, d)
	})
}

// public is a token whose secret is none.
func public(t *store.ACLToken) bool { return t.AccessorID == store.AnonymousAccessor }

// bare returns the token without its secret.
func bare(t *store.ACLToken) *store.ACLToken {
	if t.SecretID == "" || public(t) {
		return t
	}
	t = t.Clone()
	t.SecretID = ""
	return t
}

// sent is the record as it travels to who asked for Hashes, or did not.
func sent(r store.ACLRecord, tokens Tokens) []byte {
	if t, ok := r.(*store.ACLToken); ok && tokens == Hashes {
		r = bare(t)
	}
	return r.AppendWire(nil)
}
