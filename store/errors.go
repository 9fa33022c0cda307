package store

import (
	"errors"
	"fmt"
)

// Kind is the closed set of things that can go wrong between a caller and the
// server that answers. It crosses the wire as its number, so numbers are never
// reused; an unknown number is read as KindInternal. httpapi maps a kind to a
// status and dnsapi to an rcode, each in one table.
type Kind uint8

const (
	KindInternal         Kind = 0  // anything not below; HTTP 500
	KindInvalid          Kind = 1  // the server refuses the arguments; HTTP 500 (spec http-common 11)
	KindBadRequest       Kind = 2  // syntax; HTTP 400
	KindNotFound         Kind = 3  // HTTP 404
	KindPermissionDenied Kind = 4  // HTTP 403
	KindNoLeader         Kind = 5  // "No cluster leader"; HTTP 500
	KindNoServers        Kind = 6  // "No known Consul servers"; HTTP 500
	KindNoPath           Kind = 7  // "No path to datacenter"; HTTP 500
	KindUnreachable      Kind = 8  // a server or datacenter did not answer; nothing was applied; HTTP 500
	KindMaybeApplied     Kind = 9  // a write was sent and its outcome is unknown; HTTP 500
	KindTimeout          Kind = 10 // the deadline passed; HTTP 500
	KindConflict         Kind = 11 // HTTP 409
	KindTooLarge         Kind = 12 // HTTP 413
	KindRateLimited      Kind = 13 // a limit of whom was asked; nothing was applied; HTTP 429
	KindNotBuilt         Kind = 14 // refused in words: not built yet; HTTP 500
	KindBusy             Kind = 15 // a limit of the leader, so no other server helps: later; HTTP 503
	KindACLOff           Kind = 16 // ACLs are off, or nobody is logged in; HTTP 401
)

// lastKind is the highest number above.
const lastKind = KindACLOff

// Known returns k, or KindInternal for a number that this version does not know.
func (k Kind) Known() Kind {
	if k > lastKind {
		return KindInternal
	}
	return k
}

// Error is an error with a kind. Errors of the same kind and, unless the target
// has no message, the same message are equal under errors.Is, whether they
// happened here or two datacenters away.
type Error struct {
	Kind    Kind
	Message string
	Cause   error // local only: does not cross the wire
}

func (e *Error) Error() string { return e.Message }
func (e *Error) Unwrap() error { return e.Cause }

// Is reports whether target is an *Error of the same kind, with either no
// message (any error of that kind) or the same one.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Kind == e.Kind && (t.Message == "" || t.Message == e.Message)
}

// Errorf makes an *Error of the kind; %w sets its cause.
func Errorf(k Kind, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: k, Message: err.Error(), Cause: errors.Unwrap(err)}
}

// KindOf returns the kind of the first *Error in err's chain, else KindInternal.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return KindInternal
}

// Sentinels whose words clients match literally (spec/gossip-federation.md 7).
var (
	ErrNoLeader  = &Error{Kind: KindNoLeader, Message: "No cluster leader"}
	ErrNoServers = &Error{Kind: KindNoServers, Message: "No known Consul servers"}
	ErrNoPath    = &Error{Kind: KindNoPath, Message: "No path to datacenter"}
	ErrRPCRate   = &Error{Kind: KindRateLimited, Message: "RPC rate limit exceeded"}

	ErrACLOff        = &Error{Kind: KindACLOff, Message: "ACL support disabled"}
	ErrACLNotFound   = &Error{Kind: KindPermissionDenied, Message: "ACL not found"} // no such token
	ErrTokenNotFound = &Error{Kind: KindPermissionDenied, Message: "token does not exist: ACL not found"}
	// ErrACLBootstrap is for an unknown token where there are no tokens yet.
	ErrACLBootstrap = &Error{Kind: KindPermissionDenied, Message: "ACL system must be bootstrapped before making any requests that require authorization: ACL not found"}
	ErrDenied       = &Error{Kind: KindPermissionDenied, Message: "Permission denied"}
)
