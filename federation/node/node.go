package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"landbridge/acl_replication/replica"
	"landbridge/federation/dnsapi"
	"landbridge/federation/httpapi"
	"landbridge/federation/watch"
	"landbridge/forwarding"
	"landbridge/forwarding/endpoint"
	"landbridge/forwarding/rpc"
	"landbridge/forwarding/view"
	"landbridge/lan/agent"
	"landbridge/lan/agent/check"
	"landbridge/lan/gossip"
	"landbridge/lan/stream"
	"landbridge/store"
)

// Node is one agent: a server or a client.
type Node struct {
	cfg   Config
	log   *slog.Logger
	id    string
	net   Network
	stack stopStack

	lan        *gossip.Pool
	lanView    *lanView
	dispatcher *forwarding.Dispatcher
	views      *view.Set
	calls      *rpc.ClientMetrics
	agent      *agent.Agent
	tokens     *agentTokens    // the secrets that this agent works with
	identities endpoint.Tokens // whose secrets are whose; nil: ACLs are off
	exec       *agent.Exec     // nil without remote execution
	http       *httpapi.Server
	watches    *watch.Set
	dns        *dnsapi.Server
	srv        *server // nil on a client agent
	httpAddrs  []net.Addr
	dnsAddrs   []net.Addr

	joining        atomic.Bool   // there are LAN addresses to join, and none answered yet
	membersChanged chan struct{} // one slot: wakes the leader's reconciliation

	machine  *machineMetrics
	started  time.Time
	failed   chan error // the first thing that ended by itself
	leaving  sync.Mutex
	going    atomic.Bool   // a leave is under way or done
	left     chan struct{} // closed when a graceful leave is done
	leftOnce sync.Once
	asked    chan struct{}                     // read by followLAN, see pulse
	ready    atomic.Bool                       // the supervisor was told READY=1
	refused  atomic.Pointer[string]            // why the last reload was refused; nil if it was not
	meta     atomic.Pointer[map[string]string] // node_meta, replaced by Reload
	guard    atomic.Pointer[ACLGuard]          // acl.replication_guard, likewise
	maxConns atomic.Int64                      // limits.rpc_max_conns_per_client, likewise
}

// ID is the node's id, which is also its Raft id.
func (n *Node) ID() string { return n.id }

// Greeter keeps Raft connections apart that must not mix; nil on a client agent.
func (n *Node) Greeter() *stream.Greeter {
	if !n.cfg.Server {
		return nil
	}
	return &stream.Greeter{
		ID:      n.id,
		History: func() (string, uint64) { return n.srv.history() },
		Holder:  func(addr string) string { return n.srv.holder(addr) },
	}
}

