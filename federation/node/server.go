package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	aclreplication "landbridge/acl_replication"
	"landbridge/federation"
	"landbridge/federation/trust"
	"landbridge/forwarding"
	"landbridge/forwarding/endpoint"
	"landbridge/forwarding/rpc"
	"landbridge/lan/gossip"
	"landbridge/lan/leader"
	"landbridge/store"
	"landbridge/store/consensus"
	"landbridge/store/fsm"
	"landbridge/store/raftlog"
	"landbridge/store/state"
	wangossip "landbridge/wan/gossip"
	"landbridge/wan/transport"
)

// server is what a server has beyond a client agent.
type server struct {
	n                        *Node
	state                    *state.Store
	stores                   *raftlog.Stores
	raft                     *consensus.Node
	port                     LANPort
	local                    *local
	rpc                      *rpc.Server
	limiter                  *forwarding.Limiter
	leader                   *leader.Leader
	boot                     *leader.Bootstrapper
	rivals                   *leader.Rivals
	rivalsChanged            chan struct{} // one slot: members may have changed
	lanSessions, wanSessions sessions
	drainLAN                 func(context.Context) error
	missed                   *missed // client agents whose sessions ended

	outlook   outlook
	authority *trust.Authority
	wan       *wan // nil when not federated
	keys      *keyCopies
	copy      *aclreplication.Secondary // nil in the primary, and while ACLs are off
}

// wan is a federation server's part in the WAN.
type wan struct {
	endpoint *transport.Endpoint
	pool     *wangossip.Pool
	dir      *federation.Directory
	rpc      *rpc.Pool
	moved    moved
	ways     ways
	kick     chan struct{} // wakes runWAN, buffered
	announce chan struct{} // wakes announce, buffered
	// trustChanged: roots or evictions are not those that open connections were
	// checked by.
	trustChanged atomic.Bool

	mu      sync.Mutex
	pending map[string]time.Time // addresses to join -> until when to try
	tried   map[string]bool      // of those, the ones that answered
	met     map[string]bool      // the datacenters whose servers were met: see meet.go

	life    context.Context // of our part in the WAN; set before the directory runs
	meeting sync.WaitGroup
	running chan struct{}      // closed while the pool runs: we have a certificate
	left    bool               // out of the federation until a join: see leave.go
	back    chan struct{}      // closed by that join; nil while not left
	leave   context.CancelFunc // ends what runs of the pool; nil while nothing does
	gone    chan struct{}      // closed when it has ended
}

