package federationtest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"landbridge/federation/node"
)

const managementSecret = "11111111-2222-3333-4444-555555555555"

// withACLs turns ACLs on; primary "" is the datacenter's own.
func withACLs(primary string) func(*node.Config) {
	return func(c *node.Config) {
		c.Primary = primary
		c.ACL = node.ACL{Enabled: true, DefaultPolicy: "deny", DownPolicy: "extend-cache",
			TokenTTL: 30 * time.Second, PolicyTTL: 30 * time.Second, RoleTTL: 30 * time.Second}
		c.ACL.Tokens.Agent, c.ACL.Tokens.AgentRecovery = managementSecret, "glass"
		if primary == c.Datacenter {
			c.ACL.Tokens.InitialManagement = managementSecret
		}
	}
}

// as is a call with a token.
func as(h *Host, token, method, path, body string) *Reply {
	sep := "?"
	if strings.Contains(path, "?") {
		sep = "&"
	}
	if token != "" {
		path += sep + "token=" + token
	}
	r, err := h.Call(context.Background(), method, path, body)
	if err != nil {
		return &Reply{Code: -1, Body: err.Error()}
	}
	return r
}

func newToken(f *Federation, h *Host, body string) (secret, accessor string) {
	f.T.Helper()
	r := as(h, managementSecret, "PUT", "/v1/acl/token", body)
	var t struct{ SecretID, AccessorID string }
	if r.Code != 200 || json.Unmarshal([]byte(r.Body), &t) != nil {
		f.T.Fatalf("PUT /v1/acl/token: %d %s", r.Code, r.Body)
	}
	return t.SecretID, t.AccessorID
}

