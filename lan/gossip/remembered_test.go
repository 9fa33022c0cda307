package gossip

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func rememberedMember(name, role string, last byte) Member {
	return Member{Name: name, Addr: netip.AddrFrom4([4]byte{10, 0, 0, last}), Port: 8301, Tags: map[string]string{"role": role}, Status: Alive}
}

// The file is bounded, servers come first, and it is written only when it changes.
func TestRememberedMembers(t *testing.T) {
	c := Config{Name: "self", SnapshotFile: filepath.Join(t.TempDir(), "local.snapshot")}
	r := newRemembered(&c)
	joined := func(m ...Member) { r.note("self", Event{Kind: Joined, Members: m}) }
	for i := range 100 {
		joined(rememberedMember(fmt.Sprintf("client-%d", i), "node", byte(i)))
	}
	joined(rememberedMember("self", "node", 200))
	for i := range 3 {
		joined(rememberedMember(fmt.Sprintf("server-%d", i), "consul", byte(100+i)))
	}
	text, ok := r.text()
	if lines := strings.Count(string(text), "alive: "); !ok || lines != rememberMost || strings.Count(string(text), "alive: server-") != 3 || strings.Contains(string(text), "self") {
		t.Fatalf("%d lines, want %d with 3 servers and without this agent:\n%s", lines, rememberMost, text)
	}
	if err := r.store(text); err != nil {
		t.Fatal(err)
	}
	if found, err := c.previous(); err != nil || len(found) != rememberMost || found["server-1"] != "10.0.0.101:8301" {
		t.Errorf("read back %d members, %v, %v", len(found), found["server-1"], err)
	}

	// More of the many, and a failure that may be our own, change nothing.
	joined(rememberedMember("client-late", "node", 9))
	r.note("self", Event{Kind: Lost, Members: []Member{rememberedMember("server-0", "consul", 100)}})
	if text, ok := r.text(); ok {
		t.Errorf("written without need:\n%s", text)
	}
	joined(rememberedMember("server-0", "consul", 110))
	r.note("self", Event{Kind: Gone, Members: []Member{rememberedMember("server-1", "consul", 101)}})
	text, _ = r.text()
	if s := string(text); !strings.Contains(s, "alive: server-0 10.0.0.110:8301\n") || strings.Contains(s, "server-1 ") {
		t.Errorf("after a move and a leave:\n%s", s)
	}
	r.resync("self", []Member{rememberedMember("server-2", "consul", 102), rememberedMember("server-3", "consul", 103)})
	text, _ = r.text()
	if want := "alive: server-2 10.0.0.102:8301\nalive: server-3 10.0.0.103:8301\n"; string(text) != want {
		t.Errorf("after a resync:\n%s\nwant:\n%s", text, want)
	}

	r.leave()
	joined(rememberedMember("server-4", "consul", 104))
	text, _ = r.text()
	if err := r.store(text); err != nil {
		t.Fatal(err)
	}
	if found, err := c.previous(); err != nil || len(found) != 0 {
		t.Errorf("after a leave %v, %v are remembered", found, err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(c.SnapshotFile)); len(entries) != 1 {
		t.Errorf("%d files, want the snapshot alone", len(entries))
	}
}
