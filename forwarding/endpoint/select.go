package endpoint

import (
	"strings"

	"landbridge/forwarding/endpoint/filter"
	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// selected returns the instances that a request asks for: tags, node metadata,
// health, filter, in this order, and sorts them by Query.Near. Lists of the state
// are shared, so a smaller or sorted one is a copy.
func (s *Set) selected(req *rpc.Request, list []store.ServiceInstance, match filter.Predicate[store.ServiceInstance]) []store.ServiceInstance {
	q := &req.Query
	if len(q.Tags) > 0 || len(q.NodeMeta) > 0 || q.PassingOnly || match != nil {
		list = keep(list, func(i store.ServiceInstance) bool {
			return hasTags(i.Service.Tags, q.Tags) && hasMeta(i.Node, q.NodeMeta) &&
				(!q.PassingOnly || passing(i.Checks)) && (match == nil || match(i))
		}, true)
	}
	list = nearest(s.state, q.Near, list, func(i store.ServiceInstance) string { return i.Node.Node })
	if s.translates(req) {
		list = mapped(list, translateInstance)
	}
	return list
}

// keep returns the elements that match, as a new slice; the given one unless some
// condition applies at all.
func keep[T any](list []T, match func(T) bool, applies bool) []T {
	if !applies {
		return list
	}
	var out []T
	for _, e := range list {
		if match(e) {
			out = append(out, e)
		}
	}
	return out
}

func mapped[T any](list []T, f func(T) T) []T {
	out := make([]T, len(list))
	for i, e := range list {
		out[i] = f(e)
	}
	return out
}

// hasTags compares without regard to case, as DNS names do.
func hasTags(have, want []string) bool {
	for _, w := range want {
		found := false
		for _, h := range have {
			if strings.EqualFold(h, w) {
				found = true
				break
			}
		}
		if !found {
			return false
		}
	}
	return true
}

func hasMeta(n *store.Node, want map[string]string) bool {
	for k, v := range want {
		if have, ok := n.Meta[k]; !ok || have != v {
			return false
		}
	}
	return true
}

// passing is whether all checks, the node's and the instance's, are passing.
func passing(checks []*store.Check) bool {
	for _, c := range checks {
		if c.Status != store.Passing {
			return false
		}
	}
	return true
}

// translates is whether the reader sits in another datacenter and wants
// addresses that reach it from there (translate_wan_addrs).
func (s *Set) translates(req *rpc.Request) bool {
	return req.TranslateWAN && req.SourceDC != "" && req.SourceDC != s.cfg.Datacenter
}

func translateInstance(i store.ServiceInstance) store.ServiceInstance {
	return store.ServiceInstance{Node: translateNode(i.Node), Service: translateService(i.Service), Checks: i.Checks}
}

func translateNode(n *store.Node) *store.Node {
	wan := n.TaggedAddresses["wan"]
	if wan == "" || wan == n.Address {
		return n
	}
	n = n.Clone()
	n.Address = wan
	return n
}

func translateService(svc *store.Service) *store.Service {
	wan, ok := svc.TaggedAddresses["wan"]
	if !ok || wan.Address == "" {
		return svc
	}
	svc = svc.Clone()
	svc.Address = wan.Address
	if wan.Port != 0 {
		svc.Port = wan.Port
	}
	return svc
}
