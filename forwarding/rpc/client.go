package rpc

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"landbridge/store"
)

// ClientConfig says how a client uses its session. The zero value works.
type ClientConfig struct {
	Name string // of the peer, in errors
	Addr string // of the peer, in errors
	// Self is what this agent is called; the server is told, and can tell whose session
	// ended (ServerConfig.Lost). "": it is not told.
	Self string

	Lanes       int  // long-lived streams; default 1. Several keep loss in one from delaying all.
	MaxInFlight int  // calls waiting at once; default 16384
	BulkBytes   int  // a request with a larger envelope gets a stream of its own; default 32 KB
	MaxBody     int  // largest answer accepted; default 64 MB
	Compress    bool // bodies over 1 KB travel compressed, both ways: for the WAN
	// Bulk is how many more connections a Pool opens to the server, one after
	// another, for answers of 256 KB and more: for the WAN. 0: they come over this one.
	Bulk int

	// PingEvery is the least time between the pings of a client that waits;
	// default 250 ms, below 0: no pings. Twice the round trip is used if larger.
	PingEvery time.Duration
	// RTT is the transport's estimate of the round trip, 0 = unknown; may be nil.
	RTT func() time.Duration

	Metrics *ClientMetrics // nil: none

	bulk *bulkConns // set by a Pool if Bulk is
}

func (c *ClientConfig) setDefaults() {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&c.Lanes, 1)
	c.Lanes = min(c.Lanes, maxLanes)
	def(&c.MaxInFlight, 16384)
	def(&c.BulkBytes, 32<<10)
	c.BulkBytes = min(c.BulkBytes, maxLaneRequest)
	def(&c.MaxBody, 64<<20)
	if c.PingEvery == 0 {
		c.PingEvery = 250 * time.Millisecond
	}
}

const (
	maxLanes = 64 // per session, on both sides
	// maxLaneRequest and maxLaneAnswer are the largest frames accepted in a lane.
	maxLaneRequest = 64 << 10
	maxLaneAnswer  = 1 << 20
	// envelopeRoom is what an answer's envelope needs beside its body.
	envelopeRoom = 128
)

// reserve is what a hop keeps of the time that is left, so that it can still say
// where a request was lost when the next one does not answer.
func reserve(remaining time.Duration) time.Duration {
	return min(remaining/20, 50*time.Millisecond)
}

// Client calls the other side of one session. It ends with its session and is
// not used again; see Pool.
type Client struct {
	cfg  ClientConfig
	sess Session
	peer string
	via  string
	z    *compressor

	stopping atomic.Bool // the server said so: no new calls; the last answer ends the client
	nextID   atomic.Uint32
	inFlight atomic.Int64
	lanes    []*clientLane
	calls    sync.Pool // of *call; a channel may not wander between test bubbles

	live liveness

	ctx    context.Context // ends with the client; its cause says why
	cancel context.CancelCauseFunc
	failed sync.Once
	wg     sync.WaitGroup // readers and writers of lanes, the acceptor and answers

	startMu sync.Mutex // guards wg.Add against Close
	stopped bool
}

type call struct {
	done  chan Outcome // holds 2; each call in a lane's map gets exactly one end
	start uint64       // the frame's position in its lane
	tick  time.Time    // not zero: a ping of the liveness check, nobody waits
	told  bool         // that its answer is laid apart, or nobody wants to know; guarded by its lane's lock
}

// NewClient makes a client over sess and takes it over: Close ends it. The
// session's accepted streams belong to the client from now on.
func NewClient(sess Session, cfg ClientConfig) *Client {
	cfg.setDefaults()
	c := &Client{cfg: cfg, sess: sess, peer: peerLabel(cfg.Name, cfg.Addr)}
	if s, ok := sess.(interface{ Via() string }); ok {
		c.via = s.Via()
	}
	if cfg.Compress {
		c.z = newCompressor(cfg.MaxBody)
	}
	if c.cfg.Metrics == nil {
		c.cfg.Metrics = NewClientMetrics(nil)
	}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.calls.New = func() any { return &call{done: make(chan Outcome, 2)} }
	c.lanes = make([]*clientLane, cfg.Lanes)
	for i := range c.lanes {
		c.lanes[i] = newClientLane(c)
	}
	c.live.start(c)
	c.spawn(c.acceptAnswers)
	return c
}

