package replica

import (
	"context"
	"time"
)

// Kind separates rows with their own ids. Its numbers travel.
type Kind uint8

// Digest is equal for rows that mean the same.
type Digest [32]byte

// Key names a row.
type Key struct {
	Kind Kind
	ID   string
}

// Row is a row as it is in the source; nil Data says that it is not there.
type Row struct {
	Key
	Data []byte
}

// Epoch says whose history a position belongs to.
type Epoch struct{ Cluster, History string }

// Cursor is how far a Sink has copied its Source.
type Cursor struct {
	Epoch
	Position uint64
	// Marks are numbers that the source tells along with a position, for the Sink's
	// own use.
	Marks [3]uint64
	// Fence is why inferred deletions wait; "" they do not.
	Fence    string
	FencedAt time.Time
}

// Batch is a part of the source's stream.
type Batch struct {
	Epoch
	// Lost says that the source cannot tell what happened since the position that
	// was asked for. Position is where the source is.
	Lost     bool
	Position uint64 // that the rows lead to
	Top      uint64 // where the source is
	Marks    [3]uint64
	Marked   bool  // Marks belong to Position
	Rows     []Row // that changed
	Proof    []Root
}

// Root proves all rows of a kind: of a tree with 1<<Bits leaves.
type Root struct {
	Kind  Kind
	Bits  uint8
	Count uint64
	Hash  Digest
}

// Tree is all of a kind's leaves.
type Tree struct {
	Root
	Leaves [][leafSize]byte
}

// Trees are the trees of all kinds at one position.
type Trees struct {
	Epoch
	Position uint64
	Marks    [3]uint64
	Kinds    []Tree
}

// Entry is a row in a Listing.
type Entry struct {
	ID     string
	Digest Digest
}

// Listing is what some leaves hold, at a position.
type Listing struct {
	Epoch
	Position uint64
	Entries  []Entry
}

// Rows are rows as they are at a position. A source that finds them too many
// answers with the first ones.
type Rows struct {
	Epoch
	Position uint64
	Rows     []Row
}

// Source is where rows come from. Each answer is of one moment, and none is older
// than what the same source said before.
type Source interface {
	// Follow calls each for all that happens after a position, in order, and now and
	// then for nothing, so that silence means trouble. It returns when each fails,
	// when the stream ends, which is no error, or when it breaks.
	Follow(ctx context.Context, from Cursor, each func(*Batch) error) error
	Trees(ctx context.Context) (*Trees, error)
	// Leaves lists the rows in some leaves of a tree with 1<<bits.
	Leaves(ctx context.Context, kind Kind, bits uint8, leaves []uint32) (*Listing, error)
	Rows(ctx context.Context, keys []Key) (*Rows, error)
}

// Sink is where rows go. Only its Follower writes what it calls copies.
type Sink interface {
	Cursor() Cursor
	// Scan calls each for the copies of a kind, in any order.
	Scan(kind Kind, each func(id string, d Digest))
	// Apply writes rows and then the cursor, durably. Rows that cannot be written
	// are left out and told; the error is about the others.
	Apply(ctx context.Context, rows []Row, c Cursor) (refused []Refusal, err error)
	// Keep reports whether a copy may never be deleted.
	Keep(Key) bool
	// Known reports whether the source is known to have had a copy that it lacks: then it
	// deleted it.
	Known(Key) bool
}

// Refusal is a row that the Sink could not write.
type Refusal struct {
	Key
	Err error
}

// Guard bounds deletions that are inferred.
type Guard struct {
	Min   int     // so many are always allowed
	Share float64 // and so much of all copies
}

// DefaultGuard is the guard unless it is configured.
var DefaultGuard = Guard{Min: 10, Share: 0.05}

// Exceeds reports whether so many deletions among so many copies have to wait.
func (g Guard) Exceeds(deletions, copies int) bool {
	return deletions > g.Min && float64(deletions) > g.Share*float64(copies)
}
