package view

import (
	"bytes"
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"landbridge/forwarding/internal/rate"
	"landbridge/forwarding/rpc"
	"landbridge/store"
)

const (
	// unnoticed is how long a server may be gone before its silence is noticed
	// (rpc's pings): an answer may be that much older than its loss.
	unnoticed = time.Second
	// confirmTime is how long a view that changes its server waits for the new one
	// to have what the view has.
	confirmTime = 2 * time.Second
	// shortTime is a blocking query's wait where something is not as it should be.
	shortTime = 10 * time.Second
	// firstPause and lastPause bound the waits between attempts.
	firstPause = 50 * time.Millisecond
	lastPause  = 10 * time.Second
)

// view is the answer to one question, kept up to date.
type view struct {
	s   *Set
	key string
	req rpc.Request // what a fetch asks, but for index and wait

	cur     atomic.Pointer[state] // nil until it was filled
	used    atomic.Int64          // when it was last asked, Unix nanoseconds
	stale   atomic.Int64          // the lowest max_stale of its readers; 0: none
	fetches rate.Bucket

	// Guarded by the set's mu.
	cancel context.CancelFunc // of the follower; nil: it rests
	idle   time.Duration      // it rests when unused for so long
	size   int64

	mu      sync.Mutex
	settled chan struct{} // closed with the first outcome since it was filled or woken
	changed chan struct{} // closed and replaced when the index changes; closed for good with err
	err     error         // why it was not filled, or was given up
}

// state is an answer and what is known of its age. It is immutable.
type state struct {
	resp *rpc.Response
	at   time.Time // when a server gave or confirmed it
	live bool      // a server is asked for its next change, and is there
	lost time.Time // not live: since when it may have changed
	away bool      // not live, and no other server answered either
}

// age is how long ago the state was known to be current.
func (st *state) age(now time.Time) time.Duration {
	if st.live {
		return 0
	}
	return max(now.Sub(st.lost), 0)
}

// older is whether the state may be older than its reader allows (0: any age).
func (st *state) older(than time.Duration, now time.Time) bool {
	return than > 0 && st.resp.LastContact+now.Sub(st.at) > than
}

// answer is the state as a response: the same one as long as it is live.
func (st *state) answer(now time.Time) *rpc.Response {
	if st.live {
		return st.resp
	}
	r := *st.resp
	r.LastContact += st.age(now)
	if st.away {
		r.KnownLeader = false
	}
	return &r
}

// follow fills the view and keeps it up to date until ctx ends or a server
// refuses for good.
func (v *view) follow(ctx context.Context) {
	from, fails := anyServer, 0
	for {
		if !wait(ctx, v.fetches.Reserve(*v.s.limit.Load()), nil) {
			return
		}
		up := v.s.waits() // before asking, so that no recovery is missed
		st := v.cur.Load()
		req := v.question(st, from)
		began := time.Now()
		resp, err := v.s.cfg.Do.Do(ctx, &req)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			v.s.metrics.failed.Inc()
			if st == nil || final(err) {
				v.s.drop(v, err)
				return
			}
			fails++
			if from == withLeader {
				from = anyServer
			}
			v.lose(st, !st.live)
			v.s.cfg.Logger.Debug("view lost its server", "name", v.req.Query.Name, "attempt", fails, "err", err)
			if !v.pause(ctx, fails, up) {
				return
			}
			continue
		}
		v.s.metrics.fetched.Inc()
		if st != nil && resp.Index < st.resp.Index && from == anyServer {
			from = askLeader
			v.lose(st, false)
			continue
		}
		v.take(st, resp)
		if fails > 1 {
			v.s.recovered()
		}
		fails = 0
		switch from {
		case askLeader:
			from = withLeader
		case withLeader: // another server may still have less, and is asked for it
			from = anyServer
			v.lose(v.cur.Load(), false)
		}
		if int64(len(resp.Body)) > v.s.cfg.MaxBytes/4 {
			v.s.drop(v, errEvicted) // those who wait have it; it is too much to keep
			return
		}
		if req.MinIndex > 0 && resp.Index <= req.MinIndex && time.Since(began) < req.Wait/2 && !wait(ctx, time.Second, nil) {
			return // and a server that does not wait is not asked all the time
		}
	}
}

// source is whom a view follows.
type source uint8

const (
	anyServer source = iota
	// askLeader: a server had less than the view. The leader knows whether history
	// was replaced.
	askLeader
	// withLeader: its next change is the leader's too. A server that has less
	// than the view would be silent about what it misses.
	withLeader
)

