package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
)

// Session is one RPC connection with many streams. It satisfies forwarding/rpc's
// Session. All methods may be called concurrently.
type Session struct {
	conn   *connection
	ctx    context.Context
	cancel context.CancelCauseFunc
	once   sync.Once
}

func newSession(c *connection) *Session {
	s := &Session{conn: c}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	context.AfterFunc(c.quic.Context(), func() { s.cancel(s.ended()) })
	return s
}

// Peer is the "<node>.<dc>" the other side proved to be.
func (s *Session) Peer() string { return s.conn.peer }

// RemoteAddr is where its packets come from.
func (s *Session) RemoteAddr() netip.AddrPort { return s.conn.remote() }

// Via is the relay it runs through, "" if it has a path of its own.
func (s *Session) Via() string { return s.conn.via() }

// RTT is the smoothed round trip time of the path.
func (s *Session) RTT() time.Duration { return s.conn.quic.ConnectionStats().SmoothedRTT }

// ForBulk says that the session carries large answers and nothing else: its round
// trip is one behind full queues, or one of long ago.
func (s *Session) ForBulk() { s.conn.bulk.Store(true) }

// Crowded says that packets wait in queues on the path: a round trip takes half as
// long again as the shortest one did, and 10 ms more.
func (s *Session) Crowded() bool {
	st := s.conn.quic.ConnectionStats()
	return st.SmoothedRTT > st.MinRTT+st.MinRTT/2+10*time.Millisecond
}

// OpenStream opens a stream. The other side sees it with its first byte. It
// waits while the other side has as many streams open as it allows (4,096).
func (s *Session) OpenStream(ctx context.Context) (net.Conn, error) {
	st, err := s.conn.quic.OpenStreamSync(ctx)
	if err != nil {
		return nil, s.failed(ctx, "open stream to", err)
	}
	return &stream{quic: st, conn: s.conn.quic, gone: s.why}, nil
}

// AcceptStream waits for a stream that the other side opened.
func (s *Session) AcceptStream(ctx context.Context) (net.Conn, error) {
	st, err := s.conn.quic.AcceptStream(ctx)
	if err != nil {
		return nil, s.failed(ctx, "accept stream from", err)
	}
	return &stream{quic: st, conn: s.conn.quic, gone: s.why}, nil
}

// CloseWithCause ends the session and all its streams. The other side reads the
// cause's text.
func (s *Session) CloseWithCause(cause error) error {
	s.once.Do(func() {
		if cause == nil {
			cause = net.ErrClosed
		}
		s.cancel(cause) // before the connection's own end gives it another cause
		_ = s.conn.quic.CloseWithError(codeClosed, closeText(cause))
	})
	return nil
}

// Context is done when the session has ended; its cause says why.
func (s *Session) Context() context.Context { return s.ctx }

func (s *Session) failed(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil && s.conn.quic.Context().Err() == nil {
		return context.Cause(ctx)
	}
	if w := s.why(); w != nil {
		err = w
	}
	return fmt.Errorf("%s %s: %w", what, s.conn.peer, err)
}

// why returns the cause of the session's end, or nil while it lives.
func (s *Session) why() error {
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	if s.conn.quic.Context().Err() != nil {
		return s.ended() // the AfterFunc of newSession is about to say the same
	}
	return nil
}

func (s *Session) ended() error { return cause(context.Cause(s.conn.quic.Context())) }

// maxCloseText keeps CONNECTION_CLOSE within one packet.
const maxCloseText = 256

func closeText(err error) string {
	if err == nil {
		return ""
	}
	t := err.Error()
	if len(t) > maxCloseText {
		t = t[:maxCloseText]
	}
	return t
}

// cause puts quic-go's reasons for an end into words, keeping them in the chain.
func cause(err error) error {
	var (
		app       *quic.ApplicationError
		transport *quic.TransportError
		reset     *quic.StatelessResetError
		idle      *quic.IdleTimeoutError
		handshake *quic.HandshakeTimeoutError
	)
	switch {
	case errors.As(err, &app) && app.Remote && app.ErrorMessage != "":
		return fmt.Errorf("closed by the other side: %s: %w", app.ErrorMessage, net.ErrClosed)
	case errors.As(err, &app) && app.Remote:
		return fmt.Errorf("closed by the other side: %w", net.ErrClosed)
	case errors.As(err, &app):
		return fmt.Errorf("closed: %s: %w", app.ErrorMessage, net.ErrClosed)
	case errors.As(err, &reset):
		return fmt.Errorf("the other side restarted and forgot this connection: %w", err)
	case errors.As(err, &idle):
		return fmt.Errorf("nothing arrived for too long: %w", err)
	case errors.As(err, &handshake):
		return fmt.Errorf("no answer: %w", err)
	case errors.As(err, &transport) && transport.ErrorCode.IsCryptoError() && transport.Remote:
		return fmt.Errorf("the other side refused our certificate or protocol: %w", err)
	case errors.As(err, &transport) && transport.ErrorCode.IsCryptoError():
		return fmt.Errorf("the other side's certificate or protocol was refused: %w", err)
	case err == nil:
		return net.ErrClosed
	}
	return err
}
