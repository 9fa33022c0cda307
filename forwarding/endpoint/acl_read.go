package endpoint

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
	"landbridge/store/acl"
	"landbridge/store/state"
)

// lookUp runs a read of one record; missing is the error where there is none.
func lookUp[R any](ctx context.Context, a *access, req *rpc.Request, read reader[*R], missing error, shown func(*rpc.Request) func(*R) []byte) (*rpc.Response, error) {
	if err := wants(req, false); err != nil {
		return nil, err
	}
	return serve(ctx, a.set, req, read, checked, func(_ *Set, req *rpc.Request, r *R, resp *rpc.Response) error {
		if r == nil {
			return missing
		}
		return finish(req, resp, shown(req)(r))
	})
}

// listOf runs a read of a list.
func listOf[R any](ctx context.Context, a *access, req *rpc.Request, read reader[[]*R], shown func(*rpc.Request) func(*R) []byte) (*rpc.Response, error) {
	if err := wants(req, false); err != nil {
		return nil, err
	}
	return serve(ctx, a.set, req, read, checked, func(_ *Set, req *rpc.Request, list []*R, resp *rpc.Response) error {
		body := shown(req)
		n := 2
		for _, r := range list {
			n += len(body(r)) + 1
		}
		b := append(make([]byte, 0, n), '[')
		for i, r := range list {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, body(r)...)
		}
		return finish(req, resp, append(b, ']'))
	})
}

// always shows a record in one way, whoever asks.
func always[R any](body func(*R) []byte) func(*rpc.Request) func(*R) []byte {
	return func(*rpc.Request) func(*R) []byte { return body }
}

// tokenJSON is how a token is shown to the caller.
func tokenJSON(req *rpc.Request) func(*store.ACLToken) []byte {
	if maySeeSecrets(req) {
		return (*store.ACLToken).JSON
	}
	return (*store.ACLToken).HiddenJSON
}

// living hides a token whose time is over, which nobody may see any more.
func living(t *store.ACLToken) *store.ACLToken {
	if t != nil && t.Expired(time.Now()) {
		return nil
	}
	return t
}

// tokenGet answers with a token, with Query.Separator "expanded" together with
// what it leads to.
func (a *access) tokenGet(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	if err := uuid(req.Query.Name, "token"); err != nil {
		return nil, err
	}
	return lookUp(ctx, a, req, func(st *state.Store, w *state.Watch, q *store.Query) (store.Index, *store.ACLToken) {
		idx, t := st.ACLToken(w, q.Name)
		return idx, living(t)
	}, store.ErrTokenNotFound, func(req *rpc.Request) func(*store.ACLToken) []byte {
		show := tokenJSON(req)
		if req.Query.Separator != "expanded" {
			return show
		}
		return func(t *store.ACLToken) []byte { return a.expanded(t, show(t)) }
	})
}

// tokenSelf answers with the caller's own token. In a secondary that does not have
// it, the primary does.
func (a *access) tokenSelf(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	secret := req.Token
	missing := secret == "" || secret == store.AnonymousSecret
	if !missing && !a.primary() {
		if _, t := a.set.state.ACLTokenBySecret(nil, secret); t == nil {
			// Whom nobody knows is not asked for there again and again.
			switch _, err := a.set.cfg.Tokens.Resolve(ctx, secret, nil, req.NoWait); {
			case errors.Is(err, store.ErrACLNotFound):
				missing = true
			case err != nil:
				return nil, err
			default:
				return a.toPrimary(ctx, req)
			}
		}
	}
	return lookUp(ctx, a, req, func(st *state.Store, w *state.Watch, _ *store.Query) (store.Index, *store.ACLToken) {
		if missing {
			return 1, nil
		}
		idx, t := st.ACLTokenBySecret(w, secret)
		return idx, living(t)
	}, store.ErrTokenNotFound, always(func(t *store.ACLToken) []byte {
		if t.SecretID == "" { // kept by its hash alone: the caller knows it
			t = t.Clone()
			t.SecretID = secret
		}
		return t.JSON()
	}))
}

// Filters of ACLTokenList and ACLRoleList, in Query.NodeMeta.
const (
	filterPolicy  = "policy"
	filterRole    = "role"
	filterService = "servicename"
	filterMethod  = "authmethod"
)

