package raftlog

import (
	"encoding/binary"
	"fmt"

	"github.com/hashicorp/raft"
)

// The last entry of each append says, in its Extensions, up to where the log was
// known to be committed: a version byte and the index, little endian. So a server
// that restarts among servers that do not answer knows how far it may apply what it
// has. Followers hear of a commit with the append after it, so two appends
// may be missing, which have many entries each on a follower that was behind.
const knownVersion = 1

// knownScan bounds the entries looked at for the newest such mark: an append has
// fewer, and a cut log may end in the middle of one.
const knownScan = 4096

// mark returns logs with the mark in a copy of the last one: Raft's own is shared
// with whoever sends it to others. The turn is held.
func (s *walStore) mark(logs []*raft.Log) []*raft.Log {
	f := s.committed.Load()
	if f == nil {
		return logs
	}
	last := *logs[len(logs)-1]
	last.Extensions = binary.LittleEndian.AppendUint64([]byte{knownVersion}, (*f)())
	s.marked = append(append(s.marked[:0], logs[:len(logs)-1]...), &last)
	return s.marked
}

// TrackCommit has each append note what f returns, the index up to which the log is
// known to be committed. Stores that are not on disk note nothing.
func (s *Stores) TrackCommit(f func() uint64) {
	if s.wal != nil {
		s.wal.committed.Store(&f)
	}
}

// Committed returns the newest index that a process before noted by TrackCommit, 0 if
// there is none: all entries up to it that the log holds are committed. It is to be
// called before anything is appended.
func (s *Stores) Committed() (uint64, error) {
	if s.wal == nil {
		return 0, nil
	}
	first, err := s.wal.FirstIndex()
	if err != nil {
		return 0, fmt.Errorf("raft log: %w", err)
	}
	last, err := s.wal.LastIndex()
	if err != nil {
		return 0, fmt.Errorf("raft log: %w", err)
	}
	for i := last; i >= max(first, 1) && i+knownScan > last; i-- {
		var l raft.Log
		if err := s.wal.GetLog(i, &l); err != nil {
			return 0, fmt.Errorf("raft log: entry %d: %w", i, err)
		}
		if len(l.Extensions) == 9 && l.Extensions[0] == knownVersion {
			return min(binary.LittleEndian.Uint64(l.Extensions[1:]), last), nil
		}
	}
	return 0, nil
}
