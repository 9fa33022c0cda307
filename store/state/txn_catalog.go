package state

import "landbridge/store"

// stale is whether a condition on an index does not hold. Zero asks for a row
// that is not there, which only a write may do: what is gone cannot be deleted.
func stale(verb store.TxnVerb, there bool, have, want store.Index) bool {
	switch verb {
	case store.TxnCAS:
		return there && have != want || !there && want != 0
	case store.TxnDeleteCAS:
		return !there || have != want
	}
	return false
}

// done says for an error text what a verb would have done.
func done(verb store.TxnVerb) string {
	if verb == store.TxnDeleteCAS {
		return "delete"
	}
	return "set"
}

func (t *txn) node(verb store.TxnVerb, in *store.Node) *store.Error {
	s, c := t.s, t.s.catalog
	key := lower(in.Node)
	if verb == store.TxnGet && in.ID != "" {
		key, _ = c.nodeIDs.Get(in.ID)
	}
	old := c.nodes.get(key)
	var have store.Index
	if old != nil {
		have = old.ModifyIndex
	}
	switch {
	case stale(verb, old != nil, have, in.ModifyIndex):
		return fails("failed to %s node %q, index is stale", done(verb), in.Node)
	case verb == store.TxnDelete || verb == store.TxnDeleteCAS:
		_, err := s.applyDeregister(&store.DeregisterCommand{Node: in.Node})
		return err
	case verb == store.TxnGet:
		if old == nil {
			name := in.Node
			if name == "" {
				name = in.ID
			}
			return fails("node %q doesn't exist", name)
		}
	default:
		// A row of its own: the command's record may be that of a larger batch.
		if _, err := s.register(&store.RegisterCommand{Node: store.Node{ID: in.ID, Node: in.Node, Address: in.Address,
			Datacenter: in.Datacenter, TaggedAddresses: in.TaggedAddresses, Meta: in.Meta}}); err != nil {
			return err
		}
	}
	t.give(store.TxnResult{Node: c.nodes.get(key)})
	return nil
}

func (t *txn) service(verb store.TxnVerb, in *store.Service) *store.Error {
	s, c := t.s, t.s.catalog
	node := lower(in.Node)
	key := instanceKey(node, in.ID)
	onNode := c.nodes.get(node) != nil
	var old *store.Service
	var have store.Index
	if onNode {
		if old = c.services.get(key); old != nil {
			have = old.ModifyIndex
		}
	}
	switch {
	case !onNode && (verb == store.TxnSet || verb == store.TxnCAS):
		return fails("Missing node registration")
	case stale(verb, old != nil, have, in.ModifyIndex):
		return fails("failed to %s service %q on node %q, index is stale", done(verb), in.ID, in.Node)
	case verb == store.TxnDelete || verb == store.TxnDeleteCAS:
		if old == nil {
			return nil
		}
		_, err := s.applyDeregister(&store.DeregisterCommand{Node: in.Node, ServiceID: in.ID})
		return err
	case verb == store.TxnGet:
		if old == nil {
			return fails("service %q on node %q doesn't exist", in.ID, in.Node)
		}
	default:
		if _, err := s.register(&store.RegisterCommand{Node: store.Node{Node: in.Node}, SkipNodeUpdate: true, Service: in}); err != nil {
			return err
		}
	}
	t.give(store.TxnResult{Service: c.services.get(key)})
	return nil
}

func (t *txn) check(verb store.TxnVerb, in *store.Check) *store.Error {
	s, c := t.s, t.s.catalog
	node := lower(in.Node)
	key := instanceKey(node, in.CheckID)
	onNode := c.nodes.get(node) != nil
	var old *store.Check
	var have store.Index
	if onNode {
		if old = c.checks.get(key); old != nil {
			have = old.ModifyIndex
		}
	}
	switch {
	case !onNode && (verb == store.TxnSet || verb == store.TxnCAS):
		return fails("Missing node registration")
	case stale(verb, old != nil, have, in.ModifyIndex):
		return fails("failed to %s check %q on node %q, index is stale", done(verb), in.CheckID, in.Node)
	case verb == store.TxnDelete || verb == store.TxnDeleteCAS:
		if old == nil {
			return nil
		}
		_, err := s.applyDeregister(&store.DeregisterCommand{Node: in.Node, CheckID: in.CheckID})
		return err
	case verb == store.TxnGet:
		if old == nil {
			return fails("check %q on node %q doesn't exist", in.CheckID, in.Node)
		}
	default:
		if _, err := s.register(&store.RegisterCommand{Node: store.Node{Node: in.Node}, SkipNodeUpdate: true,
			Checks: []*store.Check{in}}); err != nil {
			return err
		}
	}
	t.give(store.TxnResult{Check: c.checks.get(key)})
	return nil
}
