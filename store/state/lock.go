package state

import (
	"encoding/binary"
	"math"

	"github.com/tidwall/btree"

	"landbridge/store"
	"landbridge/store/wire"
)

// lockVerdict is why a key can or can not be locked.
type lockVerdict uint8

const (
	lockGranted lockVerdict = iota
	lockHeld                // by another session
	lockDelayed             // it was lost with a session, too recently
)

// lockRefused judges an acquisition of in.Key, now old (nil: there is no such
// key), for in.Session. An error means that the session can hold nothing.
func (s *Store) lockRefused(old, in *store.KVEntry) (lockVerdict, *store.Error) {
	if err := s.vetSession(in.Session); err != nil {
		return lockHeld, err
	}
	if old != nil && old.Session != "" {
		if old.Session == in.Session {
			return lockGranted, nil
		}
		return lockHeld, nil
	}
	if s.sessions.delays.blocks(in.Key, s.now) {
		return lockDelayed, nil
	}
	return lockGranted, nil
}

// vetSession refuses sessions that do not exist.
func (s *Store) vetSession(id string) *store.Error {
	if id == "" {
		return store.Errorf(store.KindInvalid, "missing session")
	}
	if s.sessions.get(id) == nil {
		return store.Errorf(store.KindInvalid, "invalid session %q", id)
	}
	return nil
}

// kvLock writes in's value and flags and locks the key for its session, which
// lockRefused allowed.
func (s *Store) kvLock(old, in *store.KVEntry) {
	row := &store.KVEntry{Key: in.Key, Value: in.Value, Flags: in.Flags, Session: in.Session, LockIndex: 1}
	if old != nil {
		row.LockIndex = old.LockIndex
		if old.Session != in.Session {
			row.LockIndex++
		}
	}
	s.kvWrite(old, row)
}

// unlockRefused judges a release of in.Key, now old, by in.Session.
func (s *Store) unlockRefused(old, in *store.KVEntry) (bool, *store.Error) {
	if in.Session == "" {
		return true, store.Errorf(store.KindInvalid, "missing session")
	}
	return old == nil || old.Session != in.Session, nil
}

// kvUnlock writes in's value and flags and releases the key, which unlockRefused
// allowed. No delay begins: its holder let go of it.
func (s *Store) kvUnlock(old, in *store.KVEntry) {
	s.kvWrite(old, &store.KVEntry{Key: in.Key, Value: in.Value, Flags: in.Flags, LockIndex: old.LockIndex})
}

// lockDelay keeps a key from being locked for a while. Both numbers are
// nanoseconds, from is Unix time by the clock of the leader whose command began it.
type lockDelay struct{ from, length int64 }

func (d lockDelay) until() int64 {
	if d.from > math.MaxInt64-d.length {
		return math.MaxInt64
	}
	return d.from + d.length
}

// lockDelays are the delays by key. They are part of the state, so that a new
// leader knows them, and every decision depends on the times in the commands
// alone. Guarded by Store.mu.
type lockDelays struct {
	btree.Map[string, lockDelay]
	ends btree.Map[string, string] // when a delay ends, and its key, in this order -> the key

	journal *journal
}

func (l *lockDelays) len() int { return l.Map.Len() }

func endKey(d lockDelay, key string) string {
	b := make([]byte, 8, 8+len(key))
	binary.BigEndian.PutUint64(b, uint64(d.until())^1<<63) // negative times come first
	return string(append(b, key...))
}

// begin keeps key from being locked; a delay that is under way is replaced.
func (l *lockDelays) begin(key string, d lockDelay) {
	old, had := l.Map.Set(key, d)
	if had {
		l.ends.Delete(endKey(old, key))
	}
	l.ends.Set(endKey(d, key), key)
	if !l.journal.open {
		return
	}
	l.journal.note(func() {
		if had {
			l.begin(key, old)
		} else {
			l.ends.Delete(endKey(d, key))
			l.Map.Delete(key)
		}
	})
}

// blocks reports whether key may not be locked at a time. If that lies before the
// delay's beginning, the clocks of two leaders differ: the delay then begins anew,
// so that it lasts no longer than its length from the first attempt on, however
// far the clock went back.
func (l *lockDelays) blocks(key string, now int64) bool {
	d, ok := l.Map.Get(key)
	if !ok {
		return false
	}
	if now < d.from {
		l.begin(key, lockDelay{from: now, length: d.length})
		return true
	}
	return now < d.until()
}

// forget drops the delays that have passed.
func (l *lockDelays) forget(now int64) {
	for l.ends.Len() > 0 {
		end, key, _ := l.ends.Min()
		d, _ := l.Map.Get(key)
		if now < d.until() {
			return
		}
		l.ends.Delete(end)
		l.Map.Delete(key)
	}
}

func (d lockDelay) appendWire(b []byte, key string) []byte {
	b = wire.String(b, 1, key)
	b = wire.Int(b, 2, d.from)
	return wire.Int(b, 3, d.length)
}

func decodeLockDelay(b []byte) (key string, delay lockDelay, err error) {
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			key = d.String()
		case 2:
			delay.from = d.Int()
		case 3:
			delay.length = d.Int()
		}
	}
	return key, delay, d.Err()
}

func (l *lockDelays) decodeWire(b []byte) error {
	key, delay, err := decodeLockDelay(b)
	if err != nil {
		return err
	}
	if _, twice := l.Map.Get(key); key == "" || twice || delay.length <= 0 {
		return store.Errorf(store.KindInvalid, "the lock-delay of key %q has no key or no length, or comes twice", key)
	}
	l.begin(key, delay)
	return nil
}