// New builds a node from its configuration. Its sockets are bound, except those of
// the front ends; nothing runs yet. A node that is not started is freed by Stop.
func New(cfg Config) (_ *Node, err error) {
	cfg.setDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	n := &Node{
		cfg: cfg, net: cfg.Network, failed: make(chan error, 1), left: make(chan struct{}), asked: make(chan struct{}),
		log: cfg.Logger.With("component", "agent", "dc", cfg.Datacenter),
	}
	if n.net == nil {
		n.net = realNetwork{}
	}
	n.stack.log = n.log
	n.joining.Store(len(n.withoutSelf(cfg.RetryJoinLAN)) > 0)
	n.started = time.Now()
	n.meta.Store(&cfg.NodeMeta)
	n.guard.Store(cfg.ACL.Guard)
	n.maxConns.Store(int64(cfg.Limits.RPCMaxConnsPerClient))
	defer func() {
		if err != nil {
			err = errors.Join(err, n.stack.stop(context.Background()))
		}
	}()
	if cfg.DataDir != "" {
		if err := os.MkdirAll(cfg.DataDir, 0o755); err != nil {
			return nil, fmt.Errorf("data_dir: %w", err)
		}
	}
	if err := n.checkAge(); err != nil {
		return nil, err
	}
	if n.id, err = nodeID(&cfg); err != nil {
		return nil, err
	}
	if n.tokens, err = newAgentTokens(&cfg, n.log); err != nil {
		return nil, err
	}
	n.calls = rpc.NewClientMetrics(cfg.Registerer)
	lanPool := rpc.PoolConfig{DialTimeout: lanDialTimeout, Greet: true, Client: rpc.ClientConfig{Lanes: 1, Metrics: n.calls}, Logger: n.logger("rpc")}
	n.lanView = &lanView{self: cfg.NodeName}
	fwd := forwarding.Config{
		Datacenter: cfg.Datacenter, LAN: n.lanView,
		HoldTimeout: cfg.RPCHoldTimeout, Limits: cfg.callLimits(),
		DefaultQueryTime: cfg.DefaultQueryTime, MaxQueryTime: cfg.MaxQueryTime,
		Logger: n.logger("forwarding"), Registerer: cfg.Registerer,
	}
	if cfg.Server {
		if n.srv, err = n.newServer(); err != nil {
			return nil, err
		}
		lanPool.Dial = func(ctx context.Context, addr, _ string) (rpc.Session, error) { return n.srv.port.Dial(ctx, addr) }
		fwd.Local = n.srv.local
		if w := n.srv.wan; w != nil {
			fwd.WAN = &wanView{dir: w.dir, pool: w.rpc, distance: n.srv.distance}
		}
	} else {
		dial, err := n.net.DialLAN(n)
		if err != nil {
			return nil, err
		}
		lanPool.Dial = func(ctx context.Context, addr, _ string) (rpc.Session, error) { return dial(ctx, addr) }
		lanPool.Client.Self = cfg.NodeName
		if cfg.ACL.Enabled {
			if n.identities, err = n.newRemoteTokens(nil); err != nil {
				return nil, err
			}
		}
	}
	n.lanView.pool = rpc.NewPool(lanPool)
	n.lanView.ping = n.lanView.pingServer
	n.dispatcher = forwarding.New(fwd)
	// An older answer is not for a token that is gone. One that cannot be resolved now
	// gets what it got.
	var gone func(context.Context, *rpc.Request) error
	if n.identities != nil {
		gone = func(ctx context.Context, req *rpc.Request) error {
			if _, err := n.identities.Resolve(ctx, req.Token, nil, false); store.KindOf(err) == store.KindPermissionDenied {
				return err
			}
			return nil
		}
	}
	n.views = view.New(view.Config{
		Do: n.dispatcher, Resolve: gone, Datacenter: cfg.Datacenter, Server: cfg.Server,
		QueryTime: cfg.DefaultQueryTime, KeptBytes: cfg.StaleCacheBytes, Limits: cfg.viewLimits(),
		Logger: n.logger("view"), Registerer: cfg.Registerer,
	})
	if err := n.newLAN(); err != nil {
		return nil, err
	}
	n.machine = newMachineMetrics(cfg.Registerer, cfg.DataDir)
	cfg.Registerer.MustRegister(&agentsCollector{cfg.Datacenter, n.lan.Members})
	n.agent, err = agent.New(agent.Config{
		Node: cfg.NodeName, Datacenter: cfg.Datacenter, NodeInfo: n.record, Registrar: registrar{n.dispatcher, &n.going, n.tokens.agent, n.tokens.user}, Token: n.fileOrDefault,
		Server: cfg.Server, ClusterSize: func() int { return len(n.lan.Members()) }, DataDir: cfg.DataDir,
		SidecarMinPort: cfg.Ports.SidecarMin, SidecarMaxPort: cfg.Ports.SidecarMax,
		CheckUpdateInterval: cfg.CheckUpdateInterval, CheckOutputMaxSize: cfg.CheckOutputMaxSize, DiscardCheckOutput: cfg.DiscardCheckOutput,
		EnableScriptChecks: cfg.EnableScriptChecks, EnableLocalScriptChecks: cfg.EnableLocalScriptChecks, CheckTLS: cfg.CheckTLS,
		Docker: check.Engine{Host: cfg.DockerHost, TLS: cfg.DockerTLS}, SystemBus: cfg.SystemBus,
		Logger: n.logger("local"), Registerer: cfg.Registerer,
	})
	if err != nil {
		return nil, err
	}
	if cfg.RemoteExec {
		n.exec = agent.NewExec(cfg.NodeName, keys{n.dispatcher, n.tokens.agent}, n.logger("exec"))
	}
	if err := n.newFrontEnds(); err != nil {
		return nil, err
	}
	n.watches = watch.NewSet(watch.InProcess(n.http), n.logger("watch"), cfg.Registerer)
	return n, n.watches.Replace(cfg.Watches)
}