// newServer builds the server's parts, in the order of what they need. Nothing
// runs yet but the sockets, which are bound so that ports are known.
func (n *Node) newServer() (_ *server, err error) {
	cfg := &n.cfg
	s := &server{n: n, state: state.New(), missed: newMissed(n)}
	if s.port, err = n.net.ListenLAN(n); err != nil {
		return nil, err
	}
	n.stack.push("LAN port", s.port.Stop)
	if err := s.openStores(); err != nil {
		return nil, err
	}
	heartbeat, _ := consensus.Timings(cfg.RaftMultiplier)
	trans := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: quickDial{s.port.RaftLayer()}, MaxPool: 3, Timeout: max(10*time.Second, 4*heartbeat),
		Logger: consensus.HCLog(n.logger("raft")),
	})
	n.stack.push("Raft transport", func(context.Context) error { return trans.Close() }) // for a node that is never started
	s.raft, err = consensus.New(consensus.Config{
		NodeID: n.id, Address: n.lanAddr(cfg.Ports.Server).String(),
		FSM: fsm.New(s.state, n.logger("fsm")), EncodeBatch: fsm.AppendBatch,
		Recoveries:     func() uint64 { return s.state.Cluster().Recoveries },
		CommandVersion: n.lanView.commandVersion,
		Stores:         s.stores, Transport: trans, Multiplier: cfg.RaftMultiplier,
		Snapshots: cfg.snapshots(),
		Logger:    n.logger("raft"), Registerer: cfg.Registerer, Fatal: n.fail,
	})
	if err != nil {
		return nil, err
	}
	var tokens *serverTokens
	if cfg.ACL.Enabled {
		if tokens, err = s.newTokens(); err != nil {
			return nil, err
		}
		n.identities = tokens
	}
	set, err := endpoint.New(endpoint.Config{
		Tokens: n.identities, KeyListPolicy: cfg.ACL.KeyListPolicy,
		Datacenter: cfg.Datacenter, State: s.state, Consensus: s.raft,
		Servers: s.raftServers, Datacenters: s.datacenters, Status: s.status, WANCoordinates: s.wanCoordinates,
		Remote:           rpc.DoerFunc(func(ctx context.Context, req *rpc.Request) (*rpc.Response, error) { return n.dispatcher.Do(ctx, req) }),
		DefaultQueryTime: cfg.DefaultQueryTime, MaxQueryTime: cfg.MaxQueryTime,
		RenewSession:  func(id string) (*store.Session, error) { return s.leader.RenewSession(id) },
		MinSessionTTL: cfg.SessionTTLMin,
		Logger:        n.logger("endpoint"), Registerer: cfg.Registerer,
	})
	if err != nil {
		return nil, err
	}
	set.HandleSnapshots(s.snapshots())
	set.Handle(rpc.ACLResolve, func(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
		if tokens == nil {
			return nil, store.ErrACLOff
		}
		return tokens.Answer(ctx, req)
	})
	set.HandleOperator(s.operator())
	set.HandleACL(s.aclMethods())
	s.local = &local{set: set, raft: s.raft, hold: cfg.RPCHoldTimeout, askLeader: s.askLeader, ready: make(chan struct{})}
	s.limiter = forwarding.NewLimiter(cfg.Limits.Requests, n.logger("limits"), cfg.Registerer)
	s.rpc = rpc.NewServer(rpc.ServerConfig{
		Lost: s.missed.lost,
		Handler: rpc.DoerFunc(func(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
			if err := s.limiter.Admit(req); err != nil {
				return nil, err
			}
			if req.Origin == rpc.FromWAN {
				if err := trust.CheckSource(req); err != nil {
					return nil, err
				}
			}
			if req.Origin == rpc.FromLAN && req.Datacenter != "" && req.Datacenter != cfg.Datacenter {
				return n.views.Do(ctx, req) // client agents share calls to other datacenters
			}
			return n.dispatcher.Do(ctx, req)
		}),
		Logger:     n.logger("rpc"),
		Registerer: cfg.Registerer,
	})
	n.lanView.leader, n.lanView.leaderChanged, n.lanView.outlook = s.raft.Leader, s.raft.LeaderChanged, s.askOutlook
	cfg.Registerer.MustRegister(&storeCollector{s.state}, &raftCollector{s.raft})
	if err := s.newTrust(); err != nil {
		return nil, err
	}
	if cfg.Federated() {
		if err := s.newWAN(); err != nil {
			return nil, err
		}
		set.Handle(rpc.FederationPeers, s.joinPushed)
	}
	set.Handle(rpc.FederationStatus, s.federationStatus)
	set.Handle(rpc.FederationLeave, s.federationLeave)
	set.Handle(rpc.TrustRoots, s.roots)
	set.Handle(rpc.TrustSignServer, s.authority.SignServer)
	set.Handle(rpc.TrustSignIntermediate, s.authority.SignIntermediate)
	set.Handle(rpc.TrustJoin, s.authority.JoinHandler)
	set.Handle(rpc.TrustSync, s.authority.SyncHandler)
	set.Handle(rpc.TrustConfirm, s.authority.ConfirmHandler)
	set.Handle(rpc.TrustPull, s.authority.PullHandler)
	set.Handle(rpc.TrustHolder, s.authority.HolderHandler)
	set.Handle(rpc.TrustToken, s.authority.TokenHandler)
	set.Handle(rpc.TrustEvict, s.authority.EvictHandler)
	set.Handle(rpc.TrustRotate, s.authority.RotateHandler)
	set.Handle(rpc.TrustPromote, s.promote)
	set.Handle(rpc.TrustPromotionPlan, s.planPromotion)
	set.Handle(rpc.TrustFollow, s.authority.FollowHandler)
	set.Handle(rpc.TrustPromotion, s.authority.PromotionHandler)
	set.Handle(rpc.TrustStatus, s.authority.StatusHandler)
	s.newReplication(set)
	if err := s.newLeader(set); err != nil {
		return nil, err
	}
	return s, nil
}

