package endpoint

import (
	"context"
	"maps"
	"strings"

	"landbridge/forwarding/rpc"
	"landbridge/store"
	"landbridge/store/acl"
	"landbridge/store/state"
)

// Tokens says who has a secret.
type Tokens interface {
	// Resolve returns who has the secret, "" being the anonymous token's. w, which
	// may be nil, is fired when that may have changed. With noWait it fails with
	// rpc.ErrWouldWait rather than ask another server. A secret that is nobody's, or
	// no longer, is store.ErrACLNotFound.
	Resolve(ctx context.Context, secret string, w *state.Watch, noWait bool) (*acl.Bearer, error)
}

// identify returns the request with its bearer, who may make it. Every method says
// in rpc's table what it needs; one that says nothing is refused.
func (s *Set) identify(ctx context.Context, m *rpc.Method, req *rpc.Request) (*rpc.Request, error) {
	switch m.Rights {
	case rpc.Open, rpc.Servers:
		return req, nil
	}
	who, err := s.cfg.Tokens.Resolve(ctx, req.Token, nil, req.NoWait)
	if err != nil {
		return nil, err
	}
	own := *req
	own.Bearer = who
	return &own, s.check(m, &own)
}

// again is identify for a query that has waited.
func (s *Set) again(ctx context.Context, req *rpc.Request, w *state.Watch) (*rpc.Request, error) {
	who, err := s.cfg.Tokens.Resolve(ctx, req.Token, w, false)
	if err != nil || who == req.Bearer {
		return req, err
	}
	own := *req
	own.Bearer = who
	return &own, s.check(rpc.Lookup(req.Method), &own)
}

// check refuses what the bearer of a request may not ask for.
func (s *Set) check(m *rpc.Method, req *rpc.Request) error {
	who := req.Bearer
	switch m.Rights {
	case rpc.Open, rpc.Servers:
		return nil
	case rpc.Filtered:
		if s.cfg.KeyListPolicy && (m.ID == rpc.KVList || m.ID == rpc.KVKeys) {
			return who.Check(acl.Key, req.Query.Name, acl.List)
		}
		return nil
	case rpc.ByName:
		return who.Check(m.Resource.ACL(), req.Query.Name, m.Access)
	case rpc.Whole:
		return who.Check(m.Resource.ACL(), "", m.Access)
	case rpc.ByBody:
		if c := bodyChecks[m.ID]; c != nil {
			return c(s, who, req)
		}
	}
	return store.Errorf(store.KindPermissionDenied, "Permission denied: %s does not say what it needs", m.Name)
}

// bodyChecks are those of the methods with rpc.ByBody. Where a record is addressed
// by an id, the stored record's owner counts too: who names another owner than
// it has must not get at it.
var bodyChecks = map[rpc.MethodID]func(*Set, *acl.Bearer, *rpc.Request) error{
	rpc.KVApply:           (*Set).mayWriteKey,
	rpc.CatalogRegister:   (*Set).mayRegisterBody,
	rpc.CatalogDeregister: (*Set).mayDeregisterBody,
	// Each change of a batch is checked by itself, some with a token of its own.
	rpc.CatalogSync:      func(*Set, *acl.Bearer, *rpc.Request) error { return nil },
	rpc.SessionCreate:    (*Set).mayCreateSession,
	rpc.SessionDestroy:   (*Set).mayDestroySession,
	rpc.SessionRenew:     (*Set).mayRenewSession,
	rpc.EventFire:        (*Set).mayFire,
	rpc.CoordinateUpdate: (*Set).mayUpdateCoordinate,
	rpc.KeyringRings:     (*Set).mayKeyring,
	rpc.KeyringRing:      (*Set).mayKeyring,
	rpc.QueryApply:       (*Set).mayWriteQuery,
	rpc.QueryExplain:     (*Set).mayExplain,
	rpc.ACLFollow:        (*Set).mayReplicate,
	rpc.ACLTrees:         (*Set).mayReplicate,
	rpc.ACLLeaves:        (*Set).mayReplicate,
	rpc.ACLRows:          (*Set).mayReplicate,
	rpc.KVFollow:         (*Set).mayCopyKeys,
	rpc.KVTrees:          (*Set).mayCopyKeys,
	rpc.KVLeaves:         (*Set).mayCopyKeys,
	rpc.KVRows:           (*Set).mayCopyKeys,
	// Operations are checked one by one, and all that fail are told.
	rpc.TxnApply: func(*Set, *acl.Bearer, *rpc.Request) error { return nil },
}

func undecoded(m rpc.MethodID, err error) error {
	return store.Errorf(store.KindInvalid, "%s: %w", rpc.Lookup(m).Name, err)
}

