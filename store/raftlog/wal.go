package raftlog

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

var (
	_ raft.LogStore          = (*walStore)(nil)
	_ raft.StableStore       = (*walStore)(nil)
	_ raft.MonotonicLogStore = (*walStore)(nil)
)

// currentTerm is the key under which Raft keeps its term.
const currentTerm = "CurrentTerm"

// walStore is raft-wal with what it leaves to its user: final fsync errors,
// life after a full disk, the marker and a small cache.
type walStore struct {
	dir    string
	opts   Options
	logger *slog.Logger
	marker *marker
	failed *failure
	m      *metrics

	// mu is held for reading while wal is used, for writing while it is
	// replaced. turn comes first.
	mu  sync.RWMutex
	wal *wal.WAL

	// turn is held by whoever changes the log or the stable values, and guards
	// the writer's side of cache. It is a channel, since its holder waits for the disk.
	turn   chan struct{}
	ahead  *ahead
	cache  cache
	marked []*raft.Log // of mark
	term   uint64      // CurrentTerm, if this process has set it

	committed atomic.Pointer[func() uint64] // of TrackCommit

	// full is set while the last append found no room.
	full atomic.Bool

	// Seams for tests; nil otherwise.
	testVFS  func(types.VFS) types.VFS
	testMeta func(types.MetaStore) types.MetaStore
}

func openWAL(dir string, opts Options, mk *marker, f *failure, m *metrics) (*walStore, error) {
	return openWALWith(dir, opts, mk, f, m, nil, nil)
}

func openWALWith(dir string, opts Options, mk *marker, f *failure, m *metrics,
	vfs func(types.VFS) types.VFS, meta func(types.MetaStore) types.MetaStore) (*walStore, error) {
	s := &walStore{dir: dir, opts: opts, logger: opts.Logger, marker: mk, failed: f, m: m,
		turn: make(chan struct{}, 1), ahead: &ahead{failed: f, base: time.Now()}, testVFS: vfs, testMeta: meta}
	w, err := s.open()
	if err != nil {
		return nil, err
	}
	s.wal = w
	return s, nil
}

func (s *walStore) open() (*wal.WAL, error) {
	filer := segment.NewFiler(s.dir, newVFS(s.failed, s.m, s.ahead, s.testVFS))
	meta := newMetaStore(s.failed, s.ahead, s.testMeta)
	w, err := func() (*wal.WAL, error) {
		if err := finishRotation(s.dir, meta, filer, s.opts.SegmentSize); err != nil {
			return nil, err
		}
		return wal.Open(s.dir,
			wal.WithSegmentFiler(filer),
			wal.WithMetaStore(meta),
			wal.WithSegmentSize(s.opts.SegmentSize),
			wal.WithLogger(rotationLogger{hclog.NewNullLogger(), s.logger}))
	}()
	if err != nil {
		meta.Close()
		return nil, fmt.Errorf("raft log in %s: %w", s.dir, err)
	}
	return w, nil
}

// finishRotation completes what raft-wal does not recover by itself: a crash,
// or an error of wal-meta.db, after the last append sealed its segment and
// before the next segment was noted. Opened like this, raft-wal refuses every
// append with ErrSealed.
func finishRotation(dir string, meta types.MetaStore, filer *segment.Filer, size int) error {
	st, err := meta.Load(dir)
	if err != nil || len(st.Segments) == 0 {
		return err
	}
	tail := &st.Segments[len(st.Segments)-1]
	if !tail.SealTime.IsZero() {
		return nil
	}
	sw, err := filer.RecoverTail(*tail)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer sw.Close()
	sealed, indexStart, err := sw.Sealed()
	if err != nil || !sealed {
		return err
	}
	now := time.Now()
	tail.SealTime, tail.MaxIndex, tail.IndexStart = now, sw.LastIndex(), indexStart
	next := types.SegmentInfo{
		ID: st.NextSegmentID, BaseIndex: tail.MaxIndex + 1, MinIndex: tail.MaxIndex + 1,
		SizeLimit: uint32(size), Codec: tail.Codec, CreateTime: now,
	}
	st.NextSegmentID++
	st.Segments = append(st.Segments, next)
	return meta.CommitState(st)
}

func (s *walStore) IsMonotonic() bool { return true }

func (s *walStore) FirstIndex() (uint64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.wal.FirstIndex()
}

func (s *walStore) LastIndex() (uint64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.wal.LastIndex()
}

func (s *walStore) GetLog(index uint64, out *raft.Log) error {
	if s.cache.get(index, out) {
		s.m.cacheHits.Inc()
		return nil
	}
	s.m.cacheMisses.Inc()
	s.mu.RLock()
	defer s.mu.RUnlock()
	// raft-wal still finds cut entries while their segment lives.
	first, err := s.wal.FirstIndex()
	if err == nil && index >= first {
		err = s.wal.GetLog(index, out)
	}
	if index < first || errors.Is(err, wal.ErrNotFound) {
		return raft.ErrLogNotFound // Raft sends a snapshot instead
	}
	return err
}

