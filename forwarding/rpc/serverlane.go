package rpc

import (
	"bufio"
	"context"
	"net"
	"time"

	"landbridge/store"
)

// serverLane is the server's end of a lane. Its reader is the goroutine of the
// stream; answers are written by the workers that made them.
type serverLane struct {
	frameWriter // mu also guards calls and over
	n           *session
	calls       map[uint32]*serverCall
	over        bool
}

// serveLane reads a lane until it ends, and ends its calls then.
func (n *session) serveLane(conn net.Conn) error {
	defer n.lanes.Add(-1)
	if n.lanes.Add(1) > maxLanes {
		return store.Errorf(store.KindRateLimited, "this session has %d lanes already", maxLanes)
	}
	l := &serverLane{frameWriter: frameWriter{conn: conn}, n: n, calls: make(map[uint32]*serverCall)}
	defer n.watch(l)()
	defer l.endCalls()
	defer l.fail(net.ErrClosed)
	br := bufio.NewReaderSize(conn, 16<<10)
	for {
		h, err := readHeader(br, maxLaneRequest)
		if err != nil {
			return err
		}
		payload, err := readPayload(br, int(h.n), nil)
		if err != nil {
			return err
		}
		switch h.typ {
		case frameRequest:
			err = l.accept(h.id, payload)
		case frameCancel:
			l.mu.Lock()
			k := l.calls[h.id]
			l.mu.Unlock()
			if k != nil {
				k.leave()
			}
		case framePing:
			err = l.reply(h.id, framePong, nil)
		case frameName:
			if name := string(payload); n.origin == FromLAN && name != "" && len(name) <= maxName {
				n.agent.Store(&name)
			}
		}
		if err != nil {
			return err
		}
	}
}

// accept starts one call, or refuses it with an answer. An error ends the lane.
func (l *serverLane) accept(id uint32, payload []byte) error {
	n := l.n
	if !n.asked.Load() {
		n.asked.Store(true)
	}
	if !n.begin() {
		return l.refuse(id, "stopping", errStopping)
	}
	if n.running.Load() > int64(n.s.cfg.MaxInFlight+n.s.cfg.MaxBlocking) {
		n.finish()
		return l.refuse(id, "calls", errTooMany)
	}
	if err := n.s.reserve(len(payload)); err != nil {
		n.finish()
		return l.refuse(id, "", err)
	}
	k := &serverCall{n: n, lane: l, id: id, payload: payload, reserved: len(payload)}
	l.mu.Lock()
	twice := id == 0 || l.calls[id] != nil
	if !twice {
		l.calls[id] = k
	}
	over := l.over
	l.mu.Unlock()
	if twice {
		n.s.release(k.reserved)
		n.finish()
		return store.Errorf(store.KindInvalid, "call id %d is in use already", id)
	}
	if over {
		k.ctx.end(context.Canceled)
	}
	n.s.workers.run(k)
	return nil
}

var (
	errStopping = store.Errorf(store.KindUnreachable, "this server is stopping, the call was not run")
	errTooMany  = store.Errorf(store.KindRateLimited, "too many calls of this peer are running here, the call was not run")
)

func (l *serverLane) refuse(id uint32, reason string, err error) error {
	if c := l.n.s.metrics.refused[reason]; c != nil {
		c.Inc()
	}
	return l.reply(id, frameError, err)
}

// reply sends a small frame from the lane's reader.
func (l *serverLane) reply(id uint32, typ byte, err error) error {
	buf := getBuffer()
	defer putBuffer(buf)
	b := append((*buf)[:0], make([]byte, headerSize)...)
	if err != nil {
		b = appendError(b, err)
	}
	putHeader(b, id, typ, 0)
	*buf = b
	return l.send(b, nil, l.n.sess.Context().Done())
}

// endCalls ends the contexts of the lane's calls, and of those to come.
func (l *serverLane) endCalls() {
	l.mu.Lock()
	l.over = true
	calls := make([]*serverCall, 0, len(l.calls))
	for _, k := range l.calls {
		calls = append(calls, k)
	}
	l.mu.Unlock()
	for _, k := range calls {
		k.ctx.end(context.Canceled)
	}
}

// stop tells the client to leave and ends the calls that block.
func (l *serverLane) stop() {
	l.mu.Lock()
	calls := make([]*serverCall, 0, len(l.calls))
	for _, k := range l.calls {
		calls = append(calls, k)
	}
	l.mu.Unlock()
	for _, k := range calls {
		k.stop()
	}
	// Apart from drain, which must not wait for a client that takes nothing.
	l.n.readers.Go(func() { l.reply(0, frameStopping, nil) })
}

// finish takes a call out and sends its answer, if there is one to send. body is
// the rest of frame.
func (l *serverLane) finish(id uint32, frame, body []byte) {
	if frame != nil {
		// Out of the map before the answer is out: its id may come again.
		l.mu.Lock()
		delete(l.calls, id)
		l.mu.Unlock()
		if err := l.send(frame, body, l.n.sess.Context().Done()); err != nil {
			l.conn.Close() // ends the reader, and with it the lane
		}
		return
	}
	l.mu.Lock()
	delete(l.calls, id)
	l.mu.Unlock()
}

// serveCall answers the one request of a stream of its own.
func (n *session) serveCall(conn net.Conn) error {
	if !n.begin() {
		return errStopping
	}
	k := &serverCall{n: n, conn: conn, done: make(chan struct{})}
	release := func() {
		n.s.release(k.reserved)
		n.finish()
	}
	br := bufio.NewReaderSize(conn, 4<<10)
	grow := func(more int) error {
		// A request that does not go on arriving must not keep its memory.
		conn.SetReadDeadline(time.Now().Add(streamTimeout))
		if err := n.s.reserve(more); err != nil {
			return err
		}
		k.reserved += more
		return nil
	}
	conn.SetReadDeadline(time.Now().Add(streamTimeout))
	h, err := readHeader(br, maxBulkRequest)
	if err == nil && h.typ != frameRequest {
		err = store.Errorf(store.KindInvalid, "frame of type %d instead of a request", h.typ)
	}
	if err == nil {
		k.payload, err = readPayload(br, int(h.n), grow)
	}
	if err != nil {
		release()
		return err
	}
	conn.SetReadDeadline(time.Time{})
	k.id = h.id
	defer n.watch(k)()
	n.s.workers.run(k)
	// The caller sends no more: whatever comes is its end of the stream.
	var b [1]byte
	br.Read(b[:])
	k.leave()
	<-k.done
	return nil
}
