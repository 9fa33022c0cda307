package httpapi

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

func del(h handler) route { return route{http.MethodDelete, h} }

// aclEntries are the endpoints about access control. Where it is off they say so,
// before anything of a body is read.
func aclEntries() []entry {
	one := func(method string, h handler) []route { return []route{{method, h}} }
	byID := func(read, write handler, remove handler) []route {
		return []route{{http.MethodGet, read}, {http.MethodPut, write}, del(remove)}
	}
	list := []entry{
		{path: "/v1/acl/bootstrap", routes: put((*call).aclBootstrap)},
		{path: "/v1/acl/replication", routes: get((*call).aclReplication)},
		{path: "/v1/acl/login", routes: one(http.MethodPost, (*call).aclLogin)},
		{path: "/v1/acl/logout", routes: one(http.MethodPost, (*call).aclLogout)},
		{path: "/v1/acl/tokens", routes: get((*call).tokenList)},
		{path: "/v1/acl/token", routes: put((*call).tokenCreate)},
		{path: "/v1/acl/token/self", routes: get((*call).tokenSelf)},
		{path: "/v1/acl/token/", routes: byID((*call).tokenRead, (*call).tokenPut, (*call).tokenDelete)},
		{path: "/v1/acl/policies", routes: get((*call).policyList)},
		{path: "/v1/acl/policy", routes: put((*call).policyCreate)},
		{path: "/v1/acl/policy/name/", routes: get((*call).policyByName)},
		{path: "/v1/acl/policy/", routes: byID((*call).policyRead, (*call).policyUpdate, (*call).policyDelete)},
		{path: "/v1/acl/roles", routes: get((*call).roleList)},
		{path: "/v1/acl/role", routes: put((*call).roleCreate)},
		{path: "/v1/acl/role/name/", routes: get((*call).roleByName)},
		{path: "/v1/acl/role/", routes: byID((*call).roleRead, (*call).roleUpdate, (*call).roleDelete)},
		{path: "/v1/acl/auth-methods", routes: get((*call).methodList)},
		{path: "/v1/acl/auth-method", routes: put((*call).methodCreate)},
		{path: "/v1/acl/auth-method/", routes: byID((*call).methodRead, (*call).methodUpdate, (*call).methodDelete)},
		{path: "/v1/acl/binding-rules", routes: get((*call).ruleList)},
		{path: "/v1/acl/binding-rule", routes: put((*call).ruleCreate)},
		{path: "/v1/acl/binding-rule/", routes: byID((*call).ruleRead, (*call).ruleUpdate, (*call).ruleDelete)},
		{path: "/v1/acl/templated-policies", routes: get((*call).templateList)},
		{path: "/v1/acl/templated-policy/name/", routes: get((*call).templateRead)},
		{path: "/v1/acl/templated-policy/preview/", routes: one(http.MethodPost, (*call).templatePreview)},
		{path: "/v1/internal/kv/replication", routes: get((*call).keyReplication)},
		{path: "/v1/internal/kv/replication/approve", routes: put((*call).keyReplicationApprove)},
		{path: "/v1/internal/acl/replication", routes: get((*call).replicationDetail)},
		{path: "/v1/internal/acl/replication/approve", routes: put((*call).replicationApprove)},
		{path: "/v1/internal/acl/replication/undo", routes: put((*call).replicationUndo)},
		{path: "/v1/internal/acl/authorize", routes: one(http.MethodPost, (*call).aclAuthorize)},
	}
	for i := range list {
		ep := &list[i]
		ep.family, ep.scope = famACL, noTenancy
		for j := range ep.routes {
			serve := ep.routes[j].serve
			ep.routes[j].serve = func(c *call) error {
				if c.s.cfg.ACL == nil {
					return errACLOff
				}
				return serve(c)
			}
		}
	}
	return list
}

// decodeACL reads a body about a kind of record.
func (c *call) decodeACL(v any, kind string) error {
	return c.decodeAs(v, true, errDecodeACL(kind))
}

func errDecodeACL(kind string) func(error) error {
	return func(err error) error { return badRequest("%s decoding failed: %w", kind, err) }
}

// aclRead runs a read of something by its name.
func (c *call) aclRead(m rpc.MethodID, name string) error {
	req := c.request(m)
	if err := c.query(req, false); err != nil {
		return err
	}
	req.Filter = "" // these lists have none
	req.Query = store.Query{Name: name}
	return c.read(req, false)
}

// aclList is aclRead with a filter of its own.
func (c *call) aclList(m rpc.MethodID, names ...string) error {
	req := c.request(m)
	if err := c.query(req, false); err != nil {
		return err
	}
	req.Filter, req.Query = "", store.Query{}
	given := c.r.URL.Query()
	for _, n := range names {
		if v := given.Get(n); v != "" {
			if req.Query.NodeMeta == nil {
				req.Query.NodeMeta = make(map[string]string)
			}
			req.Query.NodeMeta[n] = v
		}
	}
	return c.read(req, false)
}

// aclWrite sends a change. It goes to this datacenter, whatever ?dc says: what
// belongs to all is passed on from here.
func (c *call) aclWrite(r *store.ACLRequest) error {
	c.p.dc = ""
	return c.apply(rpc.ACLApply, r.AppendWire(nil))
}

