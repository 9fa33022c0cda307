package endpoint

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
	"landbridge/store/acl"
	"landbridge/store/state"
)

// failoverTimeout bounds what one datacenter may take of an execution. A dead one
// usually costs less: the dispatcher tries its servers with time-outs of its own.
const failoverTimeout = 3 * time.Second

// queryFound is what an execution reads: the query, rendered, and the instances
// it is about.
type queryFound struct {
	query *store.PreparedQuery
	list  []store.ServiceInstance
	err   error
}

// queryExecute answers with the healthy instances that a query is for, of this
// datacenter or, if it has none, of the first one of the query's failover that
// has some.
func (s *Set) queryExecute(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	if err := wants(req, true); err != nil {
		return nil, err
	}
	var args store.QueryExecute
	if err := args.DecodeWire(req.Body); err != nil {
		return nil, store.Errorf(store.KindInvalid, "PreparedQuery.Execute: %w", err)
	}
	_, found, err := once(ctx, s, req, nil, func(st *state.Store, _ *state.Watch, rq *store.Query) (store.Index, queryFound) {
		q, err := resolve(st, rq.Name)
		if err != nil {
			return 1, queryFound{err: err}
		}
		return 1, queryFound{query: q, list: queryInstances(st, q, &args)}
	})
	if err == nil {
		err = found.err
	}
	if err != nil {
		return nil, err
	}
	q := found.query
	who, err := s.executor(ctx, req, q)
	if err != nil {
		return nil, err
	}
	list, hidden := seeQueried(who, q, &args, found.list)
	result := s.localResult(req, &args, q, list)
	if len(result.Nodes) == 0 {
		s.failover(ctx, req, &args, q, result)
	}
	return s.queryAnswer(req, result, hidden && !req.Bearer.Anonymous())
}

// executor is who executes a query: the bearer of the token that is stored with
// it, or else who asks.
func (s *Set) executor(ctx context.Context, req *rpc.Request, q *store.PreparedQuery) (*acl.Bearer, error) {
	if req.Bearer == nil || q.Token == "" {
		return req.Bearer, nil
	}
	return s.cfg.Tokens.Resolve(ctx, q.Token, nil, req.NoWait)
}

// seeQueried leaves out the instances that who executes a query may not read.
func seeQueried(who *acl.Bearer, q *store.PreparedQuery, args *store.QueryExecute, list []store.ServiceInstance) ([]store.ServiceInstance, bool) {
	switch {
	case who == nil:
		return list, false
	case (q.Service.Connect || args.Connect) && len(list) > 0 && !who.May(acl.Service, q.Service.Service, acl.Read):
		return nil, true
	}
	return seeInstances(who, nil, list)
}

// queryExecuteHere executes a query that another server resolved. The first
// datacenter may not be asked again by ours: there is no failover.
func (s *Set) queryExecuteHere(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	if err := wants(req, true); err != nil {
		return nil, err
	}
	var args store.QueryExecute
	if err := args.DecodeWire(req.Body); err != nil {
		return nil, store.Errorf(store.KindInvalid, "PreparedQuery.ExecuteHere: %w", err)
	}
	if args.Query == nil {
		return nil, store.Errorf(store.KindInvalid, "PreparedQuery.ExecuteHere: no query")
	}
	args.Query.Service.Failover = store.QueryFailover{}
	_, list, err := once(ctx, s, req, nil, func(st *state.Store, _ *state.Watch, _ *store.Query) (store.Index, []store.ServiceInstance) {
		return 1, queryInstances(st, args.Query, &args)
	})
	if err != nil {
		return nil, err
	}
	list, hidden := seeQueried(req.Bearer, args.Query, &args, list)
	return s.queryAnswer(req, s.localResult(req, &args, args.Query, list), hidden && !req.Bearer.Anonymous())
}

