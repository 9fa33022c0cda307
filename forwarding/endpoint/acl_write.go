package endpoint

import (
	"context"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"time"

	"landbridge/forwarding/endpoint/authmethod"
	"landbridge/forwarding/rpc"
	"landbridge/store"
	"landbridge/store/acl"
)

// apply carries out a store.ACLRequest: here, or where the record belongs.
func (a *access) apply(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	var r store.ACLRequest
	if err := r.DecodeWire(req.Body); err != nil {
		return nil, store.Errorf(store.KindInvalid, "ACL.Apply: %w", err)
	}
	elsewhere, err := a.elsewhere(&r)
	if err != nil {
		return nil, err
	}
	if elsewhere {
		return a.toPrimary(ctx, req) // which tells its own audit log
	}
	resp, err := a.carryOut(ctx, req, &r)
	a.audit(req, auditLine(&r), resp, err)
	return resp, err
}

// carryOut does a write that is this datacenter's.
func (a *access) carryOut(ctx context.Context, req *rpc.Request, r *store.ACLRequest) (*rpc.Response, error) {
	switch r.Op {
	case store.ACLDelete:
		return a.delete(ctx, req, r)
	case store.ACLClone:
		return a.clone(ctx, r)
	case store.ACLCreate, store.ACLUpdate:
	default:
		return nil, store.Errorf(store.KindInvalid, "ACL.Apply: unknown operation %d", r.Op)
	}
	switch rec := r.Record.(type) {
	case *store.ACLToken:
		return a.writeToken(ctx, r, rec)
	case *store.ACLPolicy:
		return a.writePolicy(ctx, r.Op, rec)
	case *store.ACLRole:
		return a.writeRole(ctx, r.Op, rec)
	case *store.ACLBindingRule:
		return a.writeRule(ctx, r.Op, rec)
	case *store.ACLAuthMethod:
		return a.writeMethod(ctx, rec)
	}
	return nil, store.Errorf(store.KindInvalid, "ACL.Apply: no record")
}

// elsewhere is whether the request is the primary's to carry out: all but what
// exists, or is to exist, in this datacenter alone.
func (a *access) elsewhere(r *store.ACLRequest) (bool, error) {
	primary := a.primary()
	all, err := a.isShared(r, primary)
	if primary && all && err == nil {
		return false, a.mayShare()
	}
	return all, err
}

// isShared is whether the request is about a record of all datacenters.
func (a *access) isShared(r *store.ACLRequest, primary bool) (bool, error) {
	st := a.set.state
	switch r.Kind {
	case store.ACLTokens:
		if t, ok := r.Record.(*store.ACLToken); ok && r.Op == store.ACLCreate {
			if t.Local && !primary && !a.LocalTokens {
				return false, store.Errorf(store.KindInvalid, "Cannot create local tokens in datacenter %q: acl.enable_token_replication is not set there", a.set.cfg.Datacenter)
			}
			return !t.Local, nil
		}
		key := r.Key
		if t, ok := r.Record.(*store.ACLToken); ok && r.Op == store.ACLUpdate {
			key = t.AccessorID
		}
		_, t := st.ACLToken(nil, key)
		return t == nil || !t.Local, nil
	case store.ACLAuthMethods:
		name := r.Key
		if m, ok := r.Record.(*store.ACLAuthMethod); ok {
			if m.Global() {
				return true, nil
			}
			name = m.Name
		}
		_, m := st.ACLAuthMethod(nil, name)
		return m != nil && m.Global(), nil
	case store.ACLBindingRules:
		name := ""
		if rule, ok := r.Record.(*store.ACLBindingRule); ok && r.Op != store.ACLDelete {
			name = rule.AuthMethod
		}
		if name == "" {
			_, old := st.ACLBindingRule(nil, r.Key)
			if old == nil {
				return false, nil
			}
			name = old.AuthMethod
		}
		_, m := st.ACLAuthMethod(nil, name)
		return m != nil && m.Global(), nil
	}
	return true, nil
}

