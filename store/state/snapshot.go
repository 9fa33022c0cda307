package state

import (
	"slices"

	"github.com/tidwall/btree"

	"landbridge/store"
	"landbridge/store/wire"
)

// Header is what an image says of itself before its records.
type Header struct {
	Index   store.Index // of the last command in it
	Cluster store.Cluster
	// Floor is below no index of a query: what it was when the last restore by a
	// user put older rows in place; see Store.Floor.
	Floor store.Index
}

// RecordKind names a kind of record in an image. Numbers are on disk: never
// reused, never changed in meaning.
type RecordKind uint16

const (
	recordMaxima       RecordKind = 1
	recordNode         RecordKind = 2
	recordService      RecordKind = 3
	recordCheck        RecordKind = 4
	recordNodeIndex    RecordKind = 5
	recordServiceIndex RecordKind = 6
	recordConnectIndex RecordKind = 7
	recordKV           RecordKind = 8
	recordTombstone    RecordKind = 9
	recordTrust        RecordKind = 10
	recordAutopilot    RecordKind = 11
	recordSession      RecordKind = 12
	recordLockDelay    RecordKind = 13

	recordCoordinate    RecordKind = 20
	recordCoordinateMax RecordKind = 21 // the table's index
	recordQuery         RecordKind = 16
	recordQueryMax      RecordKind = 17 // the table's index

	recordACLToken       RecordKind = 30
	recordACLPolicy      RecordKind = 31
	recordACLRole        RecordKind = 32
	recordACLBindingRule RecordKind = 33
	recordACLAuthMethod  RecordKind = 34
	recordACLIndexes     RecordKind = 35 // of the tables, and of the last bootstrap
	recordACLReplica     RecordKind = 36
	recordACLTrash       RecordKind = 37 // what replication deleted
	recordACLUnseen      RecordKind = 38 // what a promoted primary never saw

	recordKVReplica RecordKind = 40
)

// Snapshot is the state at one command. It shares the trees with the store, which
// copies the nodes it changes; it never changes itself and needs no release.
type Snapshot struct {
	header    Header
	maxima    maxima
	nodes     *btree.Map[string, *store.Node]
	services  *btree.Map[string, *store.Service]
	checks    *btree.Map[string, *store.Check]
	byNode    []indexRecord
	byService []indexRecord
	byConnect []indexRecord
	kv        *btree.Map[string, *store.KVEntry]
	tombs     *btree.Map[string, store.Index]
	trust     *store.Trust
	autopilot *store.AutopilotConfig
	sessions  *btree.Map[string, *store.Session]
	delays    *btree.Map[string, lockDelay]
	coords    *btree.Map[string, *store.Coordinate]
	coordsMax store.Index
	queries   *btree.Map[string, *store.PreparedQuery]
	queryMax  store.Index
	acl       aclSnapshot
	replicas  map[string]store.KVReplica
}

// maxima are the indexes that belong to no row.
type maxima struct {
	kv, kvFloor, nodes, services, checks, vanished, vanishedConnect, sessions store.Index
}

// indexRecord are the indexes of a node or service name.
type indexRecord struct {
	name                    string
	catalog, health, checks store.Index
}

// Snapshot returns the state as it is now. It takes no longer than copying the
// index of each node and service.
func (s *Store) Snapshot() *Snapshot {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.copyMu.Lock()
	defer s.copyMu.Unlock()
	c := s.catalog
	sn := &Snapshot{
		header: Header{Index: s.index, Cluster: s.cluster, Floor: s.Floor()},
		maxima: maxima{kv: s.kv.max, kvFloor: s.kv.tombs.floor, nodes: c.nodes.max, services: c.services.max,
			checks: c.checks.max, vanished: c.vanished, vanishedConnect: c.vanishedConnect, sessions: s.sessions.max},
		nodes:     c.nodes.tree.Copy(),
		services:  c.services.tree.Copy(),
		checks:    c.checks.tree.Copy(),
		byNode:    make([]indexRecord, 0, len(c.byNode)),
		byService: serviceRecords(c.byService),
		byConnect: serviceRecords(c.byConnect),
		kv:        s.kv.tree.Copy(),
		tombs:     s.kv.tombs.Copy(),
		trust:     s.trust,
		autopilot: s.autopilot,
		sessions:  s.sessions.tree.Copy(),
		delays:    s.sessions.delays.Copy(),
		coords:    s.coords.tree.Copy(),
		coordsMax: s.coords.max,
		queries:   s.queries.tree.Copy(),
		queryMax:  s.queries.max,
		acl:       s.acl.snapshot(),
		replicas:  s.kvReplicas,
	}
	for name, ix := range c.byNode {
		sn.byNode = append(sn.byNode, indexRecord{name: name, catalog: ix.catalog, checks: ix.checks})
	}
	return sn
}

