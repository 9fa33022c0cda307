package dnsapi

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"landbridge/forwarding/rpc"
)

// The hot path answers A, AAAA, SRV and ANY questions for services and nodes of
// our zones from the bytes of a packet into those of another. It gives up, before
// it has changed anything, on all that the full path should see: other types and
// names, more EDNS than a size, hostnames among the addresses. What it answers is
// to the byte what the full path answers (TestPathsAgree).

const (
	headerSize = 12
	optSize    = 11 // an OPT record without options
	// hotSize bounds an answer: names behind it could not be pointed at (RFC 1035
	// section 4.1.4), and nobody sends such datagrams.
	hotSize = 1<<14 - 1
)

// outcome of the hot path.
type outcome uint8

const (
	notHot   outcome = iota // the full path has to answer
	wouldBe                 // it can be answered, but not without waiting
	answered                // it is
)

// worker is what one goroutine needs to answer questions one after the other.
type worker struct {
	labels labels
	q      question
	key    []byte
	picker picker
	// offsets of the targets of SRV records in the answer, 0 = not in it.
	offsets []uint16
	order   []*srv // records in the answer with a target that was not in it before
	out     []byte
	rcode   int
}

func (s *Server) newWorker() *worker {
	return &worker{picker: picker{rng: s.newRand()}, out: make([]byte, 0, hotSize)}
}

// hotQuestion is a question the hot path may answer.
type hotQuestion struct {
	id     uint16
	bits   uint16 // the flags to copy: RD and CD
	name   []byte // in wire form, as it was asked
	end    int    // where the question ends in the packet
	qtype  uint16
	edns   bool
	udp    uint16 // the size in the OPT record
	local  int    // labels before the zone
	zoneAt int    // where the zone begins in name
}

const (
	bitRD = 1 << 8
	bitCD = 1 << 4
)

// readHot reads a packet; false if it is not for the hot path.
func (s *Server) readHot(w *worker, pkt []byte, h *hotQuestion) bool {
	if len(pkt) < headerSize+5 {
		return false
	}
	bits := binary.BigEndian.Uint16(pkt[2:])
	if bits&(1<<15|0xF<<11) != 0 || // a response, or another opcode
		binary.BigEndian.Uint32(pkt[4:]) != 1<<16 || // one question, no answer
		binary.BigEndian.Uint16(pkt[8:]) != 0 || binary.BigEndian.Uint16(pkt[10:]) > 1 {
		return false
	}
	size := w.labels.scan(pkt[headerSize:])
	h.end = headerSize + size + 4
	if size == 0 || len(pkt) < h.end {
		return false
	}
	h.id, h.bits = binary.BigEndian.Uint16(pkt), bits&(bitRD|bitCD)
	h.name = pkt[headerSize : headerSize+size]
	h.qtype = binary.BigEndian.Uint16(pkt[h.end-4:])
	if binary.BigEndian.Uint16(pkt[h.end-2:]) != dns.ClassINET {
		return false
	}
	switch h.qtype {
	case dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeANY:
	default:
		return false
	}
	h.edns, h.udp = pkt[11] == 1, 0
	if rest := pkt[h.end:]; h.edns {
		if !plainOPT(rest) {
			return false
		}
		h.udp = binary.BigEndian.Uint16(rest[3:])
	} else if len(rest) != 0 {
		return false
	}
	return s.readName(w, h)
}