func (s *Set) mayWriteKey(who *acl.Bearer, req *rpc.Request) error {
	var cmd store.KVCommand
	if err := cmd.DecodeWire(req.Body); err != nil {
		return undecoded(req.Method, err)
	}
	if cmd.Op == store.KVDeleteAll {
		return who.CheckBelow(acl.Key, cmd.Entry.Key, acl.Write)
	}
	return who.Check(acl.Key, cmd.Entry.Key, acl.Write)
}

func (s *Set) mayRegisterBody(who *acl.Bearer, req *rpc.Request) error {
	var cmd store.RegisterCommand
	if err := cmd.DecodeWire(req.Body); err != nil {
		return undecoded(req.Method, err)
	}
	return s.mayRegister(who, &cmd, nil)
}

// mayRegister needs node:write for a node that is new or changes, service:write
// for the service, also for the one that has its id now, and for checks what
// they belong to. fresh is a node that the same batch has just registered, or nil.
func (s *Set) mayRegister(who *acl.Bearer, cmd *store.RegisterCommand, fresh *store.Node) error {
	if who == nil {
		return nil
	}
	n := &cmd.Node
	if s.changesNode(n, cmd.SkipNodeUpdate, fresh) {
		if err := who.Check(acl.Node, n.Node, acl.Write); err != nil {
			return err
		}
		// A node that moves to this name gives up its own.
		if _, was := s.state.Node(nil, n.ID); n.ID != "" && was != nil && was.ID == n.ID {
			if err := who.Check(acl.Node, was.Node, acl.Write); err != nil {
				return err
			}
		}
	}
	if svc := cmd.Service; svc != nil {
		id := svc.ID
		if id == "" {
			id = svc.Name
		}
		if err := s.mayWriteService(who, n.Node, id, svc.Name); err != nil {
			return err
		}
	}
	for _, c := range cmd.Checks {
		id := c.CheckID
		if id == "" {
			id = c.Name
		}
		if err := s.mayWriteCheck(who, n.Node, id, c.ServiceID, cmd.Service); err != nil {
			return err
		}
	}
	return nil
}

// changesNode is whether registering n makes or changes a node.
func (s *Set) changesNode(n *store.Node, skip bool, fresh *store.Node) bool {
	old := fresh
	if old == nil || !strings.EqualFold(old.Node, n.Node) {
		old = s.nodeNamed(n.Node)
	}
	switch {
	case old == nil:
		return true
	case skip:
		return false
	}
	return n.Address != old.Address || n.ID != "" && n.ID != old.ID ||
		!maps.Equal(n.TaggedAddresses, old.TaggedAddresses) || !maps.Equal(n.Meta, old.Meta)
}

// nodeNamed finds a node by its name alone: the state also finds them by id.
func (s *Set) nodeNamed(name string) *store.Node {
	if _, n := s.state.Node(nil, name); n != nil && strings.EqualFold(n.Node, name) {
		return n
	}
	return nil
}

// serviceOn returns the instance with an id on a node, or nil.
func (s *Set) serviceOn(node, id string) *store.Service {
	_, n, list := s.state.NodeServices(nil, node)
	if n == nil || !strings.EqualFold(n.Node, node) {
		return nil
	}
	for _, svc := range list {
		if svc.ID == id {
			return svc
		}
	}
	return nil
}

// checkOn returns the check with an id on a node, or nil.
func (s *Set) checkOn(node, id string) *store.Check {
	_, list := s.state.NodeChecks(nil, node)
	for _, c := range list {
		if c.CheckID == id {
			return c
		}
	}
	return nil
}

// mayWriteService needs service:write for the name that the instance gets, and for
// the one it has.
func (s *Set) mayWriteService(who *acl.Bearer, node, id, name string) error {
	if err := who.Check(acl.Service, name, acl.Write); err != nil {
		return err
	}
	if old := s.serviceOn(node, id); old != nil {
		return who.Check(acl.Service, old.Name, acl.Write)
	}
	return nil
}

// mayWriteCheck needs write for what owns the check, and for what owns the one that
// has its id now. with is a service that is registered along with it.
func (s *Set) mayWriteCheck(who *acl.Bearer, node, id, service string, with *store.Service) error {
	if err := s.mayWriteOwned(who, node, service, with); err != nil {
		return err
	}
	if old := s.checkOn(node, id); old != nil && old.ServiceID != service {
		return s.mayWriteOwned(who, node, old.ServiceID, nil)
	}
	return nil
}

func (s *Set) mayWriteOwned(who *acl.Bearer, node, service string, with *store.Service) error {
	if service == "" {
		return who.Check(acl.Node, node, acl.Write)
	}
	if with != nil && (with.ID == service || with.ID == "" && with.Name == service) {
		return who.Check(acl.Service, with.Name, acl.Write)
	}
	if svc := s.serviceOn(node, service); svc != nil {
		return who.Check(acl.Service, svc.Name, acl.Write)
	}
	// The state refuses a check of a service that is not there.
	return who.Check(acl.Node, node, acl.Write)
}

