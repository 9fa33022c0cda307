package state

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/tidwall/btree"

	"landbridge/store"
)

// catalog holds nodes, service instances and checks. The primary key of a node
// is its name in lower case; that of an instance or a check is its node's key, a
// zero byte and its id. Names never hold a zero byte, so a key says its node.
type catalog struct {
	nodes    *table[store.Node]
	services *table[store.Service]
	checks   *table[store.Check]

	nodeIDs *btree.Map[string, string] // UUID -> key of the node

	nodesByAddress    *index[store.Node]
	servicesByName    *index[store.Service]
	servicesByConnect *index[store.Service]
	servicesByAddress *index[store.Service]
	checksByInstance  *index[store.Check] // key of the instance; of the node and a zero byte for its own
	checksByService   *index[store.Check]
	checksByStatus    *index[store.Check] // all but passing: those are nearly all, and rarely asked for

	byNode    map[string]*nodeIndexes
	byService map[string]*serviceIndexes // every name with at least one instance
	byConnect map[string]*serviceIndexes

	// vanished is the index at which a service name last lost its last instance:
	// the index of every name without instances.
	vanished        store.Index
	vanishedConnect store.Index

	kinds map[string]int // instances by Kind, and connectNative

	names atomic.Pointer[[]ServiceName] // the answer of Services, nil after a change

	journal *journal
}

// nodeIndexes are the indexes of one node. They count removals too, which no row
// remembers.
type nodeIndexes struct {
	catalog store.Index // of the node and its services
	checks  store.Index // of all its checks
}

// serviceIndexes are the indexes of one service name.
type serviceIndexes struct {
	catalog store.Index // of its instances and their nodes
	health  store.Index // of these and their checks
	checks  store.Index // of its checks alone
	// view is the joined answer, made by the first reader after a change.
	view atomic.Pointer[[]store.ServiceInstance]
}

func newCatalog(j *journal) *catalog {
	c := &catalog{
		journal:   j,
		nodes:     newTable[store.Node](j),
		services:  newTable[store.Service](j),
		checks:    newTable[store.Check](j),
		nodeIDs:   new(btree.Map[string, string]),
		byNode:    make(map[string]*nodeIndexes),
		byService: make(map[string]*serviceIndexes),
		byConnect: make(map[string]*serviceIndexes),
		kinds:     make(map[string]int),
	}
	c.nodesByAddress = c.nodes.index(func(_ string, n *store.Node) (string, bool) { return addressKey(n.Address) })
	c.servicesByName = c.services.index(func(_ string, s *store.Service) (string, bool) { return lower(s.Name), true })
	c.servicesByConnect = c.services.index(func(_ string, s *store.Service) (string, bool) { return connectName(s) })
	c.servicesByAddress = c.services.index(func(_ string, s *store.Service) (string, bool) { return addressKey(s.Address) })
	c.checksByInstance = c.checks.index(func(key string, k *store.Check) (string, bool) {
		node := nodeOf(key)
		if k.ServiceID == "" {
			return key[:len(node)+1], true
		}
		return instanceKey(node, k.ServiceID), true
	})
	c.checksByService = c.checks.index(func(_ string, k *store.Check) (string, bool) {
		return lower(k.ServiceName), k.ServiceName != ""
	})
	c.checksByStatus = c.checks.index(func(_ string, k *store.Check) (string, bool) {
		return k.Status, k.Status != store.Passing
	})
	return c
}

// lower folds names for comparison; it returns s itself if nothing changes.
func lower(s string) string { return strings.ToLower(s) }

func instanceKey(node, id string) string { return node + "\x00" + id }

// nodeOf returns the node's key in the key of an instance or check.
func nodeOf(key string) string { return key[:strings.IndexByte(key, 0)] }

// addressKey folds the spellings of an IP address; host names are no keys.
func addressKey(s string) (string, bool) {
	if s == "" {
		return "", false
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return "", false
	}
	return a.Unmap().String(), true
}

// connectName returns the service an instance speaks for in the mesh.
func connectName(s *store.Service) (string, bool) {
	name := s.ConnectTarget()
	return lower(name), name != ""
}

// Writing rows. Each of these keeps the indexes of everything the row takes part
// in, forgets the views it is part of, and notes the change for the watches.

