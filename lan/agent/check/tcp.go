package check

import (
	"context"
	"fmt"
	"net"

	"landbridge/store"
)

// TCP passes if a connection can be made; with TLS, if the handshake succeeds too.
type TCP struct {
	Address string
	TLS     *TLS // nil: none
	Dial    Dial
}

// Run connects once.
func (c *TCP) Run(ctx context.Context) Result {
	var conn net.Conn
	var err error
	if c.TLS != nil {
		conn, err = c.TLS.dial(ctx, c.Dial, c.Address)
	} else {
		conn, err = c.Dial.orNet()(ctx, "tcp", c.Address)
	}
	if err != nil {
		return failure(err)
	}
	_ = conn.Close()
	return Result{store.Passing, fmt.Sprintf("TCP connect %s: Success", c.Address)}
}
