package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landbridge/federation/dnsapi"
	"landbridge/federation/trust"
	"landbridge/federation/watch"
	"landbridge/forwarding"
	"landbridge/lan/agent"
	"landbridge/lan/stream"
	"landbridge/store"
)

// Config is everything one agent needs to know, as plain values: defaults are
// filled in and addresses resolved. It is made once by cmd/internal/config; no
// component reads files or the environment for settings.
type Config struct {
	// Identity.
	NodeName   string
	NodeID     string // UUID; "" = the one persisted in DataDir, made on first start
	HostNodeID bool   // make the ID from the machine's when there is none yet (disable_host_node_id = false)
	NodeMeta   map[string]string
	Datacenter string
	Primary    string // primary_datacenter, "" = undecided (see DESIGN, "Who is primary")
	Domain     string // "consul", without the final dot
	AltDomain  string
	Version    string // compatibility version announced to clients: "1.21.4"
	Release    string // landbridge's own version

	// Role.
	Server          bool
	Bootstrap       bool
	BootstrapExpect int
	DevMode         bool   // nothing on disk
	DataDir         string // "" only with DevMode

	// Addresses. Ports that are off are -1 (and their address lists empty).
	BindAddr     netip.Addr // 0.0.0.0 for all
	AdvertiseLAN netip.Addr
	AdvertiseWAN netip.Addr
	SerfLANBind  netip.Addr // serf_lan; the zero Addr means BindAddr
	SerfWANBind  netip.Addr
	// Members with addresses elsewhere are refused; nil allows all.
	SerfLANAllowed []netip.Prefix
	SerfWANAllowed []netip.Prefix
	Ports          Ports
	HTTPAddrs      []ListenAddr
	HTTPSAddrs     []ListenAddr
	DNSAddrs       []ListenAddr
	UnixSocket     UnixSocket
	TranslateWAN   bool // translate_wan_addrs
	FederationOff  bool // federation.enabled = false, or ports.serf_wan = -1

	// WAN.
	FederationAdvertisePort int  // 0 = Ports.SerfWAN
	EnrollByKey             bool // federation.enroll_by_key
	KVReplication           []KVCopy
	StaleIfError            time.Duration
	DNSStaleIfError         time.Duration // dns_config.stale_if_error
	StaleCacheBytes         int64         // federation.stale_cache_bytes; 0: 32 MB
	AllowUnauthenticated    bool
	Relay                   bool   // federation.relay: carry calls between other datacenters
	TrustDomainID           string // connect.ca_config.cluster_id, "" = made by the first leader
	ConnectEnabled          bool

	// Joining.
	RetryJoinLAN     []string // start_join and retry_join, "host:port" or "host"
	RetryJoinWAN     []string
	RetryInterval    time.Duration
	RetryIntervalWAN time.Duration
	RetryMax         int // 0 = for ever
	RetryMaxWAN      int
	RejoinAfterLeave bool

	// Leaving.
	LeaveOnTerminate     bool
	SkipLeaveOnInterrupt bool
	LeaveDrainTime       time.Duration
	ReconnectTimeoutLAN  time.Duration
	ReconnectTimeoutWAN  time.Duration
	// AdvertiseReconnectTimeout replaces the others' ReconnectTimeoutLAN for this
	// client agent; 0 does not.
	AdvertiseReconnectTimeout time.Duration
	// ServerRejoinAgeMax: a server that was away for longer does not start; 0 is
	// no limit.
	ServerRejoinAgeMax time.Duration

	// Gossip encryption: base64-decoded, 16, 24 or 32 bytes; nil = none.
	EncryptKey         []byte
	AllowPlainGossip   bool // encrypt_verify_incoming = false
	SendPlainGossip    bool // encrypt_verify_outgoing = false
	DisableKeyringFile bool
	GossipLAN          Gossip
	GossipWAN          Gossip
	DisableCoordinates bool // neither measured nor told
	RemoteExec         bool // run what `landbridge exec` sends

	// Raft.
	RaftMultiplier        int
	RaftSnapshotThreshold int
	RaftSnapshotInterval  time.Duration
	RaftTrailingLogs      int
	Autopilot             store.AutopilotConfig // initial values
	RPCHoldTimeout        time.Duration

	// TLS. Functions, so that files can be read again on reload.
	LANTLS   *TLS // tls.internal_rpc
	HTTPSTLS *TLS // tls.https
	// OperatorCerts are the files of tls.internal_rpc: certificates that an
	// operator issued replace the built-in authority on the WAN.
	OperatorCerts trust.Operator

	Limits Limits
	DNS    DNS
	HTTP   HTTP
	Cache  Cache
	// UseStreaming is use_streaming_backend.
	UseStreaming bool

	ACL ACL

	// Queries.
	DefaultQueryTime  time.Duration
	MaxQueryTime      time.Duration
	DiscoveryMaxStale time.Duration
	SessionTTLMin     time.Duration

	// Agent.
	Services            []agent.ServiceDefinition // from files
	Checks              []agent.CheckDefinition
	Watches             []watch.Definition
	CheckUpdateInterval time.Duration
	CheckOutputMaxSize  int
	DiscardCheckOutput  bool

	EnableScriptChecks      bool
	EnableLocalScriptChecks bool
	CheckTLS                func() (*tls.Config, error) // enable_agent_tls_for_checks; nil: off
	DockerHost              string                      // as the variable DOCKER_HOST has it
	DockerTLS               func() (*tls.Config, error) // nil: without TLS
	SystemBus               string                      // as the variable DBUS_SYSTEM_BUS_ADDRESS has it

	EnableDebug bool
	HostMetrics bool // telemetry.enable_host_metrics

	// DebugConfig is shown by /v1/agent/self: runtime settings without secrets.
	DebugConfig map[string]any

	// Supervisor takes what is to be told to the service manager, in the words of
	// sd_notify; nil = there is none. WatchdogInterval is how often it wants to hear
	// that the main loops go round, 0 = never.
	Supervisor       func(state string) error
	WatchdogInterval time.Duration

	// Dependencies.
	Logger     *slog.Logger
	LogStream  LogStream // what `monitor` follows; nil = monitor is refused
	Registerer prometheus.Registerer
	Gatherer   prometheus.Gatherer
	// MetricsSummary is the JSON form of /v1/agent/metrics; nil = refused.
	MetricsSummary func() (any, error)
	// MetricsFollow calls each with every interval that ends, until ctx does or each
	// fails; nil = refused.
	MetricsFollow func(ctx context.Context, each func(any) error) error
	// Reload reads the configuration again for SIGHUP and the API; nil = refused.
	Reload func() (*Config, error)
	// Reloaded is called on what Reload returned, once the node has taken it over:
	// for what the process holds itself.
	Reloaded func()
	// Network replaces sockets in tests; nil = the real ones.
	Network Network
}

