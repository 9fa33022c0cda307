package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landbridge/forwarding/rpc"
	"landbridge/store"
	"landbridge/store/acl"
	"landbridge/store/state"
)

// DownPolicy says what holds while no server answers (acl.down_policy).
type DownPolicy string

const (
	DownAllow  DownPolicy = "allow"
	DownDeny   DownPolicy = "deny"
	DownExtend DownPolicy = "extend-cache" // what is kept goes on to hold
	DownAsync  DownPolicy = "async-cache"  // the same, and nobody waits for a refresh
)

// ParseDownPolicy refuses a word that is none.
func ParseDownPolicy(word string) (DownPolicy, error) {
	switch p := DownPolicy(word); p {
	case DownAllow, DownDeny, DownExtend, DownAsync:
		return p, nil
	}
	return "", fmt.Errorf("acl.down_policy: %q is not one of allow, deny, extend-cache, async-cache", word)
}

// RemoteConfig is what a Remote needs.
type RemoteConfig struct {
	Do         rpc.Doer      // the dispatcher
	Datacenter string        // of the asker: rules may be limited to datacenters
	Ask        func() string // the datacenter that is asked; nil or "": the own
	Defaults   acl.Defaults
	// TTL is how long an answer holds: the shortest of acl.token_ttl, policy_ttl and
	// role_ttl.
	TTL      time.Duration
	Down     DownPolicy
	Recovery func() string // acl.tokens.agent_recovery as it is now; may be nil
	NodeName string
	Logger   *slog.Logger
	// Registerer may be nil.
	Registerer prometheus.Registerer
}

const (
	// refreshTimeout bounds one question for a token.
	refreshTimeout = 10 * time.Second
	// refusedTTL bounds how long a secret stays unknown that somebody used before it
	// was known; with acl.token_ttl it is the shorter one.
	refusedTTL = 5 * time.Second
	// askMost bounds the questions under way for secrets that are new here: whoever
	// tries secrets at random must not keep the servers busy, or those of the primary.
	askMost = 128
)

// Remote resolves secrets by asking a server.
type Remote struct {
	cfg      RemoteConfig
	compiler *compiler
	kept     slots[*held]
	refused  slots[*held] // apart, so that random secrets push no good one out
	recovery recovery
	metrics  *metrics

	mu      sync.Mutex
	pending map[secretHash]*question
	stopped bool
	ctx     context.Context
	cancel  context.CancelFunc
	asking  sync.WaitGroup
}

// errAsking refuses a secret that is new here while too many others are.
var errAsking = store.Errorf(store.KindRateLimited, "too many tokens that are unknown here are being looked up (%d), try again", askMost)

// held is an answer: who it is, or that it is nobody.
type held struct {
	who    *acl.Bearer // nil: refused
	err    error
	digest string
	at     time.Time
}

// question is one under way, with all who wait for it.
type question struct {
	done chan struct{}
	held *held
	err  error
}

