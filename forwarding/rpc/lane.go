package rpc

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"sync/atomic"
)

func newClientLane(c *Client) *clientLane {
	l := &clientLane{c: c, wake: make(chan struct{}, 1), calls: make(map[uint32]*call)}
	first := appendPreamble(nil, streamLane)
	if c.cfg.Self != "" {
		first = appendHeader(first, frameHeader{typ: frameName, n: uint32(len(c.cfg.Self))})
		first = append(first, c.cfg.Self...)
	}
	l.add(first)
	return l
}

// clientLane is the client's end of a lane. Its stream is opened by its writer,
// on the first call that needs it.
type clientLane struct {
	frameWriter // mu also guards calls and pings
	c           *Client
	wake        chan struct{} // holds 1: frames wait for the writer
	calls       map[uint32]*call
	started     atomic.Bool
	pings       int // of the liveness check, unanswered
}

// submit registers k under id, or under another one if id is still in use after
// a turn of the counter, and queues its frame. After an error k is not
// registered.
func (l *clientLane) submit(ctx context.Context, m *Method, id uint32, k *call, frame []byte, typ byte) (uint32, error) {
	l.mu.Lock()
	for {
		if l.err != nil {
			err := l.err
			l.mu.Unlock()
			return 0, l.c.errNotSent(m, err)
		}
		room := l.full()
		if room == nil {
			break
		}
		l.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return 0, l.c.errEnded(ctx, m, false)
		}
		l.mu.Lock()
	}
	for l.calls[id] != nil || l.c.lane(id) != l {
		id = l.c.newID()
	}
	putHeader(frame, id, typ, 0)
	k.start = l.appended
	l.calls[id] = k
	l.add(frame)
	l.mu.Unlock()
	if !l.start() {
		if _, mine := l.forget(id, k); mine {
			return 0, l.c.errNotSent(m, l.c.Err())
		}
		return id, nil // fail has found it and answers
	}
	return id, nil
}

// start has the writer look for frames, and run if it does not yet. false: the
// client has ended.
func (l *clientLane) start() bool {
	if l.started.CompareAndSwap(false, true) && !l.c.spawn(l.run) {
		return false
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return true
}

// find returns the call that waits under id, or nil.
func (l *clientLane) find(id uint32) *call {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.calls[id]
}

// deliver gives r to k if it still waits under id.
func (l *clientLane) deliver(id uint32, k *call, r Outcome) {
	l.mu.Lock()
	mine := l.calls[id] == k
	if mine {
		delete(l.calls, id)
	}
	l.mu.Unlock()
	if mine {
		k.done <- r
	}
}

// tell lets k know that its answer is laid apart, if it still waits under id.
func (l *clientLane) tell(id uint32, k *call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.calls[id] == k && !k.told {
		k.told = true
		k.done <- Outcome{typ: frameApart}
	}
}

// forget takes k out, whose caller has gone, and has the server told. mine is
// false if somebody else took it first and is about to send on k.done; sent
// says whether its frame had been handed to the connection.
func (l *clientLane) forget(id uint32, k *call) (sent, mine bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.calls[id] != k {
		return false, false
	}
	delete(l.calls, id)
	if l.err == nil {
		// Without asking for room: a caller that has left cannot wait, and
		// 9 bytes per call in flight are bounded.
		var frame [headerSize]byte
		putHeader(frame[:], id, frameCancel, 0)
		l.add(frame[:])
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
	return k.start < l.taken, true
}

// failCalls ends the lane and every call in it.
func (l *clientLane) failCalls(cause error) {
	l.mu.Lock()
	if l.err == nil {
		l.err = cause
	}
	l.wakeLocked()
	calls := l.calls
	l.calls = make(map[uint32]*call)
	taken := l.taken
	l.mu.Unlock()
	for _, k := range calls {
		if k.tick.IsZero() {
			k.done <- Outcome{err: cause, sent: k.start < taken}
		}
	}
}

// run opens the lane's stream, starts its reader and writes what calls queue.
func (l *clientLane) run() {
	c := l.c
	conn, err := c.sess.OpenStream(c.ctx)
	if err != nil {
		c.fail(fmt.Errorf("open stream: %w", err))
		return
	}
	// Whatever ends the client must end the stream's reader, also on a session
	// that lingers.
	defer conn.Close()
	l.mu.Lock()
	l.conn = conn
	l.mu.Unlock()
	if !c.spawn(func() { l.read(conn) }) {
		return
	}
	for {
		l.mu.Lock()
		if err := l.flushLocked(); err != nil {
			c.fail(err)
			return
		}
		select {
		case <-l.wake:
		case <-c.ctx.Done():
			return
		}
	}
}

// read hands answers to their calls until the stream ends, and the client with it.
func (l *clientLane) read(conn net.Conn) {
	br := bufio.NewReaderSize(conn, 16<<10)
	for {
		h, err := readHeader(br, maxLaneAnswer)
		var payload []byte
		if err == nil {
			payload, err = readPayload(br, int(h.n), nil)
		}
		if err != nil {
			// The session usually knows better why.
			if cause := context.Cause(l.c.sess.Context()); cause != nil {
				err = cause
			}
			l.c.fail(err)
			return
		}
		l.c.live.hear()
		switch h.typ {
		case frameResponse, frameError, framePong:
		case frameApart:
			if k := l.find(h.id); k != nil && l.c.cfg.bulk != nil {
				l.tell(h.id, k)
				l.c.spawn(func() { l.c.fetchAnswer(l, h.id, k, payload) })
			}
			continue
		case frameStopping:
			l.c.leave()
			continue
		default:
			continue
		}
		if h.id == 0 {
			l.c.fail(decodeError(payload))
			return
		}
		l.mu.Lock()
		k := l.calls[h.id]
		delete(l.calls, h.id)
		if k != nil && !k.tick.IsZero() {
			l.pings--
		}
		l.mu.Unlock()
		switch {
		case k == nil: // cancelled meanwhile
		case !k.tick.IsZero():
			l.c.live.pong(k)
		default:
			k.done <- Outcome{typ: h.typ, payload: payload}
		}
	}
}

// maxPings is how many unanswered pings of the liveness check a lane keeps.
const maxPings = 16

// ping queues a ping of the liveness check, unless this lane is held up already:
// then another one would say nothing new.
func (l *clientLane) ping(id uint32, k *call) bool {
	l.mu.Lock()
	if l.err != nil || l.full() != nil || l.pings >= maxPings || l.calls[id] != nil {
		l.mu.Unlock()
		return false
	}
	var frame [headerSize]byte
	putHeader(frame[:], id, framePing, 0)
	k.start = l.appended
	l.calls[id] = k
	l.pings++
	l.add(frame[:])
	l.mu.Unlock()
	return l.start()
}
