package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/yamux"

	"landbridge/metrics/stdlog"
)

// Session is one RPC connection: yamux over TCP or TLS. It satisfies
// forwarding/rpc's Session.
type Session struct {
	mux    *yamux.Session
	conn   net.Conn
	id     identity
	ctx    context.Context
	cancel context.CancelCauseFunc
	over   chan struct{} // closed when the watcher has ended
}

func muxConfig(logger *slog.Logger) *yamux.Config {
	c := yamux.DefaultConfig()
	c.LogOutput = nil
	c.Logger = stdlog.New(logger)
	c.KeepAliveInterval = 30 * time.Second
	c.ConnectionWriteTimeout = 10 * time.Second
	// A peer that does not accept a stream for so long is given up.
	c.StreamOpenTimeout = 30 * time.Second
	// A stream closed by us that the peer keeps open is reset after so long. A
	// slow reader must by then have taken what we wrote before we closed.
	c.StreamCloseTimeout = 30 * time.Second
	return c
}

// newSession runs yamux on conn. Its watcher ends with the connection.
func newSession(conn net.Conn, server bool, id identity, logger *slog.Logger) (*Session, error) {
	start := yamux.Client
	if server {
		start = yamux.Server
	}
	mux, err := start(newJoinWriter(conn), muxConfig(logger))
	if err != nil {
		return nil, err
	}
	s := &Session{mux: mux, conn: conn, id: id, over: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	go s.watch()
	return s, nil
}

// watch ends the context with the connection.
func (s *Session) watch() {
	defer close(s.over)
	<-s.mux.CloseChan()
	// yamux tells why only to those who accept.
	for {
		c, err := s.mux.AcceptStream()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = fmt.Errorf("connection closed by %s: %w", s.conn.RemoteAddr(), err)
			}
			s.cancel(err) // CloseWithCause was first if it was called
			return
		}
		c.Close()
	}
}

// OpenStream opens a stream; it exists for the other side at once.
func (s *Session) OpenStream(ctx context.Context) (net.Conn, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err := s.err(); err != nil {
		return nil, err
	}
	if ctx.Done() == nil {
		return s.opened(s.mux.OpenStream())
	}
	// yamux waits without a context while too many streams are not accepted yet.
	type result struct {
		c   *yamux.Stream
		err error
	}
	done := make(chan result)
	go func() { // ends with the open, at the latest with the session
		c, err := s.mux.OpenStream()
		select {
		case done <- result{c, err}:
		case <-ctx.Done():
			if err == nil {
				c.Close()
			}
		}
	}()
	select {
	case r := <-done:
		return s.opened(r.c, r.err)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (s *Session) opened(c *yamux.Stream, err error) (net.Conn, error) {
	if err != nil {
		if cause := s.err(); cause != nil {
			err = cause
		}
		return nil, err
	}
	return &streamConn{Stream: c, s: s}, nil
}

// AcceptStream waits for a stream that the other side opened.
func (s *Session) AcceptStream(ctx context.Context) (net.Conn, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	c, err := s.mux.AcceptStreamWithContext(ctx)
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return s.opened(c, err)
}

// CloseWithCause ends the session. The other side sees its connection end; the
// cause does not reach it.
func (s *Session) CloseWithCause(cause error) error {
	if cause == nil {
		cause = net.ErrClosed
	}
	s.cancel(cause)
	err := s.mux.Close()
	<-s.over
	return err
}

// Context is done when the session has ended; its cause says why.
func (s *Session) Context() context.Context { return s.ctx }

func (s *Session) err() error {
	if s.mux.IsClosed() {
		<-s.ctx.Done() // the watcher is about to say why
	}
	return context.Cause(s.ctx)
}

// RemoteAddr is the connection's other end.
func (s *Session) RemoteAddr() net.Addr { return s.conn.RemoteAddr() }

// Peer returns the name in the certificate that the other side has proved, ""
// without TLS or without its certificate.
func (s *Session) Peer() string { return s.id.name }

// FromServer reports whether the other side's certificate is one of a server of
// this datacenter. Without TLS there is no telling: false.
func (s *Session) FromServer() bool { return s.id.server }

// streamConn gives yamux's stream the habits of a net.Conn: Close ends pending
// reads and writes, and a stream that ended with its session says why.
type streamConn struct {
	*yamux.Stream
	s      *Session
	closed atomic.Bool
	once   sync.Once
}

func (c *streamConn) Read(b []byte) (int, error) {
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	n, err := c.Stream.Read(b)
	return n, c.error(err)
}

func (c *streamConn) Write(b []byte) (int, error) {
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	n, err := c.Stream.Write(b)
	return n, c.error(err)
}

func (c *streamConn) error(err error) error {
	switch {
	case err == nil:
		return nil
	case c.closed.Load():
		return net.ErrClosed
	case c.s.mux.IsClosed():
		return c.s.err()
	}
	return err
}

func (c *streamConn) Close() error {
	var err error
	c.once.Do(func() {
		c.closed.Store(true)
		c.Stream.SetDeadline(time.Unix(1, 0))
		err = c.Stream.Close()
	})
	return err
}

func (c *streamConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *streamConn) SetReadDeadline(t time.Time) error {
	return c.setDeadline(c.Stream.SetReadDeadline, t)
}

func (c *streamConn) SetWriteDeadline(t time.Time) error {
	return c.setDeadline(c.Stream.SetWriteDeadline, t)
}

// setDeadline must not undo Close's.
func (c *streamConn) setDeadline(set func(time.Time) error, t time.Time) error {
	err := set(t)
	if c.closed.Load() {
		set(time.Unix(1, 0))
		return net.ErrClosed
	}
	return err
}
