package endpoint

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landbridge/forwarding/endpoint/filter"
	"landbridge/forwarding/rpc"
	"landbridge/store"
	"landbridge/store/acl"
	"landbridge/store/state"
)

// Consensus is the Raft group as the methods need it (store/consensus).
type Consensus interface {
	// Apply proposes a command and waits for its result. On a server that does not
	// lead it is an error of KindNoLeader.
	Apply(ctx context.Context, cmd store.Command) (store.Result, error)
	// ApplyAll is Apply for several commands, in order, with an error for each.
	ApplyAll(ctx context.Context, cmds []store.Command) ([]store.Result, []error)
	// CheckLease is nil if this server leads and a quorum confirmed it less than a
	// lease ago.
	CheckLease() error
	// VerifyLeader asks a quorum.
	VerifyLeader(ctx context.Context) error
	IsLeader() bool
	Leader() (id, addr string)
	// LastContact is how long ago this server heard from the leader; 0 on it.
	LastContact() time.Duration
	// LeaderChanged returns a channel that is closed at the next change of
	// leadership.
	LeaderChanged() <-chan struct{}
}

// RaftServer is a server of the Raft group.
type RaftServer struct {
	ID              string
	Node            string // "(unknown)" if gossip does not know it
	Address         string // host:port
	Leader          bool
	ProtocolVersion string
	Voter           bool
	LastIndex       uint64
}

