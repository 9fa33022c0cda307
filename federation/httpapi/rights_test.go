package httpapi

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"landbridge/forwarding/rpc"
	"landbridge/store"
	"landbridge/store/acl"
)

// fakeACL knows the rules behind secrets.
type fakeACL struct {
	rules map[string]string
	set   map[string]string
}

func (f *fakeACL) Resolve(_ context.Context, secret string) (*acl.Bearer, error) {
	text, ok := f.rules[secret]
	if !ok {
		return nil, store.ErrACLNotFound
	}
	r, err := acl.Parse(text)
	if err != nil {
		return nil, err
	}
	id := "id-" + secret
	if secret == "" {
		id = acl.AnonymousID
	}
	return &acl.Bearer{AccessorID: id, Authorizer: acl.Compile(acl.Defaults{}, r)}, nil
}

func (f *fakeACL) SetToken(kind, secret string) error {
	if kind == "bogus" {
		return store.Errorf(store.KindNotFound, "Token %q is unknown", kind)
	}
	f.set[kind] = secret
	return nil
}

func withACL(t *testing.T, rules map[string]string, change func(*Config)) (*testNode, *fakeACL) {
	f := &fakeACL{rules, map[string]string{}}
	return newNode(t, func(c *Config) {
		c.ACL, c.DefaultDeny = f, true
		if change != nil {
			change(c)
		}
	}), f
}

// Each endpoint is guarded here, or passes its request on to where it is.
func TestEveryEndpointIsGuarded(t *testing.T) {
	passed := 0
	n, _ := withACL(t, map[string]string{"weak": ``}, func(c *Config) {
		do := c.Do
		c.Do = rpc.DoerFunc(func(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
			passed++
			return do.Do(ctx, req)
		})
	})
	filtered := map[string]bool{"/v1/agent/members": true, "/v1/agent/services": true, "/v1/agent/checks": true, "/v1/event/list": true}
	free := map[string]bool{"/v1/agent/version": true, "/v1/agent/connect/ca/roots": true}
	everyEntry(func(ep *entry, path string) {
		for _, r := range ep.routes {
			passed, n.agent.calls = 0, nil
			body := ""
			if r.method != http.MethodGet && strings.Contains(path, "/register") {
				body = `{"Name":"x"}`
			} else if strings.Contains(path, "/update/") {
				body = `{"Status":"passing"}`
			}
			w := n.ask(t, r.method, path+"?token=nobody&enable=true", body)
			if ep.guard == nil {
				if passed == 0 && w.Code == 200 {
					t.Errorf("%s %s answers by itself, and has no guard", r.method, path)
				}
				if len(n.agent.calls) > 0 {
					t.Errorf("%s %s asks this agent, and has no guard: %v", r.method, path, n.agent.calls)
				}
				continue
			}
			if free[path] {
				if w.Code != 200 {
					t.Errorf("%s %s is free: %d %s", r.method, path, w.Code, w.Body)
				}
				continue
			}
			if w.Code != 403 || w.Body.String() != "ACL not found" || len(n.agent.calls) > 0 || passed > 0 {
				t.Errorf("%s %s with a token that is nobody's: %d %s, agent %v", r.method, path, w.Code, w.Body, n.agent.calls)
			}
			if got := w.Header().Get("X-Consul-Default-ACL-Policy"); got != "deny" {
				t.Errorf("%s %s: default policy %q", r.method, path, got)
			}
			w = n.ask(t, r.method, path+"?token=weak&enable=true", body)
			switch {
			case filtered[path]:
				if s := w.Body.String(); w.Code != 200 || s != "{}" && s != "[]" {
					t.Errorf("%s %s without rights: %d %s", r.method, path, w.Code, w.Body)
				}
			case w.Code == 200:
				t.Errorf("%s %s without rights: %d %s", r.method, path, w.Code, w.Body)
			case w.Code != 403 && w.Code != 404: // 404: what is not there is nobody's
				t.Errorf("%s %s without rights: %d %s", r.method, path, w.Code, w.Body)
			}
		}
	})
	for _, path := range []string{"/metrics", "/debug/pprof/cmdline"} {
		for _, token := range []string{"nobody", "weak"} {
			if w := n.ask(t, "GET", path+"?token="+token, ""); w.Code != 403 {
				t.Errorf("%s as %s: %d", path, token, w.Code)
			}
		}
	}
}

