package httpapi

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landbridge/forwarding/rpc"
	"landbridge/forwarding/view"
	"landbridge/lan/agent"
)

// Config is what a Server needs. Do, Agent, Local, Datacenter, NodeName, Logger
// and Registerer are required; zero limits mean none, except KVMaxValueSize and TxnMaxReqLen.
type Config struct {
	Do    rpc.Doer // the dispatcher
	Cache Cache    // answers ?cached; nil: the parameter says nothing
	// Bounded answers reads that take an older answer while their datacenter is
	// away; nil: ?stale-if-error says nothing.
	Bounded Bounded
	Agent   Agent        // this process
	Local   *agent.Agent // its services and checks

	Datacenter string
	NodeName   string
	Version    Version

	// ACL says who asks; nil: ACLs are off, and everything is allowed.
	ACL ACL
	// DefaultDeny is acl.default_policy = "deny", which answers tell.
	DefaultDeny bool
	// DefaultToken is for requests without one: acl.tokens.default as it is now. nil,
	// or "": they are anonymous.
	DefaultToken func() string

	// DevMode indents every JSON answer, as -dev does.
	DevMode bool
	// TranslateWAN asks for WAN addresses of other datacenters (translate_wan_addrs).
	TranslateWAN bool
	// Streaming names the backend of health answers that are followed as clients
	// expect it (use_streaming_backend).
	Streaming bool

	DefaultQueryTime, MaxQueryTime time.Duration // 0: 5 and 10 minutes

	KVMaxValueSize      int64 // limits.kv_max_value_size; 0: 512 KiB
	TxnMaxReqLen        int64 // limits.txn_max_req_len; 0: KVMaxValueSize
	AllowUnprintable    bool  // disable_http_unprintable_char_filter
	MaxHeaderBytes      int   // http_config.max_header_bytes; 0: 1 MiB
	TLSHandshakeTimeout time.Duration

	BlockEndpoints  []string          // path prefixes that answer 403
	AllowWriteFrom  []netip.Prefix    // sources of everything but GET and OPTIONS; nil: any
	ResponseHeaders map[string]string // added to every answer

	Reloadable

	LogStream  LogStream           // what agent/monitor follows; nil refuses it
	Gatherer   prometheus.Gatherer // what /metrics shows
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Cache answers reads with ?cached (forwarding/view).
type Cache interface {
	Cached(ctx context.Context, req *rpc.Request, c view.Control) (view.Answer, error)
}

// Bounded answers reads with ?stale-if-error (forwarding/view).
type Bounded interface {
	Bounded(ctx context.Context, req *rpc.Request, limit time.Duration) (view.Answer, error)
}

// Reloadable are the settings that Server.Reload can change.
type Reloadable struct {
	MaxConnsPerClient int // limits.http_max_conns_per_client
	DiscoveryMaxStale time.Duration
	EnableDebug       bool          // serves /debug/pprof/
	StaleIfError      time.Duration // what reads take that do not say (federation.stale_if_error)
}

// Version is what /v1/agent/version says.
type Version struct {
	SHA          string
	BuildDate    time.Time
	HumanVersion string // the version of the interface, x.y.z
	Release      string // landbridge's own
}

// LogStream gives a copy of the log to a follower: lines of at least level, as
// text or JSON, until cancel. A slow follower loses lines, never blocks.
type LogStream interface {
	Follow(level slog.Level, json bool) (lines <-chan []byte, cancel func())
}

// Agent is what the front end asks of the process it runs in. Errors are shown
// to the caller with their own words; without a kind their status is 500.
type Agent interface {
	Self(ctx context.Context) (*Self, error)
	// Members returns the LAN pool or, with wan, the WAN pool: nil on an agent
	// that is not in it.
	Members(ctx context.Context, wan bool) ([]Member, error)
	// Join adds this agent (or, with wan, its datacenter) to the pool of addr.
	Join(ctx context.Context, addr string, wan bool) error
	// Leave leaves the pools and returns; the process ends some time after.
	Leave(ctx context.Context) error
	ForceLeave(ctx context.Context, node string, prune, wan bool) error
	Reload(ctx context.Context) error
	// MetricsJSON is the body of /v1/agent/metrics (spec http-agent 4).
	MetricsJSON(ctx context.Context) ([]byte, error)
	// MetricsFollow calls each with that body, and a newline, whenever an interval
	// ends, until ctx does or each fails. An error comes before the first call.
	MetricsFollow(ctx context.Context, each func(line []byte) error) error
	// Host is the body of /v1/agent/host: the machine. It is encoded as JSON.
	Host(ctx context.Context) (any, error)
	// Federation is the body of /v1/internal/federation: which datacenters and
	// servers there are, which answer, and how far they are. It is encoded as JSON.
	Federation(ctx context.Context, token string) (any, error)
}

// Member is a member of a gossip pool (spec http-agent 3).
type Member struct {
	Name        string
	Addr        string
	Port        uint16
	Tags        map[string]string
	Status      int // 1 alive, 2 leaving, 3 left, 4 failed
	ProtocolMin uint8
	ProtocolMax uint8
	ProtocolCur uint8
	DelegateMin uint8
	DelegateMax uint8
	DelegateCur uint8
}

// Self is the body of /v1/agent/self (spec http-agent 2).
type Self struct {
	Config      SelfConfig
	DebugConfig map[string]any
	Coord       any // the agent's network coordinate, or nil
	Member      Member
	Stats       map[string]map[string]string
	Meta        map[string]string
	XDS         *XDS `json:"xDS,omitempty"`
}

// SelfConfig is what discovery tools read of an agent's configuration.
type SelfConfig struct {
	Datacenter        string
	PrimaryDatacenter string
	NodeName          string
	NodeID            string
	Revision          string
	Server            bool
	Version           string
	BuildDate         string
	Release           string // landbridge's own version
}

// XDS says which proxies are configured; absent while none can be.
type XDS struct {
	SupportedProxies map[string][]string
	Port             int
	Ports            XDSPorts
}

// XDSPorts are the ports of the mesh's gRPC server.
type XDSPorts struct {
	Plaintext int
	TLS       int
}