func (c *call) aclSet(op store.ACLOp, r store.ACLRecord) error {
	return c.aclWrite(&store.ACLRequest{ACLChange: store.SetACL(op, r)})
}

func (c *call) aclDelete(kind store.ACLKind, missing string) error {
	if c.rest == "" {
		return badRequest("%s", missing)
	}
	return c.aclWrite(&store.ACLRequest{ACLChange: store.DeleteACL(kind, c.rest)})
}

// sameID checks an id of the body against that of the path.
func sameID(what, inPath string, inBody *string) error {
	if *inBody != "" && !strings.EqualFold(*inBody, inPath) {
		return badRequest("%s in URL and payload do not match", what)
	}
	*inBody = inPath
	return nil
}

func (c *call) aclBootstrap() error {
	var b struct{ BootstrapSecret string }
	if c.r.ContentLength != 0 {
		if err := c.decodeACL(&b, "Request"); err != nil && !strings.HasSuffix(err.Error(), ": EOF") {
			return err
		}
	}
	c.p.dc = ""
	return c.apply(rpc.ACLBootstrap, []byte(b.BootstrapSecret))
}

// replicationDetail tells all about the copy of the primary's ACLs: ours, not the
// interface's.
func (c *call) replicationDetail() error { return c.plain(c.request(rpc.ACLReplicationDetail)) }

// replicationApprove makes the held deletions with ?id.
func (c *call) replicationApprove() error {
	req := c.request(rpc.ACLReplicationApprove)
	if req.Query.Name = c.r.URL.Query().Get("id"); req.Query.Name == "" {
		return badRequest("Must specify ?id with the ID of the held deletions")
	}
	return c.plain(req)
}

// keyReplication tells all about the copies of keys of other datacenters.
func (c *call) keyReplication() error { return c.plain(c.request(rpc.KVReplicationDetail)) }

// keyReplicationApprove makes the held deletions with ?id.
func (c *call) keyReplicationApprove() error {
	req := c.request(rpc.KVReplicationApprove)
	if req.Query.Name = c.r.URL.Query().Get("id"); req.Query.Name == "" {
		return badRequest("Must specify ?id with the ID of the held deletions")
	}
	return c.plain(req)
}

// replicationUndo brings back what was deleted, with ?since in the last such while.
func (c *call) replicationUndo() error {
	req := c.request(rpc.ACLReplicationUndo)
	req.Query.Name = c.r.URL.Query().Get("since")
	return c.plain(req)
}

func (c *call) aclReplication() error { return c.plain(c.request(rpc.ACLReplicationStatus)) }

func (c *call) aclLogin() error {
	var b struct {
		AuthMethod, BearerToken string
		Meta                    map[string]string
		tenancy
	}
	if err := c.decodeACL(&b, "Login"); err != nil {
		return err
	}
	if err := b.check("Login"); err != nil {
		return err
	}
	in := store.ACLLogin{Method: b.AuthMethod, Bearer: b.BearerToken, Meta: b.Meta}
	return c.apply(rpc.ACLLogin, in.AppendWire(nil))
}

func (c *call) aclLogout() error { return c.apply(rpc.ACLLogout, nil) }

func (c *call) aclAuthorize() error {
	buf, err := c.jsonBody()
	if err != nil {
		return err
	}
	defer putBuffer(buf)
	req := c.request(rpc.ACLAuthorize)
	req.Body = append([]byte(nil), buf.Bytes()...)
	return c.plain(req)
}

func (c *call) template(what, name string, body []byte) error {
	req := c.request(rpc.ACLTemplates)
	req.Query = store.Query{Name: name, Separator: what}
	req.Body = body
	return c.plain(req)
}

func (c *call) templateList() error { return c.template("list", "", nil) }
func (c *call) templateRead() error { return c.template("read", c.rest, nil) }

func (c *call) templatePreview() error {
	buf, err := c.jsonBody()
	if err != nil {
		return err
	}
	defer putBuffer(buf)
	return c.template("preview", c.rest, append([]byte(nil), buf.Bytes()...))
}

// span is a duration as users write it: a string with a unit, or nanoseconds.
type span time.Duration

func (s *span) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		var text string
		if err := json.Unmarshal(b, &text); err != nil || text == "" {
			return err
		}
		d, err := time.ParseDuration(text)
		*s = span(d)
		return err
	}
	return json.Unmarshal(b, (*int64)(s))
}

// tenancy are the fields of the peer's other edition: empty ones are accepted.
type tenancy struct{ Namespace, Partition string }

func (t *tenancy) check(kind string) error {
	switch {
	case t.Namespace != "":
		return badRequest("%s decoding failed: json: unknown field %q", kind, "Namespace")
	case t.Partition != "":
		return badRequest("%s decoding failed: json: unknown field %q", kind, "Partition")
	}
	return nil
}

// sentBack are fields that clients send back as they read them.
type sentBack struct {
	Hash                     json.RawMessage
	CreateIndex, ModifyIndex json.RawMessage
}
