package view

import (
	"bytes"
	"cmp"
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// Reason is why an answer is an older one.
type Reason string

const (
	Unreachable Reason = "unreachable" // no server of the datacenter answers
	NoLeader    Reason = "no_leader"   // one answers, and knows no leader
	Timeout     Reason = "timeout"     // this request got no answer in its time
)

// reasons are the labels of metrics.
var reasons = []Reason{Unreachable, NoLeader, Timeout}

const (
	// suspectAfter is when a call that could be answered from what is kept has its
	// datacenter looked at: it may be slow for its size, or lost.
	suspectAfter = time.Second
	// probeTime bounds one look.
	probeTime = 1500 * time.Millisecond
	// probeEvery and probeRarely bound the pauses between looks.
	probeEvery  = 500 * time.Millisecond
	probeRarely = 2 * time.Second
	// unasked ends the looking at a datacenter that nobody reads any more.
	unasked = 10 * time.Minute
)

// outages are the datacenters that are looked at because calls to them failed or
// take long. One goroutine looks at each, until it answers and has a leader.
type outages struct {
	n atomic.Int32 // how many there are: usually none, and no lock is taken

	mu    sync.Mutex                       // taken after Set.mu
	by    map[string]*outage               // by datacenter, "" for our own
	calls map[string]map[*bounded]struct{} // under way, with an older answer at hand
	began map[Reason]int                   // how many were found, by their first reason
}

// outage is one datacenter.
type outage struct {
	dc   string
	over chan struct{} // closed when it ends
	poke chan struct{} // one slot: look now
	used atomic.Int64  // when it was last asked about, Unix nanoseconds

	// Guarded by outages.mu.
	reason Reason // "" while it is only suspected
	since  time.Time
	given  int // answers that were given from what is kept
}

// bounded is a call that ends early when its datacenter turns out to be away.
type bounded struct {
	cancel context.CancelCauseFunc
	stale  bool // it needs no leader
}

var errAway error = store.Errorf(store.KindUnreachable, "its datacenter is away")

func (o *outages) init() {
	o.by, o.calls, o.began = make(map[string]*outage), make(map[string]map[*bounded]struct{}), make(map[Reason]int)
}

// hinders is whether an outage for that reason keeps a read from being answered.
func (r Reason) hinders(stale bool) bool { return r != "" && (r == Unreachable || !stale) }

// outage returns the one of a datacenter, and its reason if it keeps reads of that
// kind from being answered; nil if there is none.
func (s *Set) outage(dc string, stale bool) (*outage, Reason) {
	o := &s.outages
	if o.n.Load() == 0 {
		return nil, ""
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	out := o.by[dc]
	if out == nil {
		return nil, ""
	}
	out.used.Store(time.Now().UnixNano())
	if !out.reason.hinders(stale) {
		return out, ""
	}
	return out, out.reason
}

// suspect has a datacenter looked at, and returns its outage: an end of it is
// worth waiting for, whatever it turns out to be. It is nil when the set stops.
func (s *Set) suspect(dc string) *outage {
	s.mu.RLock() // not to begin when Stop waits
	defer s.mu.RUnlock()
	if s.stopped {
		return nil
	}
	o := &s.outages
	o.mu.Lock()
	defer o.mu.Unlock()
	out := o.by[dc]
	if out == nil {
		out = &outage{dc: dc, over: make(chan struct{}), poke: make(chan struct{}, 1)}
		o.by[dc] = out
		o.n.Add(1)
		out.used.Store(time.Now().UnixNano()) // before it is looked at
		s.work.Go(func() { s.watchOutage(out) })
	}
	out.used.Store(time.Now().UnixNano())
	return out
}

// answered tells that a datacenter answered a call after all.
func (o *outage) answered() {
	select {
	case o.poke <- struct{}{}:
	default:
	}
}

// watchOutage looks at a datacenter until it answers and has a leader, nobody asks
// any more, or the set stops.
func (s *Set) watchOutage(out *outage) {
	for pause := probeEvery; ; pause = min(2*pause, probeRarely) {
		reason, err := s.probe(out.dc)
		if s.ctx.Err() != nil || reason == "" || time.Since(time.Unix(0, out.used.Load())) > unasked {
			s.endOutage(out)
			return
		}
		s.declare(out, reason, err)
		t := time.NewTimer(pause/2 + rand.N(pause))
		select {
		case <-t.C:
		case <-out.poke:
		case <-s.ctx.Done():
		}
		t.Stop()
	}
}

// probe asks a datacenter for its leader; "" is that there is one.
func (s *Set) probe(dc string) (Reason, error) {
	ctx, cancel := context.WithTimeout(s.ctx, probeTime)
	defer cancel()
	resp, err := s.cfg.Do.Do(ctx, &rpc.Request{Method: rpc.StatusLeader, Datacenter: dc, SourceDC: s.cfg.Datacenter, NoHold: true})
	switch {
	case err == nil && len(bytes.Trim(bytes.TrimSpace(resp.Body), `"`)) > 0:
		return "", nil
	case err == nil:
		return NoLeader, store.ErrNoLeader
	case silent(err):
		return Unreachable, err
	}
	return "", err // refused: it is there
}

// silent is whether an error says that nobody answered.
func silent(err error) bool {
	switch store.KindOf(err) {
	case store.KindUnreachable, store.KindMaybeApplied, store.KindNoServers, store.KindTimeout:
		return true
	}
	return false
}

// declare notes what was found, and ends the calls that will not be answered.
func (s *Set) declare(out *outage, reason Reason, err error) {
	o := &s.outages
	o.mu.Lock()
	before := out.reason
	if before == "" {
		out.since = time.Now()
		o.began[reason]++
	}
	out.reason = reason
	var end []*bounded
	for c := range o.calls[out.dc] {
		if reason.hinders(c.stale) {
			end = append(end, c)
		}
	}
	o.mu.Unlock()
	for _, c := range end {
		c.cancel(errAway)
	}
	if reason != before {
		s.cfg.Logger.Warn("datacenter is away: reads with stale-if-error are answered from what is kept", "peer_dc", s.label(out.dc), "reason", string(reason), "err", err)
	}
}

func (s *Set) endOutage(out *outage) {
	o := &s.outages
	o.mu.Lock()
	delete(o.by, out.dc)
	o.n.Add(-1)
	declared, given, since := out.reason != "", out.given, out.since
	o.mu.Unlock()
	close(out.over)
	if declared {
		s.cfg.Logger.Info("datacenter is back: reads with stale-if-error go to it again", "peer_dc", s.label(out.dc), "away", time.Since(since).Round(time.Millisecond), "answers", given)
	}
}

// label is a datacenter's name.
func (s *Set) label(dc string) string { return cmp.Or(dc, s.cfg.Datacenter) }

// enter notes a call that may be ended early; leave takes it out again.
func (o *outages) enter(dc string, c *bounded) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.calls[dc] == nil {
		o.calls[dc] = make(map[*bounded]struct{})
	}
	o.calls[dc][c] = struct{}{}
}

func (o *outages) leave(dc string, c *bounded) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if delete(o.calls[dc], c); len(o.calls[dc]) == 0 {
		delete(o.calls, dc)
	}
}