func TestLocalRights(t *testing.T) {
	n, f := withACL(t, map[string]string{
		"":       ``,
		"web":    `service "web" { policy = "write" }`,
		"both":   `service "web" { policy = "write" } service "api" { policy = "write" }`,
		"prefix": `service_prefix "web" { policy = "write" }`,
		"reader": `service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }`,
		"node":   `node "a" { policy = "write" } agent "a" { policy = "write" }`,
		"other":  `node "b" { policy = "write" } agent "b" { policy = "write" }`,
		"agentr": `agent "a" { policy = "read" }`,
		"oper":   `operator = "write" event_prefix "" { policy = "read" }`,
	}, func(c *Config) { c.DefaultToken = func() string { return "reader" } })
	denied := func(accessor, what string) string {
		return "Permission denied: token with AccessorID 'id-" + accessor + "' lacks permission " + what
	}
	for _, c := range []struct {
		token, method, path, body string
		code                      int
		want                      string
	}{
		{"web", "PUT", "/v1/agent/service/register", `{"Name":"api"}`, 403, denied("web", `'service:write' on "api"`)},
		{"web", "PUT", "/v1/agent/service/register", `{"Name":"web","Check":{"TTL":"10s"}}`, 200, ""},
		{"both", "PUT", "/v1/agent/service/register", `{"ID":"x","Name":"api"}`, 200, ""},
		{"web", "PUT", "/v1/agent/service/register", `{"ID":"x","Name":"web"}`, 403, denied("web", `'service:write' on "api"`)},
		{"web", "PUT", "/v1/agent/service/register", `{"Name":"web","Connect":{"SidecarService":{}}}`, 403, denied("web", `'service:write' on "web-sidecar-proxy"`)},
		{"prefix", "PUT", "/v1/agent/service/register", `{"Name":"web","Connect":{"SidecarService":{"Port":21000}},"Check":{"TTL":"10s"}}`, 200, ""},
		{"web", "PUT", "/v1/agent/service/deregister/x", ``, 403, denied("web", `'service:write' on "api"`)},
		{"web", "PUT", "/v1/agent/service/deregister/nope", ``, 404, `Unknown service ID "nope". Ensure that the service ID is passed, not the service name.`},
		{"web", "PUT", "/v1/agent/check/pass/service:web", ``, 200, ""},
		{"node", "PUT", "/v1/agent/check/pass/service:web", ``, 403, denied("node", `'service:write' on "web"`)},
		{"web", "PUT", "/v1/agent/check/register", `{"Name":"n","TTL":"10s"}`, 403, denied("web", `'node:write' on "a"`)},
		{"node", "PUT", "/v1/agent/check/register", `{"Name":"n","TTL":"10s"}`, 200, ""},
		{"web", "PUT", "/v1/agent/check/register", `{"Name":"n","TTL":"10s","ServiceID":"web"}`, 403, denied("web", `'node:write' on "a"`)},
		{"web", "PUT", "/v1/agent/check/register", `{"Name":"m","TTL":"10s","ServiceID":"web"}`, 200, ""},
		{"web", "PUT", "/v1/agent/check/deregister/n", ``, 403, denied("web", `'node:write' on "a"`)},
		{"reader", "PUT", "/v1/agent/service/maintenance/web?enable=true", ``, 403, denied("reader", `'service:write' on "web"`)},
		{"other", "PUT", "/v1/agent/maintenance?enable=true", ``, 403, denied("other", `'node:write' on "a"`)},
		{"", "GET", "/v1/agent/service/web", ``, 200, ""}, // by the default token
		{"node", "GET", "/v1/agent/service/web", ``, 403, denied("node", `'service:read' on "web"`)},
		{"node", "GET", "/v1/agent/health/service/name/web", ``, 403, denied("node", `'service:read' on "web"`)},
		{"node", "GET", "/v1/agent/health/service/id/web", ``, 403, denied("node", `'service:read' on "web"`)},
		{"agentr", "GET", "/v1/agent/self", ``, 200, ""},
		{"other", "GET", "/v1/agent/self", ``, 403, denied("other", `'agent:read' on "a"`)},
		{"agentr", "PUT", "/v1/agent/reload", ``, 403, denied("agentr", `'agent:write' on "a"`)},
		{"node", "PUT", "/v1/agent/force-leave/b", ``, 403, denied("node", `'operator:write'`)},
		{"node", "GET", "/v1/agent/host", ``, 403, denied("node", `'operator:read'`)},
		{"agentr", "PUT", "/v1/agent/token/default", `{"Token":"s"}`, 403, denied("agentr", `'agent:write' on "a"`)},
		{"node", "PUT", "/v1/agent/token/default", `{"Token":"s"}`, 200, ""},
		{"node", "PUT", "/v1/agent/token/bogus", `{"Token":"s"}`, 404, `Token "bogus" is unknown`},
		{"node", "PUT", "/v1/agent/token/agent", ``, 400, `Request decode failed: EOF`},
	} {
		path := c.path
		if c.token != "" {
			sep := "?"
			if strings.Contains(path, "?") {
				sep = "&"
			}
			path += sep + "token=" + c.token
		}
		w := n.ask(t, c.method, path, c.body)
		if w.Code != c.code || c.want != "" && w.Body.String() != c.want {
			t.Errorf("%s %s as %q: %d %s, want %d %s", c.method, c.path, c.token, w.Code, w.Body, c.code, c.want)
		}
	}
	if f.set["default"] != "s" || len(f.set) != 1 {
		t.Errorf("tokens set: %v", f.set)
	}
	// Lists leave out what may not be seen, and say so to who is somebody.
	for _, c := range []struct {
		token, path, shows, hides string
		told                      bool
	}{
		{"web", "/v1/agent/services", `"web"`, `"api"`, true},
		{"web", "/v1/agent/checks", `"service:web"`, `"n"`, true},
		{"node", "/v1/agent/checks", `"n"`, `"service:web"`, true},
		{"reader", "/v1/agent/services", `"api"`, "", false},
		{"other", "/v1/agent/members", `[]`, `"a"`, true},
	} {
		w := n.ask(t, "GET", c.path+"?token="+c.token, "")
		s := w.Body.String()
		if w.Code != 200 || !strings.Contains(s, c.shows) || c.hides != "" && strings.Contains(s, c.hides) || (w.Header().Get("X-Consul-Results-Filtered-By-ACLs") == "true") != c.told {
			t.Errorf("%s as %s: %d %s %v", c.path, c.token, w.Code, s, w.Header())
		}
	}
}
