package store

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

var ignoreACLCaches = cmp.Options{
	cmpopts.IgnoreUnexported(ACLToken{}, ACLPolicy{}, ACLRole{}, ACLBindingRule{}, ACLAuthMethod{}),
	cmpopts.EquateEmpty(),
}

func genLinks(t *rapid.T, label string) []ACLLink {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) ACLLink {
		return ACLLink{genString().Draw(t, "id"), genString().Draw(t, "name")}
	}), 0, 3).Draw(t, label)
}

func genGrants(t *rapid.T) ACLGrants {
	g := ACLGrants{Policies: genLinks(t, "Policies")}
	for range rapid.IntRange(0, 2).Draw(t, "identities") {
		g.ServiceIdentities = append(g.ServiceIdentities, ServiceIdentity{genString().Draw(t, "s"), genStrings(t, "dcs")})
		g.NodeIdentities = append(g.NodeIdentities, NodeIdentity{genString().Draw(t, "n"), genString().Draw(t, "dc")})
		g.TemplatedPolicies = append(g.TemplatedPolicies, TemplatedPolicy{genString().Draw(t, "id"), genString().Draw(t, "t"), genString().Draw(t, "v"), genStrings(t, "dcs")})
	}
	return g
}

func genTime(t *rapid.T, label string) time.Time {
	if rapid.Bool().Draw(t, label+"?") {
		return time.Time{}
	}
	return time.Unix(0, rapid.Int64Range(1, 1<<62).Draw(t, label)).UTC()
}

func genACLRecord(t *rapid.T) ACLRecord {
	str := func(label string) string { return genString().Draw(t, label) }
	created, modified := genIndex(t, "CreateIndex"), genIndex(t, "ModifyIndex")
	switch ACLKind(rapid.IntRange(1, 5).Draw(t, "kind")) {
	case ACLTokens:
		r := &ACLToken{AccessorID: str("accessor"), SecretID: str("secret"), Description: str("d"), ACLGrants: genGrants(t), Roles: genLinks(t, "Roles"),
			Local: rapid.Bool().Draw(t, "local"), AuthMethod: str("method"), ExpirationTime: genTime(t, "e"), CreateTime: genTime(t, "c"),
			CreateIndex: created, ModifyIndex: modified}
		if r.SecretID != "" {
			r.Seal()
		} else {
			copy(r.SecretHash[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "hash"))
		}
		return r
	case ACLPolicies:
		return &ACLPolicy{ID: str("id"), Name: str("name"), Description: str("d"), Rules: str("rules"), Datacenters: genStrings(t, "dcs"), CreateIndex: created, ModifyIndex: modified}
	case ACLRoles:
		return &ACLRole{ID: str("id"), Name: str("name"), Description: str("d"), ACLGrants: genGrants(t), CreateIndex: created, ModifyIndex: modified}
	case ACLBindingRules:
		return &ACLBindingRule{ID: str("id"), Description: str("d"), AuthMethod: str("m"), Selector: str("s"), BindType: str("t"), BindName: str("n"), BindVars: str("v"), CreateIndex: created, ModifyIndex: modified}
	}
	return &ACLAuthMethod{Name: str("n"), Type: str("t"), DisplayName: str("dn"), Description: str("d"), MaxTokenTTL: time.Duration(rapid.Int64().Draw(t, "ttl")),
		TokenLocality: str("l"), Config: genRaw(t, "config"), CreateIndex: created, ModifyIndex: modified}
}

func TestACLWireRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := &ACLCommand{Replicated: rapid.Bool().Draw(t, "replicated")}
		for range rapid.IntRange(0, 3).Draw(t, "changes") {
			if rapid.Bool().Draw(t, "delete") {
				in.Changes = append(in.Changes, DeleteACL(ACLKind(rapid.IntRange(1, 5).Draw(t, "kind")), genString().Draw(t, "key")))
			} else {
				in.Changes = append(in.Changes, SetACL(ACLOp(rapid.IntRange(1, 3).Draw(t, "op")), genACLRecord(t)))
			}
		}
		b := append(in.AppendWire(nil), 0xfa, 0xff, 0xff, 0xff, 0x0f, 1, 'x') // a newer writer's field
		out := &ACLCommand{Changes: []ACLChange{{Key: "left over"}}}
		if err := out.DecodeWire(b); err != nil {
			t.Fatal(err)
		}
		for i := range b {
			b[i] = 0xff
		}
		if diff := cmp.Diff(in, out, ignoreACLCaches); diff != "" {
			t.Fatalf("round trip (-in +out):\n%s", diff)
		}
		for i, c := range in.Changes {
			if c.Record == nil {
				continue
			}
			if c.Record.Digest() != out.Changes[i].Record.Digest() {
				t.Fatal("a copy has another digest")
			}
			if text := out.Changes[i].Record.AppendJSON(nil); !json.Valid(text) {
				t.Fatalf("not JSON: %s", text)
			}
		}
	})
}