// spawn starts a goroutine that Close waits for; false after the client ended.
func (c *Client) spawn(f func()) bool {
	c.startMu.Lock()
	defer c.startMu.Unlock()
	if c.stopped {
		return false
	}
	c.wg.Go(f)
	return true
}

// Done is closed when the client can make no more calls; Err then says why.
func (c *Client) Done() <-chan struct{} { return c.ctx.Done() }

// Err returns why the client ended, nil while it has not.
func (c *Client) Err() error {
	if c.ctx.Err() == nil {
		return nil
	}
	return context.Cause(c.ctx)
}

// Usable reports whether the client may still take calls: it has not ended, and
// its server is not stopping.
func (c *Client) Usable() bool { return c.ctx.Err() == nil && !c.stopping.Load() }

// Peer returns the name and address of the other side, for messages.
func (c *Client) Peer() string { return c.peer }

// Via is the server that the session runs through, "" if it has a path of its own.
func (c *Client) Via() string { return c.via }

// InFlight returns how many calls wait for an answer.
func (c *Client) InFlight() int { return int(c.inFlight.Load()) }

// RTT returns the smoothed round trip of pings, or the transport's, 0 = unknown.
func (c *Client) RTT() time.Duration { return c.live.rtt() }

// Missed returns how many pings in a row went unanswered.
func (c *Client) Missed() int { return int(c.live.missed.Load()) }

// Heard counts the signs of life from the peer.
func (c *Client) Heard() uint64 { return c.live.heard.Load() }

// Knock pings the peer at once, without waiting for the answer.
func (c *Client) Knock() { c.live.knock() }

// Close ends the session; waiting calls fail as on a lost connection. It
// returns when all goroutines of the client have ended.
func (c *Client) Close() error {
	c.fail(errClientClosed)
	c.wg.Wait()
	return nil
}

// fail ends the client: every waiting call gets its error at once, then the
// session is closed. Idempotent; the first cause stays.
func (c *Client) fail(cause error) {
	c.failed.Do(func() {
		c.startMu.Lock()
		c.stopped = true
		c.startMu.Unlock()
		c.cancel(cause)
		c.live.stop()
		for _, l := range c.lanes {
			l.failCalls(cause)
		}
		c.sess.CloseWithCause(cause)
		c.cfg.Metrics.ended(cause)
	})
}

// Do sends req to the peer and waits for its answer. See the package for which
// error a call gets when its session ends.
func (c *Client) Do(ctx context.Context, req *Request) (*Response, error) {
	m, remaining, err := c.admit(ctx, req)
	if err != nil {
		return nil, err
	}
	counted := true
	defer func() {
		c.cfg.Metrics.inFlight.Dec()
		if counted {
			c.done()
		}
	}()
	buf := getBuffer()
	defer putBuffer(buf)
	b := append((*buf)[:0], make([]byte, headerSize)...)
	b = appendRequest(b, req, remaining-reserve(remaining), c.z, c.cfg.bulk != nil)
	*buf = b
	if m.Stream {
		counted = false // until its stream is closed
		return c.doBytes(ctx, m, b, req.Upload)
	}
	if len(b) > c.cfg.BulkBytes {
		return c.doStream(ctx, m, b)
	}
	r, err := c.roundTrip(ctx, m, b, frameRequest)
	if err != nil {
		return nil, err
	}
	return c.answer(m, r.typ, r.payload)
}

