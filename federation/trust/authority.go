package trust

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// Authority is one server's part in the federation's certificate authority.
type Authority struct {
	cfg         Config
	log         *slog.Logger
	metrics     *metrics
	enrollByKey atomic.Bool
	limit       *limiter
	operator    *operatorTLS

	// What is shown on the enrolment channel before there is a certificate.
	strangerCert tls.Certificate

	view    atomic.Pointer[view]
	ready   chan struct{} // closed once by install
	kick    chan struct{} // wakes Run, buffered
	changes broadcast     // after each change of view

	outgoing atomic.Int32 // joins under way from here
	// announced is the highest revision heard of from servers of the primary.
	announced atomic.Uint64
	// heard is the highest term heard of that is not in our record, rival another
	// primary of the same term.
	heard, rival atomic.Pointer[heardTerm]
	pullMu       sync.Mutex // one pull at a time
	// prune is set while open connections have to be checked by their roots, too.
	prune atomic.Bool
	// requested is the hash of the key this server asked a certificate for last.
	requested atomic.Pointer[string]

	logMu     sync.Mutex
	lastLog   time.Time
	unlogged  int
	insecure  atomic.Bool // an unauthenticated join was made or accepted
	confirmMu sync.Mutex
	// confirmed is the root below which each server of this datacenter has its
	// certificate, as it told this process while it led.
	confirmed map[string]string
}

