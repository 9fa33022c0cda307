package state

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"landbridge/store"
)

func aclToken(id string, edit ...func(*store.ACLToken)) *store.ACLToken {
	t := &store.ACLToken{AccessorID: id, SecretID: "secret of " + id}
	for _, f := range edit {
		f(t)
	}
	t.Seal()
	return t
}

func aclPolicy(id, name string) *store.ACLPolicy { return &store.ACLPolicy{ID: id, Name: name} }

func setACL(s *Store, op store.ACLOp, r store.ACLRecord) store.Result {
	return apply(s, store.CmdACL, &store.ACLCommand{Changes: []store.ACLChange{store.SetACL(op, r)}})
}

func mustACL(t tb, s *Store, changes ...store.ACLChange) store.Index {
	t.Helper()
	return must(t, s, store.CmdACL, &store.ACLCommand{Changes: changes})
}

func TestACLRefusedByTheState(t *testing.T) {
	s := New()
	mustACL(t, s, store.SetACL(store.ACLCreate, aclPolicy("p", "P1")), store.SetACL(store.ACLCreate, &store.ACLRole{ID: "r", Name: "R1"}),
		store.SetACL(store.ACLCreate, &store.ACLAuthMethod{Name: "m", Type: "jwt"}), store.SetACL(store.ACLCreate, aclToken("a")))
	link := func(id string) func(*store.ACLToken) {
		return func(t *store.ACLToken) { t.Policies = []store.ACLLink{{ID: id}} }
	}
	for _, tt := range []struct {
		name string
		op   store.ACLOp
		r    store.ACLRecord
		want string
	}{
		{"accessor", store.ACLCreate, aclToken("A", func(t *store.ACLToken) { t.SecretID = "x" }), "Invalid Token: AccessorID is already in use"},
		{"secret", store.ACLCreate, aclToken("b", func(t *store.ACLToken) { t.SecretID = "secret of a" }), "Invalid Token: SecretID is already in use"},
		{"no token", store.ACLUpdate, aclToken("b"), `Cannot find token "b"`},
		{"secret changes", store.ACLUpdate, aclToken("a", func(t *store.ACLToken) { t.SecretID = "x" }), "Changing a token's SecretID is not permitted"},
		{"local", store.ACLUpdate, aclToken("a", func(t *store.ACLToken) { t.Local = true }), "Cannot toggle local mode of a"},
		{"link", store.ACLCreate, aclToken("b", link("none")), `No such ACL policy with ID "none"`},
		{"method gone", store.ACLCreate, aclToken("b", func(t *store.ACLToken) { t.AuthMethod = "gone" }), `ACL not found: auth method "gone" not found`},
		{"policy name", store.ACLCreate, aclPolicy("q", "p1"), `Invalid Policy: A Policy with Name "p1" already exists`},
		{"no policy", store.ACLUpdate, aclPolicy("q", "q"), "cannot find policy q"},
		{"role name", store.ACLCreate, &store.ACLRole{ID: "q", Name: "r1"}, `Invalid Role: A Role with Name "r1" already exists`},
		{"role link", store.ACLUpdate, &store.ACLRole{ID: "r", Name: "R1", ACLGrants: store.ACLGrants{Policies: []store.ACLLink{{ID: "none"}}}}, `No such ACL policy with ID "none"`},
		{"rule", store.ACLCreate, &store.ACLBindingRule{ID: "b", AuthMethod: "none"}, `cannot find auth method with name "none"`},
		{"type", store.ACLUpdate, &store.ACLAuthMethod{Name: "m", Type: "kubernetes"}, `Changing an auth method's type from "jwt" to "kubernetes" is not permitted.`},
	} {
		before := s.ACLVersion()
		// With a change that could be made: none of a command is, if one is refused.
		res := apply(s, store.CmdACL, &store.ACLCommand{Changes: []store.ACLChange{
			store.SetACL(store.ACLCreate, aclToken("extra", func(t *store.ACLToken) { t.ExpirationTime = time.Unix(9, 0) })), store.SetACL(tt.op, tt.r)}})
		if res.Err == nil || res.Err.Error() != tt.want {
			t.Errorf("%s: got %v, want %q", tt.name, res.Err, tt.want)
		}
		if _, extra := s.ACLToken(nil, "extra"); extra != nil || s.ACLVersion() != before {
			t.Fatalf("%s: half of the command was made", tt.name)
		}
		if _, ok := s.ACLExpiry(nil); ok {
			t.Fatalf("%s: a token that is not there expires", tt.name)
		}
	}
}

