package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"
)

// lanScale is S11: one server with 10,000 services on 1,000 nodes, and one with
// 200,000 keys: loading, large reads, memory, snapshot, restart.
func lanScale(t *trial) {
	for _, part := range []struct {
		name string
		fill func(t *trial, server *node, kase string)
	}{{"10k services", fillServices}, {"200k keys", fillKeys}} {
		cl := t.lan(lanOptions{servers: 1})
		server := cl.servers[0]
		t.sleep(2 * time.Second)
		part.fill(t, server, part.name)
		t.settle(cl.servers, 15*time.Second)
		t.add(part.name, "RSS after", server.rss(), "MiB", lower)
		t0 := time.Now()
		snapshot, err := server.request("GET", "/v1/snapshot", nil, time.Minute)
		t.check(err, "snapshot")
		t.add(part.name, "snapshot time", time.Since(t0).Seconds(), "s", lower)
		t.add(part.name, "snapshot size", float64(len(snapshot))/(1<<20), "MiB", lower)
		for _, fast := range []bool{false, true} {
			server.stop()
			if fast {
				server.conf["performance"] = map[string]any{"raft_multiplier": 1}
			}
			t0 = time.Now()
			server.start()
			t.waitWritable(cl.servers, 90*time.Second)
			t.add(part.name, "restart to first acknowledged PUT, "+tuning(fast), time.Since(t0).Seconds(), "s", lower)
		}
		t.settle(cl.servers, 10*time.Second)
		t.add(part.name, "RSS after the restart", server.rss(), "MiB", lower)
		stopAll(cl.all())
	}
}

// timeGets records the median time and the size of a few GETs of a path.
func (t *trial) timeGets(kase string, n *node, path string, count int) {
	c := n.client()
	defer c.Close()
	var ms []float64
	for range count {
		t0 := time.Now()
		t.check(c.get("/v1/"+path, time.Minute), path)
		ms = append(ms, milliseconds(time.Since(t0)))
	}
	t.add(kase, "GET "+path, median(ms), "ms", lower)
	t.add(kase, "GET "+path+", size", float64(len(c.body))/1024, "KiB", neither)
}

func fillServices(t *trial, server *node, kase string) {
	count := t.num(10000, 1000) // ten on each node
	m := t.meter(server)
	t.putAll(server, count, 64, func(i int) (string, []byte) {
		node := i / 10
		return "/v1/catalog/register", registration(fmt.Sprintf("node-%d", node), fmt.Sprintf("10.2.%d.%d", node/250, node%250+1),
			fmt.Sprintf("svc-%d", i%(count/4)), 8000+i%10, "ok") // 4 instances of each, on 4 nodes
	})
	u := m.read()
	t.add(kase, "register all, c=64", u.took.Seconds(), "s", lower)
	t.add(kase, "CPU of the server per registration", float64(u.agents.Microseconds())/float64(count), "us", lower)
	t.timeGets(kase, server, "catalog/services", t.num(20, 5))
	t.timeGets(kase, server, "catalog/nodes", t.num(20, 5))
	t.timeGets(kase, server, "health/state/any", t.num(10, 3))
	t.timeGets(kase, server, "health/service/svc-7", t.num(50, 5))
}

func fillKeys(t *trial, server *node, kase string) {
	keys := t.num(200000, 10000)
	const perTxn = 64
	pool := make([]byte, 1<<20)                    // values are pieces of it, which do not compress
	_, _ = rand.NewChaCha8([32]byte{1}).Read(pool) // never fails
	type op struct {
		KV struct{ Verb, Key, Value string }
	}
	m := t.meter(server)
	t.putAll(server, (keys+perTxn-1)/perTxn, 8, func(i int) (string, []byte) {
		ops := make([]op, 0, perTxn)
		for k := i * perTxn; k < min(keys, (i+1)*perTxn); k++ {
			var o op
			at := k * 101 % (len(pool) - 100)
			o.KV.Verb, o.KV.Key = "set", fmt.Sprintf("many/%03d/%03d", k/1000, k%1000)
			o.KV.Value = base64.StdEncoding.EncodeToString(pool[at : at+100])
			ops = append(ops, o)
		}
		body, _ := json.Marshal(ops) // strings only
		return "/v1/txn", body
	})
	u := m.read()
	t.add(kase, "load by transactions of 64, c=8", u.took.Seconds(), "s", lower)
	t.add(kase, "CPU of the server per key", float64(u.agents.Microseconds())/float64(keys), "us", lower)
	t.timeGets(kase, server, "kv/many/007/?keys", t.num(20, 5))
	t.timeGets(kase, server, "kv/many/007/?recurse", t.num(20, 5))
	t.timeGets(kase, server, "kv/many/?keys", t.num(5, 3))
}
