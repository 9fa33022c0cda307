package raftlog

import (
	"os"
	"path/filepath"
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
}

func newVFS(f *failure, m *metrics, wrap func(types.VFS) types.VFS) types.VFS {
	base := baseVFS()
	if wrap != nil {
		base = wrap(base)
	}
	return &vfs{VFS: base, failed: f, m: m}
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
	return &file{WritableFile: f, name: name, vfs: v}, nil
}

func (v *vfs) OpenWriter(dir, name string) (types.WritableFile, error) {
	f, err := v.VFS.OpenWriter(dir, name)
	if err != nil {
		return nil, err
	}
	return &file{WritableFile: f, name: name, vfs: v}, nil
}

type file struct {
	types.WritableFile
	name string
	vfs  *vfs
}

func (f *file) Sync() error {
	start := time.Now()
	if err := f.WritableFile.Sync(); err != nil {
		return f.vfs.failed.set(f.name, err)
	}
	f.vfs.m.syncSeconds.Observe(time.Since(start).Seconds())
	return nil
}

// metaStore is raft-wal's wal-meta.db. It writes and syncs inside one call, so
// an error other than a full disk is taken for one of fsync.
type metaStore struct {
	types.MetaStore
	failed *failure
}

func newMetaStore(f *failure, wrap func(types.MetaStore) types.MetaStore) types.MetaStore {
	var base types.MetaStore = &metadb.BoltMetaDB{}
	if wrap != nil {
		base = wrap(base)
	}
	return &metaStore{MetaStore: base, failed: f}
}

func (m *metaStore) CommitState(st types.PersistentState) error {
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
