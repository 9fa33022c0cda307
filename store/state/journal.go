package state

import "landbridge/store"

// journal lets a transaction that fails take back what it has done. While it is
// open, whatever changes the state beyond the rows and the index of a table
// (tables do that by themselves) must note how to undo it; closed, it costs one comparison. What
// is only a cache, emptied by a change, need not be put back. Guarded by Store.mu.
type journal struct {
	open bool
	undo []func()
}

// note adds how to undo a change that is about to be made. Only while it is open.
func (j *journal) note(undo func()) { j.undo = append(j.undo, undo) }

// begin opens the journal and returns how many changes the batch has made.
func (s *Store) begin() (changed int) {
	s.journal.open = true
	return len(s.changed)
}

// commit closes the journal and forgets it.
func (s *Store) commit() {
	j := s.journal
	j.open = false
	clear(j.undo)
	j.undo = j.undo[:0]
}

// rollback closes the journal and puts back the state at begin, newest change
// first. Nobody is told of changes that did not last.
func (s *Store) rollback(changed int) {
	j := s.journal
	j.open = false
	for i := len(j.undo) - 1; i >= 0; i-- {
		j.undo[i]()
	}
	clear(s.changed[changed:])
	s.changed = s.changed[:changed]
	s.commit()
}

// setNodeID and dropNodeID change which node has a UUID.

func (c *catalog) setNodeID(id, key string) {
	old, had := c.nodeIDs.Set(id, key)
	c.keepNodeID(id, old, had)
}

func (c *catalog) dropNodeID(id string) {
	old, had := c.nodeIDs.Delete(id)
	c.keepNodeID(id, old, had)
}

func (c *catalog) keepNodeID(id, old string, had bool) {
	if !c.journal.open {
		return
	}
	c.journal.note(func() {
		if had {
			c.nodeIDs.Set(id, old)
		} else {
			c.nodeIDs.Delete(id)
		}
	})
}

// keepNode notes the indexes of a node before they change, come or go.
func (c *catalog) keepNode(key string) {
	if !c.journal.open {
		return
	}
	ix := c.byNode[key]
	if ix == nil {
		c.journal.note(func() { delete(c.byNode, key) })
		return
	}
	old := *ix
	c.journal.note(func() {
		*ix = old
		c.byNode[key] = ix
	})
}

// keepIndex notes an index before it changes.
func (c *catalog) keepIndex(at *store.Index) {
	if c.journal.open {
		old := *at
		c.journal.note(func() { *at = old })
	}
}

// keepName notes the indexes of a service name before they change, come or go.
func (c *catalog) keepName(all map[string]*serviceIndexes, name string) {
	if !c.journal.open {
		return
	}
	ix := all[name]
	if ix == nil {
		c.journal.note(func() { delete(all, name) })
		return
	}
	catalog, health, checks := ix.catalog, ix.health, ix.checks
	c.journal.note(func() {
		ix.catalog, ix.health, ix.checks = catalog, health, checks
		all[name] = ix
	})
}
