package identity

import (
	"context"
	"errors"
	"fmt"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
	"landbridge/store/acl"
	"landbridge/store/state"
)

// Config is what a State needs.
type Config struct {
	Datacenter string
	State      *state.Store
	Defaults   acl.Defaults
	// Recovery is acl.tokens.agent_recovery as it is now; may be nil.
	Recovery func() string
	NodeName string
	// Elsewhere finds secrets that are not in this state: those of the primary, or
	// those that only our leader has yet. nil: there are no others.
	Elsewhere *Remote
}

// State resolves secrets from a server's own state.
type State struct {
	cfg       Config
	compiler  *compiler
	kept      slots[*known]
	recovery  recovery
	anonymous *acl.Bearer // before the token is in the state
}

// known is a token as it was under a version of the ACLs.
type known struct {
	version  uint64
	who      *acl.Bearer
	policies []string // ids, for watches
	roles    []string
}

// NewState returns a resolver.
func NewState(cfg Config) (*State, error) {
	if cfg.Datacenter == "" || cfg.State == nil {
		return nil, errors.New("identity: Config.Datacenter and State are required")
	}
	return &State{cfg: cfg, compiler: newCompiler(cfg.Defaults), recovery: newRecovery(cfg.Recovery, cfg.NodeName, cfg.Defaults),
		anonymous: &acl.Bearer{AccessorID: acl.AnonymousID, Authorizer: acl.Compile(cfg.Defaults)}}, nil
}

// Resolve returns who has a secret. It is endpoint.Tokens.
func (s *State) Resolve(ctx context.Context, secret string, w *state.Watch, noWait bool) (*acl.Bearer, error) {
	if secret == "" {
		secret = acl.AnonymousSecret
	}
	hash := store.HashSecret(secret)
	if who := s.recovery.is(&hash); who != nil {
		return who, nil
	}
	version := s.cfg.State.ACLVersion()
	if e := s.kept.get(&hash); e != nil && e.v.version == version {
		if w == nil {
			return alive(e.v.who)
		}
		s.watch(w, e.v)
		if s.cfg.State.ACLVersion() == version { // else something changed before it was watched
			return alive(e.v.who)
		}
	}
	_, id := s.cfg.State.ACLIdentity(nil, secret)
	if id == nil {
		return s.unknown(ctx, secret, noWait)
	}
	k, err := s.load(id, version)
	if err != nil {
		return nil, err
	}
	s.kept.put(hash, k)
	if w != nil {
		s.watch(w, k)
		if s.cfg.State.ACLVersion() != version {
			return s.Resolve(ctx, secret, w, noWait)
		}
	}
	return alive(k.who)
}

// load compiles a token. The version was read before it was, so that a change in
// between is noticed.
func (s *State) load(id *state.ACLIdentity, version uint64) (*known, error) {
	list, err := policiesOf(id, s.cfg.Datacenter)
	if err != nil {
		return nil, err
	}
	a, err := s.compiler.compile(list)
	if err != nil {
		return nil, fmt.Errorf("token %s: %w", id.Token.AccessorID, err)
	}
	k := &known{version: version, who: &acl.Bearer{AccessorID: id.Token.AccessorID, Expires: id.Token.ExpirationTime, Authorizer: a}}
	for _, p := range id.Policies {
		k.policies = append(k.policies, p.ID)
	}
	for _, r := range id.Roles {
		k.roles = append(k.roles, r.ID)
	}
	return k, nil
}

// watch has w fired by changes of the records that a token is made of: others
// concern it not.
func (s *State) watch(w *state.Watch, k *known) {
	s.cfg.State.ACLToken(w, k.who.AccessorID)
	for _, id := range k.policies {
		s.cfg.State.ACLPolicy(w, id)
	}
	for _, id := range k.roles {
		s.cfg.State.ACLRole(w, id)
	}
}

// alive refuses a token whose time is over: it is gone at once, whenever its record
// goes.
func alive(who *acl.Bearer) (*acl.Bearer, error) {
	if !who.Expires.IsZero() && !time.Now().Before(who.Expires) {
		return nil, store.ErrACLNotFound
	}
	return who, nil
}

// Recover returns the bearer of acl.tokens.agent_recovery if the secret is that: it
// needs no state. nil otherwise.
func (s *State) Recover(secret string) *acl.Bearer {
	hash := store.HashSecret(secret)
	return s.recovery.is(&hash)
}

func (s *State) unknown(ctx context.Context, secret string, noWait bool) (*acl.Bearer, error) {
	if s.cfg.Elsewhere != nil {
		who, err := s.cfg.Elsewhere.Resolve(ctx, secret, nil, noWait)
		switch {
		case err == nil, err == rpc.ErrWouldWait:
			return who, err
		case secret != acl.AnonymousSecret:
			return nil, err
		}
	}
	if secret == acl.AnonymousSecret {
		return s.anonymous, nil // who is nobody has the default policy
	}
	if at, tokens := s.cfg.State.ACLBootstrapped(); at == 0 && !tokens {
		return nil, store.ErrACLBootstrap
	}
	return nil, store.ErrACLNotFound
}

// Answer is the method ACLResolve: what a client agent, or a server of another
// datacenter, needs to decide by itself. The secret is the request's token.
func (s *State) Answer(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
	if req.Representation != rpc.Records {
		return nil, store.Errorf(store.KindInvalid, "ACL.Resolve answers with records only")
	}
	secret, dc := req.Token, req.SourceDC
	if secret == "" {
		secret = acl.AnonymousSecret
	}
	if dc == "" {
		dc = s.cfg.Datacenter
	}
	_, id := s.cfg.State.ACLIdentity(nil, secret)
	switch {
	case id == nil && secret == acl.AnonymousSecret:
		id = &state.ACLIdentity{Token: &store.ACLToken{AccessorID: acl.AnonymousID}}
	case id == nil:
		if at, tokens := s.cfg.State.ACLBootstrapped(); at == 0 && !tokens {
			return nil, store.ErrACLBootstrap
		}
		return nil, store.ErrACLNotFound
	case id.Token.Expired(time.Now()), id.Token.Local && dc != s.cfg.Datacenter:
		return nil, store.ErrACLNotFound
	}
	list, err := policiesOf(id, dc)
	if err != nil {
		return nil, err
	}
	a := answer{accessor: id.Token.AccessorID, expires: id.Token.ExpirationTime, policies: list}
	if a.digest = digest(list); a.digest == req.Query.Name {
		a.policies = nil // the asker has them
	}
	return &rpc.Response{Index: 1, KnownLeader: true, Body: a.appendWire(nil)}, nil
}
