package endpoint

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
	"landbridge/store/archive"
	"landbridge/store/fsm"
)

// withSnapshots gives a set the methods of snapshots, over a group of one.
func withSnapshots(t testing.TB, s *Set) (dir string, history *string) {
	dir, history = t.TempDir(), new(string)
	machine := fsm.New(s.state, slog.New(slog.DiscardHandler))
	n := 0
	s.HandleSnapshots(Snapshots{
		Describe: func(m *archive.Meta) { m.ConfigurationIndex = 1 },
		Term:     func() uint64 { return 2 },
		NewID:    func() string { n++; *history = fmt.Sprintf("history %d", n); return *history },
		Dir:      dir,
		Restore: func(_ context.Context, open func() (io.Reader, int64, error)) error {
			r, size, err := open()
			if err != nil {
				return err
			}
			b, err := io.ReadAll(r)
			if err == nil && int64(len(b)) != size {
				err = fmt.Errorf("%d bytes, announced were %d", len(b), size)
			}
			if err != nil {
				return err
			}
			return machine.Restore(io.NopCloser(bytes.NewReader(b)))
		},
	})
	return dir, history
}

func save(t testing.TB, s *Set) []byte {
	t.Helper()
	resp, err := s.Do(t.Context(), &rpc.Request{Method: rpc.SnapshotSave})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Stream.Close()
	var b bytes.Buffer
	if n, err := resp.Stream.WriteTo(&b); err != nil || n != int64(b.Len()) {
		t.Fatalf("%d of %d bytes, %v", n, b.Len(), err)
	}
	if resp.Index != s.state.Index() || !resp.KnownLeader {
		t.Errorf("answer %+v", resp)
	}
	return b.Bytes()
}

func restoreArchive(t testing.TB, s *Set, r io.Reader) error {
	t.Helper()
	_, err := s.Do(t.Context(), &rpc.Request{Method: rpc.SnapshotRestore, Upload: io.NopCloser(r)})
	return err
}

// A restore brings the rows back as they were, tells those who wait, and lets no
// index go back.
func TestRestoreTellsWatchers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newSet(t)
		_, history := withSnapshots(t, s)
		put(t, s, "k", "old")
		file := save(t, s)
		put(t, s, "k", "new")
		last := put(t, s, "gone", "x")
		get := func(req rpc.Request) *rpc.Response {
			t.Helper()
			resp, err := s.Do(t.Context(), &req)
			if err != nil {
				t.Error(err)
				return &rpc.Response{}
			}
			return resp
		}
		answered := make(chan *rpc.Response, 3)
		for _, req := range []rpc.Request{
			{Method: rpc.KVGet, Query: store.Query{Name: "k"}},
			{Method: rpc.KVGet, Query: store.Query{Name: "gone"}},
			{Method: rpc.CatalogNodes},
		} {
			req.MinIndex, req.Wait = last, time.Minute
			go func() { answered <- get(req) }()
		}
		synctest.Wait() // it waits
		if err := restoreArchive(t, s, bytes.NewReader(file)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for range cap(answered) {
			select {
			case resp := <-answered:
				if resp.Index <= last {
					t.Errorf("a watcher was answered with index %d, it had %d", resp.Index, last)
				}
			default:
				t.Fatal("a watcher was not told")
			}
		}
		resp := get(rpc.Request{Method: rpc.KVGet, Query: store.Query{Name: "k"}})
		if !bytes.Contains(resp.Body, []byte(`"b2xk"`)) || resp.Index <= last {
			t.Errorf("k is %s at %d", resp.Body, resp.Index)
		}
		if c := s.state.Cluster(); c.HistoryID != *history {
			t.Errorf("history %q, want %q", c.HistoryID, *history)
		}
		// Nobody is told twice of one restore, and a write is seen.
		wait := rpc.Request{Method: rpc.KVGet, Query: store.Query{Name: "k"}, MinIndex: resp.Index, Wait: time.Minute}
		go func() { answered <- get(wait) }()
		synctest.Wait() // it waits
		put(t, s, "other", "x")
		synctest.Wait()
		if len(answered) > 0 {
			t.Fatal("answered without a change")
		}
		at := put(t, s, "k", "newer")
		if got := <-answered; got.Index != at {
			t.Errorf("index %d, want %d", got.Index, at)
		}
		// A second restore of the same file tells again.
		wait.MinIndex = at
		go func() { answered <- get(wait) }()
		synctest.Wait() // it waits
		if err := restoreArchive(t, s, bytes.NewReader(file)); err != nil {
			t.Fatal(err)
		}
		if got := <-answered; got.Index <= at {
			t.Errorf("index %d after %d", got.Index, at)
		}
	})
}

