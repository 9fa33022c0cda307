package cli

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/coreos/go-systemd/v22/daemon"

	"landbridge/cmd/internal/config"
	"landbridge/federation/node"
	"landbridge/federation/trust"
	"landbridge/federation/watch"
	"landbridge/lan/agent"
	"landbridge/store"
)

// tlsFiles are the certificates of a configuration; nil where there are none.
type tlsFiles struct{ lan, https *config.TLSFiles }

func tlsFilesOf(c *config.Config) tlsFiles { return tlsFiles{c.LANTLS(), c.HTTPSTLS()} }

// use takes over those of next, and returns the blocks that wait for a restart.
func (f tlsFiles) use(next tlsFiles) (waiting []string) {
	if !f.https.Use(next.https) {
		waiting = append(waiting, "tls.https")
	}
	if !f.lan.Use(next.lan) {
		waiting = append(waiting, "tls.internal_rpc")
	}
	return waiting
}

// nodeConfig translates what users write into what a node takes.
func nodeConfig(c *config.Config, files tlsFiles) node.Config {
	nc := node.Config{
		NodeName: c.NodeName, NodeID: c.NodeID, HostNodeID: !c.DisableHostNodeID, NodeMeta: c.NodeMeta,
		Datacenter: c.Datacenter, Primary: c.PrimaryDatacenter,
		Domain: strings.Trim(c.Domain, "."), AltDomain: strings.Trim(c.AltDomain, "."),
		Version: Version, Release: Release,

		Server: c.Server, Bootstrap: c.Bootstrap, BootstrapExpect: c.BootstrapExpect,
		DevMode: c.Dev, DataDir: c.DataDir,

		BindAddr: c.Bind, AdvertiseLAN: c.LAN, AdvertiseWAN: c.WAN,
		SerfLANBind: c.SerfBind.LAN, SerfWANBind: c.SerfBind.WAN,
		SerfLANAllowed: networks(c.SerfLANAllowed), SerfWANAllowed: networks(c.SerfWANAllowed),
		Ports: node.Ports{DNS: c.Ports.DNS, HTTP: c.Ports.HTTP, HTTPS: c.Ports.HTTPS, GRPC: -1, GRPCTLS: -1,
			SerfLAN: c.Ports.SerfLAN, SerfWAN: c.Ports.SerfWAN, Server: c.Ports.Server,
			SidecarMin: c.Ports.SidecarMin, SidecarMax: c.Ports.SidecarMax},
		HTTPAddrs: listenAddrs(c.Listen.HTTP), HTTPSAddrs: listenAddrs(c.Listen.HTTPS), DNSAddrs: listenAddrs(c.Listen.DNS),
		UnixSocket:    node.UnixSocket{User: c.UnixSockets.User, Group: c.UnixSockets.Group, Mode: c.UnixSockets.Mode},
		TranslateWAN:  c.TranslateWAN,
		FederationOff: c.Ports.SerfWAN < 0 || c.Federation.Enabled != nil && !*c.Federation.Enabled,

		FederationAdvertisePort: c.Federation.AdvertisePort,
		EnrollByKey:             enrollsByKey(c),
		KVReplication:           keyCopies(c.KVReplication),
		StaleIfError:            c.Federation.StaleIfError,
		StaleCacheBytes:         int64(c.Federation.StaleCacheBytes),
		AllowUnauthenticated:    c.Federation.AllowUnauthenticated,
		Relay:                   c.Federation.Relay,
		TrustDomainID:           c.Connect.CAConfig.ClusterID,
		ConnectEnabled:          c.Connect.Enabled,

		RetryJoinLAN: c.RetryJoin, RetryJoinWAN: c.RetryJoinWAN,
		RetryInterval: c.RetryInterval, RetryIntervalWAN: c.RetryIntervalWAN,
		RetryMax: c.RetryMax, RetryMaxWAN: c.RetryMaxWAN, RejoinAfterLeave: c.RejoinAfterLeave,

		LeaveOnTerminate: *c.LeaveOnTerminate, SkipLeaveOnInterrupt: *c.SkipLeaveOnInterrupt,
		LeaveDrainTime:      c.Performance.LeaveDrainTime,
		ReconnectTimeoutLAN: c.ReconnectTimeout, ReconnectTimeoutWAN: c.ReconnectTimeoutWAN,
		AdvertiseReconnectTimeout: c.AdvertiseReconnect, ServerRejoinAgeMax: c.ServerRejoinAgeMax,

		EncryptKey: c.Key, AllowPlainGossip: !c.EncryptIncoming, SendPlainGossip: !c.EncryptOutgoing, DisableKeyringFile: c.DisableKeyringFile, DisableCoordinates: c.DisableCoordinates, RemoteExec: !c.DisableRemoteExec,
		GossipLAN: node.Gossip(c.GossipLAN), GossipWAN: node.Gossip(c.GossipWAN),

		RaftMultiplier:        c.Performance.RaftMultiplier,
		RaftSnapshotThreshold: c.RaftSnapshotThreshold, RaftSnapshotInterval: c.RaftSnapshotInterval, RaftTrailingLogs: c.RaftTrailingLogs,
		RPCHoldTimeout: c.Performance.RPCHoldTimeout,
		Autopilot: store.AutopilotConfig{
			CleanupDeadServers:      c.Autopilot.CleanupDeadServers,
			LastContactThreshold:    int64(c.Autopilot.LastContactThreshold),
			MaxTrailingLogs:         uint64(c.Autopilot.MaxTrailingLogs),
			MinQuorum:               uint(c.Autopilot.MinQuorum),
			ServerStabilizationTime: int64(c.Autopilot.ServerStabilizationTime),
		},

		ACL: node.ACL{
			Enabled: c.ACL.Enabled, DefaultPolicy: c.ACL.DefaultPolicy, DownPolicy: c.ACL.DownPolicy,
			TokenTTL: c.ACL.TokenTTL, PolicyTTL: c.ACL.PolicyTTL, RoleTTL: c.ACL.RoleTTL,
			KeyListPolicy: c.ACL.EnableKeyListPolicy, TokenReplication: c.ACL.EnableTokenReplication, HashedSecrets: c.ACL.ReplicateSecrets == "hashed",
			TokenPersistence: c.ACL.EnableTokenPersistence,
			Guard:            &node.ACLGuard{Min: c.ACL.ReplicationGuard.Min, Share: c.ACL.ReplicationGuard.Share},
			Tokens: node.ACLTokens{InitialManagement: c.ACL.Tokens.InitialManagement, Default: c.ACL.Tokens.Default, Agent: c.ACL.Tokens.Agent,
				AgentRecovery: c.ACL.Tokens.AgentRecovery, Replication: c.ACL.Tokens.Replication,
				FileRegistration: c.ACL.Tokens.FileRegistration, DNS: c.ACL.Tokens.DNS},
		},

		Limits: node.Limits{
			HTTPMaxConnsPerClient: c.Limits.HTTPMaxConnsPerClient, HTTPSHandshakeTimeout: c.Limits.HTTPSHandshakeTimeout,
			RPCHandshakeTimeout: c.Limits.RPCHandshakeTimeout, RPCMaxConnsPerClient: c.Limits.RPCMaxConnsPerClient,
			RPCClientTimeout: c.Limits.RPCClientTimeout,
			KVMaxValueSize:   int64(c.Limits.KVMaxValueSize),
			// A value that may be put alone may be put in a transaction.
			TxnMaxReqLen: int64(max(c.Limits.TxnMaxReqLen, c.Limits.KVMaxValueSize)),
			RPCRate:      c.Limits.RPCRate, RPCMaxBurst: c.Limits.RPCMaxBurst,
			Requests: node.RequestLimits(c.Limits.Requests.Mode, c.Limits.Requests.ReadRate, c.Limits.Requests.WriteRate),
		},
		DNS: node.DNS{
			AllowStale: c.DNS.AllowStale, MaxStale: c.DNS.MaxStale, NodeTTL: c.DNS.NodeTTL, ServiceTTL: c.DNS.ServiceTTL,
			EnableTruncate: c.DNS.EnableTruncate, OnlyPassing: c.DNS.OnlyPassing, DisableCompress: c.DNS.DisableCompression,
			UDPAnswerLimit: c.DNS.UDPAnswerLimit, ARecordLimit: c.DNS.ARecordLimit, NodeMetaTXT: c.DNS.NodeMetaTXT,
			SOARefresh: uint32(c.DNS.SOA.Refresh), SOARetry: uint32(c.DNS.SOA.Retry), SOAExpire: uint32(c.DNS.SOA.Expire), SOAMinTTL: uint32(c.DNS.SOA.MinTTL),
			Recursors: c.Recursors, RecursorTimeout: c.DNS.RecursorTimeout, RecursorStrategy: c.DNS.RecursorStrategy,
			UseCache: c.DNS.UseCache, CacheMaxAge: c.DNS.CacheMaxAge,
			Rate: node.DNSRate{PerSecond: c.Limits.DNSRate, Burst: c.Limits.DNSMaxBurst},
		},
		DNSStaleIfError: c.DNS.StaleIfError,
		HTTP: node.HTTP{
			BlockEndpoints: c.HTTP.BlockEndpoints, AllowWriteHTTPFrom: networks(c.HTTP.AllowWriteHTTPFrom),
			ResponseHeaders: c.HTTP.ResponseHeaders, MaxHeaderBytes: c.HTTP.MaxHeaderBytes,
			UseCache: c.HTTP.UseCache, AllowUnprintable: c.Unprintable,
		},
		Cache:        node.Cache{EntryFetchRate: c.Cache.EntryFetchRate, EntryFetchMaxBurst: c.Cache.EntryFetchMaxBurst},
		UseStreaming: c.Streaming,

		DefaultQueryTime: c.DefaultQueryTime, MaxQueryTime: c.MaxQueryTime, DiscoveryMaxStale: c.DiscoveryMaxStale,
		SessionTTLMin: c.SessionTTLMin,

		Services: serviceDefinitions(c.Services), Checks: checkDefinitions(c.Checks),
		Watches:             watchDefinitions(c.Watches),
		CheckUpdateInterval: c.CheckUpdateInterval, CheckOutputMaxSize: c.CheckOutputMaxSize, DiscardCheckOutput: c.DiscardCheckOutput,
		EnableScriptChecks: c.EnableScriptChecks, EnableLocalScriptChecks: c.EnableLocalScriptChecks,

		EnableDebug: c.EnableDebug,
		HostMetrics: c.Telemetry.HostMetrics,
		DebugConfig: debugConfig(c),
	}
	if c.CheckUpdateInterval == 0 {
		nc.CheckUpdateInterval = -1 // 0 is the agent's default; the user wants no wait at all
	}
	if f := files.lan; f != nil {
		nc.LANTLS = nodeTLS(f)
		nc.OperatorCerts = trust.Operator(f.Files())
		if f.HasCertificate() {
			nc.LANTLS.Server = f.Server
		}
	}
	if f := files.lan; f != nil && c.EnableAgentTLSForChecks {
		nc.CheckTLS = f.Client
		if c.ServerName != "" {
			nc.CheckTLS = func() (*tls.Config, error) {
				cfg, err := f.Client()
				if err == nil {
					cfg = cfg.Clone()
					cfg.ServerName = c.ServerName
				}
				return cfg, err
			}
		}
	}
	if f := files.https; f != nil && f.HasCertificate() {
		nc.HTTPSTLS = nodeTLS(f)
		// The front end asks once, at its start.
		nc.HTTPSTLS.Server = f.Listener
	}
	return nc
}

