package raftlog_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/types"

	"landbridge/store/raftlog"
	"landbridge/store/raftlog/raftlogtest"
)

type stores struct {
	*raftlog.Stores
	raftlog.AheadLog
}

func open(t testing.TB, d *raftlogtest.Disk, dir string) stores {
	t.Helper()
	s, err := d.Open(dir, raftlog.Options{RaftID: "id-1", SegmentSize: 16 << 10, Fatal: func(err error) { t.Errorf("fatal: %v", err) }})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return stores{s, s.Log.(raftlog.AheadLog)}
}

func (s stores) close(t testing.TB) {
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// logs are n entries from index first on; bytes are by index, size and term.
func logs(first, term uint64, n, size int) (out []*raft.Log) {
	for i := range n {
		index := first + uint64(i)
		out = append(out, &raft.Log{Index: index, Term: term, Type: raft.LogCommand, Data: bytes.Repeat([]byte{byte(index), byte(term)}, size/2+1)})
	}
	return out
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// holds checks that the log ends at last and what is in it.
func holds(t testing.TB, s stores, last uint64) {
	t.Helper()
	if got, err := s.Log.LastIndex(); got != last || err != nil {
		t.Fatalf("the log ends at %d (%v), want %d", got, err, last)
	}
	first, _ := s.Log.FirstIndex()
	for i := first; i > 0 && i <= last; i++ {
		var l raft.Log
		must(t, s.Log.GetLog(i, &l))
		if want := bytes.Repeat([]byte{byte(i), byte(l.Term)}, len(l.Data)/2); l.Index != i || !bytes.Equal(l.Data, want) {
			t.Fatalf("entry %d is %d with %d bytes of something else", i, l.Index, len(l.Data))
		}
	}
}

func slowly(d time.Duration) func() time.Duration { return func() time.Duration { return d } }

// An append ahead can be read at once, and whatever depends on it waits.
func TestAheadOfTheDisk(t *testing.T) {
	for name, then := range map[string]func(s stores) error{
		"wait":           func(s stores) error { return s.WaitDurable(4) },
		"append":         func(s stores) error { return s.Log.StoreLogs(logs(5, 1, 1, 10)) },
		"append ahead":   func(s stores) error { return s.StoreLogsAhead(logs(5, 1, 1, 10)) },
		"cut the end":    func(s stores) error { return s.Log.DeleteRange(4, 4) },
		"cut the front":  func(s stores) error { return s.Log.DeleteRange(1, 2) },
		"a new term":     func(s stores) error { return s.Stable.SetUint64([]byte("CurrentTerm"), 2) },
		"a vote":         func(s stores) error { return s.Stable.Set([]byte("LastVoteCand"), []byte("x")) },
		"close":          func(s stores) error { return s.Close() },
		"earlier entry":  func(s stores) error { time.Sleep(time.Second); return s.WaitDurable(2) },
		"nothing at all": func(s stores) error { time.Sleep(time.Second); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := raftlogtest.New()
				s := open(t, d, t.TempDir())
				must(t, s.Log.StoreLogs(logs(1, 1, 2, 100)))
				if s.Durable() != math.MaxUint64 || s.Unsynced() != 0 {
					t.Errorf("with nothing under way: durable up to %d, %v", s.Durable(), s.Unsynced())
				}
				begin := time.Now()
				d.SyncTakes(slowly(time.Second))
				must(t, s.StoreLogsAhead(logs(3, 1, 2, 100)))
				if time.Since(begin) != 0 {
					t.Error("the append waited for the disk")
				}
				synctest.Wait()
				d.SyncTakes(nil)
				holds(t, s, 4)
				time.Sleep(300 * time.Millisecond)
				if s.Durable() != 2 || s.Unsynced() != 300*time.Millisecond {
					t.Errorf("durable up to %d, want 2; %v, want 300ms", s.Durable(), s.Unsynced())
				}
				must(t, then(s))
				if took := time.Since(begin); took < time.Second {
					t.Errorf("it did not wait: %v", took)
				}
				synctest.Wait()
				if s.Durable() != math.MaxUint64 || s.Unsynced() != 0 {
					t.Errorf("afterwards: durable up to %d, %v", s.Durable(), s.Unsynced())
				}
				s.close(t)
			})
		})
	}
}

