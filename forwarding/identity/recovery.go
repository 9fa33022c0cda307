package identity

import (
	"crypto/subtle"
	"sync/atomic"

	"landbridge/store"
	"landbridge/store/acl"
)

// recovery is acl.tokens.agent_recovery: a secret that works on its agent alone,
// without any server, and before any other.
type recovery struct {
	secret func() string
	who    *acl.Bearer
	last   *atomic.Pointer[recoverySecret]
}

type recoverySecret struct {
	secret string
	hash   secretHash
}

func newRecovery(secret func() string, node string, d acl.Defaults) recovery {
	return recovery{secret: secret, last: new(atomic.Pointer[recoverySecret]),
		who: &acl.Bearer{AccessorID: acl.RecoveryID(node), Authorizer: acl.Compile(d, acl.RecoveryRules(node))}}
}

// is returns the bearer if the hash is that of the recovery token.
func (r *recovery) is(hash *secretHash) *acl.Bearer {
	if r.secret == nil {
		return nil
	}
	secret := r.secret()
	if secret == "" {
		return nil
	}
	l := r.last.Load()
	if l == nil || l.secret != secret {
		l = &recoverySecret{secret, store.HashSecret(secret)}
		r.last.Store(l)
	}
	if subtle.ConstantTimeCompare(l.hash[:], hash[:]) != 1 {
		return nil
	}
	return r.who
}
