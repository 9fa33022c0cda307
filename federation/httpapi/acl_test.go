package httpapi

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"landbridge/forwarding/endpoint"
	"landbridge/forwarding/endpoint/authmethod"
	"landbridge/forwarding/identity"
	"landbridge/store"
	"landbridge/store/acl"
	"landbridge/store/state"
)

// frontTokens is the agent's part of access control on a server.
type frontTokens struct{ *identity.State }

func (f frontTokens) Resolve(ctx context.Context, secret string) (*acl.Bearer, error) {
	return f.State.Resolve(ctx, secret, nil, false)
}
func (frontTokens) SetToken(kind, secret string) error { return nil }

const rootSecret = "11111111-2222-3333-4444-555555555555"

// aclNode is a testNode with access control, denying by default.
type aclNode struct {
	*testNode
	reset store.Index // what an operator has put into the file
	mu    sync.Mutex
	audit []string // the lines of the audit log
	set   *endpoint.Set
}

func (n *aclNode) keep(line []byte) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.audit = append(n.audit, string(line))
	return nil
}

// told are the lines of the audit log from one on.
func (n *aclNode) told(from int) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.audit[from:])
}

// newACLNode returns a datacenter with its built-in records, bootstrapped if so.
func newACLNode(t testing.TB, bootstrapped bool) *aclNode {
	t.Helper()
	n := new(aclNode)
	var who *identity.State
	set, st := newDatacenter(t, "dc1", "a", func(cfg *endpoint.Config) {
		var err error
		if who, err = identity.NewState(identity.Config{Datacenter: "dc1", State: cfg.State, NodeName: "a", Defaults: acl.Defaults{}}); err != nil {
			t.Fatal(err)
		}
		cfg.Tokens = who
	})
	n.set = set
	set.HandleACL(&endpoint.ACL{Primary: func() string { return "dc1" }, LocalTokens: true, Node: "a", DefaultPolicy: "deny", DownPolicy: "extend-cache", Methods: authmethod.New(),
		Audit:          n.keep,
		BootstrapReset: func() (store.Index, func() error) { return n.reset, func() error { n.reset = 0; return nil } }})
	anonymous := &store.ACLToken{AccessorID: store.AnonymousAccessor, SecretID: store.AnonymousSecret, Description: "Anonymous Token"}
	cmd := store.ACLCommand{Changes: []store.ACLChange{
		store.SetACL(store.ACLCreate, &store.ACLPolicy{ID: store.ManagementPolicyID, Name: store.ManagementPolicyName, Rules: acl.GlobalManagement}),
		store.SetACL(store.ACLCreate, &store.ACLPolicy{ID: store.ReadOnlyPolicyID, Name: store.ReadOnlyPolicyName, Rules: acl.GlobalReadOnly}),
		store.SetACL(store.ACLCreate, anonymous)}}
	n.apply(t, st, store.CmdACL, cmd.AppendWire(nil))
	n.testNode = nodeOver(t, set, st, func(c *Config) { c.ACL, c.DefaultDeny = frontTokens{who}, true })
	if bootstrapped {
		if w := n.ask(t, "PUT", "/v1/acl/bootstrap", `{"BootstrapSecret":"`+rootSecret+`"}`); w.Code != 200 {
			t.Fatalf("bootstrap: %d %s", w.Code, w.Body)
		}
	}
	return n
}

func (n *aclNode) apply(t testing.TB, st *state.Store, kind store.CommandKind, payload []byte) {
	t.Helper()
	var res [1]store.Result
	st.Apply([]store.Command{{Kind: kind, Payload: payload, UnixNano: time.Now().UnixNano()}}, res[:])
	if res[0].Err != nil {
		t.Fatal(res[0].Err)
	}
}

// as sends a request with a token and returns status and body.
func (n *aclNode) as(t testing.TB, secret, method, path, body string) (int, string) {
	t.Helper()
	var headers []string
	if secret != "" {
		headers = append(headers, "X-Consul-Token: "+secret)
	}
	w := n.ask(t, method, path, body, headers...)
	return w.Code, w.Body.String()
}

