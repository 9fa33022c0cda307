package endpoint

import (
	"context"
	"slices"
	"sort"
	"strings"

	"landbridge/forwarding/rpc"
	"landbridge/store"
	"landbridge/store/state"
)

func (s *Set) register(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	var cmd store.RegisterCommand
	if err := cmd.DecodeWire(req.Body); err != nil {
		return nil, store.Errorf(store.KindInvalid, "Catalog.Register: %w", err)
	}
	payload, err := s.prepareRegister(&cmd, len(req.Body))
	if err != nil {
		return nil, err
	}
	return s.write(ctx, store.CmdRegister, payload)
}

// prepareRegister checks and completes the command before it is proposed, so that
// what every server would refuse costs the log nothing.
func (s *Set) prepareRegister(cmd *store.RegisterCommand, size int) ([]byte, error) {
	if err := cmd.Prepare(); err != nil {
		return nil, err
	}
	cmd.Node.Datacenter = s.cfg.Datacenter
	return cmd.AppendWire(make([]byte, 0, size+64)), nil
}

func (s *Set) deregister(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	var cmd store.DeregisterCommand
	if err := cmd.DecodeWire(req.Body); err != nil {
		return nil, store.Errorf(store.KindInvalid, "Catalog.Deregister: %w", err)
	}
	if cmd.Node == "" {
		return nil, errNoNode
	}
	return s.write(ctx, store.CmdDeregister, req.Body)
}

var errNoNode = store.Errorf(store.KindInvalid, "Must provide node")

func (s *Set) datacenters(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
	if err := wants(req, false); err != nil {
		return nil, err
	}
	resp := s.known()
	return resp, finish(req, resp, store.AppendJSONStrings(nil, s.cfg.Datacenters()))
}

func (s *Set) nodes(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	if err := wants(req, true); err != nil {
		return nil, err
	}
	match, err := s.filters.nodes.of(req)
	if err != nil {
		return nil, err
	}
	return serve(ctx, s, req, func(st *state.Store, w *state.Watch, _ *store.Query) (store.Index, []*store.Node) {
		return st.Nodes(w)
	}, seeNodes, func(s *Set, req *rpc.Request, list []*store.Node, resp *rpc.Response) error {
		list = keep(list, func(n *store.Node) bool {
			return hasMeta(n, req.Query.NodeMeta) && (match == nil || match(n))
		}, len(req.Query.NodeMeta) > 0 || match != nil)
		list = nearest(s.state, req.Query.Near, list, func(n *store.Node) string { return n.Node })
		if s.translates(req) {
			list = mapped(list, translateNode)
		}
		if req.Representation == rpc.Records {
			resp.Body = store.AppendNodes(nil, list)
			return nil
		}
		return finish(req, resp, rowsBody(list))
	})
}

// services answers with all names and their tags. With a filter or node metadata
// they are gathered from the instances that match.
func (s *Set) services(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	if err := wants(req, false); err != nil {
		return nil, err
	}
	match, err := s.filters.catalog.of(req)
	if err != nil {
		return nil, err
	}
	if match == nil && len(req.Query.NodeMeta) == 0 {
		return serve(ctx, s, req, func(st *state.Store, w *state.Watch, _ *store.Query) (store.Index, []state.ServiceName) {
			return st.Services(w)
		}, seeNames, func(_ *Set, req *rpc.Request, names []state.ServiceName, resp *rpc.Response) error {
			return finish(req, resp, servicesBody(names))
		})
	}
	return serve(ctx, s, req, func(st *state.Store, w *state.Watch, _ *store.Query) (store.Index, []store.ServiceInstance) {
		return st.AllInstances(w)
	}, seeInstances, func(_ *Set, req *rpc.Request, list []store.ServiceInstance, resp *rpc.Response) error {
		return finish(req, resp, servicesBody(gather(list, func(i store.ServiceInstance) bool {
			return hasMeta(i.Node, req.Query.NodeMeta) && (match == nil || match(i))
		})))
	})
}

// gather lists the names of instances that match, with the tags of these.
func gather(list []store.ServiceInstance, match func(store.ServiceInstance) bool) []state.ServiceName {
	at := make(map[string]int)
	var names []state.ServiceName
	for _, i := range list {
		if !match(i) {
			continue
		}
		key := strings.ToLower(i.Service.Name)
		n, ok := at[key]
		if !ok {
			n = len(names)
			at[key] = n
			names = append(names, state.ServiceName{Name: i.Service.Name})
		}
		for _, t := range i.Service.Tags {
			if !slices.Contains(names[n].Tags, t) {
				names[n].Tags = append(names[n].Tags, t)
			}
		}
	}
	sort.Slice(names, func(i, j int) bool { return names[i].Name < names[j].Name })
	return names
}

func servicesBody(names []state.ServiceName) []byte {
	b := make([]byte, 0, 2+32*len(names))
	b = append(b, '{')
	for i, n := range names {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(store.AppendJSONString(b, n.Name), ':')
		b = store.AppendJSONStrings(b, n.Tags)
	}
	return append(b, '}')
}

