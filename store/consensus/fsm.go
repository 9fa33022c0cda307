package consensus

import (
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// hookedFSM is the state machine, watched: how much was applied since the last
// snapshot, and when the configuration changed. Raft calls it from one
// goroutine.
type hookedFSM struct {
	raft.FSM
	n        *Node
	trailing atomic.Uint64 // as configured; 0 = Config.Snapshots
	// limit is how many bytes of entries call for a snapshot: as many as the
	// last snapshot had, so that writing snapshots at most doubles what is
	// written, but at least snapshotBytes.
	limit atomic.Uint64

	bytes, entries uint64 // since the last snapshot

	// waitDurable waits for an entry to be durable here.
	waitDurable func(index uint64) error
	lost        error // why entries from some index on were not applied

	// done is the last entry that has an effect and has had it.
	done atomic.Uint64
}

var _ raft.ConfigurationStore = (*hookedFSM)(nil)

// Apply returns an error, and applies nothing any more, if the entry is not durable.
func (f *hookedFSM) Apply(l *raft.Log) any {
	if f.lost == nil {
		f.lost = f.waitDurable(l.Index)
	}
	if f.lost != nil {
		return f.lost
	}
	res := f.FSM.Apply(l)
	f.bytes += uint64(len(l.Data))
	f.entries++
	f.done.Store(l.Index)
	if f.bytes >= f.limit.Load() {
		signal(f.n.tooLarge)
	}
	return res
}

// Snapshot also sets how many entries Raft may keep behind the snapshot: as
// many as configured, but not more than trailingBytes at their average size.
func (f *hookedFSM) Snapshot() (raft.FSMSnapshot, error) {
	if f.lost != nil {
		return nil, f.lost // Raft counts what was not applied
	}
	keep := f.trailing.Load()
	if keep == 0 {
		keep = f.n.cfg.Snapshots.TrailingLogs
	}
	if f.bytes > 0 {
		keep = min(keep, max(minTrailing, trailingBytes*f.entries/f.bytes))
	}
	if err := f.n.reload(func(rc *raft.ReloadableConfig) { rc.TrailingLogs = keep }); err != nil {
		f.n.logger.Warn("raft: number of trailing entries not set", "err", err)
	}
	snap, err := f.FSM.Snapshot()
	if err == nil {
		f.bytes, f.entries = 0, 0
	}
	return snap, err
}

// setLimit looks at the newest snapshot.
func (f *hookedFSM) setLimit() {
	limit := uint64(snapshotBytes)
	if metas, err := f.n.cfg.Stores.Snapshots.List(); err == nil && len(metas) > 0 {
		limit = max(limit, uint64(metas[0].Size))
	}
	f.limit.Store(limit)
}

// StoreConfiguration is called when a configuration was committed.
func (f *hookedFSM) StoreConfiguration(index uint64, _ raft.Configuration) {
	f.done.Store(index)
	signal(f.n.confChange)
}

// signal leaves one token in a channel of one slot.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
