package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landbridge/lan/agent/check"
	"landbridge/store"
)

// Registrar is the catalog as the agent sees it: usually a server somewhere in
// the datacenter. Errors are or wrap a *store.Error: permission denied and
// invalid are final for the item they concern, all others are tried again.
//
// It is called concurrently, with contexts that end after a few seconds.
type Registrar interface {
	// Sync makes changes, in order, and returns an error for each, nil for those
	// made; or one error if it knows of none. An empty token stands for the
	// agent's own.
	Sync(ctx context.Context, batch *store.CatalogBatch) ([]error, error)
	// NodeServices returns the node's record and services, nil if the catalog
	// does not know it. The read may be stale.
	NodeServices(ctx context.Context, node string) (*store.NodeServices, error)
	// NodeChecks returns all checks of the node, its services' too.
	NodeChecks(ctx context.Context, node string) ([]*store.Check, error)
	// WatchNodeChecks is NodeChecks that waits for a change after index, at most for
	// wait; an index of 0 waits for nothing. The read may be stale. It returns the
	// index of what it read.
	WatchNodeChecks(ctx context.Context, node, token string, index store.Index, wait time.Duration) ([]*store.Check, store.Index, error)
}

// Config is what an Agent needs. Node, NodeInfo and Registrar are required.
type Config struct {
	Node       string // name
	Datacenter string
	// NodeInfo returns the node's record as it should be in the catalog: id,
	// name, address, tagged addresses, meta. NodeChanged tells that it differs.
	NodeInfo  func() *store.Node
	Registrar Registrar
	// Token is the secret for services and checks that have none of their own, and
	// whether they come from files may matter; nil, or "": the agent's own.
	Token func(fromFile bool) string
	// Server: this node runs a server, so the service "consul" and its checks
	// belong to the leader and are left alone.
	Server bool
	// ClusterSize is the number of LAN members; it stretches the full sync.
	ClusterSize func() int
	// DataDir holds the definitions registered through the API; "" keeps them in
	// memory only, and forgets them at a reload.
	DataDir string

	CheckUpdateInterval     time.Duration // pushes of output-only changes wait about so long; default 5m
	CheckOutputMaxSize      int           // bytes; default 4096
	DiscardCheckOutput      bool
	EnableScriptChecks      bool // programs may be run, whoever asks for it
	EnableLocalScriptChecks bool // programs of checks from files may be run
	// CheckTLS returns the agent's own certificate and authorities for checks to
	// use; nil: checks have none (enable_agent_tls_for_checks).
	CheckTLS  func() (*tls.Config, error)
	Docker    check.Engine
	SystemBus string     // address of the D-Bus system bus; "" is the usual one
	CheckDial check.Dial // for tests; nil: the network

	// SidecarMinPort and SidecarMaxPort bound the ports that sidecars get which name
	// none; default 21000 to 21255, 0 for none.
	SidecarMinPort, SidecarMaxPort int

	// RegisterWait is how long a registration waits for the catalog; default 10s.
	RegisterWait time.Duration

	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil: not registered
}

const (
	defaultCheckUpdateInterval = 5 * time.Minute
	defaultOutputMaxSize       = 4096
	defaultRegisterWait        = 10 * time.Second

	fullSyncInterval = time.Minute      // in clusters of up to fullSyncScale members
	fullSyncScale    = 128              // members above which the interval grows
	callTimeout      = 20 * time.Second // one call of the Registrar
	retryMin         = time.Second
	retryMax         = 15 * time.Second // plus up to as much again at random
	serverUpDelay    = 3 * time.Second  // full sync after a server came: 0 to this
	reapInterval     = 30 * time.Second
	minReapAfter     = time.Minute
	minCheckInterval = time.Second
	maxScripts       = 64 // scripts of checks that run at once
)

// Validate reports everything that is missing.
func (c *Config) Validate() error {
	var errs []error
	if c.Node == "" {
		errs = append(errs, errors.New("agent: Node is required"))
	}
	if c.NodeInfo == nil {
		errs = append(errs, errors.New("agent: NodeInfo is required"))
	}
	if c.Registrar == nil {
		errs = append(errs, errors.New("agent: Registrar is required"))
	}
	return errors.Join(errs...)
}

func (c *Config) setDefaults() {
	if c.ClusterSize == nil {
		c.ClusterSize = func() int { return 1 }
	}
	if c.CheckUpdateInterval < 0 {
		c.CheckUpdateInterval = 0
	} else if c.CheckUpdateInterval == 0 {
		c.CheckUpdateInterval = defaultCheckUpdateInterval
	}
	if c.CheckOutputMaxSize <= 0 {
		c.CheckOutputMaxSize = defaultOutputMaxSize
	}
	if c.RegisterWait <= 0 {
		c.RegisterWait = defaultRegisterWait
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}