func (s *Set) serviceNodes(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	return s.catalogInstances(ctx, req, func(st *state.Store, w *state.Watch, q *store.Query) (store.Index, []store.ServiceInstance) {
		return st.ServiceNodes(w, q.Name)
	}, seeInstances)
}

func (s *Set) connectNodes(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	return s.catalogInstances(ctx, req, readConnect, seeConnect)
}

func (s *Set) catalogInstances(ctx context.Context, req *rpc.Request, read reader[[]store.ServiceInstance], see seer[[]store.ServiceInstance]) (*rpc.Response, error) {
	if err := wants(req, true); err != nil {
		return nil, err
	}
	match, err := s.filters.catalog.of(req)
	if err != nil {
		return nil, err
	}
	return serve(ctx, s, req, read, see, func(s *Set, req *rpc.Request, list []store.ServiceInstance, resp *rpc.Response) error {
		list = s.selected(req, list, match)
		if req.Representation == rpc.Records {
			resp.Body = store.AppendInstances(nil, list)
			return nil
		}
		b := make([]byte, 0, 2+1024*len(list))
		b = append(b, '[')
		for i := range list {
			if i > 0 {
				b = append(b, ',')
			}
			b = store.AppendCatalogService(b, list[i].Node, list[i].Service)
		}
		return finish(req, resp, append(b, ']'))
	})
}

// nodeAnswer is a node, nil if there is none, with its services.
type nodeAnswer struct {
	node     *store.Node
	services []*store.Service
}

func readNode(st *state.Store, w *state.Watch, q *store.Query) (store.Index, nodeAnswer) {
	idx, n, list := st.NodeServices(w, q.Name)
	return idx, nodeAnswer{n, list}
}

func (s *Set) nodeServices(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	return s.nodeOnly(ctx, req, "null", func(b []byte, list []*store.Service) []byte {
		b = append(b, '{')
		for i, svc := range list {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(store.AppendJSONString(b, svc.ID), ':')
			b = append(b, svc.JSON()...)
		}
		return append(b, '}')
	})
}

func (s *Set) nodeServiceList(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	return s.nodeOnly(ctx, req, `{"Node":null,"Services":null}`, store.AppendJSONList[*store.Service])
}

// nodeOnly answers with a node and its services in the form that join gives them.
func (s *Set) nodeOnly(ctx context.Context, req *rpc.Request, none string, join func([]byte, []*store.Service) []byte) (*rpc.Response, error) {
	if err := wants(req, true); err != nil {
		return nil, err
	}
	match, err := s.filters.services.of(req)
	if err != nil {
		return nil, err
	}
	return serve(ctx, s, req, readNode, seeNode, func(s *Set, req *rpc.Request, a nodeAnswer, resp *rpc.Response) error {
		if a.node == nil {
			if req.Representation == rpc.Records {
				resp.Body = store.AppendNodeServices(nil, nil)
				return nil
			}
			return finish(req, resp, []byte(none))
		}
		a.services = keep(a.services, match, match != nil)
		if s.translates(req) {
			a.node = translateNode(a.node)
			a.services = mapped(a.services, translateService)
		}
		if req.Representation == rpc.Records {
			resp.Body = store.AppendNodeServices(nil, []store.NodeServices{{Node: a.node, Services: a.services}})
			return nil
		}
		b := append([]byte(`{"Node":`), a.node.JSON()...)
		b = append(b, `,"Services":`...)
		return finish(req, resp, append(join(b, a.services), '}'))
	})
}

// node answers with a node alone, found by its name: what names in DNS ask for.
// The body is the row's own, the same for all until the node changes.
func (s *Set) node(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	if req.Representation != rpc.Records {
		return nil, store.Errorf(store.KindInvalid, "Catalog.Node answers with records only")
	}
	return serve(ctx, s, req, func(st *state.Store, w *state.Watch, q *store.Query) (store.Index, *store.Node) {
		return st.Node(w, q.Name)
	}, seeOneNode, func(_ *Set, req *rpc.Request, n *store.Node, resp *rpc.Response) error {
		if n == nil || !strings.EqualFold(n.Node, req.Query.Name) { // the state also finds nodes by id
			resp.NotFound = true
			return nil
		}
		resp.Body = n.Wire()
		return nil
	})
}

// byAddress has records only: it is for reverse look-ups of names.
func (s *Set) byAddress(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	if req.Representation != rpc.Records {
		return nil, store.Errorf(store.KindInvalid, "Catalog.ByAddress answers with records only")
	}
	return serve(ctx, s, req, func(st *state.Store, _ *state.Watch, q *store.Query) (store.Index, []store.NodeServices) {
		return st.ByAddress(q.Name)
	}, seeNodeServices, func(_ *Set, _ *rpc.Request, list []store.NodeServices, resp *rpc.Response) error {
		resp.Body = store.AppendNodeServices(nil, list)
		return nil
	})
}
