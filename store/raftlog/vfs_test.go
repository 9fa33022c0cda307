package raftlog

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft-wal/fs"
	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"
)

// Appends of any sizes, with files opened anew between them: what was appended
// stays, and from its end to the end of the chunk the file is zero.
func TestZerosAreWrittenAheadOnly(t *testing.T) {
	const size = 3*zeroChunk + 1000
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		path := filepath.Join(dir, "segment")
		if err := os.WriteFile(path, bytes.Repeat([]byte{0xff}, size), 0o600); err != nil {
			t.Fatal(err)
		}
		m := newMetrics(prometheus.NewRegistry())
		v := &vfs{VFS: fs.New(), failed: newFailure(func(err error) { t.Fatal(err) }, m), m: m, ahead: &ahead{}}
		var f *file
		open := func() {
			w, err := v.VFS.OpenWriter(dir, "segment")
			if err != nil {
				t.Fatal(err)
			}
			f = newFile(v, w, dir, "segment")
		}
		open()
		defer func() { f.Close() }()
		var want []byte
		for i := 0; len(want) < size; i++ {
			p := bytes.Repeat([]byte{byte(i%200 + 1)}, min(size-len(want), rapid.IntRange(1, zeroChunk+5000).Draw(t, "n")))
			if _, err := f.WriteAt(p, int64(len(want))); err != nil {
				t.Fatal(err)
			}
			want = append(want, p...)
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != size || !bytes.Equal(got[:len(want)], want) {
				t.Fatalf("what was appended is not there (%d bytes of a file of %d)", len(want), len(got))
			}
			chunk := min((len(want)/zeroChunk+1)*zeroChunk, size)
			if i := bytes.IndexFunc(got[len(want):chunk], func(r rune) bool { return r != 0 }); i >= 0 {
				t.Fatalf("byte %d after the end at %d is not zero", i, len(want))
			}
			if rapid.Bool().Draw(t, "reopen") {
				f.Close()
				open()
			}
		}
	})
}
