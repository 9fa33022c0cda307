package config

import (
	"net/netip"
	"time"
)

// Config is an agent's configuration: defaults filled in, addresses resolved.
// Fields carry the name of their key; `reload` marks those a running agent
// takes over on SIGHUP. Pointers are keys whose absence means something.
type Config struct {
	Datacenter        string            `key:"datacenter"`
	PrimaryDatacenter string            `key:"primary_datacenter"`
	NodeName          string            `key:"node_name"`
	NodeID            string            `key:"node_id"`
	DisableHostNodeID bool              `key:"disable_host_node_id"`
	NodeMeta          map[string]string `key:"node_meta" reload:"yes"`
	DataDir           string            `key:"data_dir"`
	Domain            string            `key:"domain"`
	AltDomain         string            `key:"alt_domain"`

	Server          bool `key:"server"`
	Bootstrap       bool `key:"bootstrap"`
	BootstrapExpect int  `key:"bootstrap_expect"`

	BindAddr         string    `key:"bind_addr"`
	ClientAddr       string    `key:"client_addr"`
	AdvertiseAddr    string    `key:"advertise_addr"`
	AdvertiseAddr4   string    `key:"advertise_addr_ipv4"`
	AdvertiseAddr6   string    `key:"advertise_addr_ipv6"`
	AdvertiseAddrWAN string    `key:"advertise_addr_wan"`
	AdvertiseWAN4    string    `key:"advertise_addr_wan_ipv4"`
	AdvertiseWAN6    string    `key:"advertise_addr_wan_ipv6"`
	SerfLAN          string    `key:"serf_lan"`
	SerfWAN          string    `key:"serf_wan"`
	SerfLANAllowed   []string  `key:"serf_lan_allowed_cidrs"`
	SerfWANAllowed   []string  `key:"serf_wan_allowed_cidrs"`
	TranslateWAN     bool      `key:"translate_wan_addrs"`
	Addresses        Addresses `key:"addresses"`
	Ports            Ports     `key:"ports"`
	UnixSockets      struct {
		User  string `key:"user"`
		Group string `key:"group"`
		Mode  string `key:"mode"`
	} `key:"unix_sockets"`

	RetryJoin        []string      `key:"retry_join"`
	RetryJoinWAN     []string      `key:"retry_join_wan"`
	RetryInterval    time.Duration `key:"retry_interval"`
	RetryIntervalWAN time.Duration `key:"retry_interval_wan"`
	RetryMax         int           `key:"retry_max"`
	RetryMaxWAN      int           `key:"retry_max_wan"`
	RejoinAfterLeave bool          `key:"rejoin_after_leave"`

	LeaveOnTerminate     *bool         `key:"leave_on_terminate"`
	SkipLeaveOnInterrupt *bool         `key:"skip_leave_on_interrupt"`
	ReconnectTimeout     time.Duration `key:"reconnect_timeout"`
	ReconnectTimeoutWAN  time.Duration `key:"reconnect_timeout_wan"`
	AdvertiseReconnect   time.Duration `key:"advertise_reconnect_timeout"`
	ServerRejoinAgeMax   time.Duration `key:"server_rejoin_age_max"`

	Encrypt            string `key:"encrypt"`
	EncryptIncoming    bool   `key:"encrypt_verify_incoming"`
	EncryptOutgoing    bool   `key:"encrypt_verify_outgoing"`
	DisableKeyringFile bool   `key:"disable_keyring_file"`
	DisableCoordinates bool   `key:"disable_coordinates"`
	DisableRemoteExec  bool   `key:"disable_remote_exec"`
	GossipLAN          Gossip `key:"gossip_lan"`
	GossipWAN          Gossip `key:"gossip_wan"`

	Performance struct {
		RaftMultiplier int           `key:"raft_multiplier"`
		LeaveDrainTime time.Duration `key:"leave_drain_time"`
		RPCHoldTimeout time.Duration `key:"rpc_hold_timeout"`
	} `key:"performance"`
	RaftSnapshotThreshold int           `key:"raft_snapshot_threshold" reload:"yes"`
	RaftSnapshotInterval  time.Duration `key:"raft_snapshot_interval" reload:"yes"`
	RaftTrailingLogs      int           `key:"raft_trailing_logs" reload:"yes"`
	Autopilot             Autopilot     `key:"autopilot"`

	ACL        ACL        `key:"acl"`
	TLS        TLS        `key:"tls"`
	ServerName string     `key:"server_name"`
	Federation Federation `key:"federation"`

	KVReplication []KVReplication `key:"kv_replication" reload:"yes"`
	Connect       Connect         `key:"connect"`
	Limits        Limits          `key:"limits"`
	HTTP          HTTP            `key:"http_config"`
	Unprintable   bool            `key:"disable_http_unprintable_char_filter"`
	DNS           DNS             `key:"dns_config" reload:"yes"`
	Cache         Cache           `key:"cache" reload:"yes"`
	Streaming     bool            `key:"use_streaming_backend"`
	Recursors     []string        `key:"recursors" reload:"yes"`

	DefaultQueryTime  time.Duration `key:"default_query_time"`
	MaxQueryTime      time.Duration `key:"max_query_time"`
	DiscoveryMaxStale time.Duration `key:"discovery_max_stale" reload:"yes"`
	SessionTTLMin     time.Duration `key:"session_ttl_min"`

	Services            []Service     `key:"services" reload:"yes"`
	Checks              []Check       `key:"checks" reload:"yes"`
	Watches             []Watch       `key:"watches" reload:"yes"`
	CheckUpdateInterval time.Duration `key:"check_update_interval"`
	CheckOutputMaxSize  int           `key:"check_output_max_size"`
	DiscardCheckOutput  bool          `key:"discard_check_output" reload:"yes"`

	EnableScriptChecks      bool `key:"enable_script_checks"`
	EnableLocalScriptChecks bool `key:"enable_local_script_checks"`
	EnableAgentTLSForChecks bool `key:"enable_agent_tls_for_checks"`

	EnableDebug bool      `key:"enable_debug" reload:"yes"`
	Telemetry   Telemetry `key:"telemetry"`

	LogLevel          string        `key:"log_level" reload:"yes"`
	LogJSON           bool          `key:"log_json"`
	LogFile           string        `key:"log_file"`
	LogRotateBytes    int           `key:"log_rotate_bytes"`
	LogRotateDuration time.Duration `key:"log_rotate_duration"`
	LogRotateMaxFiles int           `key:"log_rotate_max_files"`
	EnableSyslog      bool          `key:"enable_syslog"`
	SyslogFacility    string        `key:"syslog_facility"`
	AutoReload        bool          `key:"auto_reload_config"`
	PidFile           string        `key:"pid_file"`

	Protocol     int `key:"protocol"`
	RaftProtocol int `key:"raft_protocol"`

	// Derived; no keys of their own.

	Dev      bool       // -dev: everything in memory
	Bind     netip.Addr // bind_addr
	LAN, WAN netip.Addr // what others are told to call: advertise_addr, advertise_addr_wan
	SerfBind struct {   // serf_lan and serf_wan; the zero Addr means Bind
		LAN, WAN netip.Addr
	}
	Listen Listen // where the front ends listen
	Key    []byte // encrypt, decoded
}

