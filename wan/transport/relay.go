package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/quic-go/quic-go"
)

const (
	// relayTime bounds the setting up of a tunnel at those who are asked for it.
	relayTime = 5 * time.Second
	// relayDial bounds a relay's dial of the target.
	relayDial = 1500 * time.Millisecond
	// tunnelIdle ends a tunnel that carried nothing, as QUIC ends idle connections.
	tunnelIdle = time.Minute
	// relayLogEvery is how often at most a relay logs tunnels of the same two datacenters
	// for the operator; between, for who debugs.
	relayLogEvery = time.Minute
	// relayRate and relayBurst bound what a relay carries of all tunnels together, in
	// bytes a second and bytes: a tenth of a core, so that its own work goes on.
	relayRate  = 8 << 20
	relayBurst = 1 << 20
)

// datacenterOf is the datacenter in "<node>.<dc>", "" if it is no such name.
func datacenterOf(name string) string {
	i := strings.LastIndexByte(name, '.')
	if i <= 0 {
		return ""
	}
	return name[i+1:]
}

// NoPath says whether a dial failed because nothing came back: another way may lead
// there. Who was answered, by whomever, has a path.
func NoPath(err error) bool {
	var (
		app       *quic.ApplicationError
		transport *quic.TransportError
		reset     *quic.StatelessResetError
		version   *quic.VersionNegotiationError
		wrong     *WrongPeerError
		timeout   net.Error
		op        *net.OpError
	)
	switch {
	case err == nil, errors.Is(err, ErrStopped), errors.Is(err, context.Canceled), errors.As(err, &app), errors.As(err, &reset), errors.As(err, &version), errors.As(err, &wrong):
		return false
	case errors.As(err, &transport):
		return errors.As(err, &op) // the socket did not take the packet
	}
	return errors.As(err, &op) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

// DialRelayed opens a session to the server named peer through the one named relay
// at addr, which must be of a third datacenter and carry tunnels. The session is as
// any other: the same certificates are required of the same two ends, and the relay
// sees how much passes and when, nothing else. Errors name the relay.
func (e *Endpoint) DialRelayed(ctx context.Context, addr netip.AddrPort, relay, peer string) (*Session, error) {
	return e.dialRelayed(ctx, addr, relay, &tunnelRequest{target: peer})
}

// DialBeside opens one more session through the relay of s to its peer, for large
// answers: a relay keeps half of its room for tunnels of calls.
func (e *Endpoint) DialBeside(ctx context.Context, s *Session) (*Session, error) {
	if s.Via() == "" {
		return nil, fmt.Errorf("%s is not reached through a relay", s.Peer())
	}
	return e.dialRelayed(ctx, s.RemoteAddr(), s.Via(), &tunnelRequest{target: s.Peer(), bulk: true})
}

func (e *Endpoint) dialRelayed(ctx context.Context, addr netip.AddrPort, relay string, req *tunnelRequest) (*Session, error) {
	peer := req.target
	s, err := e.tunnels()
	if err != nil {
		return nil, err
	}
	c, err := e.dial(ctx, addr, ALPNRelay, relay)
	if err != nil {
		return nil, fmt.Errorf("relay %s: %w", relay, err)
	}
	l := e.newLeg(c, peer)
	if err = c.ask(ctx, req); err == nil {
		err = s.attach(l)
	}
	var inside *connection
	if err == nil {
		e.metrics.tunnels.WithLabelValues(roleOrigin).Inc()
		context.AfterFunc(c.quic.Context(), e.metrics.tunnels.WithLabelValues(roleOrigin).Dec)
		inside, err = e.dialOn(ctx, way{s.quic, s.config, l.addr, l}, ALPNRPC, peer)
	}
	if err != nil {
		l.close(err)
		return nil, fmt.Errorf("%s through relay %s: %w", peer, relay, err)
	}
	return newSession(inside), nil
}

// ask asks the other side of a relay connection for a tunnel.
func (c *connection) ask(ctx context.Context, req *tunnelRequest) error {
	ctx, cancel := context.WithTimeoutCause(ctx, relayTime, errNoAnswer)
	defer cancel()
	st, err := c.quic.OpenStreamSync(ctx)
	if err != nil {
		return cause(err)
	}
	defer context.AfterFunc(ctx, func() { st.CancelRead(codeClosed); st.CancelWrite(codeClosed) })()
	if _, err := st.Write(req.append(nil)); err == nil {
		_ = st.Close()
	}
	// A failed write is told of by the read.
	b, err := readMessage(st)
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("asking %s for a tunnel: %w", c.peer, context.Cause(ctx))
		}
		return fmt.Errorf("asking %s for a tunnel: %w", c.peer, cause(err))
	}
	reply, err := decodeTunnelReply(b)
	if err != nil {
		return fmt.Errorf("asking %s for a tunnel: %w", c.peer, err)
	}
	if reply.reason != relayOK {
		return &RelayError{Peer: c.peer, Reason: reply.reason, Text: reply.text}
	}
	return nil
}