// An archive that is not good as a whole changes nothing, whatever is wrong, and
// leaves no file.
func TestRestoreRefuses(t *testing.T) {
	s, raft := newSet(t)
	dir, _ := withSnapshots(t, s)
	for i := range 50 {
		put(t, s, fmt.Sprintf("k%d", i), "v")
	}
	good := save(t, s)
	put(t, s, "later", "x")
	index := s.state.Index()
	foreign := func(state string) []byte {
		var b bytes.Buffer
		if err := archive.Write(&b, archive.NewMeta(1, 1, time.Now()), func(w io.Writer) error { _, err := io.WriteString(w, state); return err }); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	damaged := bytes.Clone(good)
	for i := range 40 { // a single bit may be padding
		damaged[len(good)/2+i] ^= 0x55
	}
	for _, tt := range []struct {
		name string
		body io.Reader
		want string
	}{
		{"empty", strings.NewReader(""), "failed to decompress snapshot: unexpected EOF"},
		{"text", strings.NewReader("this is not a snapshot at all"), "failed to decompress snapshot: gzip: invalid header"},
		{"truncated", bytes.NewReader(good[:len(good)-30]), "failed to decompress snapshot: unexpected EOF"},
		{"damaged", bytes.NewReader(damaged), "failed"},
		{"another product's", bytes.NewReader(foreign("msgpack, perhaps")), "it is not the state of a landbridge server"},
		{"of a version to come", bytes.NewReader(foreign("lbstate\x09...")), "it has version 9 of the format"},
		{"a damaged state under a good envelope", bytes.NewReader(foreign("lbstate\x01...")), "snapshot is damaged"},
		{"an upload that breaks off", io.MultiReader(bytes.NewReader(good[:200]), iotest.ErrReader(store.Errorf(store.KindBadRequest, "the caller has gone"))), "the caller has gone"},
	} {
		err := restoreArchive(t, s, tt.body)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v; want %q", tt.name, err, tt.want)
		}
		if kind := store.KindOf(err); kind != store.KindInvalid && kind != store.KindBadRequest {
			t.Errorf("%s: kind %d", tt.name, kind)
		}
	}
	if _, err := s.Do(t.Context(), &rpc.Request{Method: rpc.SnapshotRestore}); store.KindOf(err) != store.KindInvalid {
		t.Errorf("no upload: %v", err)
	}
	raft.lose()
	if err := restoreArchive(t, s, bytes.NewReader(good)); !errors.Is(err, store.ErrNoLeader) {
		t.Errorf("on a follower: %v", err)
	}
	if s.state.Index() != index {
		t.Errorf("index %d, was %d", s.state.Index(), index)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestOneRestoreAtATime(t *testing.T) {
	s, _ := newSet(t)
	withSnapshots(t, s)
	file := save(t, s)
	r, w := io.Pipe()
	first := make(chan error, 1)
	go func() { first <- restoreArchive(t, s, r) }()
	if _, err := w.Write(file[:10]); err != nil {
		t.Fatal(err)
	}
	if err := restoreArchive(t, s, bytes.NewReader(file)); store.KindOf(err) != store.KindConflict {
		t.Errorf("the second: %v", err)
	}
	w.Write(file[10:])
	w.Close()
	if err := <-first; err != nil {
		t.Errorf("the first: %v", err)
	}
	if err := restoreArchive(t, s, bytes.NewReader(file)); err != nil {
		t.Errorf("the third: %v", err)
	}
}

// Saving takes what is there at one moment, also on a follower that may be asked.
func TestSaveIsAReadLikeAnyOther(t *testing.T) {
	s, raft := newSet(t)
	withSnapshots(t, s)
	put(t, s, "k", "v")
	raft.lose()
	if _, err := s.Do(t.Context(), &rpc.Request{Method: rpc.SnapshotSave}); !errors.Is(err, store.ErrNoLeader) {
		t.Errorf("default read: %v", err)
	}
	raft.mu.Lock()
	raft.contact = 3 * time.Second
	raft.mu.Unlock()
	resp, err := s.Do(t.Context(), &rpc.Request{Method: rpc.SnapshotSave, Consistency: store.Stale})
	if err != nil || resp.KnownLeader || resp.LastContact != 3*time.Second {
		t.Fatalf("stale: %+v, %v", resp, err)
	}
	a := new(bytes.Buffer)
	if _, err := resp.Stream.WriteTo(a); err != nil {
		t.Fatal(err)
	}
	if r, err := archive.Open(a); err != nil || r.Meta.Index != s.state.Index() || r.Meta.Term != 2 || r.Meta.ConfigurationIndex != 1 || r.Verify() != nil {
		t.Errorf("meta %+v, %v", r.Meta, err)
	}
}

// BenchmarkSave has 200,000 keys with values that do not compress.
func BenchmarkSave(b *testing.B) {
	s, _ := newSet(b)
	withSnapshots(b, s)
	value := make([]byte, 100)
	for i := range 200_000 {
		for j := range value {
			value[j] = byte(i*j>>3) ^ byte(i>>7) ^ byte(j*31)
		}
		cmd := store.KVCommand{Op: store.KVSet, Entry: store.KVEntry{Key: fmt.Sprintf("many/%03d/%03d", i/1000, i%1000), Value: bytes.Clone(value)}}
		s.state.Apply([]store.Command{{Kind: store.CmdKV, Payload: cmd.AppendWire(nil)}}, make([]store.Result, 1))
	}
	for b.Loop() {
		resp, err := s.Do(b.Context(), &rpc.Request{Method: rpc.SnapshotSave})
		if err != nil {
			b.Fatal(err)
		}
		n, err := resp.Stream.WriteTo(io.Discard)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(n)
	}
}
