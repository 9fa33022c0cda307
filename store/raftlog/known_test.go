package raftlog

import "testing"

func TestCommittedIsNotedWithTheLog(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, options(t))
	committed := func(s *Stores, want uint64) {
		t.Helper()
		if got, err := s.Committed(); got != want || err != nil {
			t.Errorf("committed: %d, %v, want %d", got, err, want)
		}
	}
	again := func() {
		t.Helper()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = mustOpen(t, dir, options(t))
	}
	committed(s, 0)
	appendTerm(t, s, 1, 1, 3, 100) // by a version that notes nothing
	again()
	committed(s, 0)

	var known uint64 = 2
	s.TrackCommit(func() uint64 { return known })
	appendTerm(t, s, 1, 4, 6, 100)
	known = 5
	e := entry(7, 1, 100)
	if err := s.Log.StoreLog(e); err != nil || e.Extensions != nil {
		t.Fatalf("append: %v; the caller's entry has %x", err, e.Extensions)
	}
	again()
	committed(s, 5)
	wantLog(t, s, 1, 7)

	// What followed the cut is gone, with its note.
	if err := s.Log.DeleteRange(7, 7); err != nil {
		t.Fatal(err)
	}
	again()
	committed(s, 2)

	s.TrackCommit(func() uint64 { return 1000 })
	appendTerm(t, s, 1, 7, 7, 100)
	again()
	committed(s, 7) // never beyond the log
}
