package raftlog

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("RAFTLOG_TEST_WRITER"); dir != "" {
		writeUntilKilled(dir)
		return
	}
	// Each check syncs some dozen times; the default of 100 takes half a minute
	// on a busy disk.
	if err := flag.Set("rapid.checks", "20"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

func options(t testing.TB) Options {
	return Options{RaftID: "id-1", SegmentSize: 256 << 10, Fatal: func(err error) { t.Errorf("fatal: %v", err) }}
}

func mustOpen(t testing.TB, dir string, opts Options) *Stores {
	t.Helper()
	s, err := Open(dir, opts)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

func entry(index, term uint64, size int) *raft.Log {
	data := fmt.Appendf(make([]byte, 0, size), "entry %d of term %d ", index, term)
	return &raft.Log{Index: index, Term: term, Type: raft.LogCommand, Data: data[:max(size, len(data))]}
}

// appendTerm makes the term durable as Raft does, then entries from first to last.
func appendTerm(t testing.TB, s *Stores, term, first, last uint64, size int) {
	t.Helper()
	if err := s.Stable.SetUint64([]byte("CurrentTerm"), term); err != nil {
		t.Fatalf("SetUint64: %v", err)
	}
	for i := first; i <= last; i++ {
		if err := s.Log.StoreLog(entry(i, term, size)); err != nil {
			t.Fatalf("StoreLog %d: %v", i, err)
		}
	}
}

func wantLog(t testing.TB, s *Stores, first, last uint64) {
	t.Helper()
	f, err1 := s.Log.FirstIndex()
	l, err2 := s.Log.LastIndex()
	if err1 != nil || err2 != nil || f != first || l != last {
		t.Fatalf("log is [%d, %d] (%v, %v), want [%d, %d]", f, l, err1, err2, first, last)
	}
	for i := first; i <= last && i > 0; i++ {
		var got raft.Log
		if err := s.Log.GetLog(i, &got); err != nil {
			t.Fatalf("GetLog %d: %v", i, err)
		}
		want := entry(i, got.Term, len(got.Data))
		if got.Index != i || string(got.Data) != string(want.Data) {
			t.Fatalf("entry %d is %d %q, want %q", i, got.Index, got.Data, want.Data)
		}
	}
}

// crash copies the data folder as a killed process leaves it.
func crash(t testing.TB, dir string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

func only(t testing.TB, pattern string) string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) != 1 {
		t.Fatalf("%s matches %v (%v), want one file", pattern, names, err)
	}
	return names[0]
}
