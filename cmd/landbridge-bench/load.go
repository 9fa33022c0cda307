package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// op sends requests, one at a time; it returns the size of the answer in bytes.
type op interface {
	do() (size int, err error)
	Close() error
}

// requestLimit bounds each request of a load.
const requestLimit = 2 * time.Minute

// httpOp sends the requests that next appends to its buffer.
type httpOp struct {
	*client
	next func(buf []byte) []byte
	buf  []byte
}

func (o *httpOp) do() (int, error) {
	o.buf = o.next(o.buf[:0])
	err := o.send(o.buf, requestLimit)
	return len(o.body), err
}

// requests are count ops on a connection each; next may be called concurrently.
func requests(n *node, count int, next func(buf []byte) []byte) []op {
	ops := make([]op, count)
	for i := range ops {
		ops[i] = &httpOp{client: n.client(), next: next}
	}
	return ops
}

// gets are count ops that ask for one path.
func gets(n *node, count int, path string) []op {
	request := appendRequest(nil, "GET", path, n.token, nil)
	return requests(n, count, func(buf []byte) []byte { return append(buf, request...) })
}

// load is what a closed loop saw.
type load struct {
	latencies []time.Duration // of the answered requests that began after the warm-up, sorted
	failed    errorCounts     // the others of these
	answers   int             // requests that were answered after the warm-up
	total     int             // and all that were answered
	bytes     int64           // of these
	use       use             // from the warm-up to the last answer
}

// closedLoop lets each op send one request after the other: for warm without
// looking, then for d. It waits for the requests that are under way at the end, so
// that slow answers count. CPU is that of nodes, or of all agents. It may be called
// from any goroutine.
func (t *trial) closedLoop(ops []op, warm, d time.Duration, nodes ...*node) *load {
	begin := time.Now()
	from, end := begin.Add(warm), begin.Add(warm+d)
	tallies := make([]load, len(ops))
	var wg sync.WaitGroup
	for i, o := range ops {
		wg.Go(func() {
			defer o.Close()
			l := load{latencies: make([]time.Duration, 0, 1<<12), failed: errorCounts{}}
			for t.ctx.Err() == nil {
				start := time.Now()
				if start.After(end) {
					break
				}
				size, err := o.do()
				stop := time.Now()
				if err == nil {
					l.total++
				}
				if err == nil && stop.After(from) {
					l.answers++
					l.bytes += int64(size)
				}
				if start.After(from) {
					if err == nil {
						l.latencies = append(l.latencies, stop.Sub(start))
					} else {
						l.failed[err.Error()]++
					}
				}
				if err != nil {
					time.Sleep(5 * time.Millisecond) // errors come quickly; we do not measure them
				}
			}
			tallies[i] = l
		})
	}
	time.Sleep(time.Until(from))
	m := t.meter(nodes...)
	wg.Wait()
	sum := &load{failed: errorCounts{}, use: m.read()}
	for _, l := range tallies {
		sum.latencies = append(sum.latencies, l.latencies...)
		sum.answers += l.answers
		sum.total += l.total
		sum.bytes += l.bytes
		for text, n := range l.failed {
			sum.failed[text] += n
		}
	}
	slices.Sort(sum.latencies)
	return sum
}

// rate is answered requests per second.
func (l *load) rate() float64 { return float64(l.answers) / l.use.took.Seconds() }

// cpuPer is the agents' CPU per answer, in microseconds.
func (l *load) cpuPer() float64 {
	return float64(l.use.agents) / float64(time.Microsecond) / float64(l.answers)
}

// addLoad records the usual figures of a load: rate, latencies (also in round trips
// of the link, where rtt is not 0), CPU of the agents per request, and who else used
// the machine.
func (t *trial) addLoad(kase string, l *load, rtt time.Duration) {
	if l.answers == 0 {
		t.failf("%s: no request was answered: %s", kase, l.failed)
	}
	t.add(kase, "rate", l.rate(), "requests/s", higher)
	t.addLatencies(kase, "", l.latencies, .5, .99, .999)
	if rtt > 0 {
		for _, q := range []float64{.5, .99, .999} {
			if carries(len(l.latencies), q) {
				t.add(kase, quantileName(q)+" in round trips", float64(quantile(l.latencies, q))/float64(rtt), "RTT", lower)
			}
		}
	}
	t.add(kase, "CPU of the agents per request", l.cpuPer(), "us", lower)
	t.add(kase, "CPU of the load", l.use.percent(l.use.load), "% of a core", neither)
	t.add(kase, "CPU of others", l.use.percent(l.use.others()), "% of a core", neither)
	if len(l.failed) > 0 {
		t.add(kase, "failed requests", float64(l.failed.sum()), "", lower)
		t.notef("%s: %s", kase, l.failed)
	}
}

