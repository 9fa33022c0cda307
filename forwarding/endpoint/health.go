package endpoint

import (
	"context"

	"landbridge/forwarding/rpc"
	"landbridge/store"
	"landbridge/store/state"
)

func (s *Set) healthService(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	return s.healthInstances(ctx, req, readHealth, seeInstances)
}

func (s *Set) healthConnect(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	return s.healthInstances(ctx, req, readConnect, seeConnect)
}

func readHealth(st *state.Store, w *state.Watch, q *store.Query) (store.Index, []store.ServiceInstance) {
	return st.ServiceInstances(w, q.Name)
}

func readConnect(st *state.Store, w *state.Watch, q *store.Query) (store.Index, []store.ServiceInstance) {
	return st.ConnectInstances(w, q.Name)
}

func (s *Set) healthInstances(ctx context.Context, req *rpc.Request, read reader[[]store.ServiceInstance], see seer[[]store.ServiceInstance]) (*rpc.Response, error) {
	if err := wants(req, true); err != nil {
		return nil, err
	}
	if req.Filter == "" {
		return serve(ctx, s, req, read, see, renderInstances)
	}
	match, err := s.filters.instances.of(req)
	if err != nil {
		return nil, err
	}
	return serve(ctx, s, req, read, see, func(s *Set, req *rpc.Request, list []store.ServiceInstance, resp *rpc.Response) error {
		return instances(req, s.selected(req, list, match), resp)
	})
}

func renderInstances(s *Set, req *rpc.Request, list []store.ServiceInstance, resp *rpc.Response) error {
	q := &req.Query
	if req.Representation == rpc.Pretty || len(q.Tags) > 0 || len(q.NodeMeta) > 0 || q.Near != "" || s.translates(req) || resp.Hidden {
		return instances(req, s.selected(req, list, nil), resp)
	}
	v := variant{req.Method, req.Representation, q.PassingOnly}
	resp.Body = s.bodies.cached(q.Name, list, v, func(list []store.ServiceInstance) []byte {
		list = s.selected(req, list, nil)
		if v.form == rpc.Records {
			return store.AppendInstances(nil, list)
		}
		return instancesBody(list)
	})
	return nil
}

// instances encodes a health answer that nobody else is likely to ask for.
func instances(req *rpc.Request, list []store.ServiceInstance, resp *rpc.Response) error {
	if req.Representation == rpc.Records {
		resp.Body = store.AppendInstances(nil, list)
		return nil
	}
	return finish(req, resp, instancesBody(list))
}

// instancesBody joins the fragments of rows.
func instancesBody(list []store.ServiceInstance) []byte {
	const around = len(`{"Node":,"Service":,"Checks":[]},`)
	n := 2
	for i := range list {
		n += around + len(list[i].Node.JSON()) + len(list[i].Service.JSON()) + len(list[i].Checks)
		for _, c := range list[i].Checks {
			n += len(c.JSON())
		}
	}
	b := append(make([]byte, 0, n), '[')
	for i := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = list[i].AppendJSON(b)
	}
	return append(b, ']')
}

func (s *Set) healthNode(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	return s.checks(ctx, req, func(st *state.Store, w *state.Watch, q *store.Query) (store.Index, []*store.Check) {
		return st.NodeChecks(w, q.Name)
	})
}

func (s *Set) healthChecks(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	return s.checks(ctx, req, func(st *state.Store, w *state.Watch, q *store.Query) (store.Index, []*store.Check) {
		return st.ServiceChecks(w, q.Name)
	})
}

func (s *Set) healthState(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	return s.checks(ctx, req, func(st *state.Store, w *state.Watch, q *store.Query) (store.Index, []*store.Check) {
		return st.ChecksInState(w, q.Name)
	})
}

func (s *Set) checks(ctx context.Context, req *rpc.Request, read reader[[]*store.Check]) (*rpc.Response, error) {
	if err := wants(req, true); err != nil {
		return nil, err
	}
	match, err := s.filters.checks.of(req)
	if err != nil {
		return nil, err
	}
	return serve(ctx, s, req, read, seeChecks, func(s *Set, req *rpc.Request, list []*store.Check, resp *rpc.Response) error {
		if meta := req.Query.NodeMeta; len(meta) > 0 {
			on := make(map[string]bool) // whether a node has the metadata
			list = keep(list, func(c *store.Check) bool {
				has, seen := on[c.Node]
				if !seen {
					_, n := s.state.Node(nil, c.Node)
					has = n != nil && hasMeta(n, meta)
					on[c.Node] = has
				}
				return has
			}, true)
		}
		list = keep(list, match, match != nil)
		list = nearest(s.state, req.Query.Near, list, func(c *store.Check) string { return c.Node })
		if req.Representation == rpc.Records {
			resp.Body = store.AppendChecks(nil, list)
			return nil
		}
		return finish(req, resp, rowsBody(list))
	})
}
