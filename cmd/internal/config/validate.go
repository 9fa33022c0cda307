package config

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

var (
	datacenterRE = regexp.MustCompile(`^[a-z0-9_-]+$`)
	dnsLabelRE   = regexp.MustCompile(`^[a-zA-Z0-9_-]+$`)
	uuidRE       = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
)

// checker collects everything that is wrong with a configuration.
type checker struct {
	errs     []error
	warnings []string
}

func (k *checker) bad(format string, args ...any) {
	k.errs = append(k.errs, fmt.Errorf(format, args...))
}

func (k *checker) warn(format string, args ...any) {
	k.warnings = append(k.warnings, fmt.Sprintf(format, args...))
}

// finish fills what is derived and checks everything.
func (c *Config) finish(m Machine) ([]string, error) {
	k := &checker{}
	c.Datacenter = strings.ToLower(c.Datacenter)
	c.PrimaryDatacenter = strings.ToLower(c.PrimaryDatacenter)
	if c.NodeName == "" {
		name, err := m.Hostname()
		if err != nil {
			k.bad("node_name: ask for the hostname: %w", err)
		}
		c.NodeName = name
	}
	c.NodeName = strings.TrimSpace(c.NodeName)
	if c.LeaveOnTerminate == nil {
		leave := !c.Server
		c.LeaveOnTerminate = &leave
	}
	if c.SkipLeaveOnInterrupt == nil {
		skip := c.Server
		c.SkipLeaveOnInterrupt = &skip
	}
	if c.Federation.AdvertisePort == 0 {
		c.Federation.AdvertisePort = max(c.Ports.SerfWAN, 0)
	}
	k.checkIdentity(c)
	k.checkRole(c)
	k.checkPorts(c)
	k.checkNumbers(c)
	k.checkGossip(c)
	k.checkHTTP(c)
	k.checkACL(&c.ACL)
	k.checkKVReplication(c)
	k.checkLog(c)
	if c.EnableScriptChecks && len(c.HTTP.AllowWriteHTTPFrom) == 0 {
		k.warn("enable_script_checks lets whoever reaches the HTTP API run programs on this machine: use enable_local_script_checks, or limit writes by http_config.allow_write_http_from")
	}
	if c.EnableAgentTLSForChecks && c.LANTLS() == nil {
		k.warn("enable_agent_tls_for_checks is set, and neither tls.defaults nor tls.internal_rpc has anything that checks could use")
	}
	warnings, err := c.resolve(m)
	if err != nil {
		k.errs = append(k.errs, err)
	}
	k.warnings = append(k.warnings, warnings...)
	k.checkTLS(c)
	return k.warnings, errors.Join(k.errs...)
}

