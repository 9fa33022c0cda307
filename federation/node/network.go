package node

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/raft"

	"landbridge/forwarding/rpc"
	"landbridge/lan/stream"
	"landbridge/store/raftlog"
)

// Network gives a node its sockets. Tests give one that simulates a network.
type Network interface {
	// ListenLAN binds the TCP port of Raft and RPC.
	ListenLAN(n *Node) (LANPort, error)
	// DialLAN returns how a client agent, which has no such port, reaches servers.
	DialLAN(n *Node) (func(ctx context.Context, addr string) (rpc.Session, error), error)
	// ListenWAN binds the UDP port of the WAN.
	ListenWAN(bind netip.AddrPort) (net.PacketConn, error)
	// LANGossip returns the LAN pool's transport; nil means UDP and TCP.
	LANGossip(n *Node) memberlist.Transport
	// OpenStores opens where Raft keeps its state.
	OpenStores(n *Node, opts raftlog.Options) (*raftlog.Stores, error)
}

// LANPort is a server's TCP port inside its datacenter.
type LANPort interface {
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
	Addr() net.Addr
	RaftLayer() raft.StreamLayer
	// OnSession is called before Start; f serves each session that is accepted,
	// in a goroutine of its own.
	OnSession(f func(sess rpc.Session, peer string))
	Dial(ctx context.Context, addr string) (rpc.Session, error)
}

// realNetwork uses the machine's.
type realNetwork struct{}

func (realNetwork) ListenLAN(n *Node) (LANPort, error) {
	p, err := stream.Listen(n.streamConfig(netip.AddrPortFrom(n.cfg.BindAddr, uint16(n.cfg.Ports.Server))))
	if err != nil {
		return nil, fmt.Errorf("server port: %w", err)
	}
	return streamPort{p, n.cfg.LANTLS}, nil
}

func (realNetwork) DialLAN(n *Node) (func(context.Context, string) (rpc.Session, error), error) {
	d, err := stream.NewDialer(n.streamConfig(netip.AddrPort{}))
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, addr string) (rpc.Session, error) {
		sess, err := d.Dial(ctx, addr)
		if err != nil {
			return nil, err
		}
		return sess, nil
	}, nil
}

func (realNetwork) ListenWAN(bind netip.AddrPort) (net.PacketConn, error) {
	return net.ListenUDP("udp", net.UDPAddrFromAddrPort(bind))
}

func (realNetwork) LANGossip(*Node) memberlist.Transport { return nil }

func (realNetwork) OpenStores(n *Node, opts raftlog.Options) (*raftlog.Stores, error) {
	if n.cfg.DevMode {
		return raftlog.OpenMemory(), nil
	}
	return raftlog.Open(n.cfg.DataDir, opts)
}

// streamPort gives lan/stream's port the interface's types.
type streamPort struct {
	*stream.Port
	tls *TLS // nil: none
}

// OnSession names a peer by what it proved. Without verify_server_hostname
// everybody on the LAN who may connect is trusted as a server, by address; with
// it, only who holds a server's certificate is.
func (p streamPort) OnSession(f func(rpc.Session, string)) {
	p.Port.OnSession(func(sess *stream.Session) {
		peer := sess.Peer()
		switch {
		case p.tls != nil && p.tls.Verify().ServerHostname && !sess.FromServer():
			peer = ""
		case peer == "":
			peer = sess.RemoteAddr().String()
		}
		f(sess, peer)
	})
}

func (p streamPort) Dial(ctx context.Context, addr string) (rpc.Session, error) {
	sess, err := p.Port.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	return sess, nil
}