func serviceRecords(m map[string]*serviceIndexes) []indexRecord {
	list := make([]indexRecord, 0, len(m))
	for name, ix := range m {
		list = append(list, indexRecord{name, ix.catalog, ix.health, ix.checks})
	}
	return list
}

// Header returns the snapshot's header.
func (sn *Snapshot) Header() Header { return sn.header }

// Encode calls emit for each record, and stops at its first error. The record's
// bytes are reused after emit returns. Each call gives the same records in the
// same order: archives are written in two passes.
func (sn *Snapshot) Encode(emit func(kind RecordKind, record []byte) error) error {
	e := &encoder{emit: emit}
	e.add(recordMaxima, sn.maxima.appendWire)
	encodeTree(e, recordNode, sn.nodes, (*store.Node).AppendWire)
	encodeTree(e, recordService, sn.services, (*store.Service).AppendWire)
	encodeTree(e, recordCheck, sn.checks, (*store.Check).AppendWire)
	// In a fixed order: a snapshot encodes to the same bytes each time.
	encodeIndexes(e, recordNodeIndex, sn.byNode)
	encodeIndexes(e, recordServiceIndex, sn.byService)
	encodeIndexes(e, recordConnectIndex, sn.byConnect)
	encodeTree(e, recordKV, sn.kv, (*store.KVEntry).AppendWire)
	sn.tombs.Scan(func(key string, at store.Index) bool {
		return e.add(recordTombstone, func(b []byte) []byte {
			return wire.Uint(wire.String(b, 1, key), 2, uint64(at))
		})
	})
	if sn.trust != nil {
		e.add(recordTrust, sn.trust.AppendWire)
	}
	if sn.autopilot != nil {
		e.add(recordAutopilot, sn.autopilot.AppendWire)
	}
	encodeTree(e, recordSession, sn.sessions, (*store.Session).AppendWire)
	sn.delays.Scan(func(key string, d lockDelay) bool {
		return e.add(recordLockDelay, func(b []byte) []byte { return d.appendWire(b, key) })
	})
	encodeTree(e, recordCoordinate, sn.coords, (*store.Coordinate).AppendWire)
	if sn.coordsMax != 0 {
		e.add(recordCoordinateMax, func(b []byte) []byte { return wire.Uint(b, 1, uint64(sn.coordsMax)) })
	}
	encodeTree(e, recordQuery, sn.queries, (*store.PreparedQuery).AppendWire)
	if sn.queryMax != 0 {
		e.add(recordQueryMax, func(b []byte) []byte { return wire.Uint(b, 1, uint64(sn.queryMax)) })
	}
	sn.acl.encode(e)
	encodeKVReplicas(e, sn.replicas)
	return e.err
}

type encoder struct {
	emit func(RecordKind, []byte) error
	buf  []byte
	err  error
}

func (e *encoder) add(kind RecordKind, fill func([]byte) []byte) bool {
	if e.err == nil {
		e.buf = fill(e.buf[:0])
		e.err = e.emit(kind, e.buf)
	}
	return e.err == nil
}

func encodeIndexes(e *encoder, kind RecordKind, list []indexRecord) {
	for i := range list {
		e.add(kind, list[i].appendWire)
	}
}

func encodeTree[R any](e *encoder, kind RecordKind, tree *btree.Map[string, *R], fill func(*R, []byte) []byte) {
	tree.Scan(func(_ string, row *R) bool {
		return e.add(kind, func(b []byte) []byte { return fill(row, b) })
	})
}

func (m *maxima) fields() []*store.Index {
	return []*store.Index{&m.kv, &m.kvFloor, &m.nodes, &m.services, &m.checks, &m.vanished, &m.vanishedConnect, &m.sessions}
}

func (m *maxima) appendWire(b []byte) []byte {
	for i, v := range m.fields() {
		b = wire.Uint(b, i+1, uint64(*v))
	}
	return b
}

func (m *maxima) decodeWire(b []byte) error {
	fields := m.fields()
	d := wire.NewDecoder(b)
	for d.Next() {
		if d.Field <= len(fields) {
			*fields[d.Field-1] = store.Index(d.Uint())
		}
	}
	return d.Err()
}

func (r *indexRecord) appendWire(b []byte) []byte {
	b = wire.String(b, 1, r.name)
	b = wire.Uint(b, 2, uint64(r.catalog))
	b = wire.Uint(b, 3, uint64(r.health))
	return wire.Uint(b, 4, uint64(r.checks))
}