// admit counts a call in that may be sent. remaining is its time, 0 if it has no
// deadline.
func (c *Client) admit(ctx context.Context, req *Request) (m *Method, remaining time.Duration, err error) {
	if m = Lookup(req.Method); m == nil {
		return nil, 0, store.Errorf(store.KindInvalid, "method number %d does not exist", req.Method)
	}
	if ctx.Err() != nil {
		return nil, 0, c.errEnded(ctx, m, false)
	}
	if at, ok := ctx.Deadline(); ok {
		if remaining = time.Until(at); remaining <= 0 {
			// The context is about to end by itself: its words are made here.
			return nil, 0, store.Errorf(store.KindTimeout, "%s to %s was not sent, no time left: %w", m.Name, c.peer, context.DeadlineExceeded)
		}
	}
	n := c.inFlight.Add(1)
	switch {
	case c.stopping.Load():
		err = c.errNotSent(m, errPeerStopping)
	case n > int64(c.cfg.MaxInFlight):
		c.cfg.Metrics.refused.Inc()
		err = store.Errorf(store.KindRateLimited, "%s to %s was not sent: %d calls are waiting for this server", m.Name, c.peer, c.cfg.MaxInFlight)
	}
	if err != nil {
		c.done()
		return nil, 0, err
	}
	c.cfg.Metrics.inFlight.Inc()
	c.live.arm()
	return m, remaining, nil
}

// leaveCall counts a call out that admit counted in.
func (c *Client) leaveCall() {
	c.cfg.Metrics.inFlight.Dec()
	c.done()
}

// Ping waits for the peer to answer a frame; its server's handler is not asked.
func (c *Client) Ping(ctx context.Context) error {
	m := Lookup(Ping)
	c.inFlight.Add(1)
	defer c.done()
	c.live.arm()
	begin := time.Now()
	r, err := c.roundTrip(ctx, m, make([]byte, headerSize), framePing)
	if err != nil {
		return err
	}
	if r.typ == frameError {
		return fmt.Errorf("%s to %s: %w", m.Name, c.peer, decodeError(r.payload))
	}
	c.live.measured(time.Since(begin))
	return nil
}

// done counts a call out. The last one ends the client of a stopping server.
func (c *Client) done() {
	if c.inFlight.Add(-1) == 0 && c.stopping.Load() {
		c.fail(errPeerStopping)
	}
}

// leave begins to end the client, whose server is stopping.
func (c *Client) leave() {
	c.stopping.Store(true)
	if c.inFlight.Load() == 0 {
		c.fail(errPeerStopping)
	}
}

// newID returns the next id; 0 is no call's.
func (c *Client) newID() uint32 {
	for {
		if id := c.nextID.Add(1); id != 0 {
			return id
		}
	}
}

// lane returns the lane of an id.
func (c *Client) lane(id uint32) *clientLane { return c.lanes[id%uint32(len(c.lanes))] }

// enqueue has one frame sent in a lane. The call waits there under the id. With tell
// it hears of its answer before that is here, if it is laid apart.
func (c *Client) enqueue(ctx context.Context, m *Method, frame []byte, typ byte, tell bool) (*clientLane, uint32, *call, error) {
	id := c.newID()
	lane := c.lane(id)
	k := c.calls.Get().(*call)
	k.tick, k.told = time.Time{}, !tell
	id, err := lane.submit(ctx, m, id, k, frame, typ)
	if err != nil {
		c.calls.Put(k)
		return nil, 0, nil, err
	}
	return lane, id, k, nil
}

// roundTrip sends one frame in a lane and waits for the frame with its id.
func (c *Client) roundTrip(ctx context.Context, m *Method, frame []byte, typ byte) (Outcome, error) {
	lane, id, k, err := c.enqueue(ctx, m, frame, typ, false)
	if err != nil {
		return Outcome{}, err
	}
	var r Outcome
	select {
	case r = <-k.done:
	case <-ctx.Done():
		if sent, mine := lane.forget(id, k); mine {
			c.calls.Put(k)
			return Outcome{}, c.errEnded(ctx, m, sent)
		}
		// The answer is already on its way from the reader to us.
		r = <-k.done
	}
	c.calls.Put(k)
	switch {
	case r.err == nil:
		return r, nil
	case r.sent:
		return r, c.errLost(m, r.err)
	default:
		return r, c.errNotSent(m, r.err)
	}
}

