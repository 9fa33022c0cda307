package trust

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"landbridge/forwarding/rpc"
	"landbridge/store"
	"landbridge/store/state"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is some datacenters in one process, on a network with a delay.
type world struct {
	t     testing.TB
	delay time.Duration // one way
	wg    sync.WaitGroup
	mu    sync.Mutex // guards dcs where servers run: tests alone write
	dcs   map[string]*dc
	all   []*dc       // also those that nobody reaches
	lazy  atomic.Bool // see route
	// mangle, if set, may change what the dialing side of an enrolment sees.
	mangle func(EnrollConn) EnrollConn
	source netip.AddrPort // whom packets seem to come from
}

type dc struct {
	w       *world
	name    string
	st      *state.Store
	servers []*server
	leader  atomic.Int32 // index, -1 = none
	// refuse, if set, fails writes.
	refuse func(*store.Trust) error
	// refuseWrite is the same for promotions; it may be set while servers run.
	refuseWrite atomic.Pointer[func(*store.Command) error]
}

type server struct {
	*Authority
	dc     *dc
	index  int
	cancel context.CancelFunc
	done   chan struct{}
	logs   *logBuffer
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, dcs: make(map[string]*dc), source: netip.MustParseAddrPort("127.0.0.1:8302")}
	t.Cleanup(w.stop)
	return w
}

// add starts a datacenter of n servers, the first of which leads.
func (w *world) add(name string, n int, edit func(*Config)) *dc {
	w.t.Helper()
	d := &dc{w: w, name: name, st: state.New()}
	w.set(name, d)
	id := fmt.Sprintf("%x-cluster-%s", len(w.dcs), name)
	d.apply(store.Command{Kind: store.CmdCluster, Payload: (&store.Cluster{ID: id, HistoryID: "h"}).AppendWire(nil)})
	for range n {
		d.start(edit)
	}
	if err := d.lead().EstablishLeadership(w.t.Context()); err != nil {
		w.t.Fatalf("%s: %v", name, err)
	}
	for _, s := range d.servers {
		s.waitReady()
	}
	return d
}