func (a *access) tokenList(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	by := req.Query.NodeMeta
	if len(by) > 1 {
		return nil, store.Errorf(store.KindInvalid, "can only filter by one of policy, role, serviceName, or methodName at a time")
	}
	for _, what := range []string{filterPolicy, filterRole} {
		if id, ok := by[what]; ok {
			if err := uuid(id, "token"); err != nil {
				return nil, err
			}
		}
	}
	now := time.Now()
	return listOf(ctx, a, req, func(st *state.Store, w *state.Watch, _ *store.Query) (store.Index, []*store.ACLToken) {
		idx, list := st.ACLTokens(w)
		return idx, keep(list, func(t *store.ACLToken) bool { return !t.Expired(now) && tokenMatches(t, by) }, true)
	}, tokenJSON)
}

func tokenMatches(t *store.ACLToken, by map[string]string) bool {
	for what, v := range by {
		switch what {
		case filterPolicy:
			return linked(t.Policies, v)
		case filterRole:
			return linked(t.Roles, v)
		case filterMethod:
			return strings.EqualFold(t.AuthMethod, v)
		case filterService:
			for _, s := range t.ServiceIdentities {
				if s.ServiceName == v {
					return true
				}
			}
			for _, p := range t.TemplatedPolicies {
				if p.TemplateName == "builtin/service" && p.Name == v {
					return true
				}
			}
			return false
		}
	}
	return true
}

func linked(links []store.ACLLink, id string) bool {
	for _, l := range links {
		if strings.EqualFold(l.ID, id) {
			return true
		}
	}
	return false
}

var (
	errNoPolicy = &store.Error{Kind: store.KindNotFound, Message: "Requested policy does not exist: ACL not found"}
	errNoRole   = &store.Error{Kind: store.KindNotFound, Message: "Requested role does not exist: ACL not found"}
	errNoRule   = &store.Error{Kind: store.KindNotFound, Message: "Requested binding rule does not exist: ACL not found"}
	errNoMethod = &store.Error{Kind: store.KindNotFound, Message: "Requested auth method does not exist: ACL not found"}
)

func (a *access) policyGet(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	if err := uuid(req.Query.Name, "policy"); err != nil {
		return nil, err
	}
	return lookUp(ctx, a, req, func(st *state.Store, w *state.Watch, q *store.Query) (store.Index, *store.ACLPolicy) {
		return st.ACLPolicy(w, q.Name)
	}, errNoPolicy, always((*store.ACLPolicy).JSON))
}

func (a *access) policyByName(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	return lookUp(ctx, a, req, func(st *state.Store, w *state.Watch, q *store.Query) (store.Index, *store.ACLPolicy) {
		return st.ACLPolicyByName(w, q.Name)
	}, errNoPolicy, always((*store.ACLPolicy).JSON))
}

func (a *access) policyList(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	return listOf(ctx, a, req, func(st *state.Store, w *state.Watch, _ *store.Query) (store.Index, []*store.ACLPolicy) {
		return st.ACLPolicies(w)
	}, always((*store.ACLPolicy).RowJSON))
}

func (a *access) roleGet(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	if err := uuid(req.Query.Name, "role"); err != nil {
		return nil, err
	}
	return lookUp(ctx, a, req, func(st *state.Store, w *state.Watch, q *store.Query) (store.Index, *store.ACLRole) {
		return st.ACLRole(w, q.Name)
	}, errNoRole, always((*store.ACLRole).JSON))
}

func (a *access) roleByName(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	return lookUp(ctx, a, req, func(st *state.Store, w *state.Watch, q *store.Query) (store.Index, *store.ACLRole) {
		return st.ACLRoleByName(w, q.Name)
	}, errNoRole, always((*store.ACLRole).JSON))
}

func (a *access) roleList(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	policy, by := req.Query.NodeMeta[filterPolicy]
	return listOf(ctx, a, req, func(st *state.Store, w *state.Watch, _ *store.Query) (store.Index, []*store.ACLRole) {
		idx, list := st.ACLRoles(w)
		return idx, keep(list, func(r *store.ACLRole) bool { return linked(r.Policies, policy) }, by)
	}, always((*store.ACLRole).JSON))
}

