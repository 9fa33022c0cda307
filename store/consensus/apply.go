package consensus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"landbridge/store"
)

// Bounds of one Raft entry and of entries on the way (LIMITS 2: two give the
// best throughput with three servers; with one, the second hides the fsync).
const (
	maxGroup      = 512
	maxGroupBytes = 256 << 10
	inFlight      = 2
	// While an entry is on its way, the next one waits until it carries so much
	// or the other has landed: an entry costs every server an append, an fsync
	// and a dozen wake-ups, which many commands share better than few.
	worthEntry      = 256
	worthEntryBytes = 64 << 10
	// Callers that write in a closed loop are back soon after they have been
	// answered. The next entry waits for most of them, but no longer than the last
	// one took, nor than this: else they split into two halves, each of which waits
	// for the other's entry. After waits that were in vain it waits less often.
	maxGather = 4 * time.Millisecond
)

// request is one command on its way. It belongs to its caller until it is put
// in the queue, and again when the caller has received from done.
type request struct {
	cmd  store.Command
	res  store.Result
	err  error
	done chan struct{} // one slot
	// state settles who decides between a caller who leaves and the loop
	// that takes the request.
	state atomic.Uint32
}

const (
	stateQueued uint32 = iota
	stateTaken
	stateLeft
)

// queue holds the commands that wait, oldest first. Its length is bounded by
// the callers of Apply, each of whom waits for one or, with ApplyAll, a batch.
type queue struct {
	mu      sync.Mutex
	waiting []*request
	bytes   int       // of payloads, of those that have left their callers too
	refused error     // set: nothing is taken any more
	company int       // how many are worth waiting for, 0 if none
	gather  time.Time // until then
	vain    int       // waits in vain, in a row
	skip    int       // entries that do not wait therefore
	filled  chan struct{}
	gauge   prometheus.Gauge
	// free requests, per node and not per process: a channel made in one
	// synctest bubble must not be used in another.
	free sync.Pool
}

func (q *queue) init(g prometheus.Gauge) {
	q.filled = make(chan struct{}, 1)
	q.gauge = g
	q.free.New = func() any { return &request{done: make(chan struct{}, 1)} }
}

func (q *queue) get(cmd store.Command) *request {
	r := q.free.Get().(*request)
	r.cmd = cmd
	r.state.Store(stateQueued)
	return r
}

func (q *queue) put(r *request) {
	r.cmd, r.res, r.err = store.Command{}, store.Result{}, nil
	q.free.Put(r)
}

func (q *queue) push(reqs ...*request) error {
	q.mu.Lock()
	if q.refused != nil {
		q.mu.Unlock()
		return q.refused
	}
	before := len(q.waiting)
	q.waiting = append(q.waiting, reqs...)
	for _, r := range reqs {
		q.bytes += len(r.cmd.Payload)
	}
	now := len(q.waiting)
	// While others are awaited, the first that comes wakes nobody.
	tell := before < max(q.company, 1) && now >= max(q.company, 1) || q.worthLocked()
	q.mu.Unlock()
	if tell {
		signal(q.filled)
	}
	return nil
}

func (q *queue) worthLocked() bool {
	return len(q.waiting) >= worthEntry || q.bytes >= worthEntryBytes
}

// expect notes that n callers will have been answered, after an entry that took
// so long.
func (q *queue) expect(n int, took time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.skip > 0 {
		q.skip--
		return
	}
	n += len(q.waiting)
	q.company, q.gather = min(n-n/8, worthEntry), time.Now().Add(min(took, maxGather))
}

// ripe reports whether the next group should go, beside entries on their way or
// not, and if not, after how long to ask again: 0 is when something happens.
func (q *queue) ripe(beside bool) (bool, time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.worthLocked() {
		return true, 0
	}
	if beside {
		return false, 0
	}
	if q.company > 0 {
		if len(q.waiting) >= q.company {
			q.vain = 0
		} else if wait := time.Until(q.gather); wait > 0 {
			return false, wait
		} else {
			q.skip = 1<<q.vain - 1
			q.vain = min(q.vain+1, 6)
		}
		q.company = 0
	}
	return len(q.waiting) > 0, 0
}

// take moves the next group to dst.
func (q *queue) take(dst []*request) []*request {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, size := 0, 0
	for _, r := range q.waiting {
		if len(dst) == maxGroup || len(dst) > 0 && size+len(r.cmd.Payload) > maxGroupBytes {
			break
		}
		n++
		q.bytes -= len(r.cmd.Payload)
		if r.state.CompareAndSwap(stateQueued, stateTaken) {
			dst = append(dst, r)
			size += len(r.cmd.Payload)
		}
	}
	rest := copy(q.waiting, q.waiting[n:])
	clear(q.waiting[rest:])
	q.waiting = q.waiting[:rest]
	q.gauge.Set(float64(rest))
	return dst
}

