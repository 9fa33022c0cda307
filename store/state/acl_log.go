package state

import (
	"time"

	"landbridge/store"
)

// The change log of ACL records: at least the last hour and the last 100,000
// changes, whichever is more, but no more than a million.
const (
	aclLogEvents = 100_000
	aclLogTime   = time.Hour
	aclLogMost   = 1_000_000
)

// ACLEvent says that a record was written or deleted. What it is now, its table
// tells: a follower that is behind reads each record once.
type ACLEvent struct {
	Index   store.Index // of the command: the position in the log
	Kind    store.ACLKind
	Key     string // ACLRecord.ACLKey
	Deleted bool

	at int64 // the command's time
}

// aclLog is in memory only: it begins where the process did, or the last restore.
type aclLog struct {
	events []ACLEvent  // in order; the first `gone` of them have been dropped
	gone   int         // dropped, and not yet freed
	floor  store.Index // of the last event that is not in it any more
}

func (l *aclLog) add(e ACLEvent) {
	l.events = append(l.events, e)
	for n := len(l.events) - l.gone; n > aclLogEvents; n-- {
		if n <= aclLogMost && e.at-l.events[l.gone].at <= int64(aclLogTime) {
			break
		}
		l.floor = l.events[l.gone].Index
		l.events[l.gone] = ACLEvent{}
		l.gone++
	}
	if l.gone > len(l.events)/2 { // amortised: half of it has gone since the last time
		l.events = append(make([]ACLEvent, 0, len(l.events)-l.gone+1024), l.events[l.gone:]...)
		l.gone = 0
	}
}

// end and cut take back what a command that failed has added. What add dropped
// stays dropped: readers that need it walk the tables.
func (l *aclLog) end() store.Index {
	if len(l.events) == l.gone {
		return l.floor
	}
	return l.events[len(l.events)-1].Index
}

func (l *aclLog) cut(end store.Index) {
	n := len(l.events)
	for n > l.gone && l.events[n-1].Index > end {
		n--
	}
	clear(l.events[n:])
	l.events = l.events[:n]
}

// after returns the position of the first event after an index.
func (l *aclLog) after(index store.Index) int {
	lo, hi := l.gone, len(l.events)
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		if l.events[mid].Index > index {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}

// ACLChanges returns the events after an index, at most limit but never a part of
// one command's, and the position they lead to: that of the last one returned, or
// of the state if that was all. Not ok says that the log does not go back so far,
// or that the index is of another history: the follower has to compare tables. A
// watch waits for the next change.
func (s *Store) ACLChanges(w *Watch, after store.Index, limit int) (events []ACLEvent, upTo store.Index, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.watch(w, watchACL, "")
	l := &s.acl.log
	if after < l.floor || after > s.index {
		return nil, s.index, false
	}
	from := l.after(after)
	to := len(l.events)
	if to-from > limit {
		for to = from + max(limit, 1); to < len(l.events) && l.events[to].Index == l.events[to-1].Index; to++ {
		}
	}
	upTo = s.index
	if to < len(l.events) {
		upTo = l.events[to-1].Index
	}
	return append([]ACLEvent(nil), l.events[from:to]...), upTo, true
}

// ACLRecord returns the record of a kind under an ACLKey as it was written, nil if
// there is none: links as the writer gave them, so that a copy has its digest.
func (s *Store) ACLRecord(kind store.ACLKind, key string) store.ACLRecord {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.acl.record(kind, key)
}

func (a *aclTables) record(kind store.ACLKind, key string) store.ACLRecord {
	switch kind {
	case store.ACLTokens:
		return some(a.tokens.get(key))
	case store.ACLPolicies:
		return some(a.policies.get(key))
	case store.ACLRoles:
		return some(a.roles.get(key))
	case store.ACLBindingRules:
		return some(a.rules.get(key))
	case store.ACLAuthMethods:
		return some(a.methods.get(key))
	}
	return nil
}

// some keeps a nil pointer from becoming an interface that is not nil.
func some[R any, P interface {
	*R
	store.ACLRecord
}](r P) store.ACLRecord {
	if r == nil {
		return nil
	}
	return r
}

// ACLRecords calls each for the records of a kind as they were written, in the
// order of their keys, as of one moment, which it returns: what a proof compares.
func (s *Store) ACLRecords(kind store.ACLKind, each func(key string, r store.ACLRecord) bool) store.Index {
	s.mu.RLock()
	s.copyMu.Lock()
	at := s.index
	var scan func()
	switch kind {
	case store.ACLTokens:
		scan = scanOf(&s.acl.tokens.table, each)
	case store.ACLPolicies:
		scan = scanOf(&s.acl.policies.table, each)
	case store.ACLRoles:
		scan = scanOf(&s.acl.roles.table, each)
	case store.ACLBindingRules:
		scan = scanOf(&s.acl.rules.table, each)
	case store.ACLAuthMethods:
		scan = scanOf(s.acl.methods, each)
	}
	s.copyMu.Unlock()
	s.mu.RUnlock()
	if scan != nil {
		scan()
	}
	return at
}

// scanOf takes a copy of the tree now and returns what walks it.
func scanOf[R any, P interface {
	*R
	store.ACLRecord
}](t *table[R], each func(string, store.ACLRecord) bool) func() {
	tree := t.tree.Copy()
	return func() { tree.Scan(func(key string, r *R) bool { return each(key, P(r)) }) }
}
