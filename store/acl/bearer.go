package acl

import (
	"time"

	"landbridge/store"
)

// Well-known ids and secrets (spec acl-rules 5).
const (
	AnonymousID     = "00000000-0000-0000-0000-000000000002"
	AnonymousSecret = "anonymous"
)

// RecoveryID is the accessor that errors name for acl.tokens.agent_recovery.
func RecoveryID(node string) string { return "agent-recovery:" + node }

// Bearer is who asks: a token with what it may do. A nil one may do everything:
// ACLs are off.
type Bearer struct {
	AccessorID string
	Expires    time.Time // when the token ends; zero: never
	*Authorizer
}

// Anonymous is whether nobody in particular asks.
func (b *Bearer) Anonymous() bool { return b != nil && b.AccessorID == AnonymousID }

// May is whether the bearer may do something.
func (b *Bearer) May(r Resource, name string, want Access) bool {
	return b == nil || b.Can(r, name, want)
}

// Check is May with an error of KindPermissionDenied in the words clients know.
func (b *Bearer) Check(r Resource, name string, want Access) error {
	if b.May(r, name, want) {
		return nil
	}
	return b.Denied(r, name, want)
}

// CheckBelow is CanBelow likewise.
func (b *Bearer) CheckBelow(r Resource, prefix string, want Access) error {
	if b == nil || b.CanBelow(r, prefix, want) {
		return nil
	}
	return b.Denied(r, prefix, want)
}

// Denied is the error for what the bearer may not do.
func (b *Bearer) Denied(r Resource, name string, want Access) error {
	what := "'" + r.String() + ":" + want.String() + "'"
	if r.Named() {
		what += " on \"" + name + "\""
	}
	if b.Anonymous() {
		return &store.Error{Kind: store.KindPermissionDenied, Message: "Permission denied: anonymous token lacks permission " + what +
			". The anonymous token is used implicitly when a request does not specify a token."}
	}
	return &store.Error{Kind: store.KindPermissionDenied, Message: "Permission denied: token with AccessorID '" + b.AccessorID + "' lacks permission " + what}
}
