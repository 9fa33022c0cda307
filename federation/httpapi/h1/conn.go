package h1

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// conn is one connection. One goroutine serves it.
type conn struct {
	s      *Server
	nc     net.Conn
	remote string
	// waiting is set while nothing of a request has come: Shutdown ends that.
	waiting atomic.Bool

	buf  *[bufferSize]byte // [r:w] is read and not used yet; nil while waiting
	r, w int
	// renewed is when the read deadline was last set for an idle connection, zero
	// if it has another. It is set again only now and then, see idle.
	renewed time.Time

	head head
	req  *http.Request
	body memory
	long []byte // memory for bodies that do not fit into buf
	resp response
}

// memory is a request's body.
type memory struct{ bytes.Reader }

func (*memory) Close() error { return nil }

// buffersPool holds read buffers: a connection that is handed over gives its own
// back.
var buffersPool = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// wake ends the wait of an idle connection. The server is closing, which a
// connection looks at after it has said that it waits.
func (c *conn) wake() {
	if c.waiting.Load() {
		_ = c.nc.SetReadDeadline(time.Unix(1, 0))
	}
}

// last is whether the connection ends with the answer under way.
func (c *conn) last() bool { return c.head.close || c.s.closed() }

func (c *conn) serve() {
	c.buf = buffersPool.Get().(*[bufferSize]byte)
	defer func() { buffersPool.Put(c.buf) }()
	for {
		n := c.readHead()
		if n < 0 {
			_ = c.nc.Close()
			return
		}
		kind := General
		if n > 0 && c.head.parse(c.buf[c.r:c.r+n]) {
			kind = c.s.cfg.Kind(c.head.method, c.head.target)
		}
		if kind == General {
			c.handOver()
			return
		}
		if !c.readBody(n) || !c.answer(kind) {
			_ = c.nc.Close()
			return
		}
	}
}

// readHead returns the length of the next head, 0 if it is too long for the
// buffer, -1 if there is none.
func (c *conn) readHead() int {
	if c.r == c.w {
		c.r, c.w = 0, 0
	} else if n := endOfHead(c.buf[c.r:c.w], 0); n > 0 {
		return n // sent along with the last one
	} else {
		c.w = copy(c.buf[:], c.buf[c.r:c.w])
		c.r = 0
	}
	for {
		if c.w == 0 {
			c.idle()
			c.waiting.Store(true)
			if c.s.closed() {
				return -1
			}
		} else {
			c.within(c.s.cfg.ReadTimeout)
		}
		before := c.w
		n, err := c.nc.Read(c.buf[c.w:])
		c.waiting.Store(false)
		c.w += n
		if n > 0 {
			if end := endOfHead(c.buf[:c.w], before); end > 0 {
				return end
			}
			if c.w == len(c.buf) || strange(c.buf[:c.w], before) {
				return 0
			}
		}
		if err != nil {
			return -1
		}
	}
}

// strange is whether an unfinished head cannot become one of a simple request. The
// first from bytes have been looked at.
func strange(b []byte, from int) bool {
	if b[0] < 'A' || b[0] > 'Z' {
		return true
	}
	for i := from; i < len(b); i++ {
		if b[i] == '\n' && b[i-1] != '\r' {
			return true
		}
	}
	return false
}

// idle bounds the wait for a request. Setting a deadline for each would cost more
// than reading it, so it is only moved when much of it has passed.
func (c *conn) idle() {
	now := time.Now()
	if !c.renewed.IsZero() && now.Sub(c.renewed) < c.s.cfg.IdleTimeout/8 {
		return
	}
	c.renewed = now
	_ = c.nc.SetReadDeadline(now.Add(c.s.cfg.IdleTimeout + c.s.cfg.IdleTimeout/8))
}

// within bounds what is already under way. Only the first call after idle counts.
func (c *conn) within(d time.Duration) {
	if c.renewed.IsZero() {
		return
	}
	c.renewed = time.Time{}
	_ = c.nc.SetReadDeadline(time.Now().Add(d))
}

