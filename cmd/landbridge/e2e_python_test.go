//go:build e2e

package main

import (
	"testing"
	"time"
)

// TestPythonClient runs testdata/python against a server and a client agent of one
// datacenter, federated with another. -B: no byte code is left beside the file.
func TestPythonClient(t *testing.T) {
	debian(t, "python3-consul", "/usr/lib/python3/dist-packages/consul/std.py")
	dc1, dc2 := datacenters(t, 20, 1, nil)
	client := newAgent(t, t.TempDir(), "dc1-c1", "dc1", "127.68.20.11", map[string]any{
		"server": false, "encrypt": testKey, "retry_join": []string{dc1[0].IP},
	})
	client.start()
	until(t, 20*time.Second, "the client agent is in the catalog", func() bool {
		_, body := dc1[0].do("GET", "/v1/catalog/node/dc1-c1", "")
		return body != "null" && client.reads("dc2")
	})
	out, err := command(t, "/usr/bin/python3", "-B", "testdata/python/client.py", dc1[0].IP, client.IP, dc2[0].IP).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}
