//go:build e2e

package main

import (
	"encoding/base64"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"
)

// keys are an agent's own keys below app/, with their values in base64.
func (a *wanAgent) keys() (map[string]string, error) {
	var list []struct{ Key, Value string }
	err := a.acl(aclRoot, "GET", "/v1/kv/app/?recurse", "", &list)
	m := make(map[string]string, len(list))
	for _, k := range list {
		m[k.Key] = k.Value
	}
	return m, err
}

// TestKeyCopiesOutliveTheSource kills servers of the source of copied keys again and
// again, single ones and all at once, while keys are written and deleted there: no copy
// of a key that stays is ever missing, and in the end both are equal. LANDBRIDGE_SOAK
// gives it a duration, 120,000 keys, and a kill every 30 s.
func TestKeyCopiesOutliveTheSource(t *testing.T) {
	lasting, kept, every, rounds := 400, 2000, 3*time.Second, 5
	if soak := os.Getenv("LANDBRIDGE_SOAK"); soak != "" {
		d, err := time.ParseDuration(soak)
		if err != nil {
			t.Fatalf("LANDBRIDGE_SOAK: %v", err)
		}
		lasting, kept, every = 20_000, 100_000, 30*time.Second
		rounds = int(d / every)
	}
	w := newACLWAN(t, nil)
	rng := rand.New(rand.NewPCG(7, uint64(time.Now().UnixNano())))

	// batch writes keys from..to through any server of dc1 that takes them.
	source := func() *wanAgent { return w.agents[fmt.Sprintf("dc1/%d", 1+rng.IntN(3))] }
	batch := func(verb, dir string, from, to int, value string) error {
		var ops []string
		for i := from; i < to; i++ {
			ops = append(ops, fmt.Sprintf(`{"KV":{"Verb":%q,"Key":"app/%s%d","Value":%q}}`, verb, dir, i, base64.StdEncoding.EncodeToString([]byte(value))))
		}
		return source().acl(aclRoot, "PUT", "/v1/txn", "["+strings.Join(ops, ",")+"]", nil)
	}
	const step = 100
	for i := 0; i < kept; i += step {
		if err := batch("set", "kept/", i, i+step, "first"); err != nil {
			t.Fatal(err)
		}
	}
	for i := 0; i < lasting; i += step {
		if err := batch("set", "changing/", i, i+step, "first"); err != nil {
			t.Fatal(err)
		}
	}
	copies := w.agents["dc2/2"]
	equal := func(within time.Duration, what string) {
		t.Helper()
		took := until(t, within, what, func() bool {
			want, err := w.agents["dc1/1"].keys()
			if err != nil {
				return false
			}
			got, err := copies.keys()
			return err == nil && maps.Equal(got, want)
		})
		t.Logf("%s after %s", what, took)
	}
	equal(60*time.Second, fmt.Sprintf("%d keys copied", kept+lasting))

	checks, writes, refused, checked := 0, 0, 0, time.Now()
	complete := func() {
		t.Helper()
		var keys []string
		if err := copies.acl(aclRoot, "GET", "/v1/kv/app/kept/?keys", "", &keys); err != nil {
			t.Logf("dc2, of which nothing was killed: %v", err) // a busy machine; it is asked again
			checked = time.Now()
			return
		}
		if len(keys) != kept {
			t.Fatalf("dc2 has %d of %d keys that nobody deleted; status: %s", len(keys), kept, w.keyStatus())
		}
		checks, checked = checks+1, time.Now()
	}
	for round := range rounds {
		victims := []int{1 + rng.IntN(3)}
		if round%3 == 2 {
			victims = []int{1, 2, 3}
		}
		for _, n := range victims {
			w.agents[fmt.Sprintf("dc1/%d", n)].kill()
		}
		started := false
		for begun := time.Now(); time.Since(begun) < every; {
			if !started && time.Since(begun) > every/4 {
				for _, n := range victims {
					w.agent(1, n)
				}
				started = true
			}
			from := rng.IntN(lasting/step) * step
			verb := "set"
			if rng.IntN(3) == 0 {
				verb = "delete"
			}
			if err := batch(verb, "changing/", from, from+step, fmt.Sprint(round, "-", writes)); err != nil {
				refused++ // in doubt: what counts is what dc1 has in the end
				time.Sleep(20 * time.Millisecond)
			} else {
				writes++
			}
			if time.Since(checked) > every/30 {
				complete()
			}
		}
	}
	t.Logf("%d rounds: %d batches written, %d refused, %d times all copies were there", rounds, writes, refused, checks)
	if writes < 10*rounds {
		t.Errorf("only %d batches were written", writes)
	}
	until(t, 30*time.Second, "dc1 has a leader", func() bool { return batch("set", "changing/", 0, step, "last") == nil })
	equal(60*time.Second, "equal in the end")
	if complete(); checks < rounds {
		t.Errorf("only %d looks at the copies", checks)
	}
}

// keyStatus is what dc2 says of its copies of keys.
func (w *wan) keyStatus() string {
	out, err := w.agents["dc2/2"].run("kv", "replication", "status")
	if err != nil {
		out += err.Error()
	}
	return out
}
