package endpoint

import (
	"slices"
	"time"

	"landbridge/store/state"
)

// nearest returns the rows ordered by the estimated round trip between their node
// and the node near, as a new slice: rows of nodes without coordinates come last,
// ties and they keep their order. The list comes back as it is, shared, when near
// is "" or a node without coordinates.
//
// The coordinates are not part of what a blocking query waits for: they change
// all the time, and an order that moved is no news.
func nearest[T any](st *state.Store, near string, list []T, node func(T) string) []T {
	if near == "" || len(list) < 2 {
		return list
	}
	names := make([]string, len(list)+1)
	for i, row := range list {
		names[i] = node(row)
	}
	names[len(list)] = near
	coords := st.CoordinatesOf(names)
	from := coords[len(list)]
	if from == nil {
		return list
	}
	type placed struct {
		row   T
		rtt   time.Duration
		known bool
	}
	rows := make([]placed, len(list))
	for i, row := range list {
		rows[i].row = row
		if c := coords[i]; c != nil {
			rows[i].rtt, rows[i].known = from.Coord.Distance(&c.Coord), true
			if c.Node == from.Node {
				rows[i].rtt = -1 // the estimate between a node and itself is not 0: it has a height
			}
		}
	}
	slices.SortStableFunc(rows, func(a, b placed) int {
		switch {
		case a.known != b.known:
			if a.known {
				return -1
			}
			return 1
		case a.rtt < b.rtt:
			return -1
		case a.rtt > b.rtt:
			return 1
		}
		return 0
	})
	out := make([]T, len(rows))
	for i := range rows {
		out[i] = rows[i].row
	}
	return out
}
