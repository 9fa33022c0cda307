package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/quic-go/quic-go"
)

// ErrStopped is the cause of everything that ends because the Endpoint stopped.
var ErrStopped = errors.New("wan/transport: stopped")

// Application error codes of CONNECTION_CLOSE and stream resets. They are part
// of the wire format.
const (
	codeClosed   = 0 // the owner is done with it
	codeReplaced = 1 // another connection to the same peer carries on
	codeRefused  = 2 // who answered is not who was wanted, or a limit was reached
	codeStopped  = 3 // the process ends
)

// Endpoint is the UDP socket and all connections on it.
type Endpoint struct {
	cfg      Config
	log      *slog.Logger
	metrics  *metrics
	socket   net.PacketConn
	quic     *quic.Transport
	listener *quic.Listener
	config   *quic.Config
	gate     *gate
	sessions atomic.Pointer[sessionCache]
	tokens   quic.TokenStore

	onRPC    func(*Session, string)
	onEnroll func(*EnrollConn)

	tunnelBytes atomic.Int64 // that wait on legs
	relayed     meter

	ctx    context.Context // done when Stop begins
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu          sync.Mutex
	gossip      *gossip // RenewGossip replaces it
	started     bool
	stopped     bool
	conns       map[*connection]struct{}
	inside      *tunnelSocket           // nil until the first tunnel
	tunnelCount map[tunnelKey]int       // those carried, and those that end here
	relayLogged map[[2]string]time.Time // datacenters -> when a tunnel of theirs was logged
	sources     map[netip.Addr]int      // enrolment connections by source
	done        chan struct{}           // made by the first Stop, closed when all has ended
}

// connection is one authenticated (or enrolling) QUIC connection.
type connection struct {
	quic     *quic.Conn
	protocol string
	peer     string // "" while enrolling
	dialed   bool
	since    time.Time
	bulk     atomic.Bool // Session.ForBulk
	leg      *leg        // of the tunnel it runs through; nil: it has a path of its own
}

func (c *connection) remote() netip.AddrPort {
	if c.leg != nil {
		return c.leg.conn.remote()
	}
	return addrPortOf(c.quic.RemoteAddr())
}

// via is the relay it runs through, "" if none.
func (c *connection) via() string {
	if c.leg == nil {
		return ""
	}
	return c.leg.conn.peer
}

func (c *connection) side() string {
	if c.dialed {
		return "dialed"
	}
	return "accepted"
}

// Listen binds the socket. Nothing is accepted before Start; dialing works at
// once.
func Listen(cfg Config) (*Endpoint, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.setDefaults()
	socket := cfg.Socket
	if socket == nil {
		network := "udp"
		if cfg.Address.Addr().Is4() {
			network = "udp4" // else 0.0.0.0 would also take IPv6
		}
		udp, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(cfg.Address))
		if err != nil {
			return nil, fmt.Errorf("wan/transport: %w", err)
		}
		socket = udp
	}
	e := &Endpoint{
		cfg:         cfg,
		log:         cfg.Logger,
		metrics:     newMetrics(cfg.Registerer),
		socket:      socket,
		tokens:      quic.NewLRUTokenStore(128, 2),
		conns:       make(map[*connection]struct{}),
		sources:     make(map[netip.Addr]int),
		tunnelCount: make(map[tunnelKey]int),
		relayLogged: make(map[[2]string]time.Time),
	}
	e.ForgetSessions()
	e.ctx, e.cancel = context.WithCancel(context.Background())
	e.gate = newGate(cfg.MaxHandshakes, e.metrics)
	reset := quic.StatelessResetKey(derive(cfg.Secret, "stateless reset", 0))
	e.quic = &quic.Transport{
		Conn:                socket,
		StatelessResetKey:   &reset,
		VerifySourceAddress: func(net.Addr) bool { return e.gate.loaded() },
		ConnContext:         e.gate.admit,
		Tracer:              garbageCounter{e.metrics},
		// 8 bytes: with many connections a random 4-byte id would now and then
		// make a stranger's packet look like one of ours.
		ConnectionIDLength: 8,
	}
	e.config = &quic.Config{
		HandshakeIdleTimeout: cfg.HandshakeTimeout,
		MaxIdleTimeout:       cfg.IdleTimeout,
		EnableDatagrams:      true,
		// The first packets pass links with an MTU of 1280, where IPv6 begins and many
		// tunnels end; larger ones follow once the path has shown that it takes them.
		InitialPacketSize: 1200,
		// One window for all protocols: the ALPN name is not known when it is
		// promised, so it must be small enough for a stranger who enrols.
		InitialStreamReceiveWindow:     1 << 20,
		MaxStreamReceiveWindow:         6 << 20,
		InitialConnectionReceiveWindow: 2 << 20,
		MaxConnectionReceiveWindow:     16 << 20,
		MaxIncomingStreams:             4096,
		MaxIncomingUniStreams:          64,
		TokenStore:                     e.tokens,
	}
	listener, err := e.quic.Listen(e.listenTLS(ALPNGossip, ALPNRPC, ALPNEnroll, ALPNRelay), e.config)
	if err != nil {
		e.cancel()
		return nil, errors.Join(fmt.Errorf("wan/transport: listen on %s: %w", socket.LocalAddr(), err), socket.Close())
	}
	e.listener = listener
	e.gossip = newGossip(e)
	return e, nil
}

// OnRPC sets who serves accepted RPC sessions; called in a goroutine of its own
// for each, it may stay until the session ends. Before Start. Without it RPC
// sessions are refused.
func (e *Endpoint) OnRPC(f func(sess *Session, peer string)) { e.onRPC = f }