func (a *access) delete(ctx context.Context, req *rpc.Request, r *store.ACLRequest) (*rpc.Response, error) {
	st := a.set.state
	switch r.Kind {
	case store.ACLTokens:
		if !validUUID(r.Key) {
			return nil, store.Errorf(store.KindInvalid, "Token ID is missing or an invalid UUID")
		}
		if strings.EqualFold(r.Key, store.AnonymousAccessor) {
			return nil, store.Errorf(store.KindInvalid, "Delete operation not permitted on the anonymous token")
		}
		if req.Bearer != nil && strings.EqualFold(r.Key, req.Bearer.AccessorID) {
			return nil, store.Errorf(store.KindInvalid, "Deletion of the request's authorization token is not permitted")
		}
		if _, t := st.ACLToken(nil, r.Key); t == nil {
			return nil, store.Errorf(store.KindNotFound, "Cannot find token to delete")
		}
	case store.ACLPolicies, store.ACLRoles, store.ACLBindingRules:
		if err := uuid(r.Key, r.Kind.String()); err != nil {
			return nil, err
		}
	case store.ACLAuthMethods:
		if _, m := st.ACLAuthMethod(nil, r.Key); m == nil {
			return nil, store.Errorf(store.KindNotFound, "Cannot find auth method to delete")
		}
	}
	if err := a.commit(ctx, store.DeleteACL(r.Kind, r.Key)); err != nil {
		return nil, err
	}
	return a.yes(), nil
}

var (
	policyName = regexp.MustCompile(`^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]*)?$`)
	plainName  = regexp.MustCompile(`^[A-Za-z0-9_-]{1,256}$`)
	methodName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)
)

func (a *access) writePolicy(ctx context.Context, op store.ACLOp, p *store.ACLPolicy) (*rpc.Response, error) {
	var old *store.ACLPolicy
	if op == store.ACLUpdate {
		if err := uuid(p.ID, "policy"); err != nil {
			return nil, err
		}
		if _, old = a.set.state.ACLPolicy(nil, p.ID); old == nil {
			return nil, store.Errorf(store.KindInvalid, "cannot find policy %s", p.ID)
		}
		p.ID = old.ID
	} else {
		p.ID = newUUID()
	}
	if old == nil || old.Name != p.Name {
		switch {
		case p.Name == "":
			return nil, store.Errorf(store.KindInvalid, "Invalid Policy: no Name is set")
		case strings.HasPrefix(p.Name, "/") || strings.HasPrefix(p.Name, store.BuiltinPrefix):
			return nil, store.Errorf(store.KindInvalid, "Invalid Policy: invalid Name. Names cannot be prefixed with '/' or 'builtin/'")
		case len(p.Name) > 128 || !policyName.MatchString(p.Name):
			return nil, store.Errorf(store.KindInvalid, "Invalid Policy: invalid Name. Only alphanumeric characters, a single '/', '-' and '_' are allowed")
		}
	}
	if old != nil && store.BuiltinPolicy(old.ID) {
		if p.Rules != old.Rules {
			return nil, store.Errorf(store.KindInvalid, "Changing the Rules for the builtin %s policy is not permitted", old.Name)
		}
		if len(p.Datacenters) > 0 {
			return nil, store.Errorf(store.KindInvalid, "Changing the Datacenters of the builtin %s policy is not permitted", old.Name)
		}
	}
	if _, err := acl.Parse(p.Rules); err != nil {
		return nil, &store.Error{Kind: store.KindInvalid, Message: err.Error()}
	}
	if err := a.commit(ctx, store.SetACL(op, p)); err != nil {
		return nil, err
	}
	if _, now := a.set.state.ACLPolicy(nil, p.ID); now != nil {
		p = now
	}
	return a.written(p), nil
}

func (a *access) writeRole(ctx context.Context, op store.ACLOp, r *store.ACLRole) (*rpc.Response, error) {
	if op == store.ACLUpdate {
		if err := uuid(r.ID, "role"); err != nil {
			return nil, err
		}
		_, old := a.set.state.ACLRole(nil, r.ID)
		if old == nil {
			return nil, store.Errorf(store.KindInvalid, "cannot find role %s", r.ID)
		}
		r.ID = old.ID
	} else {
		r.ID = newUUID()
	}
	if r.Name == "" {
		return nil, store.Errorf(store.KindInvalid, "Invalid Role: no Name is set")
	}
	if !plainName.MatchString(r.Name) {
		return nil, store.Errorf(store.KindInvalid, "Invalid Role: invalid Name. Only alphanumeric characters, '-' and '_' are allowed")
	}
	if err := a.prepareGrants(&r.ACLGrants, "role", false); err != nil {
		return nil, err
	}
	if err := a.commit(ctx, store.SetACL(op, r)); err != nil {
		return nil, err
	}
	if _, now := a.set.state.ACLRole(nil, r.ID); now != nil {
		r = now
	}
	return a.written(r), nil
}

