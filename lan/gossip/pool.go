package gossip

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"landbridge/metrics/stdlog"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/coordinate"
	"github.com/hashicorp/serf/serf"
)

// ErrNotRunning is the answer before Start and after Stop.
var ErrNotRunning = errors.New("gossip pool is not running")

// Coordinate is a Vivaldi network coordinate.
type Coordinate = coordinate.Coordinate

// Pool is one membership pool.
type Pool struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	keyring *memberlist.Keyring // nil: not encrypted

	wg sync.WaitGroup // operations of serf that outlive their callers, and drain

	mu      sync.Mutex
	serf    *serf.Serf                    // nil before Start
	dialer  memberlist.NodeAwareTransport // what serf uses; nil before Start, or if it is none
	stopped bool
	done    chan struct{}      // made by the first Stop, closed when all has ended
	end     context.CancelFunc // ends rejoin and doubt; nil before Start

	intent  chan struct{} // one slot: held during serf.Join
	leaving chan struct{} // one slot: held during serf.Leave and serf.Shutdown
	left    chan struct{} // one slot: full from Leave on until remember has seen it
	doubts  chan struct{} // one slot: somebody has joined who is said to leave
	tagMu   sync.Mutex    // serf.SetTags may not run twice at once

	newcomer newcomer
	greeted  int // by drain alone

	subMu      sync.Mutex
	subs       map[chan Event]struct{}
	subsClosed bool
}

// New checks the configuration and loads the keyring. Nothing is bound yet.
func New(cfg Config) (*Pool, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	keyring, err := loadKeyring(cfg.KeyringFile, cfg.Key)
	if err != nil {
		return nil, fmt.Errorf("%s gossip: %w", cfg.scope(), err)
	}
	cfg.Key = nil
	p := &Pool{
		cfg:     cfg,
		log:     cfg.Logger,
		keyring: keyring,
		intent:  make(chan struct{}, 1),
		leaving: make(chan struct{}, 1),
		left:    make(chan struct{}, 1),
		doubts:  make(chan struct{}, 1),
		subs:    make(map[chan Event]struct{}),
	}
	p.metrics = newMetrics(cfg.Registerer, cfg.scope(), p)
	return p, nil
}

// Start binds, unless Config has a Transport, and begins to gossip. Members of
// the snapshot are joined in the background. The context bounds nothing but the
// call.
func (p *Pool) Start(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.stopped:
		return ErrNotRunning
	case p.serf != nil:
		return errors.New("gossip: started twice")
	}
	conf, events, err := p.serfConfig()
	if err != nil {
		return err
	}
	previous, err := p.cfg.previous()
	if err != nil {
		p.log.Warn("members of before are not known", "file", p.cfg.SnapshotFile, "err", err)
	}
	s, err := serf.Create(conf)
	if err != nil {
		_ = conf.MemberlistConfig.Transport.Shutdown()
		return fmt.Errorf("%s gossip: %w", p.cfg.scope(), err)
	}
	if !p.holdsItself(s) {
		_ = s.Shutdown()
		return fmt.Errorf("%s gossip: this agent's own address is not in the allowed CIDRs %v", p.cfg.scope(), p.cfg.AllowedCIDRs)
	}
	life, end := context.WithCancel(context.Background())
	p.serf, p.end, p.greeted = s, end, 0
	p.dialer, _ = conf.MemberlistConfig.Transport.(memberlist.NodeAwareTransport)
	if p.cfg.SnapshotFile != "" {
		select {
		case <-p.left: // of the time before Renew
		default:
		}
		members, cancel := p.Subscribe()
		p.wg.Go(func() {
			defer cancel()
			p.remember(life, members)
		})
	}
	p.wg.Go(func() { p.drain(s, events) })
	p.wg.Go(func() { p.rejoin(life, previous) })
	p.wg.Go(func() { p.doubt(life, s) })
	return nil
}

