package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"landbridge/federation/dnsapi"
	"landbridge/federation/httpapi"
	"landbridge/forwarding"
	"landbridge/forwarding/rpc"
	"landbridge/forwarding/view"
	"landbridge/lan/gossip"
)

// stopTimeout bounds the whole of Stop: a supervisor kills what takes longer.
const stopTimeout = 10 * time.Second

func (n *Node) newFrontEnds() (err error) {
	cfg := &n.cfg
	var cache httpapi.Cache
	if cfg.HTTP.UseCache {
		cache = n.views
	}
	var front httpapi.ACL
	if n.identities != nil {
		front = frontACL{n, n.identities}
	}
	n.http, err = httpapi.New(httpapi.Config{
		Do: n.views, Cache: cache, Bounded: n.views, Agent: backend{n}, Local: n.agent,
		ACL: front, DefaultDeny: cfg.ACL.DefaultPolicy == "deny", DefaultToken: n.tokens.user,
		Datacenter: cfg.Datacenter, NodeName: cfg.NodeName,
		Version: httpapi.Version{HumanVersion: cfg.Version, Release: cfg.Release},
		DevMode: cfg.DevMode, TranslateWAN: cfg.TranslateWAN, Streaming: cfg.UseStreaming,
		DefaultQueryTime: cfg.DefaultQueryTime, MaxQueryTime: cfg.MaxQueryTime,
		KVMaxValueSize: cfg.Limits.KVMaxValueSize, TxnMaxReqLen: cfg.Limits.TxnMaxReqLen, AllowUnprintable: cfg.HTTP.AllowUnprintable, MaxHeaderBytes: cfg.HTTP.MaxHeaderBytes, TLSHandshakeTimeout: cfg.Limits.HTTPSHandshakeTimeout,
		BlockEndpoints: cfg.HTTP.BlockEndpoints, AllowWriteFrom: cfg.HTTP.AllowWriteHTTPFrom, ResponseHeaders: cfg.HTTP.ResponseHeaders,
		Reloadable: cfg.httpReloadable(), LogStream: cfg.LogStream, Gatherer: cfg.Gatherer,
		Logger: n.logger("http"), Registerer: cfg.Registerer,
	})
	if err != nil {
		return err
	}
	n.dns, err = dnsapi.New(dnsapi.Config{
		Do: rpc.DoerFunc(n.views.Follow), Datacenter: cfg.Datacenter, Node: cfg.NodeName, Domain: cfg.Domain, AltDomain: cfg.AltDomain,
		Token: n.tokens.dns, Settings: cfg.DNS, TranslateWAN: cfg.TranslateWAN,
		Logger: n.logger("dns"), Registerer: cfg.Registerer,
	})
	return err
}

func (c *Config) httpReloadable() httpapi.Reloadable {
	return httpapi.Reloadable{MaxConnsPerClient: c.Limits.HTTPMaxConnsPerClient, DiscoveryMaxStale: c.DiscoveryMaxStale, EnableDebug: c.EnableDebug, StaleIfError: c.StaleIfError}
}

func (c *Config) callLimits() forwarding.Limits {
	return forwarding.Limits{ClientTimeout: c.Limits.RPCClientTimeout, RPCRate: c.Limits.RPCRate, RPCBurst: c.Limits.RPCMaxBurst}
}

func (c *Config) viewLimits() view.Limits {
	return view.Limits{FetchRate: c.Cache.EntryFetchRate, FetchBurst: c.Cache.EntryFetchMaxBurst, CallTime: c.Limits.RPCClientTimeout, DNSStale: c.DNSStaleIfError}
}

