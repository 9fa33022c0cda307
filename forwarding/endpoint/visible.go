package endpoint

import (
	"strings"

	"landbridge/forwarding/rpc"
	"landbridge/store"
	"landbridge/store/acl"
	"landbridge/store/state"
)

// seer leaves out of what was read what the bearer may not read, and says whether
// it left anything out. What nothing is left out of stays the shared list it is.
// serve calls it before anything is made of the answer: a read cannot forget it.
type seer[T any] func(who *acl.Bearer, req *rpc.Request, v T) (T, bool)

// checked is the seer of what was allowed as a whole before it was read, and of
// what is open to all.
func checked[T any](_ *acl.Bearer, _ *rpc.Request, v T) (T, bool) { return v, false }

// rows makes a seer of lists. Who may read all of the resources, whatever their
// names, sees all of them.
func rows[T any](may func(who *acl.Bearer, row T) bool, of ...acl.Resource) seer[[]T] {
	return func(who *acl.Bearer, _ *rpc.Request, list []T) ([]T, bool) {
		all := true
		for _, r := range of {
			all = all && who.CanAll(r, acl.Read)
		}
		if all {
			return list, false
		}
		for i := range list {
			if may(who, list[i]) {
				continue
			}
			out := append(make([]T, 0, len(list)-1), list[:i]...)
			for _, row := range list[i+1:] {
				if may(who, row) {
					out = append(out, row)
				}
			}
			return out, true
		}
		return list, false
	}
}

func mayReadNode(who *acl.Bearer, n *store.Node) bool { return who.May(acl.Node, n.Node, acl.Read) }

func mayReadService(who *acl.Bearer, s *store.Service) bool {
	return who.May(acl.Service, s.Name, acl.Read)
}

func mayReadInstance(who *acl.Bearer, i store.ServiceInstance) bool {
	return mayReadNode(who, i.Node) && mayReadService(who, i.Service)
}

func mayReadCheck(who *acl.Bearer, c *store.Check) bool {
	return who.May(acl.Node, c.Node, acl.Read) && (c.ServiceID == "" || who.May(acl.Service, c.ServiceName, acl.Read))
}

func mayReadSession(who *acl.Bearer, s *store.Session) bool {
	return who.May(acl.Session, s.Node, acl.Read)
}

func mayReadKey(who *acl.Bearer, e *store.KVEntry) bool { return who.May(acl.Key, e.Key, acl.Read) }

func mayReadCoordinate(who *acl.Bearer, c *store.Coordinate) bool {
	return who.May(acl.Node, c.Node, acl.Read)
}

var (
	seeNodes       = rows(mayReadNode, acl.Node)
	seeServices    = rows(mayReadService, acl.Service)
	seeInstances   = rows(mayReadInstance, acl.Node, acl.Service)
	seeChecks      = rows(mayReadCheck, acl.Node, acl.Service)
	seeSessions    = rows(mayReadSession, acl.Session)
	seeKeys        = rows(mayReadKey, acl.Key)
	seeCoordinates = rows(mayReadCoordinate, acl.Node)
	seeKeyNames    = rows(func(who *acl.Bearer, key string) bool { return who.May(acl.Key, key, acl.Read) }, acl.Key)
	seeNames       = rows(func(who *acl.Bearer, n state.ServiceName) bool { return who.May(acl.Service, n.Name, acl.Read) }, acl.Service)
)

// seeConnect also needs to read the service that the instances speak for.
func seeConnect(who *acl.Bearer, req *rpc.Request, list []store.ServiceInstance) ([]store.ServiceInstance, bool) {
	if len(list) > 0 && !who.May(acl.Service, req.Query.Name, acl.Read) {
		return nil, true
	}
	return seeInstances(who, req, list)
}

// seeNode hides a node with all that is on it, or services of it.
func seeNode(who *acl.Bearer, req *rpc.Request, a nodeAnswer) (nodeAnswer, bool) {
	if a.node == nil {
		return a, false
	}
	if !mayReadNode(who, a.node) {
		return nodeAnswer{}, true
	}
	var hidden bool
	a.services, hidden = seeServices(who, req, a.services)
	return a, hidden
}

// seeOneNode is seeNode for a node alone.
func seeOneNode(who *acl.Bearer, _ *rpc.Request, n *store.Node) (*store.Node, bool) {
	if n == nil || mayReadNode(who, n) {
		return n, false
	}
	return nil, true
}

func seeNodeServices(who *acl.Bearer, req *rpc.Request, list []store.NodeServices) ([]store.NodeServices, bool) {
	hidden := false
	out := make([]store.NodeServices, 0, len(list))
	for _, ns := range list {
		a, h := seeNode(who, req, nodeAnswer{ns.Node, ns.Services})
		hidden = hidden || h
		if a.node != nil {
			out = append(out, store.NodeServices{Node: a.node, Services: a.services})
		}
	}
	return out, hidden
}

