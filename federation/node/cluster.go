package node

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"landbridge/lan/gossip"
)

// clusterTag is the LAN tag in which a server tells its cluster's id.
const clusterTag = "lb_cluster"

// history is which cluster this server has its state from, and how often that was
// recovered: of the state, or of the log that is not applied yet; with a recovery
// that no leader has counted yet. The id is "" before the first leader made one.
func (s *server) history() (id string, recoveries uint64) {
	c := s.state.Cluster()
	id, recoveries = s.stores.Cluster()
	return cmp.Or(c.ID, id), max(c.Recoveries, recoveries, s.raft.RecoveryDue())
}

func (s *server) cluster() string {
	id, _ := s.history()
	return id
}

// holder is the id of the server with that address, if the Raft group has only one
// such.
func (s *server) holder(addr string) (id string) {
	for _, srv := range s.raft.Servers() {
		if srv.Address == addr {
			if id != "" {
				return ""
			}
			id = srv.ID
		}
	}
	return id
}

// cluster is what this agent takes for its datacenter's cluster.
func (n *Node) cluster() string {
	if n.srv != nil {
		return n.srv.cluster()
	}
	return n.lanView.cluster()
}

// sameCluster keeps the agents of two clusters apart that share a datacenter's
// name, and perhaps a gossip key. In one pool, each leader would add the other
// cluster's servers to its Raft group.
func (n *Node) sameCluster(m gossip.Member) error {
	theirs, ours := m.Tags[clusterTag], n.cluster()
	if m.Status != gossip.Alive || theirs == "" || ours == "" || theirs == ours {
		return nil
	}
	return fmt.Errorf("it is a server of another cluster of datacenter %q (%s, here it is %s): give one of the two datacenters another name and join them by `landbridge wan join`; "+
		"to move a server over, stop it and remove its state first", n.cfg.Datacenter, theirs, ours)
}

// markCluster keeps the cluster's id beside the log, so that a server which finds the
// mark without a log knows whose state it lost, and one whose log is not applied yet
// knows whose it is; and tells the others of it.
func (s *server) markCluster(ctx context.Context) error {
	t := time.NewTicker(100 * time.Millisecond)
	defer t.Stop()
	var said string
	for told := false; ; {
		if c := s.state.Cluster(); c.ID != "" {
			if err := s.stores.SetCluster(c.ID, c.Recoveries); err != nil && err.Error() != said {
				said = err.Error()
				s.n.log.Warn("the mark beside the Raft log is not up to date, will retry", "err", err)
			}
			if !told && s.n.lan.Local().Tags[clusterTag] != c.ID {
				if err := s.n.lan.SetTags(s.n.lanTags()); err != nil && ctx.Err() == nil {
					s.n.log.Debug("the tag with the cluster's id goes out late", "err", err) // it is set: gossip repeats it
				}
			}
			told = true
			t.Reset(time.Second)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}
