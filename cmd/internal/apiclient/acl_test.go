package apiclient

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

// secured starts a server that denies by default, and returns it with its first
// management token.
func secured(t *testing.T) (*agent, *api.ACLToken) {
	t.Helper()
	a := newAgent(t.TempDir(), "acl", "dc1", "127.21.12.1", map[string]any{"server": true, "bootstrap_expect": 1,
		"acl": map[string]any{"enabled": true, "default_policy": "deny"}})
	a.run(t)
	var root *api.ACLToken
	until(t, 30*time.Second, "the server leads", func() (err error) {
		root, _, err = a.client(t).ACL().Bootstrap()
		return err
	})
	return a, root
}

func (a *agent) as(t *testing.T, secret string) *api.Client {
	t.Helper()
	conf := api.DefaultNonPooledConfig()
	conf.Address, conf.Token = a.IP+":8500", secret
	c, err := api.NewClient(conf)
	must(t, err)
	return c
}

// denied wants an error with a status and words.
func denied(t *testing.T, err error, words string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), words) {
		t.Errorf("got %v, want an error with %q", err, words)
	}
}

func TestACL(t *testing.T) {
	a, root := secured(t)
	acl := a.as(t, root.SecretID).ACL()
	_, _, err := acl.Bootstrap()
	denied(t, err, "Unexpected response code: 403 (Permission denied: ACL bootstrap no longer allowed (reset index: ")

	p, _, err := acl.PolicyCreate(&api.ACLPolicy{Name: "app", Rules: `key_prefix "app/" { policy = "write" }`}, nil)
	must(t, err)
	_, _, err = acl.PolicyCreate(&api.ACLPolicy{Name: "app"}, nil)
	denied(t, err, `500 (Invalid Policy: A Policy with Name "app" already exists)`)
	r, _, err := acl.RoleCreate(&api.ACLRole{Name: "r", Policies: []*api.ACLRolePolicyLink{{Name: "app"}},
		TemplatedPolicies: []*api.ACLTemplatedPolicy{{TemplateName: api.ACLTemplatedPolicyServiceName, TemplateVariables: &api.ACLTemplatedPolicyVariables{Name: "web"}}}}, nil)
	must(t, err)
	tok, _, err := acl.TokenCreate(&api.ACLToken{Description: "t", Roles: []*api.ACLTokenRoleLink{{ID: r.ID}}, ExpirationTTL: time.Hour}, nil)
	must(t, err)
	if tok.ExpirationTime == nil || len(tok.Hash) != 32 || len(tok.Roles) != 1 || tok.Roles[0].Name != "r" {
		t.Errorf("token %+v", tok)
	}
	user := a.as(t, tok.SecretID)
	_, err = user.KV().Put(&api.KVPair{Key: "app/x", Value: []byte("1")}, nil)
	must(t, err)
	_, err = user.KV().Put(&api.KVPair{Key: "other", Value: []byte("1")}, nil)
	denied(t, err, "403 (Permission denied: token with AccessorID '"+tok.AccessorID+"' lacks permission 'key:write' on \"other\")")

	// A change of the policy is felt by the next request.
	p.Rules = `key_prefix "app/" { policy = "read" }`
	p, _, err = acl.PolicyUpdate(p, nil)
	must(t, err)
	_, err = user.KV().Put(&api.KVPair{Key: "app/x", Value: []byte("2")}, nil)
	denied(t, err, "lacks permission 'key:write'")

	self, _, err := user.ACL().TokenReadSelf(nil)
	must(t, err)
	if self.AccessorID != tok.AccessorID || self.SecretID != tok.SecretID {
		t.Errorf("self is %+v", self)
	}
	full, _, err := acl.TokenReadExpanded(tok.AccessorID, nil)
	must(t, err)
	if len(full.ExpandedPolicies) != 2 || len(full.ExpandedRoles) != 1 || full.AgentACLDefaultPolicy != "deny" || full.ResolvedByAgent != "acl" {
		t.Errorf("expanded %+v", full)
	}
	self.Description = "changed"
	upd, _, err := acl.TokenUpdate(self, nil)
	must(t, err)
	if upd.Description != "changed" || upd.ModifyIndex <= tok.ModifyIndex || upd.CreateIndex != tok.CreateIndex {
		t.Errorf("updated %+v", upd)
	}
	clone, _, err := acl.TokenClone(tok.AccessorID, "copy", nil)
	must(t, err)
	list, _, err := acl.TokenListFiltered(api.ACLTokenFilterOptions{Role: r.ID}, nil)
	must(t, err)
	if len(list) != 2 {
		t.Errorf("%d tokens have the role, want 2", len(list))
	}
	_, err = acl.TokenDelete(clone.AccessorID, nil)
	must(t, err)
	_, err = acl.TokenDelete(clone.AccessorID, nil)
	denied(t, err, "404 (Cannot find token to delete)")
	_, _, err = acl.TokenRead(clone.AccessorID, nil)
	denied(t, err, "403 (token does not exist: ACL not found)")
	_, err = acl.TokenDelete(root.AccessorID, nil)
	denied(t, err, "500 (Deletion of the request's authorization token is not permitted)")

	if got, _, err := acl.PolicyReadByName("none", nil); got != nil || err != nil {
		t.Errorf("a missing policy is %v, %v; the client knows it as nothing", got, err)
	}
	if got, _, err := acl.RoleReadByName("r", nil); err != nil || got == nil || got.ID != r.ID {
		t.Errorf("role by name: %v, %v", got, err)
	}
	templates, _, err := acl.TemplatedPolicyList(nil)
	must(t, err)
	if templates[api.ACLTemplatedPolicyDNSName].Template == "" {
		t.Errorf("templates %v", templates)
	}
	st, _, err := acl.Replication(nil)
	if err != nil || st.Enabled || !st.LastSuccess.IsZero() {
		t.Errorf("replication %+v, %v", st, err)
	}
	_, _, err = a.client(t).ACL().TokenList(nil)
	denied(t, err, "403 (Permission denied: anonymous token lacks permission 'acl:read'")
	_, _, err = a.as(t, "99999999-9999-9999-9999-999999999999").ACL().TokenList(nil)
	denied(t, err, "403 (ACL not found)")

	testLogin(t, a, acl)
}

