package node

import (
	"context"
	"crypto/tls"
	"slices"
	"strconv"
	"strings"
	"time"

	"landbridge/federation"
	"landbridge/forwarding/rpc"
	"landbridge/lan/gossip"
	"landbridge/lan/leader"
	"landbridge/store"
	"landbridge/store/consensus"
	wangossip "landbridge/wan/gossip"
)

// revisionTag is the WAN tag in which the primary's servers tell the version of
// what all datacenters share (trust.Authority.Revision).
const revisionTag = "lb_trust"

// termTag is the WAN tag in which servers tell the term of the primary, once there was a
// promotion, and who that is.
const termTag = "lb_term"

func (n *Node) wanTags() map[string]string {
	t := n.serverTags()
	if n.srv != nil && n.srv.authority != nil {
		if rev := n.srv.authority.Revision(); rev > 0 {
			t[revisionTag] = strconv.FormatUint(rev, 10)
		}
	}
	if n.cfg.Relay {
		t[federation.RelayTag] = "1"
	}
	if n.srv != nil && n.srv.authority != nil {
		if term, primary := n.srv.authority.Term(); term > 0 {
			t[termTag] = strconv.FormatUint(term, 10) + " " + primary
		}
	}
	return t
}

// heard passes on what servers of the primary announce.
func (s *server) heard(members []gossip.Member) {
	for i := range members {
		if rev, err := strconv.ParseUint(members[i].Tags[revisionTag], 10, 64); err == nil {
			s.authority.Announced(members[i].Tags["dc"], rev)
		}
		number, primary, _ := strings.Cut(members[i].Tags[termTag], " ")
		if term, err := strconv.ParseUint(number, 10, 64); err == nil {
			s.authority.AnnouncedTerm(members[i].Tags["dc"], term, primary)
		}
	}
}

// announce keeps the version in our tags that of the record until ctx is done. It
// is apart from runWAN: setting tags waits until somebody has heard of it.
func (s *server) announce(ctx context.Context) {
	w := s.wan
	again := time.NewTicker(floodEvery)
	defer again.Stop()
	for {
		if tags, have := s.n.wanTags(), w.pool.Local().Tags; have[revisionTag] != tags[revisionTag] || have[termTag] != tags[termTag] {
			if err := w.pool.SetTags(tags); err != nil && ctx.Err() == nil {
				s.n.log.Debug("the version of the trust record is announced late", "err", err) // it is set: gossip repeats it
			}
		}
		select {
		case <-w.announce:
		case <-again.C:
		case <-ctx.Done():
			return
		}
	}
}

// followTrust brings the WAN in line with the trust record: it closes the
// connections of whom that refuses, and forgets evicted members once nobody takes
// them for alive. It is called from runWAN.
func (s *server) followTrust() {
	w := s.wan
	select {
	case w.announce <- struct{}{}:
	default: // it has not looked since the last one
	}
	if w.trustChanged.Swap(false) {
		check := s.authority.Recheck()
		closed := w.endpoint.Recheck(func(_ string, cs tls.ConnectionState) error { return check(cs) })
		if len(closed) > 0 {
			s.n.log.Info("connections closed after a change of trust", "peers", closed)
		}
		w.dir.Changed()
	}
	for _, m := range w.pool.Members() {
		if s.evicted(m.Name) && m.Status != gossip.Alive {
			if err := w.pool.RemoveFailed(m.Name, true); err != nil {
				s.n.log.Debug("evicted member not forgotten yet", "peer", m.Name, "err", err)
			}
		}
	}
}

// evicted says whether a member of the WAN, or its datacenter, was evicted.
func (s *server) evicted(member string) bool {
	node, dc, ok := wangossip.SplitName(member)
	return ok && s.authority.Revoked(node, dc)
}

// wanMembers are the members of the WAN pool that were not evicted.
func (s *server) wanMembers() []gossip.Member {
	all := s.wan.pool.Members()
	kept := all[:0]
	for _, m := range all {
		if !s.evicted(m.Name) {
			kept = append(kept, m)
		}
	}
	s.wan.moved.place(kept)
	return kept
}

// joinAddresses are where our datacenter's servers take joins: as others reach us.
func (s *server) joinAddresses() []string {
	if s.wan == nil {
		return nil
	}
	var addrs []string
	for _, m := range s.wanMembers() {
		if m.Tags["dc"] == s.n.cfg.Datacenter && m.Status == gossip.Alive {
			addrs = append(addrs, m.AddrPort().String())
		}
	}
	return addrs
}

// askServer sends a request to the server of our datacenter that gossip knows by a name.
func (s *server) askServer(ctx context.Context, node string, req *rpc.Request) (*rpc.Response, error) {
	for _, m := range s.n.lan.Members() {
		p, ok := serverPeer(m)
		if !ok || m.Name != node || m.Status != gossip.Alive {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, lanDialTimeout)
		defer cancel()
		conn, err := s.n.lanView.pool.Get(ctx, p.Addr, p.Name)
		if err != nil {
			return nil, err
		}
		next := *req
		next.Hops++
		return conn.Do(ctx, &next)
	}
	return nil, store.Errorf(store.KindUnreachable, "no living server of that name is known")
}

// handOverTo has one of these servers lead in place of this one.
func (s *server) handOverTo(ctx context.Context, names []string) error {
	err := error(store.Errorf(store.KindUnreachable, "none of %s votes and is alive", strings.Join(names, ", ")))
	for _, m := range s.leaderMembers() {
		votes := slices.ContainsFunc(s.raft.Servers(), func(srv consensus.Server) bool { return srv.ID == m.ID && srv.Voter })
		if !votes || m.Status != leader.Alive || !slices.Contains(names, m.Name) {
			continue
		}
		if err = s.raft.TransferLeadership(ctx, m.ID); err == nil || !s.raft.IsLeader() {
			return nil
		}
	}
	return err
}
