package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// wanJoin is W4.join: from the command that joins two datacenters until each server
// of both lists and reads from the other. How long it takes is partly chance, so a
// round does it three times.
func wanJoin(t *trial) {
	for range t.num(3, 1) {
		o := twoDCs()
		o.joined = false
		f := t.wan(o)
		t.join(f)
		f.close()
	}
}

func (t *trial) join(f *federation) {
	n, servers := f.dcs[0].servers[0], f.servers()
	begin := time.Now()
	joined := make(chan error, 1)
	var command time.Duration
	go func() {
		ctx, cancel := context.WithTimeout(t.ctx, time.Minute)
		defer cancel()
		args := append([]string{t.binary.Path}, t.binary.wanJoin...)
		out, err := n.command(ctx, append(args, f.dcs[1].servers[0].ip)...).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		command = time.Since(begin)
		joined <- err
	}()
	lists, reads := make([]time.Duration, len(servers)), make([]time.Duration, len(servers))
	var wg sync.WaitGroup
	errs := make([]error, 2*len(servers))
	for i, s := range servers {
		wg.Go(func() {
			errs[2*i] = t.until(2*time.Minute, 5*time.Millisecond, s.name+" lists both", func() error { return s.knows(2) })
			lists[i] = time.Since(begin)
		})
		wg.Go(func() {
			errs[2*i+1] = t.until(2*time.Minute, 10*time.Millisecond, s.name+" reads from both", func() error { return f.readsFromAll(s) })
			reads[i] = time.Since(begin)
		})
	}
	wg.Wait()
	t.check(<-joined, "join command")
	for _, err := range errs {
		t.check(err, "join")
	}
	const kase = "join"
	t.add(kase, "the command itself", milliseconds(command), "ms", lower)
	t.add(kase, "first read from dc2 at the joining server", milliseconds(reads[0]), "ms", lower)
	slices.Sort(lists)
	t.add(kase, "half of the servers list both datacenters", milliseconds(lists[len(lists)/2-1]), "ms", lower)
	t.add(kase, "all servers list both datacenters", milliseconds(lists[len(lists)-1]), "ms", lower)
	t.add(kase, "all servers read from the other datacenter", milliseconds(slices.Max(reads)), "ms", lower)
}