func (s *Store) putNode(key string, old, n *store.Node) {
	c := s.catalog
	n.CreateIndex, n.ModifyIndex = s.index, s.index
	if old != nil {
		n.CreateIndex = old.CreateIndex
		if old.ID != "" && old.ID != n.ID {
			c.dropNodeID(old.ID)
		}
	}
	c.nodes.put(key, n)
	if n.ID != "" {
		c.setNodeID(n.ID, key)
	}
	c.nodes.max = s.index
	c.keepNode(key)
	ix := c.byNode[key]
	if ix == nil {
		ix = &nodeIndexes{checks: s.index} // not 0: see touch
		c.byNode[key] = ix
	}
	ix.catalog = s.index
	s.change(watchNodes, "")
	s.change(watchNode, key)
	s.touchServicesOf(key, true)
}

// removeNode deletes a node with all it owns.
func (s *Store) removeNode(key string) {
	c := s.catalog
	s.endSessionsOf(key)
	for _, k := range c.keysUnder(key) {
		s.removeCheck(k)
	}
	var ids []string
	ascend(&c.services.tree, key+"\x00", func(k string, _ *store.Service) bool {
		ids = append(ids, k)
		return true
	})
	for _, k := range ids {
		s.removeService(k)
	}
	n := c.nodes.remove(key)
	if n.ID != "" {
		c.dropNodeID(n.ID)
	}
	c.keepNode(key)
	delete(c.byNode, key)
	s.removeCoordinate(key)
	c.nodes.max = s.index
	s.change(watchNodes, "")
	s.change(watchNode, key)
}

// keysUnder returns the keys of all checks of a node.
func (c *catalog) keysUnder(node string) []string {
	var keys []string
	ascend(&c.checks.tree, node+"\x00", func(k string, _ *store.Check) bool {
		keys = append(keys, k)
		return true
	})
	return keys
}

func (s *Store) putService(key string, old, svc *store.Service) {
	c := s.catalog
	svc.CreateIndex, svc.ModifyIndex = s.index, s.index
	if old != nil {
		svc.CreateIndex = old.CreateIndex
		c.countKind(old, -1)
	}
	c.services.put(key, svc)
	c.countKind(svc, 1)
	if old != nil {
		s.touchInstance(old)
	}
	s.touchInstance(svc)
	s.touchServices(nodeOf(key))
}

// removeService deletes an instance; its checks are gone already.
func (s *Store) removeService(key string) {
	old := s.catalog.services.remove(key)
	s.catalog.countKind(old, -1)
	s.touchInstance(old)
	s.touchServices(nodeOf(key))
}

func (s *Store) touchServices(node string) {
	c := s.catalog
	c.services.max = s.index
	c.names.Store(nil)
	c.keepNode(node)
	if ix := c.byNode[node]; ix != nil {
		ix.catalog = s.index
	}
	s.change(watchServices, "")
	s.change(watchNode, node)
}

// connectNative is under which kinds counts typical services that speak for
// themselves in the mesh.
const connectNative = "connect-native"

func (c *catalog) countKind(svc *store.Service, n int) {
	if svc.Kind != "" {
		c.addKind(svc.Kind, n)
	}
	if svc.Kind == "" && svc.ConnectTarget() != "" {
		c.addKind(connectNative, n)
	}
}

func (c *catalog) addKind(kind string, n int) {
	if c.journal.open {
		c.journal.note(func() { c.addKind(kind, -n) })
	}
	if c.kinds[kind] += n; c.kinds[kind] == 0 {
		delete(c.kinds, kind)
	}
}

// touchInstance notes that an instance of a name appeared, changed or went.
func (s *Store) touchInstance(svc *store.Service) {
	c := s.catalog
	name := lower(svc.Name)
	c.touch(c.byService, c.servicesByName, name, &c.vanished, s.index)
	s.change(watchService, name)
	s.change(watchHealth, name)
	if name, ok := connectName(svc); ok {
		c.touch(c.byConnect, c.servicesByConnect, name, &c.vanishedConnect, s.index)
		s.change(watchConnect, name)
	}
}

func (c *catalog) touch(all map[string]*serviceIndexes, rows *index[store.Service], name string, vanished *store.Index, at store.Index) {
	c.keepName(all, name)
	if len(rows.group(name)) == 0 {
		if all[name] != nil {
			delete(all, name)
			c.keepIndex(vanished)
			*vanished = at
		}
		return
	}
	ix := all[name]
	if ix == nil {
		// Its checks begin at its own index, not at 0: the name may have existed
		// before, and answered with the index of its end.
		ix = &serviceIndexes{checks: at}
		all[name] = ix
	}
	ix.catalog, ix.health = at, at
	ix.view.Store(nil)
}

