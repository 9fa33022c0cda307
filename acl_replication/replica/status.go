package replica

import (
	"sync"
	"time"
)

// Status is how a copy is doing.
type Status struct {
	Running   bool // a Follower's Run is under way
	Connected bool // the source was heard since the last error
	Cursor    Cursor
	// Top is where the source was when it was heard last.
	Top uint64
	// InSync is when the copy was last known to be as far as the source.
	InSync           time.Time
	LastSuccess      time.Time
	LastError        time.Time
	LastErrorMessage string
	LastProof        time.Time // when the copy was last proven equal
	Held             []Key     // deletions that wait
	HeldID           string
	Refused          int // rows that could not be written, of the last that were tried
	LastRefusal      string
}

// Lag is how long ago the copy was as far as the source: 0 while it is.
func (s *Status) Lag(now time.Time) time.Duration {
	if s.Connected && s.Top <= s.Cursor.Position || s.InSync.IsZero() {
		return 0
	}
	return now.Sub(s.InSync)
}

// Healthy reports whether nothing wants an operator's eye.
func (s *Status) Healthy() bool { return s.Connected && len(s.Held) == 0 && s.Refused == 0 }

type status struct {
	mu sync.Mutex
	s  Status
}

// Status returns how it is.
func (f *Follower) Status() Status {
	f.status.mu.Lock()
	defer f.status.mu.Unlock()
	return f.status.s
}

func (t *status) with(do func(s *Status)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	do(&t.s)
}

func (t *status) begin(c Cursor) {
	t.with(func(s *Status) { *s = Status{Running: true, Cursor: c, Top: c.Position, InSync: time.Now()} })
}

func (t *status) end() { t.with(func(s *Status) { *s = Status{} }) }

func (t *status) runs() (runs bool) {
	t.with(func(s *Status) { runs = s.Running })
	return runs
}

func (t *status) heard(c Cursor, top uint64) {
	now := time.Now()
	t.with(func(s *Status) {
		s.Connected, s.LastSuccess, s.Cursor, s.Top = true, now, c, top
		if c.Position >= top {
			s.InSync = now
		}
	})
}

func (t *status) failed(err error) {
	t.with(func(s *Status) {
		s.Connected, s.LastError, s.LastErrorMessage = false, time.Now(), err.Error()
	})
}

func (t *status) wrote(c Cursor, refused []Refusal, held []Key) {
	t.with(func(s *Status) {
		s.Cursor, s.Held, s.HeldID = c, held, heldID(held)
		if s.Refused = len(refused); len(refused) > 0 {
			s.LastRefusal = refused[0].Err.Error()
		}
	})
}

func (t *status) holds(held []Key) {
	t.with(func(s *Status) { s.Held, s.HeldID = held, heldID(held) })
}

func (t *status) proved(at time.Time) { t.with(func(s *Status) { s.LastProof = at }) }