// Links show what is there now, and deletions of a method take what came of it.
func TestACLLinksAndCascade(t *testing.T) {
	s := New()
	mustACL(t, s, store.SetACL(store.ACLCreate, aclPolicy("p1", "one")), store.SetACL(store.ACLCreate, aclPolicy("p2", "two")),
		store.SetACL(store.ACLCreate, &store.ACLRole{ID: "r", Name: "role", ACLGrants: store.ACLGrants{Policies: []store.ACLLink{{ID: "p1"}, {ID: "p2"}}}}),
		store.SetACL(store.ACLCreate, &store.ACLAuthMethod{Name: "M", Type: "jwt"}),
		store.SetACL(store.ACLCreate, &store.ACLBindingRule{ID: "b", AuthMethod: "M"}),
		store.SetACL(store.ACLCreate, aclToken("t", func(t *store.ACLToken) {
			t.Policies, t.Roles, t.AuthMethod = []store.ACLLink{{ID: "p1", Name: "one"}, {ID: "p2", Name: "two"}}, []store.ACLLink{{ID: "r", Name: "role"}}, "m"
		})))
	_, written := s.ACLToken(nil, "t")
	if _, again := s.ACLToken(nil, "T"); again != written {
		t.Error("an unchanged token is copied")
	}
	mustACL(t, s, store.SetACL(store.ACLUpdate, aclPolicy("p1", "uno")), store.DeleteACL(store.ACLPolicies, "p2"))
	_, tok := s.ACLTokenBySecret(nil, "secret of t")
	if want := []store.ACLLink{{ID: "p1", Name: "uno"}}; !slices.Equal(tok.Policies, want) {
		t.Errorf("links %v, want %v", tok.Policies, want)
	}
	if tok.Digest() == written.Digest() || s.ACLRecord(store.ACLTokens, "t").Digest() != written.Digest() {
		t.Error("the stored token changed with what it leads to")
	}
	_, id := s.ACLIdentity(nil, "secret of t")
	if id == nil || len(id.Policies) != 1 || id.Policies[0].Name != "uno" || len(id.Roles) != 1 {
		t.Errorf("identity %+v", id)
	}
	mustACL(t, s, store.DeleteACL(store.ACLAuthMethods, "m"))
	if _, tok := s.ACLToken(nil, "t"); tok != nil {
		t.Error("a token outlived its auth method")
	}
	if _, rule := s.ACLBindingRule(nil, "b"); rule != nil {
		t.Error("a rule outlived its auth method")
	}
	for _, key := range []string{store.ManagementPolicyID, store.ReadOnlyPolicyID} {
		mustACL(t, s, store.SetACL(store.ACLCreate, aclPolicy(key, key)))
		if res := apply(s, store.CmdACL, &store.ACLCommand{Changes: []store.ACLChange{store.DeleteACL(store.ACLPolicies, key)}}); res.Err == nil {
			t.Errorf("policy %s was deleted", key)
		}
	}
}

