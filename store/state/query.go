package state

import (
	"bytes"
	"slices"

	"landbridge/store"
	"landbridge/store/wire"
)

// queryTable is the prepared queries by id. A name belongs to one plain query and
// one template at most.
type queryTable struct {
	table[store.PreparedQuery]
	byName     *index[store.PreparedQuery] // plain ones with a name, in lower case
	byTemplate *index[store.PreparedQuery] // templates by name, in lower case
	bySession  *index[store.PreparedQuery]
}

func newQueryTable(j *journal) *queryTable {
	t := &queryTable{table: *newTable[store.PreparedQuery](j)}
	t.byName = t.index(func(_ string, q *store.PreparedQuery) (string, bool) {
		return lower(q.Name), q.Name != "" && !q.IsTemplate()
	})
	t.byTemplate = t.index(func(_ string, q *store.PreparedQuery) (string, bool) {
		return lower(q.Name), q.IsTemplate()
	})
	t.bySession = t.index(func(_ string, q *store.PreparedQuery) (string, bool) {
		return q.Session, q.Session != ""
	})
	return t
}

// named returns the plain query with a name in lower case, or nil.
func (t *queryTable) named(name string) *store.PreparedQuery { return only(t.byName.group(name)) }

// template returns the template with the longest name that the given one begins
// with, or nil.
func (t *queryTable) template(name string) *store.PreparedQuery {
	if len(t.byTemplate.groups) == 0 {
		return nil
	}
	for n := min(len(name), store.MaxTemplateName); n >= 0; n-- {
		if q := only(t.byTemplate.group(name[:n])); q != nil {
			return q
		}
	}
	return nil
}

func only[R any](g []keyed[R]) *R {
	if len(g) == 0 {
		return nil
	}
	return g[0].row
}

// aliases reports whether another query has q's name: a plain one of a plain
// query, a template of a template.
func (t *queryTable) aliases(q *store.PreparedQuery) bool {
	other := t.named(lower(q.Name))
	if q.IsTemplate() {
		other = only(t.byTemplate.group(lower(q.Name)))
	}
	return other != nil && other.ID != q.ID
}

// Queries returns all prepared queries in the order of their ids.
func (s *Store) Queries(w *Watch) (store.Index, []*store.PreparedQuery) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.watch(w, watchQueries, "")
	list := make([]*store.PreparedQuery, 0, s.queries.len())
	s.queries.tree.Scan(func(_ string, q *store.PreparedQuery) bool {
		list = append(list, q)
		return true
	})
	return atLeastOne(s.queries.max), list
}

// Query returns the prepared query with an id, or nil. Its index is the query's,
// or that of the table for a missing one.
func (s *Store) Query(w *Watch, id string) (store.Index, *store.PreparedQuery) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	id = lower(id)
	s.watch(w, watchQuery, id)
	q := s.queries.get(id)
	if q == nil {
		return atLeastOne(s.queries.max), nil
	}
	return q.ModifyIndex, q
}

// ResolveQuery returns the query that an id or a name leads to, or nil: the query
// with the id, the plain one with the name, or else the template with the longest
// matching name, which the caller renders.
func (s *Store) ResolveQuery(idOrName string) *store.PreparedQuery {
	s.mu.RLock()
	defer s.mu.RUnlock()
	name := lower(idOrName)
	if q := s.queries.get(name); q != nil {
		return q
	}
	if q := s.queries.named(name); q != nil {
		return q
	}
	return s.queries.template(name)
}

func (s *Store) applyQuery(c *store.QueryCommand) (bool, *store.Error) {
	q := &c.Query
	q.ID = lower(q.ID)
	old := s.queries.get(q.ID)
	switch c.Op {
	case store.QueryDelete:
		if old == nil {
			return false, store.Errorf(store.KindInvalid, "Cannot delete non-existent prepared query: '%s'", q.ID)
		}
		s.deleteQuery(old)
		return true, nil
	case store.QueryCreate:
		if err := store.CheckQueryID(q.ID); err != nil || old != nil {
			return false, store.Errorf(store.KindInvalid, "raft apply failed: the id '%s' is malformed or belongs to another query", q.ID)
		}
	case store.QueryUpdate:
		if old == nil {
			return false, store.Errorf(store.KindInvalid, "Cannot modify non-existent prepared query: '%s'", q.ID)
		}
	default:
		return false, store.Errorf(store.KindInvalid, "unknown prepared query operation %d", c.Op)
	}
	if q.Session != "" && s.sessions.get(q.Session) == nil {
		return false, store.Errorf(store.KindInvalid, "raft apply failed: invalid session %q", q.Session)
	}
	if s.queries.aliases(q) {
		return false, store.Errorf(store.KindInvalid, "raft apply failed: name '%s' aliases an existing query name", q.Name)
	}
	// An id comes before a name, so such a name would never be found.
	if other := s.queries.get(lower(q.Name)); other != nil {
		return false, store.Errorf(store.KindInvalid, "raft apply failed: name '%s' aliases an existing query ID", q.Name)
	}
	q.CreateIndex, q.ModifyIndex = s.index, s.index
	if old != nil {
		q.CreateIndex, q.ModifyIndex = old.CreateIndex, old.ModifyIndex
		if bytes.Equal(q.AppendJSON(nil), old.JSON()) { // writing the same again is no change
			return true, nil
		}
		q.ModifyIndex = s.index
	}
	s.queries.put(q.ID, q)
	s.touchQuery(q.ID)
	return true, nil
}

func (s *Store) deleteQuery(q *store.PreparedQuery) {
	s.queries.remove(q.ID)
	s.touchQuery(q.ID)
}

// deleteQueriesOf removes the queries bound to a session, which ends.
func (s *Store) deleteQueriesOf(session string) {
	for _, r := range slices.Clone(s.queries.bySession.group(session)) {
		s.deleteQuery(r.row)
	}
}

func (s *Store) touchQuery(id string) {
	s.queries.max = s.index
	s.change(watchQueries, "")
	s.change(watchQuery, id)
}

func (im *Image) addQuery(record []byte) error {
	q := new(store.PreparedQuery)
	if err := q.DecodeWire(record); err != nil {
		return err
	}
	if q.ID == "" || q.ID != lower(q.ID) || im.queries.get(q.ID) != nil || im.queries.aliases(q) {
		return store.Errorf(store.KindInvalid, "prepared query %q (%q) has no valid id, or its id or name comes twice", q.ID, q.Name)
	}
	im.queries.put(q.ID, q)
	return nil
}

func (im *Image) addQueryMax(record []byte) error {
	d := wire.NewDecoder(record)
	for d.Next() {
		if d.Field == 1 {
			im.queries.max = store.Index(d.Uint())
		}
	}
	return d.Err()
}
