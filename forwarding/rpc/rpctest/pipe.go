// Package rpctest has what tests of sessions need: a pair of sessions in memory
// and the conformance suite that every rpc.Session passes.
package rpctest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"landbridge/forwarding/rpc"
)

// window is how much one direction of a stream holds before its writer waits.
const window = 256 << 10

// Pipe returns the two ends of a session in memory without delay. It works in
// synctest bubbles and starts no goroutine.
func Pipe() (a, b rpc.Session) {
	l := NewLink(0)
	return l.A, l.B
}

// Link is a pair of sessions over a simulated link.
type Link struct {
	A, B *Session

	mu      sync.Mutex // guards everything of the link, its sessions and streams
	changed *sync.Cond // any change that somebody may wait for
	delay   time.Duration
	stalled bool
}

// NewLink returns a link that delivers each write after delay, in order.
func NewLink(delay time.Duration) *Link {
	l := &Link{delay: delay}
	l.changed = sync.NewCond(&l.mu)
	l.A, l.B = &Session{link: l}, &Session{link: l}
	l.A.other, l.B.other = l.B, l.A
	for _, s := range []*Session{l.A, l.B} {
		s.ctx, s.cancel = context.WithCancelCause(context.Background())
	}
	return l
}

// Stall holds back everything written, in both directions, while on: a frozen
// peer or a cut cable. What was held back arrives when it is off again.
func (l *Link) Stall(on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stalled = on
	l.changed.Broadcast()
}

// Session is one end of a Link.
type Session struct {
	link    *Link
	other   *Session
	ctx     context.Context
	cancel  context.CancelCauseFunc
	backlog []*conn // opened by the other side, not accepted yet
}

// OpenStream opens a stream; the other side sees it with its first byte.
func (s *Session) OpenStream(ctx context.Context) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	s.link.mu.Lock()
	defer s.link.mu.Unlock()
	if err := s.err(); err != nil {
		return nil, err
	}
	a, b := &conn{s: s}, &conn{s: s.other}
	a.peer, b.peer = b, a
	a.opener = true
	return a, nil
}

// AcceptStream waits for a stream of the other side.
func (s *Session) AcceptStream(ctx context.Context) (net.Conn, error) {
	l := s.link
	defer l.wakeWhen(ctx)()
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		switch {
		case s.err() != nil:
			return nil, s.err()
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case len(s.backlog) > 0:
			c := s.backlog[0]
			s.backlog = s.backlog[1:]
			return c, nil
		}
		l.changed.Wait()
	}
}

// CloseWithCause ends both ends of the link.
func (s *Session) CloseWithCause(cause error) error {
	if cause == nil {
		cause = net.ErrClosed
	}
	l := s.link
	l.mu.Lock()
	defer l.mu.Unlock()
	s.cancel(cause)
	s.other.cancel(fmt.Errorf("closed by the other side: %s", cause))
	l.changed.Broadcast()
	return nil
}

// Abandon ends this end only. The other side hears nothing of it, as when a host
// loses its power.
func (s *Session) Abandon(cause error) {
	l := s.link
	l.mu.Lock()
	defer l.mu.Unlock()
	s.cancel(cause)
	l.changed.Broadcast()
}

// Context is done when the session has ended.
func (s *Session) Context() context.Context { return s.ctx }

func (s *Session) err() error { return context.Cause(s.ctx) }

// wakeWhen has waiters look again when ctx ends.
func (l *Link) wakeWhen(ctx context.Context) (stop func()) {
	if ctx.Done() == nil {
		return func() {}
	}
	f := context.AfterFunc(ctx, func() {
		l.mu.Lock()
		l.changed.Broadcast()
		l.mu.Unlock()
	})
	return func() { f() }
}

// conn is one end of a stream. Everything is guarded by the link's mu.
type conn struct {
	s      *Session
	peer   *conn
	opener bool
	shown  bool // to the other side

	in      []chunk   // written by the peer
	held    int       // bytes in it
	closed  bool      // by us
	gone    time.Time // when the other side learns of that
	writing bool      // one Write at a time
	rd, wd  deadline
}