func (s *walStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs returns when the entries, and all before them, are durable. On an error
// none of them is in the log.
func (s *walStore) StoreLogs(logs []*raft.Log) error { return s.append(logs, false) }

// StoreLogsAhead: see AheadLog. Entries of a term that is over for this server are
// not let ahead.
func (s *walStore) StoreLogsAhead(logs []*raft.Log) error { return s.append(logs, true) }

func (s *walStore) append(logs []*raft.Log, ahead bool) error {
	if len(logs) == 0 {
		return nil
	}
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	start := time.Now()
	if err := s.ahead.settle(); err != nil {
		return err
	}
	term := logs[len(logs)-1].Term
	durable := func() {
		s.m.appendSeconds.Observe(time.Since(start).Seconds())
		s.marker.durable(term)
	}
	// After settle: what is known to be committed is durable here, too.
	marked := s.mark(logs)
	if ahead = ahead && term >= s.term; ahead {
		s.ahead.begin(logs[0].Index, durable)
	}
	err := s.store(marked)
	if errors.Is(err, wal.ErrSealed) {
		// The last append filled its segment and the next one could not be
		// made; raft-wal only logged that.
		if err = s.reopen(); err == nil {
			err = s.store(marked)
		}
	}
	clear(s.marked)
	if err == nil && !ahead {
		err = s.failed.get()
	}
	if err != nil {
		if ahead {
			s.ahead.cancel()
		}
		reason := reasonOther
		if diskFull(err) {
			reason = reasonFull
			s.full.Store(true)
		}
		s.m.refused.WithLabelValues(reason).Inc()
		return fmt.Errorf("raft log in %s: %w", s.dir, err)
	}
	s.full.Store(false)
	n := 0
	for _, l := range logs {
		s.cache.put(l)
		n += len(l.Data)
	}
	s.m.appendBytes.Add(float64(n))
	if !ahead {
		durable()
	}
	return nil
}

func (s *walStore) store(logs []*raft.Log) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.wal.StoreLogs(logs)
}

// reopen begins the segment that could not be made earlier. While there is no
// room it changes nothing, so that entries can still be read.
func (s *walStore) reopen() error {
	if err := s.probe(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.wal.Close(); err != nil {
		return err
	}
	w, err := s.open()
	if err != nil {
		// The old one is closed: without a log there is nothing to run on.
		return s.failed.set(s.dir, err)
	}
	s.wal = w
	s.m.reopens.Inc()
	s.logger.Warn("raft log: began the segment that could not be made before", "dir", s.dir)
	return nil
}

// Writable reports why the next append would be refused, nil if nothing is known
// to speak against it. After a full disk it looks whether there is room again.
func (s *walStore) Writable() error {
	if err := s.failed.get(); err != nil || !s.full.Load() {
		return err
	}
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if err := s.probe(); err != nil {
		return fmt.Errorf("raft log in %s: %w", s.dir, err)
	}
	s.full.Store(false)
	return nil
}

// probe reports whether a segment can be made.
func (s *walStore) probe() error {
	const name = "probe.tmp"
	if err := removeIfThere(filepath.Join(s.dir, name)); err != nil { // of a process that died here
		return err
	}
	f, err := newVFS(s.failed, s.m, s.ahead, s.testVFS).Create(s.dir, name, uint64(s.opts.SegmentSize))
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), removeIfThere(filepath.Join(s.dir, name)))
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (s *walStore) DeleteRange(min, max uint64) error {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if err := s.ahead.settle(); err != nil {
		return err
	}
	// Before the log: a reader must not find a cut entry in memory.
	s.cache.drop(min, max)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.wal.DeleteRange(min, max)
}

func (s *walStore) Set(key, val []byte) error {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if err := s.ahead.settle(); err != nil {
		return err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.wal.Set(key, val)
}

func (s *walStore) Get(key []byte) ([]byte, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.wal.Get(key)
}

func (s *walStore) SetUint64(key []byte, val uint64) error {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if err := s.ahead.settle(); err != nil {
		return err
	}
	if string(key) == currentTerm {
		s.term = val
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.wal.SetUint64(key, val)
}

func (s *walStore) GetUint64(key []byte) (uint64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.wal.GetUint64(key)
}

// Close waits for an append under way.
func (s *walStore) Close() error {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	_ = s.ahead.settle() // whoever waits for what failed has been told
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wal.Close()
}

// rotationLogger passes on what raft-wal logs, all of it about segments that
// could not be made, closed or deleted.
type rotationLogger struct {
	hclog.Logger
	to *slog.Logger
}

func (l rotationLogger) Error(msg string, args ...any) {
	l.to.Warn("raft log: "+msg, args...)
}
