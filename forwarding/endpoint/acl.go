package endpoint

import (
	"context"
	"encoding/json"
	"time"

	"landbridge/forwarding/endpoint/authmethod"
	"landbridge/forwarding/rpc"
	"landbridge/store"
	"landbridge/store/acl"
)

// ACL is what the methods about access control need.
type ACL struct {
	// Primary is the datacenter that owns policies, roles and global tokens; its
	// own name there. Promotions change it.
	Primary func() string
	// Fenced says why this datacenter, although the primary, writes nothing that is
	// shared; nil: nothing forbids it.
	Fenced func() error
	// LocalTokens: a secondary may have tokens of its own.
	LocalTokens bool
	// Node, DefaultPolicy and DownPolicy are shown with expanded tokens.
	Node, DefaultPolicy, DownPolicy string
	// BootstrapReset returns the index with which an operator lets the bootstrap
	// happen once more, 0 if none does. It is asked for only when it matters, and
	// used up by a bootstrap that succeeds.
	BootstrapReset func() (index store.Index, used func() error)
	// Replication says how the copy of the primary's ACLs is doing; nil: there is none.
	Replication func() store.ACLReplication
	// Methods checks who logs in.
	Methods *authmethod.Set
	// Audit keeps a line (AuditLine), which ends with a newline; nil: nobody wants
	// them. It may be called concurrently, and not after Set.Stop.
	Audit func(line []byte) error
}

// aclMethods are all methods about access control.
var aclMethods = []rpc.MethodID{rpc.ACLApply, rpc.ACLTokenGet, rpc.ACLTokenSelf, rpc.ACLTokenList, rpc.ACLPolicyGet, rpc.ACLPolicyByName,
	rpc.ACLPolicyList, rpc.ACLRoleGet, rpc.ACLRoleByName, rpc.ACLRoleList, rpc.ACLBindingRuleGet, rpc.ACLBindingRuleList,
	rpc.ACLAuthMethodGet, rpc.ACLAuthMethodList, rpc.ACLBootstrap, rpc.ACLLogin, rpc.ACLLogout, rpc.ACLReplicationStatus,
	rpc.ACLAuthorize, rpc.ACLTemplates, rpc.ACLReapply}

// HandleACL sets the methods about access control; with nil they say that it is off.
func (s *Set) HandleACL(cfg *ACL) {
	if cfg == nil {
		for _, m := range aclMethods {
			s.Handle(m, func(context.Context, *rpc.Request) (*rpc.Response, error) { return nil, store.ErrACLOff })
		}
		return
	}
	a := &access{ACL: *cfg, set: s}
	s.access.Store(a)
	s.Handle(rpc.ACLApply, a.apply)
	s.Handle(rpc.ACLTokenGet, a.tokenGet)
	s.Handle(rpc.ACLTokenSelf, a.tokenSelf)
	s.Handle(rpc.ACLTokenList, a.tokenList)
	s.Handle(rpc.ACLPolicyGet, a.policyGet)
	s.Handle(rpc.ACLPolicyByName, a.policyByName)
	s.Handle(rpc.ACLPolicyList, a.policyList)
	s.Handle(rpc.ACLRoleGet, a.roleGet)
	s.Handle(rpc.ACLRoleByName, a.roleByName)
	s.Handle(rpc.ACLRoleList, a.roleList)
	s.Handle(rpc.ACLBindingRuleGet, a.ruleGet)
	s.Handle(rpc.ACLBindingRuleList, a.ruleList)
	s.Handle(rpc.ACLAuthMethodGet, a.methodGet)
	s.Handle(rpc.ACLAuthMethodList, a.methodList)
	s.Handle(rpc.ACLBootstrap, s.audited("bootstrap", "token", a.bootstrap))
	s.Handle(rpc.ACLLogin, s.audited("login", "token", a.login))
	s.Handle(rpc.ACLLogout, s.audited("logout", "token", a.logout))
	s.Handle(rpc.ACLReplicationStatus, a.replication)
	s.Handle(rpc.ACLReapply, s.audited("reapply", "", a.reapply))
	s.Handle(rpc.ACLAuthorize, a.authorize)
	s.Handle(rpc.ACLTemplates, a.templates)
}

