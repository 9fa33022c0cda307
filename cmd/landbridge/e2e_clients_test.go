//go:build e2e

package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"testing"
	"time"
)

// debian returns a file of a package of Debian's: a client that the binary is
// driven with. Where all clients have to be there (CI sets LANDBRIDGE_CLIENTS),
// a missing one fails the test; elsewhere it is skipped, and .ci/clients, which
// `make e2e` runs first, says what is missing.
func debian(t *testing.T, pkg, file string) string {
	t.Helper()
	if _, err := os.Stat(file); err != nil {
		lacks(t, fmt.Sprintf("Debian's package %s is not installed: %v", pkg, err))
	}
	return file
}

// lacks skips a test that cannot run here; where all have to run (CI sets
// LANDBRIDGE_CLIENTS), it fails it.
func lacks(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("LANDBRIDGE_CLIENTS") == "all" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// datacenters starts dc1 on 127.68.net.n and dc2 on 127.68.net+1.n, and waits
// until every server reads the other datacenter.
func datacenters(t *testing.T, network, servers int, conf map[string]any) (dc1, dc2 []*agentProcess) {
	t.Helper()
	dir := t.TempDir()
	ip := func(dc, n int) string { return fmt.Sprintf("127.68.%d.%d", network+dc-1, n) }
	var all []*agentProcess
	for dc := 1; dc <= 2; dc++ {
		for n := 1; n <= servers; n++ {
			c := map[string]any{"bootstrap_expect": servers, "encrypt": testKey, "retry_join_wan": []string{ip(3-dc, 1)}}
			if n > 1 {
				c["retry_join"] = []string{ip(dc, 1)}
			}
			maps.Copy(c, conf)
			a := newAgent(t, dir, fmt.Sprintf("dc%d-s%d", dc, n), fmt.Sprintf("dc%d", dc), ip(dc, n), c)
			a.start()
			all = append(all, a)
		}
	}
	for _, a := range all {
		until(t, 30*time.Second, a.Name+" reads both datacenters", func() bool { return a.reads("dc1") && a.reads("dc2") })
	}
	return all[:servers], all[servers:]
}

// put sends a value as JSON and wants a 200.
func (a *agentProcess) put(path string, value any) {
	a.t.Helper()
	a.send("PUT", path, value)
}

func (a *agentProcess) send(method, path string, value any) {
	a.t.Helper()
	raw, err := json.Marshal(value)
	if err != nil {
		a.t.Fatal(err)
	}
	if status, body := a.do(method, path, string(raw)); status != 200 {
		a.t.Fatalf("%s: %s %s: %d %s", a.Name, method, path, status, body)
	}
}
