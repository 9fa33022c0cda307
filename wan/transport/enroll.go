package transport

import (
	"context"
	"crypto/x509"
	"net"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
)

const (
	// enrollTime bounds a whole enrolment.
	enrollTime = 30 * time.Second
	// enrollLinger leaves the last message time to arrive after Close, two lost
	// packets included, before the connection is closed under it.
	enrollLinger = 3 * time.Second
)

// EnrollConn is one bidirectional stream to a peer that may not have a
// certificate of the federation yet: a net.Conn, and what binds a proof to this
// very TLS connection. It ends after 30 s in any case.
type EnrollConn struct {
	stream
	c      *connection
	expiry *time.Timer
	once   sync.Once
}

func newEnrollConn(c *connection, st *quic.Stream) *EnrollConn {
	ec := &EnrollConn{c: c}
	ec.stream.quic, ec.stream.conn = st, c.quic
	ec.stream.gone = func() error {
		if c.quic.Context().Err() == nil {
			return nil
		}
		return cause(context.Cause(c.quic.Context()))
	}
	ec.expiry = time.AfterFunc(enrollTime, func() { _ = c.quic.CloseWithError(codeRefused, "enrolment took too long") })
	return ec
}

// ExportKeyingMaterial returns bytes that only the two ends of this TLS
// connection know (RFC 8446, 7.5).
func (c *EnrollConn) ExportKeyingMaterial(label string, context []byte, length int) ([]byte, error) {
	state := c.c.quic.ConnectionState().TLS
	return state.ExportKeyingMaterial(label, context, length)
}

// PeerCertificates returns what the other side presented, perhaps nothing. It
// is verified only as far as the TLS configuration for enrolment does.
func (c *EnrollConn) PeerCertificates() []*x509.Certificate {
	return c.c.quic.ConnectionState().TLS.PeerCertificates
}

// Close ends the stream, and the connection once the other side had time to
// read the end.
func (c *EnrollConn) Close() error {
	err := c.stream.Close()
	c.once.Do(func() {
		c.expiry.Stop()
		time.AfterFunc(enrollLinger, func() { _ = c.c.quic.CloseWithError(codeClosed, "enrolment ended") })
	})
	return err
}

var _ net.Conn = (*EnrollConn)(nil)
