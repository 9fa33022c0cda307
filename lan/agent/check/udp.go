package check

import (
	"context"
	"errors"
	"fmt"
	"os"

	"landbridge/store"
)

// udpPayload is sent to a UDP service, which is to answer with anything. It is
// not empty, and at least as long as a DNS header, because many servers drop what
// is shorter.
const udpPayload = "Consul Health Check"

// UDP passes if a datagram is answered.
type UDP struct {
	Address string
	Dial    Dial
}

// Run sends one datagram and waits for one.
func (c *UDP) Run(ctx context.Context) Result {
	conn, err := c.Dial.orNet()(ctx, "udp", c.Address)
	if err != nil {
		return failure(err)
	}
	defer bound(ctx, conn)()
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte(udpPayload)); err != nil {
		return failure(err)
	}
	switch _, err := conn.Read(make([]byte, 1)); { // the rest of the datagram is dropped
	case errors.Is(err, os.ErrDeadlineExceeded):
		return critical("") // silence has no words
	case err != nil:
		return failure(err)
	}
	return Result{store.Passing, fmt.Sprintf("UDP connect %s: Success", c.Address)}
}
