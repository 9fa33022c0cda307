package httpapi

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// everyEntry calls f with each endpoint and a path that leads to it.
func everyEntry(f func(ep *entry, path string)) {
	t := newTable()
	for _, m := range []map[string]*entry{t.exact, t.prefixes} {
		for path, ep := range m {
			if strings.HasSuffix(path, "/") {
				path += "x"
			}
			f(ep, path)
		}
	}
}

func TestEveryPathIsFound(t *testing.T) {
	table := newTable()
	n := 0
	everyEntry(func(ep *entry, path string) {
		n++
		if got, at := table.find(path); got == nil || got.path != ep.path || path[:at] != ep.path {
			t.Errorf("%s: found %v, its rest begins at %d", path, got, at)
		}
	})
	if want := len(built()) + len(aclEntries()) + len(later()); n != want {
		t.Errorf("%d distinct paths, want %d: one is listed twice", n, want)
	}
}

func TestMethods(t *testing.T) {
	n := newNode(t, nil)
	everyEntry(func(ep *entry, path string) {
		allow := "OPTIONS"
		for _, r := range ep.routes {
			allow += "," + r.method
		}
		w := n.ask(t, http.MethodOptions, path, "")
		if w.Code != 200 || w.Body.Len() != 0 || w.Header().Get("Allow") != allow || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("OPTIONS %s: got %d %q %v, want 200 and Allow: %s", path, w.Code, w.Body, w.Header(), allow)
		}
		for _, m := range []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost, http.MethodDelete, http.MethodPatch} {
			if serve, _ := ep.handler(m); serve != nil {
				continue
			}
			w := n.ask(t, m, path, "")
			if w.Code != 405 || w.Body.String() != "method "+m+" not allowed" || w.Header().Get("Allow") != allow ||
				w.Header().Get("Content-Type") != "text/plain; charset=utf-8" || w.Header().Get("X-Consul-Default-ACL-Policy") != "allow" {
				t.Errorf("%s %s: got %d %q %v, want 405 and Allow: %s", m, path, w.Code, w.Body, w.Header(), allow)
			}
		}
	})
	if len(n.agent.calls) > 0 {
		t.Errorf("a refused method reached the agent: %v", n.agent.calls)
	}
}

func TestUnbuiltSaySo(t *testing.T) {
	n := newNode(t, nil)
	for _, u := range unbuiltFamilies {
		for _, p := range u.paths {
			path := p.path
			if strings.HasSuffix(path, "/") {
				path += "x"
			}
			for _, m := range p.methods {
				if m == http.MethodGet && nothings[p.path] != nil {
					continue // TestReadsOfWhatCannotBe
				}
				w := n.ask(t, m, path, "")
				if w.Code != 500 || w.Body.String() != u.what+" is not built yet" || w.Header().Get("Content-Type") != "text/plain; charset=utf-8" {
					t.Errorf("%s %s: got %d %q", m, path, w.Code, w.Body)
				}
			}
		}
	}
	for _, ep := range aclEntries() {
		path := ep.path
		if strings.HasSuffix(path, "/") {
			path += "x"
		}
		for _, r := range ep.routes {
			if w := n.ask(t, r.method, path, ""); w.Code != 401 || w.Body.String() != "ACL support disabled" {
				t.Errorf("%s %s: got %d %q", r.method, path, w.Code, w.Body)
			}
		}
	}
}

