package forwarding

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// unanswered is whether the peer, not the request, is at fault.
func unanswered(err error) bool {
	switch store.KindOf(err) {
	case store.KindUnreachable, store.KindMaybeApplied:
		return true
	}
	return false
}

// retryable is whether sending again can help and cannot do harm.
func retryable(req *rpc.Request, m *rpc.Method, err error) bool {
	if u, ok := req.Upload.(*upload); ok && u.read.Load() {
		return false // its bytes are gone
	}
	switch store.KindOf(err) {
	case store.KindNoLeader, store.KindNoServers, store.KindUnreachable, store.KindRateLimited, store.KindBusy:
		return true // not applied
	case store.KindMaybeApplied:
		return m.Repeatable
	}
	return false
}

// retry paces the attempts of one request inside the hold time-out, which begins
// with the first failure, and again when a blocking query was waiting meanwhile: it
// moves to another server like one that was just sent.
type retry struct {
	req   *rpc.Request
	m     *rpc.Method
	hold  time.Duration
	since time.Time // of the request
	began time.Time // of the newest attempt
	until time.Time // zero before the first failure
	pause time.Duration
	err   error           // the answer when attempts end
	over  <-chan struct{} // closed when this agent stops: nothing changes any more
	// limited is whether the leader refused it for a limit.
	limited bool
}

func (d *Dispatcher) newRetry(req *rpc.Request, m *rpc.Method, err error) *retry {
	return &retry{req: req, m: m, hold: d.cfg.HoldTimeout, since: time.Now(), pause: firstPause, err: err, over: d.ctx.Done()}
}

// next is the request of the next attempt: what has gone of a blocking query's
// wait does not come back.
func (r *retry) next() *rpc.Request {
	r.began = time.Now()
	if r.until.IsZero() || !r.waits() || r.req.Wait <= 0 {
		return r.req
	}
	next := *r.req
	next.Wait = max(r.req.Wait-r.began.Sub(r.since), time.Millisecond)
	return &next
}

func (r *retry) waits() bool { return r.m.Blocking && r.req.MinIndex > 0 }

// anew begins the hold time-out.
func (r *retry) anew(hold time.Duration) {
	r.until, r.hold, r.pause = time.Now().Add(hold), hold, firstPause
}

// lived is whether a blocking query was waiting at a server that was well until then:
// it ended, or stopped to lead.
func (r *retry) lived(err error) bool {
	lasted := time.Since(r.began)
	switch {
	case !r.waits():
		return false
	case rpc.Answered(err):
		return lasted > 2*r.hold // it holds requests itself
	}
	return lasted > giveUp && (errors.Is(err, rpc.ErrLost) || store.KindOf(err) == store.KindNoLeader)
}

const (
	firstPause = 10 * time.Millisecond
	// busyPause is the least where the leader takes no more: what it refuses costs it
	// something too.
	busyPause = 250 * time.Millisecond
)

// again waits until another attempt makes sense: until changed is closed, or a
// jittered pause that doubles up to a second. It returns false, with r.err set,
// when the error is final, the hold time-out is over, this agent stops (whoever sent
// the request asks another server then), the caller is gone or tries again by itself.
func (r *retry) again(ctx context.Context, err error, changed <-chan struct{}) bool {
	r.err = err
	if r.req.NoHold || !retryable(r.req, r.m, err) {
		return false
	}
	if r.until.IsZero() || r.lived(err) {
		r.anew(r.hold)
	}
	if r.limited || store.KindOf(err) == store.KindBusy {
		r.pause = max(r.pause, busyPause)
	}
	left := time.Until(r.until)
	if left <= 0 {
		return false
	}
	pause := min(left, r.pause/2+rand.N(r.pause))
	if r.pause < time.Second {
		r.pause *= 2
	}
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-changed:
		return true
	case <-r.over:
		return false
	case <-ctx.Done():
		return false
	}
}
