package logs

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

// TestJournal: the priority stands first, time and level do not stand at all, and a
// second line that a stranger put into a name does not get a priority of its own.
func TestJournal(t *testing.T) {
	var out bytes.Buffer
	l := New(&out, slog.LevelDebug, false)
	l.Journal()
	l.Open()
	log := l.Logger().With("component", "raft")
	log.Debug("looked")
	log.Info("leads", "term", 2)
	log.Warn("slow", "took", "1 s")
	log.Error("gone", "peer", "a\n<0>b")
	const want = "<7>raft: looked\n<6>raft: leads: term=2\n<4>raft: slow: took=\"1 s\"\n<3>raft: gone: peer=\"a\\n<0>b\"\n"
	if got := out.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestIsJournal(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, stream := range []string{"", "1:2", "nonsense"} {
		if IsJournal(f, stream) {
			t.Errorf("a file is the journal of %q", stream)
		}
	}
}
