package config

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
)

// LevelTrace is below slog's own levels.
const LevelTrace = slog.LevelDebug - 4

// facilities are those of RFC 5424, section 6.2.1; "" has no name in use.
var facilities = []string{"KERN", "USER", "MAIL", "DAEMON", "AUTH", "SYSLOG", "LPR", "NEWS", "UUCP", "CRON", "AUTHPRIV", "FTP", "", "", "", "",
	"LOCAL0", "LOCAL1", "LOCAL2", "LOCAL3", "LOCAL4", "LOCAL5", "LOCAL6", "LOCAL7"}

// SyslogFacility is the number of a syslog facility, by its name in any letter case.
func SyslogFacility(name string) (int, error) {
	if i := slices.Index(facilities, strings.ToUpper(name)); i >= 0 && name != "" {
		return i, nil
	}
	return 0, fmt.Errorf("syslog_facility: %q is none of KERN, USER, DAEMON, AUTH, LOCAL0 to LOCAL7 and the others of RFC 5424", name)
}

// ParseLevel reads a log level in any letter case.
func ParseLevel(s string) (slog.Level, error) {
	switch strings.ToLower(s) {
	case "trace":
		return LevelTrace, nil
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn", "warning":
		return slog.LevelWarn, nil
	case "error", "err":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("Invalid log level: %s. Valid log levels are: [TRACE DEBUG INFO WARN ERROR]", strings.ToUpper(s))
}
