package watch

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNewPlan(t *testing.T) {
	for _, c := range []struct {
		spec Spec
		path string // and query
		err  string // contained in it
	}{
		{spec: Spec{Type: "key", Key: "a/b c", Datacenter: "dc2", Stale: true}, path: "/v1/kv/a/b%20c?dc=dc2&stale="},
		{spec: Spec{Type: "key", Key: "/a"}, path: "/v1/kv/%2Fa?"},
		{spec: Spec{Type: "key", Key: "a//b"}, path: "/v1/kv/a%2F%2Fb?"},
		{spec: Spec{Type: "key", Key: "a/../b"}, path: "/v1/kv/a%2F%2E%2E%2Fb?"},
		{spec: Spec{Type: "key", Key: "."}, path: "/v1/kv/%2E?"},
		{spec: Spec{Type: "keyprefix", Prefix: "a/"}, path: "/v1/kv/a/?recurse="},
		{spec: Spec{Type: "services", Filter: `a == "b"`}, path: "/v1/catalog/services?filter=a+%3D%3D+%22b%22"},
		{spec: Spec{Type: "nodes"}, path: "/v1/catalog/nodes?"},
		{spec: Spec{Type: "service", Service: "a/b", Tags: []string{"x", "y"}, PassingOnly: true}, path: "/v1/health/service/a%2Fb?passing=1&tag=x&tag=y"},
		{spec: Spec{Type: "checks"}, path: "/v1/health/state/any?"},
		{spec: Spec{Type: "checks", State: "warning"}, path: "/v1/health/state/warning?"},
		{spec: Spec{Type: "checks", Service: "web"}, path: "/v1/health/checks/web?"},
		{spec: Spec{Type: "event"}, path: "/v1/event/list?"},
		{spec: Spec{Type: "event", Name: "deploy", Datacenter: "dc2"}, path: "/v1/event/list?dc=dc2&name=deploy"},
		{spec: Spec{Type: "agent_service", ServiceID: "web 1"}, path: "/v1/agent/service/web%201?"},
		{spec: Spec{Type: "connect_roots"}, path: "/v1/agent/connect/ca/roots?"},

		{err: "Watch type must be specified"},
		{spec: Spec{Type: "bogus"}, err: "Unsupported watch type: bogus"},
		{spec: Spec{Type: "connect_leaf", Service: "web"}, err: "connect_leaf needs certificates of the service mesh"},
		{spec: Spec{Type: "key"}, err: "Must specify a single key to watch"},
		{spec: Spec{Type: "keyprefix"}, err: "Must specify a single prefix to watch"},
		{spec: Spec{Type: "service", Tags: []string{"x"}}, err: "Must specify a single service to watch"},
		{spec: Spec{Type: "agent_service"}, err: "Must specify a single service id to watch"},
		{spec: Spec{Type: "checks", Service: "web", State: "any"}, err: "Cannot specify service and state"},
		{spec: Spec{Type: "checks", State: "red"}, err: `is "red"`},
		{spec: Spec{Type: "nodes", PassingOnly: true}, err: "type nodes has no parameter passingonly"},
		{spec: Spec{Type: "event", Filter: "x"}, err: "type event has no parameter filter"},
		{spec: Spec{Type: "connect_roots", Datacenter: "dc2"}, err: "type connect_roots has no parameter datacenter"},
	} {
		p, err := NewPlan(c.spec)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%+v: error %v, want %q", c.spec, err, c.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%+v: %v", c.spec, err)
			continue
		}
		if got := p.path + "?" + p.query.Encode(); got != c.path {
			t.Errorf("%+v asks %s, want %s", c.spec, got, c.path)
		}
		u, err := url.Parse("http://agent" + p.path)
		if want, ok := strings.CutPrefix(u.Path, "/v1/kv/"); err != nil || ok && want != c.spec.Key+c.spec.Prefix {
			t.Errorf("%s is the path of key %q, %v", p.path, want, err)
		}
	}
}

