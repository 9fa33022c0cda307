package raftlog

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
	"pgregory.net/rapid"
)

func TestMarker(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, options(t))
	if has, err := s.HasState(); has || err != nil {
		t.Fatalf("HasState of a new folder: %v, %v", has, err)
	}
	if mk, _ := ReadMarker(dir); mk != nil {
		t.Fatalf("marker before anything is durable: %+v", mk)
	}
	appendTerm(t, s, 4, 1, 3, 100)
	if err := s.SetCluster("c-1", 2); err != nil {
		t.Fatal(err)
	}
	appendTerm(t, s, 6, 4, 5, 100)
	s.Close()
	mk, err := ReadMarker(dir)
	if want := (Marker{Version: 1, RaftID: "id-1", ClusterID: "c-1", Term: 6, Recoveries: 2}); err != nil || *mk != want {
		t.Fatalf("marker %+v, %v, want %+v", mk, err, want)
	}

	refused := func(name string, break_ func(dir string)) {
		t.Run(name, func(t *testing.T) {
			d := crash(t, dir)
			break_(d)
			_, err := Open(d, options(t))
			if !errors.Is(err, ErrStateMissing) {
				t.Fatalf("Open: %v, want ErrStateMissing", err)
			}
			for _, want := range []string{"landbridge operator raft forget -yes", "id-1", "c-1", "term 6"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not name %q", err, want)
				}
			}
			// Refused again and again, not only the first time.
			if _, err := Open(d, options(t)); !errors.Is(err, ErrStateMissing) {
				t.Fatalf("second Open: %v, want ErrStateMissing", err)
			}
			moved, err := Forget(d)
			if err != nil {
				t.Fatal(err)
			}
			if had := moved != ""; had != (name != "folder gone") {
				t.Errorf("Forget moved %q", moved)
			}
			s := mustOpen(t, d, options(t))
			if has, _ := s.HasState(); has {
				t.Error("state after Forget")
			}
		})
	}
	refused("folder gone", func(d string) { os.RemoveAll(filepath.Join(d, raftFolder)) })
	refused("log gone", func(d string) { os.RemoveAll(filepath.Join(d, raftFolder, "wal")) })
	refused("log empty", func(d string) {
		os.RemoveAll(filepath.Join(d, raftFolder))
		os.Rename(filepath.Join(d, markerFile), filepath.Join(d, "aside"))
		mustOpen(t, d, options(t)).Close()
		os.Rename(filepath.Join(d, "aside"), filepath.Join(d, markerFile))
	})
	refused("older log", func(d string) {
		os.RemoveAll(filepath.Join(d, raftFolder))
		os.Rename(filepath.Join(d, markerFile), filepath.Join(d, "aside"))
		s := mustOpen(t, d, options(t))
		appendTerm(t, s, 5, 1, 3, 100)
		s.Close()
		os.Rename(filepath.Join(d, "aside"), filepath.Join(d, markerFile))
	})

	t.Run("state there", func(t *testing.T) {
		s := mustOpen(t, crash(t, dir), options(t))
		wantLog(t, s, 1, 5)
	})
	t.Run("overruled", func(t *testing.T) {
		d := crash(t, dir)
		s := mustOpen(t, d, options(t))
		if err := s.Overrule(3); err != nil {
			t.Fatal(err)
		}
		appendTerm(t, s, 7, 6, 6, 100) // writes the marker again
		s.Close()
		for range 2 {
			if _, err := Open(d, options(t)); !errors.Is(err, ErrOverruled) || !strings.Contains(err.Error(), "recovery 3") ||
				!strings.Contains(err.Error(), "landbridge operator raft forget -yes") {
				t.Fatalf("Open: %v, want ErrOverruled with a way out", err)
			}
		}
		opts := options(t)
		opts.EvenOverruled = true
		s = mustOpen(t, d, opts)
		wantLog(t, s, 1, 6)
		if id, n := s.Cluster(); id != "c-1" || n != 2 || s.Overruled() != 3 {
			t.Errorf("the marker says cluster %q, %d recoveries, overruled by %d", id, n, s.Overruled())
		}
		if err := s.Overrule(0); err != nil {
			t.Fatal(err)
		}
		s.Close()
		mustOpen(t, d, options(t)).Close()
	})
	t.Run("left", func(t *testing.T) {
		d := crash(t, dir)
		s := mustOpen(t, d, options(t))
		if err := s.Forget(); err != nil {
			t.Fatal(err)
		}
		appendTerm(t, s, 7, 6, 6, 100)
		if mk, _ := ReadMarker(d); mk != nil {
			t.Errorf("marker after a leave: %+v", mk)
		}
	})
}

