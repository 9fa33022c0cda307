package logs

import (
	"context"
	"io"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
)

// Log collects the records of one process.
type Log struct {
	level   atomic.Int64 // of the output
	lowest  atomic.Int64 // of the output and all followers
	json    bool
	journal bool // see Journal

	mu        sync.Mutex
	out       io.Writer
	held      [][]byte // lines before Open
	open      bool
	followers map[*follower]struct{}
	syslog    chan syslogLine // nil: none
	buf       []byte
}

// maxHeld bounds the lines that wait for Open.
const maxHeld = 1000

// New makes a log that writes to out, once Open was called: a banner can then
// stand before the lines of what it tells about.
func New(out io.Writer, level slog.Level, json bool) *Log {
	l := &Log{out: out, json: json, followers: map[*follower]struct{}{}}
	l.level.Store(int64(level))
	l.lowest.Store(int64(level))
	return l
}

// Logger returns a logger that writes here.
func (l *Log) Logger() *slog.Logger { return slog.New(&handler{log: l}) }

// SetLevel changes the level of the output. Followers keep theirs.
func (l *Log) SetLevel(level slog.Level) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.level.Store(int64(level))
	l.setLowest()
}

// Level returns the level of the output.
func (l *Log) Level() slog.Level { return slog.Level(l.level.Load()) }

// Open writes the lines that waited, and lets all others through.
func (l *Log) Open() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = true
	for _, line := range l.held {
		_, _ = l.out.Write(line)
	}
	l.held = nil
}

// setLowest is called with mu held.
func (l *Log) setLowest() {
	lowest := l.level.Load()
	for f := range l.followers {
		lowest = min(lowest, int64(f.level))
	}
	l.lowest.Store(lowest)
}

// follower is one reader of Follow.
type follower struct {
	lines chan []byte
	level slog.Level
	json  bool
}

// followerLines is how many lines may wait for a follower.
const followerLines = 512

// Follow gives a copy of the records of at least level from now on, as text or
// JSON, until cancel, which may be called more than once. Lines that find the
// channel full are lost. The channel is not closed: stop reading after cancel.
func (l *Log) Follow(level slog.Level, json bool) (lines <-chan []byte, cancel func()) {
	f := &follower{lines: make(chan []byte, followerLines), level: level, json: json}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.followers[f] = struct{}{}
	l.setLowest()
	return f.lines, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.followers, f)
		l.setLowest()
	}
}

// handler is the slog.Handler of one logger; With makes copies.
type handler struct {
	log       *Log
	component string
	group     string // prefix of keys, with its dot
	attrs     []attr
}

type attr struct {
	key   string
	value slog.Value
}

// Enabled is true if the output or any follower wants the level.
func (h *handler) Enabled(_ context.Context, level slog.Level) bool {
	return int64(level) >= h.log.lowest.Load()
}

// WithAttrs implements slog.Handler. The attribute "component" names the part
// that speaks, and stands before the message.
func (h *handler) WithAttrs(list []slog.Attr) slog.Handler {
	c := *h
	c.attrs = append([]attr(nil), h.attrs...)
	for _, a := range list {
		if a.Key == "component" && h.group == "" {
			c.component = a.Value.Resolve().String()
			continue
		}
		c.attrs = appendAttr(c.attrs, h.group, a)
	}
	return &c
}

// WithGroup implements slog.Handler.
func (h *handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	c := *h
	c.group += name + "."
	return &c
}

// appendAttr flattens groups into dotted keys and drops empty attributes.
func appendAttr(list []attr, prefix string, a slog.Attr) []attr {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, g := range v.Group() {
			list = appendAttr(list, prefix, g)
		}
		return list
	}
	if a.Equal(slog.Attr{}) {
		return list
	}
	return append(list, attr{prefix + a.Key, v})
}

// Handle implements slog.Handler.
func (h *handler) Handle(_ context.Context, r slog.Record) error {
	e := entry{time: r.Time, level: r.Level, component: h.component, message: r.Message, attrs: h.attrs}
	if r.NumAttrs() > 0 {
		e.attrs = append(make([]attr, 0, len(h.attrs)+r.NumAttrs()), h.attrs...)
		r.Attrs(func(a slog.Attr) bool {
			if a.Key == "component" && h.group == "" {
				e.component = a.Value.Resolve().String()
				return true
			}
			e.attrs = appendAttr(e.attrs, h.group, a)
			return true
		})
	}
	return h.log.write(&e)
}

func (l *Log) write(e *entry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var err error
	if e.level >= slog.Level(l.level.Load()) {
		if l.journal {
			l.buf = e.appendJournal(l.buf[:0])
		} else {
			l.buf = e.append(l.buf[:0], l.json)
		}
		switch {
		case l.open:
			_, err = l.out.Write(l.buf)
		case len(l.held) < maxHeld:
			l.held = append(l.held, append([]byte(nil), l.buf...))
		}
		if cap(l.buf) > math.MaxUint16 { // one huge line shall not stay for ever
			l.buf = nil
		}
	}
	if l.syslog != nil && e.level >= slog.Level(l.level.Load()) {
		select {
		case l.syslog <- syslogLine{e.level, e.append(nil, false)}:
		default:
		}
	}
	for f := range l.followers {
		if e.level < f.level {
			continue
		}
		select {
		case f.lines <- e.append(nil, f.json):
		default:
		}
	}
	return err
}