// start adds a server to the datacenter.
func (d *dc) start(edit func(*Config)) *server {
	d.w.t.Helper()
	s := &server{dc: d, index: len(d.servers), done: make(chan struct{}), logs: &logBuffer{}}
	d.servers = append(d.servers, s)
	cfg := Config{
		Node:       fmt.Sprintf("s%d", s.index+1),
		Datacenter: d.name,
		Domain:     "consul",
		GossipKey:  func() []byte { return []byte("0123456789abcdef") },
		State:      StateOf(d.st),
		Apply: func(_ context.Context, cmd store.Command) (store.Result, error) {
			if !s.leads() {
				return store.Result{}, store.ErrNoLeader
			}
			return d.apply(cmd)
		},
		IsLeader:    s.leads,
		EnrollByKey: true,
		Call:        rpc.DoerFunc(s.route),
		Dial:        func(ctx context.Context, addr string) (EnrollConn, error) { return d.w.dial(ctx, s, addr) },
		Servers: func() []string {
			var names []string
			for _, s := range d.servers {
				names = append(names, s.cfg.Node)
			}
			return names
		},
		Logger:     slog.New(slog.NewTextHandler(s.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Registerer: prometheus.NewRegistry(),
	}
	if edit != nil {
		edit(&cfg)
	}
	var err error
	if s.Authority, err = New(cfg); err != nil {
		d.w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go func() {
		defer close(s.done)
		_ = s.Run(ctx)
	}()
	return s
}

// set names a datacenter, nil takes the name away.
func (w *world) set(name string, d *dc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dcs[name] = d; d == nil {
		delete(w.dcs, name)
	} else if !slices.Contains(w.all, d) {
		w.all = append(w.all, d)
	}
}

func (w *world) get(name string) *dc {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dcs[name]
}

func (w *world) stop() {
	for _, d := range w.all {
		for _, s := range d.servers {
			s.cancel()
			<-s.done
		}
	}
	w.wg.Wait()
	if w.t.Failed() {
		for _, d := range w.all {
			for _, s := range d.servers {
				w.t.Logf("log of %s:\n%s", s.self(), s.logs.tail())
			}
		}
	}
}

func (d *dc) lead() *server { return d.servers[d.leader.Load()] }

func (s *server) leads() bool { return int(s.dc.leader.Load()) == s.index }

func (d *dc) apply(cmd store.Command) (store.Result, error) {
	if refuse := d.refuseWrite.Load(); refuse != nil && cmd.Kind == store.CmdPromotion {
		if err := (*refuse)(&cmd); err != nil {
			return store.Result{}, err
		}
	}
	if d.refuse != nil && cmd.Kind == store.CmdTrust {
		var c store.TrustCommand
		if err := c.DecodeWire(cmd.Payload); err != nil {
			return store.Result{}, err
		}
		if err := d.refuse(&c.Trust); err != nil {
			return store.Result{}, err
		}
	}
	res := make([]store.Result, 1)
	d.st.Apply([]store.Command{cmd}, res)
	return res[0], nil
}

func (d *dc) trust() *store.Trust { return StateOf(d.st).Trust() }

// route is the dispatcher of a server.
func (s *server) route(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	d, r := s.dc, *req
	r.Origin, r.Peer = rpc.FromLAN, s.cfg.Node
	if req.Datacenter != "" && req.Datacenter != d.name {
		d = s.dc.w.get(req.Datacenter)
		if d == nil {
			return nil, store.ErrNoPath
		}
		r.Origin, r.Peer = rpc.FromWAN, s.self()
		if s.dc.w.lazy.Load() && req.Method == rpc.TrustSync {
			// Thousands in a year, and each handshake takes a millisecond.
		} else if err := s.canTalk(d.servers[len(d.servers)-1]); err != nil {
			return nil, store.Errorf(store.KindUnreachable, "%w", err)
		}
		time.Sleep(2 * s.dc.w.delay)
	}
	if d.leader.Load() < 0 {
		return nil, store.ErrNoLeader
	}
	l := d.lead()
	switch req.Method {
	case rpc.TrustSignServer:
		return l.SignServer(ctx, &r)
	case rpc.TrustSignIntermediate:
		return l.SignIntermediate(ctx, &r)
	case rpc.TrustJoin:
		return l.JoinHandler(ctx, &r)
	case rpc.TrustRoots:
		return l.Roots(ctx, &r)
	case rpc.TrustSync:
		return l.SyncHandler(ctx, &r)
	case rpc.TrustConfirm:
		return l.ConfirmHandler(ctx, &r)
	case rpc.TrustPull:
		return l.PullHandler(ctx, &r)
	case rpc.TrustEvict:
		return l.EvictHandler(ctx, &r)
	case rpc.TrustRotate:
		return l.RotateHandler(ctx, &r)
	case rpc.TrustToken:
		return l.TokenHandler(ctx, &r)
	case rpc.TrustPromotion:
		return l.PromotionHandler(ctx, &r)
	case rpc.TrustPromote:
		return l.PromoteHandler(ctx, &r)
	case rpc.TrustFollow:
		return l.FollowHandler(ctx, &r)
	}
	return nil, store.Errorf(store.KindInternal, "method %d", req.Method)
}

// dial opens an enrolment connection to "<node>.<dc>".
func (w *world) dial(ctx context.Context, from *server, addr string) (EnrollConn, error) {
	to := w.find(addr)
	if to == nil {
		return nil, store.Errorf(store.KindUnreachable, "nobody at %s", addr)
	}
	server, err := to.ServerTLS(EnrollALPN)
	if err != nil {
		return nil, err
	}
	client, err := from.ClientTLS(EnrollALPN, "")
	if err != nil {
		return nil, err
	}
	a, b := newPipe(w.delay, w.source)
	c := tls.Client(a, client)
	w.wg.Go(func() {
		s := tls.Server(b, server)
		if s.HandshakeContext(context.Background()) != nil {
			b.Close()
			return
		}
		to.ServeEnroll(context.Background(), &tlsConn{s, b})
	})
	if err := c.HandshakeContext(ctx); err != nil {
		a.Close()
		return nil, err
	}
	var conn EnrollConn = &tlsConn{c, a}
	if w.mangle != nil {
		conn = w.mangle(conn)
	}
	return conn, nil
}

func (w *world) find(peer string) *server {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range w.dcs {
		for _, s := range d.servers {
			if s.self() == peer {
				return s
			}
		}
	}
	return nil
}

// canTalk makes an RPC handshake between two servers and returns why not.
func (s *server) canTalk(to *server) error {
	client, err := s.ClientTLS(RPCALPN, to.self())
	if err != nil {
		return err
	}
	server, err := to.ServerTLS(RPCALPN)
	if err != nil {
		return err
	}
	_, cerr, serr := handshake(client, server)
	if serr != nil {
		return fmt.Errorf("accepting: %w", serr)
	}
	if cerr != nil {
		return fmt.Errorf("dialing: %w", cerr)
	}
	return nil
}

// handshake runs both sides, one byte exchanged after it so that the client
// hears of a refusal.
func handshake(client, server *tls.Config) (state tls.ConnectionState, clientErr, serverErr error) {
	a, b := newPipe(0, netip.MustParseAddrPort("127.0.0.1:1"))
	defer a.Close()
	done := make(chan error, 1)
	go func() {
		defer b.Close()
		s := tls.Server(b, server)
		err := s.Handshake()
		if err == nil {
			_, err = s.Write([]byte{1})
		}
		done <- err
	}()
	c := tls.Client(a, client)
	if clientErr = c.Handshake(); clientErr == nil {
		_, clientErr = io.ReadFull(c, make([]byte, 1))
		state = c.ConnectionState()
	} else {
		a.Close()
	}
	return state, clientErr, <-done
}

// ask runs a trust method as an operator's command at a server does.
func (s *server) ask(id rpc.MethodID, dc string, enc func([]byte) []byte) ([]byte, error) {
	resp, err := s.route(context.Background(), &rpc.Request{Method: id, Datacenter: dc, Body: enc(nil)})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// evict evicts a server at the primary, and lets all servers know.
func (w *world) evict(node, dc string) {
	w.t.Helper()
	m := evictRequest{node: node, datacenter: dc}
	if _, err := w.dcs["dc1"].lead().ask(rpc.TrustEvict, "", m.append); err != nil {
		w.t.Fatal(err)
	}
	w.announce()
}

// announce tells all servers what the others announce, as gossip does, and gives them
// time to follow.
func (w *world) announce() {
	for _, from := range w.dcs {
		if from.leader.Load() < 0 {
			continue
		}
		revision := from.lead().Revision()
		term, primary := from.lead().Term()
		for _, d := range w.dcs {
			for _, s := range d.servers {
				if revision > 0 {
					s.Announced(from.name, revision)
				}
				if term > 0 {
					s.AnnouncedTerm(from.name, term, primary)
				}
			}
		}
	}
	time.Sleep(5 * time.Second)
}

func (s *server) waitReady() {
	s.dc.w.t.Helper()
	select {
	case <-s.Ready():
	case <-time.After(10 * time.Second):
		s.dc.w.t.Fatalf("%s has no certificate", s.self())
	}
}

// all checks that every server can call every other one, and returns how many
// roots each datacenter trusts.
func (w *world) allTalk() {
	w.t.Helper()
	for _, d := range w.dcs {
		for _, s := range d.servers {
			if err := s.awaitRoot(w.t.Context(), d.trust().Roots[0].ID); err != nil {
				w.t.Fatalf("%s: %v", s.self(), err)
			}
		}
	}
	for _, d := range w.dcs {
		for _, s := range d.servers {
			for _, e := range w.dcs {
				for _, to := range e.servers {
					if err := s.canTalk(to); err != nil {
						w.t.Errorf("%s -> %s: %v", s.self(), to.self(), err)
					}
				}
			}
		}
	}
}

func (w *world) activeRoots() map[string]string {
	m := make(map[string]string)
	for n, d := range w.dcs {
		m[n] = d.trust().Roots[0].ID
	}
	return m
}

// tlsConn is crypto/tls as an EnrollConn. Close does not wait to say goodbye.
type tlsConn struct {
	*tls.Conn
	raw net.Conn
}

func (c *tlsConn) Close() error { return c.raw.Close() }

func (c *tlsConn) ExportKeyingMaterial(label string, context []byte, n int) ([]byte, error) {
	cs := c.ConnectionState()
	return cs.ExportKeyingMaterial(label, context, n)
}

func (c *tlsConn) PeerCertificates() []*x509.Certificate { return c.ConnectionState().PeerCertificates }

// pipe is one end of a buffered connection with a delay; it works under virtual
// time, where net.Pipe's lack of buffers would make both sides wait.
type pipe struct {
	in, out *half
	addr    net.Addr
	mu      sync.Mutex
	expired chan struct{}
	timer   *time.Timer
}

type half struct {
	delay  time.Duration
	mu     sync.Mutex
	queue  []chunk
	closed bool
	signal chan struct{}
}

type chunk struct {
	at time.Time
	b  []byte
}

func newPipe(delay time.Duration, source netip.AddrPort) (a, b *pipe) {
	x := &half{delay: delay, signal: make(chan struct{}, 1)}
	y := &half{delay: delay, signal: make(chan struct{}, 1)}
	addr := net.UDPAddrFromAddrPort(source)
	return &pipe{in: x, out: y, addr: addr, expired: make(chan struct{})}, &pipe{in: y, out: x, addr: addr, expired: make(chan struct{})}
}

func (h *half) push(b []byte, end bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.closed = end
	h.queue = append(h.queue, chunk{time.Now().Add(h.delay), append([]byte(nil), b...)})
	select {
	case h.signal <- struct{}{}:
	default:
	}
	return true
}

func (p *pipe) Read(b []byte) (int, error) {
	for {
		p.mu.Lock()
		expired := p.expired
		p.mu.Unlock()
		p.in.mu.Lock()
		var wait <-chan time.Time
		if len(p.in.queue) > 0 {
			c := &p.in.queue[0]
			if d := time.Until(c.at); d > 0 {
				wait = time.After(d)
			} else {
				n := copy(b, c.b)
				c.b = c.b[n:]
				end := len(c.b) == 0 && p.in.closed && len(p.in.queue) == 1
				if len(c.b) == 0 && !end {
					p.in.queue = p.in.queue[1:]
				}
				p.in.mu.Unlock()
				if n == 0 && end {
					return 0, io.EOF
				}
				if n == 0 {
					continue
				}
				return n, nil
			}
		}
		p.in.mu.Unlock()
		select {
		case <-p.in.signal:
		case <-wait:
		case <-expired:
			return 0, os.ErrDeadlineExceeded
		}
	}
}

func (p *pipe) Write(b []byte) (int, error) {
	if !p.out.push(b, false) {
		return 0, io.ErrClosedPipe
	}
	return len(b), nil
}

func (p *pipe) Close() error {
	p.out.push(nil, true)
	_ = p.SetDeadline(time.Unix(1, 0))
	return nil
}

func (p *pipe) SetDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer != nil {
		p.timer.Stop()
	}
	select {
	case <-p.expired:
		p.expired = make(chan struct{})
	default:
	}
	ch := p.expired
	if t.IsZero() {
		return nil
	}
	if d := time.Until(t); d > 0 {
		p.timer = time.AfterFunc(d, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.expired == ch {
				select {
				case <-ch:
				default:
					close(ch)
				}
			}
		})
	} else {
		close(ch)
	}
	return nil
}

func (p *pipe) SetReadDeadline(t time.Time) error { return p.SetDeadline(t) }
func (p *pipe) SetWriteDeadline(time.Time) error  { return nil }
func (p *pipe) LocalAddr() net.Addr               { return p.addr }
func (p *pipe) RemoteAddr() net.Addr              { return p.addr }

type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) tail() string {
	s := l.String()
	return s[max(0, len(s)-3000):]
}

func addrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
