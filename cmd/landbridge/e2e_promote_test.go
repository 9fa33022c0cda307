//go:build e2e

package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestPromote loses the primary, promotes another datacenter with the command, brings
// the old primary back with changes that nobody saw, and then loses all it had.
func TestPromote(t *testing.T) {
	const root = "5b1a2c3d-0000-4000-8000-000000000001"
	dir := t.TempDir()
	var list []*agentProcess
	for i, dc := range []string{"dc1", "dc2", "dc3"} {
		ip := fmt.Sprintf("127.83.%d.1", i+1)
		tokens := map[string]any{"agent": root, "replication": root}
		if dc == "dc1" {
			tokens["initial_management"] = root
		}
		acl := map[string]any{"enabled": true, "default_policy": "allow", "enable_token_replication": true, "tokens": tokens}
		if dc == "dc2" {
			acl["replicate_secrets"] = "hashed"
		}
		a := newAgent(t, dir, dc+"-s1", dc, ip, map[string]any{
			"bootstrap_expect": 1, "encrypt": testKey, "primary_datacenter": "dc1",
			"federation": map[string]any{"enroll_by_key": true}, "acl": acl,
		})
		if i > 0 {
			a.Conf["retry_join_wan"] = []string{fmt.Sprintf("127.83.%d.1", 4-i)} // dc2 and dc3 each other
		} else {
			a.Conf["retry_join_wan"] = []string{"127.83.2.1"}
		}
		a.start()
		until(t, 20*time.Second, "a leader", a.hasLeader)
		list = append(list, a)
	}
	dc1, dc2, dc3 := list[0], list[1], list[2]
	run := func(a *agentProcess, args ...string) (string, error) { return a.run(append(args, "-token="+root)...) }
	must := func(a *agentProcess, args ...string) string {
		t.Helper()
		out, err := run(a, args...)
		if err != nil {
			t.Fatalf("%s: %v: %v\n%s\n%s", a.Name, args, err, out, a.logTail())
		}
		return out
	}
	says := func(within time.Duration, a *agentProcess, text string, args ...string) {
		t.Helper()
		var out string
		defer func() {
			if t.Failed() {
				t.Logf("%s: %v: want %q, got %s", a.Name, args, text, out)
			}
		}()
		until(t, within, fmt.Sprintf("%s: %v: %q", a.Name, args, text), func() bool {
			out, _ = run(a, args...)
			return strings.Contains(out, text)
		})
	}
	create := func(a *agentProcess, n int) {
		t.Helper()
		must(a, "acl", "token", "create", "-accessor="+numbered(n), "-secret="+secretOf(n), "-node-identity=a1:dc1", fmt.Sprint("-description=token ", n))
	}
	has := func(a *agentProcess, n int) {
		t.Helper()
		says(10*time.Second, a, fmt.Sprint("token ", n), "acl", "token", "read", "-id="+numbered(n))
	}
	for _, a := range list[1:] {
		if out, err := a.run("wan", "join", dc1.IP); err != nil { // no token is known there yet
			t.Fatalf("wan join: %v %s", err, out)
		}
	}
	create(dc1, 1)
	for _, a := range list {
		has(a, 1)
	}
	if out, err := run(dc2, "federation", "promote", "-yes"); err == nil || !strings.Contains(out, "dc1 answers") {
		t.Fatalf("promoted while the primary answers: %v %s", err, out)
	}

	// What dc1 writes while it is alone.
	dc2.kill()
	dc3.kill()
	create(dc1, 2)
	dc1.kill()
	dc2.start()
	dc3.start()
	for _, a := range list[1:] {
		until(t, 20*time.Second, "a leader", a.hasLeader)
	}
	until(t, 30*time.Second, "dc3 reads dc2", func() bool { return dc3.reads("dc2") })
	says(30*time.Second, dc2, "dc1 gives no answer", "federation", "promote")
	begin := time.Now()
	if out := must(dc2, "federation", "promote", "-yes"); !strings.Contains(out, "dc2 is the primary, in term 1") {
		t.Fatalf("promote: %s", out)
	}
	t.Logf("promoted after %s", time.Since(begin).Round(time.Millisecond))
	says(30*time.Second, dc3, "Primary:       dc2", "wan", "ca", "status")
	t.Logf("dc3 follows after %s", time.Since(begin).Round(time.Millisecond))
	create(dc3, 3)
	has(dc2, 3)
	for _, a := range list[1:] { // dc2 has it by its hash
		if out, err := a.run("acl", "token", "read", "-self", "-token="+secretOf(1)); err != nil || !strings.Contains(out, secretOf(1)) {
			t.Errorf("the holder of token 1 at %s: %v %s", a.Name, err, out)
		}
	}
	says(10*time.Second, dc3, "secret  token  "+numbered(1), "federation", "unseen")
	must(dc3, "acl", "token", "delete", "-id="+numbered(1))

	// The old primary is back, with primary_datacenter of before.
	dc1.start()
	until(t, 20*time.Second, "a leader", dc1.hasLeader)
	says(30*time.Second, dc1, "Primary:       dc2", "wan", "ca", "status")
	says(30*time.Second, dc1, "WARNING:       primary_datacenter", "wan", "ca", "status")
	says(30*time.Second, dc1, "created", "federation", "unseen")
	has(dc1, 3)
	has(dc1, 2)
	says(10*time.Second, dc1, "does not exist", "acl", "token", "read", "-id="+numbered(1))
	must(dc1, "federation", "unseen", "-apply", "-all")
	has(dc2, 2)
	says(30*time.Second, dc1, "No unseen changes", "federation", "unseen")
	says(30*time.Second, dc3, "No unseen changes", "federation", "unseen")
	create(dc1, 4)
	has(dc3, 4)
	says(90*time.Second, dc2, "root", "wan", "ca", "status")

	// It loses everything, and comes back as a new one of its name.
	dc1.kill()
	must(dc2, "federation", "forget-datacenter", "-yes", "dc1")
	dc1.Conf["data_dir"] = dc1.Conf["data_dir"].(string) + "-again"
	delete(dc1.Conf, "retry_join_wan")
	dc1.start()
	until(t, 20*time.Second, "a leader", dc1.hasLeader)
	if out, err := dc1.run("wan", "join", dc2.IP); err == nil || !strings.Contains(out, "promoted in place of dc1") {
		t.Errorf("joined with primary_datacenter of before: %v %s", err, out)
	}
	dc1.kill()
	dc1.Conf["data_dir"] = dc1.Conf["data_dir"].(string) + "-and-again"
	dc1.Conf["primary_datacenter"] = "dc2"
	tokens := dc1.Conf["acl"].(map[string]any)["tokens"].(map[string]any)
	delete(tokens, "initial_management")
	dc1.start()
	until(t, 20*time.Second, "a leader", dc1.hasLeader)
	token := strings.TrimSpace(must(dc2, "wan", "token", "-for=dc1", "-format=json"))
	if i := strings.Index(token, `"Token": "`); i >= 0 {
		token, _, _ = strings.Cut(token[i+len(`"Token": "`):], `"`)
	}
	if out, err := dc1.run("wan", "join", token); err != nil {
		t.Fatalf("wan join: %v %s", err, out)
	}
	for n := 2; n <= 4; n++ {
		has(dc1, n)
	}
	create(dc1, 5)
	has(dc3, 5)
}
