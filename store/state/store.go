package state

import (
	"sync"
	"sync/atomic"

	"landbridge/store"
)

// Store is the state of one datacenter.
type Store struct {
	mu sync.RWMutex
	// copyMu lets readers copy a tree, which marks the original as shared: they
	// exclude each other with it, and writers by holding mu for reading.
	copyMu sync.Mutex

	index   store.Index // of the last command; the first one gets firstIndex+1
	cluster store.Cluster
	floor   atomic.Uint64 // Header.Floor; written under mu
	kv      *kvTable
	catalog *catalog
	// sessions also holds the locks' delays.
	sessions *sessionTable
	coords   *table[store.Coordinate] // by the node's key
	queries  *queryTable
	acl      *aclTables

	aclVersion aclVersion

	trust     *store.Trust
	autopilot *store.AutopilotConfig

	kvLog      kvLog
	kvReplicas map[string]store.KVReplica // by name; never changed in place

	watches *registry
	// journal is shared by all tables: what a transaction that fails takes back.
	journal *journal

	// Used by Apply only, under mu.
	changed []topic
	track   bool
	wakeAll bool  // the floor rose: everybody's answer has a new index
	now     int64 // the command's time
	kvCmd   store.KVCommand
	value   any // of the command being applied: Result.Value
}

// firstIndex is the index of an empty store. Answers show 1 for "nothing yet",
// so the first command must have a higher one, or a reader blocked on 1 would
// miss it.
const firstIndex store.Index = 1

// New returns an empty store.
func New() *Store {
	j := new(journal)
	return &Store{
		index:    firstIndex,
		kv:       newKVTable(j),
		catalog:  newCatalog(j),
		sessions: newSessionTable(j),
		coords:   newTable[store.Coordinate](j),
		watches:  newRegistry(),
		queries:  newQueryTable(j),
		acl:      newACLTables(j),
		journal:  j,
	}
}

// NewWatch returns a watch for use with reads. Its owner closes it.
func (s *Store) NewWatch() *Watch { return s.watches.newWatch() }

// Index returns the index of the last command.
func (s *Store) Index() store.Index {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.index
}

// Floor returns the least index that a query may answer with. A recovery raises it
// above what lost servers may have given out. A restore by a user
// puts rows back that are older than what readers have seen, without changing the
// rows' own indexes; it raises the floor above every index given before, so that
// those who wait are answered and an index never goes back. Whoever answers reads
// it before and after the rows, and again if it has changed.
func (s *Store) Floor() store.Index { return store.Index(s.floor.Load()) }

// Cluster returns the datacenter's identity; its fields are empty before the
// first leader wrote it.
func (s *Store) Cluster() store.Cluster {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.cluster
}

// ClusterID returns Cluster().ID.
func (s *Store) ClusterID() string { return s.Cluster().ID }

// Known reports whether this version can apply commands of the kind.
func Known(k store.CommandKind) bool {
	switch k {
	case store.CmdCluster, store.CmdKV, store.CmdRegister, store.CmdDeregister, store.CmdTrust, store.CmdAutopilot,
		store.CmdSession, store.CmdTxn, store.CmdQuery, store.CmdCoordinates, store.CmdACL, store.CmdACLBootstrap,
		store.CmdKVReplicate, store.CmdPromotion:
		return true
	}
	return false
}

// Apply applies commands in order under one lock hold and sets one result for
// each; len(results) must be at least len(cmds). Every command, also a refused
// or skipped one, gets the next index. A kind that is neither known nor
// ignorable is a broken invariant (store/fsm stops the process first).
func (s *Store) Apply(cmds []store.Command, results []store.Result) {
	s.mu.Lock()
	s.track = s.watches.registered.Load() > 0
	for i := range cmds {
		s.index++
		s.now = cmds[i].UnixNano
		s.sessions.delays.forget(s.now)
		ok, err := s.apply(&cmds[i])
		results[i] = store.Result{Index: s.index, OK: ok, Value: s.value}
		if err != nil {
			results[i].Err = err
		}
		s.value = nil
	}
	due := s.watches.due(s.changed)
	if s.wakeAll {
		due, s.wakeAll = s.watches.all(), false
	}
	s.forgetChanges()
	s.mu.Unlock()
	wake(due)
}

// forgetChanges keeps the slice for the next batch, unless a huge one grew it.
func (s *Store) forgetChanges() {
	if cap(s.changed) > 4096 {
		s.changed = nil
	}
	clear(s.changed)
	s.changed = s.changed[:0]
}