func TestRedirects(t *testing.T) {
	n := newNode(t, nil)
	for _, tc := range []struct{ method, target, want string }{
		{"GET", "/v1/kv?recurse", "/v1/kv/?recurse"},
		{"PUT", "/v1/kv//a?flags=1", "/v1/kv/a?flags=1"},
		{"PUT", "/v1/kv/a//b/", "/v1/kv/a/b/"},
		{"GET", "/v1/kv/a/../b", "/v1/kv/b"},
		{"GET", "/v1/./kv/a/.", "/v1/kv/a"},
		{"GET", "/v1/kv/a%2Fb//c", "/v1/kv/a%2Fb/c"},
		{"GET", "//evil.example/x", "/evil.example/x"},
		{"GET", "/v1/catalog/service", "/v1/catalog/service/"},
		{"PUT", "/v1/agent/check/pass", "/v1/agent/check/pass/"},
	} {
		w := n.ask(t, tc.method, "http://agent"+tc.target, "")
		if w.Code != 307 || w.Header().Get("Location") != tc.want {
			t.Errorf("%s %s: got %d to %q, want 307 to %q", tc.method, tc.target, w.Code, w.Header().Get("Location"), tc.want)
		}
	}
	for _, clean := range []string{"/v1/kv/a.b/..c/.d", "/v1/kv/a%2F%2Fb", "/v1/kv/a%2F..%2Fb"} {
		if w := n.ask(t, "GET", clean, ""); w.Code != 404 {
			t.Errorf("%s: got %d, want 404: the key is as written", clean, w.Code)
		}
	}
}

func TestOutside(t *testing.T) {
	n := newNode(t, nil)
	for _, tc := range []struct {
		target string
		status int
		body   string
	}{
		{"/v1/nosuch", 404, "Invalid URL path: not a recognized HTTP API endpoint\n"},
		{"/v1/", 404, "Invalid URL path: not a recognized HTTP API endpoint\n"},
		{"/v1/status/leader/x", 404, "Invalid URL path: not a recognized HTTP API endpoint\n"},
		{"/v2/kv/x", 404, "Invalid URL path: if attempting to use the HTTP API, ensure the path starts with '/v1/'\n"},
		{"/ui/", 404, "Invalid URL path: if attempting to use the HTTP API, ensure the path starts with '/v1/'\n"},
		{"/debug/pprof/", 404, "Invalid URL path: if attempting to use the HTTP API, ensure the path starts with '/v1/'\n"},
	} {
		w := n.ask(t, "GET", tc.target, "")
		if w.Code != tc.status || w.Body.String() != tc.body || w.Header().Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("%s: got %d %q", tc.target, w.Code, w.Body)
		}
		for h := range w.Header() {
			if strings.HasPrefix(h, "X-Consul") {
				t.Errorf("%s: header %s", tc.target, h)
			}
		}
	}
	if w := n.ask(t, "GET", "/", ""); w.Code != 200 || !strings.HasPrefix(w.Body.String(), "Landbridge agent") {
		t.Errorf("/: got %d %q", w.Code, w.Body)
	}
	n.Reload(Reloadable{EnableDebug: true})
	if w := n.ask(t, "GET", "/debug/pprof/cmdline", ""); w.Code != 200 {
		t.Errorf("pprof with enable_debug: got %d", w.Code)
	}
}

// The hand-written reader agrees with net/url on all it knows.
func FuzzParams(f *testing.F) {
	f.Add("dc=dc2&stale&index=5&wait=10s&tag=a&tag=b&node-meta=k:v&filter=Node%3D%3Dx+y")
	f.Add("recurse=&keys&separator=%2F&x=1;y=2&&=&%zz=1")
	f.Add("passing=%&token=a%20b")
	f.Fuzz(func(t *testing.T, raw string) {
		var p params
		p.parse(raw)
		q, _ := url.ParseQuery(raw) // drops what is malformed, and says so
		for key, got := range map[string]string{"dc": p.dc, "index": p.index, "wait": p.wait, "filter": p.filter,
			"token": p.token, "ns": p.ns, "cas": p.cas, "separator": p.separator} {
			want := ""
			for _, v := range q[key] {
				if v != "" {
					want = v // the first that says something
					break
				}
			}
			if got != want {
				t.Errorf("%q: %s = %q, want %q", raw, key, got, want)
			}
		}
		for key, flag := range map[string]flag{"stale": fStale, "consistent": fConsistent, "recurse": fRecurse, "keys": fKeys, "raw": fRaw} {
			if _, want := q[key]; p.has(flag) != want {
				t.Errorf("%q: %s is %v, want %v", raw, key, p.has(flag), want)
			}
		}
		if !slices.Equal(p.tags, q["tag"]) {
			t.Errorf("%q: tags %q, want %q", raw, p.tags, q["tag"])
		}
	})
}

