package state

import (
	"landbridge/store"
	"landbridge/store/wire"
)

// Coordinates returns where the nodes are, in the order of their names.
func (s *Store) Coordinates(w *Watch) (store.Index, []*store.Coordinate) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.watch(w, watchCoordinates, "")
	list := make([]*store.Coordinate, 0, s.coords.len())
	s.coords.tree.Scan(func(_ string, c *store.Coordinate) bool {
		list = append(list, c)
		return true
	})
	return atLeastOne(s.coords.max), list
}

// Coordinate returns where a node is, or nil.
func (s *Store) Coordinate(w *Watch, node string) (store.Index, *store.Coordinate) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.watch(w, watchCoordinates, "")
	return atLeastOne(s.coords.max), s.coords.get(lower(node))
}

// CoordinatesOf returns where the nodes are, in their order, nil for each that is
// not known: for sorting by distance.
func (s *Store) CoordinatesOf(nodes []string) []*store.Coordinate {
	list := make([]*store.Coordinate, len(nodes))
	s.mu.RLock()
	defer s.mu.RUnlock()
	for i, n := range nodes {
		list[i] = s.coords.get(lower(n))
	}
	return list
}

// applyCoordinates takes what nodes of the catalog said; of the others nobody
// would ever remove it.
func (s *Store) applyCoordinates(c *store.CoordinatesCommand) (bool, *store.Error) {
	for _, u := range c.Updates {
		key := lower(u.Node)
		node := s.catalog.nodes.get(key)
		if node == nil || !u.Coord.Valid() {
			continue
		}
		if old := s.coords.get(key); old != nil && old.Node == node.Node && old.Coord.Equal(&u.Coord) {
			continue
		}
		u.Node, u.ModifyIndex = node.Node, s.index
		s.coords.put(key, u)
		s.coords.max = s.index
		s.change(watchCoordinates, "")
	}
	return true, nil
}

// removeCoordinate forgets a node that left the catalog.
func (s *Store) removeCoordinate(key string) {
	if s.coords.remove(key) != nil {
		s.coords.max = s.index
		s.change(watchCoordinates, "")
	}
}

func (im *Image) addCoordinate(record []byte) error {
	c := new(store.Coordinate)
	if err := c.DecodeWire(record); err != nil {
		return err
	}
	key := lower(c.Node)
	if !c.Coord.Valid() || im.catalog.nodes.get(key) == nil || im.coords.get(key) != nil {
		return store.Errorf(store.KindInvalid, "coordinate of %q is not valid, has no node or comes twice", c.Node)
	}
	im.coords.put(key, c)
	return nil
}

func (im *Image) addCoordinateMax(record []byte) error {
	d := wire.NewDecoder(record)
	for d.Next() {
		if d.Field == 1 {
			im.coords.max = store.Index(d.Uint())
		}
	}
	return d.Err()
}