// The same question gets the same answer whoever is asked: leader, follower,
// client agent, or an agent of another datacenter; fresh, stale, cached or
// blocking.
func TestRightsAreTheSameEverywhere(t *testing.T) {
	Run(t, func(f *Federation) {
		east, west := f.DC("east"), f.DC("west")
		leader := east.AwaitLeader(30 * time.Second)
		f.Await(30*time.Second, "the first token", func() error {
			if r := as(leader, managementSecret, "GET", "/v1/acl/tokens", ""); r.Code != 200 {
				return fmt.Errorf("%d %s", r.Code, r.Body)
			}
			return nil
		})
		west.AwaitLeader(30 * time.Second)
		// A secondary knows no token until it has met the primary: but for the one that
		// needs no server.
		if r := as(west.Server(0), "glass", "PUT", "/v1/agent/join/"+east.Server(0).addr.String()+"?wan=1", ""); r.Code != 200 {
			t.Fatalf("join: %d %s", r.Code, r.Body)
		}
		f.Await(time.Minute, "tokens of the primary in the secondary", func() error {
			if r := as(west.Server(0), managementSecret, "GET", "/v1/agent/self", ""); r.Code != 200 {
				return fmt.Errorf("%d %s", r.Code, r.Body)
			}
			return nil
		})
		for name, rules := range map[string]string{
			"reads":   `key_prefix "" { policy = "read" } service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }`,
			"writes":  `key_prefix "app/" { policy = "write" } service_prefix "" { policy = "write" } node_prefix "" { policy = "read" }`,
			"nothing": ``,
		} {
			body, _ := json.Marshal(map[string]string{"Name": name, "Rules": rules})
			if r := as(leader, managementSecret, "PUT", "/v1/acl/policy", string(body)); r.Code != 200 {
				t.Fatalf("policy %s: %d %s", name, r.Code, r.Body)
			}
		}
		reads, _ := newToken(f, leader, `{"Policies":[{"Name":"reads"}]}`)
		writes, _ := newToken(f, leader, `{"Policies":[{"Name":"writes"}]}`)
		nothing, _ := newToken(f, leader, `{"Policies":[{"Name":"nothing"}]}`)
		short, _ := newToken(f, leader, `{"Policies":[{"Name":"reads"}],"ExpirationTTL":"2m"}`)
		local, _ := newToken(f, leader, `{"Policies":[{"Name":"reads"}],"Local":true}`)
		if r := as(leader, writes, "PUT", "/v1/kv/app/k", "v"); r.Body != "true" {
			t.Fatalf("put: %d %s", r.Code, r.Body)
		}
		if r := as(leader, managementSecret, "PUT", "/v1/catalog/register", `{"Node":"n1","Address":"10.0.0.1","Service":{"Service":"web"}}`); r.Code != 200 {
			t.Fatalf("register: %d %s", r.Code, r.Body)
		}
		follower, client := east.Followers()[0], east.Client(0)
		time.Sleep(5 * time.Second) // all followers have it all
		f.Await(10*time.Second, "the follower has it all", func() error {
			if r := as(follower, writes, "GET", "/v1/catalog/service/web?stale", ""); r.Code != 200 || !strings.Contains(r.Body, "web") {
				return fmt.Errorf("%d %s", r.Code, r.Body)
			}
			return nil
		})
		paths := []struct {
			name   string
			host   *Host
			params string
		}{
			{"leader", leader, ""}, {"follower", follower, ""}, {"follower, stale", follower, "stale"}, {"client", client, ""}, {"client, stale", client, "stale"},
			{"client, cached", client, "cached"}, {"blocking", follower, "index=1"}, {"client, blocking", client, "index=1&wait=1s"},
			{"other datacenter", west.Server(0), "dc=east"}, {"other datacenter, stale", west.Server(0), "dc=east&stale"},
		}
		type want struct {
			status int
			shows  string
		}
		ok, hidden, denied, unknown := want{200, "web"}, want{200, "[]"}, want{403, "Permission denied: "}, want{403, "ACL not found"}
		check := func(token, tokenName, method, path, body string, w want) {
			t.Helper()
			for _, p := range paths {
				if method != http.MethodGet && p.params != "" && !strings.HasPrefix(p.params, "dc=") || strings.HasPrefix(path, "/v1/kv/") && p.params == "cached" {
					continue
				}
				full := path
				if p.params != "" {
					sep := "?"
					if strings.Contains(path, "?") {
						sep = "&"
					}
					full += sep + p.params
				}
				r := as(p.host, token, method, full, body)
				if r.Code != w.status || !strings.Contains(r.Body, w.shows) {
					t.Errorf("%s %s as %s through %s: %d %.200s, want %d %s", method, path, tokenName, p.name, r.Code, r.Body, w.status, w.shows)
				}
				told := r.Header.Get("X-Consul-Results-Filtered-By-ACLs") == "true"
				if shouldTell := w == hidden && token != "" && token != "anonymous"; told != shouldTell && method == http.MethodGet {
					t.Errorf("%s %s as %s through %s: told that something was left out: %v", method, path, tokenName, p.name, told)
				}
				if got := r.Header.Get("X-Consul-Default-ACL-Policy"); got != "deny" {
					t.Errorf("%s through %s: default policy %q", path, p.name, got)
				}
			}
		}
		for _, c := range []struct {
			name, token               string
			service, key, write, txns want
		}{
			{"nobody in particular", "", hidden, denied, denied, want{409, "Permission denied"}},
			{"the anonymous token", "anonymous", hidden, denied, denied, want{409, "Permission denied"}},
			{"a reader", reads, ok, want{200, "app/k"}, denied, want{409, "Permission denied"}},
			{"a writer", writes, ok, want{200, "app/k"}, want{200, "true"}, want{200, "Results"}},
			{"who may nothing", nothing, hidden, denied, denied, want{409, "Permission denied"}},
			{"a manager", managementSecret, ok, want{200, "app/k"}, want{200, "true"}, want{200, "Results"}},
			{"a secret of nobody", "6b7e0000-0000-4000-8000-000000000000", unknown, unknown, unknown, unknown},
			{"a token with an end", short, ok, want{200, "app/k"}, denied, want{409, "Permission denied"}},
		} {
			check(c.token, c.name, "GET", "/v1/health/service/web", "", c.service)
			check(c.token, c.name, "GET", "/v1/catalog/service/web", "", c.service)
			check(c.token, c.name, "GET", "/v1/kv/app/k", "", c.key)
			check(c.token, c.name, "PUT", "/v1/kv/app/w", "x", c.write)
			check(c.token, c.name, "PUT", "/v1/txn", `[{"KV":{"Verb":"set","Key":"app/t","Value":"eA=="}}]`, c.txns)
		}
		// A local token works where it was made, asked for from wherever.
		check(local, "a local token", "GET", "/v1/health/service/web", "", ok)
		if r := as(west.Server(0), local, "GET", "/v1/catalog/nodes", ""); r.Code != 403 || r.Body != "ACL not found" {
			t.Errorf("a local token of another datacenter: %d %s", r.Code, r.Body)
		}
		if r := as(west.Server(0), reads, "GET", "/v1/catalog/nodes", ""); r.Code != 200 || !strings.Contains(r.Body, west.Server(0).Name) {
			t.Errorf("a global token in a secondary: %d %s", r.Code, r.Body)
		}
		// The end of a token is felt everywhere at once, also by agents that keep it.
		time.Sleep(2*time.Minute + time.Second)
		check(short, "an expired token", "GET", "/v1/health/service/web", "", unknown)
		// Deleted, a token is gone where state is, and everywhere when its time to live is over.
		r := as(leader, managementSecret, "GET", "/v1/acl/tokens", "")
		var list []struct{ AccessorID, SecretID string }
		if err := json.Unmarshal([]byte(r.Body), &list); err != nil {
			t.Fatal(err)
		}
		for _, tok := range list {
			if tok.SecretID == reads {
				if r := as(leader, managementSecret, "DELETE", "/v1/acl/token/"+tok.AccessorID, ""); r.Code != 200 {
					t.Fatalf("delete: %d %s", r.Code, r.Body)
				}
			}
		}
		time.Sleep(5 * time.Second)
		f.Await(10*time.Second, "views of a deleted token are dropped", func() error {
			if r := as(client, reads, "GET", "/v1/health/service/web?cached", ""); r.Code != 403 {
				return fmt.Errorf("%d %s", r.Code, r.Body)
			}
			return nil
		})
		check(reads, "a deleted token", "GET", "/v1/health/service/web", "", unknown)
		check(reads, "a deleted token", "PUT", "/v1/kv/app/w", "x", unknown)
		// What a client agent answers by itself.
		for token, status := range map[string]int{"": 403, nothing: 403, managementSecret: 200} {
			if r := as(client, token, "GET", "/v1/agent/self", ""); r.Code != status {
				t.Errorf("agent/self of a client agent: %d %s, want %d", r.Code, r.Body, status)
			}
		}
	}, DC("east", 3).Clients(1).Edit(withACLs("east")), DC("west", 1).Edit(withACLs("east")))
}
