package raftlog

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// A snapshot file is
//
//	head     8 bytes: "LBSNAP" 0 version
//	body     what the state machine wrote
//	meta     raft.SnapshotMeta as JSON
//	footer   28 bytes, big endian: length of body (8), length of meta (4),
//	         CRC-32C of body (4), CRC-32C of meta and of the 16 bytes before
//	         (4), "LBSNAPE" version (8)
//
// It is written under a temporary name and renamed when durable.
const (
	snapVersion  = 1
	snapHead     = "LBSNAP\x00\x01"
	snapTail     = "LBSNAPE\x01"
	snapSuffix   = ".snap"
	footerSize   = 8 + 4 + 4 + 4 + 8
	maxMetaSize  = 1 << 20 // thousands of servers
	retained     = 2
	snapBufBytes = 64 << 10
)

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// snapshotStore is a raft.SnapshotStore of files.
type snapshotStore struct {
	dir    string
	logger *slog.Logger
	marker *marker
	failed *failure
	m      *metrics

	mu       sync.Mutex
	verified map[string]bool // files of which this process knows that the body is whole
}

func newSnapshotStore(dir string, logger *slog.Logger, mk *marker, f *failure, m *metrics) (*snapshotStore, error) {
	tmps, err := filepath.Glob(filepath.Join(dir, "*.tmp"))
	if err != nil {
		return nil, fmt.Errorf("raft snapshots: %w", err)
	}
	for _, t := range tmps {
		if err := os.Remove(t); err != nil {
			return nil, fmt.Errorf("raft snapshots: %w", err)
		}
	}
	return &snapshotStore{dir: dir, logger: logger, marker: mk, failed: f, m: m, verified: make(map[string]bool)}, nil
}

// Create begins a snapshot. It does not exist before Close of the sink.
func (s *snapshotStore) Create(version raft.SnapshotVersion, index, term uint64, conf raft.Configuration,
	confIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	if version != 1 {
		return nil, fmt.Errorf("raft snapshots: unsupported version %d", version)
	}
	now := time.Now()
	id := fmt.Sprintf("%d-%d-%d", term, index, now.UnixMilli())
	f, err := os.OpenFile(filepath.Join(s.dir, id+".tmp"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("raft snapshots: %w", err)
	}
	k := &sink{
		store: s, f: f, w: bufio.NewWriterSize(f, snapBufBytes), crc: crc32.New(castagnoli()), start: now,
		meta: raft.SnapshotMeta{Version: version, ID: id, Index: index, Term: term,
			Configuration: conf, ConfigurationIndex: confIndex},
	}
	if _, err := k.w.WriteString(snapHead); err != nil {
		return nil, errors.Join(err, k.Cancel())
	}
	return k, nil
}

// List returns the snapshots, newest first. Files whose frame is damaged are
// left out and logged.
func (s *snapshotStore) List() ([]*raft.SnapshotMeta, error) {
	names, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("raft snapshots: %w", err)
	}
	var metas []*raft.SnapshotMeta
	for _, n := range names {
		id, ok := strings.CutSuffix(n.Name(), snapSuffix)
		if !ok {
			continue
		}
		f, meta, _, err := s.openFile(id)
		if err != nil {
			s.logger.Error("raft snapshot cannot be read", "snapshot", id, "err", err)
			continue
		}
		f.Close()
		metas = append(metas, meta)
	}
	slices.SortFunc(metas, func(a, b *raft.SnapshotMeta) int {
		return cmp.Or(cmp.Compare(b.Term, a.Term), cmp.Compare(b.Index, a.Index), cmp.Compare(b.ID, a.ID))
	})
	if len(metas) > retained {
		metas = metas[:retained]
	}
	return metas, nil
}

// Open returns a snapshot whose body was verified as a whole.
func (s *snapshotStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	f, meta, sum, err := s.openFile(id)
	if err != nil {
		return nil, nil, err
	}
	s.mu.Lock()
	known := s.verified[id]
	s.mu.Unlock()
	if !known {
		if err := verifyBody(f, meta.Size, sum); err != nil {
			f.Close()
			return nil, nil, fmt.Errorf("raft snapshot %s: %w", id, err)
		}
		s.setVerified(id, true)
	}
	body := struct {
		io.Reader
		io.Closer
	}{bufio.NewReaderSize(io.NewSectionReader(f, int64(len(snapHead)), meta.Size), snapBufBytes), f}
	return meta, body, nil
}

func (s *snapshotStore) setVerified(id string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ok {
		s.verified[id] = true
	} else {
		delete(s.verified, id)
	}
}

func (s *snapshotStore) openFile(id string) (*os.File, *raft.SnapshotMeta, uint32, error) {
	f, err := os.Open(filepath.Join(s.dir, id+snapSuffix))
	if err != nil {
		return nil, nil, 0, fmt.Errorf("raft snapshots: %w", err)
	}
	meta, sum, err := readFooter(f)
	if err == nil && meta.ID != id {
		err = fmt.Errorf("it says it is %q", meta.ID)
	}
	if err != nil {
		f.Close()
		return nil, nil, 0, fmt.Errorf("raft snapshot %s: %w", id, err)
	}
	return f, meta, sum, nil
}