// quickDial gives dials up early, to begin anew: one to a host without power hangs,
// and would go on to when the host is back.
type quickDial struct{ raft.StreamLayer }

func (q quickDial) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return q.StreamLayer.Dial(address, min(timeout, lanDialTimeout))
}

func (s *server) openStores() (err error) {
	n := s.n
	s.stores, err = n.net.OpenStores(n, raftlog.Options{
		RaftID: n.id, Fatal: n.fail, Logger: n.logger("raftlog"), Registerer: n.cfg.Registerer,
	})
	if err != nil {
		return err
	}
	n.stack.push("Raft log", func(context.Context) error { return s.stores.Close() })
	return nil
}

// newTrust builds the certificate authority. A server that stays out of the WAN
// has one too: it may come to lead, and then keeps the root for the others.
func (s *server) newTrust() (err error) {
	n, cfg := s.n, &s.n.cfg
	var consents func(context.Context, string, func(string) bool) error
	if cfg.ACL.Enabled {
		consents = s.consents
	}
	s.authority, err = trust.New(trust.Config{
		Consents: consents,
		Node:     cfg.NodeName, Datacenter: cfg.Datacenter, PrimaryDatacenter: cfg.Primary, Domain: cfg.Domain,
		FederationID: cfg.TrustDomainID, DataDir: cfg.DataDir,
		GossipKey: n.gossipKey, EnrollByKey: cfg.EnrollByKey, AllowUnauthenticated: cfg.AllowUnauthenticated,
		LoopbackSocket: cfg.SerfWANBind.IsLoopback(), Operator: cfg.OperatorCerts,
		State: promotable{trust.StateOf(s.state), s}, Apply: s.raft.Apply, IsLeader: s.raft.IsLeader,
		Call:    rpc.DoerFunc(func(ctx context.Context, req *rpc.Request) (*rpc.Response, error) { return n.dispatcher.Do(ctx, req) }),
		Dial:    s.dialEnroll,
		Servers: s.memberServers, Addresses: s.joinAddresses, Ask: s.askServer, HandOver: s.handOverTo,
		Changed: func() {
			if s.wan != nil {
				// A resumed session is about the certificates it began with.
				s.wan.endpoint.ForgetSessions()
				s.wan.trustChanged.Store(true)
				s.wan.floodNow() // who could not be joined before perhaps can now
			}
		},
		Logger: n.logger("trust"), Registerer: cfg.Registerer,
	})
	return err
}

func (s *server) dialEnroll(ctx context.Context, addr string) (trust.EnrollConn, error) {
	if s.wan == nil {
		return nil, trust.ErrNotFederated
	}
	to, err := resolve(ctx, addr, s.n.cfg.Ports.SerfWAN)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, enrollDialTimeout)
	defer cancel()
	c, err := s.wan.endpoint.DialEnroll(ctx, to)
	// QUIC's own time-out may come first: it is the same.
	var timeout net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		return nil, store.Errorf(store.KindUnreachable,
			"no answer from %s over UDP: does a server run there, and is that UDP port open in both directions (firewalls, security groups, NAT)? Nothing but this one port is needed: %w", to, err)
	}
	if err != nil {
		return nil, err // not c: a nil pointer in an interface is not nil
	}
	return c, nil
}

// enrollDialTimeout bounds the dial of a join: blocked UDP is told within ten
// seconds, also by a server that has just started and tries twice.
const enrollDialTimeout = 4 * time.Second

