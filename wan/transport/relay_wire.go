package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// On a relay connection, who dialed it opens one bidirectional stream and asks for a
// tunnel on it; the other side answers, and the stream ends. Both messages are
//
//	length uint16, version uint8 (1), fields: [tag uint8, length uint16, bytes]...
//
// big endian; unknown fields are skipped. From then on the connection carries the
// tunnel's packets both ways, each as a QUIC datagram, or as a unidirectional stream
// of its own when it is too large for one. They belong to a QUIC connection between
// the two ends, which the relay cannot read.

const (
	relayVersion    = 1
	maxRelayMessage = 2048

	fieldTarget = 1 // request: the server wanted, "<node>.<dc>"
	fieldOrigin = 2 // request of a relay: whom it asks for
	fieldHops   = 3 // request: relays passed so far, one byte
	fieldBulk   = 4 // request, empty: the tunnel is for large answers
	fieldCode   = 1 // reply: a RelayRefusal, one byte; 0 is yes
	fieldText   = 2 // reply: why not
)

// RelayRefusal is why a tunnel is refused. The numbers are part of the wire format.
type RelayRefusal uint8

const (
	relayOK          RelayRefusal = iota
	RelayOff                      // it does not carry tunnels
	RelayLoop                     // target, relay and origin are not of three datacenters
	RelayHops                     // it passed a relay already
	RelayLimit                    // too many tunnels
	RelayUnknown                  // the relay does not know the target
	RelayUnreachable              // the relay does not reach the target
	RelayMalformed                // the request cannot be read
	RelayRefused                  // the target refused it
)

var relayRefusals = []string{"", "off", "loop", "hop_limit", "limit", "unknown_target", "unreachable", "malformed", "target_refused"}

func (r RelayRefusal) String() string {
	if int(r) < len(relayRefusals) {
		return relayRefusals[r]
	}
	return "other"
}

// RelayError says that a relay, or the target behind it, refused a tunnel.
type RelayError struct {
	Peer   string // who refused
	Reason RelayRefusal
	Text   string
}

func (e *RelayError) Error() string {
	return fmt.Sprintf("%s refused a tunnel: %s (%s)", e.Peer, e.Text, e.Reason)
}

type tunnelRequest struct {
	target, origin string
	hops           uint8
	bulk           bool
}

type tunnelReply struct {
	reason RelayRefusal
	text   string
}

func appendField(b []byte, tag byte, v string) []byte {
	b = append(b, tag)
	b = binary.BigEndian.AppendUint16(b, uint16(len(v)))
	return append(b, v...)
}

// appendMessage puts length and version before the fields that f appends.
func appendMessage(b []byte, f func([]byte) []byte) []byte {
	at := len(b)
	b = f(append(b, 0, 0, relayVersion))
	binary.BigEndian.PutUint16(b[at:], uint16(len(b)-at-2))
	return b
}

func (r *tunnelRequest) append(b []byte) []byte {
	return appendMessage(b, func(b []byte) []byte {
		b = appendField(b, fieldTarget, r.target)
		if r.origin != "" {
			b = appendField(b, fieldOrigin, r.origin)
		}
		if r.bulk {
			b = appendField(b, fieldBulk, "")
		}
		return appendField(b, fieldHops, string([]byte{r.hops}))
	})
}

func (r *tunnelReply) append(b []byte) []byte {
	return appendMessage(b, func(b []byte) []byte {
		b = appendField(b, fieldCode, string([]byte{byte(r.reason)}))
		return appendField(b, fieldText, closeText(errors.New(r.text)))
	})
}

// readMessage reads one message and returns its fields.
func readMessage(r io.Reader) ([]byte, error) {
	var head [3]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(head[:]))
	if n < 1 || n > maxRelayMessage {
		return nil, fmt.Errorf("message of %d bytes", n)
	}
	if head[2] != relayVersion {
		return nil, fmt.Errorf("version %d, want %d", head[2], relayVersion)
	}
	b := make([]byte, n-1)
	_, err := io.ReadFull(r, b)
	return b, err
}

var errField = errors.New("field is cut off")

// eachField calls f for each field.
func eachField(b []byte, f func(tag byte, v []byte) error) error {
	for len(b) > 0 {
		if len(b) < 3 {
			return errField
		}
		n := int(binary.BigEndian.Uint16(b[1:]))
		if len(b) < 3+n {
			return errField
		}
		if err := f(b[0], b[3:3+n]); err != nil {
			return err
		}
		b = b[3+n:]
	}
	return nil
}

func decodeTunnelRequest(b []byte) (r tunnelRequest, err error) {
	err = eachField(b, func(tag byte, v []byte) error {
		switch tag {
		case fieldTarget:
			r.target = string(v)
		case fieldOrigin:
			r.origin = string(v)
		case fieldHops:
			if len(v) != 1 {
				return fmt.Errorf("hops in %d bytes", len(v))
			}
			r.hops = v[0]
		case fieldBulk:
			r.bulk = true
		}
		return nil
	})
	if err == nil && datacenterOf(r.target) == "" {
		err = fmt.Errorf("target %q is not <node>.<datacenter>", r.target)
	}
	return r, err
}

func decodeTunnelReply(b []byte) (r tunnelReply, err error) {
	err = eachField(b, func(tag byte, v []byte) error {
		switch tag {
		case fieldCode:
			if len(v) != 1 {
				return fmt.Errorf("code in %d bytes", len(v))
			}
			r.reason = RelayRefusal(v[0])
		case fieldText:
			r.text = string(v)
		}
		return nil
	})
	return r, err
}
