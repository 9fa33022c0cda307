package rpc

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"landbridge/store"
)

// A large answer between datacenters is laid apart: its caller gets a ticket in
// the lane and fetches the answer in pieces over connections that carry nothing
// else. So calls that wait in lanes share no congestion window with it, and it is
// not held to one: a window shrinks with each lost packet, whoever has it. An
// answer begins with the connections that are there, one at least, and adds one
// after another while it is not whole; with one alone while packets wait in the
// path's queues.

const (
	apartBytes = 256 << 10 // an answer's size, packed, from which it is laid apart
	pieceBytes = 128 << 10
	// pieceWorkers is how many pieces are asked for at once on one connection: the
	// next one is on its way while one arrives.
	pieceWorkers = 2
	// growEvery is the least time between two more connections for one answer; four
	// round trips if that is longer.
	growEvery = 100 * time.Millisecond
	// apartHeld is how many bytes of answers a server keeps apart, all peers
	// together. Those beyond it travel whole.
	apartHeld = 256 << 20
)

type ticket [16]byte

// The frame that carries a ticket, and the request for a piece.
const (
	ticketSize = len(ticket{}) + 4     // ticket, the answer's size
	pieceSize  = len(ticket{}) + 4 + 4 // ticket, offset, bytes; none: all is here
)

// shelf keeps answers until they are fetched, or nobody has asked for streamTimeout.
type shelf struct {
	metrics *serverMetrics

	mu    sync.Mutex
	items map[ticket]*shelved
	bytes int
}

type shelved struct {
	peer       string
	head, body []byte
	expiry     *time.Timer
}

func (a *shelved) size() int { return len(a.head) + len(a.body) }

// put keeps an answer for a peer; false if there is no room. Neither part may
// change any more.
func (s *shelf) put(peer string, head, body []byte) (t ticket, ok bool) {
	a := &shelved{peer: peer, head: head, body: body}
	rand.Read(t[:])
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bytes+a.size() > apartHeld {
		return t, false
	}
	if s.items == nil {
		s.items = make(map[ticket]*shelved)
	}
	s.items[t] = a
	s.bytes += a.size()
	s.metrics.apart.Set(float64(s.bytes))
	a.expiry = time.AfterFunc(streamTimeout, func() { s.drop(t) })
	return t, true
}

// get returns an answer kept for a peer, nil if there is none, and keeps it on.
func (s *shelf) get(t ticket, peer string) *shelved {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.items[t]
	if a == nil || a.peer != peer {
		return nil
	}
	a.expiry.Reset(streamTimeout)
	return a
}

func (s *shelf) drop(t ticket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.items[t]; a != nil {
		a.expiry.Stop()
		delete(s.items, t)
		s.bytes -= a.size()
		s.metrics.apart.Set(float64(s.bytes))
	}
}

// ticket lays an answer apart and sends its ticket; false if there is no room.
// frame is a header and what comes before body; it is copied.
func (k *serverCall) ticket(frame, body []byte) bool {
	head := bytes.Clone(frame[headerSize:])
	t, ok := k.n.s.shelf.put(k.n.peer, head, body)
	if !ok {
		return false
	}
	b := append(make([]byte, headerSize, headerSize+ticketSize), t[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(head)+len(body)))
	putHeader(b, k.id, frameApart, 0)
	k.lane.finish(k.id, b, nil)
	return true
}