// seeQueries hides queries by their names, and those without one from lists of who
// does not manage everything. Tokens are shown to nobody else either.
func seeQueries(who *acl.Bearer, _ *rpc.Request, list []*store.PreparedQuery) ([]*store.PreparedQuery, bool) {
	if who.May(acl.ACL, "", acl.Write) {
		return list, false
	}
	hidden := false
	out := make([]*store.PreparedQuery, 0, len(list))
	for _, q := range list {
		if !named(q) || !who.May(acl.Query, q.Name, acl.Read) {
			hidden = true
			continue
		}
		out = append(out, withoutToken(who, q))
	}
	return out, hidden
}

// seeQuery is seeQueries for one: without a name it is seen by who knows its id.
func seeQuery(who *acl.Bearer, _ *rpc.Request, q *store.PreparedQuery) (*store.PreparedQuery, bool) {
	if q == nil {
		return nil, false
	}
	if named(q) && !who.May(acl.Query, q.Name, acl.Read) && !who.May(acl.ACL, "", acl.Write) {
		return nil, true
	}
	return withoutToken(who, q), false
}

// withoutToken hides the query's token from who may not see it.
func withoutToken(who *acl.Bearer, q *store.PreparedQuery) *store.PreparedQuery {
	if q.Token == "" || who.May(acl.ACL, "", acl.Write) {
		return q
	}
	q = q.Clone()
	q.Token = store.HiddenToken
	return q
}

// txnErrors says which operations of a transaction the bearer may not do. The first
// of them stands for all in the audit log.
func (s *Set) txnErrors(req *rpc.Request, cmd *store.TxnCommand, readOnly bool) []store.TxnError {
	who := req.Bearer
	if who == nil {
		return nil
	}
	var errs []store.TxnError
	for i := range cmd.Ops {
		op := &cmd.Ops[i]
		err := s.mayDo(who, op)
		if err == nil {
			continue
		}
		what := err.Error()
		if readOnly {
			// As if it were not there: who may not read a name learns nothing of it.
			switch {
			case op.KV != nil && op.Verb == store.TxnGetTree:
				continue // its entries are filtered
			case op.KV != nil && op.Verb == store.TxnGet:
				what = "key \"" + op.KV.Key + "\" doesn't exist"
			}
		}
		if len(errs) == 0 {
			s.refused(req, who, err)
		}
		errs = append(errs, store.TxnError{OpIndex: i, What: what})
	}
	return errs
}

func (s *Set) mayDo(who *acl.Bearer, op *store.TxnOp) error {
	want := acl.Read
	if op.Writes() {
		want = acl.Write
	}
	switch {
	case op.KV != nil:
		if op.Verb == store.TxnDeleteTree {
			return who.CheckBelow(acl.Key, op.KV.Key, want)
		}
		return who.Check(acl.Key, op.KV.Key, want)
	case op.Node != nil:
		return s.mayDoNode(who, op.Node, want)
	case op.Service != nil:
		svc := op.Service
		id := svc.ID
		if id == "" {
			id = svc.Name
		}
		if want == acl.Write {
			return s.mayWriteService(who, svc.Node, id, svc.Name)
		}
		if old := s.serviceOn(svc.Node, id); old != nil {
			return who.Check(acl.Service, old.Name, want)
		}
		return who.Check(acl.Service, svc.Name, want)
	}
	c := op.Check
	if want == acl.Write && (op.Verb == store.TxnSet || op.Verb == store.TxnCAS) {
		return s.mayWriteCheck(who, c.Node, c.CheckID, c.ServiceID, nil)
	}
	if old := s.checkOn(c.Node, c.CheckID); old != nil && old.ServiceID != "" {
		return who.Check(acl.Service, old.ServiceName, want)
	}
	return who.Check(acl.Node, c.Node, want)
}

// mayDoNode also looks at the node that has the id: reads find nodes by it, and
// writes move it.
func (s *Set) mayDoNode(who *acl.Bearer, n *store.Node, want acl.Access) error {
	if n.ID != "" {
		if _, was := s.state.Node(nil, n.ID); was != nil && was.ID == n.ID && !strings.EqualFold(was.Node, n.Node) {
			if err := who.Check(acl.Node, was.Node, want); err != nil {
				return err
			}
			if n.Node == "" {
				return nil
			}
		}
	}
	return who.Check(acl.Node, n.Node, want)
}

// seeTrees leaves entries out of the trees that a transaction read.
func seeTrees(who *acl.Bearer, out *store.TxnOutcome) {
	if who == nil {
		return
	}
	for i := range out.Results {
		if all := out.Results[i].Tree; all != nil {
			out.Results[i].Tree = func(yield func(*store.KVEntry) bool) {
				for e := range all {
					if mayReadKey(who, e) && !yield(e) {
						return
					}
				}
			}
		}
	}
}
