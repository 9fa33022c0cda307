package stream

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// raftLayer is the Raft half of a Port: raft.StreamLayer, made for
// raft.NetworkTransport, which owns the connections it gets.
type raftLayer struct {
	p      *Port
	accept chan net.Conn

	mu     sync.Mutex
	closed bool
	done   chan struct{}
	conns  map[*raftConn]struct{} // accepted, not closed yet
}

func newRaftLayer(p *Port) *raftLayer {
	return &raftLayer{p: p, accept: make(chan net.Conn, 16), done: make(chan struct{}), conns: make(map[*raftConn]struct{})}
}

// Accept waits for a Raft connection.
func (r *raftLayer) Accept() (net.Conn, error) {
	select {
	case c := <-r.accept:
		return c, nil
	case <-r.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept and refuses Raft connections; those accepted stay Raft's.
func (r *raftLayer) Close() error {
	r.mu.Lock()
	if !r.closed {
		r.closed = true
		close(r.done)
	}
	r.mu.Unlock()
	// deliver adds none any more.
	for {
		select {
		case c := <-r.accept:
			c.Close()
		default:
			return nil
		}
	}
}

// Addr is how other servers reach this one.
func (r *raftLayer) Addr() net.Addr {
	if a := r.p.cfg.Advertise; a != nil {
		return a
	}
	return r.p.ln.Addr()
}

// Dial opens a Raft connection to another server.
func (r *raftLayer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx := context.Background()
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	conn, _, err := r.p.connect(ctx, string(address), protoRaft)
	return conn, err
}

// deliver hands a connection to Accept, or closes it if nobody takes any.
func (r *raftLayer) deliver(c *raftConn) {
	c.layer = r
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		c.Close()
		return
	}
	select {
	case r.accept <- c:
		r.conns[c] = struct{}{}
		r.mu.Unlock()
	default: // Raft has not taken the last 16
		r.mu.Unlock()
		r.p.refused(c, "raft_backlog", net.ErrClosed)
		c.Close()
	}
}

// stop closes everything, whatever Raft has done.
func (r *raftLayer) stop() {
	r.Close()
	r.mu.Lock()
	conns := make([]*raftConn, 0, len(r.conns))
	for c := range r.conns {
		conns = append(conns, c)
	}
	r.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
}

// raftConn counts its connection out when Raft closes it.
type raftConn struct {
	net.Conn
	layer  *raftLayer
	closed func()
	once   sync.Once
}

func (c *raftConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		c.layer.mu.Lock()
		delete(c.layer.conns, c)
		c.layer.mu.Unlock()
		c.closed()
	})
	return err
}