// Addresses are the front ends' own bind addresses; "" means client_addr.
type Addresses struct {
	DNS   string `key:"dns"`
	HTTP  string `key:"http"`
	HTTPS string `key:"https"`
}

// Ports that are off are -1.
type Ports struct {
	DNS     int `key:"dns"`
	HTTP    int `key:"http"`
	HTTPS   int `key:"https"`
	SerfLAN int `key:"serf_lan"`
	SerfWAN int `key:"serf_wan"`
	Server  int `key:"server"`
	// Sidecars that name no port get one of these.
	SidecarMin int `key:"sidecar_min_port"`
	SidecarMax int `key:"sidecar_max_port"`
}

// Gossip holds a pool's timings; zero is the pool's own default.
type Gossip struct {
	GossipNodes    int           `key:"gossip_nodes"`
	GossipInterval time.Duration `key:"gossip_interval"`
	ProbeInterval  time.Duration `key:"probe_interval"`
	ProbeTimeout   time.Duration `key:"probe_timeout"`
	RetransmitMult int           `key:"retransmit_mult"`
	SuspicionMult  int           `key:"suspicion_mult"`
}

// Autopilot holds the initial values; later ones live in the Raft state.
type Autopilot struct {
	CleanupDeadServers      bool          `key:"cleanup_dead_servers"`
	LastContactThreshold    time.Duration `key:"last_contact_threshold"`
	MaxTrailingLogs         int           `key:"max_trailing_logs"`
	MinQuorum               int           `key:"min_quorum"`
	ServerStabilizationTime time.Duration `key:"server_stabilization_time"`
}

