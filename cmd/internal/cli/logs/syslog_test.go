package logs

import (
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"
)

func TestSyslog(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	log := New(io.Discard, slog.LevelInfo, true)
	stop, err := log.syslogAt("udp", conn.LocalAddr().String(), 16, "landbridge")
	if err != nil {
		t.Fatal(err)
	}
	logger := log.Logger().With("component", "raft")
	logger.Debug("not for the output")
	logger.Warn("disk is slow", "took", time.Second)
	logger.Info("well again")
	stop()
	logger.Error("after the end")
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	buf := make([]byte, 2048)
	for _, want := range []struct{ priority, text string }{
		{"<132>", "raft: disk is slow: took=1s"}, // LOCAL0, warning
		{"<134>", "raft: well again"},
	} {
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		got := strings.TrimSpace(string(buf[:n]))
		if !strings.HasPrefix(got, want.priority) || !strings.HasSuffix(got, ": "+want.text) || !strings.Contains(got, " landbridge[") {
			t.Errorf("got %q, want %+v", got, want)
		}
	}
}