func (k *checker) checkIdentity(c *Config) {
	for _, n := range []struct{ key, value string }{{"datacenter", c.Datacenter}, {"primary_datacenter", c.PrimaryDatacenter}} {
		if n.value == "" {
			if n.key == "datacenter" {
				k.bad("datacenter cannot be empty")
			}
		} else if !datacenterRE.MatchString(n.value) {
			k.bad("%s can only contain lowercase alphanumeric, - or _ characters. received: %q", n.key, n.value)
		} else if len(n.value) > 63 {
			k.bad("%s cannot be longer than 63 characters, the limit of a DNS label", n.key)
		}
	}
	switch {
	case c.NodeName == "":
		k.bad("node_name cannot be empty")
	case len(c.NodeName) > 128:
		// The name travels in every gossip message about the node.
		k.bad("node_name cannot be longer than 128 characters")
	case !dnsLabelRE.MatchString(c.NodeName):
		k.warn("Node name %q will not be discoverable via DNS due to invalid characters. Valid characters include all alpha-numerics and dashes.", c.NodeName)
	case len(c.NodeName) > 63:
		k.warn("Node name %q will not be discoverable via DNS due to it being too long. Valid lengths are between 1 and 63 bytes.", c.NodeName)
	}
	if c.NodeID != "" && !uuidRE.MatchString(c.NodeID) {
		k.bad("node_id: %q is not a UUID", c.NodeID)
	}
	c.NodeID = strings.ToLower(c.NodeID)
	if len(c.NodeMeta) > 64 {
		k.bad("node_meta cannot contain more than 64 key/value pairs")
	}
	for key, v := range c.NodeMeta {
		switch {
		case key == "":
			k.bad("node_meta: Couldn't load metadata pair ('', '%s'): Key cannot be blank", v)
		case !dnsLabelRE.MatchString(key):
			k.bad("node_meta: Couldn't load metadata pair ('%s', '%s'): Key contains invalid characters", key, v)
		case len(key) > 128:
			k.bad("node_meta: Couldn't load metadata pair ('%s', '%s'): Key is too long (limit: 128 characters)", key, v)
		case strings.HasPrefix(key, "consul-"):
			k.bad("node_meta: Couldn't load metadata pair ('%s', '%s'): Key prefix 'consul-' is reserved for internal use", key, v)
		case len(v) > 512:
			k.bad("node_meta: Couldn't load metadata pair ('%s', '%s'): Value is too long (limit: 512 characters)", key, v)
		}
	}
	for _, d := range []struct{ key, value string }{{"domain", c.Domain}, {"alt_domain", c.AltDomain}} {
		for label := range strings.SplitSeq(strings.Trim(d.value, "."), ".") {
			if label == "" && d.value == "" {
				continue
			}
			if !dnsLabelRE.MatchString(label) || len(label) > 63 {
				k.bad("%s: %q is not a domain name", d.key, d.value)
				break
			}
		}
	}
	if c.Domain == "" {
		k.bad("domain cannot be empty")
	}
}

func (k *checker) checkRole(c *Config) {
	if c.DataDir == "" && !c.Dev {
		k.bad("data_dir cannot be empty")
	} else if fi, err := os.Stat(c.DataDir); c.DataDir != "" && err == nil && !fi.IsDir() {
		k.bad("data_dir %q is not a directory", c.DataDir)
	}
	if c.BootstrapExpect < 0 {
		k.bad("bootstrap_expect cannot be %d. Must be greater than or equal to zero", c.BootstrapExpect)
	}
	if c.Bootstrap && c.BootstrapExpect > 0 && !c.Dev {
		k.bad("'bootstrap_expect > 0' and 'bootstrap = true' are mutually exclusive")
	}
	if !c.Server {
		if c.Bootstrap {
			k.bad("'bootstrap = true' requires 'server = true'")
		}
		if c.BootstrapExpect > 0 {
			k.bad("'bootstrap_expect > 0' requires 'server = true'")
		}
		if len(c.RetryJoinWAN) > 0 {
			k.bad("'retry_join_wan' requires 'server = true'")
		}
		return
	}
	switch {
	case c.BootstrapExpect == 1: // one server is the whole group
		c.Bootstrap, c.BootstrapExpect = true, 0
		k.warn("BootstrapExpect is set to 1; this is the same as Bootstrap mode.")
	case c.Bootstrap && !c.Dev:
		k.warn("bootstrap = true: do not enable unless necessary")
	case c.BootstrapExpect == 2:
		k.warn("bootstrap_expect = 2: A cluster with 2 servers will provide no failure tolerance. See the documentation on the number of servers.")
	case c.BootstrapExpect > 2 && c.BootstrapExpect%2 == 0:
		k.warn("bootstrap_expect is even number: %d. A cluster with an even number of servers does not achieve optimum fault tolerance.", c.BootstrapExpect)
	}
	if c.BootstrapExpect > 0 {
		k.warn("bootstrap_expect > 0: expecting %d servers", c.BootstrapExpect)
	}
}