// checkEnvironment takes over what health checks ask of the agent's environment:
// where Docker and the D-Bus system bus are.
func checkEnvironment(nc *node.Config, getenv func(string) string) {
	nc.DockerHost, nc.SystemBus = getenv("DOCKER_HOST"), getenv("DBUS_SYSTEM_BUS_ADDRESS")
	dir := getenv("DOCKER_CERT_PATH")
	if dir == "" {
		return
	}
	files, verify := config.DockerTLS(dir), getenv("DOCKER_TLS_VERIFY") != ""
	nc.DockerTLS = func() (*tls.Config, error) {
		cfg, err := files.Client()
		if err == nil && !verify {
			cfg = cfg.Clone()
			cfg.InsecureSkipVerify = true //nolint:gosec // as Docker's own tools read the variable
		}
		return cfg, err
	}
}

// superviseBy takes over what a service manager says of itself in the environment.
func superviseBy(nc *node.Config, getenv func(string) string) {
	if getenv("NOTIFY_SOCKET") == "" {
		return
	}
	nc.Supervisor = func(state string) error {
		_, err := daemon.SdNotify(false, state)
		return err
	}
	if every, err := daemon.SdWatchdogEnabled(false); err == nil {
		nc.WatchdogInterval = every
	}
}

func nodeTLS(f *config.TLSFiles) *node.TLS {
	return &node.TLS{Client: f.Client, Verify: func() node.Verify {
		r := f.Rules()
		return node.Verify{Incoming: r.Incoming, Outgoing: r.Outgoing, ServerHostname: r.Hostname}
	}}
}

