package node

import (
	"context"
	"time"

	aclreplication "landbridge/acl_replication"
	"landbridge/forwarding/endpoint"
	"landbridge/forwarding/identity"
	"landbridge/forwarding/rpc"
	"landbridge/store/acl"
	"landbridge/store/state"
)

// defaults are what holds where no rule says anything.
func (a *ACL) defaults() acl.Defaults {
	allow := a.DefaultPolicy != "deny"
	return acl.Defaults{Allow: allow, AllowIntentions: allow}
}

// ttl is how long what a server says of a token holds here: one answer has all of
// token, policies and roles.
func (a *ACL) ttl() time.Duration { return min(a.TokenTTL, a.PolicyTTL, a.RoleTTL) }

// copied says whether a secondary datacenter copies tokens, and how.
func (a *ACL) copied() aclreplication.Tokens {
	switch {
	case !a.TokenReplication:
		return aclreplication.NoTokens
	case a.HashedSecrets:
		return aclreplication.Hashes
	}
	return aclreplication.Secrets
}

// tag is the value of the gossip tag acls.
func (a *ACL) tag() string {
	if a.Enabled {
		return "1"
	}
	return "0"
}

// word is how agent/self tells whether ACLs are on.
func (a *ACL) word() string {
	if a.Enabled {
		return "enabled"
	}
	return "disabled"
}

// newRemoteTokens resolves tokens by asking servers of a datacenter, "" being our own;
// nil is always our own.
func (n *Node) newRemoteTokens(dc func() string) (*identity.Remote, error) {
	down, err := identity.ParseDownPolicy(n.cfg.ACL.DownPolicy)
	if err != nil {
		return nil, err
	}
	r := identity.NewRemote(identity.RemoteConfig{
		Do:         rpc.DoerFunc(func(ctx context.Context, req *rpc.Request) (*rpc.Response, error) { return n.dispatcher.Do(ctx, req) }),
		Datacenter: n.cfg.Datacenter, Ask: dc, Defaults: n.cfg.ACL.defaults(), TTL: n.cfg.ACL.ttl(), Down: down,
		Recovery: n.tokens.recovery, NodeName: n.cfg.NodeName, Logger: n.logger("acl"), Registerer: n.cfg.Registerer,
	})
	n.stack.push("tokens", r.Stop)
	return r, nil
}

// newTokens makes what resolves tokens on this server.
func (s *server) newTokens() (*serverTokens, error) {
	n := s.n
	cfg := identity.Config{Datacenter: n.cfg.Datacenter, State: s.state, Defaults: n.cfg.ACL.defaults(), Recovery: n.tokens.recovery, NodeName: n.cfg.NodeName}
	ask := func() string {
		if n.cfg.ACL.TokenReplication || s.ownsACLs() {
			return "" // our leader: a token that was just made is not here yet
		}
		return s.aclPrimary()
	}
	var err error
	if cfg.Elsewhere, err = n.newRemoteTokens(ask); err != nil {
		return nil, err
	}
	st, err := identity.NewState(cfg)
	return &serverTokens{st, s}, err
}

// serverTokens resolves from this server's state once that has caught up: before,
// it would take good tokens for unknown ones.
type serverTokens struct {
	*identity.State
	s *server
}

func (t *serverTokens) Resolve(ctx context.Context, secret string, w *state.Watch, noWait bool) (*acl.Bearer, error) {
	if !t.s.local.isReady() {
		if who := t.Recover(secret); who != nil {
			return who, nil
		}
		if err := t.s.local.wait(ctx, noWait, t.s.local.hold); err != nil {
			return nil, err
		}
	}
	return t.State.Resolve(ctx, secret, w, noWait)
}

// frontACL is what the HTTP front end asks about tokens.
type frontACL struct {
	n    *Node
	from endpoint.Tokens
}

func (f frontACL) Resolve(ctx context.Context, secret string) (*acl.Bearer, error) {
	return f.from.Resolve(ctx, secret, nil, false)
}

// SetToken also has refused registrations tried again: they may have waited for it.
func (f frontACL) SetToken(kind, secret string) error {
	if err := f.n.tokens.set(kind, secret); err != nil {
		return err
	}
	f.n.log.Info("a token of this agent was replaced", "kind", kind)
	f.n.agent.ServersChanged()
	return nil
}

// fileOrDefault is the token of services and checks without one of their own.
func (n *Node) fileOrDefault(fromFile bool) string {
	t := n.tokens.now()
	if fromFile && t.FileRegistration != "" {
		return t.FileRegistration
	}
	return t.Default
}
