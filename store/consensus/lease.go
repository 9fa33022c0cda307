package consensus

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// lease knows when a quorum last acknowledged this server as leader, counted
// from the moment the acknowledged request was sent. hashicorp/raft counts from
// the moment the answer arrived, which is later by an unknown time if the
// process or the network stood still.
type lease struct {
	length time.Duration
	self   raft.ServerID
	conf   func() raft.Configuration

	mu      sync.Mutex
	term    uint64
	acks    map[raft.ServerID]time.Time // in term, when the request was sent
	reached map[raft.ServerID]uint64    // in term, the last entry of its log by then
	void    bool                        // a leadership transfer was begun in term
	changed chan struct{}               // closed and replaced when held changes

	held atomic.Pointer[heldLease]
}

// heldLease says that a quorum acknowledged requests of term sent at sent or
// later.
type heldLease struct {
	term uint64
	sent time.Time
	void bool
}

func newLease(length time.Duration, self raft.ServerID, conf func() raft.Configuration) *lease {
	return &lease{length: length, self: self, conf: conf,
		acks: make(map[raft.ServerID]time.Time), reached: make(map[raft.ServerID]uint64), changed: make(chan struct{})}
}

// beginLocked turns to a newer term; false if term is over.
func (l *lease) beginLocked(term uint64) bool {
	if term < l.term {
		return false
	}
	if term > l.term {
		l.term, l.void = term, false
		clear(l.acks)
		clear(l.reached)
	}
	return true
}

// ack notes that id acknowledged a request of term that was sent at sent, and that
// its log ended with lastLog.
func (l *lease) ack(id raft.ServerID, term uint64, sent time.Time, lastLog uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.beginLocked(term) || !sent.After(l.acks[id]) {
		return
	}
	l.acks[id] = sent
	l.reached[id] = lastLog
	voters, need := l.others()
	var times []time.Time
	for _, v := range voters {
		if t, ok := l.acks[v]; ok {
			times = append(times, t)
		}
	}
	if need == 0 || len(times) < need {
		return
	}
	slices.SortFunc(times, func(a, b time.Time) int { return b.Compare(a) })
	l.setLocked(&heldLease{term: term, sent: times[need-1], void: l.void})
}

// others returns the other voters, and how many of them make a quorum with us.
func (l *lease) others() (voters []raft.ServerID, need int) {
	self := 0
	for _, s := range l.conf().Servers {
		switch {
		case s.Suffrage != raft.Voter:
		case s.ID == l.self:
			self = 1
		default:
			voters = append(voters, s.ID)
		}
	}
	return voters, (len(voters)+self)/2 + 1 - self
}

func (l *lease) setLocked(h *heldLease) {
	l.held.Store(h)
	close(l.changed)
	l.changed = make(chan struct{})
}

// confirmed reports whether a quorum acknowledged a request of term sent after
// since. If not, the channel is closed when that may have changed.
func (l *lease) confirmed(term uint64, since time.Time) (bool, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, need := l.others(); need == 0 {
		return true, nil
	}
	h := l.held.Load()
	return h != nil && h.term == term && !h.sent.Before(since), l.changed
}

// successors returns the voters that acknowledged this leader of term less than a
// lease ago and have all that is committed, those with the longest log first; none
// unless they and we are a quorum.
func (l *lease) successors(term, commit uint64, now time.Time) (ids []raft.ServerID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.term != term {
		return nil
	}
	voters, need := l.others()
	fresh := 0
	for _, v := range voters {
		if sent, ok := l.acks[v]; ok && elapsed(sent, now) < l.length {
			fresh++
			if l.reached[v] >= commit {
				ids = append(ids, v)
			}
		}
	}
	if fresh < need {
		return nil
	}
	slices.SortFunc(ids, func(a, b raft.ServerID) int { return cmp.Compare(l.reached[b], l.reached[a]) })
	return ids
}

// progress returns where the logs of the others ended when they last answered in
// term.
func (l *lease) progress(term uint64) map[raft.ServerID]uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.term != term {
		return nil
	}
	return maps.Clone(l.reached)
}

// acknowledged is the same for one server, with when it was asked.
func (l *lease) acknowledged(id raft.ServerID, term uint64) (sent time.Time, last uint64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.term == term {
		sent, ok = l.acks[id]
		last = l.reached[id]
	}
	return sent, last, ok
}

// transfer notes that a follower is about to be told to take over in term. From
// then on voters may elect it whenever its request reaches them, however
// recently they acknowledged us.
func (l *lease) transfer(term uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.beginLocked(term) {
		l.void = true
		l.setLocked(nil)
	}
}

// valid reports whether the lease of term holds at now.
func (l *lease) valid(term uint64, now time.Time) bool {
	h := l.held.Load()
	return h != nil && h.term == term && !h.void && elapsed(h.sent, now) < l.length
}

// elapsed is the longer of what the monotonic and the wall clock say: the
// former may stop with the machine, the latter may be set back.
func elapsed(from, to time.Time) time.Duration {
	return max(to.Sub(from), to.Round(0).Sub(from.Round(0)))
}

// voteGuard is a StableStore that keeps two kinds of votes from being recorded,
// and so from being given:
//
//   - any vote before a lease has passed since this process started: it would
//     break the promise that its predecessor made by answering a heartbeat;
//   - a vote for ourselves while the log takes no entries and there are others
//     to lead: we would win, fail to append, step down, and win again.
type voteGuard struct {
	raft.StableStore
	until    time.Time
	off      atomic.Bool // no lease to wait for
	self     raft.ServerAddress
	writable func() error
	alone    *atomic.Bool
}

func (g *voteGuard) SetUint64(key []byte, val uint64) error {
	if string(key) == "LastVoteTerm" && !g.off.Load() {
		if d := time.Until(g.until); d > 0 {
			time.Sleep(d) // bounded by the lease; Raft's main loop has nothing better to do
		}
	}
	return g.StableStore.SetUint64(key, val)
}

func (g *voteGuard) Set(key, val []byte) error {
	// Raft records the term of a vote first. Stopping in between leaves a term
	// in which nobody got our vote, which is the truth.
	if string(key) == "LastVoteCand" && string(val) == string(g.self) && !g.alone.Load() {
		if err := g.writable(); err != nil {
			return fmt.Errorf("not standing for election: %w", err)
		}
	}
	return g.StableStore.Set(key, val)
}