func TestACLExpiryOrder(t *testing.T) {
	s := New()
	at := func(sec int64) func(*store.ACLToken) {
		return func(t *store.ACLToken) { t.ExpirationTime, t.Local = time.Unix(sec, 0), sec%2 == 0 }
	}
	for _, sec := range []int64{30, 10, 20, 41} {
		mustACL(t, s, store.SetACL(store.ACLCreate, aclToken(fmt.Sprint(sec), at(sec))))
	}
	mustACL(t, s, store.SetACL(store.ACLCreate, aclToken("never")))
	if next, ok := s.ACLExpiry(nil); !ok || next.Unix() != 10 {
		t.Errorf("next expiry %v %v", next, ok)
	}
	ids := func(list []*store.ACLToken) (out []string) {
		for _, t := range list {
			out = append(out, t.AccessorID)
		}
		return out
	}
	if got := ids(s.ACLExpired(time.Unix(30, 0), 10, false)); !slices.Equal(got, []string{"10", "20", "30"}) {
		t.Errorf("expired %v", got)
	}
	if got := ids(s.ACLExpired(time.Unix(99, 0), 2, true)); !slices.Equal(got, []string{"10", "20"}) {
		t.Errorf("local, two at most: %v", got)
	}
	expire := func(id string, now int64) store.Result {
		cmd := command(store.CmdACL, &store.ACLCommand{Changes: []store.ACLChange{{Op: store.ACLExpire, Kind: store.ACLTokens, Key: id}}})
		cmd.UnixNano = time.Unix(now, 0).UnixNano()
		var res [1]store.Result
		s.Apply([]store.Command{cmd}, res[:])
		return res[0]
	}
	if res := expire("10", 9); res.OK || res.Err != nil {
		t.Errorf("before its time: %+v", res)
	}
	if res := expire("never", 1<<40); res.OK {
		t.Error("a token without an end was ended")
	}
	if res := expire("10", 10); !res.OK {
		t.Errorf("at its time: %+v", res)
	}
	if next, _ := s.ACLExpiry(nil); next.Unix() != 20 {
		t.Errorf("next expiry %v", next)
	}
}

// A follower that applies what the log says, from wherever it is, has the records.
func TestACLChangesModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, copied := New(), map[string][32]byte{}
		var at store.Index
		follow := func() {
			for {
				events, upTo, ok := s.ACLChanges(nil, at, rapid.IntRange(1, 5).Draw(t, "limit"))
				if !ok {
					t.Fatal("the log lost its beginning")
				}
				for _, e := range events {
					key := e.Kind.String() + e.Key
					if r := s.ACLRecord(e.Kind, e.Key); r == nil {
						delete(copied, key)
					} else {
						copied[key] = r.Digest()
					}
				}
				if at = upTo; upTo == s.Index() {
					return
				}
			}
		}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			id := fmt.Sprint(rapid.IntRange(0, 4).Draw(t, "id"))
			var ch store.ACLChange
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0:
				ch = store.DeleteACL(store.ACLKind(rapid.IntRange(1, 5).Draw(t, "kind")), id)
			case 1:
				ch = store.SetACL(store.ACLSet, aclPolicy(id, fmt.Sprint("n", rapid.IntRange(0, 3).Draw(t, "name"))))
			case 2:
				ch = store.SetACL(store.ACLSet, aclToken(id, func(t *store.ACLToken) { t.AuthMethod = "0" }))
			case 3:
				ch = store.SetACL(store.ACLSet, aclToken(id, func(t *store.ACLToken) { t.SecretID = "shared" }))
			case 4:
				ch = store.SetACL(store.ACLSet, &store.ACLAuthMethod{Name: id, Type: "jwt"})
			case 5:
				follow()
				continue
			}
			apply(s, store.CmdACL, &store.ACLCommand{Changes: []store.ACLChange{ch}, Replicated: true})
		}
		follow()
		want := map[string][32]byte{}
		for k := store.ACLTokens; k <= store.ACLAuthMethods; k++ {
			s.ACLRecords(k, func(key string, r store.ACLRecord) bool {
				want[k.String()+key] = r.Digest()
				return true
			})
		}
		if len(want) != len(copied) {
			t.Fatalf("%d records, the follower has %d", len(want), len(copied))
		}
		for k, d := range want {
			if copied[k] != d {
				t.Fatalf("%s differs", k)
			}
		}
	})
}

func TestACLLogIsBounded(t *testing.T) {
	var l aclLog
	hour := int64(time.Hour)
	for i := range aclLogEvents + 5000 { // all within the hour: all are kept
		l.add(ACLEvent{Index: store.Index(i + 1)})
	}
	if n := len(l.events) - l.gone; n != aclLogEvents+5000 || l.floor != 0 {
		t.Fatalf("%d events after less than an hour, floor %d", n, l.floor)
	}
	l.add(ACLEvent{Index: aclLogEvents + 5001, at: hour + 1})
	if n := len(l.events) - l.gone; n != aclLogEvents || l.floor != 5001 {
		t.Fatalf("%d events after the hour, floor %d", n, l.floor)
	}
	if i := l.after(l.floor); i != l.gone {
		t.Errorf("after the floor comes %d, want %d", i, l.gone)
	}
	for i := range aclLogMost {
		l.add(ACLEvent{Index: store.Index(i) + 2*aclLogEvents, at: hour + 1})
	}
	if n := len(l.events) - l.gone; n != aclLogMost || cap(l.events) > 3*aclLogMost {
		t.Errorf("%d events in room for %d", n, cap(l.events))
	}
}

