package rpc

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landbridge/store"
)

// ServerConfig configures a Server. Handler is required.
type ServerConfig struct {
	Handler    Doer
	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil: no metrics

	MaxInFlight int // calls that run at once per session, blocking ones apart; default 4096
	MaxBlocking int // blocking queries that wait at once per session; default 16384
	MaxBytes    int // of requests being received or answered, all sessions together; default 256 MB
	// BulkBytes is the size from which an answer gets a stream of its own; default
	// 32 KB for sessions from another datacenter, where loss in one stream holds
	// up no other, and 256 KB in ours: there all streams share one TCP connection,
	// and a fresh yamux stream costs three times the copy of 60 KB in a lane.
	BulkBytes int
	MaxBody   int // largest answer sent; default 64 MB
	// Lost is called when a session from this datacenter whose agent told its name
	// (ClientConfig.Self) has ended by itself or by the agent's doing, and not by ours.
	// The name is hearsay. It must not block; nil: nobody is told.
	Lost func(agent string)

	DrainTime time.Duration // how long calls under way may go on when ServeSession's context ends; default 1 s
}

const (
	// maxBulkRequest is the largest request accepted: a few values of the largest
	// size that users may set.
	maxBulkRequest = 16 << 20
	// maxStreams is how many streams one session may have open towards us.
	maxStreams = 1024
	// maxByteStreams is how many of them may carry bytes: snapshots, which cost a
	// disk or the whole state each.
	maxByteStreams = 4
	// streamTimeout bounds the pauses inside what ought to come in one go.
	streamTimeout = 10 * time.Second
	// firstStream is how long a session that is about to end waits for its first
	// stream: clients connect when they have a call to make.
	firstStream = 100 * time.Millisecond
)