type chunk struct {
	due  time.Time
	data []byte
}

type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

// later reports whether due is still to come, and has waiters look again then.
func (l *Link) later(due time.Time) bool {
	if l.delay == 0 {
		return false
	}
	wait := time.Until(due)
	if wait > 0 {
		time.AfterFunc(wait, func() {
			l.mu.Lock()
			l.changed.Broadcast()
			l.mu.Unlock()
		})
	}
	return wait > 0
}

func (c *conn) Read(b []byte) (int, error) {
	l := c.s.link
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		switch {
		case c.closed:
			return 0, net.ErrClosed
		case c.s.err() != nil:
			return 0, c.s.err()
		case c.rd.passed():
			return 0, os.ErrDeadlineExceeded
		case len(c.in) > 0 && !l.stalled:
			if l.later(c.in[0].due) {
				break
			}
			n := 0
			for len(c.in) > 0 && n < len(b) && (l.delay == 0 || !time.Now().Before(c.in[0].due)) {
				k := copy(b[n:], c.in[0].data)
				n += k
				if c.in[0].data = c.in[0].data[k:]; len(c.in[0].data) == 0 {
					c.in = c.in[1:]
				}
			}
			c.held -= n
			l.changed.Broadcast()
			return n, nil
		case len(c.in) == 0 && c.peer.closed && !l.stalled:
			if l.later(c.peer.gone) {
				break
			}
			return 0, io.EOF
		}
		l.changed.Wait()
	}
}

func (c *conn) Write(b []byte) (int, error) {
	l := c.s.link
	l.mu.Lock()
	defer l.mu.Unlock()
	for c.writing && !c.closed {
		l.changed.Wait()
	}
	c.writing = true
	defer func() { c.writing = false; l.changed.Broadcast() }()
	n := 0
	for {
		switch p := c.peer; {
		case c.closed:
			return n, net.ErrClosed
		case c.s.err() != nil:
			return n, c.s.err()
		case p.closed && !l.stalled && !l.later(p.gone):
			return n, errors.New("stream closed by the other side")
		case c.wd.passed():
			return n, os.ErrDeadlineExceeded
		case n == len(b):
			return n, nil
		case p.held < window:
			if c.opener && !c.shown {
				c.shown = true
				p.s.backlog = append(p.s.backlog, p)
			}
			k := min(len(b)-n, window-p.held)
			p.in = append(p.in, chunk{time.Now().Add(l.delay), append([]byte(nil), b[n:n+k]...)})
			p.held += k
			n += k
			l.changed.Broadcast()
			continue
		}
		l.changed.Wait()
	}
}

func (c *conn) Close() error {
	l := c.s.link
	l.mu.Lock()
	defer l.mu.Unlock()
	if !c.closed {
		c.closed, c.gone, c.in = true, time.Now().Add(l.delay), nil
	}
	for _, d := range []*deadline{&c.rd, &c.wd} {
		if d.timer != nil {
			d.timer.Stop()
		}
	}
	l.changed.Broadcast()
	return nil
}

func (c *conn) SetDeadline(t time.Time) error {
	c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

func (c *conn) SetReadDeadline(t time.Time) error  { return c.setDeadline(&c.rd, t) }
func (c *conn) SetWriteDeadline(t time.Time) error { return c.setDeadline(&c.wd, t) }

func (c *conn) setDeadline(d *deadline, t time.Time) error {
	l := c.s.link
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	d.at = t
	if d.timer != nil {
		d.timer.Stop()
	}
	if !t.IsZero() {
		d.timer = time.AfterFunc(time.Until(t), func() {
			l.mu.Lock()
			l.changed.Broadcast()
			l.mu.Unlock()
		})
	}
	l.changed.Broadcast()
	return nil
}

// Addr of a session in memory.
type Addr struct{}

func (Addr) Network() string { return "memory" }
func (Addr) String() string  { return "memory" }

func (c *conn) LocalAddr() net.Addr  { return Addr{} }
func (c *conn) RemoteAddr() net.Addr { return Addr{} }
