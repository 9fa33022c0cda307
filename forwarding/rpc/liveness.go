package rpc

import (
	"sync"
	"sync/atomic"
	"time"
)

// maxMissed is how many pings in a row may go without any sign of life.
const maxMissed = 3

// liveness watches a client's session while calls wait: one ping per interval.
// Any frame received is a sign of life.
type liveness struct {
	c      *Client
	heard  atomic.Uint64 // frames, and pieces of bulky answers
	missed atomic.Int32  // intervals in a row with a ping out and nothing heard
	srtt   atomic.Int64  // of pings, smoothed; 0 = not measured
	armed  atomic.Bool   // the timer runs

	mu     sync.Mutex // held for a whole tick; guards what is below
	closed bool
	timer  *time.Timer
	at     uint64 // heard at the last tick
	pinged bool   // since something was heard
}

func (v *liveness) start(c *Client) { v.c = c }

// hear notes a sign of life.
func (v *liveness) hear() { v.heard.Add(1) }

// arm starts the timer if it does not run. Called by each call.
func (v *liveness) arm() {
	if v.armed.Load() || v.c.cfg.PingEvery < 0 || !v.armed.CompareAndSwap(false, true) {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return
	}
	v.at = v.heard.Load()
	if v.timer == nil {
		v.timer = time.AfterFunc(v.interval(), v.tick)
	} else {
		v.timer.Reset(v.interval())
	}
}

func (v *liveness) stop() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.closed = true
	if v.timer != nil {
		v.timer.Stop()
	}
}

func (v *liveness) interval() time.Duration { return max(v.c.cfg.PingEvery, 2*v.rtt()) }

func (v *liveness) rtt() time.Duration {
	if n := v.srtt.Load(); n > 0 {
		return time.Duration(n)
	}
	if v.c.cfg.RTT != nil {
		return v.c.cfg.RTT()
	}
	return 0
}

func (v *liveness) measured(d time.Duration) {
	d = max(d, 1)
	if old := v.srtt.Load(); old > 0 {
		d = time.Duration(old) + (d-time.Duration(old))/8
	}
	v.srtt.Store(int64(d))
}

func (v *liveness) pong(k *call) { v.measured(time.Since(k.tick)) }

// tick runs in the timer's goroutine once per interval.
func (v *liveness) tick() {
	if v.check() {
		// Outside mu, which fail takes.
		v.c.cfg.Metrics.silent.Inc()
		v.c.fail(errPeerSilent)
	}
}

// check reports whether the peer is to be given up.
func (v *liveness) check() (dead bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return false
	}
	idle := v.c.inFlight.Load() == 0
	at := v.at
	v.at = v.heard.Load()
	switch {
	case v.at != at || idle:
		v.pinged = false
		v.missed.Store(0)
	case v.pinged:
		if v.missed.Add(1) >= maxMissed {
			return true
		}
	}
	if idle {
		v.armed.Store(false)
		// A call that began between the two looks saw the timer armed.
		if v.c.inFlight.Load() == 0 || !v.armed.CompareAndSwap(false, true) {
			return false
		}
	}
	v.ping()
	v.timer.Reset(v.interval())
	return false
}

// knock pings between two ticks. The tick that follows does not count it: it may
// come before the answer can.
func (v *liveness) knock() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.closed && v.c.cfg.PingEvery >= 0 {
		pinged := v.pinged
		v.ping()
		v.pinged = pinged
	}
}

// ping sends one, taking turns over the lanes: loss that holds one up does not
// speak for the others. One that no lane takes counts as sent.
func (v *liveness) ping() {
	v.pinged = true
	now := time.Now()
	for range v.c.lanes {
		id := v.c.newID()
		if v.c.lane(id).ping(id, &call{tick: now}) {
			return
		}
	}
}
