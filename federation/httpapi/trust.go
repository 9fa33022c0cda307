package httpapi

import (
	"net/http"
	"strings"
	"time"

	"landbridge/federation/trust"
	"landbridge/forwarding/rpc"
)

// These are landbridge's own: identity between datacenters.

// wanToken makes a token that lets one datacenter join. It is a secret.
func (c *call) wanToken() error {
	var b struct {
		Datacenter string
		TTL        string
		Addresses  []string
	}
	if err := c.decode(&b); err != nil {
		return err
	}
	var life time.Duration
	if b.TTL != "" {
		var err error
		if life, err = time.ParseDuration(b.TTL); err != nil || life <= 0 {
			return badRequest("Invalid TTL %q: must be a duration above 0, such as 1h", b.TTL)
		}
	}
	req := c.request(rpc.TrustToken)
	req.Body = trust.TokenBody(b.Datacenter, life, b.Addresses)
	c.w.Header()["Cache-Control"] = []string{"no-store"}
	return c.plain(req)
}

// wanJoin makes the datacenter of this server join by a token, which is a secret
// and so is not part of the path.
func (c *call) wanJoin() error {
	var b struct{ Token string }
	if err := c.decode(&b); err != nil {
		return err
	}
	if b.Token == "" {
		return badRequest("Missing Token: what landbridge wan token printed")
	}
	if err := c.s.cfg.Agent.Join(c.r.Context(), b.Token, true); err != nil {
		return err
	}
	return c.done()
}

// wanEvict refuses a server, or a whole datacenter, everywhere; with Undo no more.
func (c *call) wanEvict() error {
	var b struct {
		Node, Datacenter string
		Whole            bool
		Undo             bool
	}
	if err := c.decode(&b); err != nil {
		return err
	}
	switch {
	case b.Whole && b.Node != "":
		return badRequest("Node and Whole exclude each other: a whole datacenter is named by Datacenter")
	case b.Whole && b.Datacenter == "":
		return badRequest("Missing Datacenter: which one is to be evicted whole")
	case !b.Whole && b.Node == "":
		return badRequest("Missing Node: the name of the server to evict, without its datacenter")
	}
	req := c.local(rpc.TrustEvict)
	req.Body = trust.EvictBody(b.Node, b.Datacenter, b.Undo)
	if _, err := c.s.cfg.Do.Do(c.r.Context(), req); err != nil {
		return err
	}
	return c.done()
}

// caStatus shows the certificates in use, as one server knows them.
func (c *call) caStatus() error { return c.plain(c.request(rpc.TrustStatus)) }

// caRotate replaces certificates now rather than when they are due.
func (c *call) caRotate() error {
	var b struct{ What string }
	if err := c.decode(&b); err != nil {
		return err
	}
	switch b.What {
	case trust.RotateRoot, trust.RotateIntermediate, trust.RotateServers, trust.RotatePrune:
	default:
		return badRequest("Invalid What %q: must be root, intermediate, servers or prune", b.What)
	}
	req := c.request(rpc.TrustRotate)
	req.Body = trust.RotateBody(b.What)
	resp, err := c.s.cfg.Do.Do(c.r.Context(), req)
	if err != nil {
		return err
	}
	c.json(http.StatusOK, resp.Body)
	return nil
}

// promotionPlan tells what is known before this datacenter is promoted.
func (c *call) promotionPlan() error { return c.plain(c.request(rpc.TrustPromotionPlan)) }

// promote makes this datacenter the primary.
func (c *call) promote() error {
	var b struct{ Force bool }
	if err := c.decode(&b); err != nil {
		return err
	}
	req := c.request(rpc.TrustPromote)
	req.Body = trust.PromoteBody(b.Force)
	return c.plain(req)
}

// follow accepts that another datacenter was promoted.
func (c *call) follow() error {
	var b struct{ Datacenter string }
	if err := c.decode(&b); err != nil {
		return err
	}
	if b.Datacenter == "" {
		return badRequest("Missing Datacenter: the one that was promoted")
	}
	req := c.request(rpc.TrustFollow)
	req.Body = trust.FollowBody(b.Datacenter)
	return c.plain(req)
}

// forgetDatacenter frees the name of a datacenter whose data is lost.
func (c *call) forgetDatacenter() error {
	var b struct{ Datacenter string }
	if err := c.decode(&b); err != nil {
		return err
	}
	if b.Datacenter == "" {
		return badRequest("Missing Datacenter: the one whose name is to be free")
	}
	req := c.local(rpc.TrustEvict)
	req.Body = trust.ForgetBody(b.Datacenter)
	if _, err := c.s.cfg.Do.Do(c.r.Context(), req); err != nil {
		return err
	}
	return c.done()
}

// unseen lists changes that a promoted primary never saw.
func (c *call) unseen() error { return c.plain(c.request(rpc.ACLUnseen)) }

// settleUnseen brings them to the primary, or discards them.
func (c *call) settleUnseen() error {
	var b struct {
		Discard bool
		All     bool
		IDs     []string
	}
	if err := c.decode(&b); err != nil {
		return err
	}
	if b.All == (len(b.IDs) > 0) {
		return badRequest("Either All or IDs must be given")
	}
	req := c.request(rpc.ACLUnseenApply)
	if b.Discard {
		req = c.request(rpc.ACLUnseenDiscard)
	}
	req.Query.Name = strings.Join(b.IDs, ",")
	return c.plain(req)
}
