package gossip

import (
	"log/slog"
	"strings"
	"testing"

	"landbridge/metrics/stdlog"
)

// What memberlist says of a node's tags in numbers is left out.
func TestLibraryLinesWithoutBytes(t *testing.T) {
	var out strings.Builder
	l := stdlog.New(libraryLogger(slog.New(slog.NewTextHandler(&out, nil))))
	l.Printf("[WARN] memberlist: Refuting an alive message for 's1' (10.0.0.1:8301) meta:(%v VS %v), vsn:([1 5] VS [1 5])", []byte("ab"), []byte("cd"))
	l.Printf("[ERR] memberlist: the other end hung up")
	if s := out.String(); strings.Contains(s, "meta") || strings.Count(s, "level=WARN") != 2 || !strings.Contains(s, "(10.0.0.1:8301)\"") {
		t.Errorf("got %s", s)
	}
}
