package acl

import (
	"errors"
	"strings"
	"testing"

	"landbridge/store"
)

func compile(t testing.TB, d Defaults, texts ...string) *Authorizer {
	t.Helper()
	var all []*Rules
	for _, text := range texts {
		r, err := Parse(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		all = append(all, r)
	}
	return Compile(d, all...)
}

func TestDecisions(t *testing.T) {
	for _, c := range []struct {
		name, rules string
		allow       Defaults
		may, not    string // resource:access:name, separated by blanks
	}{
		{"empty grants nothing", ``, Defaults{}, "", "key:read:a operator:read: acl:read: service:read:a node:read:a"},
		{"default allow, but never acl", ``, Defaults{Allow: true}, "key:write:a operator:write: keyring:write: service:write:a mesh:write:", "acl:read: acl:write: intention:read:a"},
		{"default of intentions", ``, Defaults{AllowIntentions: true}, "intention:write:a", "service:read:a"},
		{"exact beats prefix", `key "foo/bar" { policy = "read" } key_prefix "foo/" { policy = "write" }`, Defaults{},
			"key:read:foo/bar key:write:foo/bars key:write:foo/", "key:write:foo/bar key:read:foo key:read:fo"},
		{"exact beats prefix on the same string", `key "foo" { policy = "read" } key_prefix "foo" { policy = "write" }`, Defaults{},
			"key:read:foo key:write:foo/x", "key:write:foo"},
		{"longest prefix", `key_prefix "" { policy = "write" } key_prefix "a/" { policy = "deny" } key_prefix "a/b/" { policy = "read" }`, Defaults{},
			"key:write:x key:write:a key:read:a/b/c", "key:read:a/ key:read:a/c key:write:a/b/c"},
		{"deny under a default of allow", `key_prefix "secret/" { policy = "deny" }`, Defaults{Allow: true}, "key:write:x", "key:read:secret/x"},
		{"list", `key_prefix "l/" { policy = "list" } key_prefix "r/" { policy = "read" }`, Defaults{}, "key:read:l/a key:list:l/ key:read:r/a", "key:list:r/ key:write:l/a"},
		{"intentions follow the policy", `service "w" { policy = "write" } service "d" { policy = "deny" } service "r" { policy = "read" }`, Defaults{},
			"intention:read:w intention:read:r", "intention:write:w intention:read:d"},
		{"intentions of their own", `service_prefix "" { policy = "read" intentions = "write" } service "x" { policy = "write" intentions = "deny" }`, Defaults{},
			"intention:write:a service:write:x", "intention:read:x service:write:a"},
		{"mesh and peering follow operator", `operator = "write"`, Defaults{}, "mesh:write: peering:write: operator:write:", "keyring:read: acl:read:"},
		{"mesh of its own", `operator = "write" mesh = "read"`, Defaults{}, "mesh:read: peering:write:", "mesh:write:"},
		{"operator denied denies mesh", `operator = "deny"`, Defaults{Allow: true}, "keyring:write:", "mesh:read: peering:read:"},
		{"names of nodes and services have no case", `service "DB" { policy = "deny" } service_prefix "" { policy = "write" } node_prefix "Web" { policy = "write" }`, Defaults{},
			"service:write:DBs node:write:weBx", "service:read:db service:read:Db intention:read:dB"},
		{"names of keys and events do", `key "A" { policy = "write" } event "E" { policy = "write" } query "Q" { policy = "write" }`, Defaults{},
			"key:write:A event:write:E query:write:q", "key:read:a event:read:e"},
		{"unknown words", `bogus "x" { policy = "write" } other = 5 key "x" { policy = "read" flavour = "mild" }`, Defaults{}, "key:read:x", "key:write:x"},
		{"words have no case", `KEY_prefix "" { policy = "write" } Key "x" { POLICY = "deny" } operator = "write" OPERATOR = "read" Service "s" { policy = "read" Intentions = "write" }`, Defaults{},
			"key:write:y operator:write: intention:write:s", "key:read:x"},
		{"comments and strings open nothing", strings.Repeat("# {\n", 100) + strings.Repeat(`key "{" { policy = "read" } `, 100), Defaults{}, "key:read:{", ""},
		{"json", `{"key":{"a/b":{"policy":"write"},"c":{"policy":"read"}},"key_prefix":{"":{"policy":"read"}},"operator":"read","service_prefix":[{"":{"policy":"read"}}]}`, Defaults{},
			"key:write:a/b key:read:c key:read:zz operator:read: service:read:s", "key:write:c operator:write:"},
		{"agent, session, identity", `agent "n" { policy = "write" } session_prefix "n" { policy = "read" } identity "i" { policy = "read" }`, Defaults{},
			"agent:write:n session:read:n2 identity:read:i", "agent:read:n2 session:write:n"},
		{"management", GlobalManagement, Defaults{}, "acl:write: keyring:write: operator:write: mesh:write: peering:write: agent:write:x event:write:x key:write:x node:write:x query:write:x service:write:x intention:write:x session:write:x", "identity:read:x"},
		{"read only", GlobalReadOnly, Defaults{}, "acl:read: key:read:x intention:read:x", "acl:write: key:list:x service:write:x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := compile(t, c.allow, c.rules)
			for want, list := range map[bool]string{true: c.may, false: c.not} {
				for _, q := range strings.Fields(list) {
					p := strings.SplitN(q, ":", 3)
					r, err := ParseResource(p[0])
					if err != nil {
						t.Fatal(err)
					}
					access, err := ParseAccess(p[1])
					if err != nil {
						t.Fatal(err)
					}
					if got := a.Can(r, p[2], access); got != want {
						t.Errorf("Can(%s) = %v", q, got)
					}
				}
			}
		})
	}
}

