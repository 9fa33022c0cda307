//go:build e2e

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const aclRoot = "7d0b5c1e-0000-4000-8000-00000000000a"

// newACLWAN starts two datacenters 40 ms apart, dc1 being the owner of the ACLs, and
// waits for dc2's copy. conf is merged over their configuration; may be nil.
func newACLWAN(t *testing.T, conf func(w *wan, dc, n int) map[string]any) *wan {
	w := newWAN(t, "-sites", "dc1=3,dc2=3")
	w.token = aclRoot
	w.must("set", "dc1", "dc2", "delay=40ms")
	w.conf = func(dc, n int) map[string]any {
		tokens := map[string]any{"agent": aclRoot, "replication": aclRoot}
		if dc == 1 {
			tokens["initial_management"] = aclRoot
		}
		all := map[string]any{
			"primary_datacenter": "dc1", "federation": map[string]any{"enroll_by_key": true},
			"acl": map[string]any{"enabled": true, "default_policy": "deny", "enable_token_replication": true, "tokens": tokens},
		}
		if dc == 2 {
			all["kv_replication"] = map[string]any{"source": "dc1", "prefix": "app/", "exclude": []string{"app/secret/"}}
		}
		if conf != nil {
			maps.Copy(all, conf(w, dc, n))
		}
		return all
	}
	for dc := 1; dc <= 2; dc++ {
		for n := 1; n <= 3; n++ {
			w.agent(dc, n)
		}
	}
	until(t, 40*time.Second, "dc2 has the management token", func() bool {
		_, err := w.agents["dc2/1"].tokens()
		return err == nil && w.replication().Healthy
	})
	return w
}

// acl sends a request with a token, and decodes what a 200 answers into out.
func (a *wanAgent) acl(token, method, path, body string, out any) (err error) {
	defer a.note(method+" "+path, &err)
	req, err := http.NewRequest(method, "http://agent"+path, strings.NewReader(body))
	if err != nil {
		a.w.t.Fatal(err)
	}
	req.Header.Set("X-Consul-Token", token)
	resp, err := a.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("%s: %s %s: %d %s", a.host, method, path, resp.StatusCode, b)
	case out == nil:
		return nil
	}
	return json.Unmarshal(b, out)
}

func numbered(n int) string { return fmt.Sprintf("%08d-0000-4000-8000-000000000000", n) }

// secretOf is the secret of a numbered token.
func secretOf(n int) string { return fmt.Sprintf("%08d-0000-4000-8000-00000000000b", n) }

func (a *wanAgent) createToken(n int) error {
	return a.acl(aclRoot, "PUT", "/v1/acl/token", fmt.Sprintf(`{"AccessorID":%q,"SecretID":%q,"Description":"number %d"}`, numbered(n), secretOf(n), n), nil)
}

// tokens are an agent's tokens, with a hash of what each grants.
func (a *wanAgent) tokens() (map[string]string, error) {
	var list []struct{ AccessorID, SecretID, Hash string }
	err := a.acl(aclRoot, "GET", "/v1/acl/tokens", "", &list)
	m := make(map[string]string, len(list))
	for _, k := range list {
		m[k.AccessorID] = k.SecretID + " " + k.Hash
	}
	return m, err
}

// knows says whether a token works: a list that it may see nothing of is empty, one of
// nobody is refused.
func (a *wanAgent) knows(n int) bool {
	return a.acl(secretOf(n), "GET", "/v1/catalog/services", "", nil) == nil
}

