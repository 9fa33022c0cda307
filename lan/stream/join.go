package stream

import (
	"encoding/binary"
	"net"
)

const (
	muxHeader  = 12 // yamux: version, type, flags (2), stream (4), length (4)
	muxData    = 0  // the type that has bytes behind the header
	joinedPart = 16<<10 - muxHeader
)

// joinWriter puts yamux's header and the data behind it, which it writes one
// after the other, into one system call, or one TLS record. Only yamux's send
// loop writes, so there is no lock.
type joinWriter struct {
	net.Conn
	tcp    *net.TCPConn // nil: TLS
	held   bool
	header [muxHeader]byte
	buf    []byte
}

func newJoinWriter(c net.Conn) *joinWriter {
	w := &joinWriter{Conn: c}
	w.tcp, _ = c.(*net.TCPConn)
	return w
}

func (w *joinWriter) Write(b []byte) (int, error) {
	if !w.held {
		if len(b) == muxHeader && b[1] == muxData && binary.BigEndian.Uint32(b[8:]) > 0 {
			copy(w.header[:], b)
			w.held = true
			return len(b), nil
		}
		return w.Conn.Write(b)
	}
	w.held = false
	if w.tcp != nil && len(b) > joinedPart {
		v := net.Buffers{w.header[:], b}
		n, err := v.WriteTo(w.tcp)
		return max(int(n)-muxHeader, 0), err
	}
	first := min(len(b), joinedPart)
	w.buf = append(append(w.buf[:0], w.header[:]...), b[:first]...)
	n, err := w.Conn.Write(w.buf)
	n = max(n-muxHeader, 0)
	if err == nil && first < len(b) {
		var m int
		m, err = w.Conn.Write(b[first:])
		n += m
	}
	return n, err
}
