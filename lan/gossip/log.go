package gossip

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// libraryHandler takes what memberlist and serf log. Their info is our debug,
// since member changes are logged by Pool with attributes, and their errors are
// our warnings, since they heal by themselves. A stranger's garbage must not
// fill the disk: above maxLines a second lines are dropped and counted.
type libraryHandler struct {
	slog.Handler
	limit *lineLimit
}

const maxLines = 5

type lineLimit struct {
	mu      sync.Mutex
	second  int64
	lines   int
	dropped int
}

// take says whether a line may be written, and how many were not since the last.
func (l *lineLimit) take(now time.Time) (dropped int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := now.Unix(); s != l.second {
		l.second, l.lines = s, 0
	}
	if l.lines++; l.lines > maxLines {
		l.dropped++
		return 0, false
	}
	dropped, l.dropped = l.dropped, 0
	return dropped, true
}

func ours(l slog.Level) slog.Level {
	switch {
	case l >= slog.LevelWarn:
		return slog.LevelWarn
	default:
		return slog.LevelDebug
	}
}

func (h libraryHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return h.Handler.Enabled(ctx, ours(l))
}

func (h libraryHandler) Handle(ctx context.Context, r slog.Record) error {
	if strings.HasSuffix(r.Message, "Shutdown without a Leave") {
		return nil // stopping to come back is what servers do; the agent says so itself
	}
	// What follows are bytes, number by number.
	r.Message, _, _ = strings.Cut(r.Message, " meta:(")
	if r.Level = ours(r.Level); r.Level >= slog.LevelWarn {
		dropped, ok := h.limit.take(time.Now())
		if !ok {
			return nil
		}
		if dropped > 0 {
			r = r.Clone()
			r.AddAttrs(slog.Int("lines_dropped", dropped))
		}
	}
	return h.Handler.Handle(ctx, r)
}

func (h libraryHandler) WithAttrs(a []slog.Attr) slog.Handler {
	return libraryHandler{h.Handler.WithAttrs(a), h.limit}
}

func (h libraryHandler) WithGroup(name string) slog.Handler {
	return libraryHandler{h.Handler.WithGroup(name), h.limit}
}

func libraryLogger(l *slog.Logger) *slog.Logger {
	return slog.New(libraryHandler{l.Handler(), &lineLimit{}})
}