func (s *Set) mayDeregisterBody(who *acl.Bearer, req *rpc.Request) error {
	var cmd store.DeregisterCommand
	if err := cmd.DecodeWire(req.Body); err != nil {
		return undecoded(req.Method, err)
	}
	return s.mayDeregister(who, &cmd)
}

// mayDeregister needs node:write, or for a service or its check service:write.
func (s *Set) mayDeregister(who *acl.Bearer, cmd *store.DeregisterCommand) error {
	if who.May(acl.Node, cmd.Node, acl.Write) {
		return nil
	}
	switch {
	case cmd.ServiceID != "":
		if svc := s.serviceOn(cmd.Node, cmd.ServiceID); svc != nil {
			return who.Check(acl.Service, svc.Name, acl.Write)
		}
	case cmd.CheckID != "":
		if c := s.checkOn(cmd.Node, cmd.CheckID); c != nil && c.ServiceID != "" {
			return who.Check(acl.Service, c.ServiceName, acl.Write)
		}
	}
	return who.Denied(acl.Node, cmd.Node, acl.Write)
}

func (s *Set) mayCreateSession(who *acl.Bearer, req *rpc.Request) error {
	cmd, err := sessionCommand(req, store.SessionCreate)
	if err != nil {
		return err
	}
	return who.Check(acl.Session, cmd.Session.Node, acl.Write)
}

func (s *Set) mayDestroySession(who *acl.Bearer, req *rpc.Request) error {
	cmd, err := sessionCommand(req, store.SessionDestroy)
	if err != nil {
		return err
	}
	return s.mayWriteSession(who, cmd.Session.ID)
}

func (s *Set) mayRenewSession(who *acl.Bearer, req *rpc.Request) error {
	return s.mayWriteSession(who, req.Query.Name)
}

// mayWriteSession is nil for a session that is not there: nothing happens to it.
func (s *Set) mayWriteSession(who *acl.Bearer, id string) error {
	if _, sess := s.state.Session(nil, id); sess != nil {
		return who.Check(acl.Session, sess.Node, acl.Write)
	}
	return nil
}

func (s *Set) mayFire(who *acl.Bearer, req *rpc.Request) error {
	var ev store.UserEvent
	if err := ev.DecodeWire(req.Body); err != nil {
		return undecoded(req.Method, err)
	}
	if !who.May(acl.Event, ev.Name, acl.Write) {
		return store.ErrDenied // and no more words: clients know it so
	}
	return nil
}

func (s *Set) mayUpdateCoordinate(who *acl.Bearer, req *rpc.Request) error {
	var c store.Coordinate
	if err := c.DecodeWire(req.Body); err != nil {
		return undecoded(req.Method, err)
	}
	return who.Check(acl.Node, c.Node, acl.Write)
}

func (s *Set) mayKeyring(who *acl.Bearer, req *rpc.Request) error {
	var op store.KeyringRequest
	if err := op.DecodeWire(req.Body); err != nil {
		return undecoded(req.Method, err)
	}
	if op.Op == store.KeyringList {
		return who.Check(acl.Keyring, "", acl.Read)
	}
	return who.Check(acl.Keyring, "", acl.Write)
}

// mayWriteQuery needs query:write for the name that the query gets, and for the one
// it has. One without a name is nobody's but its session's.
func (s *Set) mayWriteQuery(who *acl.Bearer, req *rpc.Request) error {
	var cmd store.QueryCommand
	if err := cmd.DecodeWire(req.Body); err != nil {
		return undecoded(req.Method, err)
	}
	q := &cmd.Query
	if cmd.Op != store.QueryCreate {
		if _, old := s.state.Query(nil, q.ID); old != nil && named(old) {
			if err := who.Check(acl.Query, old.Name, acl.Write); err != nil {
				return err
			}
		}
	}
	switch {
	case cmd.Op == store.QueryDelete:
		return nil
	case named(q):
		return who.Check(acl.Query, q.Name, acl.Write)
	case q.Session == "" && !who.May(acl.ACL, "", acl.Write):
		return store.Errorf(store.KindInvalid, "Invalid prepared query: Must be bound to a session")
	}
	return nil
}

// named is whether a query has a name that rights are about: a template that
// matches every name has the empty one.
func named(q *store.PreparedQuery) bool { return q.Name != "" || q.IsTemplate() }

func (s *Set) mayExplain(who *acl.Bearer, req *rpc.Request) error {
	name := req.Query.Name
	if q := s.state.ResolveQuery(name); q != nil {
		name = q.Name
		if !named(q) {
			return nil
		}
	}
	return who.Check(acl.Query, name, acl.Read)
}

// mayReplicate needs acl:read, and acl:write for tokens, since their secrets are
// told.
func (s *Set) mayReplicate(who *acl.Bearer, req *rpc.Request) error {
	if req.Query.Name == rpc.ReplicateTokens {
		return who.Check(acl.ACL, "", acl.Write)
	}
	return who.Check(acl.ACL, "", acl.Read)
}