func (k *checker) checkPorts(c *Config) {
	for _, p := range []struct {
		key  string
		port int
		off  bool // -1 allowed
	}{
		{"ports.dns", c.Ports.DNS, true}, {"ports.http", c.Ports.HTTP, true}, {"ports.https", c.Ports.HTTPS, true},
		{"ports.serf_lan", c.Ports.SerfLAN, false}, {"ports.serf_wan", c.Ports.SerfWAN, true}, {"ports.server", c.Ports.Server, false},
		{"ports.sidecar_min_port", c.Ports.SidecarMin, false}, {"ports.sidecar_max_port", c.Ports.SidecarMax, false},
		{"federation.advertise_port", c.Federation.AdvertisePort, false},
	} {
		if p.port > 65535 || p.port < -1 || p.port < 0 && !p.off {
			k.bad("%s: invalid port: %d", p.key, p.port)
		}
	}
	if c.Ports.SidecarMax > 0 && c.Ports.SidecarMin > c.Ports.SidecarMax { // 0 is off
		k.bad("ports.sidecar_min_port %d is above ports.sidecar_max_port %d", c.Ports.SidecarMin, c.Ports.SidecarMax)
	}
	// Numbers that share a protocol must differ; 0 lets the system choose.
	type use struct{ proto, key string }
	seen := map[string]string{}
	for _, u := range []struct {
		port int
		use
	}{
		{c.Ports.HTTP, use{"tcp", "ports.http"}}, {c.Ports.HTTPS, use{"tcp", "ports.https"}},
		{c.Ports.SerfLAN, use{"tcp", "ports.serf_lan"}}, {c.Ports.Server, use{"tcp", "ports.server"}},
		{c.Ports.SerfLAN, use{"udp", "ports.serf_lan"}}, {c.Ports.SerfWAN, use{"udp", "ports.serf_wan"}},
	} {
		if u.port <= 0 {
			continue
		}
		id := u.proto + strconv.Itoa(u.port)
		if first, ok := seen[id]; ok && first != u.key {
			k.bad("%s port %d already configured for %s", u.key, u.port, first)
		}
		seen[id] = u.key
	}
}