// make is as for the management token, decoding what was made.
func (n *aclNode) make(t testing.TB, path, body string) map[string]any {
	t.Helper()
	code, text := n.as(t, rootSecret, "PUT", path, body)
	var v map[string]any
	if err := json.Unmarshal([]byte(text), &v); code != 200 || err != nil {
		t.Fatalf("PUT %s %s: %d %s", path, body, code, text)
	}
	return v
}

func TestBootstrap(t *testing.T) {
	n := newACLNode(t, false)
	if code, body := n.as(t, rootSecret, "GET", "/v1/kv/x", ""); code != 403 || !strings.HasPrefix(body, "ACL system must be bootstrapped before making any requests") {
		t.Errorf("before: %d %s", code, body)
	}
	code, body := n.as(t, "", "PUT", "/v1/acl/bootstrap", "")
	var tok struct {
		AccessorID, SecretID, Description string
		Policies                          []struct{ ID, Name string }
	}
	if err := json.Unmarshal([]byte(body), &tok); code != 200 || err != nil || tok.Description != "Bootstrap Token (Global Management)" ||
		len(tok.Policies) != 1 || tok.Policies[0].Name != "global-management" {
		t.Fatalf("%d %s", code, body)
	}
	code, body = n.as(t, "", "PUT", "/v1/acl/bootstrap", "")
	index := regexp.MustCompile(`^Permission denied: ACL bootstrap no longer allowed \(reset index: (\d+)\)$`).FindStringSubmatch(body)
	if code != 403 || index == nil {
		t.Fatalf("second: %d %s", code, body)
	}
	at, _ := strconv.ParseUint(index[1], 10, 64)
	for _, wrong := range []uint64{at - 1, at + 1} {
		n.reset = store.Index(wrong)
		if code, _ := n.as(t, "", "PUT", "/v1/acl/bootstrap", ""); code != 403 || n.reset == 0 {
			t.Errorf("reset with %d: %d, file used up: %v", wrong, code, n.reset == 0)
		}
	}
	n.reset = store.Index(at)
	if code, body := n.as(t, "", "PUT", "/v1/acl/bootstrap", `{"BootstrapSecret":"`+rootSecret+`"}`); code != 200 || !strings.Contains(body, rootSecret) || n.reset != 0 {
		t.Errorf("reset: %d %s", code, body)
	}
	if code, _ := n.as(t, tok.SecretID, "GET", "/v1/acl/tokens", ""); code != 200 {
		t.Errorf("the first token: %d", code)
	}
}