// Stop leaves without telling anyone, unless Leave came first: the others will
// find this agent failed. It waits for what is under way until ctx is done.
func (p *Pool) Stop(ctx context.Context) error {
	p.mu.Lock()
	s, first := p.serf, !p.stopped
	if first {
		p.stopped = true
		p.done = make(chan struct{})
		if p.end != nil {
			p.end()
		}
	}
	p.mu.Unlock()
	if first {
		go p.stop(s) // ends by itself: Shutdown ends all that wg waits for
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s gossip: stop: %w", p.cfg.scope(), context.Cause(ctx))
	}
}

// Renew makes a pool that was stopped one that can be started, over another
// transport if it had one: after Leave, that is how to come back. Subscriptions
// ended with Stop.
func (p *Pool) Renew(transport memberlist.Transport) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.stopped {
		return errors.New("gossip: renewed while it runs")
	}
	select {
	case <-p.done:
	default:
		return errors.New("gossip: renewed while it stops")
	}
	p.cfg.Transport = transport
	p.serf, p.stopped, p.done = nil, false, nil
	p.subMu.Lock()
	defer p.subMu.Unlock()
	p.subsClosed = false
	return nil
}

func (p *Pool) stop(s *serf.Serf) {
	defer close(p.done)
	if s != nil {
		// memberlist panics when it is shut down in the middle of a leave.
		p.leaving <- struct{}{}
		if err := s.Shutdown(); err != nil {
			p.log.Warn("gossip shutdown", "err", err)
		}
		<-p.leaving
	} else if p.cfg.Transport != nil {
		_ = p.cfg.Transport.Shutdown()
	}
	p.wg.Wait()
	p.closeSubscribers()
}

// holdsItself says whether memberlist took us in; serf panics later if not.
func (p *Pool) holdsItself(s *serf.Serf) bool {
	for _, m := range s.Members() {
		if m.Name == p.cfg.Name {
			return true
		}
	}
	return false
}

// running returns serf between Start and Stop.
func (p *Pool) running() *serf.Serf {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return nil
	}
	return p.serf
}

// spawn runs f unless the pool is stopped: wg must not grow then.
func (p *Pool) spawn(f func(*serf.Serf)) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped || p.serf == nil {
		return false
	}
	s := p.serf
	p.wg.Go(func() { f(s) })
	return true
}

