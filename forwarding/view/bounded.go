package view

import (
	"context"
	"errors"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// Instead says why an answer is an older one than was asked for.
type Instead struct {
	Reason Reason // "": it is not
	Cause  error  // what the datacenter's servers, or those on the way, said last; may be nil
}

// Boundable is whether answers of a method may be kept for a while: reads of what
// is stored. What servers say of themselves is of now, or of no use.
func Boundable(m *rpc.Method) bool {
	if m == nil || m.Write || m.Stream || !m.Repeatable || m.Where == rpc.AnyServer || m.ID == rpc.TxnRead {
		return false
	}
	switch m.Resource {
	case rpc.KeyResource, rpc.NodeResource, rpc.ServiceResource, rpc.SessionResource, rpc.QueryResource:
		return true
	}
	return false
}

// Bounded answers a read like Do. When its datacenter does not answer, or has no
// leader for a read that needs one, it answers with the last good reply that this
// agent got to the same question with the same token, if that is no older than
// limit. A blocking query that has seen the kept reply waits: for its own time, a
// new reply, or the datacenter. A server keeps nothing of its own datacenter.
func (s *Set) Bounded(ctx context.Context, req *rpc.Request, limit time.Duration) (Answer, error) {
	m := rpc.Lookup(req.Method)
	if limit <= 0 || req.NoWait || req.Consistency == store.Consistent || s.ours(req) || !Boundable(m) {
		resp, err := s.Do(ctx, req)
		return Answer{Response: resp}, err
	}
	var room [keySize]byte
	q := question{
		s: s, req: req, dc: s.datacenter(req), limit: limit, began: time.Now(),
		key: appendKey(room[:0], req, s.datacenter(req)), stale: req.Consistency == store.Stale, blocks: blocks(req, m),
	}
	q.wait = req.Wait
	if q.wait <= 0 {
		q.wait = s.cfg.QueryTime
	}
	return q.answer(ctx)
}

// question is a bounded read on its way.
type question struct {
	s             *Set
	req           *rpc.Request
	dc            string
	key           []byte
	limit         time.Duration
	stale, blocks bool
	began         time.Time
	wait          time.Duration // of a blocking query, from began
}

// answer asks, or waits with what is kept, until there is an answer.
func (q *question) answer(ctx context.Context) (Answer, error) {
	for {
		out, reason := q.s.outage(q.dc, q.stale)
		var asked time.Time
		var err error
		if reason == "" || q.usable() == nil {
			asked = time.Now()
			var resp *rpc.Response
			if resp, err = q.ask(ctx); err == nil {
				if out != nil {
					out.answered()
				}
				return Answer{Response: resp}, nil
			}
			if reason = q.reason(ctx, err); reason == "" || q.usable() == nil {
				return Answer{}, err
			}
			if out = q.s.suspect(q.dc); out == nil {
				return Answer{}, err
			}
		}
		a, again, err := q.instead(ctx, out, Instead{reason, err})
		if !again {
			return a, err
		}
		// The datacenter is there. Should it refuse this question all the same, it is
		// not asked in a loop.
		if !wait(ctx, time.Second-time.Since(asked), nil) {
			return Answer{}, ended(ctx, q.req)
		}
	}
}

// usable is what is kept, if it is young enough.
func (q *question) usable() *reply {
	if r := q.s.replies.get(q.key); r != nil && r.age(time.Now()) <= q.limit {
		return r
	}
	return nil
}

// left is what remains of a blocking query's time.
func (q *question) left() time.Duration { return q.wait - time.Since(q.began) }

// ask makes the call. With an answer at hand in case, it ends when the datacenter
// turns out to be away.
func (q *question) ask(ctx context.Context) (*rpc.Response, error) {
	req := q.req
	if q.blocks && time.Since(q.began) > time.Second {
		next := *q.req
		next.Wait = max(q.left(), time.Millisecond)
		req = &next
	}
	old := q.usable()
	if old != nil {
		c := &bounded{stale: q.stale}
		ctx, c.cancel = context.WithCancelCause(ctx)
		q.s.outages.enter(q.dc, c)
		defer func() {
			q.s.outages.leave(q.dc, c)
			c.cancel(nil)
		}()
		if !q.blocks { // others wait long though all is well
			t := time.AfterFunc(suspectAfter, func() { q.s.suspect(q.dc) })
			defer t.Stop()
		}
	}
	resp, err := q.s.Do(ctx, req)
	switch {
	case err == nil:
		q.s.replies.put(q.key, resp, time.Now())
	case context.Cause(ctx) == errAway:
		err = errAway
	case final(err):
		q.s.replies.forget(q.key) // a token or a permission may be gone
	case old != nil && q.blocks && !q.stale && old.resp.Index == q.req.MinIndex:
		// Until it was lost, a leader would have said so if something had changed.
		q.s.replies.confirm(q.key, old, time.Now().Add(-lostFor))
	}
	return resp, err
}

// lostFor is how long a blocking query may have been without a server when its
// error comes: that long it is noticed and tried again elsewhere.
const lostFor = 10 * time.Second

// reason is why an error lets an older answer do; "" if it does not.
func (q *question) reason(ctx context.Context, err error) Reason {
	switch {
	case errors.Is(err, errAway):
		if _, r := q.s.outage(q.dc, q.stale); r != "" {
			return r
		}
		return Unreachable // it is back by now
	case ctx.Err() != nil:
		return "" // nobody waits for the answer
	case store.KindOf(err) == store.KindNoLeader:
		return NoLeader
	case store.KindOf(err) == store.KindTimeout:
		return Timeout
	case silent(err):
		return Unreachable
	}
	return ""
}

// instead answers with what is kept; again says that the datacenter can be asked
// again, or must be since nothing is left to answer with.
func (q *question) instead(ctx context.Context, out *outage, why Instead) (a Answer, again bool, err error) {
	var timeout, tooOld *time.Timer
	for expired := false; ; {
		r := q.usable()
		if r == nil {
			resp, err := q.ask(ctx) // whatever it says is the answer
			return Answer{Response: resp}, false, err
		}
		if !q.blocks || q.req.MinIndex < r.resp.Index || expired {
			if q.s.cfg.Resolve != nil {
				if err := q.s.cfg.Resolve(ctx, q.req); err != nil {
					q.s.replies.forget(q.key)
					return Answer{}, false, err
				}
			}
			return q.older(out, r, why), false, nil
		}
		changed := q.s.replies.changes(r)
		if timeout == nil {
			timeout, tooOld = time.NewTimer(q.left()), time.NewTimer(0)
			defer timeout.Stop()
			defer tooOld.Stop()
		}
		tooOld.Reset(q.limit - r.age(time.Now()) + time.Millisecond)
		select {
		case <-changed:
		case <-tooOld.C:
		case <-timeout.C:
			expired = true
		case <-out.over:
			if q.left() <= 0 {
				expired = true
				continue
			}
			return Answer{}, true, nil
		case <-ctx.Done():
			return Answer{}, false, ended(ctx, q.req)
		}
	}
}

// older makes an answer of a kept reply.
func (q *question) older(out *outage, r *reply, why Instead) Answer {
	o := &q.s.outages
	o.mu.Lock()
	if out.given++; out.reason.hinders(q.stale) {
		why.Reason = out.reason // as it is now
	}
	o.mu.Unlock()
	q.s.metrics.instead[why.Reason].Inc()
	age := r.age(time.Now())
	resp := *r.resp
	resp.KnownLeader, resp.LastContact, resp.Effective, resp.Kept = false, age, store.Stale, true
	return Answer{Response: &resp, Age: age, Instead: why}
}
