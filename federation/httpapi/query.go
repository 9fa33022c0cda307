package httpapi

import (
	"net"
	"strconv"
	"strings"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// queryBody is a prepared query as clients write it.
type queryBody struct {
	Name     string
	Session  string
	Token    string
	Template struct {
		Type            string
		Regexp          string
		RemoveEmptyTags bool
	}
	Service struct {
		Service        string
		Failover       failoverBody
		OnlyPassing    bool
		IgnoreCheckIDs []string
		Near           string
		Tags           []string
		NodeMeta       map[string]string
		ServiceMeta    map[string]string
		Connect        bool
		Peer           string
		// Of the peer's other edition: refused when they say something.
		SamenessGroup, Namespace, Partition string
		IncludeAll                          bool
	}
	DNS struct{ TTL string }
	// Written by clients that send back what they read. The id is the path's, or
	// chosen by the leader.
	ID                       string
	CreateIndex, ModifyIndex uint64
}

type failoverBody struct {
	SkipLocalDatacenter bool
	NearestN            int
	Datacenters         []string
	Targets             []struct {
		Peer, Datacenter     string
		Partition, Namespace string
	}
}

// fill converts the body, and refuses what this interface does not have.
func (b *queryBody) fill(q *store.PreparedQuery) error {
	s, f := &b.Service, &b.Service.Failover
	*q = store.PreparedQuery{Name: b.Name, Session: b.Session, Token: b.Token,
		Template: store.QueryTemplate{Type: b.Template.Type, Regexp: b.Template.Regexp, RemoveEmptyTags: b.Template.RemoveEmptyTags},
		Service: store.QueryService{Service: s.Service, OnlyPassing: s.OnlyPassing, IgnoreCheckIDs: s.IgnoreCheckIDs,
			Failover: store.QueryFailover{SkipLocalDatacenter: f.SkipLocalDatacenter, NearestN: f.NearestN, Datacenters: f.Datacenters},
			Near:     s.Near, Tags: s.Tags, NodeMeta: s.NodeMeta, ServiceMeta: s.ServiceMeta, Connect: s.Connect, Peer: s.Peer},
		TTL: b.DNS.TTL}
	ns, partition := s.Namespace, s.Partition
	for _, t := range f.Targets {
		q.Service.Failover.Targets = append(q.Service.Failover.Targets, store.QueryTarget{Datacenter: t.Datacenter, Peer: t.Peer})
		ns, partition = ns+t.Namespace, partition+t.Partition
	}
	switch {
	case s.SamenessGroup != "" || s.IncludeAll:
		return store.Errorf(store.KindInvalid, "Invalid prepared query: sameness groups are not supported in consul CE")
	case ns != "":
		return badRequest("Request decode failed: json: unknown field %q", "Namespace")
	case partition != "":
		return badRequest("Request decode failed: json: unknown field %q", "Partition")
	}
	return nil
}

func (c *call) queryList() error {
	req := c.request(rpc.QueryList)
	if err := c.query(req, true); err != nil {
		return err
	}
	return c.read(req, true)
}

func (c *call) queryCreate() error { return c.queryWrite(store.QueryCreate, "") }
func (c *call) queryUpdate() error { return c.queryWrite(store.QueryUpdate, c.rest) }

func (c *call) queryWrite(op store.QueryOp, id string) error {
	var b queryBody
	if err := c.decode(&b); err != nil {
		return err
	}
	cmd := &store.QueryCommand{Op: op}
	if err := b.fill(&cmd.Query); err != nil {
		return err
	}
	cmd.Query.ID = id
	return c.apply(rpc.QueryApply, cmd.AppendWire(nil))
}

func (c *call) queryDelete() error {
	cmd := &store.QueryCommand{Op: store.QueryDelete}
	cmd.Query.ID = c.rest
	return c.apply(rpc.QueryApply, cmd.AppendWire(nil))
}

// queryGet serves the paths below /v1/query/: a query by its id, or what is done
// with one by its id or name, which may hold slashes.
func (c *call) queryGet() error {
	if name, ok := strings.CutSuffix(c.rest, "/execute"); ok {
		return c.queryExecute(name)
	}
	if name, ok := strings.CutSuffix(c.rest, "/explain"); ok {
		return c.queryExplain(name)
	}
	req := c.request(rpc.QueryGet)
	if err := c.query(req, true); err != nil {
		return err
	}
	req.Query.Name = c.rest
	return c.read(req, true)
}

func (c *call) queryExecute(name string) error {
	req := c.request(rpc.QueryExecute)
	if err := c.query(req, true); err != nil {
		return err
	}
	req.MinIndex, req.Filter = 0, "" // answers at once, and has no filter
	req.Query.Name, req.Query.Near = name, c.p.near
	args := store.QueryExecute{Agent: c.s.cfg.NodeName, Source: c.source()}
	if c.p.has(fLimit) {
		n, err := strconv.Atoi(c.p.limit)
		if err != nil {
			return store.Errorf(store.KindInvalid, "Bad limit: %w", err)
		}
		args.Limit = n
	}
	if c.p.connect != "" {
		on, err := strconv.ParseBool(c.p.connect)
		if err != nil {
			return badRequest("Invalid value for ?connect")
		}
		args.Connect = on
	}
	req.Body = args.AppendWire(nil)
	return c.read(req, true)
}

// source is the address a request comes from: the first hop a proxy tells of, or
// the connection's.
func (c *call) source() string {
	if v := c.r.Header["X-Forwarded-For"]; len(v) > 0 {
		first, _, _ := strings.Cut(v[0], ",")
		if first = strings.TrimSpace(first); first != "" {
			return first
		}
	}
	host, _, err := net.SplitHostPort(c.r.RemoteAddr)
	if err != nil {
		return "" // a unix socket has no address
	}
	return host
}

func (c *call) queryExplain(name string) error {
	req := c.request(rpc.QueryExplain)
	if err := c.query(req, true); err != nil {
		return err
	}
	req.MinIndex, req.Filter = 0, ""
	req.Query.Name = name
	return c.read(req, true)
}