func queryInstances(st *state.Store, q *store.PreparedQuery, args *store.QueryExecute) []store.ServiceInstance {
	if q.Service.Peer != "" || q.Service.Failover.SkipLocalDatacenter {
		return nil // nothing is imported from peers; or only others are asked
	}
	read := st.ServiceInstances
	if q.Service.Connect || args.Connect {
		read = st.ConnectInstances
	}
	_, list := read(nil, q.Service.Service)
	return list
}

// localResult selects and orders this datacenter's instances.
func (s *Set) localResult(req *rpc.Request, args *store.QueryExecute, q *store.PreparedQuery, list []store.ServiceInstance) *store.QueryResult {
	result := &store.QueryResult{Service: q.Service.Service, TTL: q.TTL, Datacenter: s.cfg.Datacenter}
	svc := &q.Service
	list = keep(list, func(i store.ServiceInstance) bool {
		return healthyFor(svc, i.Checks) && matchesTags(i.Service.Tags, svc.Tags) &&
			hasMeta(i.Node, svc.NodeMeta) && hasPairs(i.Service.Meta, svc.ServiceMeta)
	}, true)
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	near := req.Query.Near
	if near == "" {
		near = svc.Near
	}
	switch near {
	case store.QueryNearAgent:
		near = args.Agent
	case store.QueryNearIP:
		result.BySource = args.Source != ""
		near = s.nodeAt(args.Source)
	}
	list = nearest(s.state, near, list, func(i store.ServiceInstance) string { return i.Node.Node })
	if args.Limit > 0 && len(list) > args.Limit {
		list = list[:args.Limit]
	}
	if s.translates(req) {
		list = mapped(list, translateInstance)
	}
	result.Nodes = list
	return result
}

// healthyFor is whether none of the checks that count rules an instance out.
func healthyFor(svc *store.QueryService, checks []*store.Check) bool {
	for _, c := range checks {
		switch {
		case c.Status == store.Passing, slices.Contains(svc.IgnoreCheckIDs, c.CheckID):
		case c.Status == store.Critical, svc.OnlyPassing:
			return false
		}
	}
	return true
}

// matchesTags compares without regard to case; a wanted tag that begins with !
// must be absent.
func matchesTags(have, want []string) bool {
	for i := range want {
		tag, absent := strings.CutPrefix(want[i], "!")
		if hasTags(have, []string{tag}) == absent {
			return false
		}
	}
	return true
}

func hasPairs(have, want map[string]string) bool {
	for k, v := range want {
		if h, ok := have[k]; !ok || h != v {
			return false
		}
	}
	return true
}

// nodeAt returns the name of the node with an IP address, or "".
func (s *Set) nodeAt(ip string) string {
	want, err := netip.ParseAddr(ip)
	if err != nil {
		return ""
	}
	_, found := s.state.ByAddress(ip)
	for _, ns := range found {
		if a, err := netip.ParseAddr(ns.Node.Address); err == nil && a.Unmap() == want.Unmap() {
			return ns.Node.Node
		}
	}
	return ""
}