// touchServicesOf notes that a node (nodeToo), or one of its own checks, changed
// for all services with instances on it.
func (s *Store) touchServicesOf(node string, nodeToo bool) {
	ascend(&s.catalog.services.tree, node+"\x00", func(_ string, svc *store.Service) bool {
		s.touchHealth(svc, nodeToo)
		return true
	})
}

// touchHealth notes that something joined to an instance changed: its checks, or
// its node.
func (s *Store) touchHealth(svc *store.Service, nodeToo bool) {
	c := s.catalog
	name := lower(svc.Name)
	c.keepName(c.byService, name)
	if ix := c.byService[name]; ix != nil {
		ix.health = s.index
		ix.view.Store(nil)
		if nodeToo {
			ix.catalog = s.index
			s.change(watchService, name)
		}
	}
	s.change(watchHealth, name)
	if name, ok := connectName(svc); ok {
		c.keepName(c.byConnect, name)
		if ix := c.byConnect[name]; ix != nil {
			ix.health = s.index
			ix.view.Store(nil)
			if nodeToo {
				ix.catalog = s.index
			}
		}
		s.change(watchConnect, name)
	}
}

func (s *Store) putCheck(key string, old, k *store.Check) {
	k.CreateIndex, k.ModifyIndex = s.index, s.index
	if old != nil {
		k.CreateIndex = old.CreateIndex
	}
	s.catalog.checks.put(key, k)
	if old != nil {
		s.touchCheck(key, old)
	}
	s.touchCheck(key, k)
	if k.Status == store.Critical && (old == nil || old.Status != store.Critical) {
		s.endSessionsWith(key, k.CheckID)
	}
}

func (s *Store) removeCheck(key string) {
	if old := s.catalog.checks.remove(key); old != nil {
		s.touchCheck(key, old)
		s.endSessionsWith(key, old.CheckID)
	}
}

// touchCheck notes that a check appeared, changed or went.
func (s *Store) touchCheck(key string, k *store.Check) {
	c := s.catalog
	node := nodeOf(key)
	c.checks.max = s.index
	c.keepNode(node)
	if ix := c.byNode[node]; ix != nil {
		ix.checks = s.index
	}
	s.change(watchChecks, "")
	s.change(watchNodeChecks, node)
	s.change(watchStatus, k.Status)
	if k.ServiceID == "" {
		s.touchServicesOf(node, false)
		return
	}
	if svc := c.services.get(instanceKey(node, k.ServiceID)); svc != nil {
		s.touchHealth(svc, false)
	}
	if k.ServiceName != "" {
		name := lower(k.ServiceName)
		c.keepName(c.byService, name)
		if ix := c.byService[name]; ix != nil {
			ix.checks = s.index
		}
		s.change(watchServiceChecks, name)
	}
}

// sameNode, sameService and sameCheck compare all but the indexes: writing the
// same again is no change.

func sameNode(a, b *store.Node) bool {
	return a.ID == b.ID && a.Node == b.Node && a.Address == b.Address && a.Datacenter == b.Datacenter &&
		maps.Equal(a.TaggedAddresses, b.TaggedAddresses) && maps.Equal(a.Meta, b.Meta)
}

func sameService(a, b *store.Service) bool {
	return a.Node == b.Node && a.Kind == b.Kind && a.ID == b.ID && a.Name == b.Name &&
		slices.Equal(a.Tags, b.Tags) && a.Address == b.Address &&
		maps.Equal(a.TaggedAddresses, b.TaggedAddresses) && maps.Equal(a.Meta, b.Meta) &&
		a.Port == b.Port && a.SocketPath == b.SocketPath && a.Weights == b.Weights &&
		a.EnableTagOverride == b.EnableTagOverride && string(a.Proxy) == string(b.Proxy) &&
		string(a.Connect) == string(b.Connect) && string(a.Locality) == string(b.Locality)
}

func sameCheck(a, b *store.Check) bool {
	return a.Node == b.Node && a.CheckID == b.CheckID && a.Name == b.Name && a.Status == b.Status &&
		a.Notes == b.Notes && a.Output == b.Output && a.ServiceID == b.ServiceID &&
		a.ServiceName == b.ServiceName && slices.Equal(a.ServiceTags, b.ServiceTags) &&
		a.Type == b.Type && a.Interval == b.Interval && a.Timeout == b.Timeout &&
		a.ExposedPort == b.ExposedPort && string(a.Definition) == string(b.Definition)
}