func (k *checker) checkNumbers(c *Config) {
	if m := c.Performance.RaftMultiplier; m < 1 || m > 10 {
		k.bad("performance.raft_multiplier cannot be %d. Must be between 1 and 10", m)
	}
	if c.Protocol < 2 || c.Protocol > 3 {
		k.bad("protocol cannot be %d. Must be 2 or 3", c.Protocol)
	}
	if c.RaftProtocol != 3 {
		k.bad("raft_protocol cannot be %d. Must be 3", c.RaftProtocol)
	}
	for _, d := range []struct {
		key    string
		value  time.Duration
		lowest time.Duration
	}{
		{"reconnect_timeout", c.ReconnectTimeout, 8 * time.Hour},
		{"reconnect_timeout_wan", c.ReconnectTimeoutWAN, 8 * time.Hour},
		{"advertise_reconnect_timeout", c.AdvertiseReconnect, 0},
		{"server_rejoin_age_max", c.ServerRejoinAgeMax, 6 * time.Hour},
		{"retry_interval", c.RetryInterval, time.Millisecond},
		{"retry_interval_wan", c.RetryIntervalWAN, time.Millisecond},
		{"default_query_time", c.DefaultQueryTime, time.Millisecond},
		{"max_query_time", c.MaxQueryTime, time.Millisecond},
		{"discovery_max_stale", c.DiscoveryMaxStale, 0},
		{"session_ttl_min", c.SessionTTLMin, time.Millisecond},
		{"check_update_interval", c.CheckUpdateInterval, 0},
		{"raft_snapshot_interval", c.RaftSnapshotInterval, 5 * time.Millisecond},
		{"performance.leave_drain_time", c.Performance.LeaveDrainTime, 0},
		{"performance.rpc_hold_timeout", c.Performance.RPCHoldTimeout, 0},
		{"autopilot.last_contact_threshold", c.Autopilot.LastContactThreshold, 0},
		{"autopilot.server_stabilization_time", c.Autopilot.ServerStabilizationTime, 0},
		{"limits.https_handshake_timeout", c.Limits.HTTPSHandshakeTimeout, time.Millisecond},
		{"limits.rpc_handshake_timeout", c.Limits.RPCHandshakeTimeout, time.Millisecond},
		{"limits.rpc_client_timeout", c.Limits.RPCClientTimeout, time.Millisecond},
		{"dns_config.max_stale", c.DNS.MaxStale, 0},
		{"dns_config.node_ttl", c.DNS.NodeTTL, 0},
		{"dns_config.cache_max_age", c.DNS.CacheMaxAge, 0},
		{"dns_config.stale_if_error", c.DNS.StaleIfError, 0},
		{"federation.stale_if_error", c.Federation.StaleIfError, 0},
		{"dns_config.recursor_timeout", c.DNS.RecursorTimeout, time.Millisecond},
		{"log_rotate_duration", c.LogRotateDuration, 0},
	} {
		if d.value < d.lowest {
			k.bad("%s must be at least %s, is %s", d.key, d.lowest, d.value)
		}
	}
	for _, n := range []struct {
		key    string
		value  int
		lowest int
	}{
		{"retry_max", c.RetryMax, 0}, {"retry_max_wan", c.RetryMaxWAN, 0},
		{"raft_snapshot_threshold", c.RaftSnapshotThreshold, 1}, {"raft_trailing_logs", c.RaftTrailingLogs, 1},
		{"autopilot.max_trailing_logs", c.Autopilot.MaxTrailingLogs, 0}, {"autopilot.min_quorum", c.Autopilot.MinQuorum, 0},
		{"limits.http_max_conns_per_client", c.Limits.HTTPMaxConnsPerClient, 0},
		{"limits.rpc_max_conns_per_client", c.Limits.RPCMaxConnsPerClient, 0},
		{"federation.stale_cache_bytes", c.Federation.StaleCacheBytes, 0},
		{"limits.kv_max_value_size", c.Limits.KVMaxValueSize, 1}, {"limits.txn_max_req_len", c.Limits.TxnMaxReqLen, 1},
		{"limits.rpc_max_burst", c.Limits.RPCMaxBurst, 1}, {"limits.dns_max_burst", c.Limits.DNSMaxBurst, 1},
		{"http_config.max_header_bytes", c.HTTP.MaxHeaderBytes, 0}, {"cache.entry_fetch_max_burst", c.Cache.EntryFetchMaxBurst, 1},
		{"dns_config.udp_answer_limit", c.DNS.UDPAnswerLimit, 0}, {"dns_config.a_record_limit", c.DNS.ARecordLimit, 0},
		{"dns_config.soa.refresh", c.DNS.SOA.Refresh, 0}, {"dns_config.soa.retry", c.DNS.SOA.Retry, 0},
		{"dns_config.soa.expire", c.DNS.SOA.Expire, 0}, {"dns_config.soa.min_ttl", c.DNS.SOA.MinTTL, 0},
		{"check_output_max_size", c.CheckOutputMaxSize, 1}, {"log_rotate_bytes", c.LogRotateBytes, 0},
		{"log_rotate_max_files", c.LogRotateMaxFiles, -1},
	} {
		if n.value < n.lowest {
			k.bad("%s cannot be %d. Must be at least %d", n.key, n.value, n.lowest)
		}
	}
	for _, r := range []struct {
		key   string
		value float64
	}{
		{"rpc_rate", c.Limits.RPCRate}, {"dns_rate", c.Limits.DNSRate},
		{"request_limits.read_rate", c.Limits.Requests.ReadRate}, {"request_limits.write_rate", c.Limits.Requests.WriteRate},
	} {
		if r.value == 0 {
			k.bad("limits.%s cannot be 0, which lets nothing through. Must be above 0, or -1 for no limit", r.key)
		}
	}
	if m := c.Limits.Requests.Mode; m != "disabled" && m != "permissive" && m != "enforcing" {
		k.bad("limits.request_limits.mode must be disabled, permissive or enforcing, is %q", m)
	}
	for name, ttl := range c.DNS.ServiceTTL {
		if ttl < 0 {
			k.bad("dns_config.service_ttl.%s must be at least 0s, is %s", name, ttl)
		}
	}
	for _, n := range []struct {
		key   string
		value int
	}{{"refresh", c.DNS.SOA.Refresh}, {"retry", c.DNS.SOA.Retry}, {"expire", c.DNS.SOA.Expire}, {"min_ttl", c.DNS.SOA.MinTTL}} {
		if int64(n.value) > math.MaxInt32 { // RFC 2181, section 8
			k.bad("dns_config.soa.%s cannot be %d. Must be at most %d", n.key, n.value, math.MaxInt32)
		}
	}
	for _, a := range []struct{ key, addr string }{
		{"statsd_address", c.Telemetry.StatsdAddr}, {"statsite_address", c.Telemetry.StatsiteAddr}, {"dogstatsd_addr", c.Telemetry.DogStatsdAddr},
	} {
		if host, port, err := net.SplitHostPort(a.addr); a.addr != "" && (err != nil || host == "" || port == "") {
			k.bad("telemetry.%s: %q is not HOST:PORT", a.key, a.addr)
		}
	}
	for _, tag := range c.Telemetry.DogStatsdTags {
		if tag == "" || strings.ContainsAny(tag, "|,\n") {
			k.bad("telemetry.dogstatsd_tags: %q is not a tag", tag)
		}
	}
	for _, f := range c.Telemetry.PrefixFilter {
		if !strings.HasPrefix(f, "+") && !strings.HasPrefix(f, "-") {
			k.bad("telemetry.prefix_filter: %q must begin with + (allow) or - (block)", f)
		}
	}
	if s := c.DNS.RecursorStrategy; s != "sequential" && s != "random" {
		k.bad("dns_config.recursor_strategy must be sequential or random, is %q", s)
	}
}