func (a *access) writeRule(ctx context.Context, op store.ACLOp, r *store.ACLBindingRule) (*rpc.Response, error) {
	if op == store.ACLUpdate {
		if err := uuid(r.ID, "binding rule"); err != nil {
			return nil, err
		}
		_, old := a.set.state.ACLBindingRule(nil, r.ID)
		if old == nil {
			return nil, store.Errorf(store.KindInvalid, "cannot find binding rule %s", r.ID)
		}
		r.ID = old.ID
		if r.AuthMethod == "" {
			r.AuthMethod = old.AuthMethod
		} else if r.AuthMethod != old.AuthMethod {
			return nil, store.Errorf(store.KindInvalid, "the AuthMethod field of a Binding Rule is immutable")
		}
	} else {
		r.ID = newUUID()
	}
	_, m := a.set.state.ACLAuthMethod(nil, r.AuthMethod)
	if m == nil {
		return nil, store.Errorf(store.KindInvalid, "cannot find auth method with name %q", r.AuthMethod)
	}
	if err := authmethod.CheckRule(m, r); err != nil {
		return nil, err
	}
	if err := a.commit(ctx, store.SetACL(op, r)); err != nil {
		return nil, err
	}
	if _, now := a.set.state.ACLBindingRule(nil, r.ID); now != nil {
		r = now
	}
	return a.written(r), nil
}

// writeMethod creates the method, or replaces the one of the name.
func (a *access) writeMethod(ctx context.Context, m *store.ACLAuthMethod) (*rpc.Response, error) {
	if m.Name == "" {
		return nil, store.Errorf(store.KindInvalid, "Invalid Auth Method: no Name is set")
	}
	if !methodName.MatchString(m.Name) {
		return nil, store.Errorf(store.KindInvalid, "Invalid Auth Method: invalid Name. Only alphanumeric characters, '-' and '_' are allowed")
	}
	op := store.ACLCreate
	if _, old := a.set.state.ACLAuthMethod(nil, m.Name); old != nil {
		op = store.ACLUpdate
		m.Name = old.Name
		if m.Type == "" {
			m.Type = old.Type
		}
		if old.Global() != m.Global() {
			return nil, store.Errorf(store.KindInvalid, "Changing an auth method's TokenLocality from %q to %q is not permitted.", old.TokenLocality, m.TokenLocality)
		}
	}
	if err := authmethod.CheckMethod(m); err != nil {
		return nil, err
	}
	if err := a.commit(ctx, store.SetACL(op, m)); err != nil {
		return nil, err
	}
	if _, now := a.set.state.ACLAuthMethod(nil, m.Name); now != nil {
		m = now
	}
	return a.written(m), nil
}

// minTokenTTL is how far in the future a token may expire at the earliest.
const minTokenTTL = time.Minute

// reservedID begins the ids of built-in records.
const reservedID = "00000000-0000-0000-0000-0000000000"

func (a *access) writeToken(ctx context.Context, r *store.ACLRequest, t *store.ACLToken) (*rpc.Response, error) {
	st := a.set.state
	now := time.Now().UTC()
	if r.Op == store.ACLCreate {
		if err := newIDs(t); err != nil {
			return nil, err
		}
		if _, old := st.ACLToken(nil, t.AccessorID); old != nil {
			return nil, store.Errorf(store.KindInvalid, "Invalid Token: AccessorID is already in use")
		}
		if _, old := st.ACLTokenBySecret(nil, t.SecretID); old != nil {
			return nil, store.Errorf(store.KindInvalid, "Invalid Token: SecretID is already in use")
		}
		if t.AuthMethod != "" {
			return nil, store.Errorf(store.KindInvalid, "AuthMethod field is disallowed outside of login")
		}
		t.CreateTime = now
		if err := setExpiry(t, r.TTL, now); err != nil {
			return nil, err
		}
	} else {
		if !validUUID(t.AccessorID) {
			return nil, store.Errorf(store.KindInvalid, "Invalid Token: AccessorID - not a valid UUID")
		}
		_, old := st.ACLToken(nil, t.AccessorID)
		if old = living(old); old == nil {
			return nil, store.Errorf(store.KindInvalid, "Cannot find token %q", t.AccessorID)
		}
		if err := carryOver(t, old, r.TTL); err != nil {
			return nil, err
		}
	}
	if err := a.prepareGrants(&t.ACLGrants, "token", t.Local); err != nil {
		return nil, err
	}
	var err error
	if t.Roles, err = links(t.Roles, "role", a.findRole); err != nil {
		return nil, err
	}
	return a.putToken(ctx, r.Op, t)
}

