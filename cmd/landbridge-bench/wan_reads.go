package main

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// wanReads is W1: reads of keys and of services with 20 instances at random, one
// and 32 at a time, on a link without delay and on three of 40 ms each way.
func wanReads(t *trial) {
	f := t.wan(twoDCs([]string{}...))
	f.seed(true)
	n := f.dcs[0].follower()
	for _, link := range []struct {
		name     string
		settings []string
		rtt      time.Duration
	}{
		{"0 ms", nil, 0},
		{"40 ms", []string{"delay=40ms"}, roundTrip},
		{"40 ms, 1 % loss", []string{"delay=40ms", "loss=1%"}, roundTrip},
		{"40±5 ms, 3 % loss", []string{"delay=40ms", "jitter=5ms", "loss=3%"}, roundTrip},
	} {
		f.link("set", append([]string{"dc1", "dc2", "none"}, link.settings...)...)
		d := t.dur(9*time.Second, 2*time.Second)
		if link.rtt == 0 {
			d = t.dur(4*time.Second, time.Second)
		}
		for _, read := range []struct {
			name, path string
			count      int
		}{{"kv", "/v1/kv/x%d?dc=dc2", seedKeys}, {"health", "/v1/health/service/web%d?dc=dc2", seedServices}} {
			for _, c := range []int{1, 32} {
				kase := fmt.Sprintf("%s, %s, c=%d", link.name, read.name, c)
				before := f.traffic()
				l := t.closedLoop(requests(n, c, func(buf []byte) []byte {
					return appendRequest(buf, "GET", fmt.Sprintf(read.path, rand.IntN(read.count)), n.token, nil)
				}), t.dur(time.Second, 500*time.Millisecond), d)
				t.addLoad(kase, l, link.rtt)
				t.add(kase, "WAN bytes per request", (f.traffic().Bytes-before.Bytes)/float64(l.total), "B", lower)
			}
		}
	}
}
