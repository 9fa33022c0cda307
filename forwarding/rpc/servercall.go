package rpc

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"landbridge/store"
)

// serverCall is one call from its request to its answer. It belongs to one
// worker; ctx and gone are also touched by the stream's reader.
type serverCall struct {
	n        *session
	lane     *serverLane // nil: a stream of its own
	conn     net.Conn    // that stream
	done     chan struct{}
	id       uint32
	payload  []byte
	reserved int         // bytes of Server.bytes
	blocks   atomic.Bool // it waits for a change
	gone     atomic.Bool // the caller waits no more: no answer is sent
	ctx      callContext
	req      wireRequest
}

// leave notes that the caller has gone.
func (k *serverCall) leave() {
	k.gone.Store(true)
	k.ctx.end(context.Canceled)
}

func (k *serverCall) endCalls() { k.ctx.end(context.Canceled) }

// stop ends the call if it blocks.
func (k *serverCall) stop() {
	if k.blocks.Load() {
		k.ctx.end(context.Canceled)
	}
}

func (s *Server) release(n int) { s.bytes.Add(int64(-n)) }

// run answers the call. Called by a worker.
func (k *serverCall) run() {
	n := k.n
	begin := time.Now()
	m, resp, err := k.handle(begin)
	n.s.metrics.observe(m, err, k.gone.Load(), time.Since(begin))
	k.answer(resp, err)
	k.ctx.end(context.Canceled)
	n.s.release(k.reserved)
	if k.done != nil {
		close(k.done)
	}
	n.finish()
}

// handle decodes the request, decides whether it may run and runs it.
func (k *serverCall) handle(begin time.Time) (*Method, *Response, error) {
	n, cfg := k.n, &k.n.s.cfg
	req := &k.req.Request
	if err := k.req.decode(k.payload); err != nil {
		return nil, nil, err
	}
	req.Origin, req.Peer = n.origin, n.peer
	m, err := admit(req)
	if err == nil && m.Stream {
		err = store.Errorf(store.KindInvalid, "%s needs a stream of bytes", m.Name)
	}
	if err != nil {
		n.s.metrics.refused["denied"].Inc()
		return m, nil, err
	}
	if k.req.remaining > 0 {
		// Not yet shared with anybody who reads it: the reader and the session
		// only end the context.
		k.ctx.deadline = begin.Add(k.req.remaining)
	}
	running, limit := &n.small, cfg.MaxInFlight
	if m.Blocking && req.MinIndex > 0 {
		running, limit = &n.blocking, cfg.MaxBlocking
		k.blocks.Store(true)
		if n.stopping.Load() {
			k.stop() // drain has perhaps looked already
		}
	}
	defer running.Add(-1)
	if running.Add(1) > int64(limit) {
		n.s.metrics.refused["calls"].Inc()
		return m, nil, errTooMany
	}
	if k.req.packed != nil {
		body, err := n.s.z.unpack(k.req.packed, func(more int) error {
			if err := n.s.reserve(more); err != nil {
				return err
			}
			k.reserved += more
			return nil
		})
		if err != nil {
			return m, nil, err
		}
		req.Body, k.req.packed = body, nil
	}
	n.s.metrics.inFlight.Inc()
	defer n.s.metrics.inFlight.Dec()
	resp, err := cfg.Handler.Do(&k.ctx, req)
	if err != nil && m.Repeatable && n.stopping.Load() && k.ctx.Err() == context.Canceled {
		err = errStopping // another server will do
	}
	if err == nil && resp == nil {
		resp = &Response{}
	}
	if err == nil && len(resp.Body) > cfg.MaxBody {
		err = store.Errorf(store.KindTooLarge, "%s: the answer has %d bytes, at most %d are sent: ask for less at once", m.Name, len(resp.Body), cfg.MaxBody)
	}
	return m, resp, err
}

// answer sends the answer where it belongs: in the lane, on the call's own
// stream, or on a new one if it is bulky.
func (k *serverCall) answer(resp *Response, err error) {
	if k.gone.Load() {
		if k.lane != nil {
			k.lane.finish(k.id, nil, nil)
		}
		return
	}
	buf := getBuffer()
	defer putBuffer(buf)
	b := append((*buf)[:0], make([]byte, headerSize)...)
	var body []byte
	typ := frameResponse
	if err != nil {
		typ = frameError
		b = appendError(b, err)
	} else {
		var z *compressor
		if k.req.acceptZstd {
			z = k.n.s.z
		}
		b, body = appendResponseHead(b, resp, z)
	}
	*buf = b
	putHeader(b, k.id, typ, len(body))
	switch {
	case k.lane == nil:
		k.write(k.conn, b, body)
		// The caller closes the stream once it has read the answer.
		k.conn.SetReadDeadline(time.Now().Add(streamTimeout))
	case len(body) <= k.n.bulk || typ == frameError:
		k.lane.finish(k.id, b, body)
	case k.req.acceptApart && len(body) >= apartBytes && k.ticket(b, body):
	default:
		if err := k.answerApart(b, body); err != nil && !k.gone.Load() {
			err = store.Errorf(store.KindUnreachable, "the answer of %d bytes could not be sent: %w", len(body), err)
			if Lookup(k.req.Method).Repeatable {
				k.lane.finish(k.id, k.errorFrame(err), nil)
			} else {
				k.lane.finish(k.id, k.errorFrame(&store.Error{Kind: store.KindMaybeApplied, Message: err.Error()}), nil)
			}
			return
		}
		k.lane.finish(k.id, nil, nil)
	}
}

func (k *serverCall) errorFrame(err error) []byte {
	b := appendError(make([]byte, headerSize), err)
	putHeader(b, k.id, frameError, 0)
	return b
}

// answerApart sends an answer on a stream of its own.
func (k *serverCall) answerApart(frame, body []byte) error {
	ctx, cancel := context.WithTimeout(&k.ctx, streamTimeout)
	conn, err := k.n.sess.OpenStream(ctx)
	cancel()
	if err != nil {
		return err
	}
	defer conn.Close()
	pre := appendPreamble(make([]byte, 0, preambleSize+len(frame)), streamAnswer)
	return k.write(conn, append(pre, frame...), body)
}

// write sends head and body, as long as the other side takes some and waits.
func (k *serverCall) write(conn net.Conn, head, body []byte) error {
	stop := context.AfterFunc(&k.ctx, func() {
		// When it is we who stop, the answer may still get through.
		if k.gone.Load() {
			conn.Close()
		}
	})
	defer stop()
	// A small body goes with its head, a large one is not copied.
	const part = 256 << 10
	if len(body) <= 16<<10 {
		head, body = append(head, body...), nil
	}
	conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := conn.Write(head); err != nil {
		return err
	}
	for len(body) > 0 {
		p := body[:min(len(body), part)]
		conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		if _, err := conn.Write(p); err != nil {
			return err
		}
		body = body[len(p):]
	}
	return nil
}