func (c *Config) setDefaults() {
	if c.ACL.Guard == nil {
		c.ACL.Guard = &ACLGuard{replica.DefaultGuard.Min, replica.DefaultGuard.Share}
	}
	if !c.SerfLANBind.IsValid() {
		c.SerfLANBind = c.BindAddr
	}
	if !c.SerfWANBind.IsValid() {
		c.SerfWANBind = c.BindAddr
	}
	if !c.AdvertiseWAN.IsValid() {
		c.AdvertiseWAN = c.AdvertiseLAN
	}
	if c.FederationAdvertisePort == 0 {
		c.FederationAdvertisePort = c.Ports.SerfWAN
	}
	if c.Ports.SerfWAN < 0 {
		c.FederationOff = true
	}
}

func (n *Node) logger(component string) *slog.Logger {
	return n.cfg.Logger.With("component", component, "dc", n.cfg.Datacenter)
}

// fail reports that a part which should run as long as the node has ended.
func (n *Node) fail(err error) {
	n.log.Error("stopping: a part failed", "err", err)
	select {
	case n.failed <- err:
	default: // the first one is enough
	}
}

// lanAddr is our address of a port inside the datacenter.
func (n *Node) lanAddr(port int) netip.AddrPort {
	return netip.AddrPortFrom(n.cfg.AdvertiseLAN, uint16(port))
}

// dataFile is a path in the data folder, "" without one.
func (n *Node) dataFile(elem ...string) string {
	if n.cfg.DataDir == "" {
		return ""
	}
	return filepath.Join(append([]string{n.cfg.DataDir}, elem...)...)
}

// gossipKey is the LAN ring's primary key: it authenticates wan join.
func (n *Node) gossipKey() []byte {
	if n.lan == nil {
		return nil
	}
	return n.lan.PrimaryKey()
}

// newLAN builds the LAN pool.
func (n *Node) newLAN() (err error) {
	cfg := &n.cfg
	gc := gossip.Config{
		Scope: "lan", Name: cfg.NodeName, ID: n.id, Datacenter: cfg.Datacenter, Tags: n.lanTags(),
		Profile:   profile(gossip.LAN(), cfg.GossipLAN),
		Transport: n.net.LANGossip(n),
		Bind:      netip.AddrPortFrom(cfg.SerfLANBind, uint16(cfg.Ports.SerfLAN)),
		Advertise: n.lanAddr(cfg.Ports.SerfLAN),
		Key:       cfg.EncryptKey, AllowPlainIncoming: cfg.AllowPlainGossip, PlainOutgoing: cfg.SendPlainGossip,
		AllowedCIDRs: cfg.SerfLANAllowed, SnapshotFile: n.dataFile("serf", "local.snapshot"),
		RejoinAfterLeave: cfg.RejoinAfterLeave, Sparse: !cfg.Server, ReconnectTimeout: cfg.ReconnectTimeoutLAN,
		DisableCoordinates: cfg.DisableCoordinates, OnUserEvent: n.receiveEvent,
		AdmitPool: n.sameCluster,
		Logger:    n.logger("gossip"), Registerer: cfg.Registerer,
	}
	if cfg.Server {
		gc.Admit = n.sameCluster
	}
	if !cfg.DisableKeyringFile {
		gc.KeyringFile = n.dataFile("serf", "local.keyring")
	}
	n.lan, err = gossip.New(gc)
	return err
}

// profile overlays the configured timings on a pool's own.
func profile(p gossip.Profile, g Gossip) gossip.Profile {
	set := func(v *int, to int) {
		if to > 0 {
			*v = to
		}
	}
	setd := func(v *time.Duration, to time.Duration) {
		if to > 0 {
			*v = to
		}
	}
	set(&p.GossipNodes, g.GossipNodes)
	setd(&p.GossipInterval, g.GossipInterval)
	setd(&p.ProbeInterval, g.ProbeInterval)
	setd(&p.ProbeTimeout, g.ProbeTimeout)
	set(&p.RetransmitMult, g.RetransmitMult)
	set(&p.SuspicionMult, g.SuspicionMult)
	return p
}

