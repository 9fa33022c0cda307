package gossip

import "github.com/hashicorp/serf/serf"

// subscriberBacklog is how many events a subscriber may be behind.
const subscriberBacklog = 256

// Subscribe returns events from now on. The channel is closed by cancel and by
// Stop. A subscriber that falls more than 256 events behind loses them and gets
// one Resync instead, always: after it reads Resync it has missed nothing that
// Members does not show.
func (p *Pool) Subscribe() (<-chan Event, func()) {
	ch := make(chan Event, subscriberBacklog)
	p.subMu.Lock()
	defer p.subMu.Unlock()
	if p.subsClosed {
		close(ch)
		return ch, func() {}
	}
	p.subs[ch] = struct{}{}
	return ch, func() {
		p.subMu.Lock()
		defer p.subMu.Unlock()
		if _, ok := p.subs[ch]; ok {
			delete(p.subs, ch)
			close(ch)
		}
	}
}

// publish is the only sender on subscribers' channels, so after draining a full
// one there is room.
func (p *Pool) publish(ev Event) {
	p.subMu.Lock()
	defer p.subMu.Unlock()
	for ch := range p.subs {
		select {
		case ch <- ev:
			continue
		default:
		}
		for drained := false; !drained; {
			select {
			case <-ch:
			default:
				drained = true
			}
		}
		ch <- Event{Kind: Resync}
		p.metrics.resyncs.Inc()
	}
}

func (p *Pool) closeSubscribers() {
	p.subMu.Lock()
	defer p.subMu.Unlock()
	p.subsClosed = true
	for ch := range p.subs {
		delete(p.subs, ch)
		close(ch)
	}
}

// drain takes serf's events as they come: serf holds its lock while it sends.
func (p *Pool) drain(s *serf.Serf, events <-chan serf.Event) {
	for {
		select {
		case e := <-events:
			p.handle(e)
		case <-s.ShutdownCh():
			return
		}
	}
}

func (p *Pool) handle(e serf.Event) {
	if ue, ok := e.(serf.UserEvent); ok {
		if p.newcomer.admits(ue) {
			p.deliver(ue)
		}
		return
	}
	me, ok := e.(serf.MemberEvent)
	if !ok {
		return // queries: nobody of this pool sends any but serf itself
	}
	ev := Event{Members: make([]Member, len(me.Members))}
	for i, m := range me.Members {
		ev.Members[i] = memberOf(m)
	}
	switch me.Type {
	case serf.EventMemberJoin:
		ev.Kind = Joined
	case serf.EventMemberUpdate:
		ev.Kind = Updated
	case serf.EventMemberLeave:
		ev.Kind = Gone
	case serf.EventMemberFailed:
		ev.Kind = Lost
	case serf.EventMemberReap:
		ev.Kind = Reaped
	default:
		return
	}
	for _, m := range ev.Members {
		p.log.Info("member "+ev.Kind.String(), "node", m.Name, "addr", m.AddrPort().String())
	}
	p.metrics.events.WithLabelValues(ev.Kind.String()).Add(float64(len(ev.Members)))
	p.publish(ev)
	if ev.Kind != Joined {
		return
	}
	p.greet(ev.Members)
	for _, m := range ev.Members {
		if m.Status == Leaving {
			select {
			case p.doubts <- struct{}{}:
			default: // doubt has not looked since the last one
			}
		}
	}
}