// Start runs the node. The order, and why:
//
//  1. HTTP listens first: who waits for the agent gets an answer (500, no leader)
//     at once instead of a refused connection.
//  2. The LAN port serves before Raft starts, since peers call as soon as they
//     know us, and Raft answers on it.
//  3. Raft loads its snapshot before gossip tells anybody that we are here.
//  4. Gossip, then what follows it: the leader's duties, the bootstrapper.
//  5. The WAN socket, the certificate authority, and its pool once we have a
//     certificate: other datacenters being away delays nothing here.
//  6. The agent's own services; DNS, above the views it asks; then joining, which
//     may go on for ever.
//  7. The watches of the configuration, which ask like any client of ours.
//
// Stop goes the other way round, but for HTTP, which ends next after the watches.
func (n *Node) Start(ctx context.Context) (err error) {
	if err := n.listenHTTP(); err != nil {
		return errors.Join(err, n.http.Stop(ctx), n.stack.stop(ctx))
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.http.Stop(ctx), n.stack.stop(ctx))
		}
	}()
	n.stack.push("LAN calls", n.lanView.pool.Stop)
	if n.srv != nil {
		if err := n.srv.startLAN(ctx); err != nil {
			return err
		}
	}
	if err := n.lan.Start(ctx); err != nil {
		return fmt.Errorf("LAN gossip: %w", err)
	}
	n.stack.push("LAN gossip", n.lan.Stop)
	n.lanView.refresh(n.lan.Members())
	n.stack.run("LAN members", n.fail, n.followLAN)
	if n.srv == nil {
		n.stack.run("server rotation", n.fail, func(ctx context.Context) error {
			return n.lanView.rotate(ctx, func() int { return len(n.lan.Members()) })
		})
	}
	if n.srv != nil {
		if err := n.srv.startDuties(ctx); err != nil {
			return err
		}
	}
	if err := n.loadDefinitions(&n.cfg); err != nil {
		return err
	}
	n.stack.run("agent", n.fail, n.agent.Run)
	if n.exec != nil {
		n.stack.run("remote execution", n.fail, n.exec.Run)
	}
	if !n.cfg.DisableCoordinates {
		n.stack.run("coordinates", n.fail, n.tellCoordinate)
	}
	n.stack.push("probes", n.dispatcher.Stop)
	n.stack.push("views", n.views.Stop)
	if n.srv != nil {
		// Agents that ask this server go to others before it forgets the way to other
		// datacenters.
		n.stack.push("calls from the LAN", n.srv.drainLAN)
	}
	for _, a := range n.cfg.DNSAddrs {
		addr, err := n.dns.Listen(a.AddrPort.String())
		if err != nil {
			return err
		}
		n.dnsAddrs = append(n.dnsAddrs, addr)
	}
	n.stack.push("DNS", n.dns.Stop)
	n.stack.run("join", n.fail, n.retryJoin)
	n.stack.run("clock", n.fail, func(ctx context.Context) error { return n.watchClock(ctx, wallClock) })
	if n.cfg.HostMetrics {
		n.stack.run("host metrics", n.fail, n.tellHost)
	}
	n.stack.push("HTTP", n.http.Stop)
	// Above HTTP, which ends the queries of watches with an error.
	n.stack.run("watches", n.fail, n.watches.Run)
	n.log.Info("agent running", "node", n.cfg.NodeName, "id", n.id, "server", n.cfg.Server, "http", fmt.Sprint(n.httpAddrs))
	return nil
}

// listenHTTP binds and serves all HTTP and HTTPS addresses.
func (n *Node) listenHTTP() error {
	serve := func(a ListenAddr, f func(net.Listener) error) error {
		ln, err := listen(a, n.cfg.UnixSocket)
		if err != nil {
			return fmt.Errorf("http: %w", err)
		}
		n.httpAddrs = append(n.httpAddrs, ln.Addr())
		go func() { // ends when http.Stop closes ln, and Stop waits for it
			if err := f(ln); err != nil {
				n.fail(fmt.Errorf("http %s: %w", a, err))
			}
		}()
		return nil
	}
	for _, a := range n.cfg.HTTPAddrs {
		if err := serve(a, n.http.Serve); err != nil {
			return err
		}
	}
	for _, a := range n.cfg.HTTPSAddrs {
		conf, err := n.cfg.HTTPSTLS.Server()
		if err != nil {
			return fmt.Errorf("https: %w", err)
		}
		if err := serve(a, func(ln net.Listener) error { return n.http.ServeTLS(ln, conf) }); err != nil {
			return err
		}
	}
	return nil
}

// startLAN opens the server port and starts Raft behind it.
func (s *server) startLAN(ctx context.Context) error {
	n := s.n
	life, cancel := context.WithCancel(context.Background())
	s.port.OnSession(func(sess rpc.Session, peer string) { s.serveLAN(life, sess, peer) })
	s.drainLAN = s.lanSessions.drain(cancel)
	n.stack.push("LAN sessions", s.drainLAN)
	if err := s.port.Start(ctx); err != nil {
		return fmt.Errorf("server port: %w", err)
	}
	if err := s.raft.Start(ctx); err != nil {
		return fmt.Errorf("raft: %w", err)
	}
	n.stack.push("Raft", s.raft.Stop)
	n.stack.run("catching up", n.fail, s.local.watch)
	n.stack.run("tombstones", n.fail, s.state.RunReaper)
	n.stack.run("cluster id", n.fail, s.markCluster)
	if n.cfg.DataDir != "" {
		n.stack.run("last seen", n.fail, n.keepSeen)
	}
	return nil
}

