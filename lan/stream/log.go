package stream

import (
	"context"
	"log/slog"
	"sync/atomic"
)

// sessionLog takes what yamux logs. A session that breaks is made anew by whoever
// needs it, so its errors are our warnings; and what strangers send to the port
// must not fill the disk: one line a second is written, the others are counted.
type sessionLog struct {
	slog.Handler
	limit   *limiter
	dropped *atomic.Int64
}

func newSessionLog(l *slog.Logger) *slog.Logger {
	return slog.New(sessionLog{l.Handler(), &limiter{}, new(atomic.Int64)})
}

func (h sessionLog) Enabled(ctx context.Context, l slog.Level) bool {
	return h.Handler.Enabled(ctx, min(l, slog.LevelWarn))
}

func (h sessionLog) Handle(ctx context.Context, r slog.Record) error {
	if r.Level = min(r.Level, slog.LevelWarn); r.Level == slog.LevelWarn {
		if !h.limit.allow() {
			h.dropped.Add(1)
			return nil
		}
		if n := h.dropped.Swap(0); n > 0 {
			r = r.Clone()
			r.AddAttrs(slog.Int64("lines_dropped", n))
		}
	}
	return h.Handler.Handle(ctx, r)
}

func (h sessionLog) WithAttrs(a []slog.Attr) slog.Handler {
	return sessionLog{h.Handler.WithAttrs(a), h.limit, h.dropped}
}

func (h sessionLog) WithGroup(name string) slog.Handler {
	return sessionLog{h.Handler.WithGroup(name), h.limit, h.dropped}
}
