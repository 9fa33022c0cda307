package state

import (
	"slices"

	"landbridge/store"
)

// sessionTable holds the sessions by id, and what they leave behind: the delays
// of locks that were lost with a session.
type sessionTable struct {
	table[store.Session]
	byNode *index[store.Session]
	delays lockDelays
}

func newSessionTable(j *journal) *sessionTable {
	t := &sessionTable{table: *newTable[store.Session](j), delays: lockDelays{journal: j}}
	t.byNode = t.index(func(_ string, sess *store.Session) (string, bool) { return lower(sess.Node), true })
	return t
}

// Sessions returns all sessions in the order of their ids. Like that of the other
// reads of sessions, its index is that of the table.
func (s *Store) Sessions(w *Watch) (store.Index, []*store.Session) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.watch(w, watchSessions, "")
	list := make([]*store.Session, 0, s.sessions.len())
	s.sessions.tree.Scan(func(_ string, sess *store.Session) bool {
		list = append(list, sess)
		return true
	})
	return atLeastOne(s.sessions.max), list
}

// Session returns the session with an id, or nil. Woken by that session only.
func (s *Store) Session(w *Watch, id string) (store.Index, *store.Session) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.watch(w, watchSession, id)
	return atLeastOne(s.sessions.max), s.sessions.get(id)
}

// NodeSessions returns the sessions of a node in the order of their ids.
func (s *Store) NodeSessions(w *Watch, node string) (store.Index, []*store.Session) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	key := lower(node)
	s.watch(w, watchNodeSession, key)
	return atLeastOne(s.sessions.max), rowsOf(s.sessions.byNode.group(key))
}

func (s *Store) applySession(c *store.SessionCommand) (bool, *store.Error) {
	switch c.Op {
	case store.SessionCreate:
		return s.createSession(&c.Session)
	case store.SessionDestroy:
		if old := s.sessions.get(c.Session.ID); old != nil {
			s.endSession(old)
		}
		return true, nil
	}
	return false, store.Errorf(store.KindInvalid, "unknown session operation %d", c.Op)
}

func (s *Store) createSession(sess *store.Session) (bool, *store.Error) {
	if sess.ID == "" || s.sessions.get(sess.ID) != nil {
		return false, store.Errorf(store.KindInvalid, "session id %q is empty or in use", sess.ID)
	}
	if err := sess.Prepare(0); err != nil {
		return false, asError(err)
	}
	key := lower(sess.Node)
	node := s.catalog.nodes.get(key)
	if node == nil {
		return false, store.Errorf(store.KindInvalid, "Missing node registration")
	}
	for _, ids := range [...][]string{sess.NodeChecks, sess.ServiceChecks} {
		for _, id := range ids {
			k := s.catalog.checks.get(instanceKey(key, id))
			if k == nil {
				return false, store.Errorf(store.KindInvalid, "Missing check '%s' registration", id)
			}
			if k.Status == store.Critical {
				return false, store.Errorf(store.KindInvalid, "Check '%s' is in %s state", id, k.Status)
			}
		}
	}
	sess.Node = node.Node
	sess.CreateIndex, sess.ModifyIndex = s.index, s.index
	s.sessions.put(sess.ID, sess)
	s.changeSession(key, sess.ID)
	return true, nil
}

func (s *Store) changeSession(node, id string) {
	s.sessions.max = s.index
	s.change(watchSessions, "")
	s.change(watchSession, id)
	s.change(watchNodeSession, node)
}

// endSession ends a session, and the prepared queries that are bound to it: its
// keys are released or deleted, and may not be locked again before its lock-delay
// has passed.
func (s *Store) endSession(old *store.Session) {
	s.sessions.remove(old.ID)
	s.deleteQueriesOf(old.ID)
	s.changeSession(lower(old.Node), old.ID)
	for _, k := range slices.Clone(s.kv.bySession.group(old.ID)) {
		if old.LockDelay > 0 {
			s.sessions.delays.begin(k.key, lockDelay{from: s.now, length: int64(old.LockDelay)})
		}
		if old.Behavior == store.BehaviorDelete {
			s.kvDelete(k.row)
			continue
		}
		s.kvWrite(k.row, &store.KVEntry{Key: k.row.Key, Value: k.row.Value, Flags: k.row.Flags, LockIndex: k.row.LockIndex})
	}
}

// endSessionsOf ends the sessions of a node that goes.
func (s *Store) endSessionsOf(node string) {
	for _, k := range slices.Clone(s.sessions.byNode.group(node)) {
		s.endSession(k.row)
	}
}

// endSessionsWith ends the sessions that lean on a check, which went or turned
// critical. key is the check's.
func (s *Store) endSessionsWith(key, id string) {
	for _, k := range slices.Clone(s.sessions.byNode.group(nodeOf(key))) {
		if slices.Contains(k.row.NodeChecks, id) || slices.Contains(k.row.ServiceChecks, id) {
			s.endSession(k.row)
		}
	}
}
