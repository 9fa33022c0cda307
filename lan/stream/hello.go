package stream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"landbridge/store/wire"
)

// A Raft connection begins with a hello of the server that dials and the answer
// of the one that accepts, each a length of two bytes and tagged fields. Raft
// itself knows terms and addresses, and no clusters: a leader of a cluster that was
// made apart would cut off the log of this one as soon as its term is higher, and
// what had been acknowledged would be gone; so would the leader of a group's past,
// whose disks come back after an operator recovered the group without them; and a
// server that has another's address would acknowledge in its name.
const (
	helloCluster    = 1 // the dialing server's cluster
	helloRecoveries = 2 // how often that was recovered
	helloFrom       = 3 // the dialing server's id
	helloTo         = 4 // the id of the server it means, "": whoever has the address
	helloRefusal    = 1 // in the answer: why the connection is of no use
	maxHello        = 512
)

// Greeter is what a server says and asks on Raft connections. A nil one says
// nothing and lets any in.
type Greeter struct {
	// ID is this server's id.
	ID string
	// History returns which cluster this server has its state from and how often that
	// was recovered; "" before it knows.
	History func() (cluster string, recoveries uint64)
	// Holder returns the id of the server with an address, "" if none is known or
	// several are; nil: never.
	Holder func(addr string) string
}

// hello is what the dialing server says.
type hello struct {
	cluster    string
	recoveries uint64
	from, to   string
}

// refusal is why a Raft connection is of no use.
type refusal struct {
	reason string // label of the metric
	text   string
}

func (r *refusal) Error() string { return r.text }

func (h *hello) append(b []byte) []byte {
	b = wire.String(b, helloCluster, h.cluster)
	b = wire.Uint(b, helloRecoveries, h.recoveries)
	b = wire.String(b, helloFrom, h.from)
	return wire.String(b, helloTo, h.to)
}

func (h *hello) decode(b []byte) error {
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case helloCluster:
			h.cluster = d.String()
		case helloRecoveries:
			h.recoveries = d.Uint()
		case helloFrom:
			h.from = d.String()
		case helloTo:
			h.to = d.String()
		}
	}
	return d.Err()
}

// writeFramed writes a length and what fill appends, in one piece.
func writeFramed(c io.Writer, fill func([]byte) []byte) error {
	b := fill(make([]byte, 2))
	if len(b)-2 > maxHello {
		return fmt.Errorf("a hello of %d bytes, at most %d are allowed", len(b)-2, maxHello)
	}
	binary.BigEndian.PutUint16(b, uint16(len(b)-2))
	_, err := c.Write(b)
	return err
}

func readFramed(c io.Reader) ([]byte, error) {
	var n [2]byte
	if _, err := io.ReadFull(c, n[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint16(n[:])
	if size > maxHello {
		return nil, fmt.Errorf("a hello of %d bytes, at most %d are allowed", size, maxHello)
	}
	b := make([]byte, size)
	_, err := io.ReadFull(c, b)
	return b, err
}

// Greet introduces this server on a Raft connection that it opened to addr.
func (g *Greeter) Greet(conn net.Conn, addr string) error {
	var h hello
	if g != nil {
		h.from = g.ID
		if g.History != nil {
			h.cluster, h.recoveries = g.History()
		}
		if g.Holder != nil {
			h.to = g.Holder(addr)
		}
	}
	if err := writeFramed(conn, h.append); err != nil {
		return err
	}
	answer, err := readFramed(conn)
	if err != nil {
		return fmt.Errorf("no answer to the hello: %w", err)
	}
	d := wire.NewDecoder(answer)
	for d.Next() {
		if text := d.String(); d.Field == helloRefusal && text != "" {
			return errors.New(text)
		}
	}
	return d.Err()
}

// Welcome reads and answers a hello; an error says that the connection is of no use.
func (g *Greeter) Welcome(conn net.Conn) error {
	b, err := readFramed(conn)
	if err != nil {
		return err
	}
	var h hello
	if err := h.decode(b); err != nil {
		return err
	}
	no := g.judge(&h)
	text := ""
	if no != nil {
		text = no.text[:min(len(no.text), maxHello-16)]
	}
	err = writeFramed(conn, func(b []byte) []byte { return wire.String(b, helloRefusal, text) })
	if no != nil {
		return no // it is closed either way
	}
	return err
}

// judge says why a server may not come in, nil if it may. One without a cluster yet
// is let in anywhere, and lets any in.
func (g *Greeter) judge(h *hello) *refusal {
	if g == nil {
		return nil
	}
	if h.to != "" && g.ID != "" && h.to != g.ID {
		return &refusal{"server", fmt.Sprintf("server %.36s calls %.36s, this is %s", h.from, h.to, g.ID)}
	}
	if g.History == nil {
		return nil
	}
	cluster, recoveries := g.History()
	switch {
	case cluster == "" || h.cluster == "":
	case h.cluster != cluster:
		return &refusal{"cluster", fmt.Sprintf("its server belongs to cluster %s, this one to %.36s", cluster, h.cluster)}
	case h.recoveries < recoveries:
		return &refusal{"history", fmt.Sprintf("this server holds a past that the group has left by recovery %d", recoveries)}
	case h.recoveries > recoveries:
		return &refusal{"history", fmt.Sprintf("its server was left out by recovery %d of the group", h.recoveries)}
	}
	return nil
}
