package raftlog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/types"
)

// Stores is what one Raft server keeps. Use it for one raft.Raft at a time.
type Stores struct {
	Log       raft.LogStore
	Stable    raft.StableStore
	Snapshots raft.SnapshotStore

	dir    string  // the data folder; "" in memory, and marker is nil then
	marker *marker // what is known beside the log
	wal    *walStore
	lock   *os.File
}

// Open opens the stores below the data folder dir, and makes them if there are
// none. It returns an error that wraps ErrStateMissing if the folder's marker
// says that there should be some.
func Open(dir string, opts Options) (_ *Stores, err error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	raftDir := filepath.Join(dir, raftFolder)
	walDir := filepath.Join(raftDir, "wal")
	mk, err := readMarker(dir)
	if err != nil {
		return nil, err
	}
	if mk != nil && mk.Overruled > 0 && !opts.EvenOverruled {
		return nil, overruled(dir, mk)
	}
	// Look before anything is made, so that a refused start leaves the folder
	// as it was found.
	if mk != nil && !exists(filepath.Join(walDir, "wal-meta.db")) {
		return nil, missing(dir, mk, "there is no log")
	}
	// 0700: the log holds tokens and keys.
	for _, d := range []string{raftDir, walDir, filepath.Join(raftDir, "snapshots")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("raft log: %w", err)
		}
	}
	// The folders' own entries must be durable before anything in them counts.
	for _, d := range []string{dir, raftDir} {
		if err := syncDir(d); err != nil {
			return nil, fmt.Errorf("raft log: %w", err)
		}
	}
	lock, err := lockFolder(raftDir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			lock.Close()
		}
	}()

	m := newMetrics(opts.Registerer)
	mark := newMarker(dir, opts.RaftID, mk, opts.Logger)
	f := newFailure(opts.Fatal, m)
	w, err := openWAL(walDir, opts, mark, f, m)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			w.Close()
		}
	}()
	snaps, err := newSnapshotStore(filepath.Join(raftDir, "snapshots"), opts.Logger, mark, f, m)
	if err != nil {
		return nil, err
	}
	s := &Stores{Log: w, Stable: w, Snapshots: snaps, dir: dir, marker: mark, wal: w, lock: lock}
	if err := s.check(mk); err != nil {
		return nil, err
	}
	return s, nil
}

// OpenMemory returns stores that forget everything with the process.
func OpenMemory() *Stores {
	mem := raft.NewInmemStore()
	return &Stores{Log: mem, Stable: mem, Snapshots: raft.NewInmemSnapshotStore()}
}

// OpenOn is Open with the log, its stable values and snapshots on a disk of the
// caller's, and the files beside the log below dir: for tests that simulate the disk.
func OpenOn(dir string, opts Options, disk types.VFS, stable types.MetaStore, snaps raft.SnapshotStore) (*Stores, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(dir, raftFolder), 0o700); err != nil {
		return nil, fmt.Errorf("raft log: %w", err)
	}
	mk, err := readMarker(dir)
	if err != nil {
		return nil, err
	}
	if mk != nil && mk.Overruled > 0 {
		return nil, overruled(dir, mk)
	}
	m := newMetrics(opts.Registerer)
	mark := newMarker(dir, opts.RaftID, mk, opts.Logger)
	w, err := openWALWith(filepath.Join(dir, raftFolder, "wal"), opts, mark, newFailure(opts.Fatal, m), m,
		func(types.VFS) types.VFS { return disk }, func(types.MetaStore) types.MetaStore { return stable })
	if err != nil {
		return nil, err
	}
	return &Stores{Log: w, Stable: w, Snapshots: snaps, dir: dir, marker: mark, wal: w}, nil
}

