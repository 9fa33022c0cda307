package node

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/lan/gossip"
	"landbridge/store"
)

// All agents of a datacenter together tell at most coordinateRate coordinates a
// second, each of them every coordinateInterval or less often.
const (
	coordinateInterval = 15 * time.Second
	coordinateRate     = 64
	coordinateTimeout  = 10 * time.Second
)

// coordinatePause is how often an agent of a cluster of that size tells where it
// is; up to a quarter is added at random.
func coordinatePause(members int) time.Duration {
	return max(coordinateInterval, time.Duration(members)*time.Second/coordinateRate)
}

// tellCoordinate tells the leader where this agent is, again and again.
func (n *Node) tellCoordinate(ctx context.Context) error {
	wait := rand.N(coordinateInterval) // agents that start together must not come together
	for {
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
		n.tellCoordinateOnce(ctx)
		wait = coordinatePause(len(n.lan.Members()))
		wait += rand.N(wait / 4)
	}
}

func (n *Node) tellCoordinateOnce(ctx context.Context) {
	own, err := n.lan.Coordinate()
	if err != nil {
		n.log.Debug("no coordinate to tell", "err", err)
		return
	}
	c := store.Coordinate{Node: n.cfg.NodeName, Coord: coordOf(own)}
	ctx, cancel := context.WithTimeout(ctx, coordinateTimeout)
	defer cancel()
	_, err = n.dispatcher.Do(ctx, &rpc.Request{Method: rpc.CoordinateUpdate, Token: n.tokens.agent(), Body: c.AppendWire(nil)})
	if err != nil && !errors.Is(ctx.Err(), context.Canceled) {
		n.log.Debug("coordinate not told; the next one will be", "err", err)
	}
}

func coordOf(c *gossip.Coordinate) store.Coord {
	return store.Coord{Vec: c.Vec, Error: c.Error, Adjustment: c.Adjustment, Height: c.Height}
}

// updateCoordinate is CoordinateUpdate: the leader keeps it and writes it soon.
func (s *server) updateCoordinate(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
	c := new(store.Coordinate)
	if err := c.DecodeWire(req.Body); err != nil {
		return nil, store.Errorf(store.KindInvalid, "Coordinate.Update: %w", err)
	}
	if err := s.leader.UpdateCoordinate(c); err != nil {
		return nil, err
	}
	return &rpc.Response{Index: 1, KnownLeader: true}, nil
}

// wanCoordinates lists where the servers of the federation are, as this server
// sees them; those it has never measured are left out.
func (s *server) wanCoordinates() []store.DatacenterCoordinates {
	if s.wan == nil {
		return []store.DatacenterCoordinates{{Datacenter: s.n.cfg.Datacenter}}
	}
	snap := s.wan.dir.Snapshot()
	list := []store.DatacenterCoordinates{}
	for _, name := range s.wan.dir.Datacenters() {
		dc := store.DatacenterCoordinates{Datacenter: name}
		for _, srv := range snap[name].Servers {
			if c := s.wanCoordinate(srv.Name); c != nil {
				dc.Coordinates = append(dc.Coordinates, &store.Coordinate{Node: srv.Node, Coord: coordOf(c)})
			}
		}
		slices.SortFunc(dc.Coordinates, func(a, b *store.Coordinate) int { return cmp.Compare(a.Node, b.Node) })
		list = append(list, dc)
	}
	return list
}

func (s *server) wanCoordinate(member string) *gossip.Coordinate {
	if member == s.wan.pool.Local().Name {
		if c, err := s.wan.pool.Coordinate(); err == nil {
			return c
		}
		return nil
	}
	if c, ok := s.wan.pool.CachedCoordinate(member); ok {
		return c
	}
	return nil
}
