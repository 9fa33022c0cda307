package authmethod

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"landbridge/store"
)

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// sign makes a JWT as others make it.
func sign(t testing.TB, alg, kid string, key crypto.Signer, claims map[string]any) string {
	t.Helper()
	head, _ := json.Marshal(map[string]string{"alg": alg, "kid": kid, "typ": "JWT"})
	body, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	text := b64(head) + "." + b64(body)
	a := algorithms[alg]
	var sig []byte
	switch k := key.(type) {
	case *rsa.PrivateKey:
		if a.pss {
			sig, err = rsa.SignPSS(rand.Reader, k, a.hash, hashed(a.hash, []byte(text)), &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		} else {
			sig, err = rsa.SignPKCS1v15(rand.Reader, k, a.hash, hashed(a.hash, []byte(text)))
		}
	case *ecdsa.PrivateKey:
		r, s, e := ecdsa.Sign(rand.Reader, k, hashed(a.hash, []byte(text)))
		err = e
		n := (k.Curve.Params().BitSize + 7) / 8
		sig = make([]byte, 2*n)
		r.FillBytes(sig[:n])
		s.FillBytes(sig[n:])
	case ed25519.PrivateKey:
		sig = ed25519.Sign(k, []byte(text))
	}
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + b64(sig)
}

func pubPEM(t testing.TB, key crypto.Signer) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func ecKey(t testing.TB, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func method(t testing.TB, config map[string]any) *store.ACLAuthMethod {
	t.Helper()
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	m := &store.ACLAuthMethod{Name: "m", Type: store.MethodJWT, Config: text}
	if err := CheckMethod(m); err != nil {
		t.Fatal(err)
	}
	return m
}

func claims(edit func(map[string]any)) map[string]any {
	c := map[string]any{"sub": "me", "aud": []string{"landbridge"}, "iss": "ci", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
		"project": map[string]any{"name": "web", "ids": []int64{9007199254740993}}, "groups": []string{"a", "b"}}
	if edit != nil {
		edit(c)
	}
	return c
}

func TestAlgorithms(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, _ := ed25519.GenerateKey(rand.Reader)
	keys := map[string]crypto.Signer{"RS256": rsaKey, "RS384": rsaKey, "RS512": rsaKey, "PS256": rsaKey, "PS384": rsaKey, "PS512": rsaKey,
		"ES256": ecKey(t, elliptic.P256()), "ES384": ecKey(t, elliptic.P384()), "ES512": ecKey(t, elliptic.P521()), "EdDSA": edKey}
	for alg, key := range keys {
		m := method(t, map[string]any{"JWTValidationPubKeys": []string{pubPEM(t, key)}, "JWTSupportedAlgs": []string{alg}})
		good := sign(t, alg, "", key, claims(nil))
		if _, err := New().Verify(t.Context(), m, good); err != nil {
			t.Errorf("%s: %v", alg, err)
		}
		for i := range 8 { // a bit anywhere
			b := []byte(good)
			at := len(b) * (i + 1) / 9
			if b[at] != '.' {
				b[at] ^= 1
			}
			if _, err := New().Verify(t.Context(), m, string(b)); err == nil && string(b) != good {
				t.Errorf("%s: byte %d changed, and it verifies", alg, at)
			}
		}
	}
}

// TestForgeries is what people try.
func TestForgeries(t *testing.T) {
	key, other := ecKey(t, elliptic.P256()), ecKey(t, elliptic.P256())
	m := method(t, map[string]any{"JWTValidationPubKeys": []string{pubPEM(t, key)}, "JWTSupportedAlgs": []string{"ES256"},
		"BoundAudiences": []string{"landbridge"}, "BoundIssuer": "ci"})
	good := sign(t, "ES256", "", key, claims(nil))
	parts := strings.Split(good, ".")
	now := time.Now()
	for _, tt := range []struct{ name, token, want string }{
		{"none", b64([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".", "unexpected algorithm"},
		{"HMAC with the public key", b64([]byte(`{"alg":"HS256"}`)) + "." + parts[1] + "." + parts[2], "unexpected algorithm"},
		{"an algorithm not allowed", b64([]byte(`{"alg":"ES384"}`)) + "." + parts[1] + "." + parts[2], "unexpected algorithm"},
		{"no signature", parts[0] + "." + parts[1] + ".", "no known key"},
		{"another key", sign(t, "ES256", "", other, claims(nil)), "no known key"},
		{"other claims", parts[0] + "." + b64([]byte(`{"sub":"root"}`)) + "." + parts[2], "no known key"},
		{"zeros", parts[0] + "." + parts[1] + "." + b64(make([]byte, 64)), "no known key"},
		{"critical extension", b64([]byte(`{"alg":"ES256","crit":["x"]}`)) + "." + parts[1] + "." + parts[2], "critical"},
		{"not a JWT", "hello", "not a signed JWT"},
		{"empty", "", "missing jwt"},
		{"huge", strings.Repeat("a", maxToken+1), "bytes"},
		{"audience", sign(t, "ES256", "", key, claims(func(c map[string]any) { c["aud"] = "x" })), "error validating claims: aud claim does not match any bound audience"},
		{"no audience", sign(t, "ES256", "", key, claims(func(c map[string]any) { delete(c, "aud") })), "aud claim does not match any bound audience"},
		{"issuer", sign(t, "ES256", "", key, claims(func(c map[string]any) { c["iss"] = "x" })), "iss claim"},
		{"expired", sign(t, "ES256", "", key, claims(func(c map[string]any) { c["exp"] = now.Add(-2 * time.Minute).Unix() })), "token is expired"},
		{"not yet", sign(t, "ES256", "", key, claims(func(c map[string]any) { c["nbf"] = now.Add(2 * time.Minute).Unix() })), "not yet valid"},
		{"no times", sign(t, "ES256", "", key, claims(func(c map[string]any) { delete(c, "exp"); delete(c, "iat") })), "no issued at"},
		{"a time that is none", sign(t, "ES256", "", key, claims(func(c map[string]any) { c["exp"] = "soon" })), "exp claim is not a number"},
	} {
		_, err := New().Verify(t.Context(), m, tt.token)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
		if err != nil && len(tt.token) > 20 && strings.Contains(err.Error(), tt.token) {
			t.Errorf("%s: the error shows the token", tt.name)
		}
	}
	if _, err := New().Verify(t.Context(), m, good); err != nil {
		t.Fatal(err)
	}
	if _, err := New().Verify(t.Context(), m, sign(t, "ES256", "", key, claims(func(c map[string]any) { c["exp"] = now.Add(-30 * time.Second).Unix() }))); err != nil {
		t.Errorf("within the skew: %v", err)
	}
}

func TestBinding(t *testing.T) {
	key := ecKey(t, elliptic.P256())
	m := method(t, map[string]any{"JWTValidationPubKeys": []string{pubPEM(t, key)}, "JWTSupportedAlgs": []string{"ES256"},
		"ClaimMappings":     map[string]string{"sub": "user", "/project/name": "project", "/project/ids/0": "pid", "nothing": "none"},
		"ListClaimMappings": map[string]string{"groups": "groups"}})
	id, err := New().Verify(t.Context(), m, sign(t, "ES256", "", key, claims(nil)))
	if err != nil {
		t.Fatal(err)
	}
	rule := func(typ, name, selector string) *store.ACLBindingRule {
		return &store.ACLBindingRule{BindType: typ, BindName: name, Selector: selector}
	}
	tmpl := rule(store.BindTemplated, "builtin/service", "")
	tmpl.BindVars = "${value.project}"
	got, err := Bind([]*store.ACLBindingRule{
		rule("service", "${value.project}-${value.pid}", ""), rule("service", "ME-${value.user}", `value.project == "web"`), rule("node", "n", `"b" in list.groups`),
		rule("role", "r-${value.user}", `value.none == ""`), rule("policy", "p", `"c" not in list.groups and value.user matches "^m"`), rule("policy", "p", ""),
		rule("role", "never", `value.project == "x"`), rule("role", "never", `value.unknown == "x"`), rule("role", "never", `"z" in list.groups`), tmpl,
	}, id)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.Services, []string{"web-9007199254740993", "me-me"}) || !slices.Equal(got.Nodes, []string{"n"}) || !slices.Equal(got.Roles, []string{"r-me"}) ||
		!slices.Equal(got.Policies, []string{"p"}) || len(got.Templates) != 1 || got.Templates[0].Name != "web" {
		t.Errorf("bound %+v", got)
	}
	if _, err := Bind([]*store.ACLBindingRule{rule("service", "${value.user}/../x", "")}, id); err == nil {
		t.Error("a name that nothing can have was bound")
	}
	for _, r := range []*store.ACLBindingRule{rule("service", "${value.groups}", ""), rule("service", "${value.user", ""), rule("service", "x", "value.user =="),
		rule("templated-policy", "builtin/none", ""), rule("templated-policy", "builtin/service", "")} {
		if err := CheckRule(m, r); err == nil {
			t.Errorf("rule %+v was accepted", r)
		}
	}
	if err := CheckRule(m, rule("service", "a-${value.user}", "value.unknown == 1")); err != nil {
		t.Errorf("a selector with an unknown field: %v", err) // as it is known from elsewhere
	}
}

// Keys come from an address, are kept, and are asked for again for an unknown one,
// but not more often than every few seconds.
func TestFetchedKeys(t *testing.T) {
	first, second := ecKey(t, elliptic.P256()), ecKey(t, elliptic.P256())
	entry := func(kid string, k *ecdsa.PrivateKey) map[string]string {
		raw, err := k.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		return map[string]string{"kty": "EC", "crv": "P-256", "kid": kid, "use": "sig", "x": b64(raw[1:33]), "y": b64(raw[33:])}
	}
	var asked atomic.Int32
	var keys atomic.Value
	keys.Store([]map[string]string{entry("1", first), {"kty": "oct", "k": "AAAA"}})
	mux := http.NewServeMux()
	srv := httptest.NewTLSServer(mux)
	defer srv.Close()
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": keys.Load()})
	})
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": srv.URL, "jwks_uri": srv.URL + "/keys"})
	})
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}))
	m := method(t, map[string]any{"JWKSURL": srv.URL + "/keys", "JWKSCACert": ca, "JWTSupportedAlgs": []string{"ES256"}})
	s := New()
	for range 3 {
		if _, err := s.Verify(t.Context(), m, sign(t, "ES256", "1", first, claims(nil))); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 { // an unknown key asks again, within bounds
		if _, err := s.Verify(t.Context(), m, sign(t, "ES256", "2", second, claims(nil))); err == nil {
			t.Fatal("a key that is not in the set verified")
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("the set was fetched %d times within seconds", n)
	}
	keys.Store([]map[string]string{entry("2", second)})
	set := s.set(source{url: srv.URL + "/keys", ca: ca})
	set.mu.Lock()
	set.asked = set.asked.Add(-keysPause) // that long ago
	set.mu.Unlock()
	if _, err := s.Verify(t.Context(), m, sign(t, "ES256", "2", second, claims(nil))); err != nil {
		t.Errorf("a new key: %v", err)
	}
	// Discovery binds the issuer.
	oidc := method(t, map[string]any{"OIDCDiscoveryURL": srv.URL, "OIDCDiscoveryCACert": ca, "JWTSupportedAlgs": []string{"ES256"}})
	if _, err := s.Verify(t.Context(), oidc, sign(t, "ES256", "2", second, claims(func(c map[string]any) { c["iss"] = srv.URL }))); err != nil {
		t.Errorf("discovery: %v", err)
	}
	if _, err := s.Verify(t.Context(), oidc, sign(t, "ES256", "2", second, claims(nil))); err == nil {
		t.Error("a token of another issuer logged in")
	}
	untrusted := method(t, map[string]any{"JWKSURL": srv.URL + "/keys", "JWTSupportedAlgs": []string{"ES256"}})
	if _, err := s.Verify(t.Context(), untrusted, sign(t, "ES256", "2", second, claims(nil))); err == nil {
		t.Error("keys were taken from a server whose certificate nobody trusts")
	}
}

func TestKubernetes(t *testing.T) {
	var auth, seen string
	status := `{"authenticated":true,"user":{"username":"system:serviceaccount:prod:web","uid":"u1"}}`
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review struct{ Spec struct{ Token string } }
		_ = json.NewDecoder(r.Body).Decode(&review)
		auth, seen = r.Header.Get("Authorization"), r.Method+" "+r.URL.Path+" "+review.Spec.Token
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write([]byte(`{"status":` + status + `}`))
	}))
	defer srv.Close()
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}))
	config, _ := json.Marshal(map[string]string{"Host": srv.URL, "CACert": ca, "ServiceAccountJWT": "a.b.c"})
	m := &store.ACLAuthMethod{Name: "k", Type: store.MethodKubernetes, Config: config}
	if err := CheckMethod(m); err != nil {
		t.Fatal(err)
	}
	id, err := New().Verify(t.Context(), m, "the.pods.token")
	if err != nil || auth != "Bearer a.b.c" || seen != "POST /apis/authentication.k8s.io/v1/tokenreviews the.pods.token" {
		t.Fatalf("%v; asked %q as %q", err, seen, auth)
	}
	rule := &store.ACLBindingRule{BindType: "service", BindName: "${serviceaccount.name}", Selector: `serviceaccount.namespace == "prod"`}
	if err := CheckRule(m, rule); err != nil {
		t.Fatal(err)
	}
	if b, err := Bind([]*store.ACLBindingRule{rule}, id); err != nil || !slices.Equal(b.Services, []string{"web"}) {
		t.Errorf("%+v, %v", b, err)
	}
	for _, bad := range []string{`{"authenticated":false}`, `{"authenticated":true,"user":{"username":"kubernetes-admin"}}`, `{"authenticated":true,"error":"x","user":{"username":"system:serviceaccount:a:b"}}`} {
		status = bad
		if _, err := New().Verify(t.Context(), m, "the.pods.token"); store.KindOf(err) != store.KindPermissionDenied {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func FuzzToken(f *testing.F) {
	signer := ecKey(f, elliptic.P256())
	keys := []key{{pub: signer.Public()}}
	f.Add(sign(f, "ES256", "1", signer, claims(nil)))
	f.Add("e30.e30.")
	c := &jwtConfig{ClaimMappings: map[string]string{"/a/0": "x", "sub": "y"}, ListClaimMappings: map[string]string{"groups": "g"}}
	f.Fuzz(func(t *testing.T, text string) {
		tok, err := parseToken(text)
		if err != nil {
			return
		}
		tok.signedBy(keys)
		_ = c.check(tok, "", time.Unix(1, 0))
		_, _ = c.identity(tok.claims)
	})
}
