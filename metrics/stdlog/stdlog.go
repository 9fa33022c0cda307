// Package stdlog gives libraries that want a *log.Logger one that forwards to
// slog: the level is read from the "[WARN]" prefix that memberlist, serf and
// yamux put in front, and the rest becomes the message.
package stdlog

import (
	"bytes"
	"context"
	"log"
	"log/slog"
)

// New returns a *log.Logger whose lines go to l. Lines without a known prefix
// are debug.
func New(l *slog.Logger) *log.Logger { return log.New(writer{l}, "", 0) }

type writer struct{ l *slog.Logger }

var levels = []struct {
	prefix []byte
	level  slog.Level
}{
	{[]byte("[DEBUG] "), slog.LevelDebug},
	{[]byte("[INFO] "), slog.LevelInfo},
	{[]byte("[WARN] "), slog.LevelWarn},
	{[]byte("[ERR] "), slog.LevelError},
	{[]byte("[ERROR] "), slog.LevelError},
}

func (w writer) Write(p []byte) (int, error) {
	line, level := bytes.TrimRight(p, "\n"), slog.LevelDebug
	for _, c := range levels {
		if rest, ok := bytes.CutPrefix(line, c.prefix); ok {
			line, level = rest, c.level
			break
		}
	}
	if ctx := context.Background(); w.l.Enabled(ctx, level) {
		w.l.Log(ctx, level, string(line))
	}
	return len(p), nil
}