// refuse answers all that wait, and all that come, with err.
func (q *queue) refuse(err error) {
	q.mu.Lock()
	q.refused = err
	q.mu.Unlock()
	q.drop(err)
}

// drop answers all that wait with err.
func (q *queue) drop(err error) {
	q.mu.Lock()
	waiting := q.waiting
	q.waiting, q.bytes = nil, 0
	q.gauge.Set(0)
	q.mu.Unlock()
	for _, r := range waiting {
		if r.state.CompareAndSwap(stateQueued, stateTaken) {
			r.err = err
			r.done <- struct{}{}
		}
	}
}

// Apply has cmd committed and applied, and returns its result. See the package
// documentation for the kinds of errors; cmd.Payload must not change before
// Apply returns, nor after if the error is of KindMaybeApplied.
func (n *Node) Apply(ctx context.Context, cmd store.Command) (store.Result, error) {
	err := n.accepts(ctx)
	if err == nil {
		err = n.understood(cmd)
	}
	if err != nil {
		n.m.applied.WithLabelValues(outcomeNotSent).Inc()
		return store.Result{}, err
	}
	req := n.queue.get(cmd)
	if err := n.queue.push(req); err != nil {
		n.m.applied.WithLabelValues(outcomeNotSent).Inc()
		return store.Result{}, err
	}
	return n.await(ctx, req)
}

// ApplyAll is Apply for commands that are here at once: they are queued side by
// side, in order, and mostly share an entry. There is an error for each.
func (n *Node) ApplyAll(ctx context.Context, cmds []store.Command) ([]store.Result, []error) {
	results, errs := make([]store.Result, len(cmds)), make([]error, len(cmds))
	reqs := make([]*request, len(cmds))
	err := n.accepts(ctx)
	for i := 0; err == nil && i < len(cmds); i++ {
		err = n.understood(cmds[i])
	}
	if err == nil {
		for i, cmd := range cmds {
			reqs[i] = n.queue.get(cmd)
		}
		err = n.queue.push(reqs...)
	}
	if err != nil {
		n.m.applied.WithLabelValues(outcomeNotSent).Add(float64(len(cmds)))
		for i := range errs {
			errs[i] = err
		}
		return results, errs
	}
	for i, req := range reqs {
		results[i], errs[i] = n.await(ctx, req)
	}
	return results, errs
}

// accepts says why a command cannot be taken, if so.
func (n *Node) accepts(ctx context.Context) error {
	switch r := n.raft.Load(); {
	case r == nil || r.State() != raft.Leader:
		return noLeader(raft.ErrNotLeader)
	case n.stalled.Load():
		return noLeader(errStalled)
	case ctx.Err() != nil:
		return notSent(ctx)
	}
	return nil
}

// understood refuses a command that a server of the group would stop at: one that
// runs an earlier version of landbridge, or has not been heard of.
func (n *Node) understood(cmd store.Command) error {
	since := cmd.Kind.Since()
	if since <= 1 || cmd.Ignorable || n.cfg.CommandVersion == nil {
		return nil
	}
	for _, s := range n.Servers() {
		if v := n.cfg.CommandVersion(s.ID); v < since {
			return store.Errorf(store.KindNotBuilt, "this write needs version %d of the commands, and server %s (%s) has %d: upgrade all servers of the datacenter first",
				since, s.ID, s.Address, v)
		}
	}
	return nil
}

// await waits for a request that was queued.
func (n *Node) await(ctx context.Context, req *request) (store.Result, error) {
	select {
	case <-req.done:
	case <-ctx.Done():
		if req.state.CompareAndSwap(stateQueued, stateLeft) {
			// The queue drops it when its turn comes.
			n.m.applied.WithLabelValues(outcomeNotSent).Inc()
			return store.Result{}, notSent(ctx)
		}
		select {
		case <-req.done: // it ended at the same moment: say what it gave
		default:
			return store.Result{}, leftWaiting(ctx) // req stays with the loop
		}
	}
	res, err := req.res, req.err
	n.queue.put(req)
	return res, err
}

// commitLoop turns waiting commands into Raft entries. There are inFlight of
// them; the one that holds the turn fills the next entry, so that entries
// follow each other in the order of the queue, and passes it on before it waits.
func (n *Node) commitLoop() {
	var group []*request
	var cmds []store.Command
	for {
		select {
		case n.turn <- struct{}{}:
		case <-n.quit:
			return
		}
		if group = n.nextGroup(group[:0]); group == nil {
			<-n.turn
			return
		}
		size := 16
		cmds = cmds[:0]
		now := n.clock.now()
		for _, req := range group {
			req.cmd.UnixNano = now
			cmds = append(cmds, req.cmd)
			size += len(req.cmd.Payload) + 16
		}
		start := time.Now()
		// Not pooled: Raft's stores and caches keep the bytes.
		data := n.cfg.EncodeBatch(make([]byte, 0, size), cmds)
		n.onWay.Add(1)
		n.gate <- struct{}{}
		future := n.raft.Load().Apply(data, n.patience())
		<-n.gate
		<-n.turn
		err := future.Error()
		n.queue.expect(len(group), time.Since(start))
		n.onWay.Add(-1)
		signal(n.landed)
		n.finish(group, future, err, start)
		clear(group)
		clear(cmds)
	}
}