// readFooter decodes the end of a snapshot file and checks its head.
func readFooter(f io.ReaderAt) (*raft.SnapshotMeta, uint32, error) {
	size, err := sizeOf(f)
	if err != nil {
		return nil, 0, err
	}
	const frame = int64(len(snapHead) + footerSize)
	if size < frame {
		return nil, 0, errors.New("too short")
	}
	var head [len(snapHead)]byte
	var foot [footerSize]byte
	if _, err := f.ReadAt(head[:], 0); err != nil {
		return nil, 0, err
	}
	if _, err := f.ReadAt(foot[:], size-footerSize); err != nil {
		return nil, 0, err
	}
	if string(head[:]) != snapHead || string(foot[20:]) != snapTail {
		return nil, 0, fmt.Errorf("not a snapshot of version %d, or torn", snapVersion)
	}
	bodyLen := binary.BigEndian.Uint64(foot[:])
	metaLen := binary.BigEndian.Uint32(foot[8:])
	if metaLen > maxMetaSize || bodyLen > uint64(size-frame) || bodyLen+uint64(metaLen) != uint64(size-frame) {
		return nil, 0, errors.New("lengths do not match the file")
	}
	raw := make([]byte, metaLen) // at most maxMetaSize, and the file has it
	if _, err := f.ReadAt(raw, int64(len(snapHead))+int64(bodyLen)); err != nil {
		return nil, 0, err
	}
	sum := crc32.Update(crc32.Checksum(raw, castagnoli()), castagnoli(), foot[:16])
	if sum != binary.BigEndian.Uint32(foot[16:]) {
		return nil, 0, errors.New("checksum of the description does not match")
	}
	var meta raft.SnapshotMeta
	if err := json.Unmarshal(raw, &meta); err != nil {
		return nil, 0, err
	}
	meta.Size = int64(bodyLen)
	return &meta, binary.BigEndian.Uint32(foot[12:]), nil
}

func sizeOf(f io.ReaderAt) (int64, error) {
	switch f := f.(type) {
	case *os.File:
		st, err := f.Stat()
		if err != nil {
			return 0, err
		}
		return st.Size(), nil
	case interface{ Size() int64 }:
		return f.Size(), nil
	}
	return 0, errors.New("no size")
}

func verifyBody(f io.ReaderAt, size int64, want uint32) error {
	crc := crc32.New(castagnoli())
	if _, err := io.Copy(crc, io.NewSectionReader(f, int64(len(snapHead)), size)); err != nil {
		return err
	}
	if crc.Sum32() != want {
		return errors.New("checksum of the body does not match")
	}
	return nil
}

// reap removes all but the newest snapshots.
func (s *snapshotStore) reap() {
	metas, err := s.List()
	if err != nil {
		s.logger.Warn("raft snapshots cannot be listed", "err", err)
		return
	}
	keep := make(map[string]bool, len(metas))
	for _, m := range metas {
		keep[m.ID+snapSuffix] = true
	}
	names, _ := filepath.Glob(filepath.Join(s.dir, "*"+snapSuffix))
	for _, n := range names {
		if keep[filepath.Base(n)] {
			continue
		}
		if err := os.Remove(n); err != nil {
			s.logger.Warn("old raft snapshot cannot be removed", "file", n, "err", err)
		}
		s.setVerified(strings.TrimSuffix(filepath.Base(n), snapSuffix), false)
	}
}

// sink writes one snapshot. Raft uses it from one goroutine.
type sink struct {
	store *snapshotStore
	meta  raft.SnapshotMeta
	start time.Time
	f     *os.File
	w     *bufio.Writer
	crc   hash.Hash32
	size  int64
	done  bool
}

func (k *sink) ID() string { return k.meta.ID }

func (k *sink) Write(p []byte) (int, error) {
	if k.done {
		return 0, os.ErrClosed
	}
	n, err := k.w.Write(p)
	k.crc.Write(p[:n])
	k.size += int64(n)
	return n, err
}

// Close makes the snapshot durable and the newest; a second call does nothing.
func (k *sink) Close() error {
	if k.done {
		return nil
	}
	if err := k.finish(); err != nil {
		return errors.Join(fmt.Errorf("raft snapshot %s: %w", k.meta.ID, err), k.Cancel())
	}
	k.done = true
	s := k.store
	s.setVerified(k.meta.ID, true)
	s.m.snapshotSeconds.Observe(time.Since(k.start).Seconds())
	s.m.snapshotBytes.Set(float64(k.size))
	s.marker.durable(k.meta.Term)
	s.reap()
	return nil
}

func (k *sink) finish() error {
	k.meta.Size = k.size
	raw, err := json.Marshal(k.meta)
	if err != nil {
		return err
	}
	foot := binary.BigEndian.AppendUint64(nil, uint64(k.size))
	foot = binary.BigEndian.AppendUint32(foot, uint32(len(raw)))
	foot = binary.BigEndian.AppendUint32(foot, k.crc.Sum32())
	foot = binary.BigEndian.AppendUint32(foot, crc32.Update(crc32.Checksum(raw, castagnoli()), castagnoli(), foot))
	k.w.Write(raw)
	k.w.Write(foot)
	k.w.WriteString(snapTail)
	if err := k.w.Flush(); err != nil { // returns the error of any write before
		return err
	}
	if err := k.f.Sync(); err != nil {
		if diskFull(err) {
			return err
		}
		return k.store.failed.set(k.f.Name(), err)
	}
	if err := k.f.Close(); err != nil {
		return err
	}
	if err := os.Rename(k.f.Name(), filepath.Join(k.store.dir, k.meta.ID+snapSuffix)); err != nil {
		return err
	}
	if err := syncDir(k.store.dir); err != nil {
		return k.store.failed.set(k.store.dir, err)
	}
	return nil
}

// Cancel drops the snapshot. After Close it does nothing.
func (k *sink) Cancel() error {
	if k.done {
		return nil
	}
	k.done = true
	return errors.Join(closeOnce(k.f), removeIfThere(k.f.Name()))
}
