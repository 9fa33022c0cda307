package dnsapi

import (
	"context"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"landbridge/store"
)

// questionTimeout bounds one question: resolvers give up after about five seconds.
const questionTimeout = 5 * time.Second

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

// Answer gives the whole reply to a message from a client, cut to what its
// transport carries.
func (s *Server) Answer(ctx context.Context, r *dns.Msg, client netip.Addr, tcp bool) *dns.Msg {
	m, _ := s.answer(ctx, r, client, tcp, time.Now())
	return m
}

// answer is the full path; it also says whether a recursor answered.
func (s *Server) answer(ctx context.Context, r *dns.Msg, client netip.Addr, tcp bool, now time.Time) (*dns.Msg, path) {
	set := s.settings.Load()
	m := new(dns.Msg)
	m.SetReply(r)
	m.Compress = !set.DisableCompress
	m.RecursionAvailable = len(set.Recursors) > 0
	opt, ok := ednsOf(r)
	switch {
	case len(r.Question) != 1, !ok: // the header may count a question that is not there
		m.Rcode = dns.RcodeFormatError
		return m, full
	case r.Question[0].Qclass != dns.ClassINET:
		m.Rcode = dns.RcodeRefused
		return m, full
	case opt != nil && opt.Version() != 0: // RFC 6891 section 6.1.3
		m.Rcode = dns.RcodeBadVers
		m.Extra = append(m.Extra, replyOPT(opt, false))
		return m, full
	}
	var udpSize uint16
	if opt != nil {
		udpSize = opt.UDPSize()
	}
	a := &answer{s: s, set: set, m: m, now: now, from: client, limit: limitOf(set, udpSize, tcp)}
	a.picker.rng = s.newRand()
	if subnet, ok := subnetOf(opt); ok {
		a.from = subnet
	}
	q := r.Question[0]
	switch name := strings.ToLower(q.Name); {
	case a.ask(ctx, q):
	case q.Qtype == dns.TypePTR && (strings.HasSuffix(name, ".in-addr.arpa.") || strings.HasSuffix(name, ".ip6.arpa.")):
		a.q, a.qtype = q, q.Qtype
		m.Authoritative = true
		if !a.reverse(ctx) && len(set.Recursors) > 0 {
			return s.recurse(ctx, r, set, tcp), recursed
		}
	case len(set.Recursors) > 0:
		return s.recurse(ctx, r, set, tcp), recursed
	default:
		m.Rcode = dns.RcodeRefused
		return m, full
	}
	if opt == nil {
		a.fit(0)
		return m, full
	}
	out := replyOPT(opt, a.bySource)
	a.fit(dns.Len(out))
	m.Extra = append(m.Extra, out)
	return m, full
}

// rcode maps the kind of an error to a reply code: this is the one table.
func rcode(err error) int {
	switch store.KindOf(err) {
	case store.KindNoPath, store.KindNotFound, store.KindPermissionDenied:
		return dns.RcodeNameError
	case store.KindRateLimited, store.KindBusy:
		return dns.RcodeRefused
	}
	return dns.RcodeServerFailure
}

// pack gives the bytes of a reply. One that cannot be written as a message is a
// failure of ours.
func (s *Server) pack(m, r *dns.Msg) ([]byte, int) {
	b, err := m.Pack()
	if err == nil {
		return b, m.Rcode
	}
	name := ""
	if len(r.Question) > 0 {
		name = r.Question[0].Name
	}
	s.failed(name, err)
	m = new(dns.Msg)
	m.SetRcode(r, dns.RcodeServerFailure)
	b, _ = m.Pack() // a header and a question that came as one
	return b, m.Rcode
}

// complaints bounds what questions may write into the log.
type complaints struct {
	last   atomic.Int64 // when, in Unix nanoseconds
	hidden atomic.Int64 // since then
}

const complaintInterval = time.Second

// complain warns, but not at the rate of questions.
func (s *Server) complain(msg string, args ...any) {
	now, last := time.Now().UnixNano(), s.complaints.last.Load()
	if now-last < int64(complaintInterval) || !s.complaints.last.CompareAndSwap(last, now) {
		s.complaints.hidden.Add(1)
		return
	}
	s.cfg.Logger.Warn(msg, append(args, "more", s.complaints.hidden.Swap(0))...)
}

func (s *Server) failed(name string, err error) {
	s.complain("dns question not answered", "name", name, "err", err)
}

// failedWire is failed for a name in wire form.
func (s *Server) failedWire(wire []byte, err error) {
	name, _, _ := dns.UnpackDomainName(wire, 0)
	s.failed(name, err)
}

// recovered is the deferred call of what answers questions: a bug met by one must
// not end the agent, which may be a server.
func (s *Server) recovered() {
	if p := recover(); p != nil {
		s.metrics.panics.Inc()
		s.cfg.Logger.Error("a dns question met a bug", "panic", p, "stack", string(debug.Stack()))
	}
}