func (c *ServerConfig) setDefaults() {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&c.MaxInFlight, 4096)
	def(&c.MaxBlocking, 16384)
	def(&c.MaxBytes, 256<<20)
	c.BulkBytes = min(c.BulkBytes, maxLaneAnswer-envelopeRoom)
	def(&c.MaxBody, 64<<20)
	if c.DrainTime <= 0 {
		c.DrainTime = time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

// Server answers the calls that arrive on sessions. It starts nothing by
// itself: each ServeSession owns its goroutines and ends with all of them.
type Server struct {
	cfg     ServerConfig
	z       *compressor
	metrics *serverMetrics
	workers workers
	bytes   atomic.Int64 // of requests held
	shelf   shelf
}

// NewServer makes a server.
func NewServer(cfg ServerConfig) *Server {
	cfg.setDefaults()
	s := &Server{cfg: cfg, z: newCompressor(maxBulkRequest), metrics: newServerMetrics(cfg.Registerer)}
	s.shelf.metrics = s.metrics
	return s
}

// session is one session that is being served.
type session struct {
	s      *Server
	sess   Session
	origin Origin
	peer   string

	bulk int // answers from this size on get a stream of their own

	stopping atomic.Bool  // new calls are refused
	running  atomic.Int64 // calls begun and not finished
	small    atomic.Int64 // of them, those that do not block
	blocking atomic.Int64 // of them, those that do
	streams  atomic.Int64
	opened   atomic.Bool  // there was a stream
	bytes    atomic.Int64 // of streams, those that carry bytes
	lanes    atomic.Int64
	asked    atomic.Bool            // a call came
	agent    atomic.Pointer[string] // its name, if it told
	idle     chan struct{}          // holds 1: stopping, and running or streams may have become 0

	readers sync.WaitGroup // one per stream

	mu   sync.Mutex // guards over and open
	over bool
	open map[stream]struct{} // everything with calls
}

// stream is a lane, or a call's own stream.
type stream interface {
	stop()     // ends the contexts of calls that block, and tells the client to leave
	endCalls() // ends the contexts of all its calls
}

// ServeSession answers calls on sess until it ends or ctx does, and returns why.
// It takes sess over. When ctx ends, new calls are refused with KindUnreachable,
// those under way have DrainTime to finish, then their contexts end; the session
// is closed last.
//
// origin and peer become Request.Origin and Request.Peer of each call. peer is
// the name that the transport has authenticated; without one, methods for
// servers (ServerResource) are refused. Who runs a network of trusted machines
// without TLS passes the address instead: that is a decision of the caller.
func (s *Server) ServeSession(ctx context.Context, sess Session, origin Origin, peer string) error {
	n := &session{s: s, sess: sess, origin: origin, peer: peer, idle: make(chan struct{}, 1), open: make(map[stream]struct{})}
	switch {
	case s.cfg.BulkBytes > 0:
		n.bulk = s.cfg.BulkBytes
	case origin == FromWAN:
		n.bulk = 32 << 10
	default:
		n.bulk = 256 << 10
	}
	s.metrics.sessions.Inc()
	defer s.metrics.sessions.Dec()
	s.workers.join()
	defer s.workers.leave()

	err := n.accept(ctx)
	n.stopping.Store(true)
	if cause := context.Cause(sess.Context()); cause != nil {
		err = cause
	} else if ctx.Err() != nil {
		n.drain()
		err = context.Cause(ctx)
	}
	n.endCalls()
	// The calls see their contexts end; closing the session ends their writes.
	sess.CloseWithCause(err)
	n.readers.Wait()
	for n.running.Load() > 0 {
		<-n.idle
	}
	if name := n.agent.Load(); name != nil && s.cfg.Lost != nil && ctx.Err() == nil {
		s.cfg.Lost(*name)
	}
	return err
}

// accept takes streams until the session or ctx ends.
func (n *session) accept(ctx context.Context) error {
	for {
		conn, err := n.sess.AcceptStream(ctx)
		if err != nil {
			return err
		}
		n.opened.Store(true)
		if n.streams.Add(1) > maxStreams {
			n.streams.Add(-1)
			n.s.metrics.refused["streams"].Inc()
			conn.Close()
			continue
		}
		n.readers.Go(func() {
			defer func() {
				if n.streams.Add(-1) == 0 {
					n.wake()
				}
			}()
			defer conn.Close()
			n.serveStream(conn)
		})
	}
}

// drain lets calls under way finish and the client leave: at most DrainTime for
// the first, and again for last words and the leaving. A client that has just come
// is told to go elsewhere, too: a connection that only ends leaves open whether its
// calls were run.
func (n *session) drain() {
	late, cancel := context.WithCancel(context.Background())
	n.readers.Go(func() { n.accept(late) })
	defer cancel()
	// Blocking queries would wait out any time: their callers ask another server.
	n.eachStream(func(e stream) { e.stop() })
	timeout := time.NewTimer(n.s.cfg.DrainTime)
	defer timeout.Stop()
	var first <-chan time.Time
	if !n.opened.Load() {
		first = time.After(min(firstStream, n.s.cfg.DrainTime))
	}
	ended := false
	for n.running.Load() > 0 || n.streams.Load() > 0 || first != nil && !n.opened.Load() {
		select {
		case <-first:
			first = nil
		case <-n.idle:
		case <-n.sess.Context().Done():
			return
		case <-timeout.C:
			if ended {
				return
			}
			ended = true
			n.endCalls()
			timeout.Reset(n.s.cfg.DrainTime)
		}
	}
}

// begin counts a call in; false if the session is ending.
func (n *session) begin() bool {
	n.running.Add(1)
	if n.stopping.Load() {
		n.finish()
		return false
	}
	return true
}

// finish counts a call out.
func (n *session) finish() {
	if n.running.Add(-1) == 0 {
		n.wake()
	}
}

// wake has drain, or the end of ServeSession, look again.
func (n *session) wake() {
	if n.stopping.Load() {
		select {
		case n.idle <- struct{}{}:
		default:
		}
	}
}

// endCalls ends the contexts of all calls, and of those to come.
func (n *session) endCalls() {
	n.mu.Lock()
	n.over = true
	n.mu.Unlock()
	n.eachStream(func(e stream) { e.endCalls() })
}

func (n *session) eachStream(f func(stream)) {
	n.mu.Lock()
	all := make([]stream, 0, len(n.open))
	for e := range n.open {
		all = append(all, e)
	}
	n.mu.Unlock()
	for _, e := range all {
		f(e)
	}
}

// watch has e end with the session; the result takes it out again.
func (n *session) watch(e stream) (unwatch func()) {
	n.mu.Lock()
	n.open[e] = struct{}{}
	over := n.over
	n.mu.Unlock()
	if n.stopping.Load() {
		e.stop()
	}
	if over {
		e.endCalls()
	}
	return func() {
		n.mu.Lock()
		delete(n.open, e)
		n.mu.Unlock()
	}
}

// reserve takes n bytes out of what all requests together may hold.
func (s *Server) reserve(n int) error {
	if s.bytes.Add(int64(n)) > int64(s.cfg.MaxBytes) {
		s.bytes.Add(int64(-n))
		s.metrics.refused["bytes"].Inc()
		return store.Errorf(store.KindRateLimited, "this server holds requests of %d bytes already, it accepts no more", s.cfg.MaxBytes)
	}
	return nil
}

// serveStream runs one accepted stream.
func (n *session) serveStream(conn net.Conn) {
	conn.SetReadDeadline(time.Now().Add(streamTimeout))
	kind, err := readPreamble(conn)
	if err == nil {
		conn.SetReadDeadline(time.Time{})
		switch kind {
		case streamLane:
			err = n.serveLane(conn)
		case streamCall:
			err = n.serveCall(conn)
		case streamBytes:
			err = n.serveBytes(conn)
		case streamPiece:
			err = n.servePiece(conn)
		default:
			err = store.Errorf(store.KindInvalid, "a stream of kind %d is not answered", kind)
		}
	}
	if err == nil || n.sess.Context().Err() != nil || n.stopping.Load() && err != errStopping {
		return
	}
	var e *store.Error
	if !errors.As(err, &e) {
		return // the stream broke or timed out: nobody to tell
	}
	if err == errStopping {
		n.s.metrics.refused["stopping"].Inc()
		// The caller closes the stream once it has read that.
		defer io.Copy(io.Discard, conn)
		conn.SetReadDeadline(time.Now().Add(n.s.cfg.DrainTime))
	} else {
		n.s.metrics.refused["protocol"].Inc()
		n.s.cfg.Logger.Debug("stream refused", "peer", n.peer, "err", err)
	}
	b := appendError(make([]byte, headerSize), err)
	putHeader(b, 0, frameError, 0)
	conn.SetWriteDeadline(time.Now().Add(streamTimeout))
	conn.Write(b)
}
