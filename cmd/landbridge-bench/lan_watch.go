package main

import (
	"fmt"
	"time"
)

// watched is what is watched, and the write that wakes those who do.
type watched struct {
	path  string
	write func(i int) (path string, body []byte)
}

// lanWatch is S6: thousands of blocking queries for one key or service, at a server
// and at a client agent, and what unrelated writes cost beside them. Every case has
// a cluster of its own, so that memory and CPU are that case's alone. All clusters
// are tuned, as none of the figures depends on elections.
func lanWatch(t *trial) {
	key := watched{"/v1/kv/watched", func(i int) (string, []byte) { return "/v1/kv/watched", value128(i) }}
	health := watched{"/v1/health/service/web", func(i int) (string, []byte) { // a check changes its output
		return "/v1/catalog/register", registration("web-node-0", "10.1.3.1", "web", 8000, fmt.Sprint("ok ", i))
	}}
	many := t.num(5000, 2000)
	for _, c := range []struct {
		name    string
		watched watched
		count   int
		clients int
	}{
		{"1000 on one key", key, 1000, 0},
		{fmt.Sprint(many, " on one key"), key, many, 0},
		{"1000 on health/service", health, 1000, 0},
		{fmt.Sprint(many, " on health/service"), health, many, 0},
		{"1000 on one key, at a client agent", key, 1000, 1},
		{"1000 on health/service, at a client agent", health, 1000, 1},
	} {
		cl := t.lan(lanOptions{servers: 1, clients: c.clients, fast: true})
		registerWeb(t, cl.servers[0])
		t.putAll(cl.servers[0], 1, 1, func(int) (string, []byte) { return c.watched.write(-1) })
		t.sleep(2 * time.Second)
		t.fanOut(c.name, cl, c.watched, c.count, t.num(4, 2))
		stopAll(cl.all())
	}
	t.unrelatedWrites(t.lan(lanOptions{servers: 1, fast: true}), many)
}

// fanOut parks watchers at the last agent, writes through the server a few times,
// and records how long after the write's acknowledgement they are answered.
func (t *trial) fanOut(kase string, cl *cluster, what watched, count, writes int) {
	all, server := cl.all(), cl.servers[0]
	at := all[len(all)-1]
	t.settle(all, 10*time.Second)
	writer := server.client()
	defer writer.Close()
	rss := at.rss()
	w := t.watch(at, count, func(int) string { return what.path })
	defer w.close()
	var p50, p99, last, cpu []float64
	for i := range writes {
		w.arm()
		t.settle(all, 15*time.Second)
		if i == 0 {
			t.add(kase, "RSS growth per watcher", (at.rss()-rss)*1024/float64(count), "KiB", lower)
			t.add(kase, "CPU while parked", t.idleCPU(all, t.dur(5*time.Second, 2*time.Second)), "% of a core", lower)
		}
		if early := w.back.Load(); early > 0 {
			t.add(kase, "woken before the write", float64(early), "watchers", lower)
		}
		m := t.meter(all...)
		path, body := what.write(i)
		t.check(writer.put(path, body, time.Minute), "write")
		acked := time.Now()
		w.wait(time.Minute)
		t.sleep(100 * time.Millisecond)
		cpu = append(cpu, float64(m.read().agents.Microseconds())/float64(count))
		lags := w.lags(acked)
		p50, p99 = append(p50, milliseconds(quantile(lags, .5))), append(p99, milliseconds(quantile(lags, .99)))
		last = append(last, milliseconds(lags[count-1]))
	}
	t.add(kase, "woken after the acknowledgement, p50", median(p50), "ms", lower)
	t.add(kase, "woken after the acknowledgement, p99", median(p99), "ms", lower)
	t.add(kase, "woken after the acknowledgement, last", median(last), "ms", lower)
	t.add(kase, "CPU of the agents per watcher woken", median(cpu), "us", lower)
}

// unrelatedWrites parks watchers on a key each and writes another key near them.
func (t *trial) unrelatedWrites(cl *cluster, count int) {
	const writes = 1000
	server := cl.servers[0]
	kase := fmt.Sprintf("%d on a key each, %d unrelated PUTs", count, writes)
	key := func(i int) string { return fmt.Sprintf("/v1/kv/many/%d", i) }
	t.putAll(server, count, 64, func(i int) (string, []byte) { return key(i), value128(i) })
	batch := 0
	put := func(watching string) {
		t.settle(cl.servers, 15*time.Second)
		batch++
		m := t.meter(server)
		t.putAll(server, writes, 1, func(i int) (string, []byte) { return "/v1/kv/many/unrelated", value128(batch*writes + i) })
		u := m.read()
		if watching != "" {
			t.add(kase, "CPU of the server per PUT, "+watching, float64(u.agents.Microseconds())/writes, "us", lower)
			t.add(kase, "mean latency of a PUT, "+watching, milliseconds(u.took)/writes, "ms", lower)
		}
	}
	put("") // the key exists from here on
	put("nobody watching")
	w := t.watch(server, count, key)
	defer w.close()
	w.arm()
	put("watchers parked")
	t.add(kase, "woken for nothing", float64(w.back.Load()), "watchers", lower)
}
