package raftlog

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

// writeUntilKilled appends entries and says which are durable.
func writeUntilKilled(dir string) {
	s, err := Open(dir, Options{RaftID: "id-1", SegmentSize: 64 << 10, Fatal: func(err error) { panic(err) }})
	if err != nil {
		panic(err)
	}
	if err := s.Stable.SetUint64([]byte("CurrentTerm"), 3); err != nil {
		panic(err)
	}
	for i := uint64(1); ; i++ {
		if err := s.Log.StoreLog(entry(i, 3, 700)); err != nil {
			panic(err)
		}
		fmt.Println(i)
	}
}

func TestKilledProcessLosesNothing(t *testing.T) {
	dir := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for round, lines := range []int{1, 95, 400} { // 700-byte entries fill a segment after about 90
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), "RAFTLOG_TEST_WRITER="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		acked := uint64(0)
		sc := bufio.NewScanner(out)
		for n := 0; n < lines && sc.Scan(); n++ {
			if acked, err = strconv.ParseUint(sc.Text(), 10, 64); err != nil {
				t.Fatal(err)
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for sc.Scan() {
			acked, _ = strconv.ParseUint(sc.Text(), 10, 64)
		}
		cmd.Wait()
		if acked < uint64(lines) {
			t.Fatalf("round %d: the writer acknowledged %d entries, want at least %d", round, acked, lines)
		}

		s, err := Open(dir, options(t))
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		last, _ := s.Log.LastIndex()
		if last < acked {
			t.Errorf("round %d: last index %d, but %d was acknowledged", round, last, acked)
		}
		wantLog(t, s, 1, last)
		if term, err := s.Stable.GetUint64([]byte("CurrentTerm")); term != 3 || err != nil {
			t.Errorf("CurrentTerm = %d, %v, want 3", term, err)
		}
		if err := s.Log.StoreLog(entry(last+1, 4, 10)); err != nil {
			t.Errorf("append after the crash: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		// The writer begins at index 1 each time.
		if err := os.RemoveAll(filepath.Join(dir, raftFolder)); err != nil {
			t.Fatal(err)
		}
		os.Remove(filepath.Join(dir, markerFile))
	}
}

// recorder remembers where the last write went.
type recorder struct {
	types.VFS
	off, n int64
}

type recordedFile struct {
	types.WritableFile
	r *recorder
}

func (r *recorder) Create(dir, name string, size uint64) (types.WritableFile, error) {
	f, err := r.VFS.Create(dir, name, size)
	return &recordedFile{f, r}, err
}

func (f *recordedFile) WriteAt(p []byte, off int64) (int, error) {
	f.r.off, f.r.n = off, int64(len(p))
	return f.WritableFile.WriteAt(p, off)
}

func TestTornTailIsCutOff(t *testing.T) {
	dir := t.TempDir()
	rec := &recorder{}
	s := openWithVFS(t, dir, func(v types.VFS) types.VFS { rec.VFS = v; return rec })
	for i := uint64(1); i <= 5; i++ {
		if err := s.StoreLog(entry(i, 1, 300)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.StoreLogs([]*raft.Log{entry(6, 1, 3000), entry(7, 1, 3000)}); err != nil {
		t.Fatal(err)
	}
	// What of the last write reached the disk before the power went.
	for _, kept := range []int64{0, 3, 8, 1000, 3500, rec.n - 1, rec.n} {
		t.Run(fmt.Sprintf("%d of %d bytes", kept, rec.n), func(t *testing.T) {
			copied := crash(t, dir)
			f, err := os.OpenFile(only(t, filepath.Join(copied, "*.wal")), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteAt(bytes.Repeat([]byte{0}, int(rec.n-kept)), rec.off+kept); err != nil {
				t.Fatal(err)
			}
			w := openWithVFS(t, copied, nil)
			want := uint64(5)
			if kept == rec.n {
				want = 7
			}
			wantLog(t, &Stores{Log: w}, 1, want)
			if err := w.StoreLog(entry(want+1, 2, 50)); err != nil {
				t.Fatal(err)
			}
			wantLog(t, &Stores{Log: w}, 1, want+1)
		})
	}
}

// openWithVFS opens a walStore in dir itself.
func openWithVFS(t *testing.T, dir string, wrap func(types.VFS) types.VFS) *walStore {
	t.Helper()
	return openWithFaults(t, dir, options(t), wrap, nil)
}

func openWithFaults(t *testing.T, dir string, opts Options, wrap func(types.VFS) types.VFS, meta func(types.MetaStore) types.MetaStore) *walStore {
	t.Helper()
	if err := opts.validate(); err != nil {
		t.Fatal(err)
	}
	m := newMetrics(opts.Registerer)
	s, err := openWALWith(dir, opts, newMarker(t.TempDir(), "id-1", nil, opts.Logger), newFailure(opts.Fatal, m), m, wrap, meta)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// stuckMeta copies the folder just before each commit of the segment list.
type stuckMeta struct {
	types.MetaStore
	before func(types.PersistentState)
}

func (m *stuckMeta) CommitState(st types.PersistentState) error {
	m.before(st)
	return m.MetaStore.CommitState(st)
}

// A crash between sealing a segment and noting the next one.
func TestCrashDuringRotation(t *testing.T) {
	dir := t.TempDir()
	copied := make(chan string, 1)
	opts := options(t)
	opts.SegmentSize = 16 << 10
	s := openWithFaults(t, dir, opts, nil, func(m types.MetaStore) types.MetaStore {
		return &stuckMeta{m, func(st types.PersistentState) {
			if len(st.Segments) == 2 {
				select {
				case copied <- crash(t, dir):
				default:
				}
			}
		}}
	})
	last := uint64(0)
	for len(copied) == 0 && last < 100 {
		last++
		if err := s.StoreLog(entry(last, 1, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	w := openWithVFS(t, <-copied, nil)
	got, _ := w.LastIndex()
	if got == 0 || got > last {
		t.Fatalf("last index %d, wrote %d", got, last)
	}
	wantLog(t, &Stores{Log: w}, 1, got)
	for i := got + 1; i < got+40; i++ {
		if err := w.StoreLog(entry(i, 1, 1000)); err != nil {
			t.Fatalf("append %d: %v", i, err)
		}
	}
	wantLog(t, &Stores{Log: w}, 1, got+39)
	if w.m == nil {
		t.Fatal("no metrics")
	}
}

var _ types.SegmentFiler = (*segment.Filer)(nil)
