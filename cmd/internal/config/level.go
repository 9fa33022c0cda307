package config

import (
	"fmt"
	"log/slog"
	"strings"
)

// LevelTrace is below slog's own levels.
const LevelTrace = slog.LevelDebug - 4

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