func (a *access) putToken(ctx context.Context, op store.ACLOp, t *store.ACLToken) (*rpc.Response, error) {
	if err := a.commit(ctx, store.SetACL(op, t)); err != nil {
		return nil, err
	}
	if _, now := a.set.state.ACLToken(nil, t.AccessorID); now != nil {
		t = now
	}
	return a.written(t), nil
}

// newIDs completes and checks the ids of a new token.
func newIDs(t *store.ACLToken) error {
	for _, id := range []struct {
		name string
		at   *string
	}{{"AccessorID", &t.AccessorID}, {"SecretID", &t.SecretID}} {
		switch {
		case *id.at == "":
			*id.at = newUUID()
		case !validUUID(*id.at):
			return store.Errorf(store.KindInvalid, "Invalid Token: %s - not a valid UUID", id.name)
		case strings.HasPrefix(*id.at, reservedID):
			return store.Errorf(store.KindInvalid, "Invalid Token: %s - UUIDs with the prefix %q are reserved", id.name, reservedID)
		}
	}
	t.Seal()
	return nil
}

func setExpiry(t *store.ACLToken, ttl time.Duration, now time.Time) error {
	if ttl != 0 {
		if !t.ExpirationTime.IsZero() {
			return store.Errorf(store.KindInvalid, "Expiration TTL and Expiration Time cannot both be set")
		}
		t.ExpirationTime = now.Add(ttl)
	}
	if t.ExpirationTime.IsZero() {
		return nil
	}
	t.ExpirationTime = t.ExpirationTime.UTC()
	if in := t.ExpirationTime.Sub(now); in < minTokenTTL {
		return store.Errorf(store.KindInvalid, "ExpirationTime cannot be less than %s in the future (was %s)", minTokenTTL, in)
	}
	return nil
}

// carryOver completes an update with what cannot change, and refuses what tries to.
func carryOver(t, old *store.ACLToken, ttl time.Duration) error {
	switch {
	case t.SecretID != "" && t.SecretID != store.HiddenSecret && store.HashSecret(t.SecretID) != old.SecretHash:
		return store.Errorf(store.KindInvalid, "Changing a token's SecretID is not permitted")
	case t.Local != old.Local:
		return store.Errorf(store.KindInvalid, "Cannot toggle local mode of %s", old.AccessorID)
	case t.AuthMethod != "" && t.AuthMethod != old.AuthMethod:
		return store.Errorf(store.KindInvalid, "Cannot change AuthMethod of %s", old.AccessorID)
	case ttl != 0, !t.ExpirationTime.IsZero() && !t.ExpirationTime.Equal(old.ExpirationTime):
		return store.Errorf(store.KindInvalid, "Cannot change expiration time of %s", old.AccessorID)
	}
	t.AccessorID, t.SecretID, t.SecretHash = old.AccessorID, old.SecretID, old.SecretHash
	t.AuthMethod, t.ExpirationTime, t.CreateTime = old.AuthMethod, old.ExpirationTime, old.CreateTime
	return nil
}

func (a *access) clone(ctx context.Context, r *store.ACLRequest) (*rpc.Response, error) {
	from, ok := r.Record.(*store.ACLToken)
	if !ok {
		return nil, store.Errorf(store.KindInvalid, "ACL.Apply: only tokens are cloned")
	}
	_, t := a.set.state.ACLToken(nil, r.Key)
	if t = living(t); t == nil {
		return nil, store.ErrTokenNotFound
	}
	if t.AuthMethod != "" {
		return nil, store.Errorf(store.KindInvalid, "Cannot clone a token created from an auth method")
	}
	t = t.Clone()
	t.AccessorID, t.SecretID = newUUID(), newUUID()
	t.Seal()
	t.CreateTime = time.Now().UTC()
	if from.Description != "" {
		t.Description = from.Description
	}
	return a.putToken(ctx, store.ACLCreate, t)
}

