package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/quic-go/quic-go"
)

const (
	// maxStreamPacket bounds a packet that is too large for a datagram.
	maxStreamPacket = 64 << 10
	// packetTime bounds sending or receiving such a packet.
	packetTime = 5 * time.Second
)

// gossipConn is one connection with a peer. retire and retiring are guarded by
// gossip.mu.
type gossipConn struct {
	*connection
	g        *gossip
	dialedTo string // the address wanted, "" if accepted
	retiring bool
	retire   *time.Timer
}

func (c *gossipConn) alive() bool { return c.quic.Context().Err() == nil }

// reaches says whether the connection may carry packets for that address.
func (c *gossipConn) reaches(addr string) bool {
	return (!c.dialed || c.dialedTo == addr) && c.alive()
}

// dialer is the name of the side that opened the connection.
func (c *gossipConn) dialer() string {
	if c.dialed {
		return c.g.e.cfg.Name
	}
	return c.peer
}

func (c *gossipConn) stream(st *quic.Stream) *stream {
	return &stream{quic: st, conn: c.quic, gone: func() error {
		if c.alive() {
			return nil
		}
		return fmt.Errorf("gossip with %s: %w", c.peer, cause(context.Cause(c.quic.Context())))
	}}
}

// send sends one packet. It blocks while quic-go's own queue of datagrams is
// full (congestion), until the connection ends.
func (c *gossipConn) send(b []byte) error {
	err := c.quic.SendDatagram(b)
	var large *quic.DatagramTooLargeError
	if errors.As(err, &large) {
		return c.sendStream(b)
	}
	if err == nil {
		c.g.e.metrics.gossipSent.WithLabelValues("datagram").Inc()
	}
	return err
}

func (c *gossipConn) sendStream(b []byte) error {
	if len(b) > maxStreamPacket {
		return errTooLarge
	}
	st, err := c.quic.OpenUniStream() // without waiting: behind 64 others it would arrive late
	if err != nil {
		return err
	}
	_ = st.SetWriteDeadline(time.Now().Add(packetTime))
	if _, err := st.Write(b); err != nil {
		st.CancelWrite(codeClosed)
		return err
	}
	if err := st.Close(); err != nil {
		return err
	}
	c.g.e.metrics.gossipSent.WithLabelValues("stream").Inc()
	return nil
}

func (c *gossipConn) readDatagrams() {
	for {
		b, err := c.quic.ReceiveDatagram(c.g.ctx)
		if err != nil {
			return
		}
		c.deliver(b, "datagram")
	}
}

func (c *gossipConn) acceptPackets() {
	for {
		st, err := c.quic.AcceptUniStream(c.g.ctx)
		if err != nil {
			return
		}
		c.g.wg.Go(func() { c.readPacket(st) })
	}
}

func (c *gossipConn) readPacket(st *quic.ReceiveStream) {
	_ = st.SetReadDeadline(time.Now().Add(packetTime))
	b, err := io.ReadAll(io.LimitReader(st, maxStreamPacket+1))
	switch {
	case err != nil:
		st.CancelRead(codeClosed)
	case len(b) > maxStreamPacket:
		st.CancelRead(codeClosed)
		c.g.drop("too_large", 1)
	case len(b) > 0:
		c.deliver(b, "stream")
	}
}

func (c *gossipConn) deliver(b []byte, as string) {
	select {
	case c.g.packets <- &memberlist.Packet{Buf: b, From: c.quic.RemoteAddr(), Timestamp: time.Now()}:
		c.g.e.metrics.gossipRecv.WithLabelValues(as).Inc()
	default:
		c.g.drop("receive_full", 1)
	}
}

func (c *gossipConn) acceptStreams() {
	for {
		st, err := c.quic.AcceptStream(c.g.ctx)
		if err != nil {
			return
		}
		s := c.stream(st)
		select {
		case c.g.streams <- net.Conn(s):
		default:
			_ = s.Close() // memberlist is not keeping up: the peer tries again later
		}
	}
}

func (g *gossip) drop(reason string, n int) {
	g.e.metrics.gossipDrops.WithLabelValues(reason).Add(float64(n))
}

// outbox holds the packets for one address, and runs a sender only while there
// are any: thousands of members cost no goroutine each.
type outbox struct {
	g    *gossip
	addr memberlist.Address

	mu      sync.Mutex // before gossip.mu
	queue   [][]byte
	running bool
	pause   time.Time // after a failed dial: drop until then
}

// put queues a packet, in place of the oldest one if the queue is full.
func (o *outbox) put(b []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.pause.IsZero() {
		if time.Now().Before(o.pause) {
			o.g.drop("unreachable", 1)
			return
		}
		o.pause = time.Time{}
	}
	if len(o.queue) >= sendQueue {
		copy(o.queue, o.queue[1:])
		o.queue = o.queue[:len(o.queue)-1]
		o.g.drop("queue_full", 1)
	}
	o.queue = append(o.queue, b)
	if !o.running {
		o.running = o.g.spawn(o.run)
		if !o.running {
			o.queue = nil
		}
	}
}

// spawn starts f unless Shutdown has begun: the WaitGroup must not grow then.
func (g *gossip) spawn(f func()) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped {
		return false
	}
	g.wg.Go(f)
	return true
}

func (o *outbox) idle(now time.Time) bool {
	if !o.mu.TryLock() {
		return false // in use
	}
	defer o.mu.Unlock()
	return !o.running && len(o.queue) == 0 && !now.Before(o.pause)
}

// run sends until the queue is empty.
func (o *outbox) run() {
	for b := o.next(); b != nil; b = o.next() {
		err := o.send(b)
		if err != nil && !errors.Is(err, errUnreachable) && !errors.Is(err, errTooLarge) {
			// The connection may have ended just now (a peer that restarted):
			// one more attempt, on a new one.
			err = o.send(b)
		}
		switch {
		case err == nil:
		case errors.Is(err, errUnreachable):
			o.giveUp()
		case errors.Is(err, errTooLarge):
			o.g.drop("too_large", 1)
		default:
			o.g.drop("send_failed", 1)
		}
	}
}

var errUnreachable = errors.New("unreachable")

func (o *outbox) send(b []byte) error {
	c, err := o.g.connTo(o.g.ctx, o.addr)
	if err != nil {
		o.g.e.log.Debug("gossip peer not reached", "peer", o.addr.Name, "addr", o.addr.Addr, "err", err)
		return fmt.Errorf("%w: %w", errUnreachable, err)
	}
	return c.send(b)
}

func (o *outbox) next() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queue) == 0 {
		o.running = false
		o.queue = nil // the array would outlive a burst
		return nil
	}
	b := o.queue[0]
	o.queue[0] = nil
	o.queue = o.queue[1:]
	return b
}

// giveUp drops what waits for a peer that does not answer.
func (o *outbox) giveUp() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.g.drop("unreachable", len(o.queue)+1)
	o.queue = nil
	o.pause = time.Now().Add(dialPause)
}
