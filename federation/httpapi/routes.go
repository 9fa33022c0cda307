package httpapi

import (
	"net/http"
	"strings"

	measure "landbridge/metrics"
)

// handler answers a request, or returns the error to answer with: nothing may
// have been written then.
type handler func(*call) error

// route is one method of an endpoint.
type route struct {
	method string
	serve  handler
}

// scope says which of the parameters that this interface does not have are
// refused rather than ignored.
type scope uint8

const (
	noNamespace scope = 1 << iota
	noPartition
	noTenancy = noNamespace | noPartition
)

// entry is a path with its methods. A path that ends in a slash stands for
// all paths below it; what follows the slash is call.rest.
type entry struct {
	path   string
	family family
	scope  scope
	stream bool // lasts as long as the client likes
	cached bool // answered from the agent's cache, with or without ?cached
	// guard is set for what this agent answers by itself; what it passes on is
	// guarded where it is answered.
	guard  guard
	routes []route
	// seconds are how long each of routes took.
	seconds []*measure.Timing
	allow   []string // header value: OPTIONS and the methods, in their order
}

// handler returns what answers a method, and where to count how long it took.
func (ep *entry) handler(method string) (handler, *measure.Timing) {
	for i := range ep.routes {
		if ep.routes[i].method == method {
			return ep.routes[i].serve, ep.seconds[i]
		}
	}
	return nil, nil
}

// label is the path as metrics name it: what stands for any text is left out.
func (ep *entry) label() string {
	l := strings.ReplaceAll(strings.TrimPrefix(ep.path, "/"), "/", "_")
	if strings.HasSuffix(ep.path, "/") {
		l += "_"
	}
	return l
}

// table finds endpoints by path.
type table struct {
	kv, healthService *entry
	exact             map[string]*entry
	prefixes          map[string]*entry
}

// all calls f for each endpoint.
func (t *table) all(f func(*entry)) {
	for _, m := range []map[string]*entry{t.exact, t.prefixes} {
		for _, ep := range m {
			f(ep)
		}
	}
}

func newTable() *table {
	t := &table{exact: make(map[string]*entry), prefixes: make(map[string]*entry)}
	for _, list := range [][]entry{built(), aclEntries(), later()} {
		for i := range list {
			ep := &list[i]
			names := []string{"OPTIONS"}
			for _, r := range ep.routes {
				names = append(names, r.method)
				ep.seconds = append(ep.seconds, new(measure.Timing))
			}
			ep.allow = []string{strings.Join(names, ",")}
			if strings.HasSuffix(ep.path, "/") {
				t.prefixes[ep.path] = ep
			} else {
				t.exact[ep.path] = ep
			}
		}
	}
	t.kv, t.healthService = t.prefixes[pathKV], t.prefixes[pathHealthService]
	return t
}

const (
	pathKV            = "/v1/kv/"
	pathHealthService = "/v1/health/service/"
)

// find returns the endpoint of a path, still escaped, and where its rest begins;
// nil if there is none.
func (t *table) find(path string) (*entry, int) {
	switch {
	case strings.HasPrefix(path, pathKV):
		return t.kv, len(pathKV)
	case strings.HasPrefix(path, pathHealthService):
		return t.healthService, len(pathHealthService)
	}
	if ep := t.exact[path]; ep != nil {
		return ep, len(path)
	}
	for n := strings.LastIndexByte(path, '/') + 1; n > 1; n = strings.LastIndexByte(path[:n-1], '/') + 1 {
		if ep := t.prefixes[path[:n]]; ep != nil {
			return ep, n
		}
	}
	return nil, 0
}

func get(h handler) []route { return []route{{http.MethodGet, h}} }
func put(h handler) []route { return []route{{http.MethodPut, h}} }

