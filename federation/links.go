package federation

import (
	"math"
	"sync"
	"time"
)

// PathSample is what the transport counts on one open connection.
type PathSample struct {
	Peer                 string
	Connection           any // tells connections apart: comparable
	RTT                  time.Duration
	Sent, Lost, Received uint64 // packets
	Relayed              bool   // it has no path of its own: what arrives is no contact
}

const (
	// sampleEvery is how often connections are looked at: what a status says of the
	// last contact is that much behind at most.
	sampleEvery = 5 * time.Second
	// lossWindow is how far back loss is counted, in steps of lossStep: an idle
	// federation sends few packets, so less would say nothing.
	lossSteps = 10
	lossStep  = 30 * time.Second
	// lossHalfLife is how soon what Directory.Loss counts weighs half as much.
	lossHalfLife = 7 * time.Second
	// lossLeast is how many packets tell something about loss.
	lossLeast = 20
)

// links remembers what connections with peers, which come and go, have counted.
type links struct {
	mu    sync.Mutex
	at    time.Time // of the last sample
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

	sentLately, lostLately float64 // older packets weigh less
}

// take notes a sample of all open connections.
func (l *links) take(now time.Time, paths []PathSample) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.peers == nil {
		l.peers = make(map[string]*link)
	}
	older := math.Exp2(-float64(now.Sub(l.at)) / float64(lossHalfLife))
	for _, k := range l.peers {
		k.sentLately *= older
		k.lostLately *= older
	}
	l.at = now
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
		if p.Received > before.Received && !p.Relayed {
			k.contact = now
		}
		if p.RTT > 0 {
			k.rtt = p.RTT
		}
		k.used = now
		// A packet may be found to be lost that arrived late: the count can shrink.
		sent, lost := p.Sent-before.Sent, max(p.Lost, before.Lost)-before.Lost
		k.sent[k.at] += sent
		k.lost[k.at] += lost
		k.sentLately += float64(sent)
		k.lostLately += float64(lost)
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

// lossLately is the share of our packets to a peer that were lost in the last seconds,
// 0 if there were too few to tell.
func (l *links) lossLately(peer string) float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.peers[peer]
	if k == nil || k.sentLately < lossLeast {
		return 0
	}
	return min(k.lostLately/k.sentLately, 1)
}

// loss is the share of our packets to a peer that were lost in the last minutes;
// false if there were too few to tell.
func (l *links) loss(peer string, now time.Time) (float64, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.peers[peer]
	if k == nil {
		return 0, false
	}
	k.turn(now)
	var sent, lost uint64
	for i := range k.sent {
		sent += k.sent[i]
		lost += k.lost[i]
	}
	if sent < lossLeast {
		return 0, false
	}
	return min(float64(lost)/float64(sent), 1), true
}