func (r *indexRecord) decodeWire(b []byte) error {
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			r.name = d.String()
		case 2:
			r.catalog = store.Index(d.Uint())
		case 3:
			r.health = store.Index(d.Uint())
		case 4:
			r.checks = store.Index(d.Uint())
		}
	}
	return d.Err()
}

// Image is a state under construction, from the records of a snapshot. It
// belongs to one goroutine.
type Image struct {
	header     Header
	maxima     maxima
	kv         *kvTable
	catalog    *catalog
	byNode     []indexRecord
	byService  []indexRecord
	byConnect  []indexRecord
	trust      *store.Trust
	autopilot  *store.AutopilotConfig
	sessions   *sessionTable
	coords     *table[store.Coordinate]
	queries    *queryTable
	acl        *aclTables
	kvReplicas map[string]store.KVReplica
	journal    *journal // of all its tables
}

// NewImage returns an empty image.
func NewImage(h Header) *Image {
	j := new(journal)
	return &Image{header: h, kv: newKVTable(j), catalog: newCatalog(j), sessions: newSessionTable(j),
		coords: newTable[store.Coordinate](j), queries: newQueryTable(j), acl: newACLTables(j), journal: j}
}

// Add takes one record, of which it keeps no bytes. A record it cannot place is
// an error: an image with parts left out is not the state.
func (im *Image) Add(kind RecordKind, record []byte) error {
	switch kind {
	case recordMaxima:
		return im.maxima.decodeWire(record)
	case recordNode:
		n := new(store.Node)
		if err := n.DecodeWire(record); err != nil {
			return err
		}
		return im.addNode(n)
	case recordService:
		svc := new(store.Service)
		if err := svc.DecodeWire(record); err != nil {
			return err
		}
		return im.addService(svc)
	case recordCheck:
		k := new(store.Check)
		if err := k.DecodeWire(record); err != nil {
			return err
		}
		return im.addCheck(k)
	case recordNodeIndex:
		return addIndexes(&im.byNode, record)
	case recordServiceIndex:
		return addIndexes(&im.byService, record)
	case recordConnectIndex:
		return addIndexes(&im.byConnect, record)
	case recordKV:
		e := new(store.KVEntry)
		if err := e.DecodeWire(record); err != nil {
			return err
		}
		if e.Key == "" || im.kv.get(e.Key) != nil {
			return store.Errorf(store.KindInvalid, "key %q is empty or comes twice", e.Key)
		}
		im.kv.put(e.Key, e)
		return nil
	case recordTombstone:
		return im.addTombstone(record)
	case recordTrust:
		im.trust = new(store.Trust)
		return im.trust.DecodeWire(record)
	case recordAutopilot:
		im.autopilot = new(store.AutopilotConfig)
		return im.autopilot.DecodeWire(record)
	case recordSession:
		return im.addSession(record)
	case recordLockDelay:
		return im.sessions.delays.decodeWire(record)
	case recordCoordinate:
		return im.addCoordinate(record)
	case recordCoordinateMax:
		return im.addCoordinateMax(record)
	case recordQuery:
		return im.addQuery(record)
	case recordQueryMax:
		return im.addQueryMax(record)
	case recordACLIndexes:
		return im.addACLIndexes(record)
	case recordACLReplica:
		return im.acl.replica.DecodeWire(record)
	case recordACLTrash:
		return im.addACLTrash(record)
	case recordACLUnseen:
		var u store.ACLUnseen
		if err := u.DecodeWire(record); err != nil {
			return err
		}
		im.acl.unseen = append(im.acl.unseen, u)
		return nil
	case recordKVReplica:
		return im.addKVReplica(record)
	}
	if k, ok := aclKindOf(kind); ok {
		return im.addACL(k, record)
	}
	return store.Errorf(store.KindInvalid, "records of kind %d are unknown to this version of landbridge: a newer one wrote them", kind)
}

func (im *Image) addNode(n *store.Node) error {
	key := lower(n.Node)
	c := im.catalog
	if key == "" || slices.Contains([]byte(key), 0) || c.nodes.get(key) != nil {
		return store.Errorf(store.KindInvalid, "node name %q is not valid or comes twice", n.Node)
	}
	if n.ID != "" {
		if _, taken := c.nodeIDs.Set(n.ID, key); taken {
			return store.Errorf(store.KindInvalid, "node id %s comes twice", n.ID)
		}
	}
	c.nodes.put(key, n)
	return nil
}

