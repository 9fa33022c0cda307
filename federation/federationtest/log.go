package federationtest

import (
	"bytes"
	"log/slog"
	"sync"
	"testing"
	"time"
)

// tailLines is how many lines of a log are printed when a test failed.
const tailLines = 60

// tail keeps the last lines of one host's log, over all its lives.
type tail struct {
	mu    sync.Mutex
	lines [][]byte
	next  int
}

// Write takes one line from slog.
func (l *tail) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines) < tailLines {
		l.lines = append(l.lines, bytes.Clone(b))
	} else {
		l.lines[l.next] = append(l.lines[l.next][:0], b...)
		l.next = (l.next + 1) % tailLines
	}
	return len(b), nil
}

func (l *tail) print(t testing.TB, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out bytes.Buffer
	for i := range l.lines {
		out.Write(l.lines[(l.next+i)%len(l.lines)])
	}
	t.Logf("last log lines of %s:\n%s", name, out.Bytes())
}

// logger writes to the tail with times since the start of the story.
func (l *tail) logger(start time.Time) *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey && len(groups) == 0 && a.Value.Kind() == slog.KindTime {
				return slog.Duration("at", a.Value.Time().Sub(start))
			}
			return a
		},
	}))
}