// testLogin logs in with a JWT, works, and logs out.
func testLogin(t *testing.T, a *agent, acl *api.ACL) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	must(t, err)
	m, _, err := acl.AuthMethodCreate(&api.ACLAuthMethod{Name: "ci", Type: "jwt", MaxTokenTTL: 5 * time.Minute, Config: map[string]any{
		"JWTValidationPubKeys": []string{string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))},
		"JWTSupportedAlgs":     []string{"ES256"}, "BoundAudiences": []string{"lb"}, "ClaimMappings": map[string]string{"sub": "name"}}}, nil)
	must(t, err)
	if m.MaxTokenTTL != 5*time.Minute {
		t.Errorf("method %+v", m)
	}
	rule, _, err := acl.BindingRuleCreate(&api.ACLBindingRule{AuthMethod: "ci", BindType: api.BindingRuleBindTypeService, BindName: "${value.name}", Selector: `value.name != ""`}, nil)
	must(t, err)
	token := func(aud string) string {
		enc := base64.RawURLEncoding.EncodeToString
		claims, err := json.Marshal(map[string]any{"sub": "web", "aud": aud, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix()})
		must(t, err)
		text := enc([]byte(`{"alg":"ES256"}`)) + "." + enc(claims)
		sum := sha256.Sum256([]byte(text))
		r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
		must(t, err)
		sig := make([]byte, 64)
		r.FillBytes(sig[:32])
		s.FillBytes(sig[32:])
		return text + "." + enc(sig)
	}
	_, _, err = acl.Login(&api.ACLLoginParams{AuthMethod: "ci", BearerToken: token("x")}, nil)
	denied(t, err, "500 (error validating claims: aud claim does not match any bound audience)")
	in, _, err := a.client(t).ACL().Login(&api.ACLLoginParams{AuthMethod: "ci", BearerToken: token("lb"), Meta: map[string]string{"a": "b"}}, nil)
	must(t, err)
	if in.Description != `token created via login: {"a":"b"}` || !in.Local || in.AuthMethod != "ci" || in.ExpirationTime == nil ||
		len(in.ServiceIdentities) != 1 || in.ServiceIdentities[0].ServiceName != "web" {
		t.Errorf("logged in as %+v", in)
	}
	web := a.as(t, in.SecretID)
	must(t, web.Agent().ServiceRegister(&api.AgentServiceRegistration{Name: "web", Port: 80}))
	denied(t, web.Agent().ServiceRegister(&api.AgentServiceRegistration{Name: "db", Port: 80}), "lacks permission 'service:write'")
	_, err = web.ACL().Logout(nil)
	must(t, err)
	_, err = web.ACL().Logout(nil)
	denied(t, err, "403 (ACL not found)")
	_, err = acl.BindingRuleDelete(rule.ID, nil)
	must(t, err)
	_, err = acl.AuthMethodDelete("ci", nil)
	must(t, err)
}
