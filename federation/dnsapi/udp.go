package dnsapi

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// udpSocket is one of the sockets of an address.
type udpSocket struct {
	conn *net.UDPConn
	wild bool // bound to all addresses: an answer has to leave from the one that was asked
}

// receive reads a question; oob then says which address was asked, where that is
// not plain.
func (u *udpSocket) receive(buf, oobBuf []byte) (n int, oob []byte, from netip.AddrPort, err error) {
	if !u.wild {
		n, from, err = u.conn.ReadFromUDPAddrPort(buf)
		return n, nil, from, err
	}
	n, oobn, _, from, err := u.conn.ReadMsgUDPAddrPort(buf, oobBuf)
	return n, fromAsked(oobBuf[:oobn]), from, err
}

func (u *udpSocket) send(b, oob []byte, to netip.AddrPort) error {
	if len(oob) == 0 {
		_, err := u.conn.WriteToUDPAddrPort(b, to)
		return err
	}
	_, _, err := u.conn.WriteMsgUDPAddrPort(b, oob, to)
	return err
}

// serveUDP answers the questions of a socket until it is stopped.
func (s *Server) serveUDP(u *udpSocket) {
	for !s.readUDP(u) {
	}
}

// readUDP is the loop of a socket; it returns false if a question met a bug, and
// goes on when it is called again.
func (s *Server) readUDP(u *udpSocket) (done bool) {
	defer s.recovered()
	var (
		w      = s.newWorker()
		buf    = make([]byte, dns.MaxMsgSize)
		oobBuf = make([]byte, 128)
		failed int
	)
	for {
		n, oob, from, err := u.receive(buf, oobBuf)
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
				return true
			}
			// Some systems report what became of an answer here.
			if failed++; failed > 100 {
				s.complain("dns socket does not read", "err", err)
				select {
				case <-s.life.Done():
					return true
				case <-time.After(10 * time.Millisecond):
				}
			}
			continue
		}
		failed = 0
		began := time.Now()
		pkt := buf[:n]
		if s.refuses(false, from.Addr(), began) {
			if s.truncated(w, pkt) {
				s.sent(u.send(w.out, oob, from), from)
			}
			continue
		}
		how := s.answerHot(s.life, w, pkt, began, true)
		if how == answered {
			s.sent(u.send(w.out, oob, from), from)
			s.metrics.observe(false, hot, w.rcode, time.Since(began))
			continue
		}
		s.hand(u, pkt, oob, from, began, how)
	}
}

// hand gives a question that may wait to a goroutine of its own.
func (s *Server) hand(u *udpSocket, pkt, oob []byte, from netip.AddrPort, began time.Time, how outcome) {
	switch {
	case len(pkt) < headerSize:
		s.metrics.malformed[0].Inc()
		s.metrics.ignored[0][ignoredShort].Inc()
		return
	case pkt[2]&0x80 != 0:
		s.metrics.ignored[0][ignoredResponse].Inc()
		return
	}
	select {
	case s.slots <- struct{}{}:
	default:
		s.metrics.busy.Inc()
		s.short(u, pkt, oob, from, began, dns.RcodeServerFailure)
		return
	}
	pkt, oob = append([]byte(nil), pkt...), append([]byte(nil), oob...)
	s.waiting.Go(func() {
		defer func() { <-s.slots }()
		defer s.recovered()
		s.answerUDP(u, pkt, oob, from, began, how)
	})
}

// answerUDP answers a question that may wait.
func (s *Server) answerUDP(u *udpSocket, pkt, oob []byte, from netip.AddrPort, began time.Time, how outcome) {
	ctx, cancel := context.WithTimeout(s.life, s.settings.Load().patience())
	defer cancel()
	if how == wouldBe {
		w, _ := s.workers.Get().(*worker)
		if w == nil {
			w = s.newWorker()
		}
		defer s.workers.Put(w)
		if s.answerHot(ctx, w, pkt, began, false) == answered {
			s.sent(u.send(w.out, oob, from), from)
			s.metrics.observe(false, hot, w.rcode, time.Since(began))
			return
		}
	}
	r := new(dns.Msg)
	switch s.unpack(r, pkt) {
	case dns.MsgAccept:
	case dns.MsgRejectNotImplemented:
		s.short(u, pkt, oob, from, began, dns.RcodeNotImplemented)
		return
	default:
		s.metrics.malformed[0].Inc()
		if !s.malformed.allow(began) {
			s.metrics.ignored[0][ignoredMalformed].Inc()
			return
		}
		s.short(u, pkt, oob, from, began, dns.RcodeFormatError)
		return
	}
	m, way := s.answer(ctx, r, from.Addr().Unmap(), false, began)
	b, code := s.pack(m, r)
	s.sent(u.send(b, oob, from), from)
	s.metrics.observe(false, way, code, time.Since(began))
}

// unpack reads a whole message.
func (s *Server) unpack(r *dns.Msg, pkt []byte) dns.MsgAcceptAction {
	be := binary.BigEndian
	action := accept(dns.Header{Id: be.Uint16(pkt), Bits: be.Uint16(pkt[2:]), Qdcount: be.Uint16(pkt[4:]),
		Ancount: be.Uint16(pkt[6:]), Nscount: be.Uint16(pkt[8:]), Arcount: be.Uint16(pkt[10:])})
	if action == dns.MsgAccept && r.Unpack(pkt) != nil {
		return dns.MsgReject
	}
	return action
}

// short answers with a header alone.
func (s *Server) short(u *udpSocket, pkt, oob []byte, from netip.AddrPort, began time.Time, rcode int) {
	var b [headerSize]byte
	copy(b[:2], pkt)
	b[2] = 0x80 | pkt[2]&0x79 // a response with the same opcode and RD
	b[3] = byte(rcode)
	s.sent(u.send(b[:], oob, from), from)
	s.metrics.observe(false, full, rcode, time.Since(began))
}

func (s *Server) sent(err error, to netip.AddrPort) {
	if err != nil {
		s.metrics.writeErrors.Inc()
		s.cfg.Logger.Debug("dns answer not sent", "client", to, "err", err)
	}
}

// maxMalformed is how many malformed messages are answered in a second: an answer
// to a forged sender is noise to someone else.
const maxMalformed = 100

// perSecond counts what happens in one second.
type perSecond struct {
	second atomic.Int64
	n      atomic.Int64
}

func (p *perSecond) allow(now time.Time) bool {
	if sec := now.Unix(); p.second.Swap(sec) != sec {
		p.n.Store(0)
	}
	return p.n.Add(1) <= maxMalformed
}
