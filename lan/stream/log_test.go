package stream

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"landbridge/metrics/stdlog"
)

func TestGarbageDoesNotFloodTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := stdlog.New(newSessionLog(slog.New(slog.NewTextHandler(&out, nil))))
		for range 10 {
			l.Print("[ERR] yamux: Invalid protocol version: 101")
		}
		time.Sleep(time.Second)
		l.Print("[ERR] yamux: Failed to read header: unexpected EOF")
		l.Print("[ERR] yamux: Failed to read header: unexpected EOF")
		got := out.String()
		if n := strings.Count(got, "\n"); n != 2 || strings.Contains(got, "level=ERROR") || !strings.Contains(got, "lines_dropped=9") {
			t.Errorf("%d lines, want 2 warnings, the second with lines_dropped=9:\n%s", n, got)
		}
	})
}