// jsonWrites are the writes that take a body of JSON.
var jsonWrites = []struct{ method, path string }{
	{"PUT", "/v1/catalog/register"}, {"PUT", "/v1/catalog/deregister"}, {"PUT", "/v1/txn"}, {"PUT", "/v1/session/create"},
	{"POST", "/v1/query"}, {"PUT", "/v1/coordinate/update"}, {"PUT", "/v1/operator/autopilot/configuration"},
	{"PUT", "/v1/agent/service/register"}, {"PUT", "/v1/agent/check/register"},
}

// FuzzBodies sends whatever a client may send to the endpoints that decode JSON:
// it is refused with a reason, or kept, and then what is kept can be read.
func FuzzBodies(f *testing.F) {
	for i, body := range []string{
		`{"Node":"n1","Address":"10.0.0.1","NodeMeta":{"a":"b"},"Service":{"Service":"web","Tags":["x"],"Port":80,"Weights":{"Passing":2},"Proxy":{"Mode":""}},"Checks":[{"CheckID":"c","Status":"passing","Definition":{"HTTP":"http://x","Interval":"5s"}}]}`,
		`{"Node":"n1","ServiceID":"web","CheckID":"c"}`,
		`[{"KV":{"Verb":"set","Key":"a","Value":"dg==","Flags":1}},{"Node":{"Verb":"set","Node":{"Node":"n2","Address":"1.1.1.1"}}},{"Service":{"Verb":"get","Node":"n1","Service":{"ID":"web","Service":"web"}}}]`,
		`{"Name":"s","LockDelay":"15s","TTL":"10s","Behavior":"delete","NodeChecks":[],"ServiceChecks":[{"ID":"c"}]}`,
		`{"Name":"q","Service":{"Service":"web","Failover":{"NearestN":1}},"DNS":{"TTL":"5s"}}`,
		`{"Node":"n1","Segment":"","Coord":{"Vec":[0,0,0,0,0,0,0,0],"Error":1.5,"Adjustment":0,"Height":0.00001}}`,
		`{"CleanupDeadServers":true,"LastContactThreshold":"200ms","MaxTrailingLogs":250}`,
		`{"Name":"web","ID":"w","tagged_addresses":{"lan":{"address":"1.2.3.4","port":5}},"Check":{"TTL":"10s","deregister_critical_service_after":"1m"},"Connect":{"SidecarService":{}}}`,
		`{"Name":"disk","TTL":"10s","Status":"passing","Header":{"a":["b"]},"Interval":10}`,
	} {
		f.Add(byte(i), body)
	}
	f.Fuzz(func(t *testing.T, which byte, body string) {
		n := newNode(t, nil)
		to := jsonWrites[int(which)%len(jsonWrites)]
		w := n.ask(t, to.method, to.path, body)
		switch w.Code {
		case 200:
		case 400, 404, 409, 413, 500:
			if w.Body.Len() == 0 {
				t.Errorf("%s %s: %d without a reason", to.method, to.path, w.Code)
			}
		default:
			t.Errorf("%s %s: %d %q", to.method, to.path, w.Code, w.Body)
		}
		if !utf8.ValidString(w.Body.String()) {
			t.Errorf("%s %s: %d %q", to.method, to.path, w.Code, w.Body)
		}
		if w.Code != 200 {
			return
		}
		for _, read := range []string{"/v1/catalog/nodes", "/v1/catalog/services", "/v1/health/state/any", "/v1/session/list", "/v1/query", "/v1/kv/?recurse", "/v1/agent/services", "/v1/agent/checks"} {
			if w := n.ask(t, "GET", read, ""); w.Code == 200 && !json.Valid(w.Body.Bytes()) || w.Code == 500 {
				t.Errorf("%s after %s %s: %d %q", read, to.method, to.path, w.Code, w.Body)
			}
		}
	})
}
