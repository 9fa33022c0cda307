package dnsapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"landbridge/store"
)

// questionTimeout bounds one question: resolvers give up after about five seconds.
const questionTimeout = 5 * time.Second

type listeners struct {
	mu      sync.Mutex
	servers []*dns.Server
	serving sync.WaitGroup
}

// Listen binds UDP and TCP on an address, port 0 included (both then share the
// port that UDP got), and returns it. Serving starts at once.
func (s *Server) Listen(addr string) (net.Addr, error) {
	pc, err := net.ListenPacket("udp", addr)
	if err != nil {
		return nil, fmt.Errorf("dns: %w", err)
	}
	ln, err := net.Listen("tcp", pc.LocalAddr().String())
	if err != nil {
		pc.Close()
		return nil, fmt.Errorf("dns: %w", err)
	}
	h := dns.HandlerFunc(s.serve)
	s.start(&dns.Server{PacketConn: pc, Handler: h, UDPSize: 65535, MsgAcceptFunc: accept})
	s.start(&dns.Server{Listener: ln, Handler: h, MsgAcceptFunc: accept,
		IdleTimeout: func() time.Duration { return 30 * time.Second }, ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second})
	return pc.LocalAddr(), nil
}

func (s *Server) start(srv *dns.Server) {
	started := make(chan struct{})
	srv.NotifyStartedFunc = func() { close(started) }
	s.mu.Lock()
	s.servers = append(s.servers, srv)
	s.mu.Unlock()
	s.serving.Go(func() {
		if err := srv.ActivateAndServe(); err != nil {
			s.cfg.Logger.Error("dns listener ended", "err", err)
		}
	})
	<-started // so that Stop finds it running
}

// Stop closes the listeners and waits for questions under way, until ctx is done.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	servers := s.servers
	s.servers = nil
	s.mu.Unlock()
	var errs []error
	for _, srv := range servers {
		errs = append(errs, srv.ShutdownContext(ctx))
	}
	s.serving.Wait()
	return errors.Join(errs...)
}

// accept answers what is no plain question without looking further.
func accept(h dns.Header) dns.MsgAcceptAction {
	if h.Bits&(1<<15) != 0 {
		return dns.MsgIgnore // an answer: replying could start a loop
	}
	if opcode := int(h.Bits>>11) & 0xF; opcode != dns.OpcodeQuery {
		return dns.MsgRejectNotImplemented
	}
	if h.Qdcount != 1 || h.Ancount > 0 || h.Nscount > 1 || h.Arcount > 2 {
		return dns.MsgReject
	}
	return dns.MsgAccept
}

func (s *Server) serve(w dns.ResponseWriter, r *dns.Msg) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), questionTimeout)
	defer cancel()
	_, tcp := w.RemoteAddr().(*net.TCPAddr)
	m := s.Answer(ctx, r, addrOf(w.RemoteAddr()), tcp)
	s.metrics.observe(m.Rcode, tcp, time.Since(began))
	if err := w.WriteMsg(m); err != nil {
		s.metrics.writeErrors.Inc()
		s.cfg.Logger.Debug("dns answer not sent", "client", w.RemoteAddr().String(), "err", err)
	}
}

// addrOf is the client's address, the zero Addr if it has none.
func addrOf(a net.Addr) netip.Addr {
	if ap, ok := a.(interface{ AddrPort() netip.AddrPort }); ok {
		return ap.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// subnetOf is the client subnet a resolver tells of (RFC 7871), if it does.
func subnetOf(r *dns.Msg) (netip.Addr, bool) {
	opt := r.IsEdns0()
	if opt == nil {
		return netip.Addr{}, false
	}
	for _, o := range opt.Option {
		if ecs, ok := o.(*dns.EDNS0_SUBNET); ok {
			if a, ok := netip.AddrFromSlice(ecs.Address); ok && ecs.SourceNetmask > 0 {
				return a.Unmap(), true
			}
		}
	}
	return netip.Addr{}, false
}

// Answer gives the whole reply to a message from a client, cut to what its
// transport carries.
func (s *Server) Answer(ctx context.Context, r *dns.Msg, client netip.Addr, tcp bool) *dns.Msg {
	set := s.settings.Load()
	m := new(dns.Msg)
	if len(r.Question) != 1 { // the header may count one that is not there
		m.SetRcodeFormatError(r)
		return m
	}
	q := r.Question[0]
	m.SetReply(r)
	m.Compress = !set.DisableCompress
	m.RecursionAvailable = len(set.Recursors) > 0
	if q.Qclass != dns.ClassINET {
		m.Rcode = dns.RcodeRefused
		return m
	}
	a := &answer{s: s, set: set, q: q, m: m, qtype: q.Qtype, from: client, limit: limitOf(r, tcp, set)}
	if subnet, ok := subnetOf(r); ok {
		a.from = subnet
	}
	name := strings.ToLower(q.Name)
	zone := s.zoneOf(q.Name)
	switch {
	case zone != "":
		m.Authoritative = true
		a.zone(ctx, zone)
	case q.Qtype == dns.TypePTR && (strings.HasSuffix(name, ".in-addr.arpa.") || strings.HasSuffix(name, ".ip6.arpa.")):
		m.Authoritative = true
		if !a.reverse(ctx) && len(set.Recursors) > 0 {
			return s.recurse(ctx, r, set, tcp)
		}
	case len(set.Recursors) > 0:
		return s.recurse(ctx, r, set, tcp)
	default:
		m.Rcode = dns.RcodeRefused
		return m
	}
	a.fit()
	copyEDNS(m, r, a.bySource)
	return m
}

// rcode maps the kind of an error to a reply code: this is the one table.
func rcode(err error) int {
	switch store.KindOf(err) {
	case store.KindNoPath, store.KindNotFound, store.KindPermissionDenied:
		return dns.RcodeNameError
	case store.KindRateLimited:
		return dns.RcodeRefused
	}
	return dns.RcodeServerFailure
}

// copyEDNS gives the reply an OPT record if the question had one, with the same
// UDP size, and echoes a client subnet: with scope 0, for everyone, unless the
// answer was sorted by it (RFC 7871 section 7.2.1).
func copyEDNS(m, r *dns.Msg, bySource bool) {
	in := r.IsEdns0()
	if in == nil {
		return
	}
	out := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
	out.SetUDPSize(in.UDPSize())
	for _, o := range in.Option {
		if ecs, ok := o.(*dns.EDNS0_SUBNET); ok {
			echo := *ecs
			echo.SourceScope = 0
			if bySource {
				echo.SourceScope = ecs.SourceNetmask
			}
			out.Option = append(out.Option, &echo)
		}
	}
	m.Extra = append(m.Extra, out)
}
