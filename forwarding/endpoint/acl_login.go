package endpoint

import (
	"context"
	"time"

	"landbridge/forwarding/endpoint/authmethod"
	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// onlyGlobal is the Query.Name of a login that a secondary passes on: the primary's
// own methods are not for who asked there.
const onlyGlobal = "global"

// login makes a token for whoever an auth method vouches for.
func (a *access) login(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	var in store.ACLLogin
	if err := in.DecodeWire(req.Body); err != nil {
		return nil, store.Errorf(store.KindInvalid, "ACL.Login: %w", err)
	}
	st := a.set.state
	_, m := st.ACLAuthMethod(nil, in.Method)
	if !a.primary() && (m == nil || m.Global()) {
		next := *req
		next.Query.Name = onlyGlobal
		return a.toPrimary(ctx, &next)
	}
	if m == nil || m.Global() {
		if err := a.mayShare(); err != nil {
			return nil, err
		}
	}
	if m == nil || req.Query.Name == onlyGlobal && !m.Global() {
		return nil, store.Errorf(store.KindPermissionDenied, "ACL not found: auth method %q not found", in.Method)
	}
	if !a.primary() && !a.LocalTokens {
		return nil, store.Errorf(store.KindInvalid, "Cannot create local tokens in datacenter %q: acl.enable_token_replication is not set there", a.set.cfg.Datacenter)
	}
	id, err := a.Methods.Verify(ctx, m, in.Bearer)
	if err != nil {
		return nil, err
	}
	_, rules := st.ACLBindingRules(nil, m.Name)
	bound, err := authmethod.Bind(rules, id)
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC()
	t := &store.ACLToken{AccessorID: newUUID(), SecretID: newUUID(), Description: loginDescription(in.Meta),
		Local: !m.Global(), AuthMethod: m.Name, CreateTime: now}
	t.Seal()
	if m.MaxTokenTTL > 0 {
		t.ExpirationTime = now.Add(m.MaxTokenTTL)
	}
	if !a.grant(t, bound) {
		return nil, store.ErrDenied
	}
	return a.putToken(ctx, store.ACLCreate, t)
}

// grant gives a token what the rules say; false if that is nothing. Roles and
// policies that are not there are left out.
func (a *access) grant(t *store.ACLToken, b *authmethod.Bound) bool {
	for _, name := range b.Services {
		t.ServiceIdentities = append(t.ServiceIdentities, store.ServiceIdentity{ServiceName: name})
	}
	for _, name := range b.Nodes {
		t.NodeIdentities = append(t.NodeIdentities, store.NodeIdentity{NodeName: name, Datacenter: a.set.cfg.Datacenter})
	}
	for _, name := range b.Roles {
		if l, ok := a.findRole("", name); ok {
			t.Roles = append(t.Roles, l)
		}
	}
	for _, name := range b.Policies {
		if l, ok := a.findPolicy("", name); ok {
			t.Policies = append(t.Policies, l)
		}
	}
	t.TemplatedPolicies = b.Templates
	return len(t.ServiceIdentities)+len(t.NodeIdentities)+len(t.Roles)+len(t.Policies)+len(t.TemplatedPolicies) > 0
}

// logout deletes the token that the request carries, if a login made it.
func (a *access) logout(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	if req.Token == "" || req.Token == store.AnonymousSecret {
		return nil, store.Errorf(store.KindACLOff, "Supplied token does not exist")
	}
	_, t := a.set.state.ACLTokenBySecret(nil, req.Token)
	if !a.primary() && (t == nil || !t.Local) {
		return a.toPrimary(ctx, req)
	}
	if t = living(t); t == nil {
		return nil, store.ErrACLNotFound
	}
	if !t.Local {
		if err := a.mayShare(); err != nil {
			return nil, err
		}
	}
	if t.AuthMethod == "" {
		return nil, store.Errorf(store.KindPermissionDenied, "Permission denied: token wasn't created via login")
	}
	if err := a.commit(ctx, store.DeleteACL(store.ACLTokens, t.AccessorID)); err != nil {
		return nil, err
	}
	return a.yes(), nil
}
