package state

import (
	"slices"
	"strings"

	"landbridge/store"
)

// ServiceName is a service with the tags of all its instances.
type ServiceName struct {
	Name string
	Tags []string // distinct, sorted
}

// Nodes returns all nodes in the order of their names.
func (s *Store) Nodes(w *Watch) (store.Index, []*store.Node) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.watch(w, watchNodes, "")
	c := s.catalog
	list := make([]*store.Node, 0, c.nodes.len())
	c.nodes.tree.Scan(func(_ string, n *store.Node) bool {
		list = append(list, n)
		return true
	})
	return atLeastOne(c.nodes.max), list
}

// Node returns a node by name, UUID or unique prefix of a UUID, or nil. Its index
// is that of the node and its services.
func (s *Store) Node(w *Watch, name string) (store.Index, *store.Node) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, idx, n := s.findNode(w, name)
	return idx, n
}

// NodeServices returns a node, found as by Node, and its services in the order of
// their ids; nil if there is no such node.
func (s *Store) NodeServices(w *Watch, name string) (store.Index, *store.Node, []*store.Service) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	key, idx, n := s.findNode(w, name)
	if n == nil {
		return idx, nil, nil
	}
	return idx, n, s.catalog.servicesOn(key)
}

func (c *catalog) servicesOn(node string) []*store.Service {
	var list []*store.Service
	ascend(&c.services.tree, node+"\x00", func(_ string, svc *store.Service) bool {
		list = append(list, svc)
		return true
	})
	return list
}

// findNode finds and watches a node.
func (s *Store) findNode(w *Watch, name string) (string, store.Index, *store.Node) {
	c := s.catalog
	key := lower(name)
	n := c.nodes.get(key)
	if n == nil && mayBeID(key) {
		// Whoever takes or leaves this prefix changes the answer.
		s.watch(w, watchNodes, "")
		if byID, ok := c.uniqueID(key); ok {
			key, n = byID, c.nodes.get(byID)
		}
	}
	s.watch(w, watchNode, key)
	if n == nil {
		return key, atLeastOne(c.nodes.max), nil
	}
	return key, c.byNode[key].catalog, n
}

// minIDPrefix keeps names of one or two letters from being read as prefixes.
const minIDPrefix = 4

func mayBeID(s string) bool {
	if len(s) < minIDPrefix || len(s) > 36 {
		return false
	}
	return strings.Trim(s, "0123456789abcdef-") == ""
}

func (c *catalog) uniqueID(prefix string) (key string, ok bool) {
	n := 0
	ascend(c.nodeIDs, prefix, func(_, node string) bool {
		key = node
		n++
		return n < 2
	})
	return key, n == 1
}

// Services returns all service names with their tags, in the order of their
// names in lower case. The list is shared: callers must not change it.
func (s *Store) Services(w *Watch) (store.Index, []ServiceName) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.watch(w, watchServices, "")
	c := s.catalog
	idx := atLeastOne(c.services.max)
	if p := c.names.Load(); p != nil {
		return idx, *p
	}
	list := make([]ServiceName, 0, len(c.byService))
	for name := range c.byService {
		rows := c.servicesByName.group(name)
		e := ServiceName{Name: rows[0].row.Name}
		for _, r := range rows {
			for _, t := range r.row.Tags {
				if i, found := slices.BinarySearch(e.Tags, t); !found {
					e.Tags = slices.Insert(e.Tags, i, t)
				}
			}
		}
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b ServiceName) int { return strings.Compare(a.Name, b.Name) })
	c.names.Store(&list)
	return idx, list
}

// AllInstances returns every service instance with its node, without checks, by
// node name and service id: what a filtered list of services needs.
func (s *Store) AllInstances(w *Watch) (store.Index, []store.ServiceInstance) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.watch(w, watchServices, "")
	c := s.catalog
	list := make([]store.ServiceInstance, 0, c.services.len())
	c.services.tree.Scan(func(key string, svc *store.Service) bool {
		list = append(list, store.ServiceInstance{Node: c.nodes.get(nodeOf(key)), Service: svc})
		return true
	})
	return atLeastOne(c.services.max), list
}

// ServiceNodes returns the instances of a service by node name and service id.
// They come with their checks, but neither the index nor the watch counts these:
// it is the catalog's answer. Shared: callers must not change the list.
func (s *Store) ServiceNodes(w *Watch, service string) (store.Index, []store.ServiceInstance) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	name := lower(service)
	s.watch(w, watchService, name)
	c := s.catalog
	ix := c.byService[name]
	if ix == nil {
		return atLeastOne(c.vanished), nil
	}
	return ix.catalog, c.view(ix, c.servicesByName.group(name))
}

// ServiceInstances returns the instances of a service by node name and service
// id, each with the checks of its node and its own. Shared: callers must not
// change the list; sort or filter a copy of it.
func (s *Store) ServiceInstances(w *Watch, service string) (store.Index, []store.ServiceInstance) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	name := lower(service)
	s.watch(w, watchHealth, name)
	c := s.catalog
	ix := c.byService[name]
	if ix == nil {
		return atLeastOne(c.vanished), nil
	}
	return ix.health, c.view(ix, c.servicesByName.group(name))
}

