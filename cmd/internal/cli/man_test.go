package cli

import (
	"strings"
	"testing"
)

// TestManPages: every command has a page with all its flags, and no line of text is
// taken for a request of roff.
func TestManPages(t *testing.T) {
	pages := ManPages()
	tab := newTable()
	if want := len(tab.commands) + 1; len(pages) != want {
		t.Errorf("%d pages, want %d", len(pages), want)
	}
	known := ".TH .SH .TP .PP .RS .RE .nf .fi .B .BR .I"
	for name, page := range pages {
		for line := range strings.Lines(string(page)) {
			if word, _, _ := strings.Cut(strings.TrimSpace(line), " "); strings.HasPrefix(line, ".") && !strings.Contains(known+" ", word+" ") || strings.HasPrefix(line, "'") {
				t.Errorf("%s: %q is no request", name, line)
			}
		}
	}
	for _, cmd := range tab.commands {
		page := string(pages[manName(cmd.name)+".1"])
		own, shared := cmd.flags()
		for _, f := range append(own, shared...) {
			if !strings.Contains(page, "\n.B "+roff("-"+f.Name)) {
				t.Errorf("%s: its page lacks -%s", cmd.name, f.Name)
			}
		}
		if !strings.Contains(string(pages["landbridge.1"]), roff(manName(cmd.name))) {
			t.Errorf("landbridge.1 lacks %s", cmd.name)
		}
	}
}