// servePiece answers the one request of a stream: a piece of an answer laid apart.
func (n *session) servePiece(conn net.Conn) error {
	if !n.begin() {
		return errStopping
	}
	defer n.finish()
	conn.SetReadDeadline(time.Now().Add(streamTimeout))
	var req [pieceSize]byte
	if _, err := io.ReadFull(conn, req[:]); err != nil {
		return err
	}
	t, rest := ticket(req[:len(ticket{})]), req[len(ticket{}):]
	offset, size := int(binary.BigEndian.Uint32(rest)), int(binary.BigEndian.Uint32(rest[4:]))
	if !n.asked.Load() { // else the peer got no other connection
		forBulk(n.sess)
	}
	a := n.s.shelf.get(t, n.peer)
	switch {
	case a == nil:
		return store.Errorf(store.KindUnreachable, "the answer is not kept here any more")
	case size == 0:
		n.s.shelf.drop(t)
		return nil
	case size > pieceBytes || offset+size > a.size():
		return store.Errorf(store.KindInvalid, "%d bytes from %d on of an answer of %d are asked for", size, offset, a.size())
	}
	b := make([]byte, headerSize, headerSize+size)
	if offset < len(a.head) {
		b = append(b, a.head[offset:min(offset+size, len(a.head))]...)
	}
	if have := len(b) - headerSize; have < size {
		from := offset + have - len(a.head)
		b = append(b, a.body[from:from+size-have]...)
	}
	putHeader(b, 1, frameData, 0)
	conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err := conn.Write(b)
	return err
}

// forBulk tells a session that can make use of it that it carries pieces alone.
func forBulk(sess Session) {
	if s, ok := sess.(interface{ ForBulk() }); ok {
		s.ForBulk()
	}
}

// fetch is an answer on its way in pieces.
type fetch struct {
	c    *Client
	lane *clientLane
	id   uint32
	k    *call
	t    ticket

	ctx    context.Context
	cancel context.CancelCauseFunc
	work   sync.WaitGroup

	mu     sync.Mutex
	size   int
	next   int      // the first piece that nobody fetches
	left   int      // pieces that are not here
	pieces [][]byte // allocated as they arrive, whatever size was announced
	err    error

	own chan struct{} // taken by who fetches over the call's own connection
}

var errWhole = fmt.Errorf("all pieces are here")

// fetchAnswer gets the answer that a ticket stands for and hands it to its call.
func (c *Client) fetchAnswer(l *clientLane, id uint32, k *call, frame []byte) {
	f := &fetch{c: c, lane: l, id: id, k: k, own: make(chan struct{}, pieceWorkers)}
	if len(frame) != ticketSize {
		l.deliver(id, k, Outcome{err: fmt.Errorf("a ticket of %d bytes", len(frame)), sent: true})
		return
	}
	copy(f.t[:], frame)
	if f.size = int(binary.BigEndian.Uint32(frame[len(f.t):])); f.size > c.cfg.MaxBody+envelopeRoom {
		l.deliver(id, k, Outcome{err: fmt.Errorf("%w: an answer of %d bytes is announced, at most %d are accepted", errFrameTooLarge, f.size, c.cfg.MaxBody), sent: true})
		return
	}
	f.left = (f.size + pieceBytes - 1) / pieceBytes
	f.pieces = make([][]byte, f.left)
	f.ctx, f.cancel = context.WithCancelCause(c.ctx)
	f.run()
	f.cancel(nil)
	f.work.Wait()
	if f.err != nil {
		l.deliver(id, k, Outcome{err: fmt.Errorf("answer in pieces: %w", f.err), sent: true})
		return
	}
	l.deliver(id, k, Outcome{typ: frameResponse, payload: bytes.Join(f.pieces, nil)})
}

// run adds connections until the answer is here or cannot be got.
func (f *fetch) run() {
	if f.left == 0 {
		return
	}
	bulk := f.c.cfg.bulk
	n := 1
	if !bulk.crowded() {
		n = max(n, bulk.ready())
	}
	for i := range n {
		f.start(i)
	}
	every := max(growEvery, 4*f.c.RTT())
	grow := time.NewTimer(every)
	defer grow.Stop()
	for {
		select {
		case <-f.ctx.Done():
			return
		case <-grow.C:
		}
		if n >= f.c.cfg.Bulk {
			continue
		}
		if !bulk.crowded() {
			f.start(n)
			n++
		}
		grow.Reset(every)
	}
}

// start fetches over one more connection, or over the call's own if that cannot be
// had.
func (f *fetch) start(i int) {
	f.work.Go(func() {
		via, err := f.c.cfg.bulk.get(f.ctx, i)
		if err != nil {
			via = f.c
		}
		for range pieceWorkers - 1 {
			f.work.Go(func() { f.fetch(via) })
		}
		f.fetch(via)
	})
}