func (im *Image) addService(svc *store.Service) error {
	c := im.catalog
	node := lower(svc.Node)
	key := instanceKey(node, svc.ID)
	if svc.ID == "" || c.nodes.get(node) == nil || c.services.get(key) != nil {
		return store.Errorf(store.KindInvalid, "service %q on node %q has no node, no id or comes twice", svc.ID, svc.Node)
	}
	c.services.put(key, svc)
	c.countKind(svc, 1)
	return nil
}

func (im *Image) addCheck(k *store.Check) error {
	c := im.catalog
	node := lower(k.Node)
	key := instanceKey(node, k.CheckID)
	if c.nodes.get(node) == nil || c.checks.get(key) != nil ||
		k.ServiceID != "" && c.services.get(instanceKey(node, k.ServiceID)) == nil {
		return store.Errorf(store.KindInvalid, "check %q on node %q has no node, no service or comes twice", k.CheckID, k.Node)
	}
	c.checks.put(key, k)
	return nil
}

func (im *Image) addTombstone(record []byte) error {
	t, err := decodeTombstone(record)
	if err == nil {
		im.kv.tombs.bury(t.key, t.index)
	}
	return err
}

func decodeTombstone(record []byte) (t tombstone, err error) {
	d := wire.NewDecoder(record)
	for d.Next() {
		switch d.Field {
		case 1:
			t.key = d.String()
		case 2:
			t.index = store.Index(d.Uint())
		}
	}
	return t, d.Err()
}

func (im *Image) addSession(record []byte) error {
	sess := new(store.Session)
	if err := sess.DecodeWire(record); err != nil {
		return err
	}
	if sess.ID == "" || im.sessions.get(sess.ID) != nil || im.catalog.nodes.get(lower(sess.Node)) == nil {
		return store.Errorf(store.KindInvalid, "session %q on node %q has no id, no node or comes twice", sess.ID, sess.Node)
	}
	im.sessions.put(sess.ID, sess)
	return nil
}

func addIndexes(to *[]indexRecord, record []byte) error {
	var r indexRecord
	if err := r.decodeWire(record); err != nil {
		return err
	}
	*to = append(*to, r)
	return nil
}

// seal gives the image the indexes of its nodes and services. One without a
// record of its own gets the image's: coarser, but never lower than it was.
func (im *Image) seal() {
	c, m, top := im.catalog, &im.maxima, im.header.Index
	im.kv.max, im.kv.tombs.floor = m.kv, m.kvFloor
	slices.SortFunc(im.kv.tombs.queue, func(a, b tombstone) int {
		if a.index < b.index {
			return -1
		}
		return 1
	})
	c.nodes.max, c.services.max, c.checks.max = m.nodes, m.services, m.checks
	c.vanished, c.vanishedConnect = m.vanished, m.vanishedConnect
	im.sessions.max = m.sessions
	for key := range c.nodes.rows {
		c.byNode[key] = &nodeIndexes{top, top}
	}
	for name := range c.servicesByName.groups {
		c.byService[name] = &serviceIndexes{catalog: top, health: top, checks: top}
	}
	for name := range c.servicesByConnect.groups {
		c.byConnect[name] = &serviceIndexes{catalog: top, health: top, checks: top}
	}
	for _, r := range im.byNode {
		if ix := c.byNode[r.name]; ix != nil {
			ix.catalog, ix.checks = r.catalog, r.checks
		}
	}
	setIndexes(c.byService, im.byService)
	setIndexes(c.byConnect, im.byConnect)
}

func setIndexes(all map[string]*serviceIndexes, records []indexRecord) {
	for _, r := range records {
		if ix := all[r.name]; ix != nil {
			ix.catalog, ix.health, ix.checks = r.catalog, r.health, r.checks
		}
	}
}

// Restore replaces the whole state by the image, which must not be used again,
// and wakes every watch. The index is the image's, also if it is lower.
func (s *Store) Restore(im *Image) {
	im.seal()
	s.mu.Lock()
	s.index = max(im.header.Index, firstIndex)
	s.cluster = im.header.Cluster
	s.kv, s.catalog, s.sessions, s.journal = im.kv, im.catalog, im.sessions, im.journal
	s.trust, s.autopilot = im.trust, im.autopilot
	s.coords = im.coords
	s.queries = im.queries
	s.acl = im.acl
	s.acl.log.floor = s.index // what came before is not in the log
	s.kvLog = kvLog{floor: s.index}
	s.kvReplicas = im.kvReplicas
	s.aclVersion.n.Add(1)
	s.floor.Store(uint64(im.header.Floor))
	due := s.watches.all()
	s.mu.Unlock()
	wake(due)
}
