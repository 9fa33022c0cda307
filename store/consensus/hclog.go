package consensus

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// raftLogger is an hclog.Logger that writes to slog. Values are turned into
// text here: some of what Raft logs holds the whole of Raft.
type raftLogger struct {
	to      *slog.Logger
	name    string
	implied []any // as given to With
	repeats *repeats
}

var _ hclog.Logger = (*raftLogger)(nil)

// HCLog returns l in the form that Raft's transport wants.
func HCLog(l *slog.Logger) hclog.Logger { return newRaftLogger(l) }

func newRaftLogger(to *slog.Logger) *raftLogger {
	return &raftLogger{to: to, name: "raft", repeats: &repeats{last: make(map[string]*repeat)}}
}

// Raft calls an error what it tries again every few milliseconds for as long as
// a peer is away. Those are warnings, each at most once in repeatEvery.
func retried(msg string) bool {
	for _, prefix := range []string{
		"failed to heartbeat to", "failed to appendEntries to", "failed to pipeline appendEntries",
		"failed to start pipeline replication to", "failed to make requestVote RPC", "failed to contact",
		"failed to install snapshot", "failed to send snapshot to", "failed to get log", "peer has newer term",
		"rejecting vote request", "rejecting pre-vote request", "rejecting appendEntries request", "appendEntries rejected",
		"Election timeout reached", "failed to decode incoming command", "failed to flush response",
	} {
		if strings.HasPrefix(msg, prefix) {
			return true
		}
	}
	return false
}

const repeatEvery = 10 * time.Second

// repeats counts retried messages. It is bounded by the messages Raft has times
// the peers a configuration names, and cut at maxRepeats regardless.
type repeats struct {
	mu   sync.Mutex
	last map[string]*repeat
}

type repeat struct {
	at      time.Time
	skipped int
}

const maxRepeats = 256

// pass reports whether to log key now, and how many were left out before.
func (r *repeats) pass(key string, now time.Time) (bool, int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.last[key]
	if e == nil {
		if len(r.last) >= maxRepeats {
			clear(r.last)
		}
		r.last[key] = &repeat{at: now}
		return true, 0
	}
	if now.Sub(e.at) < repeatEvery {
		e.skipped++
		return false, 0
	}
	n := e.skipped
	e.at, e.skipped = now, 0
	return true, n
}

func slogLevel(l hclog.Level) slog.Level {
	switch l {
	case hclog.Error:
		return slog.LevelError
	case hclog.Warn:
		return slog.LevelWarn
	case hclog.Info:
		return slog.LevelInfo
	}
	return slog.LevelDebug
}

func (l *raftLogger) Log(level hclog.Level, msg string, args ...any) {
	if level == hclog.Off {
		return
	}
	sl := slogLevel(level)
	again := level >= hclog.Warn && retried(msg)
	if again {
		sl = slog.LevelWarn
	}
	ctx := context.Background()
	if !l.to.Enabled(ctx, sl) {
		return
	}
	attrs := appendAttrs(nil, l.implied)
	attrs = appendAttrs(attrs, args)
	if again {
		key := msg
		for _, a := range attrs {
			if a.Key == "peer" || a.Key == "from" || a.Key == "server-id" || a.Key == "target" {
				key += " " + a.Value.String()
			}
		}
		ok, skipped := l.repeats.pass(key, time.Now())
		if !ok {
			return
		}
		if skipped > 0 {
			attrs = append(attrs, slog.Int("left_out", skipped))
		}
	}
	if l.name != "raft" { // which the component says already
		msg = l.name + ": " + msg
	}
	l.to.LogAttrs(ctx, sl, msg, attrs...)
}

// appendAttrs reads hclog's pairs.
func appendAttrs(attrs []slog.Attr, args []any) []slog.Attr {
	for i := 0; i < len(args); i += 2 {
		if i+1 == len(args) {
			return append(attrs, slog.String("extra", text(args[i])))
		}
		key, ok := args[i].(string)
		if !ok {
			key = text(args[i])
		}
		if key == "error" {
			key = "err"
		}
		switch v := args[i+1].(type) {
		case string:
			attrs = append(attrs, slog.String(key, v))
		case int:
			attrs = append(attrs, slog.Int(key, v))
		case uint64:
			attrs = append(attrs, slog.Uint64(key, v))
		case int64:
			attrs = append(attrs, slog.Int64(key, v))
		case bool:
			attrs = append(attrs, slog.Bool(key, v))
		case time.Duration:
			attrs = append(attrs, slog.Duration(key, v))
		default:
			attrs = append(attrs, slog.String(key, text(v)))
		}
	}
	return attrs
}

func text(v any) string {
	if f, ok := v.(hclog.Format); ok && len(f) > 0 {
		if format, ok := f[0].(string); ok {
			return fmt.Sprintf(format, f[1:]...)
		}
	}
	return fmt.Sprint(v)
}

func (l *raftLogger) Trace(msg string, args ...any) { l.Log(hclog.Trace, msg, args...) }
func (l *raftLogger) Debug(msg string, args ...any) { l.Log(hclog.Debug, msg, args...) }
func (l *raftLogger) Info(msg string, args ...any)  { l.Log(hclog.Info, msg, args...) }
func (l *raftLogger) Warn(msg string, args ...any)  { l.Log(hclog.Warn, msg, args...) }
func (l *raftLogger) Error(msg string, args ...any) { l.Log(hclog.Error, msg, args...) }

func (l *raftLogger) enabled(lv slog.Level) bool { return l.to.Enabled(context.Background(), lv) }

func (l *raftLogger) IsTrace() bool { return l.enabled(slog.LevelDebug) }
func (l *raftLogger) IsDebug() bool { return l.enabled(slog.LevelDebug) }
func (l *raftLogger) IsInfo() bool  { return l.enabled(slog.LevelInfo) }
func (l *raftLogger) IsWarn() bool  { return l.enabled(slog.LevelWarn) }
func (l *raftLogger) IsError() bool { return l.enabled(slog.LevelError) }

func (l *raftLogger) ImpliedArgs() []any { return l.implied }

func (l *raftLogger) With(args ...any) hclog.Logger {
	c := *l
	c.implied = append(slices.Clip(l.implied), args...)
	return &c
}

func (l *raftLogger) Name() string { return l.name }

func (l *raftLogger) Named(name string) hclog.Logger {
	return l.ResetNamed(l.name + "." + name)
}

func (l *raftLogger) ResetNamed(name string) hclog.Logger {
	c := *l
	c.name = name
	return &c
}

// SetLevel does nothing: slog's handler decides.
func (l *raftLogger) SetLevel(hclog.Level) {}

func (l *raftLogger) GetLevel() hclog.Level {
	switch {
	case l.IsDebug():
		return hclog.Debug
	case l.IsInfo():
		return hclog.Info
	case l.IsWarn():
		return hclog.Warn
	}
	return hclog.Error
}

func (l *raftLogger) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return log.New(l.StandardWriter(nil), "", 0)
}

func (l *raftLogger) StandardWriter(*hclog.StandardLoggerOptions) io.Writer {
	return lineWriter{l}
}

type lineWriter struct{ l *raftLogger }

func (w lineWriter) Write(p []byte) (int, error) {
	w.l.Info(strings.TrimRight(string(p), "\n"))
	return len(p), nil
}
