package gossip

import (
	"errors"
	"math"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

// refusedTime bounds the wait for a member's machine to say anything.
const refusedTime = time.Second

// Refused reports whether a member's machine answers that nobody listens where the
// member does: its process is gone. A machine that is silent, a process that stands
// still, and one that takes the connection are all false.
func (p *Pool) Refused(m Member) bool {
	p.mu.Lock()
	dialer := p.dialer
	if p.stopped {
		dialer = nil
	}
	p.mu.Unlock()
	if dialer == nil {
		return false
	}
	conn, err := dialer.DialAddressTimeout(memberlist.Address{Addr: m.AddrPort().String(), Name: m.Name}, refusedTime)
	if err != nil {
		return errors.Is(err, syscall.ECONNREFUSED)
	}
	_ = conn.Close()
	return false
}

// SoonestFailed is the least time in which gossip takes a member for failed that is
// gone: a probe and the time a suspect has to speak up.
func (p *Pool) SoonestFailed() time.Duration {
	s := p.running()
	if s == nil {
		return 0
	}
	prof := &p.cfg.Profile
	scale := max(1, math.Log10(float64(max(1, s.NumNodes()))))
	return prof.ProbeInterval + time.Duration(float64(prof.SuspicionMult)*scale*float64(prof.ProbeInterval))
}