// readName takes the name apart; false if it is not one of a service or node, or
// has characters that have to be written in another way.
func (s *Server) readName(w *worker, h *hotQuestion) bool {
	l := &w.labels
	z, local := s.zoneOf(h.name, l)
	if z == nil || local == 0 {
		return false
	}
	h.local, h.zoneAt = local, int(l.at[local])
	for i := range local {
		for _, c := range l.of(h.name, i) {
			if c = lower(c); (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	if !w.q.parse(h.name, l, local) {
		return false
	}
	switch w.q.kind {
	case kindNode:
		if h.qtype == dns.TypeSRV {
			return false
		}
	case kindService, kindConnect:
	default:
		return false
	}
	// The SOA's names begin with these: behind such a label they would be pointers.
	last := l.of(h.name, local-1)
	return string(last) != "ns" && string(last) != "hostmaster"
}

// plainOPT is whether what follows a question is one OPT record of version 0 with
// nothing in it that an answer depends on.
func plainOPT(b []byte) bool {
	if len(b) < optSize || b[0] != 0 || binary.BigEndian.Uint16(b[1:]) != dns.TypeOPT || b[5] != 0 || b[6] != 0 ||
		int(binary.BigEndian.Uint16(b[9:])) != len(b)-optSize {
		return false
	}
	for b = b[optSize:]; len(b) > 0; {
		if len(b) < 4 {
			return false
		}
		size := 4 + int(binary.BigEndian.Uint16(b[2:]))
		switch code := binary.BigEndian.Uint16(b); {
		case code != dns.EDNS0COOKIE && code != dns.EDNS0NSID && code != dns.EDNS0PADDING, size > len(b):
			return false
		}
		b = b[size:]
	}
	return true
}

// answerHot answers a packet into w.out. With noWait it is wouldBe where the
// backend has no answer at hand.
func (s *Server) answerHot(ctx context.Context, w *worker, pkt []byte, now time.Time, noWait bool) outcome {
	var h hotQuestion
	if !s.plainNames || !s.readHot(w, pkt, &h) {
		return notHot
	}
	set := s.settings.Load()
	w.key = w.q.appendKey(w.key[:0])
	f, err := s.lookup(ctx, set, &w.q, w.key, noWait)
	if noWait && errors.Is(err, rpc.ErrWouldWait) {
		return wouldBe
	}
	r := reply{b: w.out[:0], h: &h, set: set}
	r.limit = limitOf(set, h.udp, false)
	r.whole = r.limit.bytes > hotSize
	r.max = min(r.limit.bytes, hotSize)
	if h.edns {
		r.max -= optSize
	}
	r.begin(pkt[headerSize:h.end])
	switch {
	case err != nil:
		w.rcode = rcode(err)
		if w.rcode == dns.RcodeNameError {
			r.soa(now)
		} else {
			s.failedWire(h.name, err)
		}
	case w.q.kind == kindNode:
		w.rcode = dns.RcodeSuccess
		if !r.node(w, f) {
			return notHot
		}
	default:
		w.rcode = dns.RcodeSuccess
		if !r.service(w, f, now) {
			return notHot
		}
	}
	w.out = r.finish(w.rcode)
	return answered
}

// reply is an answer being written.
type reply struct {
	b     []byte
	h     *hotQuestion
	set   *Settings
	limit limit
	max   int  // bytes, without the OPT record
	whole bool // the transport carries more than max: nothing may be left out
	count [3]uint16
	cut   bool // answers were left out for the transport's sake
}

// The sections of a message, as count has them.
const (
	inAnswer = iota
	inAuthority
	inAdditional
)

func (r *reply) begin(question []byte) {
	r.b = append(r.b[:0], make([]byte, headerSize)...)
	r.b = append(r.b, question...)
}

// pointer appends a name that stands at an offset, or all of it if names are not
// to be compressed.
func (r *reply) pointer(at int, name []byte) {
	if !r.set.DisableCompress {
		r.b = append(r.b, 0xC0|byte(at>>8), byte(at))
		return
	}
	r.b = append(r.b, name...)
}

func (r *reply) owner() { r.pointer(headerSize, r.h.name) }

func (r *reply) zone() []byte { return r.h.name[r.h.zoneAt:] }

func (r *reply) head(rrtype uint16, ttl uint32, size int) {
	r.b = append(r.b, byte(rrtype>>8), byte(rrtype), 0, dns.ClassINET,
		byte(ttl>>24), byte(ttl>>16), byte(ttl>>8), byte(ttl), byte(size>>8), byte(size))
}

func (r *reply) address(ip netip.Addr, ttl uint32) {
	if ip.Is4() {
		a := ip.As4()
		r.head(dns.TypeA, ttl, len(a))
		r.b = append(r.b, a[:]...)
		return
	}
	a := ip.As16()
	r.head(dns.TypeAAAA, ttl, len(a))
	r.b = append(r.b, a[:]...)
}

func (r *reply) text(text string, ttl uint32) {
	parts := max(1, (len(text)+maxTXT-1)/maxTXT)
	r.head(dns.TypeTXT, ttl, len(text)+parts)
	for range parts {
		part := text[:min(len(text), maxTXT)]
		text = text[len(part):]
		r.b = append(append(r.b, byte(len(part))), part...)
	}
}

// fits takes back what was written since from if it is too much, and counts it
// otherwise.
func (r *reply) fits(from, section int) bool {
	if len(r.b) > r.max {
		r.b = r.b[:from]
		return false
	}
	r.count[section]++
	return true
}

// service writes the answer for a service; false if that is not for the hot path.
func (r *reply) service(w *worker, f *found, now time.Time) bool {
	w.picker.shuffle = true
	if r.h.qtype == dns.TypeSRV {
		if f.follow || len(f.srv) == 0 {
			return false
		}
		return r.srv(w, f)
	}
	n := f.count(r.h.qtype)
	if n == 0 {
		if len(f.hosts) > 0 {
			return false
		}
		r.soa(now)
		return true
	}
	w.picker.reset(n)
	most, byTransport := r.limit.addresses(r.set)
	if most >= 0 && n > most {
		n, r.cut = most, byTransport
	}
	return r.addresses(f, &w.picker, n)
}

// addresses writes n address records, or as many as fit; false if all have to.
func (r *reply) addresses(f *found, p *picker, n int) bool {
	for i := range n {
		from := len(r.b)
		r.owner()
		r.address(f.address(r.h.qtype, p.next(i)), f.ttl)
		if !r.fits(from, inAnswer) {
			r.cut = true
			return !r.whole
		}
	}
	return true
}

// srv writes SRV records, then the addresses of their targets, then what their
// nodes say of themselves: what does not fit is left out from the end.
func (r *reply) srv(w *worker, f *found) bool {
	w.offsets = append(w.offsets[:0], make([]uint16, f.targets)...)
	w.order = w.order[:0]
	w.picker.reset(len(f.srv))
	n := len(f.srv)
	if most := r.limit.answers; most > 0 && n > most {
		n, r.cut = most, true
	}
	for i := range n {
		rec := &f.srv[w.picker.next(i)]
		from := len(r.b)
		r.owner()
		r.head(dns.TypeSRV, f.ttl, 6+len(rec.target)+len(r.zone()))
		r.b = append(r.b, 0, 1, byte(rec.weight>>8), byte(rec.weight), byte(rec.port>>8), byte(rec.port))
		at := len(r.b)
		r.b = append(append(r.b, rec.target...), r.zone()...)
		if !r.fits(from, inAnswer) {
			r.cut = true
			break
		}
		if w.offsets[rec.id] == 0 {
			w.offsets[rec.id] = uint16(at)
			w.order = append(w.order, rec)
		}
	}
	return !(r.cut && r.whole) && (r.additional(w, f.ttl) || !r.whole)
}

// additional writes what goes with SRV records; false if something did not fit.
func (r *reply) additional(w *worker, ttl uint32) bool {
	for _, rec := range w.order {
		for _, ip := range [...]netip.Addr{rec.v4, rec.v6} {
			if !ip.IsValid() {
				continue
			}
			from := len(r.b)
			r.target(rec, w.offsets[rec.id])
			r.address(ip, ttl)
			if !r.fits(from, inAdditional) {
				return false
			}
		}
	}
	for _, rec := range w.order {
		for _, text := range rec.txt {
			from := len(r.b)
			r.target(rec, w.offsets[rec.id])
			r.text(text, ttl)
			if !r.fits(from, inAdditional) {
				return false
			}
		}
	}
	return true
}

// target writes the name of a target that stands at an offset.
func (r *reply) target(rec *srv, at uint16) {
	if r.set.DisableCompress {
		r.b = append(append(r.b, rec.target...), r.zone()...)
		return
	}
	r.pointer(int(at), nil)
}

// node writes the answer for a node; false if that is not for the hot path.
func (r *reply) node(w *worker, f *found) bool {
	w.picker.shuffle = false
	n := f.count(r.h.qtype)
	if n == 0 && len(f.hosts) > 0 {
		return false
	}
	most := r.limit.answers
	if most == 0 {
		most = 1 << 16
	}
	r.cut = n > most
	if !r.addresses(f, &w.picker, min(n, most)) {
		return false
	}
	section := inAdditional
	if r.h.qtype == dns.TypeANY {
		section = inAnswer
	} else if !r.set.NodeMetaTXT {
		return true
	}
	for _, text := range f.txt {
		from := len(r.b)
		if section == inAnswer && int(r.count[inAnswer]) == most {
			r.cut = true
			break
		}
		r.owner()
		r.text(text, f.ttl)
		if !r.fits(from, section) {
			r.cut = r.cut || section == inAnswer
			return !r.whole
		}
	}
	return true
}

// soa writes the zone's SOA record into the authority section.
func (r *reply) soa(now time.Time) {
	set, zone, at := r.set, r.zone(), headerSize+r.h.zoneAt
	r.pointer(at, zone)
	r.head(dns.TypeSOA, set.SOAMinTTL, 0)
	from := len(r.b)
	r.b = append(r.b, "\x02ns"...)
	r.pointer(at, zone)
	r.b = append(r.b, "\x0ahostmaster"...)
	r.pointer(at, zone)
	for _, v := range [...]uint32{uint32(now.Unix()), set.SOARefresh, set.SOARetry, set.SOAExpire, set.SOAMinTTL} {
		r.b = binary.BigEndian.AppendUint32(r.b, v)
	}
	binary.BigEndian.PutUint16(r.b[from-2:], uint16(len(r.b)-from))
	r.count[inAuthority]++
}

// finish completes the message with its OPT record and header.
func (r *reply) finish(rcode int) []byte {
	if r.h.edns {
		r.b = append(r.b, 0, 0, byte(dns.TypeOPT), byte(r.h.udp>>8), byte(r.h.udp), 0, 0, 0, 0, 0, 0)
		r.count[inAdditional]++
	}
	bits := r.h.bits | 1<<15 | 1<<10 | uint16(rcode) // a response, with authority
	if len(r.set.Recursors) > 0 {
		bits |= 1 << 7
	}
	if r.cut && r.set.EnableTruncate {
		bits |= 1 << 9
	}
	b := r.b
	binary.BigEndian.PutUint16(b, r.h.id)
	binary.BigEndian.PutUint16(b[2:], bits)
	binary.BigEndian.PutUint16(b[4:], 1)
	for i, n := range r.count {
		binary.BigEndian.PutUint16(b[6+2*i:], n)
	}
	return b
}