func listenAddrs(list []config.Addr) []node.ListenAddr {
	var out []node.ListenAddr
	for _, a := range list {
		out = append(out, node.ListenAddr{AddrPort: a.AddrPort, Unix: a.Unix})
	}
	return out
}

func networks(list []string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		if p, err := config.ParseCIDR(s); err == nil { // checked by config
			out = append(out, p)
		}
	}
	return out
}

func serviceDefinitions(list []config.Service) []agent.ServiceDefinition {
	var out []agent.ServiceDefinition
	for _, s := range list {
		d := agent.ServiceDefinition{
			ID: s.ID, Name: s.Name, Kind: s.Kind, Tags: s.Tags, Address: s.Address, Meta: s.Meta, Port: s.Port,
			SocketPath: s.SocketPath, EnableTagOverride: s.EnableTagOverride, Token: s.Token,
			Proxy: block(s.Proxy), Connect: block(s.Connect), Locality: block(s.Locality),
		}
		if s.Weights != nil {
			d.Weights = &store.Weights{Passing: s.Weights.Passing, Warning: s.Weights.Warning}
		}
		for name, a := range s.TaggedAddresses {
			if d.TaggedAddresses == nil {
				d.TaggedAddresses = map[string]store.ServiceAddress{}
			}
			d.TaggedAddresses[name] = store.ServiceAddress{Address: a.Address, Port: a.Port}
		}
		for _, c := range s.Checks {
			check := checkDefinition(c)
			d.Checks = append(d.Checks, &check)
		}
		out = append(out, d)
	}
	return out
}