// answer turns an answer frame into what Do returns.
func (c *Client) answer(m *Method, typ byte, payload []byte) (*Response, error) {
	switch typ {
	case frameResponse:
		resp, err := decodeResponse(payload, c.z)
		if err != nil {
			return nil, c.errLost(m, err)
		}
		return resp, nil
	case frameError:
		return nil, answered{decodeError(payload)}
	}
	return nil, c.errLost(m, fmt.Errorf("frame of type %d instead of an answer", typ))
}

// doStream makes a call with a large envelope on a stream of its own. frame has
// room for its header.
func (c *Client) doStream(ctx context.Context, m *Method, frame []byte) (*Response, error) {
	if len(frame)-headerSize > maxBulkRequest {
		return nil, store.Errorf(store.KindTooLarge, "%s to %s was not sent: its %d bytes are more than the %d allowed", m.Name, c.peer, len(frame)-headerSize, maxBulkRequest)
	}
	conn, err := c.sess.OpenStream(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil, c.errEnded(ctx, m, false)
		}
		return nil, c.errNotSent(m, err)
	}
	defer conn.Close()
	// Closing the stream is how the server learns that the caller has gone.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	fail := func(err error) error {
		if ctx.Err() != nil {
			return c.errEnded(ctx, m, true)
		}
		if cause := c.Err(); cause != nil {
			err = cause
		}
		return c.errLost(m, err)
	}
	putHeader(frame, 1, frameRequest, 0)
	// Written apart: a server that refuses the request answers before it has
	// taken all of it. Reading the answer, or its end, ends the write.
	written := make(chan error, 1)
	defer func() { conn.Close(); <-written }()
	go func() {
		defer close(written)
		pre := appendPreamble(make([]byte, 0, preambleSize+len(frame)), streamCall)
		if _, err := conn.Write(append(pre, frame...)); err != nil {
			written <- err
		}
	}()
	br := bufio.NewReaderSize(conn, 4<<10)
	h, err := readHeader(br, c.cfg.MaxBody+envelopeRoom)
	if err != nil {
		return nil, fail(err)
	}
	payload, err := readPayload(br, int(h.n), nil)
	if err != nil {
		return nil, fail(err)
	}
	c.live.hear()
	return c.answer(m, h.typ, payload)
}

// acceptAnswers takes the streams on which the server sends bulky answers.
func (c *Client) acceptAnswers() {
	// More answers at once than calls waiting is not a server of ours.
	slots := make(chan struct{}, min(c.cfg.MaxInFlight, 1024))
	for {
		conn, err := c.sess.AcceptStream(c.ctx)
		if err != nil {
			if cause := context.Cause(c.sess.Context()); cause != nil {
				err = cause
			}
			// fail waits for nobody, so the acceptor may call it.
			c.fail(err)
			return
		}
		select {
		case slots <- struct{}{}:
		case <-c.ctx.Done():
			conn.Close()
			return
		}
		if !c.spawn(func() {
			defer func() { <-slots }()
			c.readAnswer(conn)
		}) {
			conn.Close()
			return
		}
	}
}

// readAnswer reads one answer stream and hands it to the call with its id.
func (c *Client) readAnswer(conn net.Conn) {
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(streamTimeout))
	br := bufio.NewReaderSize(conn, 4<<10)
	kind, err := readPreamble(br)
	if err != nil || kind != streamAnswer {
		return
	}
	h, err := readHeader(br, c.cfg.MaxBody+envelopeRoom)
	lane := c.lane(h.id)
	k := lane.find(h.id)
	if k == nil {
		return // cancelled meanwhile
	}
	var payload []byte
	if err == nil {
		payload, err = readPayload(br, int(h.n), func(int) error {
			c.live.hear()
			conn.SetReadDeadline(time.Now().Add(streamTimeout))
			if lane.find(h.id) != k {
				return io.ErrClosedPipe
			}
			return nil
		})
	}
	if err != nil {
		lane.deliver(h.id, k, Outcome{err: fmt.Errorf("answer stream: %w", err), sent: true})
		return
	}
	lane.deliver(h.id, k, Outcome{typ: h.typ, payload: payload})
}