// Config is what a Set needs.
type Config struct {
	Datacenter string
	State      *state.Store
	Consensus  Consensus
	// Servers returns the Raft group as this server knows it, with or without a
	// leader.
	Servers func() ([]RaftServer, error)
	// Datacenters returns the names of all datacenters, nearest first.
	Datacenters func() []string
	// WANCoordinates returns where the servers of all datacenters are, by
	// datacenter; nil outside the WAN.
	WANCoordinates func() []store.DatacenterCoordinates
	// Remote runs requests in other datacenters, where prepared queries fail over
	// to and whose usage is asked for: the dispatcher. nil: nowhere.
	Remote rpc.Doer
	// Status is what this server says of itself to its peers.
	Status func() store.ServerStatus
	// RenewSession gives a session its whole time to live again and returns it, nil
	// if there is none; the error is of KindNoLeader (lan/leader).
	RenewSession func(id string) (*store.Session, error)
	// MinSessionTTL is the lowest time to live; 0: 10 seconds.
	MinSessionTTL time.Duration
	// Tokens says who asks, and so what a request may do; nil: ACLs are off, and
	// everything is allowed.
	Tokens Tokens
	// KeyListPolicy is acl.enable_key_list_policy: reading all keys below a prefix
	// needs key:list on it.
	KeyListPolicy bool

	DefaultQueryTime, MaxQueryTime time.Duration // 0: 5 and 10 minutes

	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// maxMethod bounds the numbers of methods this version knows.
const maxMethod = 256

// Set is the methods of one server. It is an rpc.Doer that runs requests here,
// whatever datacenter or leader they are meant for.
type Set struct {
	cfg      Config
	state    *state.Store
	raft     Consensus
	methods  [maxMethod]rpc.DoerFunc
	filters  filters
	bodies   bodies
	kvSource KVSource // HandleKVReplication's, set before the first request
	metrics  *metrics
	access   atomic.Pointer[access] // HandleACL's; nil where access control is off
	warned   atomic.Int64           // when passedOver warned last, in Unix nanoseconds

	stopOnce sync.Once
	stopc    chan struct{} // closed by Stop: ends blocking queries
}

// filters are what ?filter can select, by the kind of row.
type filters struct {
	nodes     *predicates[*store.Node]
	services  *predicates[*store.Service]
	checks    *predicates[*store.Check]
	catalog   *predicates[store.ServiceInstance]
	instances *predicates[store.ServiceInstance]
}

// New returns a set of the methods that need nothing but cfg.
func New(cfg Config) (*Set, error) {
	var missing []error
	need := func(name string, ok bool) {
		if !ok {
			missing = append(missing, fmt.Errorf("endpoint: Config.%s is required", name))
		}
	}
	need("Datacenter", cfg.Datacenter != "")
	need("State", cfg.State != nil)
	need("Consensus", cfg.Consensus != nil)
	need("Servers", cfg.Servers != nil)
	need("Datacenters", cfg.Datacenters != nil)
	need("Status", cfg.Status != nil)
	need("RenewSession", cfg.RenewSession != nil)
	need("Logger", cfg.Logger != nil)
	need("Registerer", cfg.Registerer != nil)
	if err := errors.Join(missing...); err != nil {
		return nil, err
	}
	if cfg.DefaultQueryTime <= 0 {
		cfg.DefaultQueryTime = store.DefaultQueryTime
	}
	if cfg.MinSessionTTL <= 0 {
		cfg.MinSessionTTL = store.DefaultMinSessionTTL
	}
	if cfg.MaxQueryTime <= 0 {
		cfg.MaxQueryTime = store.MaxQueryTime
	}
	s := &Set{
		cfg: cfg, state: cfg.State, raft: cfg.Consensus,
		filters: filters{
			nodes:     newPredicates(filter.Nodes()),
			services:  newPredicates(filter.Services()),
			checks:    newPredicates(filter.Checks()),
			catalog:   newPredicates(filter.CatalogServices()),
			instances: newPredicates(filter.Instances()),
		},
		metrics: newMetrics(cfg.Registerer),
		stopc:   make(chan struct{}),
	}
	s.bodies.init()
	s.Handle(rpc.Ping, s.ping)
	s.Handle(rpc.KVGet, s.kvGet)
	s.Handle(rpc.KVList, s.kvList)
	s.Handle(rpc.KVKeys, s.kvKeys)
	s.Handle(rpc.KVApply, s.kvApply)
	s.Handle(rpc.CatalogRegister, s.register)
	s.Handle(rpc.CatalogDeregister, s.deregister)
	s.Handle(rpc.CatalogSync, s.catalogSync)
	s.Handle(rpc.CatalogDatacenters, s.datacenters)
	s.Handle(rpc.CatalogNodes, s.nodes)
	s.Handle(rpc.CatalogServices, s.services)
	s.Handle(rpc.CatalogServiceNodes, s.serviceNodes)
	s.Handle(rpc.CatalogConnectNodes, s.connectNodes)
	s.Handle(rpc.CatalogNodeServices, s.nodeServices)
	s.Handle(rpc.CatalogNodeServiceList, s.nodeServiceList)
	s.Handle(rpc.CatalogNode, s.node)
	s.Handle(rpc.CatalogByAddress, s.byAddress)
	s.Handle(rpc.HealthNode, s.healthNode)
	s.Handle(rpc.HealthChecks, s.healthChecks)
	s.Handle(rpc.HealthService, s.healthService)
	s.Handle(rpc.HealthConnect, s.healthConnect)
	s.Handle(rpc.HealthState, s.healthState)
	s.Handle(rpc.StatusLeader, s.statusLeader)
	s.Handle(rpc.StatusPeers, s.statusPeers)
	s.Handle(rpc.StatusServer, s.statusServer)
	s.Handle(rpc.SessionList, s.sessionList)
	s.Handle(rpc.SessionGet, s.sessionGet)
	s.Handle(rpc.SessionNode, s.sessionNode)
	s.Handle(rpc.SessionCreate, s.sessionCreate)
	s.Handle(rpc.SessionDestroy, s.sessionDestroy)
	s.Handle(rpc.SessionRenew, s.sessionRenew)
	s.Handle(rpc.AutopilotConfig, s.autopilotConfig)
	s.Handle(rpc.AutopilotSetConfig, s.autopilotSetConfig)
	s.Handle(rpc.RaftConfiguration, s.raftConfiguration)
	s.Handle(rpc.OperatorUsage, s.usage)
	s.Handle(rpc.CoordinateNodes, s.coordinateNodes)
	s.Handle(rpc.CoordinateNode, s.coordinateNode)
	s.Handle(rpc.CoordinateDatacenters, s.coordinateDatacenters)
	s.Handle(rpc.TxnApply, s.txnApply)
	s.Handle(rpc.TxnRead, s.txnRead)
	s.Handle(rpc.QueryApply, s.queryApply)
	s.Handle(rpc.QueryGet, s.queryGet)
	s.Handle(rpc.QueryList, s.queryList)
	s.Handle(rpc.QueryExecute, s.queryExecute)
	s.Handle(rpc.QueryExplain, s.queryExplain)
	s.Handle(rpc.QueryExecuteHere, s.queryExecuteHere)
	return s, nil
}

// Handle sets the function of a method. All calls come before the first Do.
func (s *Set) Handle(id rpc.MethodID, f rpc.DoerFunc) {
	if id >= maxMethod {
		panic(fmt.Sprintf("endpoint: method %d is beyond the table of %d", id, maxMethod))
	}
	s.methods[id] = f
}

// IsLeader reports whether this server leads.
func (s *Set) IsLeader() bool { return s.raft.IsLeader() }

// Stop ends all blocking queries, those under way and those to come, with an
// error that lets callers go on at another server.
func (s *Set) Stop() {
	s.stopOnce.Do(func() {
		close(s.stopc)
		if a := s.access.Load(); a != nil {
			a.tellCounts(a.failures.take(true))
		}
	})
}

// Do runs a request here.
func (s *Set) Do(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	m := rpc.Lookup(req.Method)
	if m == nil || req.Method >= maxMethod {
		return nil, store.Errorf(store.KindInvalid, "unknown method %d: the caller is newer than this server", req.Method)
	}
	if m.LocalOnly && req.Origin == rpc.FromWAN {
		return nil, store.Errorf(store.KindPermissionDenied, "Permission denied: %s is not for other datacenters (called by %s)", m.Name, req.Peer)
	}
	f := s.methods[req.Method]
	if f == nil {
		return nil, store.Errorf(store.KindNotBuilt, "%s is not built yet", m.Name)
	}
	counted := &s.metrics.methods[req.Method]
	if s.cfg.Tokens != nil {
		own, err := s.identify(ctx, m, req)
		if err != nil {
			counted.failed.Add(1)
			var who *acl.Bearer
			if own != nil {
				who = own.Bearer
			}
			s.refused(req, who, err)
			return nil, err
		}
		req = own
	}
	var begin time.Time
	if counted.seconds != nil {
		begin = time.Now()
	}
	resp, err := f(ctx, req)
	if counted.seconds != nil {
		counted.seconds.Observe(time.Since(begin))
	}
	if err != nil {
		counted.failed.Add(1)
		if !audits(req.Method) {
			s.refused(req, req.Bearer, err)
		}
		return nil, err
	}
	counted.ok.Add(1)
	return resp, nil
}