// serveRelay answers who asks for a tunnel, and carries it if this server is the
// relay. It returns when the tunnel is set up, or refused.
func (e *Endpoint) serveRelay(c *connection) {
	ctx, cancel := context.WithTimeoutCause(e.ctx, relayTime, errNoAnswer)
	defer cancel()
	st, err := c.quic.AcceptStream(ctx)
	if err != nil {
		_ = c.quic.CloseWithError(codeRefused, "no request for a tunnel")
		return
	}
	_ = st.SetDeadline(time.Now().Add(relayTime))
	b, err := readMessage(st)
	var req tunnelRequest
	if err == nil {
		req, err = decodeTunnelRequest(b)
	}
	refused := &RelayError{Reason: RelayMalformed}
	switch {
	case err != nil:
		refused.Text = "request for a tunnel: " + err.Error()
	case req.target == e.cfg.Name:
		refused = e.deliverTunnel(c, &req)
	default:
		refused = e.carry(ctx, c, &req)
	}
	if refused == nil {
		_, _ = st.Write((&tunnelReply{}).append(nil))
		_ = st.Close()
		return
	}
	e.metrics.relayRefused.WithLabelValues(refused.Reason.String()).Inc()
	e.log.Debug("tunnel refused", "peer", c.peer, "target", req.target, "reason", refused.Reason.String(), "err", refused.Text)
	_, _ = st.Write((&tunnelReply{refused.Reason, refused.Text}).append(nil))
	_ = st.Close()
	time.AfterFunc(legLinger, func() { _ = c.quic.CloseWithError(codeRefused, "tunnel refused") })
}

func refuse(reason RelayRefusal, format string, args ...any) *RelayError {
	return &RelayError{Reason: reason, Text: fmt.Sprintf(format, args...)}
}

// deliverTunnel takes the end of a tunnel that a relay made for another server.
func (e *Endpoint) deliverTunnel(c *connection, req *tunnelRequest) *RelayError {
	own, origin := datacenterOf(e.cfg.Name), datacenterOf(req.origin)
	switch {
	case req.hops != 1 || origin == "":
		return refuse(RelayHops, "%d relays passed, want one that names whom it asks for", req.hops)
	case origin == own || datacenterOf(c.peer) == own || datacenterOf(c.peer) == origin:
		return refuse(RelayLoop, "a tunnel of %s through %s to %s does not join three datacenters", req.origin, c.peer, e.cfg.Name)
	}
	s, err := e.tunnels()
	if err != nil {
		return refuse(RelayRefused, "%s", err)
	}
	if refused := e.countTunnel(roleTarget, c, req.bulk); refused != nil {
		return refused
	}
	if err := s.attach(e.newLeg(c, req.origin)); err != nil {
		return refuse(RelayRefused, "%s", err)
	}
	return nil
}

