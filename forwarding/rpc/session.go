package rpc

import (
	"context"
	"net"
)

// Session is one connection between two agents that carries many streams.
// Memory (tests), yamux over TLS/TCP (lan/stream) and QUIC (wan/transport)
// satisfy it with std types only, so none of them imports this package; they
// share the conformance suite in rpctest.
//
// All methods may be called concurrently.
type Session interface {
	// OpenStream opens a stream to the other side. It may not exist there until
	// its first byte is written. Closing the returned conn ends both directions.
	OpenStream(ctx context.Context) (net.Conn, error)
	// AcceptStream waits for a stream that the other side opened.
	AcceptStream(ctx context.Context) (net.Conn, error)
	// CloseWithCause ends the session and all its streams; the other side
	// learns the cause's text where the transport can carry it. Idempotent: the
	// first cause stays.
	CloseWithCause(cause error) error
	// Context is done when the session has ended; context.Cause says why.
	Context() context.Context
}