// newWAN builds the WAN side: socket, pool, directory.
func (s *server) newWAN() (err error) {
	n, cfg, a := s.n, &s.n.cfg, s.authority
	w := &wan{running: make(chan struct{}), kick: make(chan struct{}, 1), announce: make(chan struct{}, 1), pending: map[string]time.Time{}, tried: map[string]bool{}}
	if w.left = n.hasLeft(); w.left {
		w.back = make(chan struct{})
		n.log.Warn("this datacenter left the federation: no other is joined, nor retry_join_wan followed, until `landbridge wan join`")
	}
	secret := make([]byte, 32)
	if cfg.DataDir != "" {
		if secret, err = transport.LoadSecret(filepath.Join(cfg.DataDir, "federation", "socket.key")); err != nil {
			return err
		}
	} else if _, err := rand.Read(secret); err != nil {
		return err
	}
	bind := netip.AddrPortFrom(cfg.SerfWANBind, uint16(cfg.Ports.SerfWAN))
	socket, err := n.net.ListenWAN(bind)
	if err != nil {
		return fmt.Errorf("WAN socket %s: %w", bind, err)
	}
	advertise := netip.AddrPortFrom(cfg.AdvertiseWAN, uint16(cfg.FederationAdvertisePort))
	w.endpoint, err = transport.Listen(transport.Config{
		Name: wangossip.Name(cfg.NodeName, cfg.Datacenter), Socket: socket, Advertise: advertise, Secret: secret,
		ServerTLS: a.ServerTLS, ClientTLS: a.ClientTLS, PeerName: a.PeerName, Nearby: s.nearby(), RelayTo: s.relayTo(),
		Logger: n.logger("wan"), Registerer: cfg.Registerer,
	})
	if err != nil {
		return errors.Join(err, socket.Close())
	}
	n.stack.push("WAN socket", w.endpoint.Stop)
	w.moved.start()
	n.stack.push("looks at addresses", w.moved.stop)
	w.ways.start(s)
	n.stack.push("ways to other datacenters", w.ways.stop)
	w.pool, err = wangossip.New(wangossip.Config{
		Node: cfg.NodeName, ID: n.id, Datacenter: cfg.Datacenter, Tags: n.wanTags(),
		Transport: w.endpoint.Gossip(), Advertise: advertise,
		Profile:      profile(wangossip.Profile(), cfg.GossipWAN),
		AllowedCIDRs: cfg.SerfWANAllowed,
		SnapshotFile: n.dataFile("serf", "remote.snapshot"), RejoinAfterLeave: cfg.RejoinAfterLeave,
		ReconnectTimeout: cfg.ReconnectTimeoutWAN, DisableCoordinates: cfg.DisableCoordinates,
		Admit: func(m gossip.Member, _ string) error {
			if s.evicted(m.Name) {
				return fmt.Errorf("it was evicted: %w", gossip.ErrKeptOut)
			}
			s.claimed(m.Name, m.AddrPort())
			return nil
		},
		Logger: n.logger("wan-gossip"), Registerer: cfg.Registerer,
	})
	if err != nil {
		return err
	}
	w.dir = federation.New(federation.Config{
		Datacenter: cfg.Datacenter, Members: s.wanMembers, Subscribe: w.pool.Subscribe,
		Distance: s.distance, Paths: w.paths, Via: w.ways.via,
		OnServer: func(srv federation.Server) {
			if srv.Datacenter != cfg.Datacenter {
				n.dispatcher.Datacenter(srv.Datacenter)
				s.meet(srv)
			}
		},
		Logger: n.logger("federation"), Registerer: cfg.Registerer,
	})
	w.rpc = rpc.NewPool(rpc.PoolConfig{
		Dial: w.ways.dial, DialBulk: w.ways.dialBulk,
		Client: rpc.ClientConfig{Lanes: wanLanes, Bulk: wanBulk, Compress: true, Metrics: n.calls},
		Logger: n.logger("wan"),
	})
	s.wan = w
	return nil
}

