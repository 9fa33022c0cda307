package main

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// wanBulk is W2: 16 readers of small keys without and beside 4 readers of an answer
// of 4 MB, on a link of 20 ms each way and 100 Mbit/s whose queue holds 100 ms.
func wanBulk(t *trial) {
	f := t.wan(twoDCs([]string{}...))
	f.seed(true)
	value := make([]byte, 8192)
	for i := range value {
		value[i] = byte(rand.Uint32())
	}
	t.putAll(f.dcs[1].servers[0], 500, 4, func(i int) (string, []byte) { return fmt.Sprintf("/v1/kv/bulk/%03d", i), value })
	n := f.dcs[0].follower()
	const rtt = 40 * time.Millisecond
	small := func(d time.Duration) *load {
		return t.closedLoop(requests(n, 16, func(buf []byte) []byte {
			return appendRequest(buf, "GET", fmt.Sprintf("/v1/kv/x%d?dc=dc2", rand.IntN(seedKeys)), n.token, nil)
		}), time.Second, d)
	}
	for _, link := range []struct{ name, loss string }{{"0.5 % loss", "loss=0.5%"}, {"no loss", "loss=0"}} {
		f.link("set", "dc1", "dc2", "none", "delay=20ms", "rate=100mbit", link.loss)
		alone := small(t.dur(10*time.Second, 2*time.Second))
		t.addLoad(link.name+", small alone", alone, rtt)

		d := t.dur(25*time.Second, 5*time.Second)
		large := make(chan *load, 1)
		go func() { large <- t.closedLoop(gets(n, 4, "/v1/kv/bulk/?recurse&dc=dc2"), 0, d+3*time.Second) }()
		t.sleep(2 * time.Second)
		before, begin := f.traffic(), time.Now()
		beside := small(d)
		after, took := f.traffic(), time.Since(begin)
		bulk := <-large
		t.addLoad(link.name+", small beside 4 bulk readers", beside, rtt)
		kase := link.name + ", bulk"
		t.addLoad(kase, bulk, 0)
		t.add(kase, "WAN throughput", (after.Bytes-before.Bytes)*8/took.Seconds()/1e6, "Mbit/s", higher)
		if len(alone.latencies) >= 100 && len(beside.latencies) >= 100 {
			t.add(link.name, "small, p99 beside bulk over p99 alone",
				float64(quantile(beside.latencies, .99))/float64(quantile(alone.latencies, .99)), "x", lower)
		}
		t.sleep(2 * time.Second)
	}
}