// New makes an Authority and loads the certificate kept in the data folder.
func New(cfg Config) (*Authority, error) {
	if cfg.Domain == "" {
		cfg.Domain = "consul"
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Registerer == nil {
		cfg.Registerer = prometheus.NewRegistry()
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	now := time.Now()
	a := &Authority{
		cfg:       cfg,
		log:       cfg.Logger,
		metrics:   newMetrics(cfg.Registerer),
		limit:     newLimiter(now),
		ready:     make(chan struct{}),
		kick:      make(chan struct{}, 1),
		confirmed: make(map[string]string),
	}
	a.enrollByKey.Store(cfg.EnrollByKey)
	a.changes.init()

	der, key, err := selfSigned(now, cfg.Node, cfg.Datacenter)
	if err != nil {
		return nil, fmt.Errorf("trust: %w", err)
	}
	a.strangerCert = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}

	if a.operator, err = newOperator(&a.cfg, now); err != nil {
		return nil, err
	}
	v := &view{}
	if cfg.DataDir != "" {
		if err := v.load(identityPath(cfg.DataDir), cfg.Node, cfg.Datacenter, now); err != nil {
			// Losing it costs one request to the leader.
			a.log.Warn("kept certificate not usable, asking for a new one", "err", err)
			v = &view{}
		}
	}
	a.install(v)
	return a, nil
}

// SetEnrollByKey changes federation.enroll_by_key.
func (a *Authority) SetEnrollByKey(on bool) { a.enrollByKey.Store(on) }

// ReloadOperator reads the operator's certificate files again, or those that
// stand in their place now. It is not called twice at once.
func (a *Authority) ReloadOperator(files Operator) error { return a.operator.reload(files) }

// Ready is closed once this server has a certificate and roots to check others
// with.
func (a *Authority) Ready() <-chan struct{} { return a.ready }

// Status is what operators want to see of it.
type Status struct {
	Mode         string // "built-in" or "operator"
	FederationID string
	Primary      string // "" while undecided
	ActiveRoot   string // SHA-256 fingerprint
	Roots        int
	Datacenters  []string
	CertExpires  time.Time
	// Unauthenticated is whether a join without proof was made or accepted since
	// this process started.
	Unauthenticated bool
}

// Status reads the current state.
func (a *Authority) Status() Status {
	s := Status{Mode: "built-in", Unauthenticated: a.insecure.Load()}
	if a.operator.on() {
		s.Mode = "operator"
	}
	if rec := a.cfg.State.Trust(); rec != nil && len(rec.Roots) > 0 {
		s.FederationID, s.Primary, s.ActiveRoot, s.Roots = rec.FederationID, rec.Primary, rec.Roots[0].ID, len(rec.Roots)
		for _, dc := range rec.Datacenters {
			s.Datacenters = append(s.Datacenters, dc.Name)
		}
	}
	if c := a.certificate(); c != nil && c.Leaf != nil {
		s.CertExpires = c.Leaf.NotAfter
	}
	return s
}

func (a *Authority) self() string { return a.cfg.Node + "." + a.cfg.Datacenter }

// Run follows the trust record and keeps this server's certificate valid, and on
// the leader the datacenter's, until ctx is done. Call it once.
func (a *Authority) Run(ctx context.Context) error {
	w := a.cfg.State.Watch()
	defer w.Close()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var k keeper
	for ctx.Err() == nil {
		rec := w.Trust()
		a.follow(rec)
		timer.Reset(a.keep(ctx, rec, &k))
		select {
		case <-ctx.Done():
		case <-w.C():
		case <-a.kick:
		case <-timer.C:
		}
	}
	return nil
}

// wake makes Run look again.
func (a *Authority) wake() {
	select {
	case a.kick <- struct{}{}:
	default:
	}
}

// Bounds of Run's work. Timers are capped at longestSleep, so that a clock that
// was set, or a machine that slept, is noticed.
const (
	callTime     = 5 * time.Second
	longestSleep = time.Hour
	confirmEvery = time.Minute
	retryFirst   = 50 * time.Millisecond
	retryMost    = 30 * time.Second
)

// keeper is what Run remembers between rounds.
type keeper struct {
	failures    int
	confirmed   string // the root we last told the leader about
	confirmAt   time.Time
	warned      map[string]time.Duration
	pulledAt    time.Time // when we last asked for news
	behindSince time.Time // a follower: when it heard of news, or asked the leader to get it
	reported    string    // the root that the primary knows us to be under

	claimed      *store.Promotion // the claim looked at last, and when
	claimAt      time.Time
	heardSince   time.Time // a follower: when it heard of a promotion, or told the leader
	complainedAt time.Time
}

// backoff grows from retryFirst to retryMost, with jitter.
func (k *keeper) backoff() time.Duration {
	d := retryMost
	if k.failures < 10 {
		d = min(d, retryFirst<<k.failures)
	}
	k.failures++
	return d/2 + rand.N(d/2)
}

// keep does what is due and returns when to look again.
func (a *Authority) keep(ctx context.Context, rec *store.Trust, k *keeper) time.Duration {
	sleep := longestSleep
	if rec == nil || len(rec.Roots) == 0 {
		return sleep
	}
	now := time.Now()
	failed := false
	if err := a.standAside(ctx, rec); err != nil {
		failed = true
		if ctx.Err() == nil && k.failures%40 == 3 {
			a.log.Warn("an evicted server goes on to lead: no other takes over", "err", err)
		}
	}
	if !a.operator.on() {
		if a.view.Load().due(rec, a.cfg.Node, a.cfg.Datacenter, now) {
			if err := a.renew(ctx, rec); err != nil {
				failed = true
				a.metrics.failures.WithLabelValues("server").Inc()
				if ctx.Err() == nil && k.failures > 2 {
					a.log.Warn("no new server certificate yet", "err", err)
				}
			}
		}
		if c := a.view.Load().creds; c != nil {
			sleep = min(sleep, max(c.renewAt.Sub(now), 0))
		}
	}
	if a.cfg.IsLeader() {
		next, err := a.maintain(ctx, rec)
		sleep = min(sleep, next)
		if err != nil {
			failed = true
			if ctx.Err() == nil && k.failures > 2 {
				a.log.Warn("trust record not maintained", "err", err)
			}
		}
	}
	if len(rec.Roots) > 1 && !failed {
		if !now.Before(k.confirmAt) || k.confirmed != rec.Roots[0].ID {
			if err := a.confirm(ctx, rec.Roots[0].ID); err != nil {
				failed = true
			} else {
				k.confirmed, k.confirmAt = rec.Roots[0].ID, now.Add(confirmEvery)
			}
		}
		sleep = min(sleep, max(k.confirmAt.Sub(now), 0))
	}
	next, err := a.succession(ctx, rec, k, now)
	sleep = min(sleep, next)
	if err != nil {
		failed = true
		if ctx.Err() == nil && k.failures%40 == 3 {
			a.log.Warn("a change of the primary datacenter is not settled here", "err", err)
		}
	}
	next, err = a.keepUp(ctx, rec, k, now)
	sleep = min(sleep, next)
	if err != nil {
		failed = true
		if ctx.Err() == nil && k.failures%40 == 3 {
			a.log.Warn("no news from the primary datacenter: evictions and new roots are not known here", "primary", rec.Primary, "err", err)
		}
	}
	a.watchExpiry(rec, k, now)
	if failed {
		return k.backoff()
	}
	k.failures = 0
	return max(sleep, retryFirst)
}

// renew gets this server a new certificate with a new key.
func (a *Authority) renew(ctx context.Context, rec *store.Trust) error {
	key, keyDER, err := newKey()
	if err != nil {
		return err
	}
	csr, err := newCSR(key, a.cfg.Node, a.cfg.Datacenter, a.cfg.Domain, nil)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	hash := keyHash(key.Public())
	a.requested.Store(&hash)
	msg := signServerRequest{csr: csr}
	var rep signServerReply
	if err := a.call(ctx, rpc.TrustSignServer, "", msg.append, rep.decode, a.SignServer); err != nil {
		return fmt.Errorf("certificate from our leader: %w", err)
	}
	if string(rep.intermediate) != string(rec.Intermediate) {
		// The leader is ahead of our copy of the record, or was: look again when
		// it has changed here.
		return errors.New("leader signed below another intermediate than ours")
	}
	return a.use(key, keyDER, rep)
}

// use installs a signed certificate and keeps it on disk.
func (a *Authority) use(key *ecdsa.PrivateKey, keyDER []byte, rep signServerReply) error {
	old := a.view.Load()
	v, err := old.with(key, rep.leaf, rep.intermediate, a.cfg.Node, a.cfg.Datacenter, time.Now())
	if err != nil {
		return err
	}
	if a.cfg.DataDir != "" {
		if err := v.save(identityPath(a.cfg.DataDir), keyDER); err != nil {
			// It serves from memory; the next restart needs a leader.
			a.log.Error("server certificate not kept on disk", "err", err)
		}
	}
	a.install(v)
	a.changed()
	a.log.Info("new server certificate", "expires", v.creds.leaf.NotAfter, "root", v.roots.active)
	return nil
}

// call runs a trust method: here if we lead and it belongs here, else where the
// dispatcher finds who does.
func (a *Authority) call(ctx context.Context, id rpc.MethodID, dc string, enc func([]byte) []byte, dec func([]byte) error, here rpc.DoerFunc) error {
	req := &rpc.Request{Method: id, Datacenter: dc, SourceDC: a.cfg.Datacenter, Body: enc(nil)}
	var resp *rpc.Response
	var err error
	if (dc == "" || dc == a.cfg.Datacenter) && a.cfg.IsLeader() {
		resp, err = here(ctx, req)
	} else {
		resp, err = a.cfg.Call.Do(ctx, req)
	}
	if err != nil {
		return err
	}
	return dec(resp.Body)
}

// confirm tells the leader that our certificate is below root.
func (a *Authority) confirm(ctx context.Context, root string) error {
	if !a.operator.on() {
		if v := a.view.Load(); v.creds == nil || v.roots.active != root || !v.below(root) {
			return errors.New("certificate is not below the current root yet")
		}
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	msg := signServerRequest{node: a.cfg.Node, root: root}
	var rep signServerReply
	return a.call(ctx, rpc.TrustSignServer, "", msg.append, rep.decode, a.SignServer)
}

// install publishes v: handshakes that begin now use it.
func (a *Authority) install(v *view) {
	v.build(a)
	a.view.Store(v)
	a.metrics.expiry(a.certificate())
	if a.operator.on() || (v.creds != nil && v.roots != nil) {
		select {
		case <-a.ready:
		default:
			close(a.ready)
		}
	}
	a.changes.send()
}

func (a *Authority) changed() {
	if a.cfg.Changed != nil {
		a.cfg.Changed()
	}
}

// follow takes over the roots and the revocations of the record.
func (a *Authority) follow(rec *store.Trust) {
	if rec == nil || len(rec.Roots) == 0 {
		return
	}
	old := a.view.Load()
	if old.roots != nil && old.roots.equal(rec) && old.revoked.equal(rec.Revoked) && old.pruned == rec.Pruned {
		return
	}
	r, err := newRoots(rec)
	if err != nil {
		a.log.Error("roots in the trust record are not usable", "err", err)
		return
	}
	v := &view{creds: old.creds.showing(r), roots: r, revoked: rec.Revoked, pruned: rec.Pruned, keyDER: old.keyDER}
	if a.cfg.DataDir != "" && v.creds != nil {
		if err := v.save(identityPath(a.cfg.DataDir), v.keyDER); err != nil {
			a.log.Error("roots not kept on disk", "err", err)
		}
	}
	a.install(v)
	if old.pruned != v.pruned {
		a.prune.Store(true)
	}
	a.changed()
	if old.roots == nil || !old.roots.equal(rec) {
		a.log.Info("trusted roots changed", "root", r.active, "roots", len(r.list), "primary", rec.Primary)
	}
	if v.revoked.now(a.cfg.Node, a.cfg.Datacenter) && !old.revoked.now(a.cfg.Node, a.cfg.Datacenter) {
		a.log.Error("this server was evicted from the federation: the servers of other datacenters refuse it",
			"undo", "landbridge wan evict -undo "+a.self())
	}
}

// awaitRoot waits until this server knows root and handshakes use a certificate
// below the root in force.
func (a *Authority) awaitRoot(ctx context.Context, root string) error {
	if a.operator.on() {
		return nil
	}
	for {
		changed := a.changes.wait()
		// If another join replaced root already, that one's root will do.
		if v := a.view.Load(); v.creds != nil && v.roots != nil && v.roots.has(root) && v.below(v.roots.active) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return store.Errorf(store.KindTimeout, "joined, but this server has no certificate of the federation yet: %w", context.Cause(ctx))
		}
	}
}
