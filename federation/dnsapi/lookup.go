package dnsapi

import (
	"context"
	"slices"
	"strings"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

var errNoName = &store.Error{Kind: store.KindNotFound, Message: "no such name"}

// do runs a read with the front end's token and staleness.
func (s *Server) do(ctx context.Context, set *Settings, req *rpc.Request) (*rpc.Response, error) {
	s.complete(set, req, s.token())
	return s.cfg.Do.Do(ctx, req)
}

func (s *Server) token() string {
	if s.cfg.Token == nil {
		return ""
	}
	return s.cfg.Token()
}

func (s *Server) complete(set *Settings, req *rpc.Request, token string) {
	req.Representation = rpc.Records
	req.SourceDC = s.cfg.Datacenter
	req.Token = token
	if ok, most := set.staleness(); ok {
		req.Consistency, req.MaxStale = store.Stale, most
	}
}

// appendKey appends what tells a question about a node or service from others.
func (q *question) appendKey(b []byte) []byte {
	b = append(b, byte(q.kind), byte(len(q.name)), byte(len(q.tag)))
	b = append(b, q.name...)
	b = append(b, q.tag...)
	return append(b, q.dc...)
}

// lookup finds what the name of a node or service leads to. With noWait it returns
// rpc.ErrWouldWait where the backend has no answer at hand. key is appendKey's.
func (s *Server) lookup(ctx context.Context, set *Settings, q *question, key []byte, noWait bool) (*found, error) {
	token := s.token()
	e := s.cache.get(key, set, token)
	var req *rpc.Request
	if e != nil {
		req = e.req
	} else {
		req = s.request(set, q, token)
	}
	if !noWait {
		waits := *req
		waits.NoWait = false
		req = &waits
	}
	resp, err := s.cfg.Do.Do(ctx, req)
	switch {
	case err != nil:
		return nil, err
	case resp.NotFound, len(resp.Body) == 0:
		return nil, errNoName
	case e != nil && same(e.body, resp.Body):
		if &e.body[0] != &resp.Body[0] { // the next one compares addresses again
			s.cache.put(&entry{key: e.key, set: set, token: token, req: e.req, body: resp.Body, found: e.found})
		}
	default:
		next := &entry{key: string(key), set: set, token: token, body: resp.Body}
		if next.found, err = s.decode(set, q, resp.Body); err != nil {
			return nil, err
		}
		atHand := *req
		atHand.NoWait = true
		next.req = &atHand
		s.cache.put(next)
		e = next
	}
	if e.found == nil {
		return nil, errNoName
	}
	if ttl := keptTTL(resp, e.found.ttl); ttl != e.found.ttl {
		brief := *e.found
		brief.ttl = ttl
		return &brief, nil
	}
	return e.found, nil
}

// keptMost is the longest TTL of records that are kept from before their
// datacenter went away: who asked is to come again soon.
const keptMost = 10

func keptTTL(resp *rpc.Response, ttl uint32) uint32 {
	if resp.Kept {
		return min(ttl, keptMost)
	}
	return ttl
}

// request asks the backend for a node, or for all instances of a service: which of
// them are shown is decided here, so that questions about several tags share one
// list. Only other datacenters choose by tag themselves, for the sake of the way.
func (s *Server) request(set *Settings, q *question, token string) *rpc.Request {
	req := &rpc.Request{Datacenter: string(q.dc), Query: store.Query{Name: string(q.name)}, NoWait: true}
	switch q.kind {
	case kindNode:
		req.Method = rpc.CatalogNode
	case kindConnect:
		req.Method = rpc.HealthConnect
	default:
		req.Method = rpc.HealthService
	}
	if len(q.tag) > 0 && len(q.dc) > 0 && req.Datacenter != s.cfg.Datacenter {
		req.Query.Tags = []string{string(q.tag)}
	}
	s.complete(set, req, token)
	return req
}

// decode makes found of a body, nil if nothing in it may be shown.
func (s *Server) decode(set *Settings, q *question, body []byte) (*found, error) {
	if q.kind == kindNode {
		n := new(store.Node)
		if err := n.DecodeWire(body); err != nil {
			return nil, err
		}
		f := s.finder(set, string(q.dc), seconds(set.NodeTTL))
		return f.node(n), nil
	}
	list, err := store.DecodeInstances(body)
	if err != nil {
		return nil, err
	}
	tag := string(q.tag)
	list = slices.DeleteFunc(list, func(i store.ServiceInstance) bool {
		return !visible(set, i.Checks) || tag != "" && !hasTag(i.Service.Tags, tag)
	})
	if len(list) == 0 {
		return nil, nil
	}
	f := s.finder(set, string(q.dc), set.serviceTTL(string(q.name)))
	return f.instances(list), nil
}

func hasTag(tags []string, tag string) bool {
	return slices.ContainsFunc(tags, func(t string) bool { return strings.EqualFold(t, tag) })
}