// ACL is the acl stanza.
type ACL struct {
	Enabled                bool          `key:"enabled"`
	DefaultPolicy          string        `key:"default_policy"`
	DownPolicy             string        `key:"down_policy"`
	TokenTTL               time.Duration `key:"token_ttl"`
	PolicyTTL              time.Duration `key:"policy_ttl"`
	RoleTTL                time.Duration `key:"role_ttl"`
	EnableKeyListPolicy    bool          `key:"enable_key_list_policy"`
	EnableTokenReplication bool          `key:"enable_token_replication"`
	ReplicateSecrets       string        `key:"replicate_secrets"`
	EnableTokenPersistence bool          `key:"enable_token_persistence"`
	AuditFile              string        `key:"audit_file"`
	ReplicationGuard       struct {
		Min   int     `key:"min" reload:"yes"`
		Share float64 `key:"share" reload:"yes"`
	} `key:"replication_guard"`
	Tokens struct {
		InitialManagement string `key:"initial_management"`
		Default           string `key:"default" reload:"yes"`
		Agent             string `key:"agent" reload:"yes"`
		AgentRecovery     string `key:"agent_recovery" reload:"yes"`
		Replication       string `key:"replication" reload:"yes"`
		FileRegistration  string `key:"config_file_service_registration" reload:"yes"`
		DNS               string `key:"dns" reload:"yes"`
	} `key:"tokens"`
}

// TLS is the tls stanza: a specific block overrides Defaults field by field.
type TLS struct {
	Defaults    TLSBlock `key:"defaults"`
	HTTPS       TLSBlock `key:"https"`
	InternalRPC struct {
		TLSBlock
		VerifyServerHostname bool `key:"verify_server_hostname" reload:"yes"`
	} `key:"internal_rpc"`
}

// TLSBlock is one listener's part of the tls stanza.
type TLSBlock struct {
	CAFile         string   `key:"ca_file" reload:"yes"`
	CAPath         string   `key:"ca_path" reload:"yes"`
	CertFile       string   `key:"cert_file" reload:"yes"`
	KeyFile        string   `key:"key_file" reload:"yes"`
	MinVersion     string   `key:"tls_min_version"`
	CipherSuites   []string `key:"tls_cipher_suites"`
	VerifyIncoming *bool    `key:"verify_incoming" reload:"yes"`
	VerifyOutgoing *bool    `key:"verify_outgoing" reload:"yes"`
}

// Federation is landbridge's own stanza.
type Federation struct {
	Enabled              *bool `key:"enabled"`
	AdvertisePort        int   `key:"advertise_port"`
	EnrollByKey          *bool `key:"enroll_by_key" reload:"yes"` // by default what acl.enabled is not
	AllowUnauthenticated bool  `key:"allow_unauthenticated"`
	Relay                bool  `key:"relay"`

	StaleIfError    time.Duration `key:"stale_if_error" reload:"yes"`
	StaleCacheBytes int           `key:"stale_cache_bytes"`
}

// Connect is the part of the connect stanza that is there without a mesh.
type Connect struct {
	Enabled  bool `key:"enabled"`
	CAConfig struct {
		ClusterID string `key:"cluster_id"`
	} `key:"ca_config"`
}

// Limits bounds what others may cost us.
type Limits struct {
	HTTPMaxConnsPerClient int           `key:"http_max_conns_per_client" reload:"yes"`
	HTTPSHandshakeTimeout time.Duration `key:"https_handshake_timeout"`
	RPCHandshakeTimeout   time.Duration `key:"rpc_handshake_timeout"`
	RPCMaxConnsPerClient  int           `key:"rpc_max_conns_per_client" reload:"yes"`
	RPCClientTimeout      time.Duration `key:"rpc_client_timeout" reload:"yes"`
	RPCRate               float64       `key:"rpc_rate" reload:"yes"` // below 0: no limit
	RPCMaxBurst           int           `key:"rpc_max_burst" reload:"yes"`
	DNSRate               float64       `key:"dns_rate" reload:"yes"` // likewise
	DNSMaxBurst           int           `key:"dns_max_burst" reload:"yes"`
	KVMaxValueSize        int           `key:"kv_max_value_size"`
	TxnMaxReqLen          int           `key:"txn_max_req_len"`
	Requests              struct {
		Mode      string  `key:"mode"`
		ReadRate  float64 `key:"read_rate"` // below 0: no limit
		WriteRate float64 `key:"write_rate"`
	} `key:"request_limits" reload:"yes"`
}

