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
// itself knows terms and no clusters: a leader of a cluster that was made apart
// would cut off the log of this one as soon as its term is higher, and what had
// been acknowledged would be gone.
const (
	helloCluster = 1 // the dialing server's cluster
	helloRefusal = 1 // in the answer: why the connection is of no use
	maxHello     = 512
)

// errCluster is a Raft connection from another cluster.
var errCluster = errors.New("a Raft connection of another cluster")

func writeHello(c net.Conn, field int, value string) error {
	b := wire.String(make([]byte, 2), field, value[:min(len(value), maxHello-16)])
	binary.BigEndian.PutUint16(b, uint16(len(b)-2))
	_, err := c.Write(b)
	return err
}

func readHello(c io.Reader, field int) (value string, err error) {
	var n [2]byte
	if _, err := io.ReadFull(c, n[:]); err != nil {
		return "", err
	}
	size := binary.BigEndian.Uint16(n[:])
	if size > maxHello {
		return "", fmt.Errorf("a hello of %d bytes, at most %d are allowed", size, maxHello)
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(c, b); err != nil {
		return "", err
	}
	d := wire.NewDecoder(b)
	for d.Next() {
		if d.Field == field {
			value = d.String()
		}
	}
	return value, d.Err()
}

// greet introduces this server on a Raft connection that it opened.
func (c *Config) greet(conn net.Conn) error {
	if err := writeHello(conn, helloCluster, c.cluster()); err != nil {
		return err
	}
	refusal, err := readHello(conn, helloRefusal)
	switch {
	case err != nil:
		return fmt.Errorf("no answer to the hello: %w", err)
	case refusal != "":
		return errors.New(refusal)
	}
	return nil
}

// welcome reads and answers a hello. A server without a cluster yet lets any in,
// and is let in anywhere.
func (c *Config) welcome(conn net.Conn) error {
	theirs, err := readHello(conn, helloCluster)
	if err != nil {
		return err
	}
	ours := c.cluster()
	if ours == "" || theirs == "" || ours == theirs {
		return writeHello(conn, helloRefusal, "")
	}
	refusal := fmt.Sprintf("its server belongs to cluster %s, this one to %s", ours, theirs)
	_ = writeHello(conn, helloRefusal, refusal) // it is closed either way
	return fmt.Errorf("%w: %s, ours is %s", errCluster, theirs, ours)
}

func (c *Config) cluster() string {
	if c.Cluster == nil {
		return ""
	}
	return c.Cluster()
}