// TestACLRefusals is the table of errors that clients match (spec http-acl).
func TestACLRefusals(t *testing.T) {
	n := newACLNode(t, true)
	n.make(t, "/v1/acl/policy", `{"Name":"p1","Rules":"key \"a\" { policy = \"read\" }"}`)
	role := n.make(t, "/v1/acl/role", `{"Name":"r1","Policies":[{"Name":"p1"}]}`)
	tok := n.make(t, "/v1/acl/token", `{"Description":"t"}`)
	id, secret := tok["AccessorID"].(string), tok["SecretID"].(string)
	reader := n.make(t, "/v1/acl/token", `{"Policies":[{"Name":"builtin/global-read-only"}]}`)["SecretID"].(string)
	_, self := n.as(t, rootSecret, "GET", "/v1/acl/token/self", "")
	var root struct{ AccessorID string }
	if err := json.Unmarshal([]byte(self), &root); err != nil {
		t.Fatal(err)
	}
	_, pubPEM := newKey(t)
	n.make(t, "/v1/acl/auth-method", `{"Name":"jw","Type":"jwt","Config":{"JWTSupportedAlgs":["ES256"],"JWTValidationPubKeys":["`+strings.ReplaceAll(pubPEM, "\n", `\n`)+`"],"ClaimMappings":{"sub":"name"}}}`)
	if never := n.make(t, "/v1/acl/token", `{"ExpirationTime":"9999-01-01T00:00:00Z"}`)["ExpirationTime"]; never != "2262-04-11T23:47:16.854775807Z" {
		t.Errorf("a token until the year 9999 lasts until %v", never)
	}
	const none = "99999999-9999-9999-9999-999999999999"
	for _, tt := range []struct {
		as, method, path, body string
		code                   int
		want                   string
	}{
		{rootSecret, "PUT", "/v1/acl/token", `{"Policies":[{"Name":"nope"}]}`, 500, `No such ACL policy with name "nope"`},
		{rootSecret, "PUT", "/v1/acl/token", `{"Policies":[{"ID":"` + none + `"}]}`, 500, `No such ACL policy with ID "` + none + `"`},
		{rootSecret, "PUT", "/v1/acl/token", `{"Roles":[{"Name":"nope"}]}`, 500, `No such ACL role with name "nope"`},
		{rootSecret, "PUT", "/v1/acl/token", `{"TemplatedPolicies":[{"TemplateName":"nope"}]}`, 500, `no such ACL templated policy with Name "nope"`},
		{rootSecret, "PUT", "/v1/acl/token", `{"TemplatedPolicies":[{"TemplateName":"builtin/service"}]}`, 500, `validation error for templated policy "builtin/service": `},
		{rootSecret, "PUT", "/v1/acl/token", `{"AccessorID":"x"}`, 500, `Invalid Token: AccessorID - not a valid UUID`},
		{rootSecret, "PUT", "/v1/acl/token", `{"SecretID":"x"}`, 500, `Invalid Token: SecretID - not a valid UUID`},
		{rootSecret, "PUT", "/v1/acl/token", `{"AccessorID":"` + id + `"}`, 500, `Invalid Token: AccessorID is already in use`},
		{rootSecret, "PUT", "/v1/acl/token", `{"SecretID":"` + secret + `"}`, 500, `Invalid Token: SecretID is already in use`},
		{rootSecret, "PUT", "/v1/acl/token", `{"ExpirationTTL":"10s"}`, 500, `ExpirationTime cannot be less than 1m0s in the future (was 10s)`},
		{rootSecret, "PUT", "/v1/acl/token", `{"ExpirationTime":"1500-01-01T00:00:00Z"}`, 500, `ExpirationTime cannot be less than 1m0s in the future (was -`},
		{rootSecret, "PUT", "/v1/acl/token", `{"Local":true,"ServiceIdentities":[{"ServiceName":"web","Datacenters":["dc1"]}]}`, 500, `Service identity "web" cannot specify a list of datacenters on a local token`},
		{rootSecret, "PUT", "/v1/acl/token", `{"ServiceIdentities":[{"ServiceName":"Web_X"}]}`, 500, `Service identity "Web_X" has an invalid name. Only lowercase alphanumeric characters, '-' and '_' are allowed`},
		{rootSecret, "PUT", "/v1/acl/token", `{"NodeIdentities":[{"NodeName":"n"}]}`, 500, `Node identity is missing the datacenter field on this token`},
		{rootSecret, "PUT", "/v1/acl/token", `{"Bogus":1}`, 400, `Token decoding failed: json: unknown field "Bogus"`},
		{rootSecret, "PUT", "/v1/acl/token", ``, 400, `Token decoding failed: EOF`},
		{rootSecret, "PUT", "/v1/acl/token", `{"Namespace":"x"}`, 400, `Token decoding failed: json: unknown field "Namespace"`},
		{rootSecret, "PUT", "/v1/acl/token", `{"AuthMethod":"jw"}`, 500, `AuthMethod field is disallowed outside of login`},
		{rootSecret, "PUT", "/v1/acl/token/" + none, `{}`, 500, `Cannot find token "` + none + `"`},
		{rootSecret, "PUT", "/v1/acl/token/" + id, `{"Local":true}`, 500, `Cannot toggle local mode of ` + id},
		{rootSecret, "PUT", "/v1/acl/token/" + id, `{"SecretID":"` + none + `"}`, 500, `Changing a token's SecretID is not permitted`},
		{rootSecret, "PUT", "/v1/acl/token/" + id, `{"AccessorID":"` + none + `"}`, 400, `Token Accessor ID in URL and payload do not match`},
		{rootSecret, "PUT", "/v1/acl/token/" + id, `{"ExpirationTTL":"5m"}`, 500, `Cannot change expiration time of ` + id},
		{rootSecret, "GET", "/v1/acl/token/" + none, ``, 403, `token does not exist: ACL not found`},
		{rootSecret, "GET", "/v1/acl/token/x", ``, 500, `failed acl token lookup: index error: UUID must be 36 characters`},
		{rootSecret, "GET", "/v1/acl/token/", ``, 400, `Missing token AccessorID`},
		{"", "GET", "/v1/acl/token/self", ``, 403, `token does not exist: ACL not found`},
		{none, "GET", "/v1/acl/token/self", ``, 403, `token does not exist: ACL not found`},
		{rootSecret, "DELETE", "/v1/acl/token/self", ``, 405, `method DELETE not allowed`},
		{rootSecret, "PUT", "/v1/acl/token/" + none + "/clone", `{}`, 403, `token does not exist: ACL not found`},
		{rootSecret, "DELETE", "/v1/acl/token/" + none, ``, 404, `Cannot find token to delete`},
		{rootSecret, "DELETE", "/v1/acl/token/" + store.AnonymousAccessor, ``, 500, `Delete operation not permitted on the anonymous token`},
		{rootSecret, "DELETE", "/v1/acl/token/" + root.AccessorID, ``, 500, `Deletion of the request's authorization token is not permitted`},
		{rootSecret, "DELETE", "/v1/acl/token/x", ``, 500, `Token ID is missing or an invalid UUID`},
		{rootSecret, "GET", "/v1/acl/tokens?policy=" + none + "&authmethod=x", ``, 500, `can only filter by one of policy, role, serviceName, or methodName at a time`},

		{rootSecret, "PUT", "/v1/acl/policy", `{"ID":"` + none + `"}`, 400, `Cannot specify the ID when creating a new policy`},
		{rootSecret, "PUT", "/v1/acl/policy", `{}`, 500, `Invalid Policy: no Name is set`},
		{rootSecret, "PUT", "/v1/acl/policy", `{"Name":"p1"}`, 500, `Invalid Policy: A Policy with Name "p1" already exists`},
		{rootSecret, "PUT", "/v1/acl/policy", `{"Name":"a b"}`, 500, `Invalid Policy: invalid Name. Only alphanumeric characters, a single '/', '-' and '_' are allowed`},
		{rootSecret, "PUT", "/v1/acl/policy", `{"Name":"builtin/x"}`, 500, `Invalid Policy: invalid Name. Names cannot be prefixed with '/' or 'builtin/'`},
		{rootSecret, "PUT", "/v1/acl/policy", `{"Name":"p2","Rules":"key \"a\" {"}`, 500, `Failed to parse ACL rules: `},
		{rootSecret, "PUT", "/v1/acl/policy", `{"Name":"p2","Rules":"key \"x\" { policy = \"bogus\" }"}`, 500, `Invalid key policy: `},
		{rootSecret, "PUT", "/v1/acl/policy", ``, 400, `Policy decoding failed: EOF`},
		{rootSecret, "PUT", "/v1/acl/policy/" + none, `{"Name":"x"}`, 500, `cannot find policy ` + none},
		{rootSecret, "PUT", "/v1/acl/policy/" + store.ManagementPolicyID, `{"Name":"global-management","Rules":""}`, 500, `Changing the Rules for the builtin global-management policy is not permitted`},
		{rootSecret, "DELETE", "/v1/acl/policy/" + store.ManagementPolicyID, ``, 500, `Delete operation not permitted on the builtin global-management policy`},
		{rootSecret, "DELETE", "/v1/acl/policy/" + none, ``, 200, `true`},
		{rootSecret, "DELETE", "/v1/acl/policy/", ``, 400, `Missing policy ID`},
		{rootSecret, "GET", "/v1/acl/policy/" + none, ``, 404, `Requested policy does not exist: ACL not found`},
		{rootSecret, "GET", "/v1/acl/policy/name/nope", ``, 404, `Requested policy does not exist: ACL not found`},
		{rootSecret, "GET", "/v1/acl/policy/x", ``, 500, `failed acl policy lookup: index error: UUID must be 36 characters`},

		{rootSecret, "PUT", "/v1/acl/role", `{}`, 500, `Invalid Role: no Name is set`},
		{rootSecret, "PUT", "/v1/acl/role", `{"Name":"r1"}`, 500, `Invalid Role: A Role with Name "r1" already exists`},
		{rootSecret, "GET", "/v1/acl/role/" + none, ``, 404, `Requested role does not exist: ACL not found`},
		{rootSecret, "DELETE", "/v1/acl/role/" + none, ``, 200, `true`},

		{rootSecret, "PUT", "/v1/acl/auth-method", `{}`, 500, `Invalid Auth Method: no Name is set`},
		{rootSecret, "PUT", "/v1/acl/auth-method", `{"Name":"x","Type":"oidc"}`, 500, `Invalid Auth Method: Type should be one of: [aws-iam jwt kubernetes]`},
		{rootSecret, "PUT", "/v1/acl/auth-method", `{"Name":"x","Type":"jwt","Config":{}}`, 500, `exactly one of 'JWTValidationPubKeys', 'JWKSURL', or 'OIDCDiscoveryURL' must be set for type "jwt"`},
		{rootSecret, "PUT", "/v1/acl/auth-method", `{"Name":"x","Type":"kubernetes"}`, 500, `Config.Host is required`},
		{rootSecret, "GET", "/v1/acl/auth-method/nope", ``, 404, `Requested auth method does not exist: ACL not found`},
		{rootSecret, "DELETE", "/v1/acl/auth-method/nope", ``, 404, `Cannot find auth method to delete`},
		{rootSecret, "PUT", "/v1/acl/binding-rule", `{"AuthMethod":"nope"}`, 500, `cannot find auth method with name "nope"`},
		{rootSecret, "PUT", "/v1/acl/binding-rule", `{"AuthMethod":"jw","BindType":"role"}`, 500, `Invalid Binding Rule: no BindName is set`},
		{rootSecret, "PUT", "/v1/acl/binding-rule", `{"AuthMethod":"jw","BindType":"bogus","BindName":"x"}`, 500, `Invalid Binding Rule: invalid BindName or BindVars: unknown BindType "bogus"`},
		{rootSecret, "PUT", "/v1/acl/binding-rule", `{"AuthMethod":"jw","BindType":"role","BindName":"${bogus}"}`, 500, `Invalid Binding Rule: invalid BindName or BindVars: unknown variable accessed: bogus`},
		{rootSecret, "GET", "/v1/acl/binding-rule/" + none, ``, 404, `Requested binding rule does not exist: ACL not found`},

		{"", "POST", "/v1/acl/login", `{"AuthMethod":"nope","BearerToken":"x"}`, 403, `ACL not found: auth method "nope" not found`},
		{"", "POST", "/v1/acl/login", `{"AuthMethod":"jw"}`, 500, `missing jwt`},
		{"", "PUT", "/v1/acl/login", ``, 405, `method PUT not allowed`},
		{"", "POST", "/v1/acl/logout", ``, 401, `Supplied token does not exist`},
		{rootSecret, "POST", "/v1/acl/logout", ``, 403, `Permission denied: token wasn't created via login`},
		{none, "POST", "/v1/acl/logout", ``, 403, `ACL not found`},

		{rootSecret, "GET", "/v1/acl/templated-policy/name/builtin/nope", ``, 400, `Invalid templated policy Name: builtin/nope`},
		{rootSecret, "POST", "/v1/acl/templated-policy/preview/builtin/service", `{"Name":""}`, 400, `validation error for templated policy`},
		{rootSecret, "PUT", "/v1/acl/create", `{}`, 404, `Invalid URL path`},
		{rootSecret, "GET", "/v1/acl/list", ``, 404, `Invalid URL path`},

		// Rights.
		{"", "GET", "/v1/acl/tokens", ``, 403, `Permission denied: anonymous token lacks permission 'acl:read'`},
		{secret, "GET", "/v1/acl/policies", ``, 403, `Permission denied: token with AccessorID '` + id + `' lacks permission 'acl:read'`},
		{reader, "PUT", "/v1/acl/token", `{}`, 403, `Permission denied: token with AccessorID '`},
		{reader, "DELETE", "/v1/acl/role/" + role["ID"].(string), ``, 403, `Permission denied: token with AccessorID '`},
		{none, "GET", "/v1/acl/tokens", ``, 403, `ACL not found`},
	} {
		code, body := n.as(t, tt.as, tt.method, tt.path, tt.body)
		if code != tt.code || !strings.HasPrefix(body, tt.want) {
			t.Errorf("%s %s %s:\n got %d %s\nwant %d %s", tt.method, tt.path, tt.body, code, body, tt.code, tt.want)
		}
	}
}

