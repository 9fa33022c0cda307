package state

import (
	"slices"

	"landbridge/store"
)

func (s *Store) applyRegister(c *store.RegisterCommand) (bool, *store.Error) {
	if err := c.Prepare(); err != nil {
		return false, asError(err)
	}
	return s.register(c)
}

// register registers a node, a service and checks: all parts or none. All that
// can be refused is refused before the first row changes. The command's records
// are prepared.
func (s *Store) register(c *store.RegisterCommand) (bool, *store.Error) {
	cat := s.catalog
	key := lower(c.Node.Node)
	named := cat.nodes.get(key)
	update := named == nil || !c.SkipNodeUpdate
	var oldKey string // the node's former name, if this registration renames it
	if update {
		var err *store.Error
		if oldKey, err = s.identify(key, named, &c.Node); err != nil {
			return false, err
		}
	}
	if err := s.vetChecks(key, c); err != nil {
		return false, err
	}

	if oldKey != "" {
		s.removeNode(oldKey)
	}
	node := named
	if update {
		node = &c.Node
		if named != nil {
			node.Node = named.Node // the case stored first stays
		}
		if named == nil || !sameNode(named, node) {
			s.putNode(key, named, node)
		}
	}
	if c.Service != nil {
		s.registerService(key, node.Node, c)
	}
	for _, check := range c.Checks {
		check.Node = node.Node
		s.registerCheck(key, check)
	}
	return true, nil
}

// identify applies the rules of node identity (spec http-catalog-health 2): an id
// moves to its new name, unless a live agent holds that name under another id. It
// returns the key of the old name, if any. A node registered without an id keeps
// the one it has.
func (s *Store) identify(key string, named, n *store.Node) (oldKey string, _ *store.Error) {
	if n.ID == "" {
		if named != nil {
			n.ID = named.ID
		}
		return "", nil
	}
	if holder, ok := s.catalog.nodeIDs.Get(n.ID); ok && holder != key {
		oldKey = holder
	}
	if named != nil && named.ID != "" && named.ID != n.ID && s.alive(key) {
		return "", store.Errorf(store.KindInvalid,
			"failed inserting node: Error while renaming Node ID: %q: Node name %s is reserved by node %s with name %s (%s)",
			n.ID, n.Node, named.ID, named.Node, named.Address)
	}
	return oldKey, nil
}

// alive reports whether a node is an agent that gossip has not given up.
func (s *Store) alive(node string) bool {
	k := s.catalog.checks.get(instanceKey(node, store.SerfHealth))
	return k != nil && k.Status != store.Critical
}

// vetChecks refuses checks of services that the node does not have and will not
// have with this command.
func (s *Store) vetChecks(node string, c *store.RegisterCommand) *store.Error {
	for _, k := range c.Checks {
		if k.ServiceID == "" || c.Service != nil && c.Service.ID == k.ServiceID {
			continue
		}
		if s.catalog.services.get(instanceKey(node, k.ServiceID)) == nil {
			return store.Errorf(store.KindInvalid, "Unknown service ID '%s' for check ID '%s'", k.ServiceID, k.CheckID)
		}
	}
	return nil
}

func (s *Store) registerService(node, nodeName string, c *store.RegisterCommand) {
	svc := c.Service
	svc.Node = nodeName
	key := instanceKey(node, svc.ID)
	old := s.catalog.services.get(key)
	if old != nil && sameService(old, svc) {
		return
	}
	s.putService(key, old, svc)
	if old == nil || old.Name == svc.Name && slices.Equal(old.Tags, svc.Tags) {
		return
	}
	// Its checks show its name and tags; those that come with it follow by themselves.
	for _, k := range slices.Clone(s.catalog.checksByInstance.group(key)) {
		if slices.ContainsFunc(c.Checks, func(n *store.Check) bool { return n.CheckID == k.row.CheckID }) {
			continue
		}
		check := k.row.Clone()
		check.ServiceName, check.ServiceTags = svc.Name, svc.Tags
		s.putCheck(k.key, k.row, check)
	}
}

func (s *Store) registerCheck(node string, k *store.Check) {
	if k.ServiceID == "" {
		k.ServiceName, k.ServiceTags = "", nil
	} else {
		svc := s.catalog.services.get(instanceKey(node, k.ServiceID))
		k.ServiceName, k.ServiceTags = svc.Name, svc.Tags
	}
	key := instanceKey(node, k.CheckID)
	old := s.catalog.checks.get(key)
	if old != nil && sameCheck(old, k) {
		return
	}
	s.putCheck(key, old, k)
}

// applyDeregister removes an instance with its checks, a check, or a node with
// all it owns. Removing what is not there is no error and no change.
func (s *Store) applyDeregister(c *store.DeregisterCommand) (bool, *store.Error) {
	if c.Node == "" {
		return false, store.Errorf(store.KindInvalid, "Must provide node")
	}
	cat := s.catalog
	node := lower(c.Node)
	switch {
	case c.ServiceID != "":
		key := instanceKey(node, c.ServiceID)
		if cat.services.get(key) == nil {
			return true, nil
		}
		for _, k := range slices.Clone(cat.checksByInstance.group(key)) {
			s.removeCheck(k.key)
		}
		s.removeService(key)
	case c.CheckID != "":
		s.removeCheck(instanceKey(node, c.CheckID))
	default:
		if cat.nodes.get(node) != nil {
			s.removeNode(node)
		}
	}
	return true, nil
}

func asError(err error) *store.Error {
	if e, ok := err.(*store.Error); ok {
		return e
	}
	return store.Errorf(store.KindOf(err), "%w", err)
}