// ACL is the acl stanza. The zero value is ACLs off.
type ACL struct {
	Enabled                      bool
	DefaultPolicy                string // "allow" or "deny"
	DownPolicy                   string // "allow", "deny", "extend-cache" or "async-cache"
	TokenTTL, PolicyTTL, RoleTTL time.Duration
	KeyListPolicy                bool
	TokenReplication             bool
	HashedSecrets                bool // acl.replicate_secrets = "hashed"
	TokenPersistence             bool
	Guard                        *ACLGuard // nil: the default
	Tokens                       ACLTokens
	// Audit keeps a line about each write of access control that this server carries
	// out (endpoint.AuditLine); nil: none are kept.
	Audit func(line []byte) error
}

// ACLGuard is acl.replication_guard: how many deletions that are only inferred wait
// for nobody.
type ACLGuard struct {
	Min   int
	Share float64
}

// ACLTokens are the secrets that this agent was given; "" is none.
type ACLTokens struct {
	InitialManagement string
	Default           string
	Agent             string
	AgentRecovery     string
	Replication       string
	FileRegistration  string
	DNS               string
}

// ACLPrimary says whether this datacenter owns the ACLs.
func (c *Config) ACLPrimary() bool { return c.Primary == "" || c.Primary == c.Datacenter }

// Ports are the numbers of the spec (config.md 2); -1 is off.
type Ports struct {
	DNS, HTTP, HTTPS, GRPC, GRPCTLS, SerfLAN, SerfWAN, Server int
	SidecarMin, SidecarMax                                    int // of sidecars that name none
}

// ListenAddr is where a front end listens: an address and port, or a socket file.
type ListenAddr struct {
	AddrPort netip.AddrPort
	Unix     string
}

func (a ListenAddr) String() string {
	if a.Unix != "" {
		return "unix://" + a.Unix
	}
	return a.AddrPort.String()
}

// UnixSocket is how socket files are made (unix_sockets).
type UnixSocket struct {
	User, Group, Mode string
}