// newKey returns a key and its public part in PEM.
func newKey(t testing.TB) (*ecdsa.PrivateKey, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return key, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// Links keep their ids, and show the names of now.
func TestLinksFollow(t *testing.T) {
	n := newACLNode(t, true)
	p := n.make(t, "/v1/acl/policy", `{"Name":"p1"}`)["ID"].(string)
	r := n.make(t, "/v1/acl/role", `{"Name":"r1","Policies":[{"ID":"`+p+`"},{"Name":"p1"}]}`)["ID"].(string)
	tok := n.make(t, "/v1/acl/token", `{"Policies":[{"Name":"P1"}],"Roles":[{"Name":"r1"}],"ServiceIdentities":[{"ServiceName":"a","Datacenters":["dc2"]},{"ServiceName":"a","Datacenters":["dc1"]}]}`)
	id := tok["AccessorID"].(string)
	has := func(path string, want ...string) {
		t.Helper()
		code, body := n.as(t, rootSecret, "GET", path, "")
		for _, w := range want {
			if code != 200 || !strings.Contains(body, w) {
				t.Errorf("GET %s: %d %s; want %s", path, code, body, w)
			}
		}
	}
	has("/v1/acl/role/"+r, `"Policies":[{"ID":"`+p+`","Name":"p1"}],"Hash"`)
	has("/v1/acl/token/"+id, `"Policies":[{"ID":"`+p+`","Name":"p1"}],"Roles":[{"ID":"`+r+`","Name":"r1"}],"ServiceIdentities":[{"ServiceName":"a","Datacenters":["dc1","dc2"]}]`)
	n.make(t, "/v1/acl/policy/"+p, `{"Name":"p9"}`)
	n.make(t, "/v1/acl/role/"+r, `{"Name":"r9"}`)
	has("/v1/acl/token/"+id, `"Policies":[{"ID":"`+p+`","Name":"p9"}],"Roles":[{"ID":"`+r+`","Name":"r9"}]`)
	has("/v1/acl/tokens?policy="+p, id)
	has("/v1/acl/tokens?role="+r, id)
	has("/v1/acl/tokens?servicename=a", id)
	has("/v1/acl/policy/name/p9", p)
	has("/v1/acl/policy/name/builtin%2Fglobal-read-only", store.ReadOnlyPolicyID)
	has("/v1/acl/token/"+id+"?expanded=true", `{"ExpandedPolicies":[{"ID":"`+p, `"synthetic-policy-`, `"ExpandedRoles":[{"ID":"`+r, `"AgentACLDefaultPolicy":"deny","AgentACLDownPolicy":"extend-cache","ResolvedByAgent":"a","AccessorID":"`+id)
	if code, body := n.as(t, rootSecret, "DELETE", "/v1/acl/policy/"+p, ""); code != 200 || body != "true" {
		t.Errorf("delete: %d %s", code, body)
	}
	has("/v1/acl/token/"+id, `"Description":"","Roles":[`)
	clone := n.make(t, "/v1/acl/token/"+id+"/clone", `{"Description":"copy"}`)
	if clone["AccessorID"] == id || clone["SecretID"] == tok["SecretID"] || clone["Description"] != "copy" || len(clone["Roles"].([]any)) != 1 {
		t.Errorf("clone: %v", clone)
	}
	has("/v1/acl/templated-policies", `"builtin/service":{"TemplateName":"builtin/service"`)
	if code, body := n.as(t, rootSecret, "POST", "/v1/acl/templated-policy/preview/builtin/service", `{"Name":"api"}`); code != 200 ||
		!strings.Contains(body, `"Description":"synthetic policy generated from templated policy: builtin/service"`) || !strings.Contains(body, `service \"api\"`) {
		t.Errorf("preview: %d %s", code, body)
	}
}

func TestSecretsAreHidden(t *testing.T) {
	n := newACLNode(t, true)
	reader := n.make(t, "/v1/acl/token", `{"Policies":[{"Name":"builtin/global-read-only"}]}`)
	id, secret := reader["AccessorID"].(string), reader["SecretID"].(string)
	for _, path := range []string{"/v1/acl/tokens", "/v1/acl/token/" + id, "/v1/acl/token/" + id + "?expanded=true"} {
		code, body := n.as(t, secret, "GET", path, "")
		if code != 200 || strings.Contains(body, secret) || strings.Contains(body, rootSecret) || !strings.Contains(body, `"SecretID":"\u003chidden\u003e"`) {
			t.Errorf("GET %s by a reader: %d %s", path, code, body)
		}
		if _, body := n.as(t, rootSecret, "GET", path, ""); !strings.Contains(body, secret) {
			t.Errorf("GET %s by a writer: %s", path, body)
		}
	}
	if code, body := n.as(t, secret, "GET", "/v1/acl/token/self", ""); code != 200 || !strings.Contains(body, secret) {
		t.Errorf("self: %d %s", code, body)
	}
	if code, body := n.as(t, secret, "POST", "/v1/internal/acl/authorize", `[{"Resource":"key","Segment":"x","Access":"write"},{"Resource":"acl","Access":"read"}]`); code != 200 ||
		body != `[{"Resource":"key","Access":"write","Segment":"x","Allow":false},{"Resource":"acl","Access":"read","Allow":true}]` {
		t.Errorf("authorize: %d %s", code, body)
	}
	if code, body := n.as(t, "", "GET", "/v1/acl/replication", ""); code != 200 || body != `{"Enabled":false,"Running":false,"SourceDatacenter":"","ReplicationType":"","ReplicatedIndex":0,"ReplicatedRoleIndex":0,"ReplicatedTokenIndex":0,"LastSuccess":"0001-01-01T00:00:00Z","LastError":"0001-01-01T00:00:00Z","LastErrorMessage":""}` {
		t.Errorf("replication: %d %s", code, body)
	}
}

// TestAudit: each write of access control is told with who did it, and no secret, and
// so is what a token has no right to.
func TestAudit(t *testing.T) {
	n := newACLNode(t, true)
	policy := n.make(t, "/v1/acl/policy", `{"Name":"p1","Rules":"key \"a\" { policy = \"read\" }"}`)
	token := n.make(t, "/v1/acl/token", `{"Description":"d","Policies":[{"Name":"p1"}]}`)
	secret := token["SecretID"].(string)
	for _, c := range []struct{ secret, method, path, body string }{
		{rootSecret, "PUT", "/v1/acl/policy/" + policy["ID"].(string), `{"Name":"p1","Rules":""}`},
		{rootSecret, "PUT", "/v1/acl/policy", `{"Name":"p1"}`}, // refused: there is one
		{rootSecret, "PUT", "/v1/acl/token/" + token["AccessorID"].(string) + "/clone", `{}`},
		{rootSecret, "DELETE", "/v1/acl/token/" + token["AccessorID"].(string), ""},
		{rootSecret, "GET", "/v1/acl/tokens", ""},      // changes nothing
		{"", "PUT", "/v1/acl/policy", `{"Name":"p2"}`}, // may not
		{"", "PUT", "/v1/kv/a", "x"},                   // nor that
		{rootSecret, "GET", "/v1/kv/none", ""},         // is not there
	} {
		n.as(t, c.secret, c.method, c.path, c.body)
	}
	var got []string
	for _, text := range n.told(0) {
		if strings.Contains(text, secret) || strings.Contains(text, rootSecret) {
			t.Errorf("a secret is in %s", text)
		}
		var line endpoint.AuditLine
		if err := json.Unmarshal([]byte(text), &line); err != nil || !strings.HasSuffix(text, "}\n") || strings.Count(text, "\n") != 1 {
			t.Errorf("not a line of JSON: %q: %v", text, err)
		}
		if line.Time.IsZero() || line.Datacenter != "dc1" || line.Node != "a" || line.From != "" || line.OK != (line.Error == "") {
			t.Errorf("line %s", text)
		}
		who := "root"
		if line.Accessor == store.AnonymousAccessor || line.Accessor == "" {
			who = "nobody"
		}
		if line.OK && line.ID == "" {
			t.Errorf("no id in %s", text)
		}
		got = append(got, strings.TrimSpace(who+" "+line.Operation+" "+line.Kind+" "+line.Name+" "+strconv.FormatBool(line.OK)))
	}
	want := []string{"nobody bootstrap token  true", "root create policy p1 true", "root create token  true", "root update policy p1 true",
		"root create policy  false", "root clone token  true", "root delete token  true", "nobody request ACL.Apply  false", "nobody request KV.Apply  false"}
	if !slices.Equal(got, want) {
		t.Errorf("audit lines:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestAuditOfFloods: who asks again and again for what it may not have is told of a few
// times a minute and counted beyond that, and hides nobody else.
func TestAuditOfFloods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newACLNode(t, true)
		n.make(t, "/v1/acl/policy", `{"Name":"p1","Rules":"key \"a\" { policy = \"read\" }"}`)
		token := n.make(t, "/v1/acl/token", `{"Policies":[{"Name":"p1"}]}`)
		secret, accessor := token["SecretID"].(string), token["AccessorID"].(string)
		begin := len(n.told(0))
		lines := func() (got []string) {
			for _, text := range n.told(begin) {
				var line endpoint.AuditLine
				if err := json.Unmarshal([]byte(text), &line); err != nil || line.OK || line.Error == "" {
					t.Errorf("%s: %v", text, err)
				}
				who := map[string]string{accessor: "reader", store.AnonymousAccessor: "anonymous", "": "nobody"}[line.Accessor]
				got = append(got, strings.TrimSpace(fmt.Sprint(who, " ", line.Kind, " ", line.Count)))
			}
			begin = len(n.told(0))
			slices.Sort(got)
			return got
		}
		expect := func(when string, want ...string) {
			t.Helper()
			slices.Sort(want)
			if got := lines(); !slices.Equal(got, want) {
				t.Errorf("%s:\n%s\nwant\n%s", when, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}
		for range 50 {
			if code, _ := n.as(t, secret, "PUT", "/v1/kv/a", "x"); code != 403 {
				t.Fatalf("a write without the right: %d", code)
			}
		}
		n.as(t, "", "PUT", "/v1/kv/a", "x")
		n.as(t, secret, "PUT", "/v1/txn", `[{"KV":{"Verb":"get","Key":"a"}},{"KV":{"Verb":"set","Key":"a","Value":""}},{"KV":{"Verb":"set","Key":"b","Value":""}}]`)
		n.as(t, "99999999-2222-3333-4444-555555555555", "GET", "/v1/kv/a", "")
		expect("at once", "reader KV.Apply 0", "reader KV.Apply 0", "reader KV.Apply 0", "anonymous KV.Apply 0", "reader Txn.Apply 0", "nobody KV.Get 0")
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		expect("after a minute", "reader KV.Apply 47")
		time.Sleep(time.Hour)
		synctest.Wait()
		expect("later")

		// More tokens than are told apart.
		for range 100 {
			secret := n.make(t, "/v1/acl/token", `{}`)["SecretID"].(string)
			n.as(t, secret, "PUT", "/v1/kv/a", "x")
		}
		var first int
		for _, text := range n.told(begin) {
			if strings.Contains(text, `"KV.Apply"`) {
				first++
			}
		}
		if begin = len(n.told(0)); first != 32 {
			t.Errorf("%d of 100 refusals are told one by one, want 32", first)
		}
		n.set.Stop()
		expect("at the end", "nobody  68")
		for range 10 {
			n.as(t, secret, "PUT", "/v1/kv/a", "x")
		}
		expect("after the end")
		for _, text := range n.told(0) {
			if strings.Contains(text, secret) || strings.Contains(text, rootSecret) || strings.Contains(text, "99999999-") {
				t.Errorf("a secret is in %s", text)
			}
		}
	})
}