// A term that is over gets nothing ahead.
func TestAheadInAnEarlierTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := raftlogtest.New()
		s := open(t, d, t.TempDir())
		defer s.close(t)
		must(t, s.Stable.SetUint64([]byte("CurrentTerm"), 3))
		d.SyncTakes(slowly(time.Second))
		must(t, s.StoreLogsAhead(logs(1, 2, 1, 100)))
		if s.Durable() != math.MaxUint64 {
			t.Error("an entry of term 2 is ahead of the disk in term 3")
		}
		must(t, s.StoreLogsAhead(logs(2, 3, 1, 100)))
		if s.Durable() != 1 {
			t.Errorf("durable up to %d, want 1", s.Durable())
		}
	})
}

// What a killed process left to the kernel, the next one makes durable before it takes
// it for that.
func TestKilledAheadOfTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, dir := raftlogtest.New(), t.TempDir()
		killed := open(t, d, dir)
		d.SyncTakes(slowly(time.Hour))
		must(t, killed.StoreLogsAhead(logs(1, 1, 3, 100)))
		synctest.Wait()
		d.SyncTakes(nil)
		s := open(t, d, dir)
		holds(t, s, 3)
		d = d.PowerLoss(nil)
		s.close(t)
		s = open(t, d, dir)
		holds(t, s, 3)
		s.close(t)
		killed.close(t)
	})
}

// What is noted as committed is durable here, whatever the others have.
func TestKnownIsDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := raftlogtest.New()
		s := open(t, d, t.TempDir())
		defer s.close(t)
		last := uint64(0)
		s.TrackCommit(func() uint64 {
			if s.Durable() < last {
				t.Errorf("entry %d is committed, and noted, when %d is durable", last, s.Durable())
			}
			return last
		})
		d.SyncTakes(slowly(time.Millisecond))
		for ; last < 20; last++ {
			must(t, s.StoreLogsAhead(logs(last+1, 1, 1, 100)))
		}
	})
}

type brokenDisk struct{ types.VFS }

type brokenFile struct{ types.WritableFile }

func (d brokenDisk) Create(dir, name string, size uint64) (types.WritableFile, error) {
	f, err := d.VFS.Create(dir, name, size)
	return brokenFile{f}, err
}

func (brokenFile) Sync() error { return syscall.EIO }

