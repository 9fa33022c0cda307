package forwarding

import (
	"context"
	"io"
	"sync/atomic"
	"time"

	"landbridge/forwarding/rpc"
)

// streamTimeout bounds a request with a stream of bytes whose caller set no
// deadline: what moves at all may move slowly, and rpc ends what does not.
const streamTimeout = time.Hour

// doStream runs a request whose body or answer is a stream of bytes. Its context
// lives until the answer's stream is closed.
func (d *Dispatcher) doStream(ctx context.Context, req *rpc.Request, m *rpc.Method) (*rpc.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, streamTimeout)
	if req.Upload != nil {
		once := *req
		once.Upload = &upload{ReadCloser: req.Upload}
		req = &once
	}
	resp, err := d.route(ctx, req, m)
	if err != nil || resp.Stream == nil {
		cancel()
		return resp, err
	}
	owned := *resp
	owned.Stream = &stream{Stream: resp.Stream, cancel: cancel}
	return &owned, nil
}

// upload knows whether anything was read of it: then it cannot be sent again.
type upload struct {
	io.ReadCloser
	read atomic.Bool
}

func (u *upload) Read(p []byte) (int, error) {
	u.read.Store(true)
	return u.ReadCloser.Read(p)
}

// stream ends the context of its request when it is closed.
type stream struct {
	rpc.Stream
	cancel context.CancelFunc
}

func (s *stream) Close() error {
	err := s.Stream.Close()
	s.cancel()
	return err
}
