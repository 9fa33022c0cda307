package httpapi

import "net/http"

// unbuilt is a family of endpoints that the interface has and this version does
// not. They are listed so that a caller is told so, and so that a wrong method is
// told apart from a missing feature. Some of their reads have an answer all the
// same: see nothings.
type unbuilt struct {
	what   string
	family family
	scope  scope
	paths  []unbuiltPath
}

type unbuiltPath struct {
	path    string
	methods []string
}

var (
	mGet       = []string{http.MethodGet}
	mPut       = []string{http.MethodPut}
	mPost      = []string{http.MethodPost}
	mGetPut    = []string{http.MethodGet, http.MethodPut}
	mGetDelete = []string{http.MethodGet, http.MethodDelete}
	mGetPutDel = []string{http.MethodGet, http.MethodPut, http.MethodDelete}
	mGetPost   = []string{http.MethodGet, http.MethodPost}
)

// unbuiltFamilies is the whole list. An entry goes when its endpoints come.
var unbuiltFamilies = []unbuilt{
	{"Connect", famConfig, noTenancy, []unbuiltPath{{"/v1/config", mPut}, {"/v1/config/", mGetDelete}}},
	{"Connect", famHealth, noTenancy, []unbuiltPath{{"/v1/health/ingress/", mGet}}},
	{"Connect", famConnect, noTenancy, []unbuiltPath{
		{"/v1/agent/connect/authorize", mPost}, {"/v1/agent/connect/ca/leaf/", mGet},
		{"/v1/connect/ca/configuration", mGetPut},
		{"/v1/connect/intentions", mGetPost}, {"/v1/connect/intentions/", mGetPutDel},
		{"/v1/connect/intentions/match", mGet}, {"/v1/connect/intentions/check", mGet},
		{"/v1/connect/intentions/exact", mGetPutDel},
		{"/v1/catalog/gateway-services/", mGet},
		{"/v1/discovery-chain/", mGetPost}, {"/v1/exported-services", mGet},
		{"/v1/internal/service-virtual-ip", mPut}, {"/v1/internal/federation-states", mGet},
		{"/v1/internal/federation-state/", mGet}}},
	{"Peering", famOther, 0, []unbuiltPath{{"/v1/peerings", mGet}, {"/v1/peering", mPut}, {"/v1/peering/", mGetPutDel}}},
	{"The web interface", famOther, noTenancy, []unbuiltPath{{"/v1/internal/ui/", mGet}}},
}

func later() []entry {
	var out []entry
	add := func(f family, s scope, p unbuiltPath, h handler) {
		ep := entry{path: p.path, family: f, scope: s}
		for _, m := range p.methods {
			if read := nothings[p.path]; read != nil && m == http.MethodGet {
				ep.routes = append(ep.routes, route{m, read})
				continue
			}
			ep.routes = append(ep.routes, route{m, h})
		}
		out = append(out, ep)
	}
	for _, u := range unbuiltFamilies {
		for _, p := range u.paths {
			add(u.family, u.scope, p, func(*call) error { return errNotBuilt(u.what) })
		}
	}
	return out
}
