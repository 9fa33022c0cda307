package main

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// lanDurability is S13: all servers are killed while 64 writers write, and
// afterwards every acknowledged write must be there. The page cache outlives kill
// -9, so this alone does not prove an fsync; the disk's flushes tell whether
// acknowledgements waited for it.
func lanDurability(t *trial) {
	const kase = "kill -9 of all 3"
	cl := t.lan(lanOptions{servers: 3})
	const writers = 64
	var acked [writers][]int
	var tried atomic.Int64
	var stop atomic.Bool
	var wg sync.WaitGroup
	path := func(w, i int) string { return fmt.Sprintf("/v1/kv/d/%d/%d", w, i) }
	value := func(w, i int) []byte { return fmt.Appendf(nil, "value-%d-%d-%0100d", w, i, i) }
	m := t.meter()
	for w := range writers {
		wg.Go(func() {
			c := cl.servers[w%3].client()
			defer c.Close()
			for i := 0; !stop.Load() && t.ctx.Err() == nil; i++ {
				tried.Add(1)
				if err := c.put(path(w, i), value(w, i), 10*time.Second); err == nil && bytes.HasPrefix(c.body, []byte("true")) {
					acked[w] = append(acked[w], i)
				} else if _, refused := errors.AsType[*statusError](err); err != nil && !refused {
					return // the servers are gone
				}
			}
		})
	}
	t.sleep(t.dur(10*time.Second, 3*time.Second))
	_ = each(3, 3, func(_, i int) error { cl.servers[i].kill(); return nil }) // f has no errors
	stop.Store(true)
	wg.Wait()
	flushed := m.read().flushes
	count := 0
	for _, a := range acked {
		count += len(a)
	}
	if count == 0 {
		t.failf("nothing was acknowledged")
	}
	t0 := time.Now()
	start(cl.servers)
	t.waitWritable(cl.servers[:1], 90*time.Second)
	recovery := time.Since(t0)
	t.waitWritable(cl.servers, 90*time.Second)

	var lost, wrong atomic.Int64
	leader := cl.leader()
	t.check(each(writers, writers, func(_, w int) error {
		c := leader.client()
		defer c.Close()
		for _, i := range acked[w] {
			err := c.get(path(w, i)+"?raw", 30*time.Second)
			if s, ok := errors.AsType[*statusError](err); ok && s.status == 404 {
				lost.Add(1)
			} else if err != nil {
				return err
			} else if !bytes.Equal(c.body, value(w, i)) {
				wrong.Add(1)
			}
		}
		return nil
	}), "read back")
	t.add(kase, "acknowledged writes", float64(count), "keys", neither)
	t.add(kase, "under way at the kill", float64(tried.Load()-int64(count)), "keys", neither)
	t.add(kase, "acknowledged but lost", float64(lost.Load()), "keys", lower)
	t.add(kase, "acknowledged but wrong", float64(wrong.Load()), "keys", lower)
	t.add(kase, "restart to first acknowledged PUT", recovery.Seconds(), "s", lower)
	if flushed >= 0 {
		t.add(kase, "disk flushes", float64(flushed), "", neither)
	}
}
