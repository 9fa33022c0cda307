package leader

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"landbridge/store"
	"landbridge/store/state"
)

// The life of a session without a renewal, in times to live. It must be at least
// one; the second covers renewals on their way (spec http-kv-txn-session 3).
const sessionGrace = 2

const (
	// sessionLook is how often the table is looked through for sessions that came
	// or went without this server's doing, as by a restore.
	sessionLook = time.Second
	// sessionRetry is the pause after an end that could not be written.
	sessionRetry = time.Second
	// sessionLate is how late the loop must wake up to conclude that the process
	// stood still. Nobody could renew then, so nothing ends for that reason.
	sessionLate = time.Second
)

// sessions ends the sessions that nobody renewed. Renewals are known to the leader
// alone, in monotonic time: a new leader gives each session one full time to live.
type sessions struct {
	l    *Leader
	kick chan struct{} // one slot: the first deadline may have moved ahead

	mu     sync.Mutex
	leads  bool // false: no renewals are taken, timers is empty
	timers map[string]*sessionTimer
	queue  sessionQueue
}

type sessionTimer struct {
	id   string
	ttl  time.Duration
	at   time.Time // when it ends
	slot int       // in the queue
	// ending: its end has been proposed and may be in the log. It takes no
	// renewals any more, whatever becomes of the proposal.
	ending bool
}

func newSessions(l *Leader) *sessions {
	return &sessions{l: l, kick: make(chan struct{}, 1), timers: make(map[string]*sessionTimer)}
}

// RenewSession gives a session its whole time to live again, and returns it, nil
// if there is none or its time is over. One without a time to live is returned as
// it is. The caller must check the lease afterwards: only then it is certain that
// no other leader ends the session earlier. The error is of KindNoLeader.
func (l *Leader) RenewSession(id string) (*store.Session, error) {
	s := l.sessions
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.leads {
		return nil, store.ErrNoLeader
	}
	_, sess := l.cfg.State.Session(nil, id)
	if sess == nil {
		return nil, nil
	}
	ttl := sess.Lifetime()
	if ttl == 0 {
		return sess, nil
	}
	if t := s.timers[id]; t != nil && t.ending {
		return nil, nil
	}
	s.set(id, ttl, time.Now().Add(sessionGrace*ttl))
	return sess, nil
}

// set arms or moves a timer; s.mu is held.
func (s *sessions) set(id string, ttl time.Duration, at time.Time) {
	t := s.timers[id]
	if t == nil {
		t = &sessionTimer{id: id, ttl: ttl, at: at}
		s.timers[id] = t
		heap.Push(&s.queue, t)
	} else {
		t.at = at
		heap.Fix(&s.queue, t.slot)
	}
	if s.queue[0] == t {
		select {
		case s.kick <- struct{}{}:
		default:
		}
	}
}

// drop forgets a timer; s.mu is held.
func (s *sessions) drop(t *sessionTimer) {
	heap.Remove(&s.queue, t.slot)
	delete(s.timers, t.id)
}

// run keeps the timers of one leadership.
func (s *sessions) run(ctx context.Context) {
	w := s.l.cfg.State.NewWatch()
	defer w.Close()
	s.mu.Lock()
	s.leads = true
	s.look(w, 1)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.leads, s.timers, s.queue = false, make(map[string]*sessionTimer), nil
		s.mu.Unlock()
		s.l.metrics.sessionTimers.Set(0)
	}()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var look time.Time // when to look through the table, if it changed
	for {
		wake := s.first()
		if !look.IsZero() && look.Before(wake) {
			wake = look
		}
		if now := time.Now(); wake.Before(now) {
			wake = now
		}
		timer.Reset(time.Until(wake))
		select {
		case <-ctx.Done():
			return
		case <-s.kick:
			continue
		case <-w.C(): // once until the next look
			look = time.Now().Add(sessionLook)
			continue
		case <-timer.C:
		}
		now := time.Now()
		s.mu.Lock()
		if !look.IsZero() && !now.Before(look) {
			s.look(w, sessionGrace)
			look = time.Time{}
		}
		due := s.due(now, now.Sub(wake) > sessionLate)
		s.mu.Unlock()
		s.end(ctx, due)
	}
}

// first returns when the first timer ends.
func (s *sessions) first() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.l.metrics.sessionTimers.Set(float64(len(s.timers)))
	if len(s.queue) == 0 {
		return time.Now().Add(time.Hour)
	}
	return s.queue[0].at
}

// look arms timers for the sessions that have none, with so many times to live,
// and drops those of sessions that are gone; s.mu is held.
func (s *sessions) look(w *state.Watch, times time.Duration) {
	_, list := s.l.cfg.State.Sessions(w)
	now := time.Now()
	there := make(map[string]bool, len(s.timers))
	for _, sess := range list {
		ttl := sess.Lifetime()
		if ttl == 0 {
			continue
		}
		there[sess.ID] = true
		if s.timers[sess.ID] == nil {
			s.set(sess.ID, ttl, now.Add(times*ttl))
		}
	}
	for id, t := range s.timers {
		if !there[id] {
			s.drop(t)
		}
	}
}

// due marks and returns the sessions whose time is over, or, after a standstill,
// gives them one more; s.mu is held.
func (s *sessions) due(now time.Time, stoodStill bool) []string {
	var due []string
	for len(s.queue) > 0 && !s.queue[0].at.After(now) {
		t := s.queue[0]
		switch {
		case stoodStill && !t.ending:
			t.at = now.Add(t.ttl)
		default:
			t.ending = true
			t.at = now.Add(sessionRetry) // again, unless end drops it
			due = append(due, t.id)
		}
		heap.Fix(&s.queue, 0)
	}
	return due
}

// end writes the ends of sessions, many at once: the log joins them.
func (s *sessions) end(ctx context.Context, due []string) {
	var wg sync.WaitGroup
	room := make(chan struct{}, parallelWrites)
	for _, id := range due {
		if ctx.Err() != nil {
			break
		}
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			s.endOne(ctx, id)
		})
	}
	wg.Wait()
}

func (s *sessions) endOne(ctx context.Context, id string) {
	cmd := store.SessionCommand{Op: store.SessionDestroy, Session: store.Session{ID: id}}
	_, err := s.l.apply(ctx, store.CmdSession, cmd.AppendWire(nil))
	s.l.metrics.sessionsEnded.observe(err)
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.timers[id]
	switch {
	case err == nil:
		if t != nil {
			s.drop(t)
		}
		s.l.cfg.Logger.Info("session ended: it was not renewed", "session", id)
	case ctx.Err() == nil:
		s.l.cfg.Logger.Warn("session's time is over, but its end was not written; will retry", "session", id, "err", err)
	}
}

// sessionQueue is a heap.Interface by the time of the end.
type sessionQueue []*sessionTimer

func (q sessionQueue) Len() int           { return len(q) }
func (q sessionQueue) Less(i, j int) bool { return q[i].at.Before(q[j].at) }

func (q sessionQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].slot, q[j].slot = i, j
}

// Push is of heap.Interface.
func (q *sessionQueue) Push(x any) {
	t := x.(*sessionTimer)
	t.slot = len(*q)
	*q = append(*q, t)
}

// Pop is of heap.Interface.
func (q *sessionQueue) Pop() any {
	old := *q
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return t
}