// nextGroup waits for the next group, which it appends to dst: nil if the node
// stops.
func (n *Node) nextGroup(dst []*request) []*request {
	for {
		ripe, wait := n.queue.ripe(n.onWay.Load() > 0)
		if ripe {
			if dst = n.queue.take(dst); len(dst) > 0 {
				return dst
			}
			continue
		}
		var gathered <-chan time.Time
		if wait > 0 {
			gathered = time.After(wait)
		}
		select {
		case <-n.queue.filled:
		case <-n.landed:
		case <-gathered:
		case <-n.quit:
			return nil
		}
	}
}

// leaderClock gives commands their time: the wall clock as it was when this
// server last became leader, and the monotonic clock from then on. A step of the
// wall clock moves no deadline within a leadership.
type leaderClock struct{ anchor atomic.Pointer[time.Time] }

func (c *leaderClock) set() {
	t := time.Now()
	c.anchor.Store(&t)
}

func (c *leaderClock) now() int64 {
	t := c.anchor.Load()
	if t == nil {
		return time.Now().UnixNano()
	}
	return t.Add(time.Since(*t)).UnixNano()
}

// patience is how long a group waits for Raft's main loop to take it up, which
// waits for the disk: no longer than until others may lead, if there are any.
func (n *Node) patience() time.Duration {
	if n.alone.Load() {
		return 0
	}
	heartbeat, _ := Timings(n.cfg.Multiplier)
	return (stallLimit + 1) * heartbeat
}

// finish hands each command of a group its result.
func (n *Node) finish(group []*request, future raft.ApplyFuture, err error, start time.Time) {
	var results []store.Result
	err = applyError(err)
	if err == nil {
		switch res := future.Response().(type) {
		case error:
			err = maybeApplied(res)
		case []store.Result:
			results = res
		}
		if err == nil && len(results) != len(group) {
			err = store.Errorf(store.KindInternal, "the state machine gave %d results for %d commands", len(results), len(group))
		}
	}
	switch {
	case err == nil:
		n.m.okCommands.Add(float64(len(group)))
		n.m.commitSeconds.Observe(time.Since(start).Seconds())
		n.m.batchCommands.Observe(float64(len(group)))
	case errors.Is(err, store.ErrNoLeader):
		n.m.applied.WithLabelValues(outcomeNotSent).Add(float64(len(group)))
	case store.KindOf(err) == store.KindMaybeApplied:
		n.m.applied.WithLabelValues(outcomeUnknown).Add(float64(len(group)))
	default:
		n.m.applied.WithLabelValues(outcomeRefused).Add(float64(len(group)))
		n.logger.Error("raft refused a group of commands", "commands", len(group), "err", err)
	}
	for i, req := range group {
		if err == nil {
			req.res = results[i]
		}
		req.err = err
		req.done <- struct{}{}
	}
}

// Barrier returns when everything committed before is applied here. It works on
// the leader only.
func (n *Node) Barrier(ctx context.Context) error {
	return n.wait(ctx, "barrier", func(r *raft.Raft, d time.Duration) raft.Future { return r.Barrier(d) })
}

// wait runs an operation of Raft and waits for its end or that of ctx.
func (n *Node) wait(ctx context.Context, what string, f func(r *raft.Raft, enqueue time.Duration) raft.Future) error {
	n.lifeMu.Lock()
	if n.life != lifeRunning {
		n.lifeMu.Unlock()
		return noLeader(errStopping)
	}
	enqueue := defaultEnqueue
	if t, ok := ctx.Deadline(); ok {
		enqueue = max(time.Millisecond, min(enqueue, time.Until(t)))
	}
	r := n.raft.Load()
	done := make(chan error, 1)
	n.loops.Go(func() { done <- f(r, enqueue).Error() })
	n.lifeMu.Unlock()
	select {
	case err := <-done:
		if err != nil {
			err = fmt.Errorf("%s: %w", what, applyError(err))
		}
		return err
	case <-ctx.Done():
		return store.Errorf(store.KindTimeout, "%s: stopped waiting, it may still happen: %w", what, context.Cause(ctx))
	}
}

// defaultEnqueue bounds the wait for Raft to take an operation up.
const defaultEnqueue = 10 * time.Second