func (k *checker) checkGossip(c *Config) {
	if c.Encrypt != "" {
		key, err := base64.StdEncoding.DecodeString(c.Encrypt)
		n := len(key)
		switch {
		case err != nil: // the error says where, never what: the key is a secret
			k.bad("encrypt has invalid key: %w", err)
		case n != 16 && n != 24 && n != 32:
			k.bad("encrypt has invalid key: must be 16, 24 or 32 bytes, is %d", n)
		default:
			c.Key = key
		}
	}
	if c.AdvertiseReconnect > 0 && c.Server {
		k.bad("advertise_reconnect_timeout can only be used on a client: servers are expected back")
	}
	k.checkNetworks("serf_lan_allowed_cidrs", c.SerfLANAllowed)
	k.checkNetworks("serf_wan_allowed_cidrs", c.SerfWANAllowed)
	for _, p := range []struct {
		name string
		Gossip
	}{{"gossip_lan", c.GossipLAN}, {"gossip_wan", c.GossipWAN}} {
		if p.GossipNodes < 1 || p.RetransmitMult < 1 || p.SuspicionMult < 1 {
			k.bad("%s: gossip_nodes, retransmit_mult and suspicion_mult must be at least 1", p.name)
		}
		if p.GossipInterval <= 0 || p.ProbeInterval <= 0 || p.ProbeTimeout <= 0 {
			k.bad("%s: gossip_interval, probe_interval and probe_timeout must be longer than 0s", p.name)
		}
	}
}

func (k *checker) checkHTTP(c *Config) {
	k.checkNetworks("http_config.allow_write_http_from", c.HTTP.AllowWriteHTTPFrom)
	if s := c.UnixSockets.Mode; s != "" {
		if _, err := strconv.ParseUint(s, 8, 32); err != nil {
			k.bad("unix_sockets.mode: %q is not an octal file mode", s)
		}
	}
}

func (k *checker) checkNetworks(key string, list []string) {
	for _, s := range list {
		if _, err := ParseCIDR(s); err != nil {
			k.bad("%s: %w", key, err)
		}
	}
}

// ParseCIDR reads a network, or a single address as the network of itself.
func ParseCIDR(s string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked(), nil
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	return netip.Prefix{}, fmt.Errorf("%q is not a network such as 10.0.0.0/8", s)
}

func (k *checker) checkLog(c *Config) {
	if _, err := ParseLevel(c.LogLevel); err != nil {
		k.errs = append(k.errs, fmt.Errorf("log_level: %w", err))
	}
	if _, err := SyslogFacility(c.SyslogFacility); err != nil {
		k.errs = append(k.errs, err)
	}
}