// commandTag is a server's version of commands (store.CommandVersion).
const commandTag = "lb_cmd"

// Tags that tools read (spec gossip-federation 3). The pools add id and dc.
func (n *Node) commonTags() map[string]string {
	return map[string]string{
		"build": n.cfg.Version + ":" + n.cfg.Release, "segment": "",
		"vsn": "2", "vsn_min": "2", "vsn_max": "3",
	}
}

func (n *Node) serverTags() map[string]string {
	t := n.commonTags()
	t["role"], t["port"], t["raft_vsn"], t["acls"], t["ft_fs"], t["ft_si"] = "consul", strconv.Itoa(n.cfg.Ports.Server), "3", n.cfg.ACL.tag(), "1", "1"
	if n.cfg.Bootstrap || n.cfg.BootstrapExpect == 1 {
		t["bootstrap"] = "1"
	} else if n.cfg.BootstrapExpect > 1 {
		t["expect"] = strconv.Itoa(n.cfg.BootstrapExpect)
	}
	if n.cfg.LANTLS != nil {
		t["use_tls"] = "1"
	}
	// What this server understands: a leader proposes a kind only when every Raft
	// member does, and `operator upgrade-check` compares them.
	t[commandTag], t["lb_rpc"], t["lb_disk"] = strconv.Itoa(store.CommandVersion), strconv.Itoa(store.WireVersion), strconv.Itoa(store.DiskVersion)
	return t
}

func (n *Node) lanTags() map[string]string {
	if !n.cfg.Server {
		t := n.commonTags()
		t["role"] = "node"
		if d := n.cfg.AdvertiseReconnectTimeout; d > 0 {
			t[gossip.ReconnectTag] = d.String()
		}
		return t
	}
	t := n.serverTags()
	if id := n.srv.cluster(); id != "" {
		t[clusterTag] = id
	}
	if n.cfg.Federated() && !n.srv.wan.hasLeft() {
		t["wan_join_port"] = strconv.Itoa(n.cfg.Ports.SerfWAN)
	}
	return t
}

// record is this node as it should be in the catalog.
func (n *Node) record() *store.Node {
	lan, wan := n.cfg.AdvertiseLAN, n.cfg.AdvertiseWAN
	tagged := map[string]string{"lan": lan.String(), "wan": wan.String()}
	family := func(prefix string, a netip.Addr) {
		if a.Is4() {
			tagged[prefix+"_ipv4"] = a.String()
		} else {
			tagged[prefix+"_ipv6"] = a.String()
		}
	}
	family("lan", lan)
	family("wan", wan)
	meta := map[string]string{"consul-network-segment": "", "consul-version": n.cfg.Version}
	for k, v := range *n.meta.Load() {
		meta[k] = v
	}
	return &store.Node{
		ID: n.id, Node: n.cfg.NodeName, Address: lan.String(), Datacenter: n.cfg.Datacenter,
		TaggedAddresses: tagged, Meta: meta,
	}
}

// streamConfig is how the LAN port, or a client agent's dialer, works.
func (n *Node) streamConfig(bind netip.AddrPort) stream.Config {
	cfg := &n.cfg
	c := stream.Config{
		Bind: bind, Datacenter: cfg.Datacenter, Domain: cfg.Domain,
		HandshakeTimeout:  cfg.Limits.RPCHandshakeTimeout,
		MaxConnsPerClient: func() int { return int(n.maxConns.Load()) },
		Greeter:           n.Greeter(),
		Logger:            n.logger("lan"), Registerer: cfg.Registerer,
	}
	if cfg.Server {
		c.Advertise = net.TCPAddrFromAddrPort(n.lanAddr(cfg.Ports.Server))
	}
	if t := cfg.LANTLS; t != nil {
		now := t.Verify()
		c.TLS = stream.TLS{
			Incoming: t.Server, Outgoing: t.Client, Verify: t.Verify,
			VerifyIncoming: now.Incoming, VerifyOutgoing: now.Outgoing, VerifyServerHostname: now.ServerHostname,
		}
	}
	return c
}