// writers does n things by 16 at a time.
func (w *wan) writers(n int, do func(i int) error) {
	w.t.Helper()
	var all sync.WaitGroup
	errs := make([]error, 16)
	for k := range errs {
		all.Go(func() {
			for i := k; i < n && errs[k] == nil; i += len(errs) {
				errs[k] = do(i)
			}
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// same waits for dc2 to have the tokens of dc1.
func (w *wan) same(within time.Duration, what string) time.Duration {
	w.t.Helper()
	want, err := w.agents["dc1/1"].tokens()
	if err != nil {
		w.t.Fatal(err)
	}
	return until(w.t, within, what, func() bool {
		got, err := w.agents["dc2/2"].tokens()
		return err == nil && maps.Equal(got, want)
	})
}

// bytes are all that crossed the link so far, both ways.
func (w *wan) bytes() (n uint64) {
	w.t.Helper()
	out, err := w.link("show", "-json")
	var st struct{ Links []struct{ Bytes uint64 } }
	if err == nil {
		err = json.Unmarshal([]byte(out), &st)
	}
	if err != nil || len(st.Links) != 2 {
		w.t.Fatalf("wanlink show: %v: %s", err, out)
	}
	return st.Links[0].Bytes + st.Links[1].Bytes
}

// replication is what dc2 says of its copy.
func (w *wan) replication() (st struct {
	Healthy, Connected bool
	Held, Undoable     int
	HeldID, HeldReason string
	LastErrorMessage   string
}) {
	if err := w.agents["dc2/2"].acl(aclRoot, "GET", "/v1/internal/acl/replication", "", &st); err != nil {
		st.LastErrorMessage = err.Error()
	}
	return st
}

// gauge is the largest value of a metric in dc2: only the leader's is not 0.
func (w *wan) gauge(name string) (most float64) {
	for n := 1; n <= 3; n++ {
		page, _ := w.agents[fmt.Sprintf("dc2/%d", n)].get("/metrics")
		for _, line := range strings.Split(page, "\n") {
			if v, ok := strings.CutPrefix(line, name+" "); ok {
				f, _ := strconv.ParseFloat(v, 64)
				most = max(most, f)
			}
		}
	}
	return most
}

func percentile(list []time.Duration, p float64) time.Duration {
	list = slices.Sorted(slices.Values(list))
	return list[min(int(p*float64(len(list))), len(list)-1)]
}

// TestACLReplication measures the way of tokens to another datacenter, and cuts it.
// Elections are no part of it: with the longest time-outs of Raft, ten thousand writes
// on a busy machine need none.
func TestACLReplication(t *testing.T) {
	w := newACLWAN(t, func(*wan, int, int) map[string]any {
		return map[string]any{"performance": map[string]any{"raft_multiplier": 10}}
	})
	one, two, leader := w.agents["dc1/1"], w.agents["dc2/1"], w.remote(true)
	next := 0

	var took []time.Duration
	for ; next < 100; next++ {
		if err := w.agents[fmt.Sprintf("dc1/%d", 1+next%3)].createToken(next); err != nil {
			t.Fatal(err)
		}
		acked := time.Now()
		for !leader.knows(next) {
			if time.Since(acked) > 5*time.Second {
				t.Fatalf("token %d does not work in dc2 after 5 s", next)
			}
			time.Sleep(time.Millisecond)
		}
		took = append(took, time.Since(acked))
	}
	t.Logf("a new token works in dc2 after p50 %s, p99 %s", percentile(took, 0.5), percentile(took, 0.99))
	if p := percentile(took, 0.5); p > 130*time.Millisecond {
		t.Errorf("a new token works in dc2 after %s (median)", p)
	}

	before := w.bytes()
	w.writers(2000, func(i int) error { return one.createToken(next + i) })
	acked := time.Now()
	until(t, 5*time.Second, "the last of 2,000 tokens", func() bool {
		for i := next + 1984; i < next+2000; i++ {
			if !leader.knows(i) {
				return false
			}
		}
		return true
	})
	t.Logf("2,000 tokens by 16 writers: in dc2 %s after the last ack", time.Since(acked))
	w.same(5*time.Second, "2,000 tokens in dc2")
	each := (w.bytes() - before) / 2000
	t.Logf("%d bytes between datacenters for each", each)
	if each > 700 {
		t.Errorf("%d bytes between datacenters for a token", each)
	}
	next += 2000

	w.writers(8000, func(i int) error { return one.createToken(next + i) })
	next += 8000
	w.same(5*time.Second, "10,000 tokens in dc2")
	before = w.bytes()
	if err := one.createToken(next); err != nil {
		t.Fatal(err)
	}
	until(t, 5*time.Second, "one more token in dc2", func() bool { return leader.knows(next) })
	change := w.bytes() - before
	t.Logf("one change with 10,000 tokens: %d bytes, gossip included", change)
	if change > 8<<10 {
		t.Errorf("one change cost %d bytes", change)
	}
	next++

	w.must("cut", "dc1", "dc2")
	cut := time.Now()
	for i := range 400 {
		if err := one.createToken(next + i); err != nil {
			t.Fatal(err)
		}
		if err := one.acl(aclRoot, "DELETE", "/v1/acl/token/"+numbered(i), "", nil); err != nil {
			t.Fatal(err)
		}
	}
	if w.agents["dc2/3"].knows(next) || !two.knows(5) {
		t.Error("the link is not cut")
	}
	time.Sleep(20*time.Second - time.Since(cut))
	if w.gauge("landbridge_acl_replication_alarm_state") != 1 {
		t.Error("no alarm during the cut")
	}
	for i := range 400 {
		for _, key := range []string{"app/", "app/secret/"} {
			if err := one.acl(aclRoot, "PUT", fmt.Sprintf("/v1/kv/%s%d", key, i), "value", nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.must("heal")
	t.Logf("equal %s after a cut of 20 s with 400 creations and 400 deletions", w.same(4*time.Second, "equal after the cut"))
	if st := w.replication(); st.Held != 0 || !st.Healthy {
		t.Errorf("after the cut: %+v", st)
	}
	t.Logf("and 400 keys are copied %s later", until(t, 4*time.Second, "copies of keys", func() bool {
		var keys []string
		err := two.acl(aclRoot, "GET", "/v1/kv/?keys&stale", "", &keys)
		return err == nil && len(keys) == 400
	}))
	if out, err := two.run("kv", "replication", "status"); err != nil || !strings.Contains(out, "Healthy:       true") {
		t.Errorf("status of the copies: %v: %s", err, out)
	}
	if two.knows(5) || !two.knows(next) {
		t.Error("a token that was deleted works, or a new one does not")
	}
}

// operatorCertificates has servers use certificates that outlive their data: with
// the built-in authority a primary that was rebuilt is a stranger to dc2.
func operatorCertificates(w *wan, dc, n int) map[string]any {
	w.t.Helper()
	make := func(args ...string) {
		cmd := exec.Command(binary(w.t), append([]string{"tls"}, args...)...)
		cmd.Dir = w.dir
		if out, err := cmd.CombinedOutput(); err != nil {
			w.t.Fatalf("landbridge tls %v: %v: %s", args, err, out)
		}
	}
	ca := filepath.Join(w.dir, "consul-agent-ca.pem")
	if _, err := os.Stat(ca); err != nil {
		make("ca", "create")
	}
	cert := filepath.Join(w.dir, fmt.Sprintf("dc%d-server-consul-%d", dc, n-1))
	if _, err := os.Stat(cert + ".pem"); err != nil {
		make("cert", "create", "-server", fmt.Sprintf("-dc=dc%d", dc), fmt.Sprintf("-node=s%d", n))
	}
	return map[string]any{"tls": map[string]any{"internal_rpc": map[string]any{
		"ca_file": ca, "cert_file": cert + ".pem", "key_file": cert + "-key.pem", "verify_incoming": true, "verify_outgoing": true, "verify_server_hostname": true,
	}}}
}

// rebuild ends all servers of dc1, removes what they had, and starts them.
func (w *wan) rebuild() {
	w.t.Helper()
	for n := 1; n <= 3; n++ {
		a := w.agents[fmt.Sprintf("dc1/%d", n)]
		a.kill()
		if err := os.RemoveAll(filepath.Join(a.dir, "data")); err != nil {
			w.t.Fatal(err)
		}
	}
	for n := 1; n <= 3; n++ {
		w.agent(1, n)
	}
	until(w.t, 40*time.Second, "the rebuilt dc1 has its management token", func() bool {
		_, err := w.agents["dc1/1"].tokens()
		return err == nil
	})
}

// TestACLPrimaryLost has the primary come back with less than it had, in each of the
// ways there are. dc2 loses nothing that nobody approved.
func TestACLPrimaryLost(t *testing.T) {
	w := newACLWAN(t, operatorCertificates)
	one, two := w.agents["dc1/1"], w.agents["dc2/1"]
	if out, err := one.run("snapshot", "save", filepath.Join(w.dir, "old.snap")); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	const many = 100
	w.writers(many, func(i int) error { return one.createToken(i) })
	w.same(5*time.Second, "the tokens in dc2")

	// held checks that dc2 says so soon after the primary is back, why, and that all
	// tokens work.
	held := func(what, why string) {
		t.Helper()
		took := until(t, 5*time.Second, "the alarm: "+what, func() bool {
			return w.gauge("landbridge_acl_replication_held_deletions") >= many
		})
		t.Logf("%s: held after %s", what, took)
		out, err := two.run("acl", "replication", "status")
		if err != nil || !strings.Contains(out, "Held: 10") || !strings.Contains(out, why) || w.gauge("landbridge_acl_replication_alarm_state") != 1 {
			t.Errorf("%s: %v: %s", what, err, out)
		}
		for i := range many {
			if !two.knows(i) {
				t.Fatalf("%s: token %d is lost", what, i)
			}
		}
	}
	if out, err := one.run("snapshot", "restore", filepath.Join(w.dir, "old.snap")); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	held("restored from an old snapshot", "another history")
	out, err := two.run("acl", "replication", "approve", "000000000000")
	if err == nil || !two.knows(0) {
		t.Errorf("approved what nobody saw: %s", out)
	}
	if out, err := two.run("acl", "replication", "approve", w.replication().HeldID); err != nil || !strings.Contains(out, "100 records deleted") {
		t.Errorf("approve: %v: %s", err, out)
	}
	w.same(5*time.Second, "equal once approved")
	if two.knows(0) {
		t.Error("a token works whose deletion was approved")
	}
	if out, err := two.run("acl", "replication", "undo", "-since=1m"); err != nil || !strings.Contains(out, "100 records brought back") {
		t.Errorf("undo: %v: %s", err, out)
	}
	held("undone", "were undone here")

	// The primary has them again, one way or another.
	back := func() {
		t.Helper()
		w.writers(many, func(i int) error { return w.agents["dc1/1"].createToken(i) })
		until(t, 10*time.Second, "hardly anything held once the primary has the tokens again", func() bool { return w.replication().Held <= 1 })
		if id := w.replication().HeldID; id != "" { // the management token of before
			if out, err := two.run("acl", "replication", "approve", id); err != nil {
				t.Fatalf("approve: %v: %s", err, out)
			}
		}
		w.same(10*time.Second, "equal again")
		until(t, 5*time.Second, "healthy again", func() bool { return w.replication().Healthy })
	}
	back()

	w.rebuild()
	t.Logf("dc2 hears of it %s later", until(t, 30*time.Second, "dc2 hears the rebuilt dc1", func() bool { return w.replication().Held > 1 }))
	held("rebuilt empty", "another cluster")
	back()

	w.must("cut", "dc1", "dc2")
	w.rebuild()
	for i := range 20 {
		if err := w.agents["dc1/2"].createToken(500 + i); err != nil {
			t.Fatal(err)
		}
	}
	w.must("heal")
	until(t, 30*time.Second, "dc2 has a token of the other dc1", func() bool { return two.knows(519) })
	held("another cluster of the same name", "another cluster")
}
