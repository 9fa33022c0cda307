package endpoint

import (
	"context"
	"sync"
	"testing"

	"landbridge/forwarding/rpc"
	"landbridge/store"
	"landbridge/store/acl"
	"landbridge/store/state"
)

// fakeTokens knows the rules behind secrets.
type fakeTokens struct {
	mu    sync.Mutex
	who   map[string]*acl.Bearer
	asked []string
}

// tokensOf makes tokens whose secrets and accessors are the names of rules.
func tokensOf(t testing.TB, rules map[string]string) *fakeTokens {
	t.Helper()
	f := &fakeTokens{who: make(map[string]*acl.Bearer)}
	for secret, text := range rules {
		r, err := acl.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		id := secret
		if secret == "" {
			id = acl.AnonymousID
		}
		f.who[secret] = &acl.Bearer{AccessorID: id, Authorizer: acl.Compile(acl.Defaults{}, r)}
	}
	return f
}

func (f *fakeTokens) Resolve(_ context.Context, secret string, _ *state.Watch, _ bool) (*acl.Bearer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, secret)
	if who := f.who[secret]; who != nil {
		return who, nil
	}
	return nil, &store.Error{Kind: store.KindPermissionDenied, Message: "ACL not found"}
}

// Every method says what it needs, and who says that its body decides has a check.
func TestEveryMethodHasItsCheck(t *testing.T) {
	for _, m := range rpc.Methods() {
		if !m.Rights.Declared() {
			t.Errorf("%s does not say what it needs", m.Name)
		}
		if has := bodyChecks[m.ID] != nil; has != (m.Rights == rpc.ByBody) {
			t.Errorf("%s: has a check of its own: %v, declares one: %v", m.Name, has, m.Rights == rpc.ByBody)
		}
		if m.Rights == rpc.Servers != (m.Resource == rpc.ServerResource) {
			t.Errorf("%s: is for servers in one column only", m.Name)
		}
		if m.Rights == rpc.ByName && !m.Resource.ACL().Named() || m.Rights == rpc.Whole && m.Resource.ACL().Named() {
			t.Errorf("%s: its resource does not go with what it needs", m.Name)
		}
		if m.Write && (m.Rights == rpc.Open || m.Rights == rpc.Filtered || m.Rights == rpc.Whole && m.Access != acl.Write) {
			t.Errorf("%s writes and needs no right to write", m.Name)
		}
	}
	s, _ := newSet(t)
	s.cfg.Tokens = tokensOf(t, map[string]string{"": acl.GlobalManagement})
	if err := s.check(&rpc.Method{Name: "New.Method"}, &rpc.Request{Bearer: &acl.Bearer{Authorizer: acl.Compile(acl.Defaults{Allow: true})}}); store.KindOf(err) != store.KindPermissionDenied {
		t.Errorf("a method that declares nothing: %v", err)
	}
}

// Secrets go to who may make tokens of its own, hashes to who may read.
func TestReplicationRights(t *testing.T) {
	s, _ := newSet(t)
	for _, tc := range []struct {
		rule, what string
		may        bool
	}{
		{`acl = "read"`, "", true},
		{`acl = "read"`, rpc.ReplicateHashes, true},
		{`acl = "read"`, rpc.ReplicateTokens, false},
		{`acl = "write"`, rpc.ReplicateTokens, true},
		{`operator = "write"`, rpc.ReplicateHashes, false},
	} {
		r, err := acl.Parse(tc.rule)
		if err != nil {
			t.Fatal(err)
		}
		who := &acl.Bearer{Authorizer: acl.Compile(acl.Defaults{}, r)}
		for _, m := range []rpc.MethodID{rpc.ACLFollow, rpc.ACLTrees, rpc.ACLLeaves, rpc.ACLRows} {
			err := s.check(rpc.Lookup(m), &rpc.Request{Method: m, Bearer: who, Query: store.Query{Name: tc.what}})
			if (err == nil) != tc.may {
				t.Errorf("%s asks %s for %q: %v", tc.rule, rpc.Lookup(m).Name, tc.what, err)
			}
		}
	}
}