// block is an opaque block of a file as the JSON of a request's body. What a file
// can hold always encodes.
func block(v any) json.RawMessage {
	if v == nil {
		return nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("cli: a block of a file: %v", err))
	}
	return b
}

func checkDefinitions(list []config.Check) []agent.CheckDefinition {
	var out []agent.CheckDefinition
	for _, c := range list {
		out = append(out, checkDefinition(c))
	}
	return out
}

func checkDefinition(c config.Check) agent.CheckDefinition {
	return agent.CheckDefinition{
		ID: c.ID, Name: c.Name, ServiceID: c.ServiceID, Status: c.Status, Notes: c.Notes, Token: c.Token,
		Interval: agent.Duration(c.Interval), Timeout: agent.Duration(c.Timeout), TTL: agent.Duration(c.TTL),
		Args: c.Args, DockerContainerID: c.DockerContainerID, Shell: c.Shell,
		HTTP: c.HTTP, Method: c.Method, Header: c.Header, Body: c.Body, DisableRedirects: c.DisableRedirects,
		TCP: c.TCP, TCPUseTLS: c.TCPUseTLS, UDP: c.UDP, GRPC: c.GRPC, GRPCUseTLS: c.GRPCUseTLS,
		H2PING: c.H2PING, H2PingUseTLS: c.H2PingUseTLS, TLSServerName: c.TLSServerName, TLSSkipVerify: c.TLSSkipVerify,
		AliasNode: c.AliasNode, AliasService: c.AliasService, OSService: c.OSService,
		OutputMaxSize: c.OutputMaxSize, SuccessBeforePassing: c.SuccessBeforePassing,
		FailuresBeforeWarning: c.FailuresBeforeWarning, FailuresBeforeCritical: c.FailuresBeforeCritical,
		DeregisterCriticalServiceAfter: agent.Duration(c.DeregisterCriticalServiceAfter),
	}
}

