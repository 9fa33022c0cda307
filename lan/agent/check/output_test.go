package check

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestCut(t *testing.T) {
	for _, c := range []struct {
		in    string
		limit int
		want  string
	}{
		{"", 0, ""},
		{"abc", 3, "abc"},
		{"abcd", 3, "Captured 3 of 4 bytes\n...\nbcd"},
		{strings.Repeat("x", 10000), 20, "Captured 20 of 10000 bytes\n...\n" + strings.Repeat("x", 20)},
	} {
		if got := Cut(c.in, c.limit); got != c.want {
			t.Errorf("Cut(%.10q, %d) is %q, want %q", c.in, c.limit, got, c.want)
		}
	}
}

// TestTail writes an output in any pieces: what is kept is as if it had come at
// once, and the memory is bounded by the limit.
func TestTail(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 20).Draw(t, "limit")
		pieces := rapid.SliceOf(rapid.StringN(0, 30, 60)).Draw(t, "pieces")
		tl := &tail{limit: limit}
		for _, p := range pieces {
			if n, err := tl.Write([]byte(p)); n != len(p) || err != nil {
				t.Fatalf("Write of %d bytes: %d, %v", len(p), n, err)
			}
		}
		if got, want := tl.String(), Cut(strings.Join(pieces, ""), limit); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
		if len(tl.buf) > limit {
			t.Fatalf("%d bytes kept, limit %d", len(tl.buf), limit)
		}
	})
}