// NewRemote returns a resolver. Stop frees it.
func NewRemote(cfg RemoteConfig) *Remote {
	r := &Remote{cfg: cfg, compiler: newCompiler(cfg.Defaults), recovery: newRecovery(cfg.Recovery, cfg.NodeName, cfg.Defaults), metrics: newMetrics(cfg.Registerer),
		pending: make(map[secretHash]*question)}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

func (r *Remote) asked() string {
	if r.cfg.Ask == nil {
		return ""
	}
	return r.cfg.Ask()
}

// Stop ends the questions under way.
func (r *Remote) Stop(context.Context) error {
	r.mu.Lock()
	r.stopped = true
	r.mu.Unlock()
	r.cancel()
	r.asking.Wait()
	return nil
}

// Resolve returns who has a secret. It is endpoint.Tokens; there is nothing to
// watch, since a server elsewhere tells nothing by itself.
func (r *Remote) Resolve(ctx context.Context, secret string, _ *state.Watch, noWait bool) (*acl.Bearer, error) {
	if secret == "" {
		secret = acl.AnonymousSecret
	}
	hash := store.HashSecret(secret)
	if who := r.recovery.is(&hash); who != nil {
		return who, nil
	}
	var have *held
	if e := r.kept.get(&hash); e != nil {
		have = e.v
		if time.Since(have.at) < r.cfg.TTL {
			r.metrics.kept.Inc()
			return have.answer()
		}
	} else if e := r.refused.get(&hash); e != nil && time.Since(e.v.at) < min(r.cfg.TTL, refusedTTL) {
		r.metrics.kept.Inc()
		return e.v.answer()
	}
	if have != nil && r.cfg.Down == DownAsync {
		if _, err := r.ask(secret, hash, have); err == nil || r.ctx.Err() == nil {
			return have.answer()
		}
	}
	if noWait {
		return nil, rpc.ErrWouldWait
	}
	q, err := r.ask(secret, hash, have)
	if err != nil {
		return nil, err
	}
	select {
	case <-q.done:
	case <-ctx.Done():
		return r.down(have, store.Errorf(store.KindTimeout, "resolving the token: %w", context.Cause(ctx)))
	}
	if q.err != nil {
		return r.down(have, q.err)
	}
	return q.held.answer()
}

func (h *held) answer() (*acl.Bearer, error) {
	if h.who == nil {
		return nil, h.err
	}
	return alive(h.who)
}

// down is what holds when no server answered.
func (r *Remote) down(have *held, err error) (*acl.Bearer, error) {
	switch r.cfg.Down {
	case DownAllow:
		return &acl.Bearer{AccessorID: acl.AnonymousID, Authorizer: acl.Compile(acl.Defaults{Allow: true, AllowIntentions: true})}, nil
	case DownDeny:
		return nil, err
	}
	if have != nil {
		return have.answer()
	}
	return nil, err
}

// ask puts the question, or joins one under way.
func (r *Remote) ask(secret string, hash secretHash, have *held) (*question, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return nil, store.Errorf(store.KindUnreachable, "this agent is stopping")
	}
	if q := r.pending[hash]; q != nil {
		return q, nil
	}
	if have == nil && len(r.pending) >= askMost {
		r.metrics.refused.Inc()
		return nil, errAsking
	}
	q := &question{done: make(chan struct{})}
	r.pending[hash] = q
	r.asking.Go(func() {
		ctx, cancel := context.WithTimeout(r.ctx, refreshTimeout)
		defer cancel()
		began := time.Now()
		q.held, q.err = r.fetch(ctx, secret, have)
		r.metrics.asked.Inc()
		r.metrics.seconds.Observe(time.Since(began))
		if q.err == nil {
			r.keep(hash, q.held)
		} else if r.ctx.Err() == nil {
			r.cfg.Logger.Debug("a token could not be resolved", "err", q.err)
		}
		r.mu.Lock()
		delete(r.pending, hash)
		r.mu.Unlock()
		close(q.done)
	})
	return q, nil
}

// keep notes an answer. What was kept of a secret that is nobody's any more goes.
func (r *Remote) keep(hash secretHash, h *held) {
	if h.who != nil {
		r.kept.put(hash, h)
		return
	}
	r.refused.put(hash, h)
	r.kept.drop(&hash)
}

// fetch asks any server, and the leader when that does not know the secret: it may
// be behind. An error is that nobody answered.
func (r *Remote) fetch(ctx context.Context, secret string, have *held) (*held, error) {
	req := rpc.Request{
		Method: rpc.ACLResolve, Datacenter: r.asked(), SourceDC: r.cfg.Datacenter, Token: secret,
		Consistency: store.Stale, Representation: rpc.Records,
	}
	if have != nil {
		req.Query.Name = have.digest
	}
	resp, err := r.cfg.Do.Do(ctx, &req)
	if store.KindOf(err) == store.KindPermissionDenied {
		leader := req
		leader.Consistency, leader.NoHold = store.Default, true
		var e error
		if resp, e = r.cfg.Do.Do(ctx, &leader); e != nil && store.KindOf(e) != store.KindPermissionDenied {
			// Without a leader, what the other server knows is all there is to know; but
			// nothing to keep.
			return &held{err: refusal(err)}, nil
		}
		err = e
	}
	now := time.Now()
	if store.KindOf(err) == store.KindPermissionDenied {
		return &held{err: refusal(err), at: now}, nil
	}
	if err != nil {
		return nil, err
	}
	var a answer
	if err := a.decodeWire(resp.Body); err != nil {
		return nil, store.Errorf(store.KindInternal, "answer about a token: %w", err)
	}
	h := &held{digest: a.digest, at: now, who: &acl.Bearer{AccessorID: a.accessor, Expires: a.expires}}
	if have != nil && a.digest == have.digest {
		h.who.Authorizer = have.who.Authorizer
		return h, nil
	}
	if h.who.Authorizer, err = r.compiler.compile(a.policies); err != nil {
		return nil, err
	}
	return h, nil
}

// refusal is the server's word without what was wrapped around it on the way.
func refusal(err error) error {
	for _, known := range []*store.Error{store.ErrACLBootstrap, store.ErrACLNotFound} {
		if errors.Is(err, known) {
			return known
		}
	}
	return err
}
