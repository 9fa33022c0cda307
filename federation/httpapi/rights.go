package httpapi

import (
	"context"

	"landbridge/lan/agent"
	"landbridge/store"
	"landbridge/store/acl"
)

// ACL says who asks, for what this agent answers by itself. What it passes on is
// decided by the server that answers (forwarding/endpoint).
type ACL interface {
	// Resolve returns who has a secret, "" being the anonymous token's.
	Resolve(ctx context.Context, secret string) (*acl.Bearer, error)
	// SetToken gives this agent another secret of a kind (acl.tokens), "" taking it
	// away; an error of KindNotFound is for a kind that there is not.
	SetToken(kind, secret string) error
}

// guard refuses a request that its bearer may not make, before anything of it is
// read. One that needs no right, or decides in its handler, says so: an endpoint
// of this agent without a guard fails a test.
type guard func(c *call) error

// open needs nothing, not even a token that exists.
func open(*call) error { return nil }

// inHandler resolves the token; the handler asks what it may do, or leaves out of
// its answer what it may not see.
func inHandler(c *call) (err error) {
	c.who, err = c.s.cfg.ACL.Resolve(c.r.Context(), c.token)
	return err
}

// own needs a right on this node.
func own(r acl.Resource, want acl.Access) guard {
	return func(c *call) error {
		if err := inHandler(c); err != nil {
			return err
		}
		return c.who.Check(r, c.s.cfg.NodeName, want)
	}
}

var (
	readAgent     = own(acl.Agent, acl.Read)
	writeAgent    = own(acl.Agent, acl.Write)
	writeNode     = own(acl.Node, acl.Write)
	readOperator  = own(acl.Operator, acl.Read)
	writeOperator = own(acl.Operator, acl.Write)
)

// guarded runs an endpoint's guard.
func (c *call) guarded(g guard) error {
	if c.s.cfg.ACL == nil || g == nil {
		return nil
	}
	return g(c)
}

// outsideGuard is guarded for paths that are no endpoints of the interface: it
// answers itself if the request is refused.
func (c *call) outsideGuard(g guard) bool {
	var p params
	p.parse(c.r.URL.RawQuery)
	if c.token = secret(c.r, &p); c.token == "" && c.s.cfg.DefaultToken != nil {
		c.token = c.s.cfg.DefaultToken()
	}
	if err := c.guarded(g); err != nil {
		c.fail(err)
		return false
	}
	return true
}

// hides tells a caller who is somebody that something was left out.
func (c *call) hides(some bool) {
	if some && !c.who.Anonymous() {
		c.w.Header()[hFiltered] = yes
	}
}

// visible drops the entries of a map that the bearer may not see.
func visible[T any](c *call, m map[string]T, may func(T) bool) map[string]T {
	if c.who == nil {
		return m
	}
	before := len(m)
	for id, v := range m {
		if !may(v) {
			delete(m, id)
		}
	}
	c.hides(len(m) < before)
	return m
}

func (c *call) mayReadLocal(s *agent.Service) bool {
	return c.who.May(acl.Service, s.Service, acl.Read)
}

func (c *call) mayReadCheck(k *store.Check) bool {
	if k.ServiceID == "" {
		return c.who.May(acl.Node, c.s.cfg.NodeName, acl.Read)
	}
	return c.who.May(acl.Service, k.ServiceName, acl.Read)
}

// mayWriteLocal needs service:write for the local service with an id; one that is
// not there is the handler's to refuse.
func (c *call) mayWriteLocal(id string) error {
	if c.who == nil {
		return nil
	}
	svc, err := c.s.cfg.Local.Service(id)
	if err != nil {
		return nil
	}
	return c.who.Check(acl.Service, svc.Service, acl.Write)
}

// mayRegister also needs the right for the service that has the id now, and for
// the sidecar that comes with it.
func (c *call) mayRegister(def *agent.ServiceDefinition) error {
	if c.who == nil {
		return nil
	}
	if err := c.who.Check(acl.Service, def.Name, acl.Write); err != nil {
		return err
	}
	id := def.ID
	if id == "" {
		id = def.Name
	}
	if err := c.mayWriteLocal(id); err != nil {
		return err
	}
	name, sidecar, err := def.Sidecar()
	if err != nil || name == "" {
		return err
	}
	if err := c.who.Check(acl.Service, name, acl.Write); err != nil {
		return err
	}
	return c.mayWriteLocal(sidecar)
}

// mayWriteCheck needs write for what a local check belongs to.
func (c *call) mayWriteCheck(id string) error {
	if c.who == nil {
		return nil
	}
	serviceID, name, err := c.s.cfg.Local.CheckService(id)
	switch {
	case err != nil:
		return nil
	case serviceID == "":
		return c.who.Check(acl.Node, c.s.cfg.NodeName, acl.Write)
	}
	return c.who.Check(acl.Service, name, acl.Write)
}

func (c *call) mayRegisterCheck(def *agent.CheckDefinition) error {
	if c.who == nil {
		return nil
	}
	if def.ServiceID == "" {
		if err := c.who.Check(acl.Node, c.s.cfg.NodeName, acl.Write); err != nil {
			return err
		}
	} else if err := c.mayWriteLocal(def.ServiceID); err != nil {
		return err
	}
	id := def.ID
	if id == "" {
		id = def.Name
	}
	return c.mayWriteCheck(id)
}

// agentToken gives this agent another token to work with.
func (c *call) agentToken() error {
	if c.s.cfg.ACL == nil {
		return errACLOff
	}
	var b struct{ Token string }
	if err := c.decodeAs(&b, false, errDecode); err != nil {
		return err
	}
	if err := c.s.cfg.ACL.SetToken(c.rest, b.Token); err != nil {
		return err
	}
	return c.done()
}
