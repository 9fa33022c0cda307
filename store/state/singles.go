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
	var have store.Index
	if s.trust != nil {
		have = s.trust.ModifyIndex
	}
	if c.Trust.ModifyIndex != have {
		return false, nil
	}
	c.Trust.ModifyIndex = s.index
	s.trust = &c.Trust
	s.change(watchTrust, "")
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