func (s *Store) apply(cmd *store.Command) (bool, *store.Error) {
	switch cmd.Kind {
	case store.CmdCluster:
		var c store.Cluster
		if err := c.DecodeWire(cmd.Payload); err != nil {
			return false, malformed("cluster", err)
		}
		return s.applyCluster(c)
	case store.CmdKV:
		c := &s.kvCmd
		if err := c.DecodeWire(cmd.Payload); err != nil {
			return false, malformed("key/value", err)
		}
		return s.applyKV(c)
	case store.CmdRegister:
		c := new(store.RegisterCommand)
		if err := c.DecodeWire(cmd.Payload); err != nil {
			return false, malformed("register", err)
		}
		return s.applyRegister(c)
	case store.CmdDeregister:
		var c store.DeregisterCommand
		if err := c.DecodeWire(cmd.Payload); err != nil {
			return false, malformed("deregister", err)
		}
		return s.applyDeregister(&c)
	case store.CmdTrust:
		c := new(store.TrustCommand)
		if err := c.DecodeWire(cmd.Payload); err != nil {
			return false, malformed("trust", err)
		}
		return s.applyTrust(c)
	case store.CmdPromotion:
		c := new(store.PromotionCommand)
		if err := c.DecodeWire(cmd.Payload); err != nil {
			return false, malformed("promotion", err)
		}
		return s.applyPromotion(c)
	case store.CmdAutopilot:
		c := new(store.AutopilotCommand)
		if err := c.DecodeWire(cmd.Payload); err != nil {
			return false, malformed("autopilot", err)
		}
		return s.applyAutopilot(c)
	case store.CmdSession:
		c := new(store.SessionCommand)
		if err := c.DecodeWire(cmd.Payload); err != nil {
			return false, malformed("session", err)
		}
		return s.applySession(c)
	case store.CmdCoordinates:
		var c store.CoordinatesCommand
		if err := c.DecodeWire(cmd.Payload); err != nil {
			return false, malformed("coordinates", err)
		}
		return s.applyCoordinates(&c)
	case store.CmdTxn:
		c := new(store.TxnCommand)
		if err := c.DecodeWire(cmd.Payload); err != nil {
			return false, malformed("transaction", err)
		}
		return s.applyTxn(c), nil
	case store.CmdQuery:
		c := new(store.QueryCommand)
		if err := c.DecodeWire(cmd.Payload); err != nil {
			return false, malformed("prepared query", err)
		}
		return s.applyQuery(c)
	case store.CmdACL:
		c := new(store.ACLCommand)
		if err := c.DecodeWire(cmd.Payload); err != nil {
			return false, malformed("ACL", err)
		}
		return s.applyACL(c)
	case store.CmdACLBootstrap:
		c := new(store.ACLBootstrapCommand)
		if err := c.DecodeWire(cmd.Payload); err != nil {
			return false, malformed("ACL bootstrap", err)
		}
		return s.applyACLBootstrap(c)
	case store.CmdKVReplicate:
		c := new(store.KVReplicateCommand)
		if err := c.DecodeWire(cmd.Payload); err != nil {
			return false, malformed("key replication", err)
		}
		return s.applyKVReplicate(c)
	}
	if cmd.Ignorable {
		return true, nil
	}
	panic("state: a command of an unknown kind that may not be skipped reached Apply")
}

// malformed refuses a command whose payload no decoder of ours wrote. All servers
// refuse it alike.
func malformed(what string, err error) *store.Error {
	return store.Errorf(store.KindInvalid, "malformed %s command: %w", what, err)
}

// change notes what a command changed, for the watches.
func (s *Store) change(kind watchKind, name string) {
	if s.track {
		s.changed = append(s.changed, topic{kind, name})
	}
}

func (s *Store) watch(w *Watch, kind watchKind, name string) {
	if w != nil {
		s.watches.add(w, topic{kind, name})
	}
}

// atLeastOne keeps 0 out of answers: clients read it as "do not block".
func atLeastOne(i store.Index) store.Index { return max(i, firstIndex) }

// Counts says how much a store holds.
type Counts struct {
	KVEntries        int
	KVTombstones     int
	Nodes            int
	Services         int // distinct names
	ServiceInstances int
	// ConnectInstances by kind, connect-native ones under "connect-native".
	ConnectInstances map[string]int
	Checks           int
	Sessions         int
	LockDelays       int // keys that may not be locked yet
	Queries          int // prepared queries
	Watches          int // registrations of waiting readers
	ACL              ACLCounts
}

// ACLCounts says how many ACL records there are, and events of their log.
type ACLCounts struct{ Tokens, Policies, Roles, BindingRules, AuthMethods, Events int }

// Counts returns how much the store holds, for metrics and operator/usage.
func (s *Store) Counts() Counts {
	s.mu.RLock()
	defer s.mu.RUnlock()
	c := Counts{
		KVEntries:        s.kv.len(),
		KVTombstones:     s.kv.tombs.Len(),
		Nodes:            s.catalog.nodes.len(),
		Services:         len(s.catalog.byService),
		ServiceInstances: s.catalog.services.len(),
		ConnectInstances: make(map[string]int, len(s.catalog.kinds)),
		Checks:           s.catalog.checks.len(),
		Sessions:         s.sessions.len(),
		LockDelays:       s.sessions.delays.len(),
		Queries:          s.queries.len(),
		Watches:          int(s.watches.registered.Load()),
		ACL: ACLCounts{s.acl.tokens.len(), s.acl.policies.len(), s.acl.roles.len(), s.acl.rules.len(), s.acl.methods.len(),
			len(s.acl.log.events) - s.acl.log.gone},
	}
	for k, n := range s.catalog.kinds {
		c.ConnectInstances[k] = n
	}
	return c
}