func (a *access) ruleGet(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	if err := uuid(req.Query.Name, "binding rule"); err != nil {
		return nil, err
	}
	return lookUp(ctx, a, req, func(st *state.Store, w *state.Watch, q *store.Query) (store.Index, *store.ACLBindingRule) {
		return st.ACLBindingRule(w, q.Name)
	}, errNoRule, always((*store.ACLBindingRule).JSON))
}

func (a *access) ruleList(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	return listOf(ctx, a, req, func(st *state.Store, w *state.Watch, q *store.Query) (store.Index, []*store.ACLBindingRule) {
		return st.ACLBindingRules(w, q.Name)
	}, always((*store.ACLBindingRule).JSON))
}

func (a *access) methodGet(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	return lookUp(ctx, a, req, func(st *state.Store, w *state.Watch, q *store.Query) (store.Index, *store.ACLAuthMethod) {
		return st.ACLAuthMethod(w, q.Name)
	}, errNoMethod, always((*store.ACLAuthMethod).JSON))
}

func (a *access) methodList(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	return listOf(ctx, a, req, func(st *state.Store, w *state.Watch, _ *store.Query) (store.Index, []*store.ACLAuthMethod) {
		return st.ACLAuthMethods(w)
	}, always((*store.ACLAuthMethod).RowJSON))
}

// expanded adds to a token's JSON all policies it has here, those of identities and
// templates in their own words, and its roles.
func (a *access) expanded(t *store.ACLToken, shown []byte) []byte {
	var policies []*store.ACLPolicy
	var roles []*store.ACLRole
	seen := make(map[string]bool)
	add := func(p *store.ACLPolicy) {
		if p != nil && !seen[p.ID] {
			seen[p.ID] = true
			policies = append(policies, p)
		}
	}
	grants := func(g *store.ACLGrants) {
		for _, l := range g.Policies {
			_, p := a.set.state.ACLPolicy(nil, l.ID)
			add(p)
		}
		for _, s := range g.ServiceIdentities {
			if rules, err := acl.ServiceIdentity(s.ServiceName); err == nil {
				add(synthetic(rules, "synthetic policy for service identity \""+s.ServiceName+"\"", s.Datacenters))
			}
		}
		for _, n := range g.NodeIdentities {
			if rules, err := acl.NodeIdentity(n.NodeName); err == nil {
				add(synthetic(rules, "synthetic policy for node identity \""+n.NodeName+"\"", []string{n.Datacenter}))
			}
		}
		for _, tp := range g.TemplatedPolicies {
			if tmpl := acl.TemplateNamed(tp.TemplateID); tmpl != nil {
				if rules, err := tmpl.Expand(tp.Name); err == nil {
					add(synthetic(rules, "synthetic policy generated from templated policy: "+tmpl.Name, tp.Datacenters))
				}
			}
		}
	}
	grants(&t.ACLGrants)
	for _, l := range t.Roles {
		if _, r := a.set.state.ACLRole(nil, l.ID); r != nil {
			roles = append(roles, r)
			grants(&r.ACLGrants)
		}
	}
	b := append([]byte(`{"ExpandedPolicies":`), rowsBody(policies)...)
	b = append(append(b, `,"ExpandedRoles":`...), rowsBody(roles)...)
	b = append(b, `,"NamespaceDefaultPolicyIDs":null,"NamespaceDefaultRoleIDs":null,"AgentACLDefaultPolicy":`...)
	b = store.AppendJSONString(b, a.DefaultPolicy)
	b = store.AppendJSONString(append(b, `,"AgentACLDownPolicy":`...), a.DownPolicy)
	b = store.AppendJSONString(append(b, `,"ResolvedByAgent":`...), a.Node)
	return append(append(b, ','), shown[1:]...)
}

// synthetic is the policy that an identity or a template stands for.
func synthetic(rules, description string, dcs []string) *store.ACLPolicy {
	sum := sha256.Sum256([]byte(rules))
	id := hex.EncodeToString(sum[:16])
	return &store.ACLPolicy{ID: id, Name: "synthetic-policy-" + id, Description: description, Rules: rules, Datacenters: dcs}
}
