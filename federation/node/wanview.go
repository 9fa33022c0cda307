package node

import (
	"context"
	"slices"
	"sync"
	"time"

	"landbridge/federation"
	"landbridge/forwarding"
	"landbridge/forwarding/rpc"
	"landbridge/lan/gossip"
)

// wanView shows the dispatcher the servers of other datacenters, and tells the
// directory which of them answer.
type wanView struct {
	dir  *federation.Directory
	pool *rpc.Pool
	// distance estimates the round trip to a server by name.
	distance func(server string) (time.Duration, bool)

	mu      sync.RWMutex
	version uint64 // of the directory that peers shows
	peers   map[string][]forwarding.Peer
}

func (v *wanView) Known(dc string) bool { return v.dir.Known(dc) }

func (v *wanView) Servers(dc string) []forwarding.Peer {
	version := v.dir.Version() // before the snapshot, so that no change is missed
	v.mu.RLock()
	if v.peers != nil && v.version == version {
		defer v.mu.RUnlock()
		return v.peers[dc]
	}
	v.mu.RUnlock()
	v.mu.Lock()
	defer v.mu.Unlock()
	next := map[string][]forwarding.Peer{}
	for name, d := range v.dir.Snapshot() {
		var peers []forwarding.Peer
		for _, s := range d.Servers {
			if s.Status != gossip.Left {
				peers = append(peers, forwarding.Peer{Name: s.Name, Addr: s.Addr.String(), Federated: true, Doubtful: s.Status != gossip.Alive})
			}
		}
		if old := v.peers[name]; slices.Equal(old, peers) {
			peers = old // the same slice says that nothing changed
		}
		next[name] = peers
	}
	v.peers, v.version = next, version
	return next[dc]
}

func (v *wanView) Ready(p forwarding.Peer) rpc.Doer {
	if c := v.pool.Ready(p.Addr, p.Name); c != nil {
		return c
	}
	return nil
}

func (v *wanView) Dial(ctx context.Context, p forwarding.Peer) (rpc.Doer, error) {
	c, err := v.pool.Get(ctx, p.Addr, p.Name)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (v *wanView) RTT(server string) time.Duration {
	rtt, _ := v.distance(server)
	return rtt
}

func (v *wanView) Loss(server string) float64 { return v.dir.Loss(server) }

func (v *wanView) Report(server string, err error) { v.dir.Report(server, err) }