// fetch gets pieces until there are none left to get.
func (f *fetch) fetch(via *Client) {
	for {
		f.mu.Lock()
		i := f.next
		f.next++
		f.mu.Unlock()
		if i >= len(f.pieces) || f.ctx.Err() != nil {
			return
		}
		from := i * pieceBytes
		size := min(pieceBytes, f.size-from)
		p, err := f.piece(via, from, size)
		if err != nil && via != f.c && f.ctx.Err() == nil {
			via = f.c // the connection ended; the call's own has not
			p, err = f.piece(via, from, size)
		}
		f.mu.Lock()
		if f.pieces[i] = p; err != nil && f.err == nil {
			f.err = err
		}
		f.left--
		whole := f.left == 0 && f.err == nil
		f.mu.Unlock()
		switch {
		case err != nil:
			f.cancel(err)
			return
		case whole:
			via.piece(f.ctx, f.t, 0, 0, nil) // the server may forget it; else it does so later
			f.cancel(errWhole)
			return
		}
	}
}

// piece gets one. Over the call's own connection no more than one connection for large
// answers would: what fills it holds up calls and pings.
func (f *fetch) piece(via *Client, from, size int) ([]byte, error) {
	if via == f.c {
		select {
		case f.own <- struct{}{}:
			defer func() { <-f.own }()
		case <-f.ctx.Done():
			return nil, context.Cause(f.ctx)
		}
	}
	return via.piece(f.ctx, f.t, from, size, f.wanted)
}

// wanted is called as bytes arrive; its error ends the fetching.
func (f *fetch) wanted() error {
	f.c.live.hear()
	if f.lane.find(f.id) != f.k {
		return io.ErrClosedPipe
	}
	return nil
}

// piece gets size bytes of an answer laid apart; none tells the server that all of
// it is here. progress is called as bytes arrive.
func (c *Client) piece(ctx context.Context, t ticket, from, size int, progress func() error) ([]byte, error) {
	c.inFlight.Add(1)
	defer c.done()
	if c.stopping.Load() {
		return nil, errPeerStopping
	}
	c.live.arm()
	conn, err := c.sess.OpenStream(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	conn.SetDeadline(time.Now().Add(streamTimeout))
	b := append(appendPreamble(make([]byte, 0, preambleSize+pieceSize), streamPiece), t[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(from))
	b = binary.BigEndian.AppendUint32(b, uint32(size))
	if _, err := conn.Write(b); err != nil || size == 0 {
		return nil, err
	}
	br := bufio.NewReaderSize(conn, 4<<10)
	h, err := readHeader(br, pieceBytes)
	if err != nil {
		return nil, err
	}
	p, err := readPayload(br, int(h.n), func(int) error {
		c.live.hear()
		conn.SetReadDeadline(time.Now().Add(streamTimeout))
		return progress()
	})
	switch {
	case err != nil:
		return nil, err
	case h.typ == frameError:
		return nil, decodeError(p)
	case h.typ != frameData || len(p) != size:
		return nil, fmt.Errorf("frame of type %d with %d bytes instead of %d", h.typ, len(p), size)
	}
	return p, nil
}

// bulkConns are the connections for pieces beside a client's own.
type bulkConns struct {
	pool *Pool
	of   server
	most int
}

func (b *bulkConns) key(i int) server {
	k := b.of
	k.bulk = i + 1
	return k
}

func (b *bulkConns) get(ctx context.Context, i int) (*Client, error) {
	return b.pool.get(ctx, b.key(i))
}

// ready is how many are connected.
func (b *bulkConns) ready() int {
	n := 0
	for n < b.most && b.pool.ready(b.key(n)) != nil {
		n++
	}
	return n
}

// crowded says that packets wait in a queue on the path, as the first connection
// sees it: then more connections would only make it longer.
func (b *bulkConns) crowded() bool {
	c := b.pool.ready(b.key(0))
	if c == nil {
		return false
	}
	s, ok := c.sess.(interface{ Crowded() bool })
	return ok && s.Crowded()
}
