package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// wanWatch is W6: 500 blocking queries at a server of dc1 for a key of dc2: what
// they send while they wait, and how soon a write wakes them.
func wanWatch(t *trial) {
	f := t.wan(twoDCs())
	f.seed(false)
	n, writer := f.dcs[0].follower(), f.dcs[1].follower()
	t.sleep(5 * time.Second)
	idle := f.idle(t.dur(30*time.Second, 5*time.Second))
	count := t.num(500, 50)
	kase := fmt.Sprintf("%d watchers", count)
	// perWatcher is WAN traffic above the idle one since before, per watcher.
	perWatcher := func(before traffic, since time.Time) float64 {
		return (f.traffic().Bytes - before.Bytes - idle.bytes*time.Since(since).Seconds()) / float64(count)
	}
	before, begin := f.traffic(), time.Now()
	w := t.watch(n, count, func(int) string { return "/v1/kv/x?dc=dc2&raw" })
	defer w.close()
	t.add(kase, "first reads, until all are answered", time.Since(begin).Seconds(), "s", lower)
	w.arm()
	t.sleep(2 * time.Second)
	t.add(kase, "first read and wait, WAN bytes per watcher", perWatcher(before, begin), "B", lower)
	t.sleep(3 * time.Second)
	m := t.meter()
	waiting := f.idle(t.dur(time.Minute, 10*time.Second))
	u := m.read()
	t.add(kase, "waiting, WAN bytes/s above idle, all together", max(0, waiting.bytes-idle.bytes), "B/s", lower)
	t.add(kase, "waiting, WAN packets/s above idle, all together", max(0, waiting.packets-idle.packets), "1/s", lower)
	t.add(kase, "waiting, CPU of the agents", u.percent(u.agents), "% of a core", lower)
	var lags []time.Duration
	var last, bytes []float64
	for i := range t.num(5, 2) {
		if early := w.back.Load(); early > 0 {
			t.notef("%d watchers were woken before the write", early)
		}
		before, begin := f.traffic(), time.Now()
		_, err := writer.request("PUT", "/v1/kv/x", fmt.Appendf(nil, "wake-%d-%s", i, strings.Repeat("v", 240)), 10*time.Second)
		t.check(err, "write")
		acked := time.Now()
		w.wait(30 * time.Second)
		lags = append(lags, w.lags(acked)...)
		last = append(last, milliseconds(slices.MaxFunc(w.when, time.Time.Compare).Sub(begin)))
		w.arm()
		t.sleep(2 * time.Second)
		bytes = append(bytes, perWatcher(before, begin))
	}
	slices.Sort(lags)
	t.addLatencies(kase, "woken after the acknowledgement, ", lags, .5, .99)
	t.add(kase, "last woken after the begin of the write", median(last), "ms", lower)
	t.add(kase, "a wake-up and the next wait, WAN bytes per watcher", median(bytes), "B", lower)
}
