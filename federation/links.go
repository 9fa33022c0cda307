package federation

import (
	"sync"
	"time"
)

// PathSample is what the transport counts on one open connection.
type PathSample struct {
	Peer                 string
	Connection           any // tells connections apart: comparable
	RTT                  time.Duration
	Sent, Lost, Received uint64 // packets
}

const (
	// sampleEvery is how often connections are looked at: what a status says of the
	// last contact is that much behind at most.
	sampleEvery = 5 * time.Second
	// lossWindow is how far back loss is counted, in steps of lossStep: an idle
	// federation sends few packets, so less would say nothing.
	lossSteps = 10
	lossStep  = 30 * time.Second
	// recentSteps is how far back Directory.Loss looks.
	recentSteps = 2
	// lossLeast is how many packets tell something about loss.
	lossLeast = 20
)

// links remembers what connections with peers, which come and go, have counted.
type links struct {
	mu    sync.Mutex
	peers map[string]*link
	seen  map[any]PathSample // of the connections that are open
}

type link struct {
	rtt     time.Duration
	contact time.Time // when something arrived last
	used    time.Time // when a connection was open last
	began   time.Time // of the newest step
	sent    [lossSteps]uint64
	lost    [lossSteps]uint64
	at      int
}

// take notes a sample of all open connections.
func (l *links) take(now time.Time, paths []PathSample) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.peers == nil {
		l.peers = make(map[string]*link)
	}
	next := make(map[any]PathSample, len(paths))
	for _, p := range paths {
		if p.Peer == "" {
			continue
		}
		next[p.Connection] = p
		k := l.peers[p.Peer]
		if k == nil {
			k = &link{began: now}
			l.peers[p.Peer] = k
		}
		k.turn(now)
		before := l.seen[p.Connection] // zero for a new one
		if p.Received > before.Received {
			k.contact = now
		}
		if p.RTT > 0 {
			k.rtt = p.RTT
		}
		k.used = now
		k.sent[k.at] += p.Sent - before.Sent
		// A packet may be found to be lost that arrived late: the count can shrink.
		k.lost[k.at] += max(p.Lost, before.Lost) - before.Lost
	}
	l.seen = next
	for name, k := range l.peers {
		if now.Sub(k.used) > time.Hour {
			delete(l.peers, name)
		}
	}
}

// turn begins new steps when their time has come.
func (k *link) turn(now time.Time) {
	for range lossSteps {
		if now.Sub(k.began) < lossStep {
			return
		}
		k.began = k.began.Add(lossStep)
		k.at = (k.at + 1) % lossSteps
		k.sent[k.at], k.lost[k.at] = 0, 0
	}
	k.began = now
}

// contact is when something arrived from a peer last; zero if nothing did.
func (l *links) contact(peer string) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k := l.peers[peer]; k != nil {
		return k.contact
	}
	return time.Time{}
}

// loss is the share of our packets to a peer that were lost in the newest steps;
// false if there were too few to tell.
func (l *links) loss(peer string, now time.Time, steps int) (float64, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.peers[peer]
	if k == nil {
		return 0, false
	}
	k.turn(now)
	var sent, lost uint64
	for i := range steps {
		at := (k.at + lossSteps - i) % lossSteps
		sent += k.sent[at]
		lost += k.lost[at]
	}
	if sent < lossLeast {
		return 0, false
	}
	return min(float64(lost)/float64(sent), 1), true
}
