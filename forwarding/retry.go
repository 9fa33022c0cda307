package forwarding

import (
	"context"
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
	case store.KindNoLeader, store.KindNoServers, store.KindUnreachable:
		return true // not applied
	case store.KindMaybeApplied:
		return m.Repeatable
	}
	return false
}

// retry paces the attempts of one request inside the hold time-out.
type retry struct {
	req   *rpc.Request
	m     *rpc.Method
	until time.Time
	pause time.Duration
	err   error // the answer when attempts end
}

func (d *Dispatcher) newRetry(req *rpc.Request, m *rpc.Method, err error) *retry {
	until := time.Now().Add(d.cfg.HoldTimeout)
	return &retry{req: req, m: m, until: until, pause: 10 * time.Millisecond, err: err}
}

// again waits until another attempt makes sense: until changed is closed, or a
// jittered pause that doubles up to a second. It returns false, with r.err set,
// when the error is final, the hold time-out is over or the caller is gone.
func (r *retry) again(ctx context.Context, err error, changed <-chan struct{}) bool {
	r.err = err
	if !retryable(r.req, r.m, err) {
		return false
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
	case <-ctx.Done():
		return false
	}
}
