package raftlog

import (
	"errors"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/types"
)

// faultyVFS fails as it is told.
type faultyVFS struct {
	types.VFS
	create, write, sync atomic.Pointer[error]
}

func (v *faultyVFS) Create(dir, name string, size uint64) (types.WritableFile, error) {
	if p := v.create.Load(); p != nil {
		return nil, *p
	}
	f, err := v.VFS.Create(dir, name, size)
	return &faultyFile{f, v}, err
}

type faultyFile struct {
	types.WritableFile
	v *faultyVFS
}

func (f *faultyFile) WriteAt(p []byte, off int64) (int, error) {
	if e := f.v.write.Load(); e != nil {
		n, _ := f.WritableFile.WriteAt(p[:len(p)/2], off)
		return n, *e
	}
	return f.WritableFile.WriteAt(p, off)
}

func (f *faultyFile) Sync() error {
	if e := f.v.sync.Load(); e != nil {
		return *e
	}
	return f.WritableFile.Sync()
}

func TestFullDiskRefusesAndHeals(t *testing.T) {
	for name, errno := range map[string]error{"ENOSPC": syscall.ENOSPC, "EDQUOT": syscall.EDQUOT} {
		t.Run(name+" for a new segment", func(t *testing.T) {
			v := &faultyVFS{}
			opts := options(t)
			opts.SegmentSize = 16 << 10
			dir := t.TempDir()
			s := openWithFaults(t, dir, opts, func(b types.VFS) types.VFS { v.VFS = b; return v }, nil)
			v.create.Store(&errno)
			last := uint64(0)
			var err error
			for last < 100 {
				if err = s.StoreLog(entry(last+1, 1, 1000)); err != nil {
					break
				}
				last++
			}
			if !errors.Is(err, errno) {
				t.Fatalf("append to a full disk: %v, want %v", err, errno)
			}
			if err := s.StoreLog(entry(last+1, 1, 1000)); !errors.Is(err, errno) {
				t.Fatalf("second append to a full disk: %v, want %v", err, errno)
			}
			wantLog(t, &Stores{Log: s}, 1, last)
			if err := (&Stores{Log: s}).Writable(); !errors.Is(err, errno) {
				t.Errorf("Writable with a full disk: %v, want %v", err, errno)
			}
			// A killed process starts again once there is room.
			w := openWithVFS(t, crash(t, dir), nil)
			wantLog(t, &Stores{Log: w}, 1, last)
			if err := w.StoreLog(entry(last+1, 2, 1000)); err != nil {
				t.Fatalf("append after a restart: %v", err)
			}
			// And so does this one, without a restart.
			v.create.Store(nil)
			if err := (&Stores{Log: s}).Writable(); err != nil {
				t.Errorf("Writable with room again: %v", err)
			}
			for i := last + 1; i < last+60; i++ {
				if err := s.StoreLog(entry(i, 1, 1000)); err != nil {
					t.Fatalf("append %d with room again: %v", i, err)
				}
			}
			wantLog(t, &Stores{Log: s}, 1, last+59)
		})
		t.Run(name+" in the middle of a write", func(t *testing.T) {
			v := &faultyVFS{}
			dir := t.TempDir()
			s := openWithFaults(t, dir, options(t), func(b types.VFS) types.VFS { v.VFS = b; return v }, nil)
			if err := s.StoreLog(entry(1, 1, 500)); err != nil {
				t.Fatal(err)
			}
			v.write.Store(&errno)
			if err := s.StoreLogs([]*raft.Log{entry(2, 1, 5000), entry(3, 1, 5000)}); !errors.Is(err, errno) {
				t.Fatalf("append to a full disk: %v, want %v", err, errno)
			}
			wantLog(t, &Stores{Log: s}, 1, 1)
			wantLog(t, &Stores{Log: openWithVFS(t, crash(t, dir), nil)}, 1, 1)
			v.write.Store(nil)
			if err := s.StoreLog(entry(2, 2, 100)); err != nil {
				t.Fatal(err)
			}
			wantLog(t, &Stores{Log: s}, 1, 2)
			wantLog(t, &Stores{Log: openWithVFS(t, crash(t, dir), nil)}, 1, 2)
		})
	}
}

func TestFailedSyncIsFinal(t *testing.T) {
	v := &faultyVFS{}
	var fatal []error
	opts := options(t)
	opts.Fatal = func(err error) { fatal = append(fatal, err) }
	s := openWithFaults(t, t.TempDir(), opts, func(b types.VFS) types.VFS { v.VFS = b; return v }, nil)
	if err := s.StoreLog(entry(1, 1, 100)); err != nil {
		t.Fatal(err)
	}
	eio := error(syscall.EIO)
	v.sync.Store(&eio)
	if err := s.StoreLog(entry(2, 1, 100)); !errors.Is(err, syscall.EIO) {
		t.Fatalf("append with a failing fsync: %v, want EIO", err)
	}
	v.sync.Store(nil)
	if err := s.StoreLog(entry(2, 1, 100)); !errors.Is(err, syscall.EIO) {
		t.Errorf("append after a failed fsync: %v, want EIO still", err)
	}
	if err := s.SetUint64([]byte("CurrentTerm"), 9); !errors.Is(err, syscall.EIO) {
		t.Errorf("vote after a failed fsync: %v, want EIO still", err)
	}
	if len(fatal) != 1 || !errors.Is(fatal[0], syscall.EIO) {
		t.Errorf("Fatal was called with %v, want EIO once", fatal)
	}
}

func TestFailedMetaIsFinal(t *testing.T) {
	for _, tt := range []struct {
		err   error
		calls int
	}{{syscall.EIO, 1}, {syscall.ENOSPC, 0}} {
		calls := 0
		opts := options(t)
		opts.Fatal = func(error) { calls++ }
		fm := &faultyMeta{}
		s := openWithFaults(t, t.TempDir(), opts, nil, func(m types.MetaStore) types.MetaStore { fm.MetaStore = m; return fm })
		fm.err = tt.err
		if err := s.SetUint64([]byte("CurrentTerm"), 2); !errors.Is(err, tt.err) {
			t.Errorf("SetUint64: %v, want %v", err, tt.err)
		}
		if calls != tt.calls {
			t.Errorf("%v: Fatal was called %d times, want %d", tt.err, calls, tt.calls)
		}
	}
}

type faultyMeta struct {
	types.MetaStore
	err error
}

func (m *faultyMeta) SetStable(key, val []byte) error {
	if m.err != nil {
		return m.err
	}
	return m.MetaStore.SetStable(key, val)
}