func TestEveryTypeIsKnown(t *testing.T) {
	want := []string{"agent_service", "checks", "connect_roots", "event", "key", "keyprefix", "nodes", "service", "services"}
	if diff := cmp.Diff(want, Types()); diff != "" {
		t.Error(diff)
	}
	var s Spec
	known := []string{}
	for _, p := range s.params() {
		known = append(known, p.name)
	}
	for name, k := range kinds {
		for _, p := range k.params {
			if !slices.Contains(known, p) {
				t.Errorf("%s takes %s, which is no parameter", name, p)
			}
		}
	}
}

func TestPlanNamesNoSecret(t *testing.T) {
	p := mustPlan(t, Spec{Type: "service", Service: "web", Datacenter: "dc2", Token: "hunter2"})
	if got := p.String(); got != "service web in dc2" {
		t.Error(got)
	}
}

func TestRead(t *testing.T) {
	for _, c := range []struct {
		kind   string
		status int
		body   string
		want   string
		fails  bool
	}{
		{"key", 200, `[{"Key":"a","Value":"aGk=","ModifyIndex":7}]`, `{"Key":"a","CreateIndex":0,"ModifyIndex":7,"LockIndex":0,"Flags":0,"Value":"aGk=","Session":""}`, false},
		{"key", 404, "", "null", false},
		{"key", 200, "", "", true},
		{"keyprefix", 404, "", "[]", false},
		{"keyprefix", 200, "{", "", true},
		{"nodes", 200, "[\n 1 ]\n", "[1]", false},
		{"nodes", 404, "no", "", true},
		{"nodes", 500, "No cluster leader", "", true},
		{"nodes", 200, "", "", true},
		{"agent_service", 404, "unknown service ID: web", "null", false},
		{"agent_service", 403, "Permission denied", "", true},
	} {
		p := &Plan{kind: kinds[c.kind]}
		got, err := p.read(&Answer{Status: c.status, Body: []byte(c.body)})
		if (err != nil) != c.fails || !c.fails && string(got) != c.want {
			t.Errorf("%s %d %q: %q, %v; want %q", c.kind, c.status, c.body, got, err, c.want)
		}
	}
}

// FuzzAnswer: whatever an agent answers is an error or one line of JSON.
func FuzzAnswer(f *testing.F) {
	f.Add(200, []byte(`[{"ID":"1","Key":"a","Value":null}]`))
	f.Add(404, []byte("nothing"))
	f.Add(200, []byte("{\n}"))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		for name, k := range kinds {
			fl := follower{plan: &Plan{kind: k}, began: true}
			out, err := fl.plan.read(&Answer{Status: status, Body: body})
			if err == nil && k.events {
				var any bool
				if out, any, err = fl.newEvents(out); !any {
					continue
				}
			}
			if err == nil && !json.Valid(out) {
				t.Errorf("%s %d %q: %q is no JSON", name, status, body, out)
			}
		}
	})
}

func TestInProcess(t *testing.T) {
	src := InProcess(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/abort":
			panic(http.ErrAbortHandler)
		case "/wait":
			<-r.Context().Done()
		}
		w.Header().Set("X-Consul-Index", "12")
		w.Header()["X-Consul-Contenthash"] = []string{"h"}
		w.WriteHeader(http.StatusNotFound)
		w.WriteHeader(http.StatusOK)
		w.Write([]byte(r.URL.EscapedPath() + " " + r.URL.RawQuery + " " + r.Header.Get("X-Consul-Token")))
	}))
	a, err := src.Get(t.Context(), "/v1/kv/a%2Fb", url.Values{"dc": {"x"}}, "tok")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&Answer{404, 12, "h", []byte("/v1/kv/a%2Fb dc=x tok")}, a); diff != "" {
		t.Error(diff)
	}
	if _, err := src.Get(t.Context(), "/abort", nil, ""); err == nil {
		t.Error("an answer that was broken off is one")
	}
}
