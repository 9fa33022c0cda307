package httpapi

import (
	"slices"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

var (
	errNoSession  = badRequest("Missing session")
	errNoNodeName = badRequest("Missing node name")
)

// sessionBody is what a session is created from. Unknown members are ignored,
// unlike elsewhere, and a list that is given, empty or not, replaces the default.
type sessionBody struct {
	Node          string
	Name          string
	LockDelay     lockDelay
	Behavior      string
	TTL           string
	NodeChecks    *[]string
	Checks        *[]string // the older name of NodeChecks
	ServiceChecks []struct{ ID string }
}

// lockDelay is a duration as sessions carry it: below 1000 nanoseconds it counts
// seconds.
type lockDelay time.Duration

func (d *lockDelay) UnmarshalJSON(b []byte) error {
	v := duration(*d)
	if err := v.UnmarshalJSON(b); err != nil {
		return err
	}
	if v > -1000 && v < 1000 {
		v *= duration(time.Second)
	}
	*d = lockDelay(v)
	return nil
}

func (c *call) sessionCreate() error {
	b := sessionBody{Node: c.s.cfg.NodeName, LockDelay: lockDelay(store.DefaultLockDelay)}
	if err := c.decodeAs(&b, false, optional(errDecode)); err != nil {
		return err
	}
	cmd := store.SessionCommand{Op: store.SessionCreate, Session: store.Session{Name: b.Name, Node: b.Node,
		LockDelay: time.Duration(b.LockDelay), Behavior: b.Behavior, TTL: b.TTL, NodeChecks: b.nodeChecks()}}
	for _, k := range b.ServiceChecks {
		cmd.Session.ServiceChecks = append(cmd.Session.ServiceChecks, k.ID)
	}
	return c.apply(rpc.SessionCreate, cmd.AppendWire(nil))
}

// nodeChecks joins both names of the list.
func (b *sessionBody) nodeChecks() []string {
	if b.NodeChecks == nil && b.Checks == nil {
		return []string{store.SerfHealth}
	}
	var all []string
	for _, list := range [...]*[]string{b.NodeChecks, b.Checks} {
		if list == nil {
			continue
		}
		for _, id := range *list {
			if !slices.Contains(all, id) {
				all = append(all, id)
			}
		}
	}
	return all
}

func (c *call) sessionDestroy() error {
	if c.rest == "" {
		return errNoSession
	}
	cmd := store.SessionCommand{Op: store.SessionDestroy, Session: store.Session{ID: c.rest}}
	return c.apply(rpc.SessionDestroy, cmd.AppendWire(nil))
}

func (c *call) sessionRenew() error {
	if c.rest == "" {
		return errNoSession
	}
	req := c.request(rpc.SessionRenew)
	req.Query.Name = c.rest
	return c.plain(req)
}

func (c *call) sessionInfo() error {
	if c.rest == "" {
		return errNoSession
	}
	return c.sessions(rpc.SessionGet)
}

func (c *call) sessionNode() error {
	if c.rest == "" {
		return errNoNodeName
	}
	return c.sessions(rpc.SessionNode)
}

func (c *call) sessionList() error { return c.sessions(rpc.SessionList) }

func (c *call) sessions(method rpc.MethodID) error {
	req := c.request(method)
	if err := c.query(req, false); err != nil {
		return err
	}
	req.Query.Name = c.rest
	req.Filter = "" // sessions have no filter: the parameter is ignored, as clients expect
	return c.read(req, false)
}
