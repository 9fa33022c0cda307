package node

import (
	"context"
	"net"
	"strconv"
	"time"

	"landbridge/lan/gossip"
)

// touchEvery is how often a server without a leader tells the others where it is.
const touchEvery = 5 * time.Second

// keepInTouch has a server that knows of no leader exchange members with the other
// servers. One that came back with another address is reached by nobody until they
// take that over, which they do some seconds after they declared its old one dead;
// gossip by itself repeats it only after half a minute.
func (s *server) keepInTouch(ctx context.Context) error {
	tick := time.NewTicker(touchEvery)
	defer tick.Stop()
	without := false
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		was := without
		id, _ := s.raft.Leader()
		if without = id == "" && s.raft.HasState(); !without || !was {
			continue
		}
		var addrs []string
		for _, m := range s.n.lan.Members() {
			if _, ok := serverPeer(m); ok && m.Name != s.n.cfg.NodeName && m.Status == gossip.Alive {
				addrs = append(addrs, net.JoinHostPort(m.Addr.String(), strconv.Itoa(int(m.Port))))
			}
		}
		if len(addrs) == 0 {
			continue
		}
		if _, err := s.n.lan.Join(ctx, addrs); err != nil {
			s.n.log.Debug("no leader, and other servers do not answer", "err", err)
		}
	}
}
