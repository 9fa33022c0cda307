package rpc

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"

	"landbridge/store"
)

// serverBytes is a call of a method with Stream, from its request to the end of
// its answer. The goroutine of its stream runs it, beside one that reads.
type serverBytes struct {
	n      *session
	conn   net.Conn
	br     *bufio.Reader
	ctx    callContext
	gone   atomic.Bool // the caller waits no more
	upload *io.PipeWriter
	read   chan struct{} // closed when the reader has ended
	waits  bool          // it waits for changes most of the time
}

// stop lets a call go on that has an end: drain waits for it as long as for others.
func (k *serverBytes) stop() {
	if k.waits {
		k.ctx.end(context.Canceled)
	}
}

func (k *serverBytes) endCalls() { k.ctx.end(context.Canceled) }

var errTooManyBytes = store.Errorf(store.KindRateLimited, "%d snapshots of this peer are on their way here, the call was not run", maxByteStreams)

// serveBytes answers the one request of a stream of bytes.
func (n *session) serveBytes(conn net.Conn) error {
	if !n.begin() {
		return errStopping
	}
	defer n.finish()
	begin := time.Now()
	k := &serverBytes{n: n, conn: conn, br: bufio.NewReaderSize(conn, dataFrame), read: make(chan struct{})}
	var req wireRequest
	m, err := k.request(&req, begin)
	if err != nil {
		return err
	}
	running, limit, tooMany := &n.bytes, int64(maxByteStreams), errTooManyBytes
	if k.waits = m.Blocking; k.waits { // it holds no more than a blocking query does
		running, limit, tooMany = &n.blocking, int64(n.s.cfg.MaxBlocking), errTooMany
	}
	defer running.Add(-1)
	if running.Add(1) > limit {
		n.s.metrics.refused["streams"].Inc()
		return tooMany
	}
	defer n.watch(k)()
	source, upload := io.Pipe()
	k.upload = upload
	req.Upload = source
	n.readers.Go(k.pump) // we are one of the readers, so nobody waits in vain for them yet
	// A handler that waits for bytes learns of its end by them.
	unhook := context.AfterFunc(&k.ctx, func() { source.CloseWithError(ended(&k.ctx)) })
	n.s.metrics.inFlight.Inc()
	resp, err := n.s.cfg.Handler.Do(&k.ctx, &req.Request)
	unhook()
	source.Close() // what still comes is for nobody
	if err == nil && resp == nil {
		resp = &Response{}
	}
	if err != nil && m.Repeatable && n.stopping.Load() && k.ctx.Err() == context.Canceled {
		err = errStopping // another server will do
	}
	err = k.answer(resp, err)
	n.s.metrics.inFlight.Dec()
	n.s.metrics.observe(m, err, k.gone.Load(), time.Since(begin))
	k.ctx.end(context.Canceled)
	// The caller closes the stream once it has read the answer.
	conn.SetReadDeadline(time.Now().Add(streamTimeout))
	<-k.read
	return nil
}

// request reads the request frame and decides whether it may run.
func (k *serverBytes) request(req *wireRequest, begin time.Time) (*Method, error) {
	k.conn.SetReadDeadline(begin.Add(streamTimeout))
	h, err := readHeader(k.br, maxLaneRequest)
	if err == nil && h.typ != frameRequest {
		err = store.Errorf(store.KindInvalid, "frame of type %d instead of a request", h.typ)
	}
	if err != nil {
		return nil, err
	}
	payload, err := readPayload(k.br, int(h.n), nil)
	if err != nil {
		return nil, err
	}
	if err := req.decode(payload); err != nil {
		return nil, err
	}
	req.Origin, req.Peer = k.n.origin, k.n.peer
	m, err := admit(&req.Request)
	if err == nil && !m.Stream {
		err = store.Errorf(store.KindInvalid, "%s is not a call with a stream of bytes", m.Name)
	}
	if err == nil && req.packed != nil {
		err = store.Errorf(store.KindInvalid, "%s: a compressed body beside a stream of bytes", m.Name)
	}
	if err != nil {
		k.n.s.metrics.refused["denied"].Inc()
		return nil, err
	}
	if req.remaining > 0 {
		k.ctx.deadline = begin.Add(req.remaining)
	}
	return m, nil
}

// pump reads what the caller sends: the upload, and then its end of the stream.
// It waits while the handler does not read, which holds the caller back.
func (k *serverBytes) pump() {
	defer close(k.read)
	buf := make([]byte, dataFrame)
	ended := false
	for {
		if !ended {
			k.conn.SetReadDeadline(time.Now().Add(bytesTimeout))
		}
		h, err := readHeader(k.br, dataFrame)
		if err == nil {
			_, err = io.ReadFull(k.br, buf[:h.n])
		}
		if err != nil {
			k.upload.CloseWithError(store.Errorf(store.KindUnreachable, "what was sent broke off: %w", unexpected(err)))
			k.gone.Store(true)
			k.ctx.end(context.Canceled)
			return
		}
		switch h.typ {
		case frameData:
			k.upload.Write(buf[:h.n]) // an error means that the handler wants no more
		case frameEnd:
			k.upload.Close()
			ended = true
			k.conn.SetReadDeadline(time.Time{})
		case frameError:
			k.upload.CloseWithError(decodeError(buf[:h.n]))
			ended = true
			k.conn.SetReadDeadline(time.Time{})
		}
	}
}

// answer sends the answer and returns how the call ended.
func (k *serverBytes) answer(resp *Response, err error) error {
	if resp != nil && resp.Stream != nil {
		defer resp.Stream.Close()
	}
	stop := context.AfterFunc(&k.ctx, func() {
		if k.gone.Load() {
			k.conn.Close()
		}
	})
	defer stop()
	frame := make([]byte, headerSize, 512)
	if err == nil && len(resp.Body) > maxLaneAnswer-envelopeRoom {
		err = store.Errorf(store.KindTooLarge, "the answer has %d bytes beside its stream", len(resp.Body))
	}
	if err != nil {
		frame = appendError(frame, err)
		putHeader(frame, 1, frameError, 0)
		k.write(frame)
		return err
	}
	head, body := appendResponseHead(frame, resp, nil)
	putHeader(head, 1, frameResponse, len(body))
	if err := k.write(append(head, body...)); err != nil || resp.Stream == nil {
		return err
	}
	w := &dataWriter{conn: k.conn, ctx: &k.ctx}
	_, err = resp.Stream.WriteTo(w)
	if err != nil && k.ctx.Err() != nil {
		err = ended(&k.ctx)
	}
	w.end(err)
	if err == nil {
		err = w.err
	}
	return err
}

// ended says why a stream of bytes stops before its end.
func ended(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return store.Errorf(store.KindTimeout, "the time of the call was over before all bytes were there: %w", ctx.Err())
	}
	return store.Errorf(store.KindUnreachable, "the call was ended before all bytes were there: %w", ctx.Err())
}

func (k *serverBytes) write(b []byte) error {
	k.conn.SetWriteDeadline(time.Now().Add(bytesTimeout))
	_, err := k.conn.Write(b)
	return err
}