// check compares what was found with the marker, and the log with the
// snapshots: NewRaft would panic on a gap between them.
func (s *Stores) check(mk *Marker) error {
	has, err := s.HasState()
	if err != nil {
		return fmt.Errorf("raft log: %w", err)
	}
	if mk != nil {
		if !has {
			return missing(s.dir, mk, "the log is empty")
		}
		// CurrentTerm never goes back, and is durable before the first entry
		// of its term; so a smaller one means an older copy of the folder.
		term, err := s.Stable.GetUint64([]byte(currentTerm))
		if err != nil {
			return fmt.Errorf("raft log: %w", err)
		}
		if term < mk.Term {
			return missing(s.dir, mk, fmt.Sprintf("the log found is older (term %d)", term))
		}
	}
	first, err := s.Log.FirstIndex()
	if err != nil {
		return fmt.Errorf("raft log: %w", err)
	}
	metas, err := s.Snapshots.List()
	if err != nil {
		return fmt.Errorf("raft log: %w", err)
	}
	var damaged []error
	usable := len(metas) == 0 && first <= 1
	for _, meta := range metas {
		_, body, err := s.Snapshots.Open(meta.ID)
		if err != nil {
			damaged = append(damaged, err)
			continue
		}
		body.Close()
		if first > meta.Index+1 {
			damaged = append(damaged, fmt.Errorf("snapshot %s ends at index %d", meta.ID, meta.Index))
		} else {
			usable = true
		}
		break // Raft takes the newest that opens
	}
	if !usable {
		damaged = append(damaged, fmt.Errorf("the log begins at index %d and no snapshot covers what was before", first))
		return fmt.Errorf("raft log in %s is damaged: %w; "+wayOut, s.dir, errors.Join(damaged...), s.dir)
	}
	return nil
}

// HasState reports whether there is a term, an entry or a snapshot.
func (s *Stores) HasState() (bool, error) {
	return raft.HasExistingState(s.Log, s.Stable, s.Snapshots)
}

// Writable reports why the next append would be refused: a server for which it
// is not nil should not stand for election.
func (s *Stores) Writable() error {
	if w, ok := s.Log.(interface{ Writable() error }); ok {
		return w.Writable()
	}
	return nil
}

// Dir returns the raft folder (of peers.json), "" in memory.
func (s *Stores) Dir() string {
	if s.dir == "" {
		return ""
	}
	return filepath.Join(s.dir, raftFolder)
}

// SetCluster writes into the marker which cluster this is, and how often it was
// recovered: the state, which says so too, is not there before a leader is.
func (s *Stores) SetCluster(id string, recoveries uint64) error {
	if s.marker == nil {
		return nil
	}
	return s.marker.setCluster(id, recoveries)
}

// Cluster is what SetCluster wrote; "" if nothing.
func (s *Stores) Cluster() (id string, recoveries uint64) {
	if s.marker == nil {
		return "", 0
	}
	s.marker.mu.Lock()
	defer s.marker.mu.Unlock()
	return s.marker.want.ClusterID, s.marker.want.Recoveries
}

// Overruled is which recovery of the group left this server out, 0: none did.
func (s *Stores) Overruled() uint64 {
	if s.marker == nil {
		return 0
	}
	s.marker.mu.Lock()
	defer s.marker.mu.Unlock()
	return s.marker.want.Overruled
}

// Overrule notes that a recovery left this server out: Open refuses from now on. 0
// takes that back.
func (s *Stores) Overrule(recovery uint64) error {
	if s.marker == nil || s.Overruled() == recovery {
		return nil
	}
	return s.marker.overrule(recovery)
}

// Forget removes the marker and writes none again: the server completed its
// leave, and what it keeps is no longer the cluster's.
func (s *Stores) Forget() error {
	if s.marker == nil {
		return nil
	}
	return s.marker.forget()
}

// Close closes the files. Raft must have stopped. It may be called again.
func (s *Stores) Close() error {
	if s.wal == nil {
		return nil
	}
	err := s.wal.Close()
	if s.lock == nil {
		return err
	}
	// Last: the lock says that nobody writes.
	return errors.Join(err, closeOnce(s.lock))
}

func closeOnce(f *os.File) error {
	if err := f.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
