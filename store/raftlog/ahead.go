package raftlog

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// AheadLog is a log that can take entries before they are durable: a leader that
// sends them to followers meanwhile has its disk and theirs work at the same time
// (Raft dissertation, section 10.2.1).
//
// At most one such append is under way. Every other change of the log or of the
// stable values, and the next append too, waits for it: raft-wal's recovery takes
// all appends but the last one of a segment for whole, and whoever records a new
// term has nothing of an earlier one that could still get lost.
type AheadLog interface {
	// StoreLogsAhead returns when the entries are written and can be read. They are
	// durable when Durable says so; if that fails, Options.Fatal is called. On an
	// error none of them is in the log.
	StoreLogsAhead(logs []*raft.Log) error
	// Durable returns the index up to which entries in the log survive the loss of
	// power: math.MaxUint64 if all do.
	Durable() uint64
	// WaitDurable waits until the entry at index, which is in the log, is durable.
	// The error is that of the fsync.
	WaitDurable(index uint64) error
	// Unsynced returns how long the append under way has been waiting for the disk
	// since StoreLogsAhead was called, 0 if none is.
	Unsynced() time.Duration
}

var _ AheadLog = (*walStore)(nil)

// ahead is the append that became readable before it was durable. It is begun by
// the holder of the store's turn when there is none; anyone may wait for it.
type ahead struct {
	failed *failure
	base   time.Time

	first atomic.Uint64 // its first index, 0: there is none. It stays if the sync failed
	since atomic.Int64  // when it began, counted from base
	done  atomic.Pointer[chan struct{}]

	// then is called after the sync; of the holder of the turn, until run.
	then func()
}

// begin says that entries from index first on may be found in the log without
// being durable. The segment that they are written to will run the sync.
func (a *ahead) begin(first uint64, then func()) {
	a.since.Store(int64(time.Since(a.base)))
	a.then = then
	a.first.Store(first)
}

// wanted reports whether the sync that is asked for is that of an append ahead.
func (a *ahead) wanted() bool { return a.then != nil }

// run has sync, which reports its errors itself, run in a goroutine that ends with it.
func (a *ahead) run(sync func() error) {
	done := make(chan struct{})
	a.done.Store(&done)
	then := a.then
	a.then = nil
	go func() {
		defer close(done)
		if sync() == nil {
			a.first.Store(0)
			then()
		}
	}()
}

// cancel takes begin back: nothing was written.
func (a *ahead) cancel() {
	a.then = nil
	a.first.Store(0)
}

func (a *ahead) durable() uint64 {
	if first := a.first.Load(); first > 0 {
		return first - 1
	}
	return math.MaxUint64
}

// settle waits for the sync under way. The error is that of any fsync so far.
func (a *ahead) settle() error {
	if done := a.done.Load(); done != nil {
		<-*done
	}
	return a.failed.get()
}

func (s *walStore) Durable() uint64 { return s.ahead.durable() }

func (s *walStore) WaitDurable(index uint64) error {
	for s.ahead.durable() < index {
		if err := s.ahead.settle(); err != nil {
			return err
		}
	}
	return nil
}

func (s *walStore) Unsynced() time.Duration {
	if s.ahead.first.Load() == 0 {
		return 0
	}
	return time.Since(s.ahead.base) - time.Duration(s.ahead.since.Load())
}