// question is what the follower asks next.
func (v *view) question(st *state, from source) rpc.Request {
	req := v.req
	switch {
	case st == nil: // the caller waits: so may the dispatcher, for a server
		return req
	case from == askLeader:
		req.Consistency = store.Default
	case from == withLeader:
		req.Consistency, req.MinIndex, req.Wait = store.Default, st.resp.Index, min(shortTime, v.patience(st))
	case st.live:
		req.MinIndex, req.Wait = st.resp.Index, v.patience(st)
	default:
		// Answered at once by a server that has what we have.
		req.MinIndex, req.Wait = st.resp.Index-1, confirmTime
	}
	req.NoHold = true // the view is away meanwhile, and says so
	return req
}

// patience is how long a blocking query waits: the view's age is known to its
// readers' limit, and a server that is out of touch is asked again soon.
func (v *view) patience(st *state) time.Duration {
	d := v.s.cfg.QueryTime
	if most := time.Duration(v.stale.Load()); most > 0 {
		d = min(d, max(most/2, time.Second))
	}
	if !st.resp.KnownLeader {
		d = min(d, shortTime)
	}
	return d
}

// bound notes a reader's max_stale.
func (v *view) bound(most time.Duration) {
	if old := v.stale.Load(); most > 0 && (old == 0 || int64(most) < old) {
		v.stale.Store(int64(most))
	}
}

// take makes an answer the view's state.
func (v *view) take(st *state, resp *rpc.Response) {
	r := *resp
	r.Index = max(r.Index, 1)
	r.Effective = store.Stale // whoever was asked: it is kept for a while
	if st != nil && r.NotFound == st.resp.NotFound && bytes.Equal(r.Body, st.resp.Body) {
		r.Body = st.resp.Body // its identity says that it has not changed
	} else {
		v.s.resized(v, len(r.Body))
	}
	v.cur.Store(&state{resp: &r, at: time.Now(), live: true})
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.err != nil {
		return
	}
	if st != nil && st.resp.Index != r.Index {
		close(v.changed)
		v.changed = make(chan struct{})
	}
	if !isClosed(v.settled) {
		close(v.settled)
	}
}

// lose notes that the state may be out of date from now on.
func (v *view) lose(st *state, away bool) {
	next := *st
	if next.live {
		next.live, next.lost = false, time.Now().Add(-unnoticed)
		if next.lost.Before(next.at) {
			next.lost = next.at
		}
	}
	next.away = away
	v.cur.Store(&next)
	v.settle()
}

// settle lets those who wait for an outcome go on.
func (v *view) settle() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !isClosed(v.settled) {
		close(v.settled)
	}
}

// end gives the view up: whoever waits for something of it gets err.
func (v *view) end(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.err == nil {
		v.err = err
		close(v.changed)
	}
	if !isClosed(v.settled) {
		close(v.settled)
	}
}

// outcome is the view's state, or why there is none or it must not be shown.
func (v *view) outcome() (*state, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	st := v.cur.Load()
	switch {
	case v.err != nil:
		return nil, v.err
	case st == nil:
		return nil, errEvicted // it was ended before its first answer
	}
	return st, nil
}

// changes is closed when the view's index is another one, or will never be.
func (v *view) changes(from store.Index) <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	if st := v.cur.Load(); st == nil || st.resp.Index != from {
		return closed
	}
	return v.changed
}

var closed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// final is whether an error says something about the question, not about servers:
// asking again gives the same, and what was answered before must not be any more.
func final(err error) bool {
	switch store.KindOf(err) {
	case store.KindInvalid, store.KindBadRequest, store.KindNotFound, store.KindPermissionDenied,
		store.KindNoPath, store.KindConflict, store.KindTooLarge, store.KindNotBuilt:
		return true
	}
	return false
}

// pause waits before another attempt. The first comes soon: the dispatcher has
// another server by then. Views that lost the same server do not come together.
func (v *view) pause(ctx context.Context, fails int, up <-chan struct{}) bool {
	if fails == 1 {
		v.s.mu.RLock()
		n := len(v.s.views)
		v.s.mu.RUnlock()
		return wait(ctx, rand.N(firstPause+time.Duration(n)*100*time.Microsecond), nil)
	}
	d := min(firstPause<<min(fails, 10), lastPause)
	return wait(ctx, d/2+rand.N(d/2), up)
}

// wait returns when d is over or something comes of soon; false if ctx ended.
func wait(ctx context.Context, d time.Duration, soon <-chan struct{}) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-soon:
		return wait(ctx, rand.N(4*firstPause), nil) // not all of them at once
	case <-ctx.Done():
		return false
	}
}
