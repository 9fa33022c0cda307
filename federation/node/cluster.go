package node

import (
	"context"
	"fmt"
	"time"

	"landbridge/lan/gossip"
)

// clusterTag is the LAN tag in which a server tells its cluster's id.
const clusterTag = "lb_cluster"

// cluster is the id of the cluster this server has its state from: of the state,
// or of the log that is not applied yet; "" before the first leader made one.
func (s *server) cluster() string {
	if id := s.state.ClusterID(); id != "" {
		return id
	}
	return s.stores.Cluster()
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

// markCluster writes the cluster's id beside the log once it is known, so that a
// server which finds the mark without a log knows whose state it lost, and tells
// the others of it.
func (s *server) markCluster(ctx context.Context) error {
	t := time.NewTicker(100 * time.Millisecond)
	defer t.Stop()
	for s.state.ClusterID() == "" {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
	if err := s.stores.SetCluster(s.state.ClusterID()); err != nil {
		return err
	}
	if s.n.lan.Local().Tags[clusterTag] == s.cluster() {
		return nil
	}
	if err := s.n.lan.SetTags(s.n.lanTags()); err != nil && ctx.Err() == nil {
		s.n.log.Debug("the tag with the cluster's id goes out late", "err", err) // it is set: gossip repeats it
	}
	return nil
}