func TestFolderHasOneUser(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, options(t))
	appendTerm(t, s, 1, 1, 1, 10)
	if _, err := Open(dir, options(t)); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("second Open: %v, want in use", err)
	}
	if _, err := Forget(dir); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("Forget while in use: %v, want in use", err)
	}
	wantLog(t, s, 1, 1)
	if st, err := os.Stat(filepath.Join(dir, raftFolder)); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("mode of the raft folder: %v, %v, want 0700", st.Mode(), err)
	}
}

func TestOptions(t *testing.T) {
	_, err := Open(t.TempDir(), Options{SegmentSize: -1})
	if err == nil || !strings.Contains(err.Error(), "Fatal") || !strings.Contains(err.Error(), "SegmentSize") {
		t.Errorf("Open: %v, want both problems", err)
	}
}

func TestGapBetweenSnapshotAndLogIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, options(t))
	appendTerm(t, s, 1, 1, 20, 50)
	writeSnapshot(t, s.Snapshots, 1, 10, "state")
	if err := s.Log.DeleteRange(1, 8); err != nil {
		t.Fatal(err)
	}
	s.Close()
	t.Run("covered", func(t *testing.T) { wantLog(t, mustOpen(t, crash(t, dir), options(t)), 9, 20) })
	t.Run("snapshot gone", func(t *testing.T) {
		d := crash(t, dir)
		os.Remove(only(t, filepath.Join(d, raftFolder, "snapshots", "*.snap")))
		if _, err := Open(d, options(t)); err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("Open: %v, want damaged", err)
		}
	})
}

// The log with its cache against a plain one, through restarts.
func TestLogModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		opts := options(t)
		opts.SegmentSize = 32 << 10
		opts.Fatal = func(err error) { rt.Fatalf("fatal: %v", err) }
		s, err := Open(dir, opts)
		if err != nil {
			rt.Fatal(err)
		}
		defer func() { s.Close() }()
		if err := s.Stable.SetUint64([]byte("CurrentTerm"), 99); err != nil { // Raft's part
			rt.Fatal(err)
		}
		model := map[uint64]*raft.Log{}
		first, last, term := uint64(0), uint64(0), uint64(1)
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			switch rapid.SampledFrom([]string{"append", "append", "append", "cut head", "cut tail", "reopen"}).Draw(rt, "step") {
			case "append":
				var logs []*raft.Log
				for range rapid.IntRange(1, 40).Draw(rt, "entries") {
					last++
					l := entry(last, term, rapid.IntRange(0, 3000).Draw(rt, "size"))
					logs = append(logs, l)
					model[last] = l
				}
				if first == 0 {
					first = logs[0].Index
				}
				if err := s.Log.StoreLogs(logs); err != nil {
					rt.Fatal(err)
				}
			case "cut head":
				if last > first {
					to := rapid.Uint64Range(first, last-1).Draw(rt, "to")
					if err := s.Log.DeleteRange(first, to); err != nil {
						rt.Fatal(err)
					}
					first = to + 1
				}
			case "cut tail":
				if last > first {
					from := rapid.Uint64Range(first+1, last).Draw(rt, "from")
					if err := s.Log.DeleteRange(from, last); err != nil {
						rt.Fatal(err)
					}
					last = from - 1
					term++
				}
			case "reopen":
				if first > 1 {
					break // it would be refused: no snapshot covers the head
				}
				s.Close()
				o := opts
				o.Registerer = nil
				next, err := Open(dir, o)
				if err != nil {
					rt.Fatal(err)
				}
				s = next
			}
			f, _ := s.Log.FirstIndex()
			l, _ := s.Log.LastIndex()
			if f != first || l != last {
				rt.Fatalf("log is [%d, %d], want [%d, %d]", f, l, first, last)
			}
			for i := first; i <= last && i > 0; i++ {
				var got raft.Log
				if err := s.Log.GetLog(i, &got); err != nil || got.Term != model[i].Term || string(got.Data) != string(model[i].Data) {
					rt.Fatalf("entry %d: term %d, %v, want term %d", i, got.Term, err, model[i].Term)
				}
			}
			for _, i := range []uint64{first - 1, last + 1} {
				var got raft.Log
				if err := s.Log.GetLog(i, &got); i > 0 && err != raft.ErrLogNotFound {
					rt.Fatalf("entry %d outside [%d, %d]: %v, want ErrLogNotFound", i, first, last, err)
				}
			}
			if b := s.wal.cache.bytes; b < 0 || b > cacheBytes {
				rt.Fatalf("cache counts %d bytes", b)
			}
		}
	})
}