// wanLanes is how many streams small requests to one server share: a lost packet
// delays those of its own stream only.
const wanLanes = 8

// wanBulk is how many connections to one server large answers may come over, beside
// that of calls. At 0.5 % loss and
// 40 ms each brings some 5 to 15 Mbit/s.
const wanBulk = 4

// distance estimates the round trip to a server of the WAN: what QUIC measures on
// an open connection, else network coordinates.
func (s *server) distance(name string) (time.Duration, bool) {
	if rtt, ok := s.wan.endpoint.RTT(name); ok {
		return rtt, true
	}
	theirs, ok := s.wan.pool.CachedCoordinate(name)
	if !ok || theirs == nil {
		return 0, false
	}
	ours, err := s.wan.pool.Coordinate()
	if err != nil {
		return 0, false
	}
	return ours.DistanceTo(theirs), true
}

// roots is TrustRoots. With connect.enabled = false the authority still serves the
// WAN, but is not shown to clients.
func (s *server) roots(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	if !s.n.cfg.ConnectEnabled {
		return nil, store.Errorf(store.KindInvalid, "Connect must be enabled in order to use this endpoint")
	}
	return s.authority.Roots(ctx, req)
}

// serveLAN answers a session that another agent of this datacenter opened.
func (s *server) serveLAN(ctx context.Context, sess rpc.Session, peer string) {
	s.lanSessions.serve(ctx, func() {
		if err := s.rpc.ServeSession(ctx, sess, rpc.FromLAN, peer); err != nil {
			s.n.log.Debug("LAN session ended", "peer", peer, "err", err)
		}
	})
}

func (s *server) serveWAN(ctx context.Context, sess rpc.Session, peer string) {
	s.wanSessions.serve(ctx, func() {
		if err := s.rpc.ServeSession(ctx, sess, rpc.FromWAN, peer); err != nil {
			s.n.log.Debug("WAN session ended", "peer", peer, "err", err)
		}
	})
}

func (s *server) datacenters() []string {
	if s.wan == nil {
		return []string{s.n.cfg.Datacenter}
	}
	return s.wan.dir.Datacenters()
}

// memberServers are the servers of this datacenter that gossip has not seen leave.
func (s *server) memberServers() []string {
	var names []string
	for _, m := range s.n.lan.Members() {
		if _, ok := serverPeer(m); ok && m.Status != gossip.Left {
			names = append(names, m.Name)
		}
	}
	return names
}

func (s *server) status() store.ServerStatus {
	cluster, recoveries := s.history()
	st := store.ServerStatus{
		NodeID: s.n.id, Node: s.n.cfg.NodeName, ClusterID: cluster, Recoveries: recoveries,
		Leader: s.raft.IsLeader(), HasState: s.raft.HasState(), LastContact: s.raft.LastContact(),
		Started: s.n.started.UnixNano(),
	}
	for _, srv := range s.raft.Servers() {
		st.Peers = append(st.Peers, srv.ID)
	}
	if r := s.raft.Raft(); r != nil {
		st.LastIndex = r.LastIndex()
		st.LastTerm = s.raft.LastTerm()
	}
	slices.Sort(st.Peers)
	return st
}

// resolve turns host, host:port or a literal address into one address and port.
func resolve(ctx context.Context, addr string, defaultPort int) (netip.AddrPort, error) {
	if ap, err := netip.ParseAddrPort(addr); err == nil {
		return ap, nil
	}
	host, port := addr, strconv.Itoa(defaultPort)
	if h, p, err := net.SplitHostPort(addr); err == nil {
		host, port = h, p
	}
	num, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("address %q: bad port", addr)
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return netip.AddrPortFrom(ip, uint16(num)), nil
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if len(ips) == 0 {
		return netip.AddrPort{}, errors.New("no address for " + host)
	}
	return netip.AddrPortFrom(ips[0].Unmap(), uint16(num)), nil
}
