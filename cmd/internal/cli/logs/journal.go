package logs

import (
	"fmt"
	"os"
	"syscall"
)

// Journal writes lines the way systemd's journal reads them: the priority first, as
// "<4>", and no time and no level, both of which the journal shows itself. It is
// called once, before Open.
func (l *Log) Journal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.journal = true
}

// IsJournal reports whether f is the journal that the variable JOURNAL_STREAM names,
// by device and inode: a shell below a unit inherits the variable, and sends the
// output elsewhere.
func IsJournal(f *os.File, stream string) bool {
	fi, err := f.Stat()
	if err != nil {
		return false
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && stream == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// priorities of syslog by the names of levels.
var priorities = map[string]byte{"ERROR": '3', "WARN": '4', "INFO": '6', "DEBUG": '7', "TRACE": '7'}

// appendJournal adds the line for the journal, its newline included.
func (e *entry) appendJournal(b []byte) []byte {
	b = append(b, '<', priorities[levelName(e.level)], '>')
	return e.appendBody(b)
}