// access answers the methods about access control.
type access struct {
	ACL
	set      *Set
	failures failures
}

func (a *access) primary() bool { return a.Primary() == a.set.cfg.Datacenter }

// mayShare is an error if shared records cannot be written in this primary.
func (a *access) mayShare() error {
	if a.Fenced == nil {
		return nil
	}
	return a.Fenced()
}

// toPrimary runs the request in the datacenter that owns global records.
func (a *access) toPrimary(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	if a.set.cfg.Remote == nil {
		return nil, store.ErrNoPath
	}
	next := *req
	next.Datacenter = a.Primary()
	next.Bearer = nil
	next.Hops++
	return a.set.cfg.Remote.Do(ctx, &next)
}

// commit proposes changes and answers with what the record is afterwards.
func (a *access) commit(ctx context.Context, changes ...store.ACLChange) error {
	cmd := store.ACLCommand{Changes: changes}
	res, err := a.set.raft.Apply(ctx, store.Command{Kind: store.CmdACL, Payload: cmd.AppendWire(nil)})
	if err == nil && res.Err != nil {
		err = res.Err
	}
	return err
}

// written answers a write with the record as it is now stored. The leader that
// applied it has it in its state.
func (a *access) written(r store.JSONRow) *rpc.Response {
	return &rpc.Response{Index: 1, KnownLeader: true, Body: r.JSON()}
}

func (a *access) yes() *rpc.Response {
	return &rpc.Response{Index: 1, KnownLeader: true, Body: bodyTrue}
}

// maySeeSecrets is whether the caller may write ACLs, and so could make a token of
// its own anyway.
func maySeeSecrets(req *rpc.Request) bool { return req.Bearer.May(acl.ACL, "", acl.Write) }

// uuid checks an id as it is looked up.
func uuid(id, what string) error {
	if !validUUID(id) {
		return store.Errorf(store.KindInvalid, "failed acl %s lookup: index error: UUID must be 36 characters", what)
	}
	return nil
}

func validUUID(id string) bool {
	if len(id) != 36 {
		return false
	}
	for i := range len(id) {
		c := id[i]
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if c != '-' {
				return false
			}
		} else if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			return false
		}
	}
	return true
}

// bootstrap makes the first management token. Body is its secret, or empty.
func (a *access) bootstrap(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	if !a.primary() {
		return nil, &store.Error{Kind: store.KindInvalid, Message: store.ErrACLOff.Message}
	}
	if err := a.mayShare(); err != nil {
		return nil, err
	}
	secret := string(req.Body)
	switch {
	case secret == "":
		secret = newUUID()
	case !validUUID(secret):
		return nil, store.Errorf(store.KindInvalid, "Invalid bootstrap token: BootstrapSecret is not a valid UUID")
	}
	cmd := store.ACLBootstrapCommand{Token: store.ManagementToken(newUUID(), secret, "Bootstrap Token (Global Management)", time.Now())}
	used := func() error { return nil }
	if at, _ := a.set.state.ACLBootstrapped(); at != 0 && a.BootstrapReset != nil {
		cmd.Reset, used = a.BootstrapReset()
	}
	res, err := a.set.raft.Apply(ctx, store.Command{Kind: store.CmdACLBootstrap, Payload: cmd.AppendWire(nil)})
	if err == nil && res.Err != nil {
		err = res.Err
	}
	if err != nil {
		return nil, err
	}
	if err := used(); err != nil {
		a.set.cfg.Logger.Warn("the bootstrap reset is used up, and its file could not be removed", "err", err)
	}
	_, t := a.set.state.ACLToken(nil, cmd.Token.AccessorID)
	if t == nil {
		return nil, store.Errorf(store.KindInternal, "the bootstrap token was deleted at once")
	}
	return a.written(t), nil
}

func (a *access) replication(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
	var st store.ACLReplication
	if a.Replication != nil {
		st = a.Replication()
	}
	st.LastSuccess, st.LastError = st.LastSuccess.UTC().Truncate(time.Second), st.LastError.UTC().Truncate(time.Second)
	return a.answer(req, st)
}