// startDuties runs what needs gossip: leadership, bootstrap, and the WAN.
func (s *server) startDuties(ctx context.Context) error {
	n := s.n
	n.stack.run("leader", n.fail, s.leader.Run)
	n.stack.run("missed agents", n.fail, s.missed.run)
	n.stack.run("bootstrap", n.fail, s.boot.Run)
	n.stack.run("touch", n.fail, s.keepInTouch)
	n.stack.run("rivals", n.fail, s.watchRivals)
	n.stack.run("certificates", n.fail, s.runAuthority)
	if s.wan != nil {
		return s.startWAN(ctx)
	}
	return nil
}

// runAuthority follows the trust record once this server has caught up: what a
// restarted server replays from its log are roots of the past, and who shows a
// certificate below one of them is refused by everybody.
func (s *server) runAuthority(ctx context.Context) error {
	select {
	case <-s.local.ready:
		return s.authority.Run(ctx)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// startWAN opens the WAN socket. The pool starts when there is a certificate.
func (s *server) startWAN(ctx context.Context) error {
	n, w := s.n, s.wan
	life, cancel := context.WithCancel(context.Background())
	w.endpoint.OnRPC(func(sess *transportSession, peer string) {
		w.ways.accepted(sess, peer)
		s.serveWAN(life, sess, peer)
	})
	w.endpoint.OnEnroll(func(conn *transportEnrollConn) { s.authority.ServeEnroll(life, conn) })
	n.stack.push("WAN sessions", s.wanSessions.drain(cancel))
	if err := w.endpoint.Start(ctx); err != nil {
		return fmt.Errorf("WAN socket: %w", err)
	}
	n.stack.push("WAN calls", w.rpc.Stop)
	n.stack.run("WAN pool", n.fail, s.runWAN)
	return nil
}

// followLAN keeps the views of the LAN pool fresh.
func (n *Node) followLAN(ctx context.Context) error {
	events, cancel := n.lan.Subscribe()
	defer cancel()
	n.lanView.refresh(n.lan.Members())
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-n.asked:
		case ev, ok := <-events:
			if !ok {
				return nil
			}
			n.lanView.refresh(n.lan.Members())
			if n.srv != nil {
				for _, c := range []chan struct{}{n.membersChanged, n.srv.rivalsChanged} {
					select {
					case c <- struct{}{}:
					default: // it has not looked since the last one
					}
				}
			}
			if ev.Kind == gossip.Joined || ev.Kind == gossip.Resync {
				n.agent.ServersChanged()
			}
			if n.srv != nil && n.srv.wan != nil {
				n.srv.wan.floodNow()
			}
		}
	}
}

// Stop ends the node without leaving: the others will see it failed. A leader first
// has another server lead, while everything here still runs: whoever asks this agent
// meanwhile is passed on. It may be called again.
func (n *Node) Stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	if n.srv != nil {
		n.srv.handOver(ctx)
	}
	return n.stack.stop(ctx)
}

// sessions are those that other agents opened and that are being served.
type sessions struct {
	mu      sync.Mutex // held while one is added and while the end of all begins
	serving sync.WaitGroup
}

// serve runs f. A session that comes after the end of all has begun ends with ctx at
// once, its caller told to go elsewhere, and nobody waits for it but its port.
func (s *sessions) serve(ctx context.Context, f func()) {
	s.mu.Lock()
	if ctx.Err() == nil {
		s.serving.Add(1)
		defer s.serving.Done()
	}
	s.mu.Unlock()
	f()
}

// drain ends sessions in good order: calls under way are answered, and callers are
// told to go elsewhere, before their port closes. What it returns may be called again.
func (s *sessions) drain(cancel context.CancelFunc) func(context.Context) error {
	return func(ctx context.Context) error {
		s.mu.Lock()
		cancel()
		s.mu.Unlock()
		done := make(chan struct{})
		go func() { defer close(done); s.serving.Wait() }()
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
