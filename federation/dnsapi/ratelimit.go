package dnsapi

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// Rate is how many questions one client may ask (limits.dns_rate, dns_max_burst). A
// client is an IPv4 address, or the /64 network of an IPv6 address, which is what one
// machine has to choose from. Questions over UDP and over TCP are counted apart: who
// forges an address over UDP must not use up what its owner may ask over TCP.
type Rate struct {
	PerSecond float64 // at or below 0: no limit
	Burst     int     // at once; at least 1 counts
}

// Clients are kept in sets, as in a processor's cache: 32,768 of them in 576 KB,
// which are there only while there is a limit.
const (
	clientSets = 4096
	clientWays = 8
)

// limiter knows how many questions each client has asked lately. It never refuses
// one client for another's questions: where a set is full, the client that owes the
// least is forgotten, and has its whole burst again. Safe for concurrent use.
type limiter struct {
	rate Rate
	each time.Duration // what a question costs: a second's share
	most time.Duration // that a client may owe
	seed maphash.Seed  // nobody can look for addresses that share a set
	sets [clientSets]clientSet
	warn atomic.Int64 // when the log was told, in Unix nanoseconds
}

type clientSet struct {
	mu      sync.Mutex
	clients [clientWays]clientDebt
}

// clientDebt is an account of the generic cell rate algorithm (ITU-T I.371): it is
// even at a time, which each question moves on by its cost. Times are since the
// server was made.
type clientDebt struct {
	key  uint64
	even time.Duration
}

// newLimiter returns nil if there is no limit.
func newLimiter(r Rate) *limiter {
	if r.PerSecond <= 0 {
		return nil
	}
	each := time.Duration(float64(time.Second) / r.PerSecond)
	if each <= 0 { // more than anybody can ask
		return nil
	}
	return &limiter{rate: r, each: each, most: each * time.Duration(max(r.Burst, 1)), seed: maphash.MakeSeed()}
}

// take is whether a client may ask one more question at a time. forgot is whether
// another client that owes something had to make room.
func (l *limiter) take(now time.Duration, tcp bool, client netip.Addr) (ok, forgot bool) {
	var b [17]byte
	a := network64(client).As16()
	copy(b[:], a[:])
	if tcp {
		b[16] = 1
	}
	key := maphash.Bytes(l.seed, b[:])
	set := &l.sets[key%clientSets]
	set.mu.Lock()
	defer set.mu.Unlock()
	least := &set.clients[0]
	for i := range set.clients {
		c := &set.clients[i]
		if c.key == key {
			return l.owe(c, now), false
		}
		if c.even < least.even {
			least = c
		}
	}
	forgot = least.even > now
	*least = clientDebt{key: key}
	return l.owe(least, now), forgot
}

func (l *limiter) owe(c *clientDebt, now time.Duration) bool {
	even := max(c.even, now) + l.each
	if even-now > l.most {
		return false
	}
	c.even = even
	return true
}

// network64 is what counts as one client.
func network64(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if a.Is4() {
		return a
	}
	b := a.As16()
	clear(b[8:])
	return netip.AddrFrom16(b)
}

// limitWarning is how often the log tells of clients that ask too much.
const limitWarning = time.Minute

// refuses is whether a question is one too many of its client, and counts it then.
func (s *Server) refuses(tcp bool, client netip.Addr, now time.Time) bool {
	l := s.limiter.Load()
	if l == nil {
		return false
	}
	ok, forgot := l.take(now.Sub(s.began), tcp, client)
	if forgot {
		s.metrics.forgotten.Inc()
	}
	if ok {
		return false
	}
	s.metrics.limited[transportIndex(tcp)].Inc()
	if last := l.warn.Load(); now.UnixNano()-last >= int64(limitWarning) && l.warn.CompareAndSwap(last, now.UnixNano()) {
		s.cfg.Logger.Warn("a dns client asks more than limits.dns_rate, others may too", "client", client.Unmap(), "dns_rate", l.rate.PerSecond)
	}
	return true
}

// truncated writes into w.out the answer to a question too many over UDP: none, cut
// short, so that its client asks again over TCP, where nobody can pretend to be it.
// It is no longer than the question, so a forged sender gains nothing by it. That is
// what response rate limiting does (knot's mod-rrl with slip 1); saying nothing to
// some would help who wants to answer in our place. False if what came is no
// question, and there is nothing to say.
func (s *Server) truncated(w *worker, pkt []byte) bool {
	if len(pkt) < headerSize || pkt[2]&0xF8 != 0 || binary.BigEndian.Uint16(pkt[4:]) != 1 {
		return false
	}
	size := w.labels.scan(pkt[headerSize:])
	end := headerSize + size + 4
	if size == 0 || len(pkt) < end {
		return false
	}
	b := append(w.out[:0], pkt[:end]...)
	b[2] = 0x82 | pkt[2]&1 // a response that is cut, RD as it was
	b[3] = pkt[3] & 0x10   // CD as it was
	if len(s.settings.Load().Recursors) > 0 {
		b[3] |= 0x80
	}
	clear(b[6:headerSize])
	if opt := pkt[end:]; plainOPT(opt) {
		b[11] = 1
		b = append(b, 0, 0, byte(dns.TypeOPT), opt[3], opt[4], 0, 0, 0, 0, 0, 0)
	}
	w.out = b
	return true
}
