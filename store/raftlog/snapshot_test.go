package raftlog

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
)

func writeSnapshot(t testing.TB, s raft.SnapshotStore, term, index uint64, body string) string {
	t.Helper()
	conf := raft.Configuration{Servers: []raft.Server{{ID: "id-1", Address: "a:1"}, {ID: "id-2", Address: "b:1", Suffrage: raft.Nonvoter}}}
	k, err := s.Create(1, index, term, conf, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(k, body); err != nil {
		t.Fatal(err)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	return k.ID()
}

func TestSnapshotsRoundTrip(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, options(t))
	body := strings.Repeat("state ", 30_000)
	for i := uint64(1); i <= 4; i++ {
		writeSnapshot(t, s.Snapshots, i, i*10, fmt.Sprint(i, body))
	}
	k, err := s.Snapshots.Create(1, 99, 9, raft.Configuration{}, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(k, "not finished")
	if mk, _ := ReadMarker(dir); mk == nil || mk.Term != 4 {
		t.Errorf("marker %+v, want term 4", mk)
	}
	check := func(s *Stores) {
		t.Helper()
		metas, err := s.Snapshots.List()
		if err != nil || len(metas) != 2 || metas[0].Index != 40 || metas[1].Index != 30 {
			t.Fatalf("List: %v, %v, want indexes 40 and 30", metas, err)
		}
		meta, r, err := s.Snapshots.Open(metas[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		got, err := io.ReadAll(r)
		if err != nil || string(got) != "4"+body || meta.Size != int64(len(got)) {
			t.Fatalf("read %d bytes of %d, %v", len(got), meta.Size, err)
		}
		if meta.Term != 4 || meta.ConfigurationIndex != 1 || len(meta.Configuration.Servers) != 2 || meta.Configuration.Servers[1].Suffrage != raft.Nonvoter {
			t.Errorf("meta %+v", meta)
		}
	}
	check(s)
	copied := crash(t, dir) // with the unfinished one
	if err := s.Stable.SetUint64([]byte("CurrentTerm"), 4); err != nil {
		t.Fatal(err)
	}
	if err := k.Cancel(); err != nil {
		t.Error(err)
	}
	if err := k.Close(); err != nil { // Raft may do both
		t.Error(err)
	}
	check(s)
	os.Remove(filepath.Join(copied, markerFile)) // its term was never made durable here
	check(mustOpen(t, copied, options(t)))
	if names, _ := filepath.Glob(filepath.Join(copied, raftFolder, "snapshots", "*")); len(names) != 2 {
		t.Errorf("files %v, want the two snapshots", names)
	}
}

func TestDamagedSnapshotIsNotTaken(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, options(t))
	old := writeSnapshot(t, s.Snapshots, 1, 10, strings.Repeat("old", 1000))
	id := writeSnapshot(t, s.Snapshots, 2, 20, strings.Repeat("new", 1000))
	s.Close()
	name := filepath.Join(raftFolder, "snapshots", id+snapSuffix)
	whole, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	for _, off := range []int{0, 7, 8, 1500, 3007, 3008, len(whole) - 28, len(whole) - 10, len(whole) - 1} {
		t.Run(fmt.Sprintf("byte %d", off), func(t *testing.T) {
			d := crash(t, dir)
			b := bytes.Clone(whole)
			b[off] ^= 0x40
			if err := os.WriteFile(filepath.Join(d, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
			os.Remove(filepath.Join(d, markerFile))
			s := mustOpen(t, d, options(t)) // the older one covers
			if _, _, err := s.Snapshots.Open(id); err == nil {
				t.Error("a damaged snapshot opens")
			}
			if _, r, err := s.Snapshots.Open(old); err != nil {
				t.Error(err)
			} else {
				r.Close()
			}
		})
	}
}

func FuzzReadFooter(f *testing.F) {
	dir := f.TempDir()
	s := mustOpen(f, dir, options(f))
	id := writeSnapshot(f, s.Snapshots, 1, 10, "body of the snapshot")
	b, err := os.ReadFile(filepath.Join(dir, raftFolder, "snapshots", id+snapSuffix))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)-3])
	f.Add([]byte(snapHead + snapTail))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		meta, sum, err := readFooter(r)
		if err != nil {
			return
		}
		if meta.Size < 0 || meta.Size > int64(len(b)) {
			t.Fatalf("body of %d bytes in a file of %d", meta.Size, len(b))
		}
		verifyBody(r, meta.Size, sum)
	})
}
