//go:build e2e

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// importRun runs `landbridge import` from one agent into another, each with ACLs.
type importRun struct {
	t        *testing.T
	from, to *agentProcess
	token    string // of the source
	dir      string
}

// run returns what it printed, its exit code and the most memory it had, in bytes.
func (r *importRun) run(args ...string) (out string, code int, memory int64) {
	r.t.Helper()
	file := filepath.Join(r.dir, "source.token")
	if err := os.WriteFile(file, []byte(r.token+"\n"), 0o600); err != nil {
		r.t.Fatal(err)
	}
	cmd := exec.Command(binary(r.t), append([]string{"import", "-from=http://" + r.from.IP + ":8500", "-from-token-file=" + file}, args...)...)
	cmd.Env = append(os.Environ(), "CONSUL_HTTP_ADDR="+r.to.IP+":8500", "CONSUL_HTTP_TOKEN="+r.to.Token, "TMPDIR="+r.dir)
	b, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		r.t.Fatal(err)
	}
	if strings.Contains(string(b), r.token) {
		r.t.Errorf("the output shows a secret:\n%s", b)
	}
	return string(b), cmd.ProcessState.ExitCode(), cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
}

// row wants a line of the report: new, updated, same, different, refused.
func (r *importRun) row(out, name string, counts ...int) {
	r.t.Helper()
	want := name
	for _, n := range counts {
		want += fmt.Sprintf(" +%d", n)
	}
	if !regexp.MustCompile(`(?m)^` + want + `$`).MatchString(out) {
		r.t.Errorf("want a line %q in\n%s", want, out)
	}
}

const (
	importSecret = "5b1a2c3d-0000-4000-8000-00000000abcd"
	targetSecret = "5b1a2c3d-0000-4000-8000-00000000dcba"
)