func TestFailedSyncAheadIsFinal(t *testing.T) {
	d := raftlogtest.New()
	var fatal []error
	st, err := d.OpenWith(t.TempDir(), raftlog.Options{RaftID: "id-1", Fatal: func(err error) { fatal = append(fatal, err) }},
		func(v types.VFS) types.VFS { return brokenDisk{v} })
	must(t, err)
	s := stores{st, st.Log.(raftlog.AheadLog)}
	must(t, s.StoreLogsAhead(logs(1, 1, 3, 100)))
	for what, err := range map[string]error{
		"wait":         s.WaitDurable(2),
		"append ahead": s.StoreLogsAhead(logs(4, 1, 1, 1)),
		"append":       s.Log.StoreLogs(logs(4, 1, 1, 1)),
		"cut":          s.Log.DeleteRange(2, 3),
		"term":         s.Stable.SetUint64([]byte("CurrentTerm"), 2),
	} {
		if !errors.Is(err, syscall.EIO) {
			t.Errorf("%s: %v, want EIO", what, err)
		}
	}
	if s.Durable() != 0 {
		t.Errorf("durable up to %d, want nothing", s.Durable())
	}
	if len(fatal) != 1 || !errors.Is(fatal[0], syscall.EIO) {
		t.Errorf("Fatal was called with %v, want EIO once", fatal)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// Appends of all sizes and both kinds, cuts and full segments, until the power goes in
// the middle of something: what was durable is there, whole, and nothing between.
func TestPowerLossKeepsWhatIsDurable(t *testing.T) {
	lost := 0
	for seed := range uint64(60) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 1))
				d, dir := raftlogtest.New(), t.TempDir()
				last := uint64(0)
				for range 5 {
					syncs := rand.New(rand.NewPCG(rng.Uint64(), 1))
					d.SyncTakes(func() time.Duration { return time.Duration(syncs.IntN(3)) * time.Millisecond })
					s := open(t, d, dir)
					for range 5 + rng.IntN(60) {
						batch := logs(last+1, 1, 1+rng.IntN(4), rng.IntN(2000))
						if rng.IntN(3) == 0 {
							must(t, s.Log.StoreLogs(batch))
						} else {
							must(t, s.StoreLogsAhead(batch))
						}
						last += uint64(len(batch))
						first, _ := s.Log.FirstIndex()
						if first == last {
							continue
						}
						switch rng.IntN(20) {
						case 0:
							must(t, s.Log.DeleteRange(last, last))
							last--
						case 1:
							must(t, s.Log.DeleteRange(first, (first+last)/2))
						}
					}
					durable := min(last, s.Durable())
					d = d.PowerLoss(rng)
					s.close(t)
					s = open(t, d, dir)
					found, _ := s.Log.LastIndex()
					if found < durable || found > last {
						t.Fatalf("the log ends at %d; %d of %d was durable", found, durable, last)
					}
					if found < last {
						lost++
					}
					holds(t, s, found)
					last = found
					s.close(t)
				}
			})
		})
	}
	if lost == 0 {
		t.Error("nothing was ever lost, so nothing was tried")
	}
}

// segments counts those that are made.
type segments struct {
	types.VFS
	made int
}

func (v *segments) Create(dir, name string, size uint64) (types.WritableFile, error) {
	v.made++
	return v.VFS.Create(dir, name, size)
}

// The append that fills a segment writes its index, too, which may get to the disk
// without the rest, or in part.
func TestPowerLossWhileASegmentIsFilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// How many entries fill one.
		count := &segments{}
		opts := raftlog.Options{RaftID: "id-1", SegmentSize: 16 << 10, Fatal: func(err error) { t.Errorf("fatal: %v", err) }}
		st, err := raftlogtest.New().OpenWith(t.TempDir(), opts, func(v types.VFS) types.VFS { count.VFS = v; return count })
		must(t, err)
		full := uint64(0)
		for count.made < 2 {
			full++
			must(t, st.Log.StoreLogs(logs(full, 1, 1, 20)))
			synctest.Wait() // for the rotation
		}
		must(t, st.Close())

		d, dir := raftlogtest.New(), t.TempDir()
		s := open(t, d, dir)
		for i := uint64(1); i < full; i++ {
			must(t, s.Log.StoreLogs(logs(i, 1, 1, 20)))
		}
		d.SyncTakes(slowly(time.Second))
		must(t, s.StoreLogsAhead(logs(full, 1, 1, 20)))
		synctest.Wait()
		d.SyncTakes(nil)
		rng := rand.New(rand.NewPCG(1, 1))
		found := map[uint64]int{}
		for range 50 {
			left := d.PowerLoss(rng)
			after := open(t, left, dir)
			last, _ := after.Log.LastIndex()
			found[last]++
			holds(t, after, last)
			must(t, after.Log.StoreLogs(logs(last+1, 2, 300, 20)))
			holds(t, after, last+300)
			after.close(t)
		}
		if found[full] == 0 || found[full-1] == 0 || len(found) != 2 {
			t.Errorf("the log ended at %v, want %d or %d", found, full, full-1)
		}
		s.close(t)
	})
}
