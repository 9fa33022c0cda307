package leader

import (
	"context"
	"sync"
	"time"

	"landbridge/store"
)

// Coordinates change all the time and matter little one by one: the leader keeps
// what agents tell it and writes it together (spec gossip-federation 5).
const (
	coordinateEvery   = 5 * time.Second
	coordinateBatch   = 128 // coordinates in one command
	coordinateBatches = 5   // commands in one period
)

// coordinates holds what agents said since the last write.
type coordinates struct {
	mu      sync.Mutex
	leading bool
	pending map[string]*store.Coordinate // by node; the newest wins
}

// UpdateCoordinate takes where a node is; it is written with others within 5 s.
// A node that the catalog does not know is left out then. What a leader had not
// written is lost with its leadership: the agent will tell again.
func (l *Leader) UpdateCoordinate(c *store.Coordinate) error {
	if !c.Coord.Valid() {
		return store.Errorf(store.KindInvalid, "incompatible coordinate")
	}
	k := &l.coords
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.leading {
		return store.ErrNoLeader
	}
	if _, ok := k.pending[c.Node]; !ok && len(k.pending) >= coordinateBatch*coordinateBatches {
		l.metrics.coordinates.dropped.Inc()
		return nil
	}
	k.pending[c.Node] = c
	return nil
}

// run writes what came, every 5 s, until ctx ends.
func (k *coordinates) run(ctx context.Context, l *Leader) {
	k.mu.Lock()
	k.leading, k.pending = true, make(map[string]*store.Coordinate)
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		k.leading, k.pending = false, nil
		k.mu.Unlock()
	}()
	for sleep(ctx, coordinateEvery) {
		list := k.take()
		for len(list) > 0 {
			n := min(len(list), coordinateBatch)
			if err := l.writeCoordinates(ctx, list[:n]); err != nil && ctx.Err() == nil {
				l.cfg.Logger.Warn("coordinates not written", "count", len(list), "err", err)
				l.metrics.coordinates.dropped.Add(float64(len(list)))
				break
			}
			l.metrics.coordinates.written.Add(float64(n))
			list = list[n:]
		}
	}
}

func (k *coordinates) take() []*store.Coordinate {
	k.mu.Lock()
	defer k.mu.Unlock()
	list := make([]*store.Coordinate, 0, len(k.pending))
	for _, c := range k.pending {
		list = append(list, c)
	}
	clear(k.pending)
	return list
}

// writeCoordinates proposes one command. A server that does not know its kind
// skips it: it is a hint, not state that must agree.
func (l *Leader) writeCoordinates(ctx context.Context, list []*store.Coordinate) error {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	cmd := store.CoordinatesCommand{Updates: list}
	res, err := l.cfg.Consensus.Apply(ctx, store.Command{Kind: store.CmdCoordinates, Ignorable: true, Payload: cmd.AppendWire(nil)})
	if err == nil && res.Err != nil {
		err = res.Err
	}
	return err
}
