package store

import (
	"sync/atomic"
	"time"
)

// Session is a lease that locks are held with (spec http-kv-txn-session 3). It
// ends when it is destroyed, when its time to live passes without a renewal, when
// its node goes, and when one of its checks goes or turns critical. Immutable
// once published by the state store.
type Session struct {
	ID        string // UUID, chosen by the leader
	Name      string
	Node      string // as registered
	LockDelay time.Duration
	Behavior  string // BehaviorRelease or BehaviorDelete: what becomes of its keys
	TTL       string // as given at creation, "" for none
	// NodeChecks and ServiceChecks are ids of checks on Node.
	NodeChecks    []string
	ServiceChecks []string
	CreateIndex   Index
	ModifyIndex   Index

	json atomic.Pointer[[]byte]
}

// What becomes of the keys that a session holds when it ends.
const (
	BehaviorRelease = "release"
	BehaviorDelete  = "delete"
)

// Bounds and defaults of sessions (spec http-kv-txn-session 3).
const (
	DefaultLockDelay     = 15 * time.Second
	DefaultMinSessionTTL = 10 * time.Second
	MaxSessionTTL        = 24 * time.Hour
)

// SessionOp is what a SessionCommand does. Numbers are on disk and on the wire.
type SessionOp uint8

const (
	SessionCreate  SessionOp = 1
	SessionDestroy SessionOp = 2 // of Session.ID; one that is not there is no error
)

// SessionCommand is the payload of CmdSession.
type SessionCommand struct {
	Op      SessionOp
	Session Session
}

// Lifetime returns TTL as a duration, 0 for a session that only ends otherwise.
func (s *Session) Lifetime() time.Duration {
	if s.TTL == "" {
		return 0
	}
	d, err := time.ParseDuration(s.TTL)
	if err != nil {
		return 0 // Prepare has refused it
	}
	return d
}

// Prepare sets the defaults of a new session and refuses what is wrong with it
// whatever the catalog holds. The leader calls it with the configured bound
// before a command goes to the log, and the state machine again, with 0: the
// configuration of one server must not decide what all apply.
func (s *Session) Prepare(minTTL time.Duration) error {
	switch s.Behavior {
	case "":
		s.Behavior = BehaviorRelease
	case BehaviorRelease, BehaviorDelete:
	default:
		return Errorf(KindInvalid, "Invalid Behavior setting '%s'", s.Behavior)
	}
	if s.LockDelay < 0 {
		return Errorf(KindBadRequest, "Invalid LockDelay '%s': it must not be negative", s.LockDelay)
	}
	if s.TTL == "" {
		return nil
	}
	ttl, err := time.ParseDuration(s.TTL)
	if err != nil {
		return Errorf(KindInvalid, "Session TTL '%s' invalid: %w", s.TTL, err)
	}
	if ttl != 0 && (ttl < minTTL || ttl < 0 || ttl > MaxSessionTTL) {
		return Errorf(KindInvalid, "Invalid Session TTL '%d', must be between [%s=%s]", int64(ttl), minTTL, MaxSessionTTL)
	}
	return nil
}