// readBody takes the head of n bytes out of the buffer and the body after it, and
// makes the request; false if the client did not send it in time.
func (c *conn) readBody(n int) bool {
	c.r += n
	size := c.head.length
	got := c.buf[c.r:min(c.w, c.r+size)]
	c.r += len(got)
	if len(got) < size {
		// Memory grows with what has come, not with what was announced.
		c.long = append(c.long[:0], got...)
		c.renewed = time.Time{}
		_ = c.nc.SetReadDeadline(time.Now().Add(c.s.cfg.BodyTimeout))
		for len(c.long) < size {
			k := len(c.long)
			c.long = append(c.long, make([]byte, min(size-k, max(k, bufferSize)))...)
			m, err := io.ReadFull(c.nc, c.long[k:])
			c.long = c.long[:k+m]
			if err != nil {
				return false
			}
		}
		got = c.long
	}
	c.body.Reset(got)
	if c.req == nil {
		c.req = new(http.Request).WithContext(context.Background())
		c.req.Proto, c.req.ProtoMajor, c.req.ProtoMinor = "HTTP/1.1", 1, 1
		c.req.RemoteAddr = c.remote
		c.req.URL = &c.head.url
	}
	r := c.req
	r.Method, r.Host, r.RequestURI = c.head.method, c.head.host, c.head.target
	r.Header, r.Close, r.ContentLength = c.head.header, c.head.close, int64(size)
	r.Form, r.PostForm = nil, nil
	r.Body = http.NoBody
	if size > 0 {
		r.Body = &c.body
	}
	return true
}

// answer runs the handler and sends what it wrote; false if the connection must
// end.
func (c *conn) answer(kind Kind) (ok bool) {
	c.resp.begin()
	if kind == Waiting {
		ok = c.wait()
	} else {
		ok = c.run(c.req)
	}
	return ok && c.resp.end() == nil && !c.last()
}

// wait runs the handler while a goroutine reads on, which is the only way to
// notice that the client has left. It reads at most the first byte of the next
// request.
func (c *conn) wait() bool {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	pending := c.r < c.w // there is more to read already, so nothing to notice
	unused := !pending && c.head.length == 0
	if unused {
		buffersPool.Put(c.buf)
		c.buf = nil
	}
	_ = c.nc.SetReadDeadline(time.Time{})
	c.renewed = time.Time{}
	var next [1]byte
	var got int
	var gone error
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if !pending {
			if got, gone = c.nc.Read(next[:]); gone != nil {
				cancel()
			}
		}
	}()
	ok := c.run(c.req.WithContext(ctx))
	// A deadline that has passed is how the reader is called back.
	_ = c.nc.SetReadDeadline(time.Unix(1, 0))
	<-watched
	if unused {
		c.buf = buffersPool.Get().(*[bufferSize]byte)
	}
	_ = c.nc.SetReadDeadline(time.Time{})
	if got > 0 {
		c.r, c.w = 0, copy(c.buf[:], next[:got])
		c.renewed = time.Now() // so that the time for a head begins
	}
	return ok
}

// run keeps a handler that panics from taking the process along.
func (c *conn) run(r *http.Request) (ok bool) {
	defer func() {
		if p := recover(); p != nil {
			ok = false
			if p != http.ErrAbortHandler {
				c.s.cfg.Logger.Error("HTTP handler panicked", "panic", fmt.Sprint(p))
			}
		}
	}()
	c.s.cfg.Handler.ServeHTTP(&c.resp, r)
	return true
}

// handOver passes the connection on, with what was read and not answered.
func (c *conn) handOver() {
	_ = c.nc.SetReadDeadline(time.Time{})
	c.s.cfg.HandOver(&begun{Conn: c.nc, first: bytes.Clone(c.buf[c.r:c.w])})
}

// begun is a connection whose first bytes have been read already.
type begun struct {
	net.Conn
	first []byte
}

func (b *begun) Read(p []byte) (int, error) {
	if len(b.first) == 0 {
		return b.Conn.Read(p)
	}
	n := copy(p, b.first)
	if b.first = b.first[n:]; len(b.first) == 0 {
		b.first = nil
	}
	return n, nil
}

// CloseWrite lets net/http end an answer without resetting the connection.
func (b *begun) CloseWrite() error {
	if cw, ok := b.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return nil
}
