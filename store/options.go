package store

import "time"

// Index is a position in a datacenter's history: every command has one of its
// own, and a record carries those of its creation and last effective change.
// It never goes backwards within one history id.
type Index uint64

// Consistency says how fresh a read must be (spec http-common 4).
type Consistency uint8

const (
	Default    Consistency = 0 // leader, with a lease checked before and after reading
	Consistent Consistency = 1 // leader, leadership verified with a quorum
	Stale      Consistency = 2 // any server
)

// String returns the word of X-Consul-Effective-Consistency.
func (c Consistency) String() string {
	switch c {
	case Consistent:
		return "consistent"
	case Stale:
		return "stale"
	}
	return "leader"
}

// Limits of blocking queries (spec http-common 6).
const (
	DefaultQueryTime = 5 * time.Minute
	MaxQueryTime     = 10 * time.Minute
)
