package endpoint

import (
	"context"

	"landbridge/forwarding/rpc"
	"landbridge/store"
	"landbridge/store/state"
)

func (s *Set) coordinateNodes(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	if err := wants(req, true); err != nil {
		return nil, err
	}
	return serve(ctx, s, req, func(st *state.Store, w *state.Watch, _ *store.Query) (store.Index, []*store.Coordinate) {
		return st.Coordinates(w)
	}, seeCoordinates, renderCoordinates)
}

func (s *Set) coordinateNode(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	if err := wants(req, true); err != nil {
		return nil, err
	}
	return serve(ctx, s, req, func(st *state.Store, w *state.Watch, q *store.Query) (store.Index, []*store.Coordinate) {
		idx, c := st.Coordinate(w, q.Name)
		if c == nil {
			return idx, nil
		}
		return idx, []*store.Coordinate{c}
	}, seeCoordinates, func(s *Set, req *rpc.Request, list []*store.Coordinate, resp *rpc.Response) error {
		if len(list) == 0 {
			resp.NotFound = true
			return nil
		}
		return renderCoordinates(s, req, list, resp)
	})
}

func renderCoordinates(_ *Set, req *rpc.Request, list []*store.Coordinate, resp *rpc.Response) error {
	if req.Representation == rpc.Records {
		resp.Body = store.AppendCoordinates(nil, list)
		return nil
	}
	return finish(req, resp, store.AppendCoordinatesJSON(nil, list))
}

// coordinateDatacenters answers from this server's own view of the WAN.
func (s *Set) coordinateDatacenters(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
	if err := wants(req, false); err != nil {
		return nil, err
	}
	var list []store.DatacenterCoordinates
	if s.cfg.WANCoordinates != nil {
		list = s.cfg.WANCoordinates()
	}
	b := []byte{'['}
	for i := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = list[i].AppendJSON(b)
	}
	resp := s.known()
	return resp, finish(req, resp, append(b, ']'))
}
