package transport

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
)

// stream is a QUIC stream as a net.Conn. Close ends both directions: what was
// written is still delivered, followed by the end; what arrives is refused, and
// counts no longer against the number of streams.
type stream struct {
	quic *quic.Stream
	conn *quic.Conn
	gone func() error // why the connection ended, nil while it lives

	mu      sync.Mutex
	closed  bool
	writers int // Writes under way: quic-go forbids Close beside them
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.quic.Read(p)
	if err != nil && err != io.EOF {
		err = s.failed(err, io.ErrUnexpectedEOF)
	}
	return n, err
}

func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return 0, net.ErrClosed
	}
	s.writers++
	s.mu.Unlock()

	n, err := s.quic.Write(p)

	s.mu.Lock()
	s.writers--
	s.mu.Unlock()
	if err != nil {
		err = s.failed(err, io.ErrClosedPipe)
	}
	return n, err
}

func (s *stream) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	if s.writers > 0 {
		s.quic.CancelWrite(codeClosed) // a Write under way returns at once
	} else {
		_ = s.quic.Close()
	}
	s.quic.CancelRead(codeClosed)
	return nil
}

func (s *stream) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// failed translates quic-go's errors; remote is what the other side's
// cancellation of this stream means for the direction.
func (s *stream) failed(err, remote error) error {
	var (
		se *quic.StreamError
		ne net.Error
	)
	switch {
	case s.isClosed():
		return net.ErrClosed
	case errors.As(err, &se) && se.Remote:
		return fmt.Errorf("stream ended by the other side: %w", remote)
	case errors.As(err, &ne) && ne.Timeout() && s.conn.Context().Err() == nil:
		return err // a deadline of ours
	}
	if w := s.gone(); w != nil {
		return w
	}
	return err
}

func (s *stream) LocalAddr() net.Addr                { return s.conn.LocalAddr() }
func (s *stream) RemoteAddr() net.Addr               { return s.conn.RemoteAddr() }
func (s *stream) SetDeadline(t time.Time) error      { return s.quic.SetDeadline(t) }
func (s *stream) SetReadDeadline(t time.Time) error  { return s.quic.SetReadDeadline(t) }
func (s *stream) SetWriteDeadline(t time.Time) error { return s.quic.SetWriteDeadline(t) }
