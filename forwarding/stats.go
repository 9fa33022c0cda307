package forwarding

import (
	"cmp"
	"slices"
	"time"
)

// RemoteStats is what this agent's own calls tell about another datacenter.
type RemoteStats struct {
	Datacenter string
	// Reachable is whether some server there answers, or nobody asked lately.
	Reachable bool
	// Breaker is why calls are refused at once, or BreakerClosed.
	Breaker Breaker
	Since   time.Time // of Breaker, zero while it is closed
	// InFlight are calls that wait for an answer, Blocking those of them that wait
	// for a change; MaxInFlight bounds the others.
	InFlight, Blocking, MaxInFlight int
	HedgeAfter                      time.Duration // a repeatable read is sent a second time after that
	Calls, Hedges, HedgesWon        uint64        // since the start
	Resends                         uint64        // calls sent again because their server went silent
	Refused                         uint64        // by the breaker, or because too many were in flight
	LastError                       string        // of a call; "" = none so far
	LastErrorAt                     time.Time
	Servers                         []RemoteServer // by name; those that were called
}

// RemoteServer is what calls tell about one server of another datacenter.
type RemoteServer struct {
	Name, Addr string
	// Silent is whether it left the pick: it did not answer, and is being probed.
	// Since says for how long.
	Silent bool
	Since  time.Time
	// Leaderless is whether it answers that its datacenter has no leader.
	Leaderless       bool
	InFlight         int
	RTT              time.Duration // 0 = unknown
	Answered, Failed uint64        // calls
	LastAnswer       time.Time     // zero = none so far
	LastError        string
	LastErrorAt      time.Time
}

// Breaker is the state of the way to a datacenter.
type Breaker uint8

const (
	BreakerClosed      Breaker = iota // calls pass
	BreakerUnreachable                // no server there answers
	BreakerLeaderless                 // servers answer, but only stale reads
)

var breakers = [...]string{"closed", "unreachable", "leaderless"}

func (b Breaker) String() string { return breakers[b] }

// Remotes returns what calls tell about the datacenters they went to, by name. It
// may be called at any time.
func (d *Dispatcher) Remotes() []RemoteStats {
	var list []RemoteStats
	d.paths.Range(func(_, v any) bool {
		list = append(list, v.(*path).stats())
		return true
	})
	slices.SortFunc(list, func(a, b RemoteStats) int { return cmp.Compare(a.Datacenter, b.Datacenter) })
	return list
}

// Remote returns the same of one datacenter; false if none of its servers was
// called yet.
func (d *Dispatcher) Remote(dc string) (RemoteStats, bool) {
	v, ok := d.paths.Load(dc)
	if !ok {
		return RemoteStats{Datacenter: dc, Reachable: true}, false
	}
	return v.(*path).stats(), true
}

func (p *path) stats() RemoteStats {
	now := time.Now()
	blocking := p.blocking.Load()
	s := RemoteStats{
		Datacenter: p.dc, Reachable: true,
		InFlight: int(p.inFlight.Load() + blocking), Blocking: int(blocking), MaxInFlight: maxRemoteCalls,
		HedgeAfter: p.hedgeAfter(now), Calls: p.calls.Load(), Hedges: p.hedges.Load(), HedgesWon: p.hedgesWon.Load(),
		Resends: p.resends.Load(), Refused: p.refused.Load(),
	}
	if e := p.lastErr.Load(); e != nil {
		s.LastError, s.LastErrorAt = e.text, e.at
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.down != nil:
		s.Reachable, s.Breaker, s.Since = false, BreakerUnreachable, p.down.since
	case p.leaderless != nil:
		s.Breaker, s.Since = BreakerLeaderless, p.leaderless.since
	}
	for _, srv := range p.servers {
		r := RemoteServer{
			Name: srv.name, Addr: srv.peer.Load().Addr, Silent: srv.silent, Leaderless: srv.leaderless.Load(),
			InFlight: int(srv.inFlight.Load()), RTT: srv.rtt(now), Answered: srv.answered.Load(), Failed: srv.failed.Load(),
		}
		if srv.silent {
			r.Since = srv.since
		}
		if at := srv.lastAnswer.Load(); at != 0 {
			r.LastAnswer = time.Unix(0, at)
		}
		if e := srv.lastErr.Load(); e != nil {
			r.LastError, r.LastErrorAt = e.text, e.at
		}
		s.Servers = append(s.Servers, r)
	}
	slices.SortFunc(s.Servers, func(a, b RemoteServer) int { return cmp.Compare(a.Name, b.Name) })
	return s
}