// HTTP is the http_config stanza.
type HTTP struct {
	BlockEndpoints     []string          `key:"block_endpoints"`
	AllowWriteHTTPFrom []string          `key:"allow_write_http_from"`
	ResponseHeaders    map[string]string `key:"response_headers"`
	MaxHeaderBytes     int               `key:"max_header_bytes"`
	UseCache           bool              `key:"use_cache"`
}

// Cache is the cache stanza.
type Cache struct {
	EntryFetchRate     float64 `key:"entry_fetch_rate"` // at or below 0: no limit
	EntryFetchMaxBurst int     `key:"entry_fetch_max_burst"`
}

// DNS is the dns_config stanza.
type DNS struct {
	AllowStale         bool                     `key:"allow_stale"`
	MaxStale           time.Duration            `key:"max_stale"`
	NodeTTL            time.Duration            `key:"node_ttl"`
	ServiceTTL         map[string]time.Duration `key:"service_ttl"`
	EnableTruncate     bool                     `key:"enable_truncate"`
	OnlyPassing        bool                     `key:"only_passing"`
	RecursorStrategy   string                   `key:"recursor_strategy"`
	RecursorTimeout    time.Duration            `key:"recursor_timeout"`
	DisableCompression bool                     `key:"disable_compression"`
	UDPAnswerLimit     int                      `key:"udp_answer_limit"`
	ARecordLimit       int                      `key:"a_record_limit"`
	NodeMetaTXT        bool                     `key:"enable_additional_node_meta_txt"`
	UseCache           bool                     `key:"use_cache"`
	CacheMaxAge        time.Duration            `key:"cache_max_age"`
	StaleIfError       time.Duration            `key:"stale_if_error"`
	SOA                struct {
		Refresh int `key:"refresh"`
		Retry   int `key:"retry"`
		Expire  int `key:"expire"`
		MinTTL  int `key:"min_ttl"`
	} `key:"soa"`
}

// Telemetry is the telemetry stanza: the filters and names of the libraries below
// us, and where metrics are sent.
type Telemetry struct {
	MetricsPrefix   string   `key:"metrics_prefix"`
	DisableHostname bool     `key:"disable_hostname"`
	FilterDefault   bool     `key:"filter_default"`
	PrefixFilter    []string `key:"prefix_filter" reload:"yes"`

	StatsdAddr      string   `key:"statsd_address"`
	StatsiteAddr    string   `key:"statsite_address"`
	DogStatsdAddr   string   `key:"dogstatsd_addr"`
	DogStatsdTags   []string `key:"dogstatsd_tags"`
	RetryConnection bool     `key:"retry_failed_connection"`
	HostMetrics     bool     `key:"enable_host_metrics"`
}

// Listen is where the front ends listen; empty when their port is off.
type Listen struct {
	HTTP, HTTPS, DNS []Addr
}

// Addr is an address and port, or the path of a socket file.
type Addr struct {
	netip.AddrPort
	Unix string
}

