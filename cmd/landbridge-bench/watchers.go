package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// watchers are blocking queries, on a connection each, that all wait at once.
type watchers struct {
	t       *trial
	node    *node
	clients []*client
	path    func(i int) string // may have a query
	index   []uint64
	when    []time.Time    // when watcher i was answered
	back    atomic.Int64   // answers since the last arm
	all     sync.WaitGroup // the armed ones
	failed  atomic.Pointer[error]
}

// watch connects count watchers and learns the index that each waits beyond.
func (t *trial) watch(n *node, count int, path func(i int) string) *watchers {
	w := &watchers{t: t, node: n, clients: make([]*client, count), path: path, index: make([]uint64, count), when: make([]time.Time, count)}
	t.check(each(count, 64, func(_, i int) error {
		c := n.client()
		w.clients[i] = c
		err := c.get(path(i), time.Minute)
		if err == nil && c.index == 0 {
			err = fmt.Errorf("%s: no index", path(i))
		}
		w.index[i] = c.index
		return err
	}), "connect watchers")
	return w
}

// arm sends each watcher's blocking query; it then waits on a goroutine.
func (w *watchers) arm() {
	w.back.Store(0)
	for i, c := range w.clients {
		path := w.path(i)
		sep := "?"
		if strings.Contains(path, "?") {
			sep = "&"
		}
		request := appendRequest(nil, "GET", fmt.Sprintf("%s%sindex=%d&wait=9m", path, sep, w.index[i]), w.node.token, nil)
		w.all.Go(func() {
			err := c.send(request, 10*time.Minute)
			w.when[i] = time.Now()
			if err != nil {
				w.failed.CompareAndSwap(nil, &err)
			}
			w.index[i] = c.index
			w.back.Add(1)
		})
	}
}

// wait waits until all are answered; it ends the scenario after limit.
func (w *watchers) wait(limit time.Duration) {
	done := make(chan struct{})
	go func() { w.all.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(limit):
		w.t.failf("%d of %d watchers were not woken within %s", len(w.clients)-int(w.back.Load()), len(w.clients), limit)
	}
	if e := w.failed.Load(); e != nil {
		w.t.failf("a watcher failed: %v", *e)
	}
}

// lags are how long after a moment each watcher was answered, sorted.
func (w *watchers) lags(since time.Time) []time.Duration {
	out := make([]time.Duration, len(w.when))
	for i, at := range w.when {
		out[i] = max(0, at.Sub(since))
	}
	slices.Sort(out)
	return out
}

// close ends those that wait, too.
func (w *watchers) close() {
	for _, c := range w.clients {
		if c != nil {
			c.interrupt()
		}
	}
	w.all.Wait()
}