// TestImport copies a datacenter with everything in it into an empty one: first dry,
// then for real, then again, and then with differences.
func TestImport(t *testing.T) {
	dir := t.TempDir()
	conf := func(secret string) map[string]any {
		return map[string]any{"bootstrap_expect": 1, "acl": map[string]any{"enabled": true, "default_policy": "deny",
			"tokens": map[string]any{"initial_management": secret, "agent": secret}}}
	}
	from := newAgent(t, dir, "source", "old", "127.9.95.1", conf(importSecret))
	to := newAgent(t, dir, "target", "new", "127.9.95.2", conf(targetSecret))
	from.Token, to.Token = importSecret, targetSecret
	for _, a := range []*agentProcess{from, to} {
		a.start()
		until(t, 30*time.Second, a.Name+" writes", func() bool { _, b := a.do("PUT", "/v1/kv/first", "x"); return b == "true" })
	}
	want := func(method, path, body string) string {
		t.Helper()
		status, answer := from.do(method, path, body)
		if status != 200 {
			t.Fatalf("%s %s: %d %s", method, path, status, answer)
		}
		return answer
	}
	for i := range 300 {
		want("PUT", fmt.Sprintf("/v1/kv/app/%04d?flags=%d", i, i%3), fmt.Sprint("value ", i))
	}
	large := strings.Repeat("0123456789abcdef", 400<<10/16)
	for i := range 60 { // 24 MB, 32 MB as the API tells them
		want("PUT", fmt.Sprintf("/v1/kv/large/%d", i), large)
	}
	want("PUT", "/v1/kv/odd/with%20space%3F%25", "")
	want("PUT", "/v1/catalog/register", `{"Node":"router","Address":"192.0.2.7","NodeMeta":{"external-node":"true"}}`)
	for _, s := range []string{"dns", "ntp"} {
		want("PUT", "/v1/catalog/register", fmt.Sprintf(`{"Node":"router","Address":"192.0.2.7","NodeMeta":{"external-node":"true"},
			"Service":{"ID":"%[1]s-1","Service":"%[1]s","Port":53,"Tags":["a","b"],"Meta":{"k":"v"}},
			"Check":{"CheckID":"%[1]s-check","Name":"%[1]s","Status":"passing","ServiceID":"%[1]s-1","Notes":"n"}}`, s))
	}
	want("PUT", "/v1/catalog/register", `{"Node":"printer","Address":"192.0.2.8","Check":{"Name":"paper","Status":"warning"}}`)
	want("PUT", "/v1/agent/service/register", `{"Name":"of-the-agent","Port":1}`)
	want("PUT", "/v1/acl/policy", `{"Name":"read-app","Rules":"key_prefix \"app/\" { policy = \"read\" }","Description":"d"}`)
	want("PUT", "/v1/acl/role", `{"Name":"reader","Policies":[{"Name":"read-app"}],"ServiceIdentities":[{"ServiceName":"web"}]}`)
	const reader, secret = "11111111-0000-4000-8000-000000000001", "22222222-0000-4000-8000-000000000002"
	want("PUT", "/v1/acl/token", fmt.Sprintf(`{"AccessorID":%q,"SecretID":%q,"Description":"of the app","Roles":[{"Name":"reader"}]}`, reader, secret))
	want("PUT", "/v1/acl/token", `{"Description":"goes by itself","Policies":[{"Name":"read-app"}],"ExpirationTTL":"5h"}`)
	want("PUT", "/v1/acl/token/00000000-0000-0000-0000-000000000002", `{"Policies":[{"Name":"read-app"}]}`)
	want("POST", "/v1/query", `{"Name":"nearest-dns","Service":{"Service":"dns","Tags":["a"],"OnlyPassing":true},"DNS":{"TTL":"7s"}}`)

	key, public := newSigner(t)
	want("PUT", "/v1/acl/auth-method", fmt.Sprintf(`{"Name":"ci","Type":"jwt","Description":"builds","MaxTokenTTL":"10m","Config":{"JWTValidationPubKeys":[%q],"JWTSupportedAlgs":["ES256"],"BoundIssuer":"forge","ClaimMappings":{"/user/name":"name"}}}`, public))
	want("PUT", "/v1/acl/binding-rule", `{"AuthMethod":"ci","Description":"all","Selector":"value.name != root","BindType":"role","BindName":"reader"}`)
	want("PUT", "/v1/acl/binding-rule", `{"AuthMethod":"ci","BindType":"service","BindName":"${value.name}"}`)

	r := &importRun{t, from, to, importSecret, dir}
	_, before := to.do("GET", "/v1/status/leader", "")
	out, code, _ := r.run("-dry-run")
	if code != 0 {
		t.Errorf("-dry-run exits %d\n%s", code, out)
	}
	r.row(out, "keys", 361, 0, 1, 0, 0) // "first" is in both
	r.row(out, "policies", 1, 0, 0, 0, 0)
	r.row(out, "tokens", 4, 0, 0, 0, 0)
	r.row(out, "auth-methods", 1, 0, 0, 0, 0)
	r.row(out, "binding-rules", 2, 0, 0, 0, 0)
	r.row(out, "services", 2, 0, 0, 0, 0)
	if status, body := to.do("GET", "/v1/kv/app/0001?raw", ""); status != 404 {
		t.Errorf("-dry-run wrote a key: %d %s", status, body)
	}
	if _, body := to.do("GET", "/v1/acl/auth-methods", ""); body != "[]" {
		t.Errorf("-dry-run wrote an auth method: %s", body)
	}
	if _, body := to.do("GET", "/v1/acl/policies", ""); strings.Contains(body, "read-app") {
		t.Errorf("-dry-run wrote a policy (leader %s): %s", before, body)
	}

	begin := time.Now()
	out, code, memory := r.run()
	t.Logf("imported in %s with at most %d MB\n%s", time.Since(begin).Round(time.Millisecond), memory>>20, out)
	if code != 0 {
		t.Errorf("import exits %d\n%s", code, out)
	}
	if memory > 64<<20 {
		t.Errorf("it took %d MB of memory for 24 MB of keys", memory>>20)
	}
	r.row(out, "keys", 361, 0, 1, 0, 0)
	r.row(out, "policies", 1, 0, 0, 0, 0)
	r.row(out, "roles", 1, 0, 0, 0, 0)
	r.row(out, "tokens", 4, 0, 0, 0, 0)
	r.row(out, "auth-methods", 1, 0, 0, 0, 0)
	r.row(out, "binding-rules", 2, 0, 0, 0, 0)
	r.row(out, "services", 2, 0, 0, 0, 0)
	r.row(out, "queries", 1, 0, 0, 0, 0)
	if left, _ := filepath.Glob(filepath.Join(dir, "landbridge-import-*")); len(left) > 0 {
		t.Errorf("files are left: %v", left)
	}

	// What clients see is the same.
	for _, path := range []string{"/v1/kv/app/0002", "/v1/kv/odd/with%20space%3F%25", "/v1/kv/large/59"} {
		if a, b := stripIndexes(t, from, path), stripIndexes(t, to, path); a != b {
			t.Errorf("%s: %.200s here, %.200s there", path, b, a)
		}
	}
	for _, path := range []string{"/v1/health/service/dns", "/v1/health/node/router", "/v1/health/node/printer"} {
		a, b := stripIndexes(t, from, path), stripIndexes(t, to, path)
		if a != strings.ReplaceAll(b, `"Datacenter":"new"`, `"Datacenter":"old"`) || len(a) < 20 {
			t.Errorf("%s:\n%s here,\n%s there", path, b, a)
		}
	}
	if _, body := to.do("GET", "/v1/catalog/services", ""); strings.Contains(body, "of-the-agent") {
		t.Errorf("a service of an agent was copied: %s", body)
	}
	asReader := *to
	asReader.Token = secret
	asReader.want("GET", "/v1/kv/app/0002?raw", "", "value 2")
	if status, _ := asReader.do("PUT", "/v1/kv/app/0002", "x"); status != 403 {
		t.Errorf("the copied token may write: %d", status)
	}
	asReader.Token = ""
	asReader.want("GET", "/v1/kv/app/0003?raw", "", "value 3")
	// Who logs in there logs in here, to the same rights.
	jwt := sign(t, key, fmt.Sprintf(`{"iss":"forge","iat":%d,"user":{"name":"runner"}}`, time.Now().Unix()))
	var rights [2]string
	for i, a := range []*agentProcess{from, to} {
		as := *a
		as.Token = ""
		status, body := as.do("POST", "/v1/acl/login", fmt.Sprintf(`{"AuthMethod":"ci","BearerToken":%q}`, jwt))
		var tok struct {
			SecretID          string
			Roles             []struct{ Name string }
			ServiceIdentities any
		}
		if err := json.Unmarshal([]byte(body), &tok); status != 200 || err != nil || len(tok.Roles) != 1 {
			t.Fatalf("login at %s: %d %s", a.Name, status, body)
		}
		rights[i] = fmt.Sprint(tok.Roles, tok.ServiceIdentities)
		as.Token = tok.SecretID
		as.want("GET", "/v1/kv/app/0002?raw", "", "value 2")
	}
	if rights[0] != rights[1] {
		t.Errorf("a login gives %s there and %s here", rights[0], rights[1])
	}
	if status, body := to.do("GET", "/v1/query/nearest-dns/execute", ""); status != 200 || !strings.Contains(body, "router") {
		t.Errorf("the prepared query: %d %s", status, body)
	}

	out, code, _ = r.run()
	if code != 0 {
		t.Errorf("again: exits %d\n%s", code, out)
	}
	r.row(out, "keys", 0, 0, 362, 0, 0)
	r.row(out, "policies", 0, 0, 1, 0, 0)
	r.row(out, "roles", 0, 0, 1, 0, 0)
	r.row(out, "tokens", 0, 0, 4, 0, 0)
	r.row(out, "auth-methods", 0, 0, 1, 0, 0)
	r.row(out, "binding-rules", 0, 0, 2, 0, 0)
	r.row(out, "services", 0, 0, 2, 0, 0)
	r.row(out, "queries", 0, 0, 1, 0, 0)

	// Both sides go on.
	to.want("PUT", "/v1/kv/app/0001", "newer here", "true")
	want("PUT", "/v1/kv/app/0002", "newer there")
	want("PUT", "/v1/kv/app/new", "n")
	out, code, _ = r.run("-only=keys,policies")
	if code != 2 || !strings.Contains(out, "keys: app/0001: has another value here") || strings.Contains(out, "tokens") {
		t.Errorf("differences: exits %d\n%s", code, out)
	}
	r.row(out, "keys", 1, 0, 360, 2, 0)
	to.want("GET", "/v1/kv/app/0001?raw", "", "newer here")
	out, code, _ = r.run("-only=keys", "-overwrite", "-prefix=app/0002")
	if code != 0 {
		t.Errorf("-overwrite: exits %d\n%s", code, out)
	}
	r.row(out, "keys", 0, 1, 0, 0, 0)
	to.want("GET", "/v1/kv/app/0002?raw", "", "newer there")
	to.want("GET", "/v1/kv/app/0001?raw", "", "newer here")

	// A method that changed, one that the destination has for itself, and a rule for an
	// imported method that only it has.
	want("PUT", "/v1/acl/auth-method/ci", fmt.Sprintf(`{"Name":"ci","Type":"jwt","Config":{"JWTValidationPubKeys":[%q],"BoundIssuer":"another forge"}}`, public))
	for _, body := range []string{`{"AuthMethod":"ci","BindType":"service","BindName":"only-here"}`, `{"AuthMethod":"own","BindType":"service","BindName":"x"}`} {
		if strings.Contains(body, "own") {
			if status, answer := to.do("PUT", "/v1/acl/auth-method", fmt.Sprintf(`{"Name":"own","Type":"jwt","Config":{"JWTValidationPubKeys":[%q]}}`, public)); status != 200 {
				t.Fatalf("an auth method of the destination: %d %s", status, answer)
			}
		}
		if status, answer := to.do("PUT", "/v1/acl/binding-rule", body); status != 200 {
			t.Fatalf("%s: %d %s", body, status, answer)
		}
	}
	out, code, _ = r.run("-only=auth-methods,binding-rules")
	if code != 2 || !strings.Contains(out, "auth method ci: is another one here (Config, Description, MaxTokenTTL)") ||
		!strings.Contains(out, "binding rule of ci (service only-here): is only here, where it gives rights") {
		t.Errorf("methods differ: exits %d\n%s", code, out)
	}
	r.row(out, "auth-methods", 0, 0, 0, 1, 0)
	r.row(out, "binding-rules", 0, 0, 2, 1, 0)
	if out, code, _ = r.run("-only=auth-methods", "-overwrite"); code != 0 {
		t.Errorf("-overwrite of methods: exits %d\n%s", code, out)
	}
	if _, body := to.do("GET", "/v1/acl/auth-method/ci", ""); !strings.Contains(body, "another forge") || strings.Contains(body, "builds") {
		t.Errorf("the method after -overwrite: %s", body)
	}

	// What the source does not show, and what it is not.
	r.token = secret
	if out, code, _ = r.run("-only=tokens"); code != 1 || !strings.Contains(out, "403") {
		t.Errorf("without the right to list tokens: exits %d\n%s", code, out)
	}
	r.token = importSecret
	r.to = from
	if out, code, _ = r.run(); code != 1 || !strings.Contains(out, "are one agent") {
		t.Errorf("into itself: exits %d\n%s", code, out)
	}
}

// stripIndexes is the answer to a GET without what differs between two clusters.
func stripIndexes(t *testing.T, a *agentProcess, path string) string {
	t.Helper()
	_, body := a.do("GET", path, "")
	var v any
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatalf("%s: %s: %.200s", a.Name, path, body)
	}
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`"(Create|Modify)Index":\d+`).ReplaceAllString(string(raw), "")
}

// newSigner makes a key for JWTs, and its public half in PEM.
func newSigner(t *testing.T) (*ecdsa.PrivateKey, string) {
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

// sign makes a JWT with ES256 (RFC 7518 section 3.4).
func sign(t *testing.T, key *ecdsa.PrivateKey, claims string) string {
	t.Helper()
	enc := base64.RawURLEncoding
	text := enc.EncodeToString([]byte(`{"alg":"ES256"}`)) + "." + enc.EncodeToString([]byte(claims))
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	var sig [64]byte
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return text + "." + enc.EncodeToString(sig[:])
}