// ConnectInstances returns the instances that speak for a service in the mesh:
// proxies with it as destination, and native ones. Like ServiceInstances.
func (s *Store) ConnectInstances(w *Watch, service string) (store.Index, []store.ServiceInstance) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	name := lower(service)
	s.watch(w, watchConnect, name)
	c := s.catalog
	ix := c.byConnect[name]
	if ix == nil {
		return atLeastOne(c.vanishedConnect), nil
	}
	return ix.health, c.view(ix, c.servicesByConnect.group(name))
}

// view returns the joined rows of a service, joining them if something changed
// since the last reader. Readers at once may both join; the results are equal.
func (c *catalog) view(ix *serviceIndexes, rows []keyed[store.Service]) []store.ServiceInstance {
	if p := ix.view.Load(); p != nil {
		return *p
	}
	list := make([]store.ServiceInstance, len(rows))
	checks := make([]*store.Check, 0, 2*len(rows)) // one array for all, cut into pieces
	for i, r := range rows {
		node := nodeOf(r.key)
		from := len(checks)
		for _, k := range c.checksByInstance.group(r.key[:len(node)+1]) {
			checks = append(checks, k.row)
		}
		if len(r.key) > len(node)+1 { // an id may not be empty, or these would be the same
			for _, k := range c.checksByInstance.group(r.key) {
				checks = append(checks, k.row)
			}
		}
		list[i] = store.ServiceInstance{Node: c.nodes.get(node), Service: r.row, Checks: checks[from:len(checks):len(checks)]}
	}
	ix.view.Store(&list)
	return list
}

// ByAddress returns the nodes with an IP address and the services registered
// under it, for reverse look-ups.
func (s *Store) ByAddress(ip string) (store.Index, []store.NodeServices) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	c := s.catalog
	idx := atLeastOne(max(c.nodes.max, c.services.max))
	key, ok := addressKey(ip)
	if !ok {
		return idx, nil
	}
	var list []store.NodeServices
	for _, n := range c.nodesByAddress.group(key) {
		list = append(list, store.NodeServices{Node: n.row})
	}
	for _, r := range c.servicesByAddress.group(key) {
		n := c.nodes.get(nodeOf(r.key))
		i := slices.IndexFunc(list, func(e store.NodeServices) bool { return e.Node == n })
		if i < 0 {
			i = len(list)
			list = append(list, store.NodeServices{Node: n})
		}
		list[i].Services = append(list[i].Services, r.row)
	}
	return idx, list
}

// NodeChecks returns all checks of a node, its services' too, in the order of
// their ids.
func (s *Store) NodeChecks(w *Watch, node string) (store.Index, []*store.Check) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	key := lower(node)
	s.watch(w, watchNodeChecks, key)
	c := s.catalog
	ix := c.byNode[key]
	if ix == nil {
		return atLeastOne(c.nodes.max), nil
	}
	var list []*store.Check
	ascend(&c.checks.tree, key+"\x00", func(_ string, k *store.Check) bool {
		list = append(list, k)
		return true
	})
	return atLeastOne(ix.checks), list
}

// ServiceChecks returns the checks of a service's instances, by node and check id.
func (s *Store) ServiceChecks(w *Watch, service string) (store.Index, []*store.Check) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	name := lower(service)
	s.watch(w, watchServiceChecks, name)
	c := s.catalog
	ix := c.byService[name]
	if ix == nil {
		return atLeastOne(c.vanished), nil
	}
	return atLeastOne(ix.checks), rowsOf(c.checksByService.group(name))
}

// ChecksInState returns the checks with a status, or all for store.AnyStatus, by
// node and check id. Its index is that of the checks table; it is woken only by
// checks that have, get or lose the status.
func (s *Store) ChecksInState(w *Watch, status string) (store.Index, []*store.Check) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	c := s.catalog
	idx := atLeastOne(c.checks.max)
	switch status {
	case store.AnyStatus:
		s.watch(w, watchChecks, "")
	default:
		s.watch(w, watchStatus, status)
	}
	if status != store.AnyStatus && status != store.Passing {
		return idx, rowsOf(c.checksByStatus.group(status))
	}
	var list []*store.Check
	c.checks.tree.Scan(func(_ string, k *store.Check) bool {
		if status == store.AnyStatus || k.Status == status {
			list = append(list, k)
		}
		return true
	})
	return idx, list
}

func rowsOf[R any](g []keyed[R]) []*R {
	if len(g) == 0 {
		return nil
	}
	list := make([]*R, len(g))
	for i := range g {
		list[i] = g[i].row
	}
	return list
}

// connectKinds are the kinds of instances that Usage always tells of.
var connectKinds = []string{"api-gateway", "connect-native", "connect-proxy", "ingress-gateway", "mesh-gateway", "terminating-gateway"}

// Usage returns how much the catalog holds.
func (s *Store) Usage(w *Watch) (store.Index, *store.Usage) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.watch(w, watchNodes, "")
	s.watch(w, watchServices, "")
	c := s.catalog
	u := &store.Usage{
		Nodes: c.nodes.len(), Services: len(c.byService), ServiceInstances: c.services.len(),
		ConnectInstances: make(map[string]int, len(connectKinds)),
	}
	for _, kind := range connectKinds {
		u.ConnectInstances[kind] = 0
	}
	u.BillableInstances = u.ServiceInstances - len(c.servicesByName.group(store.ServerService))
	for kind, n := range c.kinds {
		u.ConnectInstances[kind] = n
		if kind != connectNative {
			u.BillableInstances -= n
		}
	}
	return atLeastOne(max(c.nodes.max, c.services.max)), u
}
