package state

import (
	"context"
	"time"

	"landbridge/store"
)

// Tombstones live for 15 minutes, in grains of 30 seconds (spec
// http-kv-txn-session 1.1).
const (
	tombstoneTTL   = 15 * time.Minute
	tombstoneGrain = 30 * time.Second
	reapChunk      = 4096 // tombstones dropped in one lock hold
)

// Reap drops the tombstones of deletions up to an index. It changes no record
// and wakes nobody. Each server reaps by its own clock: a tombstone only ever
// makes the index of a list higher than its entries', and so does its absence.
func (s *Store) Reap(upTo store.Index) {
	for more := true; more; {
		s.mu.Lock()
		more = s.kv.tombs.reap(upTo, reapChunk)
		s.mu.Unlock()
	}
}

// RunReaper reaps old tombstones until ctx ends.
func (s *Store) RunReaper(ctx context.Context) error {
	type mark struct {
		at    time.Time
		index store.Index
	}
	var marks []mark
	tick := time.NewTicker(tombstoneGrain)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case now := <-tick.C:
			idx := s.Index()
			if len(marks) > 0 && marks[len(marks)-1].index > idx {
				marks = nil // restored from a snapshot: other deletions than those timed
			}
			marks = append(marks, mark{now, idx})
			old := -1
			for old+1 < len(marks) && now.Sub(marks[old+1].at) >= tombstoneTTL {
				old++
			}
			if old >= 0 {
				s.Reap(marks[old].index)
				marks = marks[old+1:]
			}
		}
	}
}
