package forwarding

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// probeEvery is the pause between two probes of a server, at most.
const probeEvery = 250 * time.Millisecond

// hurriedEvery is the pause between two questions for the leader while calls wait.
const hurriedEvery = 25 * time.Millisecond

// asked says whether somebody asked for the datacenter lately.
func (p *path) asked(now time.Time) bool {
	return now.UnixNano()-p.lastUse.Load() < int64(askedLately)
}

// probeLocked has a silent server probed until it answers, or nobody asks for its
// datacenter any more; mu is held.
func (p *path) probeLocked(s *server) {
	if !s.probing {
		s.probing = p.d.spawn(func(ctx context.Context) { p.probe(ctx, s) })
	}
}

// wake has all silent servers probed.
func (p *path) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.servers {
		if s.silent {
			p.probeLocked(s)
		}
	}
}

// probe is the goroutine of probeLocked.
func (p *path) probe(ctx context.Context, s *server) {
	pause := probeEvery / 5
	for {
		p.mu.Lock()
		waits := s.flaps
		s.flaps = false
		over := !s.silent || p.servers[s.name] != s || !p.asked(time.Now())
		if over {
			s.probing = false
		}
		p.mu.Unlock()
		if over {
			return
		}
		if !waits {
			if err := p.try(ctx, s); err == nil {
				p.back(s)
				continue
			} else if ctx.Err() == nil {
				p.d.cfg.WAN.Report(s.name, err)
			}
		}
		t := time.NewTimer(pause)
		pause = min(2*pause, probeEvery)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
		if ctx.Err() != nil {
			p.mu.Lock()
			s.probing = false
			p.mu.Unlock()
			return
		}
	}
}

// try asks a server for a sign of life: over its connection, or a new one.
func (p *path) try(ctx context.Context, s *server) error {
	peer := *s.peer.Load()
	ctx, cancel := context.WithTimeout(ctx, max(5*time.Second, 10*s.rtt(time.Now())))
	defer cancel()
	conn, err := p.d.cfg.WAN.Dial(ctx, peer)
	if err != nil {
		return err
	}
	if k, ok := conn.(knocker); ok {
		return k.Ping(ctx) // ends with the connection, whose own pings go on meanwhile
	}
	_, err = conn.Do(ctx, &rpc.Request{Method: rpc.Ping})
	return err
}

// seek finds out whether the datacenter has a leader, as its servers know: soon
// after one of them said that there is none, and again until all that answer know one
// or nobody asks.
func (p *path) seek() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seekLocked()
}

func (p *path) seekLocked() {
	if !p.asking {
		p.asking = p.d.spawn(p.seekLeader)
	}
}

// seekLeader is the goroutine of seek. A server that does not answer delays no other.
func (p *path) seekLeader(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	t := time.NewTimer(probeEvery)
	defer t.Stop()
	for {
		for _, s := range p.roster() {
			if !s.out.Load() && s.seeking.CompareAndSwap(false, true) {
				all.Go(func() {
					defer s.seeking.Store(false)
					if has, err := p.hasLeader(ctx, s); err == nil {
						p.setLeaderless(s, !has)
					}
				})
			}
		}
		p.mu.Lock()
		pause := probeEvery
		if p.awaiting > 0 {
			pause = hurriedEvery/2 + rand.N(hurriedEvery)
		}
		p.mu.Unlock()
		t.Reset(pause)
		select {
		case <-t.C:
		case <-p.hurry:
		case <-ctx.Done():
		}
		p.mu.Lock()
		if ctx.Err() != nil || p.awaiting == 0 && (!p.missesLocked() || !p.asked(time.Now())) {
			p.asking = false
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
	}
}

// missesLocked is whether a server that answers knows of no leader; mu is held.
func (p *path) missesLocked() bool {
	for _, s := range p.servers {
		if !s.silent && s.leaderless.Load() {
			return true
		}
	}
	return false
}

// setLeaderless notes whether a server knows of no leader.
func (p *path) setLeaderless(s *server, less bool) {
	if less && s.leaderless.Load() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !less {
		p.found = time.Now()
	}
	if s.leaderless.Swap(less) != less {
		p.settleLocked()
		p.noteLocked()
	} else if p.awaiting > 0 {
		p.noteLocked()
	}
}

// hasLeader asks a server whether it knows a leader.
func (p *path) hasLeader(ctx context.Context, s *server) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, max(time.Second, 3*s.rtt(time.Now())))
	defer cancel()
	conn, err := p.d.cfg.WAN.Dial(ctx, *s.peer.Load())
	if err != nil {
		return false, err
	}
	resp, err := conn.Do(ctx, &rpc.Request{Method: rpc.StatusLeader, Datacenter: p.dc, Consistency: store.Stale})
	if err != nil {
		return false, err
	}
	return len(resp.Body) > len(`""`), nil
}