// answer encodes an answer that is asked for seldom.
func (a *access) answer(req *rpc.Request, v any) (*rpc.Response, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, store.Errorf(store.KindInternal, "encoding an answer about ACLs: %w", err)
	}
	resp := a.set.response(req, 1)
	return resp, finish(req, resp, body)
}

// maxQuestions bounds a call of authorize.
const maxQuestions = 64

// authorize says what the caller may do. Body is JSON, as users write it.
func (a *access) authorize(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
	type question struct {
		Resource, Access string
		Segment          string `json:",omitempty"`
	}
	type verdict struct {
		question
		Allow bool
	}
	var asked []question
	if err := json.Unmarshal(req.Body, &asked); err != nil {
		return nil, store.Errorf(store.KindBadRequest, "Failed to decode request body: %w", err)
	}
	if len(asked) > maxQuestions {
		return nil, store.Errorf(store.KindBadRequest, "Refusing to process more than %d authorizations at once", maxQuestions)
	}
	out := make([]verdict, len(asked))
	for i, q := range asked {
		r, err := acl.ParseResource(q.Resource)
		if err != nil {
			return nil, err
		}
		want, err := acl.ParseAccess(q.Access)
		if err != nil {
			return nil, err
		}
		out[i] = verdict{q, req.Bearer.May(r, q.Segment, want)}
	}
	return a.answer(req, out)
}

// templates answers about templated policies: Query.Separator is list, read or
// preview, Query.Name the template, Body the variables as users write them.
func (a *access) templates(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
	type template struct{ TemplateName, Schema, Template, Description string }
	show := func(t *acl.Template) template { return template{t.Name, t.Schema(), t.Rules, t.Description} }
	if req.Query.Separator == "list" {
		all := make(map[string]template)
		for _, t := range acl.Templates() {
			all[t.Name] = show(&t)
		}
		return a.answer(req, all)
	}
	t := acl.TemplateNamed(req.Query.Name)
	if t == nil || t.Name != req.Query.Name {
		return nil, store.Errorf(store.KindBadRequest, "Invalid templated policy Name: %s", req.Query.Name)
	}
	if req.Query.Separator == "read" {
		return a.answer(req, show(t))
	}
	var vars struct{ Name string }
	if len(req.Body) > 0 {
		if err := json.Unmarshal(req.Body, &vars); err != nil {
			return nil, store.Errorf(store.KindBadRequest, "Request decode failed: %w", err)
		}
	}
	rules, err := t.Expand(vars.Name)
	if err != nil {
		return nil, &store.Error{Kind: store.KindBadRequest, Message: err.Error()}
	}
	p := synthetic(rules, "synthetic policy generated from templated policy: "+t.Name, nil)
	resp := a.set.response(req, 1)
	return resp, finish(req, resp, p.JSON())
}

// reapply writes, in the primary, a record as another datacenter had it before a
// promotion: Body is a store.ACLChange, a set or a deletion.
func (a *access) reapply(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	var ch store.ACLChange
	if err := ch.DecodeWire(req.Body); err != nil {
		return nil, store.Errorf(store.KindInvalid, "ACL.Reapply: %w", err)
	}
	if !a.primary() {
		return nil, store.Errorf(store.KindConflict, "datacenter %s does not own the ACLs, %s does", a.set.cfg.Datacenter, a.Primary())
	}
	if err := a.mayShare(); err != nil {
		return nil, err
	}
	t, _ := ch.Record.(*store.ACLToken)
	secret := ch.Op == store.ACLUpdate && t != nil
	if ch.Op != store.ACLSet && ch.Op != store.ACLDelete && !secret || t != nil && t.Local {
		return nil, store.Errorf(store.KindInvalid, "ACL.Reapply: neither a shared record nor a secret or a deletion")
	}
	if secret { // what the token may do, or that there is one, may have changed since
		_, now := a.set.state.ACLToken(nil, t.AccessorID)
		if now == nil || now.Local || now.SecretHash != t.SecretHash {
			return nil, store.Errorf(store.KindConflict, "datacenter %s has no such token any more, or one with another secret", a.set.cfg.Datacenter)
		}
		now = now.Clone()
		now.SecretID = t.SecretID
		ch.Record = now
	}
	if err := a.commit(ctx, ch); err != nil {
		return nil, err
	}
	return a.yes(), nil
}
