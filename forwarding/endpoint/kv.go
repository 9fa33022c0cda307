package endpoint

import (
	"context"

	"landbridge/forwarding/rpc"
	"landbridge/store"
	"landbridge/store/state"
)

func (s *Set) kvGet(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	return serve(ctx, s, req, readKey, checked, renderKey)
}

func readKey(st *state.Store, w *state.Watch, q *store.Query) (store.Index, *store.KVEntry) {
	return st.KVGet(w, q.Name)
}

func renderKey(_ *Set, req *rpc.Request, e *store.KVEntry, resp *rpc.Response) error {
	if e == nil {
		resp.NotFound = true
		return nil
	}
	switch req.Representation {
	case rpc.Raw:
		resp.Body = e.Value
		return nil
	case rpc.Records:
		resp.Body = store.AppendKVEntries(nil, []*store.KVEntry{e})
		return nil
	}
	row := e.JSON()
	body := make([]byte, 0, len(row)+2)
	body = append(append(append(body, '['), row...), ']')
	return finish(req, resp, body)
}

func (s *Set) kvList(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	if err := wants(req, true); err != nil {
		return nil, err
	}
	return serve(ctx, s, req, func(st *state.Store, w *state.Watch, q *store.Query) (store.Index, []*store.KVEntry) {
		return st.KVList(w, q.Name)
	}, seeKeys, renderKeyList)
}

func renderKeyList(_ *Set, req *rpc.Request, list []*store.KVEntry, resp *rpc.Response) error {
	if len(list) == 0 {
		resp.NotFound = true
		return nil
	}
	if req.Representation == rpc.Records {
		resp.Body = store.AppendKVEntries(nil, list)
		return nil
	}
	return finish(req, resp, rowsBody(list))
}

func (s *Set) kvKeys(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	if err := wants(req, false); err != nil {
		return nil, err
	}
	return serve(ctx, s, req, func(st *state.Store, w *state.Watch, q *store.Query) (store.Index, []string) {
		return st.KVKeys(w, q.Name, q.Separator)
	}, seeKeyNames, func(_ *Set, req *rpc.Request, keys []string, resp *rpc.Response) error {
		if len(keys) == 0 && !resp.Hidden { // nothing there is 404, nothing to see is a list
			resp.NotFound = true
			return nil
		}
		n := 2
		for _, k := range keys {
			n += len(k) + 3
		}
		return finish(req, resp, store.AppendJSONStrings(make([]byte, 0, n), keys))
	})
}

// kvApply passes the command on as it came: a malformed one is refused by the
// state machine, on every server alike.
func (s *Set) kvApply(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	resp, err := s.write(ctx, store.CmdKV, req.Body)
	if e, ok := err.(*store.Error); ok && e.Kind == store.KindInvalid {
		return nil, store.Errorf(e.Kind, "raft apply failed: %w", e) // the words clients know
	}
	return resp, err
}