// defaults are the values of keys nobody wrote.
func defaults() Config {
	var c Config
	c.Datacenter = "dc1"
	c.Domain = "consul."
	c.BindAddr = "0.0.0.0"
	c.ClientAddr = "127.0.0.1"
	c.Ports = Ports{DNS: 8600, HTTP: 8500, HTTPS: -1, SerfLAN: 8301, SerfWAN: 8302, Server: 8300, SidecarMin: 21000, SidecarMax: 21255}
	c.RetryInterval, c.RetryIntervalWAN = 30*time.Second, 30*time.Second
	c.ReconnectTimeout, c.ReconnectTimeoutWAN = 72*time.Hour, 72*time.Hour
	c.ServerRejoinAgeMax = 168 * time.Hour
	c.DisableHostNodeID = true
	c.EncryptIncoming, c.EncryptOutgoing = true, true
	c.GossipLAN = Gossip{GossipNodes: 3, GossipInterval: 200 * time.Millisecond, ProbeInterval: time.Second,
		ProbeTimeout: 500 * time.Millisecond, RetransmitMult: 4, SuspicionMult: 3}
	c.GossipWAN = Gossip{GossipNodes: 3, GossipInterval: 500 * time.Millisecond, ProbeInterval: 5 * time.Second,
		ProbeTimeout: 3 * time.Second, RetransmitMult: 4, SuspicionMult: 6}
	c.Performance.RaftMultiplier = 5
	c.Performance.LeaveDrainTime = 5 * time.Second
	c.Performance.RPCHoldTimeout = 7 * time.Second
	c.RaftSnapshotThreshold, c.RaftSnapshotInterval, c.RaftTrailingLogs = 16384, 30*time.Second, 10240
	c.Autopilot = Autopilot{CleanupDeadServers: true, LastContactThreshold: 200 * time.Millisecond,
		MaxTrailingLogs: 250, ServerStabilizationTime: 10 * time.Second}
	c.ACL.DefaultPolicy, c.ACL.DownPolicy, c.ACL.ReplicateSecrets = "allow", "extend-cache", "plain"
	c.ACL.ReplicationGuard.Min, c.ACL.ReplicationGuard.Share = 10, 0.05
	c.ACL.TokenTTL, c.ACL.PolicyTTL, c.ACL.RoleTTL = 30*time.Second, 30*time.Second, 30*time.Second
	c.Federation.StaleCacheBytes = 32 << 20
	c.Connect.Enabled = true
	c.Limits = Limits{HTTPMaxConnsPerClient: 200, HTTPSHandshakeTimeout: 5 * time.Second,
		RPCHandshakeTimeout: 5 * time.Second, RPCMaxConnsPerClient: 100, RPCClientTimeout: 60 * time.Second,
		RPCRate: -1, RPCMaxBurst: 1000, DNSRate: -1, DNSMaxBurst: 1000, KVMaxValueSize: 524288, TxnMaxReqLen: 524288}
	c.Limits.Requests.Mode, c.Limits.Requests.ReadRate, c.Limits.Requests.WriteRate = "disabled", -1, -1
	c.DNS = DNS{AllowStale: true, MaxStale: 87600 * time.Hour, RecursorStrategy: "sequential",
		RecursorTimeout: 2 * time.Second, UDPAnswerLimit: 3, NodeMetaTXT: true}
	c.HTTP.UseCache, c.Streaming = true, true
	c.Cache.EntryFetchMaxBurst = 2
	c.DNS.SOA.Refresh, c.DNS.SOA.Retry, c.DNS.SOA.Expire = 3600, 600, 86400
	c.DefaultQueryTime, c.MaxQueryTime = 300*time.Second, 600*time.Second
	c.SessionTTLMin = 10 * time.Second
	c.CheckUpdateInterval = 5 * time.Minute
	c.CheckOutputMaxSize = 4096
	c.DisableRemoteExec = true
	c.Telemetry = Telemetry{MetricsPrefix: "consul", FilterDefault: true, RetryConnection: true}
	c.LogLevel = "INFO"
	c.SyslogFacility = "LOCAL0"
	c.LogRotateDuration = 24 * time.Hour
	c.Protocol, c.RaftProtocol = 2, 3
	return c
}

// serverProbeInterval is the default of gossip_lan.probe_interval at servers. The
// time a suspect has is a multiple of it, and ends for all at the first member where
// it does.
const serverProbeInterval = 750 * time.Millisecond

// Client agents look for something to tell less often, since looking is most of what
// an idle one does, and then tell more members more of it: news are no later
// (docs/decisions/0033).
const (
	clientGossipInterval = 500 * time.Millisecond
	clientGossipNodes    = 8
	clientRetransmitMult = 5
)

// byRole sets the defaults that servers and client agents have for themselves, unless
// they were written.
func (g *Gossip) byRole(server bool, written tree) {
	if server {
		if written["probe_interval"] == nil && g.ProbeTimeout <= serverProbeInterval {
			g.ProbeInterval = serverProbeInterval
		}
		return
	}
	if written["gossip_interval"] == nil && written["gossip_nodes"] == nil && written["retransmit_mult"] == nil {
		g.GossipInterval, g.GossipNodes, g.RetransmitMult = clientGossipInterval, clientGossipNodes, clientRetransmitMult
	}
}

// devDefaults change the defaults for -dev: one server, in memory, on loopback.
func devDefaults(c *Config) {
	c.Dev = true
	c.Server, c.Bootstrap = true, true
	c.BindAddr = "127.0.0.1"
	c.LogLevel = "DEBUG"
	c.EnableDebug = true
	c.DisableKeyringFile = true
	c.GossipLAN.ProbeInterval, c.GossipLAN.ProbeTimeout, c.GossipLAN.GossipInterval =
		100*time.Millisecond, 100*time.Millisecond, 100*time.Millisecond
	c.GossipWAN.ProbeInterval, c.GossipWAN.ProbeTimeout, c.GossipWAN.GossipInterval =
		100*time.Millisecond, 100*time.Millisecond, 100*time.Millisecond
	c.Performance.RaftMultiplier = 1
	no, yes := false, true
	c.LeaveOnTerminate, c.SkipLeaveOnInterrupt = &no, &yes
}