// built lists what this front end answers. The order of methods is that of the
// Allow header.
func built() []entry {
	return []entry{
		{path: pathKV, family: famKV, scope: noTenancy, routes: []route{
			{http.MethodGet, (*call).kvGet}, {http.MethodPut, (*call).kvPut}, {http.MethodDelete, (*call).kvDelete}}},

		{path: "/v1/txn", family: famTxn, scope: noTenancy, routes: put((*call).txn)},

		{path: "/v1/catalog/register", family: famCatalog, routes: put((*call).catalogRegister)},
		{path: "/v1/catalog/deregister", family: famCatalog, routes: put((*call).catalogDeregister)},
		{path: "/v1/catalog/datacenters", family: famCatalog, routes: get((*call).catalogDatacenters)},
		{path: "/v1/catalog/nodes", family: famCatalog, scope: noPartition, routes: get((*call).catalogNodes)},
		{path: "/v1/catalog/services", family: famCatalog, scope: noTenancy, routes: get((*call).catalogServices)},
		{path: "/v1/catalog/service/", family: famCatalog, scope: noTenancy, routes: get((*call).catalogService)},
		{path: "/v1/catalog/connect/", family: famCatalog, scope: noTenancy, routes: get((*call).catalogConnect)},
		{path: "/v1/catalog/node/", family: famCatalog, scope: noTenancy, routes: get((*call).catalogNode)},
		{path: "/v1/catalog/node-services/", family: famCatalog, scope: noTenancy, routes: get((*call).catalogNodeServices)},

		{path: "/v1/health/node/", family: famHealth, scope: noTenancy, routes: get((*call).healthNode)},
		{path: "/v1/health/checks/", family: famHealth, scope: noTenancy, routes: get((*call).healthChecks)},
		{path: "/v1/health/state/", family: famHealth, scope: noTenancy, routes: get((*call).healthState)},
		{path: pathHealthService, family: famHealth, scope: noTenancy, routes: get((*call).healthService)},
		{path: "/v1/health/connect/", family: famHealth, scope: noTenancy, routes: get((*call).healthConnect)},

		{path: "/v1/session/create", family: famSession, scope: noTenancy, routes: put((*call).sessionCreate)},
		{path: "/v1/session/destroy/", family: famSession, scope: noTenancy, routes: put((*call).sessionDestroy)},
		{path: "/v1/session/renew/", family: famSession, scope: noTenancy, routes: put((*call).sessionRenew)},
		{path: "/v1/session/info/", family: famSession, scope: noTenancy, routes: get((*call).sessionInfo)},
		{path: "/v1/session/node/", family: famSession, scope: noTenancy, routes: get((*call).sessionNode)},
		{path: "/v1/session/list", family: famSession, scope: noTenancy, routes: get((*call).sessionList)},

		{path: "/v1/status/leader", family: famStatus, routes: get((*call).statusLeader)},
		{path: "/v1/status/peers", family: famStatus, routes: get((*call).statusPeers)},

		{path: "/v1/agent/self", family: famAgent, guard: readAgent, routes: get((*call).agentSelf)},
		{path: "/v1/agent/version", family: famAgent, guard: open, routes: get((*call).agentVersion)},
		{path: "/v1/agent/host", family: famAgent, guard: readOperator, routes: get((*call).agentHost)},
		{path: "/v1/agent/members", family: famAgent, guard: inHandler, scope: noPartition, routes: get((*call).agentMembers)},
		{path: "/v1/agent/join/", family: famAgent, guard: writeAgent, routes: put((*call).agentJoin)},
		{path: "/v1/agent/leave", family: famAgent, guard: writeAgent, routes: put((*call).agentLeave)},
		{path: "/v1/agent/force-leave/", family: famAgent, guard: writeOperator, routes: put((*call).agentForceLeave)},
		{path: "/v1/agent/reload", family: famAgent, guard: writeAgent, routes: put((*call).agentReload)},
		{path: "/v1/agent/metrics", family: famAgent, guard: readAgent, routes: get((*call).agentMetrics)},
		{path: "/v1/agent/metrics/stream", family: famAgent, guard: readAgent, stream: true, routes: get((*call).agentMetricsStream)},
		{path: "/v1/agent/monitor", family: famAgent, guard: readAgent, stream: true, routes: get((*call).agentMonitor)},
		{path: "/v1/agent/maintenance", family: famAgent, guard: writeNode, routes: put((*call).agentMaintenance)},

		{path: "/v1/agent/services", family: famAgent, guard: inHandler, scope: noTenancy, routes: get((*call).agentServices)},
		{path: "/v1/agent/service/", family: famAgent, guard: inHandler, scope: noTenancy, routes: get((*call).agentService)},
		{path: "/v1/agent/health/service/name/", family: famAgent, guard: inHandler, scope: noTenancy, routes: get((*call).agentHealthByName)},
		{path: "/v1/agent/health/service/id/", family: famAgent, guard: inHandler, scope: noTenancy, routes: get((*call).agentHealthByID)},
		{path: "/v1/agent/service/register", family: famAgent, guard: inHandler, scope: noTenancy, routes: put((*call).agentServiceRegister)},
		{path: "/v1/agent/service/deregister/", family: famAgent, guard: inHandler, scope: noTenancy, routes: put((*call).agentServiceDeregister)},
		{path: "/v1/agent/service/maintenance/", family: famAgent, guard: inHandler, scope: noTenancy, routes: put((*call).agentServiceMaintenance)},

		{path: "/v1/agent/checks", family: famAgent, guard: inHandler, scope: noTenancy, routes: get((*call).agentChecks)},
		{path: "/v1/agent/check/register", family: famAgent, guard: inHandler, scope: noTenancy, routes: put((*call).agentCheckRegister)},
		{path: "/v1/agent/check/deregister/", family: famAgent, guard: inHandler, scope: noTenancy, routes: put((*call).agentCheckDeregister)},
		{path: "/v1/agent/check/pass/", family: famAgent, guard: inHandler, scope: noTenancy, routes: put((*call).agentCheckPass)},
		{path: "/v1/agent/check/warn/", family: famAgent, guard: inHandler, scope: noTenancy, routes: put((*call).agentCheckWarn)},
		{path: "/v1/agent/check/fail/", family: famAgent, guard: inHandler, scope: noTenancy, routes: put((*call).agentCheckFail)},
		{path: "/v1/agent/check/update/", family: famAgent, guard: inHandler, scope: noTenancy, routes: put((*call).agentCheckUpdate)},

		{path: "/v1/agent/token/", family: famACL, guard: writeAgent, scope: noTenancy, routes: put((*call).agentToken)},

		{path: "/v1/agent/connect/ca/roots", family: famConnect, guard: open, cached: true, routes: get((*call).connectRoots)},
		{path: "/v1/connect/ca/roots", family: famConnect, routes: get((*call).connectRoots)},

		{path: "/v1/operator/raft/configuration", family: famOperator, routes: get((*call).raftConfiguration)},
		{path: "/v1/operator/raft/peer", family: famOperator, routes: []route{{http.MethodDelete, (*call).raftRemovePeer}}},
		{path: "/v1/operator/raft/transfer-leader", family: famOperator, routes: []route{{http.MethodPost, (*call).raftTransferLeader}}},
		{path: "/v1/operator/autopilot/health", family: famOperator, routes: get((*call).autopilotHealth)},
		{path: "/v1/operator/autopilot/state", family: famOperator, routes: get((*call).autopilotState)},
		{path: "/v1/operator/usage", family: famOperator, scope: noTenancy, routes: get((*call).usage)},
		{path: "/v1/operator/autopilot/configuration", family: famOperator, routes: []route{
			{http.MethodGet, (*call).autopilotGet}, {http.MethodPut, (*call).autopilotPut}}},

		{path: "/v1/operator/keyring", family: famOperator, routes: []route{
			{http.MethodGet, (*call).keyringList}, {http.MethodPost, (*call).keyringInstall},
			{http.MethodPut, (*call).keyringUse}, {http.MethodDelete, (*call).keyringRemove}}},

		{path: "/v1/event/fire/", family: famEvent, routes: put((*call).eventFire)},
		{path: "/v1/event/list", family: famEvent, guard: inHandler, routes: get((*call).eventList)},

		{path: "/v1/coordinate/datacenters", family: famCoordinate, routes: get((*call).coordinateDatacenters)},
		{path: "/v1/coordinate/nodes", family: famCoordinate, scope: noPartition, routes: get((*call).coordinateNodes)},
		{path: "/v1/coordinate/node/", family: famCoordinate, scope: noPartition, routes: get((*call).coordinateNode)},
		{path: "/v1/coordinate/update", family: famCoordinate, routes: put((*call).coordinateUpdate)},
		{path: "/v1/query", family: famQuery, routes: []route{
			{http.MethodGet, (*call).queryList}, {http.MethodPost, (*call).queryCreate}}},
		{path: "/v1/query/", family: famQuery, routes: []route{
			{http.MethodGet, (*call).queryGet}, {http.MethodPut, (*call).queryUpdate}, {http.MethodDelete, (*call).queryDelete}}},

		{path: "/v1/snapshot", family: famSnapshot, stream: true, routes: []route{
			{http.MethodGet, (*call).snapshotSave}, {http.MethodPut, (*call).snapshotRestore}}},

		{path: "/v1/internal/federation/token", family: famOther, routes: put((*call).wanToken)},
		{path: "/v1/internal/federation/join", family: famOther, guard: writeAgent, routes: put((*call).wanJoin)},
		{path: "/v1/internal/federation/evict", family: famOther, routes: put((*call).wanEvict)},
		{path: "/v1/internal/federation/promotion", family: famOther, routes: get((*call).promotionPlan)},
		{path: "/v1/internal/federation/promote", family: famOther, routes: put((*call).promote)},
		{path: "/v1/internal/federation/follow", family: famOther, routes: put((*call).follow)},
		{path: "/v1/internal/federation/forget", family: famOther, routes: put((*call).forgetDatacenter)},
		{path: "/v1/internal/federation/unseen", family: famOther, routes: get((*call).unseen)},
		{path: "/v1/internal/federation/unseen/settle", family: famOther, routes: put((*call).settleUnseen)},
		{path: "/v1/internal/federation/ca", family: famOther, routes: get((*call).caStatus)},
		{path: "/v1/internal/federation/ca/rotate", family: famOther, routes: put((*call).caRotate)},
		{path: "/v1/internal/federation", family: famOther, guard: readOperator, routes: get((*call).internalFederation)},
		{path: "/v1/internal/federation/leave", family: famOther, routes: put((*call).federationLeave)},
	}
}
