package logs

import (
	"bytes"
	"fmt"
	"log/slog"
	"log/syslog"
)

// syslogLine is a record on its way to syslog.
type syslogLine struct {
	level slog.Level
	text  []byte
}

// Syslog sends the lines of the output, as text, to the machine's syslog too,
// until stop, which waits for the lines before it. Of more than a few hundred
// that wait some are lost: a syslog that hangs does not hold up the agent. It is
// called once, before anything logs.
func (l *Log) Syslog(facility int, tag string) (stop func(), err error) {
	return l.syslogAt("", "", facility, tag)
}

func (l *Log) syslogAt(network, addr string, facility int, tag string) (stop func(), err error) {
	w, err := syslog.Dial(network, addr, syslog.Priority(facility<<3)|syslog.LOG_INFO, tag)
	if err != nil {
		return nil, fmt.Errorf("enable_syslog: %w", err)
	}
	lines, done := make(chan syslogLine, followerLines), make(chan struct{})
	l.mu.Lock()
	l.syslog = lines
	l.mu.Unlock()
	go func() {
		defer close(done)
		for line := range lines {
			_ = sendSyslog(w, line) // the same line is on the output
		}
	}()
	return func() {
		l.mu.Lock()
		l.syslog = nil
		l.mu.Unlock()
		close(lines)
		<-done
		w.Close()
	}, nil
}

// sendSyslog leaves out the time and the level, which syslog keeps itself.
func sendSyslog(w *syslog.Writer, line syslogLine) error {
	_, text, ok := bytes.Cut(line.text, []byte("] "))
	if !ok {
		text = line.text
	}
	s := string(bytes.TrimSpace(text))
	switch {
	case line.level >= slog.LevelError:
		return w.Err(s)
	case line.level >= slog.LevelWarn:
		return w.Warning(s)
	case line.level >= slog.LevelInfo:
		return w.Info(s)
	}
	return w.Debug(s)
}
