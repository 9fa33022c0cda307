package rpc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"landbridge/store"
)

const (
	// dataFrame is the most that a data frame carries, and so what one direction of
	// a stream of bytes holds in memory at each hop.
	dataFrame = 32 << 10
	// bytesTimeout ends a stream of bytes on which nothing moves: neither side may
	// keep the other's file, snapshot or memory for ever.
	bytesTimeout = time.Minute
)

// announced stands for a stream whose bytes follow on the connection.
type announced struct{}

func (announced) WriteTo(io.Writer) (int64, error) {
	return 0, store.Errorf(store.KindInternal, "the bytes of this answer are on another stream")
}
func (announced) Close() error { return nil }

// byteCall is a call of a method with Stream, on a stream of its own. It is the
// Response.Stream of its answer.
type byteCall struct {
	c      *Client
	m      *Method
	ctx    context.Context
	conn   net.Conn
	br     *bufio.Reader
	upload io.ReadCloser
	unhook func() bool
	sent   chan error // the upload's end: an error of its source, or nil

	closing sync.Once
}

// doBytes makes a call whose request or answer is a stream of bytes. frame has
// room for its header. The call counts as in flight until it is closed.
func (c *Client) doBytes(ctx context.Context, m *Method, frame []byte, upload io.ReadCloser) (*Response, error) {
	if len(frame) > maxLaneRequest {
		c.done()
		return nil, store.Errorf(store.KindTooLarge, "%s to %s was not sent: its envelope has %d bytes", m.Name, c.peer, len(frame))
	}
	conn, err := c.sess.OpenStream(ctx)
	if err != nil {
		c.done()
		if ctx.Err() != nil {
			return nil, c.errEnded(ctx, m, false)
		}
		return nil, c.errNotSent(m, err)
	}
	b := &byteCall{c: c, m: m, ctx: ctx, conn: conn, br: bufio.NewReaderSize(conn, dataFrame), upload: upload, sent: make(chan error, 1)}
	// Closing the stream is how the server learns that the caller has gone.
	b.unhook = context.AfterFunc(ctx, func() { conn.Close() })
	resp, err := b.begin(frame)
	if err != nil {
		b.Close()
		return nil, err
	}
	if resp.Stream == nil {
		b.Close()
		return resp, nil
	}
	resp.Stream = b
	return resp, nil
}

// begin sends the request and waits for its answer, up to the first data.
func (b *byteCall) begin(frame []byte) (*Response, error) {
	putHeader(frame, 1, frameRequest, 0)
	head := append(appendPreamble(make([]byte, 0, preambleSize+len(frame)), streamBytes), frame...)
	// Written apart: a server may answer, or refuse, before it has taken all.
	go func() { b.sent <- b.send(head) }() // ends with the stream; Close waits for it
	h, err := readHeader(b.br, maxLaneAnswer)
	var payload []byte
	if err == nil {
		payload, err = readPayload(b.br, int(h.n), nil)
	}
	if err != nil {
		return nil, b.failed(err)
	}
	b.c.live.hear()
	resp, err := b.c.answer(b.m, h.typ, payload)
	if err != nil {
		if source := b.sourceError(); source != nil {
			return nil, source // the cause of whatever the server made of it
		}
		return nil, err
	}
	return resp, nil
}

// sourceError is the error of the upload's source, if that ended it already.
func (b *byteCall) sourceError() error {
	select {
	case err := <-b.sent:
		b.sent <- err
		return err
	default:
		return nil
	}
}

// send writes the request and the upload. The result is an error of the upload's
// source; the reader sees what is wrong with the connection.
func (b *byteCall) send(head []byte) error {
	b.conn.SetWriteDeadline(time.Now().Add(bytesTimeout))
	if _, err := b.conn.Write(head); err != nil {
		return nil
	}
	w := &dataWriter{conn: b.conn, moved: b.c.live.hear}
	if b.upload == nil {
		w.end(nil)
		return nil
	}
	_, err := io.CopyBuffer(w, onlyReader{b.upload}, make([]byte, dataFrame))
	if w.err != nil {
		return nil
	}
	if err != nil {
		err = fmt.Errorf("%s to %s: reading what is to be sent: %w", b.m.Name, b.c.peer, err)
		if store.KindOf(err) == store.KindInternal {
			err = store.Errorf(store.KindBadRequest, "%w", err)
		}
	}
	w.end(err)
	return err
}

// onlyReader hides methods by which io.Copy would avoid the buffer.
type onlyReader struct{ io.Reader }

// WriteTo writes the bytes of the answer to w.
func (b *byteCall) WriteTo(w io.Writer) (int64, error) {
	var n int64
	buf := make([]byte, dataFrame)
	for {
		b.conn.SetReadDeadline(time.Now().Add(bytesTimeout))
		h, err := readHeader(b.br, dataFrame)
		if err != nil {
			return n, b.failed(err)
		}
		if _, err := io.ReadFull(b.br, buf[:h.n]); err != nil {
			return n, b.failed(unexpected(err))
		}
		b.c.live.hear()
		switch h.typ {
		case frameData:
			k, err := w.Write(buf[:h.n])
			n += int64(k)
			if err != nil {
				return n, err
			}
		case frameEnd:
			return n, nil
		case frameError:
			return n, decodeError(buf[:h.n])
		}
	}
}

// failed is the error of a stream that broke.
func (b *byteCall) failed(err error) error {
	if b.ctx.Err() != nil {
		return b.c.errEnded(b.ctx, b.m, true)
	}
	if source := b.sourceError(); source != nil {
		return source
	}
	if cause := b.c.Err(); cause != nil {
		err = cause
	} else if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return b.c.errLost(b.m, err)
}

// Close ends the call and waits for what it started.
func (b *byteCall) Close() error {
	b.closing.Do(func() {
		b.unhook()
		b.conn.Close()
		if b.upload != nil {
			b.upload.Close() // it may wait for its source
		}
		<-b.sent
		b.c.done()
	})
	return nil
}

// dataWriter sends what is written to it as data frames.
type dataWriter struct {
	conn  net.Conn
	ctx   context.Context // nil: none
	moved func()          // after each frame; nil: none
	buf   []byte
	err   error // of the connection or ctx
}

func (w *dataWriter) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		k := min(len(p), dataFrame)
		if err := w.frame(frameData, p[:k]); err != nil {
			return n, err
		}
		n += k
		p = p[k:]
	}
	return n, nil
}

// end sends the end of the stream, or the error that takes its place.
func (w *dataWriter) end(err error) {
	if err == nil {
		w.frame(frameEnd, nil)
		return
	}
	w.ctx = nil // told also when it was the context that ended it
	if w.err != nil && !errors.Is(w.err, context.Canceled) && !errors.Is(w.err, context.DeadlineExceeded) {
		return
	}
	w.err = nil
	w.frame(frameError, appendError(nil, err))
}

func (w *dataWriter) frame(typ byte, payload []byte) error {
	if w.err == nil && w.ctx != nil {
		w.err = w.ctx.Err()
	}
	if w.err != nil {
		return w.err
	}
	w.buf = append(w.buf[:0], make([]byte, headerSize)...)
	w.buf = append(w.buf, payload...)
	putHeader(w.buf, 1, typ, 0)
	w.conn.SetWriteDeadline(time.Now().Add(bytesTimeout))
	if _, err := w.conn.Write(w.buf); err != nil {
		w.err = err
		return err
	}
	if w.moved != nil {
		w.moved()
	}
	return nil
}
