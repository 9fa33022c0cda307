package check

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"landbridge/store"
)

// H2Ping passes if an HTTP/2 server answers a PING frame (RFC 9113, section 6.7).
// These few frames are written here by hand: net/http has no ping, and all of
// golang.org/x/net/http2 for 17 bytes would be too much.
type H2Ping struct {
	Address string
	TLS     *TLS // nil: without TLS, with prior knowledge
	Dial    Dial
}

// Run connects and pings once.
func (c *H2Ping) Run(ctx context.Context) Result {
	conn, err := c.connect(ctx)
	if err == nil {
		stop := bound(ctx, conn)
		var data [8]byte
		_, _ = rand.Read(data[:]) // never fails
		err = h2ping(conn, data)
		stop()
		_ = conn.Close()
		if err != nil && ctx.Err() != nil {
			err = ctx.Err()
		}
	}
	if err != nil {
		return critical(fmt.Sprintf("HTTP2 ping failed: %v", err))
	}
	return Result{store.Passing, "HTTP2 ping was successful"}
}

func (c *H2Ping) connect(ctx context.Context) (net.Conn, error) {
	if c.TLS == nil {
		return c.Dial.orNet()(ctx, "tcp", c.Address)
	}
	conn, err := c.TLS.dial(ctx, c.Dial, c.Address, "h2")
	if err != nil {
		return nil, err
	}
	if p := conn.ConnectionState().NegotiatedProtocol; p != "h2" {
		_ = conn.Close()
		return nil, fmt.Errorf("unexpected ALPN protocol %q; want \"h2\"", p)
	}
	return conn, nil
}

const (
	h2Preface   = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	h2Settings  = 0x4
	h2PingFrame = 0x6
	h2GoAway    = 0x7
	h2Ack       = 0x1
	h2MaxFrame  = 16384 // the largest a peer may send, since our settings say no other
	h2MaxFrames = 1000  // more than that before an answer is no answer
)

// h2ping opens an HTTP/2 connection, pings and waits for the answer.
func h2ping(rw io.ReadWriter, data [8]byte) error {
	out := append([]byte(h2Preface), 0, 0, 0, h2Settings, 0, 0, 0, 0, 0)
	out = appendPing(out, 0, data)
	if _, err := rw.Write(out); err != nil {
		return err
	}
	var head [9]byte
	var ping [8]byte
	for n := range h2MaxFrames {
		if _, err := io.ReadFull(rw, head[:]); err != nil {
			return unexpectedEnd(err)
		}
		size, kind, flags := int64(head[0])<<16|int64(head[1])<<8|int64(head[2]), head[3], head[4]
		if size > h2MaxFrame || n == 0 && kind != h2Settings {
			return errors.New("the server does not speak HTTP/2")
		}
		switch {
		case kind == h2PingFrame:
			if size != int64(len(ping)) {
				return fmt.Errorf("a PING frame of %d bytes", size)
			}
			if _, err := io.ReadFull(rw, ping[:]); err != nil {
				return unexpectedEnd(err)
			}
			if flags&h2Ack == 0 {
				if _, err := rw.Write(appendPing(nil, h2Ack, ping)); err != nil {
					return err
				}
			} else if ping == data {
				return nil
			}
			continue
		case kind == h2GoAway && size >= int64(len(ping)):
			if _, err := io.ReadFull(rw, ping[:]); err != nil {
				return unexpectedEnd(err)
			}
			return fmt.Errorf("the server says GOAWAY, error code %d", binary.BigEndian.Uint32(ping[4:]))
		}
		if _, err := io.CopyN(io.Discard, rw, size); err != nil {
			return unexpectedEnd(err)
		}
		if kind == h2Settings && flags&h2Ack == 0 {
			if _, err := rw.Write([]byte{0, 0, 0, h2Settings, h2Ack, 0, 0, 0, 0}); err != nil {
				return err
			}
		}
	}
	return errors.New("the server sends frames and does not answer")
}

func appendPing(b []byte, flags byte, data [8]byte) []byte {
	return append(append(b, 0, 0, 8, h2PingFrame, flags, 0, 0, 0, 0), data[:]...)
}

func unexpectedEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the server closed the connection")
	}
	return err
}