// prepareGrants resolves, checks and tidies what gives rights to a token or role.
func (a *access) prepareGrants(g *store.ACLGrants, of string, local bool) error {
	var err error
	if g.Policies, err = links(g.Policies, "policy", a.findPolicy); err != nil {
		return err
	}
	services := g.ServiceIdentities[:0:0]
	for _, s := range g.ServiceIdentities {
		if s.ServiceName == "" {
			return store.Errorf(store.KindInvalid, "Service identity is missing the service name field on this %s", of)
		}
		if local && len(s.Datacenters) > 0 {
			return store.Errorf(store.KindInvalid, "Service identity %q cannot specify a list of datacenters on a local token", s.ServiceName)
		}
		if _, err := acl.ServiceIdentity(s.ServiceName); err != nil {
			return err
		}
		if i := slices.IndexFunc(services, func(o store.ServiceIdentity) bool { return o.ServiceName == s.ServiceName }); i >= 0 {
			services[i].Datacenters = union(services[i].Datacenters, s.Datacenters)
		} else {
			s.Datacenters = union(s.Datacenters, s.Datacenters)
			services = append(services, s)
		}
	}
	g.ServiceIdentities = services
	nodes := g.NodeIdentities[:0:0]
	for _, n := range g.NodeIdentities {
		switch {
		case n.NodeName == "":
			return store.Errorf(store.KindInvalid, "Node identity is missing the node name field on this %s", of)
		case n.Datacenter == "":
			return store.Errorf(store.KindInvalid, "Node identity is missing the datacenter field on this %s", of)
		}
		if _, err := acl.NodeIdentity(n.NodeName); err != nil {
			return err
		}
		if !slices.Contains(nodes, n) {
			nodes = append(nodes, n)
		}
	}
	g.NodeIdentities = nodes
	templated := g.TemplatedPolicies[:0:0]
	for _, p := range g.TemplatedPolicies {
		t := acl.TemplateNamed(p.TemplateName)
		if p.TemplateName == "" && p.TemplateID != "" {
			if t = acl.TemplateNamed(p.TemplateID); t == nil {
				return store.Errorf(store.KindInvalid, "no such ACL templated policy with ID %q", p.TemplateID)
			}
		}
		if t == nil {
			return store.Errorf(store.KindInvalid, "no such ACL templated policy with Name %q", p.TemplateName)
		}
		if local && len(p.Datacenters) > 0 {
			return store.Errorf(store.KindInvalid, "templated policy %q cannot specify a list of datacenters on a local token", t.Name)
		}
		if _, err := t.Expand(p.Name); err != nil {
			return err
		}
		p.TemplateID, p.TemplateName = t.ID, t.Name
		if !t.NeedsName {
			p.Name = ""
		}
		if i := slices.IndexFunc(templated, func(o store.TemplatedPolicy) bool { return o.TemplateID == p.TemplateID && o.Name == p.Name }); i >= 0 {
			templated[i].Datacenters = union(templated[i].Datacenters, p.Datacenters)
		} else {
			p.Datacenters = union(p.Datacenters, p.Datacenters)
			templated = append(templated, p)
		}
	}
	g.TemplatedPolicies = templated
	return nil
}

// union joins two lists of datacenters, each once; none means everywhere.
func union(x, y []string) []string {
	if len(x) == 0 || len(y) == 0 {
		return nil
	}
	all := slices.Concat(x, y)
	slices.Sort(all)
	return slices.Compact(all)
}

func (a *access) findPolicy(id, name string) (store.ACLLink, bool) {
	_, p := a.set.state.ACLPolicy(nil, id)
	if id == "" {
		_, p = a.set.state.ACLPolicyByName(nil, name)
	}
	if p == nil {
		return store.ACLLink{}, false
	}
	return store.ACLLink{ID: p.ID, Name: p.Name}, true
}

func (a *access) findRole(id, name string) (store.ACLLink, bool) {
	_, r := a.set.state.ACLRole(nil, id)
	if id == "" {
		_, r = a.set.state.ACLRoleByName(nil, name)
	}
	if r == nil {
		return store.ACLLink{}, false
	}
	return store.ACLLink{ID: r.ID, Name: r.Name}, true
}

// links completes links by id or name, each once.
func links(list []store.ACLLink, what string, find func(id, name string) (store.ACLLink, bool)) ([]store.ACLLink, error) {
	var out []store.ACLLink
	for _, l := range list {
		found, ok := find(l.ID, l.Name)
		switch {
		case !ok && l.ID != "":
			return nil, store.Errorf(store.KindInvalid, "No such ACL %s with ID %q", what, l.ID)
		case !ok:
			return nil, store.Errorf(store.KindInvalid, "No such ACL %s with name %q", what, l.Name)
		case !slices.Contains(out, found):
			out = append(out, found)
		}
	}
	return out, nil
}

// loginDescription is what a token says that a login made.
func loginDescription(meta map[string]string) string {
	const text = "token created via login"
	if len(meta) == 0 {
		return text
	}
	b, err := json.Marshal(meta) // sorted by key
	if err != nil {
		return text
	}
	return text + ": " + string(b)
}