func watchDefinitions(list []config.Watch) []watch.Definition {
	var out []watch.Definition
	for _, w := range list {
		d := watch.Definition{
			Spec: watch.Spec{
				Type: w.Type, Datacenter: w.Datacenter, Token: w.Token, Stale: w.Stale, Filter: w.Filter,
				Key: w.Key, Prefix: w.Prefix, Service: w.Service, Tags: w.Tags, PassingOnly: w.PassingOnly,
				State: w.State, Name: w.Name, ServiceID: w.ServiceID,
			},
			Args: w.Args, Script: w.Handler,
		}
		if h := w.HTTP; w.HandlerType == "http" || h.Path != "" {
			d.HTTP = &watch.Target{URL: h.Path, Method: h.Method, Header: h.Header, Timeout: h.Timeout, TLSSkipVerify: h.TLSSkipVerify}
		}
		out = append(out, d)
	}
	return out
}

// tryWatches reports every watch that would not run.
func tryWatches(c *config.Config) error {
	var errs []error
	for i, d := range watchDefinitions(c.Watches) {
		err := d.Check()
		switch t := c.Watches[i].HandlerType; t {
		case "", "script", "http":
		default:
			err = errors.Join(err, fmt.Errorf("handler_type must be script or http, is %q", t))
		}
		for _, e := range config.Problems(err) {
			if e != nil {
				errs = append(errs, fmt.Errorf("watches[%d]: %w", i, e))
			}
		}
	}
	return errors.Join(errs...)
}

// tryDefinitions checks the services, checks and watches of files as an agent
// would that starts with them.
func tryDefinitions(c *config.Config) error {
	if err := tryWatches(c); err != nil {
		return err
	}
	a, err := agent.New(agent.Config{Node: c.NodeName, Datacenter: c.Datacenter,
		NodeInfo: func() *store.Node { return &store.Node{} }, Registrar: nobody{},
		EnableScriptChecks: c.EnableScriptChecks, EnableLocalScriptChecks: c.EnableLocalScriptChecks,
		SidecarMinPort: c.Ports.SidecarMin, SidecarMaxPort: c.Ports.SidecarMax})
	if err != nil {
		return err
	}
	services, checks := serviceDefinitions(c.Services), checkDefinitions(c.Checks)
	sp, cp := make([]*agent.ServiceDefinition, len(services)), make([]*agent.CheckDefinition, len(checks))
	for i := range services {
		sp[i] = &services[i]
	}
	for i := range checks {
		cp[i] = &checks[i]
	}
	return a.ReloadDefinitions(sp, cp)
}

// nobody is the catalog of an agent that does not run, which asks it nothing.
type nobody struct{ agent.Registrar }

func keyCopies(blocks []config.KVReplication) (list []node.KVCopy) {
	for _, b := range blocks {
		list = append(list, node.KVCopy{Source: b.Source, Prefix: b.Prefix, Target: b.Target, Exclude: b.Exclude})
	}
	return list
}

// enrollsByKey is federation.enroll_by_key, or its default: with access control the
// gossip key, which every agent has, is not enough to become a datacenter.
func enrollsByKey(c *config.Config) bool {
	if by := c.Federation.EnrollByKey; by != nil {
		return *by
	}
	return !c.ACL.Enabled
}
