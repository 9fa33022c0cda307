package main

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"
)

// lanKVPut is S2: writes of 10,000 keys at random, through the leader and through a
// follower. "Disk flushes per PUT" are those of all servers (and of others): a
// binary that acknowledges without an fsync shows about 0 with one writer.
func lanKVPut(t *trial) {
	cl := t.lan(lanOptions{servers: 3})
	leader, follower := cl.leader(), cl.follower()
	var seq atomic.Int64
	put := func(buf []byte) []byte {
		return appendRequest(buf, "PUT", "/v1/kv/bench/"+strconv.Itoa(rand.IntN(10000)), "", value128(int(seq.Add(1))))
	}
	for _, c := range []struct {
		kase  string
		node  *node
		conns int
	}{
		{"leader c=1", leader, 1}, {"leader c=64", leader, 64}, {"leader c=256", leader, 256}, {"follower c=64", follower, 64},
	} {
		l := t.lanLoad(cl, c.kase, requests(c.node, c.conns, put))
		if l.use.flushes >= 0 {
			t.add(c.kase, "disk flushes per PUT", float64(l.use.flushes)/float64(l.answers), "", neither)
		}
	}
	t.add("after the load", "RSS per server", meanRSS(cl.servers), "MiB", lower)
}

// lanKVGet is S3: reads of 1,000 keys at random in each consistency mode.
func lanKVGet(t *trial) {
	cl := t.lan(lanOptions{servers: 3})
	leader, follower := cl.leader(), cl.follower()
	const keys = 1000
	t.putAll(leader, keys, 16, func(i int) (string, []byte) { return fmt.Sprintf("/v1/kv/get/%d", i), value128(i) })
	t.sleep(time.Second) // followers apply, so that stale reads find the keys
	for _, c := range []struct {
		kase  string
		node  *node
		query string
		conns int
	}{
		{"leader default", leader, "", 64},
		{"follower default (forwarded)", follower, "", 64},
		{"follower ?stale", follower, "?stale", 64},
		{"leader ?consistent", leader, "?consistent", 64},
		{"leader default c=1", leader, "", 1},
	} {
		all := make([][]byte, keys)
		for i := range all {
			all[i] = appendRequest(nil, "GET", fmt.Sprintf("/v1/kv/get/%d%s", i, c.query), "", nil)
		}
		t.lanLoad(cl, c.kase, requests(c.node, c.conns, func(buf []byte) []byte { return append(buf, all[rand.IntN(keys)]...) }))
	}
}
