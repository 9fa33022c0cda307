package rpc

import "landbridge/store"

// admit is the one place that decides whether a request that arrived on a
// session may run at all; what its token may do is decided where it runs.
func admit(req *Request) (*Method, error) {
	m := Lookup(req.Method)
	switch {
	case m == nil:
		return nil, store.Errorf(store.KindInvalid, "method number %d does not exist on this server: the caller is newer", req.Method)
	case req.Hops > MaxHops:
		return m, store.Errorf(store.KindInternal, "%s was passed on %d times, at most %d are allowed: agents disagree about where it runs", m.Name, req.Hops, MaxHops)
	case m.LocalOnly && req.Origin == FromWAN:
		return m, store.Errorf(store.KindPermissionDenied, "%s is answered only within its datacenter, it came from %s of another one", m.Name, req.Peer)
	case m.Resource == ServerResource && req.Origin != FromHere && req.Peer == "":
		return m, store.Errorf(store.KindPermissionDenied, "%s is answered only to authenticated servers", m.Name)
	}
	return m, nil
}