// carry makes this server the relay between two others.
func (e *Endpoint) carry(ctx context.Context, c *connection, req *tunnelRequest) *RelayError {
	own, from, to := datacenterOf(e.cfg.Name), datacenterOf(c.peer), datacenterOf(req.target)
	switch {
	case e.cfg.RelayTo == nil:
		return refuse(RelayOff, "%s does not carry calls for others (federation.relay)", e.cfg.Name)
	case req.hops != 0 || req.origin != "":
		return refuse(RelayHops, "%s asks for %s: one relay is the most", c.peer, req.origin)
	case from == own || to == own || from == to:
		return refuse(RelayLoop, "a tunnel of %s through %s to %s does not join three datacenters", c.peer, e.cfg.Name, req.target)
	}
	if refused := e.countTunnel(roleRelay, c, req.bulk); refused != nil {
		return refused
	}
	addr, ok := e.cfg.RelayTo(req.target)
	if !ok {
		return refuse(RelayUnknown, "%s knows no server %s", e.cfg.Name, req.target)
	}
	dialing, cancel := context.WithTimeoutCause(ctx, relayDial, errNoAnswer)
	defer cancel()
	onward, err := e.dial(dialing, addr, ALPNRelay, req.target)
	if err != nil {
		return refuse(RelayUnreachable, "%s", err)
	}
	if err := onward.ask(ctx, &tunnelRequest{target: req.target, origin: c.peer, hops: 1, bulk: req.bulk}); err != nil {
		_ = onward.quic.CloseWithError(codeClosed, "")
		return refuse(RelayRefused, "%s", err)
	}
	t := &carried{from: e.newLeg(c, ""), to: e.newLeg(onward, ""), began: time.Now()}
	t.last.Store(t.began.UnixNano())
	forth, back := e.metrics.relayBytes.WithLabelValues("forth"), e.metrics.relayBytes.WithLabelValues("back")
	t.from.deliver = func(b []byte) { e.pass(t, t.to, b, forth) }
	t.to.deliver = func(b []byte) { e.pass(t, t.from, b, back) }
	level := e.relayLevel(from, to, t.began)
	e.log.Log(ctx, level, "carries calls between two datacenters", "origin", c.peer, "peer", req.target)
	idle := time.AfterFunc(tunnelIdle, func() { e.endIdle(t) })
	t.mu.Lock()
	t.idle = idle
	t.mu.Unlock()
	context.AfterFunc(c.quic.Context(), func() {
		idle.Stop()
		end := cause(context.Cause(c.quic.Context()))
		t.to.close(fmt.Errorf("%s: %w", c.peer, end))
		e.log.Log(context.Background(), level, "carries calls between two datacenters no more", "origin", c.peer, "peer", req.target,
			"after", time.Since(t.began).Round(time.Millisecond), "bytes", t.bytes.Load(), "why", end)
	})
	context.AfterFunc(onward.quic.Context(), func() {
		t.from.close(fmt.Errorf("%s: %w", onward.peer, cause(context.Cause(onward.quic.Context()))))
	})
	if !t.from.start() || !t.to.start() {
		t.from.close(ErrStopped)
	}
	return nil
}

// relayLevel is the level at which a tunnel is logged.
func (e *Endpoint) relayLevel(from, to string, now time.Time) slog.Level {
	e.mu.Lock()
	defer e.mu.Unlock()
	for pair, at := range e.relayLogged {
		if now.Sub(at) >= relayLogEvery {
			delete(e.relayLogged, pair)
		}
	}
	pair := [2]string{from, to}
	if _, ok := e.relayLogged[pair]; ok {
		return slog.LevelDebug
	}
	e.relayLogged[pair] = now
	return slog.LevelInfo
}

// pass hands a packet to the other leg, within what relaying may cost.
func (e *Endpoint) pass(t *carried, to *leg, b []byte, counter prometheus.Counter) {
	now := time.Now()
	if !e.relayed.take(len(b), relayRate, relayBurst, now) {
		e.metrics.relayDrops.WithLabelValues("rate").Inc()
		return
	}
	t.last.Store(now.UnixNano())
	t.bytes.Add(uint64(len(b)))
	counter.Add(float64(len(b)))
	to.put(b)
}

// endIdle runs when a tunnel may have been idle for long.
func (e *Endpoint) endIdle(t *carried) {
	if left := tunnelIdle - time.Since(time.Unix(0, t.last.Load())); left > 0 {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.from.alive() {
			t.idle.Reset(left)
		}
		return
	}
	t.from.close(errors.New("nothing passed for a minute"))
}

// Roles in a tunnel.
const (
	roleOrigin = "origin" // asked for it
	roleRelay  = "relay"
	roleTarget = "target"
)

type tunnelKey struct{ role, peer string }

// countTunnel counts a tunnel until the connection that asked for it ends, unless
// there are too many: half as many for one that is for large answers.
func (e *Endpoint) countTunnel(role string, c *connection, bulk bool) *RelayError {
	most, mostOfPeer := e.cfg.MaxTunnels, e.cfg.MaxTunnelsPerPeer
	if bulk {
		most, mostOfPeer = most/2, mostOfPeer/2
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	k, all := tunnelKey{role, c.peer}, 0
	for other, n := range e.tunnelCount {
		if other.role == role {
			all += n
		}
	}
	if all >= most || role == roleRelay && e.tunnelCount[k] >= mostOfPeer {
		return refuse(RelayLimit, "%s has %d tunnels open, %d for %s", e.cfg.Name, all, e.tunnelCount[k], c.peer)
	}
	e.tunnelCount[k]++
	e.metrics.tunnels.WithLabelValues(role).Inc()
	context.AfterFunc(c.quic.Context(), func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.tunnelCount[k]--; e.tunnelCount[k] == 0 {
			delete(e.tunnelCount, k)
		}
		e.metrics.tunnels.WithLabelValues(role).Dec()
	})
	return nil
}