// failover asks the query's other datacenters in turn, until one has instances.
// One that cannot be asked is logged and passed over; all of them together take
// no longer than the caller waits.
func (s *Set) failover(ctx context.Context, req *rpc.Request, args *store.QueryExecute, q *store.PreparedQuery, result *store.QueryResult) {
	if s.cfg.Remote == nil {
		return
	}
	targets := s.failoverTargets(&q.Service.Failover)
	if len(targets) == 0 {
		return
	}
	there := store.QueryExecute{Limit: args.Limit, Connect: args.Connect, Query: q.Clone()}
	// Nodes have coordinates in their own datacenter only, and a session and a
	// token are no business of theirs: the request carries the token.
	there.Query.Service.Near, there.Query.Session, there.Query.Token = "", "", ""
	there.Query.Service.Failover = store.QueryFailover{}
	token := q.Token
	if token == "" {
		token = req.Token
	}
	body := there.AppendWire(nil)
	for i, dc := range targets {
		if ctx.Err() != nil {
			return
		}
		call, cancel := context.WithTimeout(ctx, share(ctx, len(targets)-i))
		got, err := s.executeAt(call, &rpc.Request{
			Method: rpc.QueryExecuteHere, Datacenter: dc, Token: token,
			Consistency: req.Consistency, MaxStale: req.MaxStale, Representation: rpc.Records,
			TranslateWAN: req.TranslateWAN, SourceDC: req.SourceDC, Hops: req.Hops, Body: body,
		})
		cancel()
		if err == nil || store.KindOf(err) != store.KindNoPath {
			result.Failovers++
		}
		switch {
		case err != nil:
			s.metrics.failover.failed.Inc()
			s.passedOver(ctx, q, dc, err)
		case len(got.Nodes) == 0:
			s.metrics.failover.empty.Inc()
		default:
			s.metrics.failover.ok.Inc()
			result.Nodes, result.Datacenter, result.BySource = got.Nodes, dc, false
			return
		}
	}
}

// passedOver says that a datacenter could not be asked: as a warning once a
// second, since every execution meets it while it is away.
func (s *Set) passedOver(ctx context.Context, q *store.PreparedQuery, dc string, err error) {
	level := slog.LevelDebug
	now := time.Now().UnixNano()
	if last := s.warned.Load(); now-last >= int64(time.Second) && s.warned.CompareAndSwap(last, now) {
		level = slog.LevelWarn
	}
	s.cfg.Logger.Log(ctx, level, "prepared query passes over a datacenter", "query", q.ID, "peer_dc", dc, "err", err)
}

func (s *Set) executeAt(ctx context.Context, req *rpc.Request) (*store.QueryResult, error) {
	resp, err := s.cfg.Remote.Do(ctx, req)
	if err != nil {
		return nil, err
	}
	r := new(store.QueryResult)
	if err := r.DecodeWire(resp.Body); err != nil {
		return nil, store.Errorf(store.KindInternal, "answer of %s: %w", req.Datacenter, err)
	}
	return r, nil
}

// share is how long the next of left datacenters may take: with a deadline, an
// even part of the time, one part of which is kept for the answer.
func share(ctx context.Context, left int) time.Duration {
	d := failoverTimeout
	if at, ok := ctx.Deadline(); ok {
		d = min(d, time.Until(at)/time.Duration(left+1))
	}
	return d
}

// failoverTargets lists the datacenters to ask, in order, each once and without
// our own.
func (s *Set) failoverTargets(f *store.QueryFailover) []string {
	var list []string
	add := func(dc string) {
		if dc != "" && dc != s.cfg.Datacenter && !slices.Contains(list, dc) {
			list = append(list, dc)
		}
	}
	for _, t := range f.Targets {
		add(t.Datacenter) // a peering has none, and nothing is imported from it
	}
	if f.NearestN > 0 {
		for _, dc := range s.cfg.Datacenters() { // nearest first
			if len(list) == f.NearestN {
				break
			}
			add(dc)
		}
	}
	for _, dc := range f.Datacenters {
		add(dc)
	}
	return list
}

// queryAnswer encodes a result.
func (s *Set) queryAnswer(req *rpc.Request, r *store.QueryResult, filtered bool) (*rpc.Response, error) {
	resp := s.response(req, 1)
	resp.Filtered = filtered
	if req.Representation == rpc.Records {
		resp.Body = r.AppendWire(nil)
		return resp, nil
	}
	n := 512
	for i := range r.Nodes {
		n += 64 + len(r.Nodes[i].Node.JSON()) + len(r.Nodes[i].Service.JSON())
		for _, c := range r.Nodes[i].Checks {
			n += 1 + len(c.JSON())
		}
	}
	return resp, finish(req, resp, appendFreshness(r.AppendJSON(make([]byte, 0, n)), resp))
}
