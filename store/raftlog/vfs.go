package raftlog

import (
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/types"
)

func baseVFS() types.VFS { return fs.New() }

// vfs is raft-wal's file system, with fsync measured and its errors final.
type vfs struct {
	types.VFS
	failed *failure
	m      *metrics
	ahead  *ahead
}

func newVFS(f *failure, m *metrics, a *ahead, wrap func(types.VFS) types.VFS) types.VFS {
	base := baseVFS()
	if wrap != nil {
		base = wrap(base)
	}
	return &vfs{VFS: base, failed: f, m: m, ahead: a}
}

func (v *vfs) Create(dir, name string, size uint64) (types.WritableFile, error) {
	f, err := v.VFS.Create(dir, name, size)
	if err != nil {
		// A file that could not be allocated in full stays behind; it would
		// be taken for the new segment and grow by pieces.
		if !os.IsExist(err) {
			removeIfThere(filepath.Join(dir, name))
		}
		return nil, err
	}
	return newFile(v, f, dir, name), nil
}

// OpenWriter opens a segment that is not full, and leaves in it what got there as a
// whole. That is durable on return, though a killed process may have left it to the
// kernel to write.
func (v *vfs) OpenWriter(dir, name string) (types.WritableFile, error) {
	w, err := v.VFS.OpenWriter(dir, name)
	if err != nil {
		return nil, err
	}
	f := newFile(v, w, dir, name)
	if err := f.cutTorn(); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// file is a segment that is being written, by one goroutine.
//
// A segment has its full length from the start, but where it was never written
// each append also changes what the file system knows about the file, and so each
// sync writes twice. Zeros written ahead, a chunk at a time, leave data alone for
// the sync to write, and fdatasync does not write the time of change either:
// together half the time and half the CPU of fsync on a file that was only
// allocated (LIMITS 1).
type file struct {
	types.WritableFile
	dir, name string
	vfs       *vfs
	raw       syscall.RawConn // nil if the file is not the system's
	size      int64           // of the segment, 0 if unknown
	zeroed    int64           // up to here, all beyond what was appended is zero
	known     bool            // a full sync has made the file and its name durable
}

const zeroChunk = 256 << 10

var zeros [zeroChunk]byte

func newFile(v *vfs, f types.WritableFile, dir, name string) *file {
	w := &file{WritableFile: f, dir: dir, name: name, vfs: v}
	if o, ok := f.(interface {
		SyscallConn() (syscall.RawConn, error)
		Stat() (os.FileInfo, error)
	}); ok {
		if fi, err := o.Stat(); err == nil {
			w.size = fi.Size()
		}
		w.raw, _ = o.SyscallConn()
	}
	return w
}

// WriteAt appends: raft-wal never writes before what it wrote last, unless that
// failed.
func (f *file) WriteAt(p []byte, off int64) (int, error) {
	end := off + int64(len(p))
	if upTo := min((end/zeroChunk+1)*zeroChunk, f.size); end > f.zeroed && end < upTo {
		switch _, err := f.WritableFile.WriteAt(zeros[:upTo-end], end); {
		case err == nil:
			f.zeroed = upTo
		case !diskFull(err): // p itself may still find room
			return 0, err
		}
	}
	return f.WritableFile.WriteAt(p, off)
}

// Sync returns at once if the append is ahead of its sync.
func (f *file) Sync() error {
	if f.vfs.ahead.wanted() {
		f.vfs.ahead.run(f.syncNow)
		return nil
	}
	return f.syncNow()
}

func (f *file) syncNow() error {
	start := time.Now()
	if err := f.sync(); err != nil {
		return f.vfs.failed.set(f.name, err)
	}
	f.vfs.m.syncSeconds.Observe(time.Since(start).Seconds())
	return nil
}

func (f *file) sync() error {
	if f.known && f.raw != nil {
		return datasync(f.raw)
	}
	err := f.WritableFile.Sync()
	if err == nil && f.raw != nil {
		err = syncDir(f.dir) // also of a file that a killed process created
	}
	f.known = err == nil
	return err
}

// metaStore is raft-wal's wal-meta.db. It writes and syncs inside one call, so
// an error other than a full disk is taken for one of fsync.
type metaStore struct {
	types.MetaStore
	failed *failure
	ahead  *ahead
}

func newMetaStore(f *failure, a *ahead, wrap func(types.MetaStore) types.MetaStore) types.MetaStore {
	var base types.MetaStore = &metadb.BoltMetaDB{}
	if wrap != nil {
		base = wrap(base)
	}
	return &metaStore{MetaStore: base, failed: f, ahead: a}
}

// CommitState says which segments are full, and up to where: those are not looked
// at when they are opened.
func (m *metaStore) CommitState(st types.PersistentState) error {
	if err := m.ahead.settle(); err != nil {
		return err
	}
	return m.final(m.MetaStore.CommitState(st))
}

func (m *metaStore) SetStable(key, val []byte) error {
	return m.final(m.MetaStore.SetStable(key, val))
}

func (m *metaStore) final(err error) error {
	if err != nil && !diskFull(err) {
		return m.failed.set(metadb.FileName, err)
	}
	return err
}