// errorCounts is how often each error text was seen.
type errorCounts map[string]int

func (c errorCounts) sum() (n int) {
	for _, k := range c {
		n += k
	}
	return n
}

// String names the most frequent.
func (c errorCounts) String() string {
	texts := slices.SortedFunc(maps.Keys(c), func(a, b string) int { return cmp.Or(c[b]-c[a], cmp.Compare(a, b)) })
	var out []string
	for i, text := range texts {
		if i == 3 {
			out = append(out, fmt.Sprintf("and %d other texts", len(texts)-i))
			break
		}
		out = append(out, strconv.Itoa(c[text])+" times "+strconv.Quote(text))
	}
	return strings.Join(out, ", ")
}

// sample is one request of an open loop.
type sample struct {
	due  time.Time     // when it was due
	took time.Duration // from then on
	err  error
}

// openLoop asks for a path at a steady rate, whether or not earlier requests were
// answered, and returns when all have ended, each within limit, in the order in
// which they were due. It may be called from any goroutine.
func (t *trial) openLoop(n *node, path string, perSecond float64, d, limit time.Duration) []sample {
	var mu sync.Mutex
	var idle []*client
	var wg sync.WaitGroup
	begin := time.Now()
	out := make([]sample, 0, int(d.Seconds()*perSecond))
	request := appendRequest(nil, "GET", path, n.token, nil)
	for i := range cap(out) {
		due := begin.Add(time.Duration(float64(i) / perSecond * float64(time.Second)))
		time.Sleep(time.Until(due))
		if t.ctx.Err() != nil {
			break
		}
		wg.Go(func() {
			mu.Lock()
			c := n.client()
			if k := len(idle); k > 0 {
				c, idle = idle[k-1], idle[:k-1]
			}
			mu.Unlock()
			err := c.send(request, limit)
			took := time.Since(due)
			mu.Lock()
			defer mu.Unlock()
			out = append(out, sample{due, took, err})
			idle = append(idle, c)
		})
	}
	wg.Wait()
	for _, c := range idle {
		c.Close()
	}
	slices.SortFunc(out, func(a, b sample) int { return a.due.Compare(b.due) })
	return out
}

// answered are the sorted latencies of the samples without an error; failed are the
// errors of the others.
func answered(samples []sample) (latencies []time.Duration, failed errorCounts) {
	failed = errorCounts{}
	for _, s := range samples {
		if s.err == nil {
			latencies = append(latencies, s.took)
		} else {
			failed[s.err.Error()]++
		}
	}
	slices.Sort(latencies)
	return latencies, failed
}

// each calls f(worker, i) for i from 0 to n-1 on several goroutines, and returns
// the first error, after which it begins no more calls.
func each(n, workers int, f func(worker, i int) error) error {
	var next atomic.Int64
	var first atomic.Pointer[error]
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for first.Load() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := f(w, i); err != nil {
					first.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	wg.Wait()
	if e := first.Load(); e != nil {
		return *e
	}
	return nil
}

// putAll sends count PUTs over some connections; all must be answered with 200.
func (t *trial) putAll(n *node, count, conns int, next func(i int) (path string, body []byte)) {
	clients := make([]*client, conns)
	for w := range clients {
		clients[w] = n.client()
		defer clients[w].Close()
	}
	t.check(each(count, conns, func(w, i int) error {
		path, body := next(i)
		if err := clients[w].put(path, body, 30*time.Second); err != nil {
			return fmt.Errorf("PUT %s: %w", path, err)
		}
		return nil
	}), "at "+n.name)
}
