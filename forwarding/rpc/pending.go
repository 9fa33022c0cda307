package rpc

import (
	"context"
	"errors"

	"landbridge/store"
)

// Pending is a call under way that its maker watches together with others: it has
// a channel to select on instead of a method that waits. It is begun by
// Client.Begin, or by Handed for a call that somebody else makes; then it ends by
// exactly one of Finish and Cancel. The zero value may be begun, and after its end
// it may be begun again. Not for concurrent use.
type Pending struct {
	done <-chan Outcome

	// Of a call in a lane of c.
	c     *Client
	m     *Method
	lane  *clientLane
	k     *call
	id    uint32
	heard uint64 // Client.Heard when it began

	cancel context.CancelFunc // of a call that somebody else makes
}

// Outcome is what Done gives; Finish makes an answer of it.
type Outcome struct {
	typ     byte
	payload []byte
	resp    *Response // of a call that somebody else made
	err     error     // the client failed; sent says whether the request had left
	sent    bool
	handed  bool
}

// Arriving says that this is not the call's end yet, nor for Finish: the server has
// answered, and the answer, which is large, is being fetched.
func (r *Outcome) Arriving() bool { return r.typ == frameApart }

// ErrNoLane is Begin's answer to a call that does not fit in a lane: with a stream
// of bytes, or a large body.
var ErrNoLane = errors.New("the call needs a stream of its own")

// Begin sends req and does not wait for its answer. It may wait for room in a lane,
// at most until ctx ends. After an error nothing is pending.
func (c *Client) Begin(ctx context.Context, req *Request, p *Pending) error {
	m, remaining, err := c.admit(ctx, req)
	if err != nil {
		return err
	}
	buf := getBuffer()
	defer putBuffer(buf)
	b := append((*buf)[:0], make([]byte, headerSize)...)
	b = appendRequest(b, req, remaining-reserve(remaining), c.z, c.cfg.bulk != nil)
	*buf = b
	if m.Stream || len(b) > c.cfg.BulkBytes {
		c.leaveCall()
		return ErrNoLane
	}
	heard := c.Heard()
	lane, id, k, err := c.enqueue(ctx, m, b, frameRequest, true)
	if err != nil {
		c.leaveCall()
		return err
	}
	*p = Pending{done: k.done, c: c, m: m, lane: lane, k: k, id: id, heard: heard}
	return nil
}

// Handed makes p a call that somebody else makes and whose end is given to end,
// once. cancel is called when nobody waits for it any more.
func (p *Pending) Handed(cancel context.CancelFunc) (end func(*Response, error)) {
	done := make(chan Outcome, 1)
	*p = Pending{done: done, cancel: cancel}
	return func(resp *Response, err error) { done <- Outcome{resp: resp, err: err, handed: true} }
}

// Begun says whether the call is under way.
func (p *Pending) Begun() bool { return p.done != nil }

// Done gives the call's end, once, and before it, from a client with connections for
// bulk, that a large answer is Arriving. It is nil, which blocks for ever, while
// nothing is pending.
func (p *Pending) Done() <-chan Outcome { return p.done }

// Quiet says that nothing at all came from the server since the call began. It is
// false where that cannot be told.
func (p *Pending) Quiet() bool { return p.c != nil && p.c.Heard() == p.heard }

// Knock has the server pinged at once, so that Quiet means something.
func (p *Pending) Knock() {
	if p.c != nil {
		p.c.Knock()
	}
}

// Finish returns the answer that r brought. The call is over.
func (p *Pending) Finish(r Outcome) (*Response, error) {
	q := *p
	*p = Pending{}
	if r.handed {
		q.cancel()
		return r.resp, r.err
	}
	q.c.calls.Put(q.k)
	defer q.c.leaveCall()
	switch {
	case r.err == nil:
		return q.c.answer(q.m, r.typ, r.payload)
	case r.sent:
		return nil, q.c.errLost(q.m, r.err)
	}
	return nil, q.c.errNotSent(q.m, r.err)
}

// Cancel gives the call up; the server is told. sent says that the server may have
// had it. Nothing happens if nothing is pending.
func (p *Pending) Cancel() (sent bool) {
	if p.done == nil {
		return false
	}
	q := *p
	*p = Pending{}
	if q.c == nil {
		q.cancel()
		return true
	}
	sent, mine := q.lane.forget(q.id, q.k)
	for !mine { // its end is on its way from the reader to us
		r := <-q.done
		sent, mine = true, !r.Arriving()
	}
	select {
	case <-q.done: // that it is arriving
	default:
	}
	q.c.calls.Put(q.k)
	q.c.leaveCall()
	return sent
}

// Ended gives the call up because its maker's context is done, and says so.
func (p *Pending) Ended(ctx context.Context) error {
	c, m := p.c, p.m
	sent := p.Cancel()
	if c == nil {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return store.Errorf(store.KindTimeout, "no answer in time: %w", ctx.Err())
		}
		return store.Errorf(store.KindInternal, "given up by its caller: %w", context.Cause(ctx))
	}
	return c.errEnded(ctx, m, sent)
}