func TestMergeAcrossPolicies(t *testing.T) {
	policy := func(p string) string {
		return `key_prefix "x" { policy = "` + p + `" } operator = "` + strings.Replace(p, "list", "read", 1) + `"`
	}
	for _, c := range []struct {
		policies string
		most     string // "" for none
	}{
		{"read list write", "write"}, {"write deny", ""}, {"deny write", ""}, {"read list", "list"}, {"read read", "read"}, {"list deny read", ""},
	} {
		var texts []string
		for _, p := range strings.Fields(c.policies) {
			texts = append(texts, policy(p))
		}
		for _, a := range []*Authorizer{compile(t, Defaults{Allow: true}, texts...), compile(t, Defaults{}, strings.ReplaceAll(strings.Join(texts, "\n"), "operator", "\noperator"))} {
			most := ""
			for _, access := range []Access{Read, List, Write} {
				if a.Can(Key, "xy", access) {
					most = access.String()
				}
			}
			if most != c.most {
				t.Errorf("%s: at most %q is allowed, want %q", c.policies, most, c.most)
			}
		}
	}
}

func TestBelow(t *testing.T) {
	a := compile(t, Defaults{}, `key_prefix "foo/" { policy = "write" } key "foo/secret" { policy = "deny" } key_prefix "bar/" { policy = "write" } key "bar" { policy = "write" }
		key_prefix "ro/a" { policy = "read" } key_prefix "ro/" { policy = "write" } key_prefix "l/" { policy = "list" }`)
	for prefix, want := range map[string]bool{"foo/": false, "foo/s": false, "foo/t": true, "foo/secret/": true, "bar/": true, "bar": false, "": false, "ro/": false, "ro/b": true, "ro/ab": false, "l/": false} {
		if got := a.CanBelow(Key, prefix, Write); got != want {
			t.Errorf("writing everything below %q: %v", prefix, got)
		}
	}
	if !a.CanSome(Key, Write) || a.CanSome(Service, Read) || !a.CanSome(Key, List) {
		t.Error("CanSome is wrong")
	}
	for rules, want := range map[string]bool{``: false, `key_prefix "" { policy = "read" }`: false, `event "e" { policy = "write" }`: true, `operator = "write"`: true} {
		if got := compile(t, Defaults{}, rules).CanAny(Write); got != want {
			t.Errorf("%q lets write something: %v", rules, got)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct{ rules, want string }{
		{`key "x" {`, "Failed to parse ACL rules: At 1:11: object expected closing RBRACE got: EOF"},
		{`key "x" { policy = "bogus" }`, `Invalid key policy: "bogus" on "x"`},
		{`key_prefix "x" { policy = 5 }`, `Invalid key_prefix policy: 5 on "x"`},
		{`operator = "bogus"`, `Invalid operator policy: "bogus"`},
		{`operator "x" { policy = "read" }`, `Invalid operator policy: `},
		{`acl = "list"`, `Invalid acl policy: "list"`},
		{`service "x" { policy = "list" }`, `Invalid service policy: "list" on "x"`},
		{`service "x" { policy = "read" intentions = "list" }`, `Invalid service policy: intentions "list" on "x"`},
		{`node "x" { }`, `Invalid node policy: "x": there is no policy`},
		{`node_prefix = "read"`, `Invalid node_prefix policy: `},
		{`node "x" "y" { policy = "read" }`, `Invalid node policy: "x": there is no policy`},
		{`namespace "x" { policy = "write" }`, `"namespace": namespaces and partitions`},
		{`key "x" { policy = "write" sentinel { code = "1" } }`, "sentinel"},
		{`key "x" { policy = "write" Policy = "deny" }`, `Invalid key policy: "x": policy is there twice`},
		{`KEY "x" { Policy = "bogus" }`, `Invalid key policy: "bogus" on "x"`},
		{`{"key":{"x":{"policy":"write"}}`, "Failed to parse ACL rules: object expected closing RBRACE got: EOF"},
		{`{`, "object expected closing RBRACE got: EOF"},
		{`x = ` + strings.Repeat("[", 1000), "deeper than 64"},
		{`/* " */ ` + strings.Repeat("a {", 100_000), "deeper than 64"},
		{"x = \"${ \n }\" " + strings.Repeat("a {", 100_000), "deeper than 64"},
		{strings.Repeat(`a /* */ "b" `, 40_000) + "{}", "deeper than 64"},
		{strings.Repeat(`{"a":`, 100_000), "deeper than 64"},
		{strings.Repeat("#", MaxRules+1), "at most 524288"},
	} {
		_, err := Parse(c.rules)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.60s: %v, want %q", c.rules, err, c.want)
		} else if store.KindOf(err) != store.KindInvalid {
			t.Errorf("%.60s: kind %d", c.rules, store.KindOf(err))
		}
	}
}

func TestIdentities(t *testing.T) {
	rules, err := ServiceIdentity("web")
	if err != nil {
		t.Fatal(err)
	}
	a := compile(t, Defaults{}, rules)
	if !a.Can(Service, "web", Write) || !a.Can(Service, "web-sidecar-proxy", Write) || a.Can(Service, "web2", Write) || !a.Can(Node, "n", Read) || a.Can(Node, "web", Write) {
		t.Error("rights of a service identity")
	}
	if rules, err = NodeIdentity("n1"); err != nil {
		t.Fatal(err)
	}
	if a = compile(t, Defaults{}, rules); !a.Can(Node, "n1", Write) || !a.Can(Service, "x", Read) || a.Can(Node, "n2", Read) {
		t.Error("rights of a node identity")
	}
	for _, bad := range []string{"", "Web_X", "-a", "a-", `x" {} acl = "write" #`, strings.Repeat("a", 257)} {
		if _, err := ServiceIdentity(bad); err == nil {
			t.Errorf("service identity %q was taken", bad)
		}
		if _, err := NodeIdentity(bad); err == nil {
			t.Errorf("node identity %q was taken", bad)
		}
	}
	for i := range Templates() {
		tp := &Templates()[i]
		text, err := tp.Expand("api")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(text); err != nil || strings.Contains(text, "{{") {
			t.Errorf("%s: %v in %s", tp.Name, err, text)
		}
		if TemplateNamed(tp.Name) != tp || TemplateNamed(tp.ID) != tp {
			t.Errorf("%s is not found by name and id", tp.Name)
		}
		if _, err := tp.Expand("A b"); (err != nil) != tp.NeedsName {
			t.Errorf("%s: a name that cannot be: %v", tp.Name, err)
		}
	}
	a = Compile(Defaults{}, RecoveryRules("N1"))
	if !a.Can(Agent, "n1", Write) || a.Can(Agent, "n2", Read) || !a.Can(Node, "any", Read) || a.Can(Node, "n1", Write) {
		t.Error("rights of the recovery token")
	}
}

func TestDenied(t *testing.T) {
	b := &Bearer{AccessorID: "u-1", Authorizer: Compile(Defaults{})}
	for _, c := range []struct {
		err  error
		want string
	}{
		{b.Check(Key, "x", Write), `Permission denied: token with AccessorID 'u-1' lacks permission 'key:write' on "x"`},
		{b.Check(ACL, "", Read), `Permission denied: token with AccessorID 'u-1' lacks permission 'acl:read'`},
		{(&Bearer{AccessorID: AnonymousID, Authorizer: b.Authorizer}).Check(Key, "x", Read),
			`Permission denied: anonymous token lacks permission 'key:read' on "x". The anonymous token is used implicitly when a request does not specify a token.`},
		{b.CheckBelow(Key, "p/", Write), `Permission denied: token with AccessorID 'u-1' lacks permission 'key:write' on "p/"`},
	} {
		if c.err == nil || c.err.Error() != c.want {
			t.Errorf("got  %v\nwant %s", c.err, c.want)
		}
		if !errors.Is(c.err, &store.Error{Kind: store.KindPermissionDenied}) {
			t.Errorf("%v is of another kind", c.err)
		}
	}
	var off *Bearer
	if off.Check(Key, "x", Write) != nil || off.CheckBelow(Key, "", Write) != nil || off.Anonymous() {
		t.Error("without ACLs something is refused")
	}
}
