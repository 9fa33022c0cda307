package endpoint

import (
	"context"
	"strconv"
	"strings"

	"landbridge/forwarding/rpc"
	"landbridge/store"
	"landbridge/store/state"
)

var errNoQuery = &store.Error{Kind: store.KindNotFound, Message: "Query not found"}

// queryApply checks a definition and proposes it. What depends on other records,
// names and sessions, the state machine decides, so that it holds inside a batch.
func (s *Set) queryApply(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	var cmd store.QueryCommand
	if err := cmd.DecodeWire(req.Body); err != nil {
		return nil, store.Errorf(store.KindInvalid, "PreparedQuery.Apply: %w", err)
	}
	switch cmd.Op {
	case store.QueryCreate:
		cmd.Query.ID = newUUID()
	case store.QueryDelete:
		if err := store.CheckQueryID(cmd.Query.ID); err != nil {
			return nil, err
		}
	}
	if err := cmd.Prepare(); err != nil {
		return nil, err
	}
	resp, err := s.write(ctx, store.CmdQuery, cmd.AppendWire(nil))
	if err != nil {
		return nil, err
	}
	resp.Body = nil
	if cmd.Op == store.QueryCreate {
		resp.Body = append(store.AppendJSONString([]byte(`{"ID":`), cmd.Query.ID), '}')
	}
	return resp, nil
}

func (s *Set) queryGet(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	if err := wants(req, true); err != nil {
		return nil, err
	}
	if err := store.CheckQueryID(req.Query.Name); err != nil {
		return nil, err
	}
	return serve(ctx, s, req, func(st *state.Store, w *state.Watch, q *store.Query) (store.Index, *store.PreparedQuery) {
		return st.Query(w, q.Name)
	}, seeQuery, func(_ *Set, req *rpc.Request, q *store.PreparedQuery, resp *rpc.Response) error {
		switch {
		case q == nil && resp.Hidden:
			return store.ErrDenied
		case q == nil:
			return errNoQuery
		}
		return renderQueries(nil, req, []*store.PreparedQuery{q}, resp)
	})
}

func (s *Set) queryList(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	if err := wants(req, true); err != nil {
		return nil, err
	}
	return serve(ctx, s, req, func(st *state.Store, w *state.Watch, _ *store.Query) (store.Index, []*store.PreparedQuery) {
		return st.Queries(w)
	}, seeQueries, renderQueries)
}

func renderQueries(_ *Set, req *rpc.Request, list []*store.PreparedQuery, resp *rpc.Response) error {
	if req.Representation == rpc.Records {
		resp.Body = store.AppendQueries(nil, list)
		return nil
	}
	return finish(req, resp, rowsBody(list))
}

// resolve finds the query for an id or a name, a template already rendered.
func resolve(st *state.Store, name string) (*store.PreparedQuery, error) {
	q := st.ResolveQuery(name)
	if q == nil {
		return nil, errNoQuery
	}
	if !q.IsTemplate() {
		return q, nil
	}
	if strings.EqualFold(q.ID, name) {
		return nil, store.Errorf(store.KindInvalid, "the prepared query '%s' is a template: it can only be resolved by name, not by ID", q.ID)
	}
	return q.Render(name)
}

// queryExplain answers with the query as an execution would see it.
func (s *Set) queryExplain(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	if err := wants(req, false); err != nil {
		return nil, err
	}
	var failed error
	_, q, err := once(ctx, s, req, nil, func(st *state.Store, _ *state.Watch, rq *store.Query) (store.Index, *store.PreparedQuery) {
		var q *store.PreparedQuery
		q, failed = resolve(st, rq.Name)
		return 1, q
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return nil, err
	}
	resp := s.response(req, 1)
	b := append([]byte(`{"Query":`), withoutToken(req.Bearer, q).JSON()...)
	return resp, finish(req, resp, appendFreshness(b, resp))
}

// appendFreshness ends an object with how fresh it is: executions and
// explanations say in their bodies what other reads say in headers.
func appendFreshness(b []byte, resp *rpc.Response) []byte {
	b = append(b, `,"Index":`...)
	b = strconv.AppendUint(b, uint64(resp.Index), 10)
	b = append(b, `,"LastContact":`...)
	b = strconv.AppendInt(b, int64(resp.LastContact), 10)
	b = append(b, `,"KnownLeader":`...)
	b = strconv.AppendBool(b, resp.KnownLeader)
	b = append(b, `,"ConsistencyLevel":"`...)
	b = append(b, resp.Effective.String()...)
	b = append(b, `","NotModified":false,"Backend":0,"ResultsFilteredByACLs":`...)
	return append(strconv.AppendBool(b, resp.Filtered), '}')
}
