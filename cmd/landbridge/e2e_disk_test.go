//go:build e2e

package main

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestFullDisk fills the disk of a server that is alone: writes are refused with the
// reason, reads go on, and when there is room again nobody needs to do anything.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		lacks(t, "mounting a small disk needs root")
	}
	dir := t.TempDir()
	a := newAgent(t, dir, "full", "dc1", "127.77.1.1", map[string]any{"bootstrap_expect": 1})
	disk := filepath.Dir(a.data())
	if err := os.MkdirAll(disk, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=160m"); err != nil {
		lacks(t, fmt.Sprintf("no small disk here: %v", err))
	}
	t.Cleanup(func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
	a.start()
	until(t, 20*time.Second, "a leader", a.hasLeader)
	a.want("PUT", "/v1/kv/before", "b", "true")

	fill := filepath.Join(disk, "fill")
	f, err := os.Create(fill)
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 1<<20)
	for range 160 {
		if _, err = f.Write(block); err != nil {
			break
		}
	}
	f.Close()
	if err == nil {
		t.Fatal("the disk does not get full")
	}
	large := make([]byte, 400<<10) // the log has room that it took in advance
	_, _ = rand.Read(large)
	status, body := 0, ""
	for range 300 {
		if status, body = a.do("PUT", "/v1/kv/large", string(large)); status != 200 {
			break
		}
	}
	if status != 500 || !strings.Contains(body, "no space left on device") {
		t.Fatalf("a write to a full disk: %d %s", status, body)
	}
	a.want("GET", "/v1/kv/before?raw", "", "b")
	a.want("GET", "/v1/kv/before?raw&stale", "", "b")
	if _, text := a.do("GET", "/v1/agent/metrics?format=prometheus", ""); strings.Contains(text, `landbridge_raftlog_refused_total{reason="disk_full"} 0`) ||
		!strings.Contains(text, `landbridge_agent_data_size_bytes 1.6`) {
		t.Error("the metrics do not tell of the full disk")
	}

	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	until(t, 10*time.Second, "writes are taken again", func() bool { _, b := a.do("PUT", "/v1/kv/after", "a"); return b == "true" })
	a.kill()
	a.start()
	until(t, 20*time.Second, "what was acknowledged is there", func() bool {
		_, b := a.do("GET", "/v1/kv/before?raw", "")
		_, c := a.do("GET", "/v1/kv/after?raw", "")
		return b == "b" && c == "a"
	})
}
