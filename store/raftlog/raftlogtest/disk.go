// Package raftlogtest simulates the disk below store/raftlog, for tests in virtual
// time: the log's own code runs on it, recovery included.
package raftlogtest

import (
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/types"

	"landbridge/store/raftlog"
)

// sector is what a disk writes as a whole.
const sector = 512

// Disk is a disk in memory. What was not synced is in doubt when the power goes,
// sector by sector. The list of segments, term and vote, and snapshots are durable
// at once.
type Disk struct {
	snaps *raft.InmemSnapshotStore

	mu       sync.Mutex
	files    map[string]*file
	state    types.PersistentState
	stable   map[string][]byte
	syncTime func() time.Duration
}

// New returns an empty disk, whose syncs take no time.
func New() *Disk {
	return &Disk{snaps: raft.NewInmemSnapshotStore(), files: map[string]*file{}, stable: map[string][]byte{}}
}

// Open opens the stores of a server on the disk. The files beside the log are in dir.
func (d *Disk) Open(dir string, opts raftlog.Options) (*raftlog.Stores, error) {
	return d.OpenWith(dir, opts, func(v types.VFS) types.VFS { return v })
}

// OpenWith is Open with something between the log and the disk.
func (d *Disk) OpenWith(dir string, opts raftlog.Options, wrap func(types.VFS) types.VFS) (*raftlog.Stores, error) {
	return raftlog.OpenOn(dir, opts, wrap((*vfs)(d)), (*meta)(d), d.snaps)
}

// SyncTakes sets how long a sync takes that begins from now on; f is asked for each.
func (d *Disk) SyncTakes(f func() time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.syncTime = f
}

// PowerLoss returns the disk as it is found when the power is back; whoever still
// writes to d does so in vain. Each sector that was written and not synced is as it
// was or as it became, by rng; nil: all are as they were.
func (d *Disk) PowerLoss(rng *rand.Rand) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	left := &Disk{snaps: d.snaps, files: map[string]*file{}, state: clone(d.state), stable: maps.Clone(d.stable), syncTime: d.syncTime}
	for _, name := range slices.Sorted(maps.Keys(d.files)) {
		f := d.files[name]
		if !f.named && (rng == nil || rng.IntN(2) == 0) {
			continue
		}
		data := slices.Clone(f.data)
		for _, old := range []map[int64][]byte{f.dirty, f.syncing} {
			for _, n := range slices.Sorted(maps.Keys(old)) {
				if rng == nil || rng.IntN(2) == 0 {
					clear(data[n*sector : (n+1)*sector])
					copy(data[n*sector:], old[n])
				}
			}
		}
		left.files[name] = &file{data: data, named: true, dirty: map[int64][]byte{}}
	}
	return left
}

func clone(st types.PersistentState) types.PersistentState {
	st.Segments = slices.Clone(st.Segments)
	return st
}

// waitLocked waits as long as the disk takes. mu is held, but not meanwhile.
func (d *Disk) waitLocked() {
	if d.syncTime == nil {
		return
	}
	if t := d.syncTime(); t > 0 {
		d.mu.Unlock()
		time.Sleep(t)
		d.mu.Lock()
	}
}

// file is a segment; Disk.mu guards it. data is a whole number of sectors.
type file struct {
	data    []byte
	named   bool             // its name is durable
	dirty   map[int64][]byte // sectors written since the last sync began, as they were before
	syncing map[int64][]byte // the same of those that the sync under way writes
}

// handle is an open file.
type handle struct {
	d *Disk
	f *file
}

func (h handle) ReadAt(p []byte, off int64) (int, error) {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	if off >= int64(len(h.f.data)) {
		return 0, io.EOF
	}
	n := copy(p, h.f.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (h handle) WriteAt(p []byte, off int64) (int, error) {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	first, end := off/sector, (off+int64(len(p))+sector-1)/sector
	if grow := end*sector - int64(len(h.f.data)); grow > 0 {
		h.f.data = append(h.f.data, make([]byte, grow)...)
	}
	for n := first; n < end; n++ {
		if _, ok := h.f.dirty[n]; !ok {
			h.f.dirty[n] = slices.Clone(h.f.data[n*sector : (n+1)*sector])
		}
	}
	return copy(h.f.data[off:], p), nil
}

func (h handle) Sync() error {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	h.f.syncing, h.f.dirty = h.f.dirty, map[int64][]byte{}
	h.d.waitLocked()
	h.f.syncing, h.f.named = nil, true
	return nil
}

func (h handle) Close() error { return nil }

// vfs is raft-wal's view of the disk.
type vfs Disk

func (v *vfs) ListDir(dir string) ([]string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	var names []string
	for path := range v.files {
		if filepath.Dir(path) == dir {
			names = append(names, filepath.Base(path))
		}
	}
	slices.Sort(names)
	return names, nil
}

// Create does not allocate: what was never written reads as the end of the file,
// which raft-wal takes as it takes zeros.
func (v *vfs) Create(dir, name string, _ uint64) (types.WritableFile, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	path := filepath.Join(dir, name)
	if v.files[path] != nil {
		return nil, fmt.Errorf("create %s: %w", path, os.ErrExist)
	}
	f := &file{dirty: map[int64][]byte{}}
	v.files[path] = f
	return handle{(*Disk)(v), f}, nil
}

func (v *vfs) Delete(dir, name string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.files, filepath.Join(dir, name))
	return nil
}

func (v *vfs) open(dir, name string) (handle, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	path := filepath.Join(dir, name)
	f := v.files[path]
	if f == nil {
		return handle{}, fmt.Errorf("open %s: %w", path, os.ErrNotExist)
	}
	return handle{(*Disk)(v), f}, nil
}

func (v *vfs) OpenReader(dir, name string) (types.ReadableFile, error) { return v.open(dir, name) }

func (v *vfs) OpenWriter(dir, name string) (types.WritableFile, error) { return v.open(dir, name) }

// meta is raft-wal's list of segments and the stable values.
type meta Disk

func (m *meta) Load(string) (types.PersistentState, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return clone(m.state), nil
}

// CommitState takes no time: raft-wal calls it with a lock held on which others may
// wait, and virtual time stands still while one does.
func (m *meta) CommitState(st types.PersistentState) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state = clone(st)
	return nil
}

func (m *meta) GetStable(key []byte) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stable[string(key)], nil
}

func (m *meta) SetStable(key, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	(*Disk)(m).waitLocked()
	m.stable[string(key)] = slices.Clone(value)
	return nil
}

func (m *meta) Close() error { return nil }
