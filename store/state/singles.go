package state

import "landbridge/store"

// applyCluster sets the identity, once. A later command with the same id begins a
// new history; one with another id, as two first leaders may send, is refused.
func (s *Store) applyCluster(c store.Cluster) (bool, *store.Error) {
	if c.ID == "" || c.HistoryID == "" {
		return false, store.Errorf(store.KindInvalid, "a cluster needs an id and a history id")
	}
	if s.cluster.ID != "" && s.cluster.ID != c.ID {
		return false, nil
	}
	if c.Recoveries > s.cluster.Recoveries {
		// The servers that are gone may have given out higher indexes than the ones
		// that stay know of: readers must not see theirs go back.
		s.index += recoveryGap
		s.floor.Store(uint64(s.index))
		s.wakeAll = true
	}
	s.cluster = c
	return true, nil
}

// recoveryGap is more than a survivor can have missed, and leaves room for
// thousands of recoveries below the integers that a float64 holds exactly.
const recoveryGap store.Index = 1 << 32

// Trust returns this datacenter's share of the federation's identity, or nil. It
// holds private keys: callers must not log or answer it.
func (s *Store) Trust(w *Watch) (store.Index, *store.Trust) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.watch(w, watchTrust, "")
	if s.trust == nil {
		return firstIndex, nil
	}
	return atLeastOne(s.trust.ModifyIndex), s.trust
}

func (s *Store) applyTrust(c *store.TrustCommand) (bool, *store.Error) {
	return s.setTrust(&c.Trust)
}

// setTrust replaces the record by one that was made from it. A term of primacy never
// goes back.
func (s *Store) setTrust(t *store.Trust) (bool, *store.Error) {
	var have store.Index
	if s.trust != nil {
		have = s.trust.ModifyIndex
	}
	if t.ModifyIndex != have {
		return false, nil
	}
	if s.trust != nil && term(t.Promotion) < term(s.trust.Promotion) {
		return false, store.Errorf(store.KindConflict, "datacenter %s became the primary in term %d, a record of term %d comes too late", s.trust.Primary, term(s.trust.Promotion), term(t.Promotion))
	}
	t.ModifyIndex = s.index
	s.trust = t
	s.change(watchTrust, "")
	return true, nil
}

func term(p *store.Promotion) uint64 {
	if p == nil {
		return 0
	}
	return p.Term
}

// applyPromotion is applyTrust, and in the same step says who owns the shared ACLs.
func (s *Store) applyPromotion(c *store.PromotionCommand) (bool, *store.Error) {
	a := s.acl
	if c.Begins && c.ReplicaVersion != a.replica.Version {
		return false, store.Errorf(store.KindConflict, "ACL replication has gone on meanwhile; try again")
	}
	ok, err := s.setTrust(&c.Trust)
	if !ok || err != nil {
		return ok, err
	}
	switch {
	case c.Owns && (c.Begins || !a.replica.Owned):
		// Whoever is followed later is another source than the one of before.
		s.setReplica(store.ACLReplica{Version: a.replica.Version, Owned: true})
		if a.bootstrapped == 0 && a.policies.len() > 0 {
			// It has its tokens: nobody shall make a first one without any.
			a.bootstrapped = s.index
		}
	case !c.Owns && a.replica.Owned:
		s.setReplica(store.ACLReplica{Version: a.replica.Version})
	}
	return true, nil
}

// Autopilot returns autopilot's stored configuration, or nil.
func (s *Store) Autopilot(w *Watch) (store.Index, *store.AutopilotConfig) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.watch(w, watchAutopilot, "")
	if s.autopilot == nil {
		return firstIndex, nil
	}
	return atLeastOne(s.autopilot.ModifyIndex), s.autopilot
}

func (s *Store) applyAutopilot(c *store.AutopilotCommand) (bool, *store.Error) {
	old := s.autopilot
	var have, created store.Index
	if old != nil {
		have, created = old.ModifyIndex, old.CreateIndex
	}
	if c.CAS && c.Config.ModifyIndex != have {
		return false, nil
	}
	c.Config.CreateIndex, c.Config.ModifyIndex = created, have
	if old != nil && *old == c.Config {
		return true, nil
	}
	if old == nil {
		c.Config.CreateIndex = s.index
	}
	c.Config.ModifyIndex = s.index
	s.autopilot = &c.Config
	s.change(watchAutopilot, "")
	return true, nil
}