// A digest covers what a record means, and nothing else.
func TestACLDigest(t *testing.T) {
	base := func() *ACLToken {
		return &ACLToken{AccessorID: "a", SecretID: "s", ACLGrants: ACLGrants{Policies: []ACLLink{{"1", "one"}}}, CreateIndex: 5, ModifyIndex: 6}
	}
	sealed := func(edit func(*ACLToken)) *ACLToken {
		tok := base()
		tok.Seal()
		edit(tok)
		return tok
	}
	same := sealed(func(*ACLToken) {}).Digest()
	for name, edit := range map[string]func(*ACLToken){
		"indexes":       func(t *ACLToken) { t.CreateIndex, t.ModifyIndex = 9, 10 },
		"a link's name": func(t *ACLToken) { t.Policies = []ACLLink{{"1", "uno"}} },
		"hash only":     func(t *ACLToken) { t.SecretID = "" },
	} {
		if sealed(edit).Digest() != same {
			t.Errorf("%s changed the digest", name)
		}
	}
	for name, edit := range map[string]func(*ACLToken){
		"secret":      func(t *ACLToken) { t.SecretID = "other"; t.Seal() },
		"description": func(t *ACLToken) { t.Description = "x" },
		"a link":      func(t *ACLToken) { t.Policies = []ACLLink{{"2", "one"}} },
		"role":        func(t *ACLToken) { t.Roles = []ACLLink{{"1", "one"}} },
		"local":       func(t *ACLToken) { t.Local = true },
		"expiry":      func(t *ACLToken) { t.ExpirationTime = time.Unix(9, 0) },
	} {
		if sealed(edit).Digest() == same {
			t.Errorf("%s did not change the digest", name)
		}
	}
	if sealed(func(t *ACLToken) { t.SecretID = "other"; t.Seal() }).Hash() != sealed(func(*ACLToken) {}).Hash() {
		t.Error("the hash that readers see tells of the secret")
	}
}