// OnEnroll sets who serves enrolments, as OnRPC. The conn is closed when f
// returns.
func (e *Endpoint) OnEnroll(f func(conn *EnrollConn)) { e.onEnroll = f }

// Gossip is the transport for the WAN pool. It carries packets from Start on;
// its Shutdown ends the gossip connections and leaves the others alone.
func (e *Endpoint) Gossip() memberlist.NodeAwareTransport { return e.currentGossip() }

// RenewGossip returns another transport for the WAN pool, in place of the one that
// was shut down when the pool was left.
func (e *Endpoint) RenewGossip() (memberlist.NodeAwareTransport, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped {
		return nil, ErrStopped
	}
	if e.gossip.ctx.Err() == nil {
		return nil, errors.New("wan/transport: the gossip transport is in use")
	}
	e.gossip = newGossip(e)
	return e.gossip, nil
}

func (e *Endpoint) currentGossip() *gossip {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.gossip
}

// Addr is the bound address.
func (e *Endpoint) Addr() netip.AddrPort { return addrPortOf(e.socket.LocalAddr()) }

// Start begins to accept. The context bounds nothing but the call.
func (e *Endpoint) Start(context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.stopped:
		return ErrStopped
	case e.started:
		return errors.New("wan/transport: started twice")
	}
	e.started = true
	e.wg.Go(func() { e.accept(e.listener) })
	e.wg.Go(e.countStrangers)
	return nil
}

// Stop closes all connections, tells their peers, and releases the socket. It
// waits for the handlers of OnRPC and OnEnroll until ctx is done.
func (e *Endpoint) Stop(ctx context.Context) error {
	e.mu.Lock()
	first := !e.stopped
	if first {
		e.stopped = true
		e.done = make(chan struct{})
	}
	e.mu.Unlock()
	if first {
		e.cancel()
		go e.stop() // ends by itself: all it waits for was just told to end
	}
	select {
	case <-e.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wan/transport: stop: %w", context.Cause(ctx))
	}
}

func (e *Endpoint) stop() {
	defer close(e.done)
	// Connections before the listener and the socket: their peers should read
	// CONNECTION_CLOSE and not wait for a time-out.
	e.closeAll(func(*connection) bool { return true }, codeStopped, "stopped")
	_ = e.listener.Close()
	_ = e.currentGossip().Shutdown()
	e.closeAll(func(*connection) bool { return true }, codeStopped, "stopped")
	if s := e.tunnelSocket(); s != nil {
		s.stop()
	}
	_ = e.quic.Close()
	_ = e.socket.Close()
	e.wg.Wait()
}

// CloseAll closes all connections: of a server that leaves the federation.
func (e *Endpoint) CloseAll() {
	e.closeAll(func(*connection) bool { return true }, codeClosed, "left the federation")
}

func (e *Endpoint) closeAll(choose func(*connection) bool, code quic.ApplicationErrorCode, text string) int {
	var chosen []*connection
	for _, c := range e.snapshot() {
		if choose(c) {
			chosen = append(chosen, c)
		}
	}
	var wg sync.WaitGroup
	for _, c := range chosen {
		wg.Go(func() { _ = c.quic.CloseWithError(code, text) })
	}
	wg.Wait()
	return len(chosen)
}

// spawn runs f in a goroutine that Stop waits for; false when that has begun.
func (e *Endpoint) spawn(f func()) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped {
		return false
	}
	e.wg.Go(f)
	return true
}

func (e *Endpoint) snapshot() []*connection {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := make([]*connection, 0, len(e.conns))
	for c := range e.conns {
		list = append(list, c)
	}
	return list
}

// register counts a connection until it ends. It refuses one when stopping, or
// when the peer or, while enrolling, its address has too many accepted ones.
func (e *Endpoint) register(c *connection) error {
	source := c.remote().Addr()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped {
		return ErrStopped
	}
	if !c.dialed {
		if err := e.overLimit(c, source); err != nil {
			return err
		}
	}
	e.conns[c] = struct{}{}
	e.metrics.conns.WithLabelValues(c.protocol, c.side()).Inc()
	if c.protocol == "enroll" && !c.dialed {
		e.sources[source]++
	}
	context.AfterFunc(c.quic.Context(), func() { e.unregister(c, source) })
	return nil
}

// overLimit is called with mu held.
func (e *Endpoint) overLimit(c *connection, source netip.Addr) error {
	if c.protocol == "enroll" {
		total := 0
		for _, n := range e.sources {
			total += n
		}
		if total >= e.cfg.MaxEnrollments || e.sources[source] >= e.cfg.MaxEnrollmentsPerSource {
			return errors.New("too many enrolments at once")
		}
		return nil
	}
	n, most, relay := 0, e.cfg.MaxConnsPerPeer, c.protocol == "relay"
	if relay {
		most = e.cfg.MaxTunnels // each brings a tunnel of somebody else
	}
	for other := range e.conns {
		if other.peer == c.peer && !other.dialed && (other.protocol == "relay") == relay {
			n++
		}
	}
	if n >= most {
		return fmt.Errorf("%s has %d connections open", c.peer, n)
	}
	return nil
}

func (e *Endpoint) unregister(c *connection, source netip.Addr) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.conns, c)
	e.metrics.conns.WithLabelValues(c.protocol, c.side()).Dec()
	if c.protocol == "enroll" && !c.dialed {
		if e.sources[source]--; e.sources[source] <= 0 {
			delete(e.sources, source)
		}
	}
}

func addrPortOf(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case *net.UDPAddr:
		ap = a.AddrPort()
	case nil:
	default:
		ap, _ = netip.ParseAddrPort(a.String())
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