func TestACLSnapshot(t *testing.T) {
	s := New()
	if res := apply(s, store.CmdACLBootstrap, &store.ACLBootstrapCommand{Token: aclToken("boot")}); !res.OK {
		t.Fatal(res.Err)
	}
	mustACL(t, s, store.SetACL(store.ACLCreate, aclPolicy("p", "P")), store.SetACL(store.ACLCreate, &store.ACLRole{ID: "r", Name: "R"}),
		store.SetACL(store.ACLCreate, &store.ACLAuthMethod{Name: "m", Type: "jwt"}), store.SetACL(store.ACLCreate, &store.ACLBindingRule{ID: "b", AuthMethod: "m"}),
		store.SetACL(store.ACLCreate, aclToken("t", func(t *store.ACLToken) { t.ExpirationTime = time.Unix(5, 0) })))
	sn := s.Snapshot()
	im := NewImage(sn.Header())
	if err := sn.Encode(func(k RecordKind, b []byte) error {
		if _, err := k.AppendJSON(nil, b); err != nil {
			t.Errorf("%s as JSON: %v", k.Name(), err)
		}
		return im.Add(k, b)
	}); err != nil {
		t.Fatal(err)
	}
	back := New()
	version := back.ACLVersion()
	back.Restore(im)
	for k := store.ACLTokens; k <= store.ACLAuthMethods; k++ {
		n := 0
		s.ACLRecords(k, func(key string, r store.ACLRecord) bool {
			n++
			got := back.ACLRecord(k, key)
			if got == nil || got.Digest() != r.Digest() {
				t.Errorf("%s %s is not what it was", k, key)
			}
			return true
		})
		if n == 0 {
			t.Errorf("no %s in the snapshot", k)
		}
	}
	if at, tokens := back.ACLBootstrapped(); at == 0 || !tokens {
		t.Error("the bootstrap is forgotten")
	}
	if next, ok := back.ACLExpiry(nil); !ok || next.Unix() != 5 {
		t.Error("the order of expiry is not restored")
	}
	if back.ACLVersion() == version {
		t.Error("caches do not notice the restore")
	}
	if _, _, ok := back.ACLChanges(nil, back.Index()-1, 10); ok {
		t.Error("the log of a restored state claims to know what came before")
	}
	if _, _, ok := back.ACLChanges(nil, back.Index(), 10); !ok {
		t.Error("the log of a restored state does not begin at its index")
	}
}

// A watch is fired by what it reads and by nothing else.
func TestACLWatches(t *testing.T) {
	s := New()
	mustACL(t, s, store.SetACL(store.ACLCreate, aclToken("a")), store.SetACL(store.ACLCreate, aclToken("b")))
	fired := func(w *Watch) bool {
		select {
		case <-w.C():
			return true
		default:
			return false
		}
	}
	one, all, kinds, any := s.NewWatch(), s.NewWatch(), s.NewWatch(), s.NewWatch()
	s.ACLToken(one, "a")
	s.ACLTokens(all)
	s.ACLPolicies(kinds)
	s.ACLIdentity(any, "nobody's")
	edit := func(t *store.ACLToken) { t.Description = "x" }
	mustACL(t, s, store.SetACL(store.ACLUpdate, aclToken("b", edit)))
	if fired(one) || !fired(all) || fired(kinds) || !fired(any) {
		t.Error("a change of b fired the watch of a or of policies, or not that of the tokens")
	}
	s.ACLTokens(all)
	if res := setACL(s, store.ACLUpdate, aclToken("b", edit)); res.OK || res.Err != nil || fired(all) {
		t.Errorf("writing the same again is a change: %+v", res)
	}
	mustACL(t, s, store.DeleteACL(store.ACLTokens, "a"))
	if !fired(one) {
		t.Error("the end of a was not told")
	}
}