func TestACLJSON(t *testing.T) {
	tok := &ACLToken{AccessorID: "acc", SecretID: "sec", Description: "t", Roles: []ACLLink{{"r", "r1"}},
		ACLGrants: ACLGrants{Policies: []ACLLink{{"p", "p1"}}, ServiceIdentities: []ServiceIdentity{{"web", []string{"dc1"}}, {"api", nil}},
			NodeIdentities:    []NodeIdentity{{"n", "dc1"}},
			TemplatedPolicies: []TemplatedPolicy{{"id", "builtin/service", "api", []string{"dc1"}}, {"id", "builtin/dns", "", nil}}},
		AuthMethod: "jw", ExpirationTime: time.Unix(1800000000, 5).UTC(), CreateTime: time.Unix(1700000000, 30e6).UTC(), CreateIndex: 6, ModifyIndex: 7}
	tok.Seal()
	role := &ACLRole{ID: "r", Name: "r1", Description: "d", CreateIndex: 1, ModifyIndex: 2}
	pol := &ACLPolicy{ID: "p", Name: "p1", Rules: `key "a" {}`, CreateIndex: 1, ModifyIndex: 2}
	rule := &ACLBindingRule{ID: "b", AuthMethod: "jw", BindType: "service", BindName: "x", CreateIndex: 1, ModifyIndex: 2}
	vars := &ACLBindingRule{ID: "b", AuthMethod: "jw", BindType: "templated-policy", BindName: "builtin/service", BindVars: "${value.n}"}
	m := &ACLAuthMethod{Name: "jw", Type: "jwt", MaxTokenTTL: 5 * time.Minute, Config: json.RawMessage(`{"A":1}`), CreateIndex: 1, ModifyIndex: 2}
	for _, tt := range []struct{ name, got, want string }{
		{"token", string(tok.JSON()), `{"AccessorID":"acc","SecretID":"sec","Description":"t","Policies":[{"ID":"p","Name":"p1"}],"Roles":[{"ID":"r","Name":"r1"}],"ServiceIdentities":[{"ServiceName":"web","Datacenters":["dc1"]},{"ServiceName":"api"}],"NodeIdentities":[{"NodeName":"n","Datacenter":"dc1"}],"TemplatedPolicies":[{"TemplateID":"id","TemplateName":"builtin/service","TemplateVariables":{"name":"api"},"Datacenters":["dc1"]},{"TemplateID":"id","TemplateName":"builtin/dns"}],"Local":false,"AuthMethod":"jw","ExpirationTime":"2027-01-15T08:00:00.000000005Z","CreateTime":"2023-11-14T22:13:20.03Z","Hash":"HASH","CreateIndex":6,"ModifyIndex":7}`},
		{"role", string(role.JSON()), `{"ID":"r","Name":"r1","Description":"d","Hash":"HASH","CreateIndex":1,"ModifyIndex":2}`},
		{"policy", string(pol.JSON()), `{"ID":"p","Name":"p1","Description":"","Rules":"key \"a\" {}","Hash":"HASH","CreateIndex":1,"ModifyIndex":2}`},
		{"policy in a list", string(pol.RowJSON()), `{"ID":"p","Name":"p1","Description":"","Datacenters":null,"Hash":"HASH","CreateIndex":1,"ModifyIndex":2}`},
		{"rule", string(rule.JSON()), `{"ID":"b","Description":"","AuthMethod":"jw","Selector":"","BindType":"service","BindName":"x","CreateIndex":1,"ModifyIndex":2}`},
		{"rule with variables", string(vars.JSON()), `{"ID":"b","Description":"","AuthMethod":"jw","Selector":"","BindType":"templated-policy","BindName":"builtin/service","BindVars":{"Name":"${value.n}"},"CreateIndex":0,"ModifyIndex":0}`},
		{"method", string(m.JSON()), `{"Name":"jw","Type":"jwt","Description":"","MaxTokenTTL":"5m0s","Config":{"A":1},"CreateIndex":1,"ModifyIndex":2}`},
		{"method in a list", string(m.RowJSON()), `{"Name":"jw","Type":"jwt","Description":"","MaxTokenTTL":"5m0s","CreateIndex":1,"ModifyIndex":2}`},
	} {
		if got := withoutHash(tt.got); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, tt.want)
		}
	}
	var hidden struct{ SecretID string }
	if err := json.Unmarshal(tok.HiddenJSON(), &hidden); err != nil || hidden.SecretID != "<hidden>" {
		t.Errorf("hidden: %q, %v", hidden.SecretID, err)
	}
}

// withoutHash replaces the 44 characters of a hash.
func withoutHash(s string) string {
	const name = `"Hash":"`
	b := []byte(s)
	for i := 0; i+len(name)+44 <= len(b); i++ {
		if string(b[i:i+len(name)]) == name && b[i+len(name)+44] == '"' {
			return string(slices.Concat(b[:i+len(name)], []byte("HASH"), b[i+len(name)+44:]))
		}
	}
	return s
}

func FuzzACLCommand(f *testing.F) {
	f.Add((&ACLCommand{Changes: []ACLChange{DeleteACL(ACLTokens, "x"), SetACL(ACLCreate, &ACLRole{ID: "r", Name: "n"})}}).AppendWire(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var c, again ACLCommand
		if c.DecodeWire(b) != nil {
			return
		}
		if err := again.DecodeWire(c.AppendWire(nil)); err != nil {
			t.Fatalf("what was written does not read: %v", err)
		}
		for _, ch := range c.Changes {
			if ch.Record != nil && !json.Valid(ch.Record.AppendJSON(nil)) {
				if m, ok := ch.Record.(*ACLAuthMethod); ok && !json.Valid(m.Config) {
					continue // Prepare refuses it before it is written
				}
				t.Fatalf("not JSON: %s", ch.Record.AppendJSON(nil))
			}
		}
		var boot ACLBootstrapCommand
		_ = boot.DecodeWire(b)
	})
}