// Gossip holds a pool's timings (gossip_lan, gossip_wan); zero = the pool's default.
type Gossip struct {
	GossipNodes    int
	GossipInterval time.Duration
	ProbeInterval  time.Duration
	ProbeTimeout   time.Duration
	RetransmitMult int
	SuspicionMult  int
}

// Verify is what a block of the tls stanza says about peers.
type Verify = stream.Verify

// TLS is one block of the tls stanza, as functions that read the current files.
type TLS struct {
	Server func() (*tls.Config, error)
	Client func() (*tls.Config, error)
	Verify func() Verify // verify_incoming, _outgoing and _server_hostname as they are now
}

// Limits bounds what others may cost us (limits stanza).
type Limits struct {
	HTTPMaxConnsPerClient int
	HTTPSHandshakeTimeout time.Duration
	RPCHandshakeTimeout   time.Duration
	RPCMaxConnsPerClient  int
	RPCClientTimeout      time.Duration
	KVMaxValueSize        int64
	TxnMaxReqLen          int64 // 0: KVMaxValueSize
	// RPCRate and RPCMaxBurst bound what a client agent sends to servers; a rate at or
	// below 0 is no limit.
	RPCRate     float64
	RPCMaxBurst int
	// Requests bounds what a server takes from other agents.
	Requests forwarding.RequestLimits
}

// RequestLimits makes Limits.Requests of its settings. A mode that is none is
// disabled: who reads the configuration has refused it.
func RequestLimits(mode string, reads, writes float64) forwarding.RequestLimits {
	m, err := forwarding.ParseLimitMode(mode)
	if err != nil {
		m = forwarding.LimitDisabled
	}
	return forwarding.RequestLimits{Mode: m, ReadRate: reads, WriteRate: writes}
}

// DNS is the dns_config stanza, and limits.dns_*.
type (
	DNS     = dnsapi.Settings
	DNSRate = dnsapi.Rate
)

// HTTP is the http_config stanza.
type HTTP struct {
	BlockEndpoints     []string
	AllowWriteHTTPFrom []netip.Prefix
	ResponseHeaders    map[string]string
	MaxHeaderBytes     int
	AllowUnprintable   bool // disable_http_unprintable_char_filter
	UseCache           bool // false: ?cached says nothing
}

// Cache is the cache stanza: how often a view may be fetched; a rate at or below 0
// is no limit.
type Cache struct {
	EntryFetchRate     float64
	EntryFetchMaxBurst int
}

// LogStream gives a copy of the log to a follower: lines of at least level,
// text or JSON, until cancel. A slow follower loses lines, never blocks.
type LogStream interface {
	Follow(level slog.Level, json bool) (lines <-chan []byte, cancel func())
}

var datacenterRE = regexp.MustCompile(`^[a-z0-9_-]+$`)

// Validate reports every problem, each with the user's own key.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	if strings.TrimSpace(c.NodeName) == "" {
		bad("node_name cannot be empty")
	}
	if !datacenterRE.MatchString(c.Datacenter) {
		bad("datacenter can only contain lowercase alphanumeric, - or _ characters. received: %q", c.Datacenter)
	}
	if c.DataDir == "" && !c.DevMode {
		bad("data_dir cannot be empty")
	}
	if c.Bootstrap && c.BootstrapExpect > 0 {
		bad("'bootstrap_expect > 0' and 'bootstrap = true' are mutually exclusive")
	}
	if !c.Server && (c.Bootstrap || c.BootstrapExpect > 0) {
		bad("'bootstrap' and 'bootstrap_expect' need 'server = true'")
	}
	if c.RaftMultiplier < 1 || c.RaftMultiplier > 10 {
		bad("performance.raft_multiplier cannot be %d. Must be between 1 and 10", c.RaftMultiplier)
	}
	if n := len(c.EncryptKey); n != 0 && n != 16 && n != 24 && n != 32 {
		bad("encrypt has invalid key: must be 16, 24 or 32 bytes, has %d", n)
	}
	if !c.BindAddr.IsValid() {
		bad("bind_addr cannot be empty")
	}
	if !c.AdvertiseLAN.IsValid() || c.AdvertiseLAN.IsUnspecified() {
		bad("advertise_addr cannot be %s", c.AdvertiseLAN)
	}
	if c.Logger == nil || c.Registerer == nil {
		bad("node: Logger and Registerer are required")
	}
	return errors.Join(errs...)
}

// Federated says whether this agent takes part in the WAN.
func (c *Config) Federated() bool { return c.Server && !c.FederationOff }
