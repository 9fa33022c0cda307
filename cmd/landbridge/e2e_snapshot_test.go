//go:build e2e

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestSnapshot saves a datacenter, restores it into the same and into a new one,
// and wants the restored state to survive the death of every server at once.
func TestSnapshot(t *testing.T) {
	dir := t.TempDir()
	servers := cluster(t, dir, "dc1", 13, 3, nil)
	file := filepath.Join(dir, "state.snap")
	for i := range 500 {
		servers[i%3].want("PUT", fmt.Sprintf("/v1/kv/kept/%d", i), strings.Repeat("v", 200), "true")
	}
	servers[0].want("PUT", "/v1/kv/changed", "before", "true")
	if out, err := servers[1].run("snapshot", "save", file); err != nil {
		t.Fatalf("snapshot save: %v\n%s", err, out)
	}
	servers[0].want("PUT", "/v1/kv/changed", "after", "true")
	servers[0].want("PUT", "/v1/kv/later", "x", "true")
	index := keyIndex(t, servers[2], "changed")

	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"truncated": whole[:len(whole)/2], "foreign": []byte("PK\x03\x04 something else")} {
		bad := filepath.Join(dir, name)
		if err := os.WriteFile(bad, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := servers[0].run("snapshot", "restore", bad); err == nil {
			t.Errorf("restore of a %s file succeeded:\n%s", name, out)
		}
		if status, body := servers[0].do("PUT", "/v1/snapshot", string(content)); status != 500 {
			t.Errorf("PUT of a %s file: %d %s", name, status, body)
		}
	}
	servers[0].want("GET", "/v1/kv/changed?raw", "", "after")

	woken := make(chan string, 1)
	go func() {
		_, body := servers[1].do("GET", fmt.Sprintf("/v1/kv/changed?raw&wait=20s&index=%d", index), "")
		woken <- body
	}()
	time.Sleep(300 * time.Millisecond) // for the reader to wait; it is right either way
	if out, err := servers[2].run("snapshot", "restore", file); err != nil {
		t.Fatalf("snapshot restore: %v\n%s", err, out)
	}
	if got := <-woken; got != "before" {
		t.Errorf("a blocked reader got %q, want before", got)
	}
	check := func(a *agentProcess) {
		t.Helper()
		a.want("GET", "/v1/kv/changed?raw&consistent", "", "before")
		a.want("GET", "/v1/kv/kept/499?raw", "", strings.Repeat("v", 200))
		if status, _ := a.do("GET", "/v1/kv/later", ""); status != 404 {
			t.Errorf("a key from after the snapshot: %d, want 404", status)
		}
	}
	for _, s := range servers {
		check(s)
		if after := keyIndex(t, s, "changed"); after <= index {
			t.Errorf("%s: the index went from %d to %d", s.Name, index, after)
		}
	}
	for _, s := range servers {
		_ = s.cmd.Process.Kill()
	}
	for _, s := range servers {
		<-s.done
		s.start()
	}
	until(t, 20*time.Second, "a leader after kill -9 of all", servers[0].hasLeader)
	check(servers[0])
	servers[1].want("PUT", "/v1/kv/goes-on", "x", "true")

	fresh := cluster(t, dir, "dc9", 14, 1, nil)[0]
	if out, err := fresh.run("snapshot", "restore", file); err != nil {
		t.Fatalf("restore into a new cluster: %v\n%s", err, out)
	}
	check(fresh)
}

func keyIndex(t *testing.T, a *agentProcess, key string) int {
	t.Helper()
	resp, err := httpClient.Get(a.url("/v1/kv/" + key + "?raw&consistent"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	index, err := strconv.Atoi(resp.Header.Get("X-Consul-Index"))
	if err != nil {
		t.Fatal(err)
	}
	return index
}