// await runs an operation of serf that cannot be cancelled but is bounded by
// serf's own time-outs, and stops waiting for it when ctx is done.
func await[T any](ctx context.Context, p *Pool, op func(*serf.Serf) (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	ch := make(chan result, 1)
	var zero T
	if !p.spawn(func(s *serf.Serf) {
		v, err := op(s)
		ch <- result{v, err}
	}) {
		return zero, ErrNotRunning
	}
	select {
	case r := <-ch:
		return r.v, r.err
	case <-ctx.Done():
		return zero, fmt.Errorf("%s gossip: %w", p.cfg.scope(), context.Cause(ctx))
	}
}

// Leave tells the pool that this agent goes for good, and returns when that is
// on its way. The pool goes on running until Stop.
func (p *Pool) Leave(ctx context.Context) error {
	_, err := await(ctx, p, func(s *serf.Serf) (struct{}, error) {
		p.leaving <- struct{}{}
		defer func() { <-p.leaving }()
		if p.running() == nil {
			return struct{}{}, ErrNotRunning
		}
		select {
		case p.left <- struct{}{}:
		default:
		}
		if err := s.Leave(); err != nil {
			return struct{}{}, err
		}
		// A member that exchanged its state with us between our intent and its
		// arrival took the intent's time for that of a join, ignores the intent
		// as old, and would hold us for failed. A second, later one reaches it.
		if err := s.RemoveFailedNode(p.cfg.Name); err != nil {
			p.log.Debug("second leave intent not sent", "err", err)
		}
		return struct{}{}, nil
	})
	return err
}

// Members returns all members this agent knows, itself included, in no order.
func (p *Pool) Members() []Member {
	s := p.running()
	if s == nil {
		return nil
	}
	list := s.Members()
	members := make([]Member, len(list))
	for i, m := range list {
		members[i] = memberOf(m)
	}
	return members
}

func (p *Pool) byName() map[string]Member {
	members := p.Members()
	m := make(map[string]Member, len(members))
	for _, v := range members {
		m[v.Name] = v
	}
	return m
}

// Local returns this agent's own entry. Before Start it has no address.
func (p *Pool) Local() Member {
	if s := p.running(); s != nil {
		return memberOf(s.LocalMember())
	}
	return Member{Name: p.cfg.Name, Tags: p.tags(p.cfg.Tags)}
}

// RemoveFailed makes a failed member one that left; with prune it is forgotten
// at once, left ones too.
func (p *Pool) RemoveFailed(name string, prune bool) error {
	s := p.running()
	if s == nil {
		return ErrNotRunning
	}
	if prune {
		return s.RemoveFailedNodePrune(name)
	}
	return s.RemoveFailedNode(name)
}

// SetTags replaces this agent's tags, those the pool sets itself excepted, and
// returns when the change was sent to somebody, or after 5 s.
func (p *Pool) SetTags(tags map[string]string) error {
	s := p.running()
	if s == nil {
		return ErrNotRunning
	}
	p.tagMu.Lock()
	defer p.tagMu.Unlock()
	return s.SetTags(p.tags(tags))
}

func (p *Pool) tags(tags map[string]string) map[string]string {
	t := make(map[string]string, len(tags)+2)
	maps.Copy(t, tags)
	t["dc"] = p.cfg.Datacenter
	if p.cfg.ID != "" {
		t["id"] = p.cfg.ID
	}
	return t
}

// Stats are counters for people, in the words of /v1/agent/self.
func (p *Pool) Stats() map[string]string {
	s := p.running()
	if s == nil {
		return map[string]string{}
	}
	return s.Stats()
}

// Coordinate returns this agent's coordinate, or an error when they are off.
func (p *Pool) Coordinate() (*Coordinate, error) {
	s := p.running()
	if s == nil {
		return nil, ErrNotRunning
	}
	return s.GetCoordinate()
}

// CachedCoordinate returns a member's coordinate as of its last probe.
func (p *Pool) CachedCoordinate(node string) (*Coordinate, bool) {
	s := p.running()
	if s == nil {
		return nil, false
	}
	return s.GetCachedCoordinate(node)
}

func (p *Pool) serfConfig() (*serf.Config, <-chan serf.Event, error) {
	cfg, prof := &p.cfg, p.cfg.Profile
	transport := cfg.Transport
	if transport == nil {
		var err error
		if transport, err = listenNet(cfg.Bind, p.log); err != nil {
			return nil, nil, fmt.Errorf("%s gossip: %w", cfg.scope(), err)
		}
	}
	if cfg.SnapshotFile != "" {
		if err := os.MkdirAll(filepath.Dir(cfg.SnapshotFile), 0o755); err != nil {
			_ = transport.Shutdown()
			return nil, nil, fmt.Errorf("%s gossip: %w", cfg.scope(), err)
		}
	}
	logger := stdlog.New(libraryLogger(p.log))

	mc := memberlist.DefaultLANConfig()
	mc.Name = cfg.Name
	mc.Transport = transport
	mc.Logger = logger
	mc.BindPort = int(cfg.defaultPort())
	mc.AdvertiseAddr, mc.AdvertisePort = "", int(cfg.Advertise.Port())
	if cfg.Advertise.Addr().IsValid() && !cfg.Advertise.Addr().IsUnspecified() {
		mc.AdvertiseAddr = cfg.Advertise.Addr().Unmap().String()
	}
	mc.GossipNodes, mc.GossipInterval = prof.GossipNodes, prof.GossipInterval
	mc.ProbeInterval, mc.ProbeTimeout = prof.ProbeInterval, prof.ProbeTimeout
	mc.RetransmitMult, mc.SuspicionMult = prof.RetransmitMult, prof.SuspicionMult
	mc.PushPullInterval, mc.TCPTimeout = prof.PushPullInterval, prof.StreamTimeout
	mc.UDPBufferSize = prof.PacketSize
	mc.EnableCompression = false // LZW costs ten times what sending the bytes does
	mc.DeadNodeReclaimTime = reclaimAfter
	mc.Keyring = p.keyring
	mc.GossipVerifyIncoming = !cfg.AllowPlainIncoming
	mc.GossipVerifyOutgoing = !cfg.PlainOutgoing
	mc.Alive, mc.Merge = delegate{p}, delegate{p}
	if cfg.AllowedCIDRs != nil {
		mc.CIDRsAllowed = make([]net.IPNet, len(cfg.AllowedCIDRs))
		for i, c := range cfg.AllowedCIDRs {
			mc.CIDRsAllowed[i] = net.IPNet{IP: c.Addr().AsSlice(), Mask: net.CIDRMask(c.Bits(), c.Addr().BitLen())}
		}
	}

	events := make(chan serf.Event, eventBacklog)
	sc := serf.DefaultConfig()
	sc.Init()
	sc.NodeName = cfg.Name
	sc.Tags = p.tags(cfg.Tags)
	sc.MemberlistConfig = mc
	sc.LogOutput, sc.Logger = nil, logger
	sc.EventCh = events
	sc.ProtocolVersion = 4 // what tools expect to see as DelegateCur; 5 adds nothing we use
	sc.ReconnectTimeout = cfg.reconnectTimeout()
	if cfg.LeftTimeout > 0 {
		sc.TombstoneTimeout = cfg.LeftTimeout
	}
	sc.ReconnectTimeoutOverride = reconnectOverride{}
	sc.LeavePropagateDelay = prof.LeavePropagate
	sc.MinQueueDepth = 4096
	sc.UserEventSizeLimit = userEventLimit + userEventRoom
	// A majority vote over a name would let hearsay shut an agent down.
	sc.EnableNameConflictResolution = false
	sc.DisableCoordinates = cfg.DisableCoordinates
	if !cfg.Sparse {
		sc.SnapshotPath, sc.RejoinAfterLeave = cfg.SnapshotFile, cfg.RejoinAfterLeave
	}
	if p.keyring != nil {
		sc.KeyringFile = cfg.KeyringFile
	}
	return sc, events, nil
}

// ReconnectTag is the tag by which a client agent says how long the others keep
// it once it failed (advertise_reconnect_timeout).
const ReconnectTag = "rc_tm"

// reconnectOverride is serf's question after a failed member's own time-out. What
// servers say there is ignored: whoever forgets one could not find it again.
type reconnectOverride struct{}

func (reconnectOverride) ReconnectTimeout(m *serf.Member, timeout time.Duration) time.Duration {
	if m.Tags["role"] != "node" {
		return timeout
	}
	if d, err := time.ParseDuration(m.Tags[ReconnectTag]); err == nil && d > 0 {
		return d
	}
	return timeout
}

const (
	// eventBacklog is how many events wait for drain, which is never far behind.
	eventBacklog = 1024
	// reclaimAfter is when a failed member's name may be used from another
	// address: a container restarted elsewhere should not wait for long.
	reclaimAfter = 5 * time.Second
)

func (c *Config) reconnectTimeout() time.Duration {
	return cmp.Or(c.ReconnectTimeout, 72*time.Hour)
}

func (c *Config) defaultPort() uint16 {
	for _, port := range []uint16{c.DefaultPort, c.Bind.Port(), c.Advertise.Port()} {
		if port != 0 {
			return port
		}
	}
	return 0
}
