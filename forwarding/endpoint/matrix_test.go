package endpoint

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"landbridge/forwarding/identity"
	"landbridge/forwarding/rpc"
	"landbridge/store"
	"landbridge/store/acl"
)

// verdict is what a request comes to.
type verdict string

const (
	yes     verdict = "yes"     // everything that is there
	no      verdict = "no"      // refused
	nothing verdict = "nothing" // answered, with nothing to see
	unknown verdict = "unknown" // refused: nobody has the secret
)

// asked is a request of the matrix, with what tells that its answer shows
// something; "" for answers that are refused or given as a whole.
type asked struct {
	name  string
	req   func() *rpc.Request
	shows string
	// needs is the right that the verdict hangs on.
	needs func(b *acl.Bearer) bool
	// hidden is the verdict without it.
	hidden verdict
	pages  bool // can block
}

func mustEncode(c interface{ AppendWire([]byte) []byte }) []byte { return c.AppendWire(nil) }

func needs(r acl.Resource, name string, want acl.Access) func(*acl.Bearer) bool {
	return func(b *acl.Bearer) bool { return b.Can(r, name, want) }
}

func all(list ...func(*acl.Bearer) bool) func(*acl.Bearer) bool {
	return func(b *acl.Bearer) bool {
		for _, f := range list {
			if !f(b) {
				return false
			}
		}
		return true
	}
}

func reads(m rpc.MethodID, name string) func() *rpc.Request {
	return func() *rpc.Request { return &rpc.Request{Method: m, Query: store.Query{Name: name}} }
}

func writes(m rpc.MethodID, c interface{ AppendWire([]byte) []byte }) func() *rpc.Request {
	return func() *rpc.Request { return &rpc.Request{Method: m, Body: c.AppendWire(nil)} }
}

// matrixRequests is the one table: what is asked for, and the right it takes.
func matrixRequests() []asked {
	const key, node, svc = "app/db", "n1", "web"
	readNode, readService := needs(acl.Node, node, acl.Read), needs(acl.Service, svc, acl.Read)
	changes := 0
	op := func(verb store.TxnVerb) *store.TxnCommand {
		return &store.TxnCommand{Ops: []store.TxnOp{{Verb: verb, KV: &store.KVEntry{Key: key, Value: []byte("v")}}}}
	}
	return []asked{
		{"key", reads(rpc.KVGet, key), "app/db", needs(acl.Key, key, acl.Read), no, true},
		{"keys below", reads(rpc.KVList, "app/"), "app/db", needs(acl.Key, key, acl.Read), nothing, true},
		{"names of keys", reads(rpc.KVKeys, "app/"), "app/db", needs(acl.Key, key, acl.Read), nothing, true},
		{"write key", writes(rpc.KVApply, &store.KVCommand{Op: store.KVSet, Entry: store.KVEntry{Key: key, Value: []byte("v")}}), "true", needs(acl.Key, key, acl.Write), no, false},
		{"delete keys below", writes(rpc.KVApply, &store.KVCommand{Op: store.KVDeleteAll, Entry: store.KVEntry{Key: "none/" + key}}), "true",
			func(b *acl.Bearer) bool { return b.CanBelow(acl.Key, "none/"+key, acl.Write) }, no, false},
		{"transaction that writes", writes(rpc.TxnApply, op(store.TxnSet)), `"Errors":null`, needs(acl.Key, key, acl.Write), nothing, false},
		{"transaction that reads", writes(rpc.TxnRead, op(store.TxnGet)), `"Errors":null`, needs(acl.Key, key, acl.Read), nothing, false},
		{"transaction over a tree", writes(rpc.TxnRead, op(store.TxnGetTree)), `"app/db"`, needs(acl.Key, key, acl.Read), nothing, false},
		{"nodes", reads(rpc.CatalogNodes, ""), `"Node":"n1"`, readNode, nothing, true},
		{"node", reads(rpc.CatalogNodeServices, node), `"Node":"n1"`, readNode, nothing, true},
		{"node's list", reads(rpc.CatalogNodeServiceList, node), `"Node":"n1"`, readNode, nothing, true},
		{"node's services", reads(rpc.CatalogNodeServices, node), `"Service":"web"`, all(readNode, readService), nothing, true},
		{"services", reads(rpc.CatalogServices, ""), `"web"`, readService, nothing, true},
		{"service", reads(rpc.CatalogServiceNodes, svc), `"web"`, all(readNode, readService), nothing, true},
		{"health of a service", reads(rpc.HealthService, svc), `"web"`, all(readNode, readService), nothing, true},
		{"checks of a service", reads(rpc.HealthChecks, svc), `"webcheck"`, all(readNode, readService), nothing, true},
		{"checks of a node", reads(rpc.HealthNode, node), `"nodecheck"`, readNode, nothing, true},
		{"checks in a state", reads(rpc.HealthState, "any"), `"nodecheck"`, readNode, nothing, true},
		{"coordinates", reads(rpc.CoordinateNodes, ""), `"n1"`, readNode, nothing, true},
		{"register", writes(rpc.CatalogRegister, &store.RegisterCommand{Node: store.Node{Node: node, Address: "10.0.0.1"}, Service: &store.Service{Name: svc}}), "true", needs(acl.Service, svc, acl.Write), no, false},
		{"register under the id of another", writes(rpc.CatalogRegister, &store.RegisterCommand{Node: store.Node{Node: node, Address: "10.0.0.1"}, Service: &store.Service{ID: "web", Name: "api"}, Checks: nil, SkipNodeUpdate: true}), "true",
			func(b *acl.Bearer) bool { return false }, no, false},
		{"change a node", func() *rpc.Request {
			changes++ // each is another one
			return writes(rpc.CatalogRegister, &store.RegisterCommand{Node: store.Node{Node: node, Address: "10.0.1." + strconv.Itoa(changes)}})()
		}, "true", needs(acl.Node, node, acl.Write), no, false},
		{"deregister a check", writes(rpc.CatalogDeregister, &store.DeregisterCommand{Node: node, CheckID: "gone"}), "true", needs(acl.Node, node, acl.Write), no, false},
		{"sessions", reads(rpc.SessionList, ""), `"Node":"n1"`, needs(acl.Session, node, acl.Read), nothing, true},
		{"sessions of a node", reads(rpc.SessionNode, node), `"Node":"n1"`, needs(acl.Session, node, acl.Read), nothing, true},
		{"create session", writes(rpc.SessionCreate, &store.SessionCommand{Op: store.SessionCreate, Session: store.Session{Node: node}}), `"ID"`, needs(acl.Session, node, acl.Write), no, false},
		{"queries", reads(rpc.QueryList, ""), `"q1"`, needs(acl.Query, "q1", acl.Read), nothing, true},
		{"execute a query", func() *rpc.Request {
			return &rpc.Request{Method: rpc.QueryExecute, Query: store.Query{Name: "q1"}, Body: mustEncode(&store.QueryExecute{})}
		}, `"Service":"web","Tags"`, all(readNode, readService), nothing, false},
		{"explain a query", reads(rpc.QueryExplain, "q1"), `"q1"`, needs(acl.Query, "q1", acl.Read), no, false},
		{"write a query", writes(rpc.QueryApply, &store.QueryCommand{Op: store.QueryCreate, Query: store.PreparedQuery{Name: "q1", Service: store.QueryService{Service: svc}}}), "", needs(acl.Query, "q1", acl.Write), no, false},
		{"autopilot", reads(rpc.AutopilotConfig, ""), "{", needs(acl.Operator, "", acl.Read), no, true},
		{"set autopilot", writes(rpc.AutopilotSetConfig, &store.AutopilotCommand{Config: store.AutopilotConfig{MaxTrailingLogs: 9}}), "true", needs(acl.Operator, "", acl.Write), no, false},
		{"usage", reads(rpc.OperatorUsage, ""), "Usage", needs(acl.Operator, "", acl.Read), no, true},
		{"leader", reads(rpc.StatusLeader, ""), `"`, func(*acl.Bearer) bool { return true }, no, false},
		{"datacenters", reads(rpc.CatalogDatacenters, ""), "dc1", func(*acl.Bearer) bool { return true }, no, false},
	}
}

// open are the requests that need nothing, whoever asks.
var openRequests = map[string]bool{"leader": true, "datacenters": true}

// The same verdict, whatever the consistency, for every kind of token.
func TestMatrix(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newSet(t)
		seed(t, s)
		tokens := map[string]string{ // secret: rules of its policy
			"none":        ``,
			"read":        acl.GlobalReadOnly,
			"list":        `key_prefix "" { policy = "list" }`,
			"write":       `key_prefix "" { policy = "write" } node_prefix "" { policy = "write" } service_prefix "" { policy = "write" } session_prefix "" { policy = "write" } query_prefix "" { policy = "write" }`,
			"deny-under":  `key_prefix "" { policy = "write" } key_prefix "app/" { policy = "deny" } service_prefix "" { policy = "write" } service "WEB" { policy = "deny" } node_prefix "" { policy = "read" }`,
			"exact-over":  `key_prefix "app/" { policy = "deny" } key "app/db" { policy = "read" } service_prefix "" { policy = "deny" } service "web" { policy = "write" } node_prefix "" { policy = "deny" } node "n1" { policy = "read" }`,
			"operator":    `operator = "write"`,
			"management":  acl.GlobalManagement,
			"expired":     acl.GlobalManagement,
			"deleted":     acl.GlobalManagement,
			"other-place": acl.GlobalManagement, // its policy is for another datacenter
		}
		var changes []store.ACLChange
		for secret, rules := range tokens {
			p := &store.ACLPolicy{ID: "p-" + secret, Name: "p-" + secret, Rules: rules}
			if secret == "other-place" {
				p.Datacenters = []string{"dc2"}
			}
			tok := &store.ACLToken{AccessorID: "id-" + secret, SecretID: secret, ACLGrants: store.ACLGrants{Policies: []store.ACLLink{{ID: p.ID}}}}
			if secret == "expired" {
				tok.ExpirationTime = time.Now().Add(time.Minute)
			}
			tok.Seal()
			changes = append(changes, store.SetACL(store.ACLSet, p), store.SetACL(store.ACLSet, tok))
		}
		apply := func(changes ...store.ACLChange) {
			var res [1]store.Result
			s.state.Apply([]store.Command{{Kind: store.CmdACL, Payload: mustEncode(&store.ACLCommand{Changes: changes})}}, res[:])
			if res[0].Err != nil {
				t.Fatal(res[0].Err)
			}
		}
		apply(changes...)
		resolver, err := identity.NewState(identity.Config{Datacenter: "dc1", State: s.state})
		if err != nil {
			t.Fatal(err)
		}
		s.cfg.Tokens = resolver
		for secret := range tokens { // all are known, and kept
			if _, err := resolver.Resolve(t.Context(), secret, nil, false); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		apply(store.DeleteACL(store.ACLTokens, "id-deleted"))
		secrets := []string{"", "anonymous", "nobody's"}
		for secret := range tokens {
			secrets = append(secrets, secret)
		}
		cells := 0
		for _, a := range matrixRequests() {
			for _, secret := range secrets {
				var want verdict
				who, err := resolver.Resolve(t.Context(), secret, nil, false)
				switch {
				case openRequests[a.name]:
					want = yes
				case err != nil:
					want = unknown
				case a.needs(who):
					want = yes
				default:
					want = a.hidden
				}
				if a.name == "register under the id of another" && err == nil && who.Can(acl.Service, "api", acl.Write) && who.Can(acl.Service, "web", acl.Write) {
					continue // may do it, and would spoil what the others see
				}
				modes := []store.Consistency{store.Default, store.Consistent, store.Stale}
				if m := rpc.Lookup(a.req().Method); m.Write || m.Where != rpc.ByConsistency {
					modes = modes[:1]
				}
				for _, mode := range modes {
					for _, blocking := range []bool{false, true} {
						if blocking && !a.pages {
							continue
						}
						req := a.req()
						req.Token, req.Consistency = secret, mode
						if blocking {
							req.MinIndex, req.Wait = 1<<40, time.Second
						}
						resp, err := s.Do(t.Context(), req)
						if got := judge(t, a, resp, err); got != want {
							t.Errorf("%s as %q (%s, blocking %v): %s, want %s: %v", a.name, secret, mode, blocking, got, want, err)
						}
						if told := resp != nil && resp.Filtered; told && (secret == "" || secret == "anonymous") {
							t.Errorf("%s: nobody in particular is told that something was left out", a.name)
						}
						if err == nil && want == nothing && a.hidden == nothing && rpc.Lookup(req.Method).Blocking && secret != "" && secret != "anonymous" && !resp.Filtered {
							t.Errorf("%s as %q: nobody is told that something was left out", a.name, secret)
						}
						cells++
					}
				}
			}
		}
		t.Logf("%d requests", cells)
	})
}

func judge(t *testing.T, a asked, resp *rpc.Response, err error) verdict {
	t.Helper()
	switch {
	case errors.Is(err, store.ErrACLNotFound):
		return unknown
	case store.KindOf(err) == store.KindPermissionDenied && err != nil:
		if !strings.HasPrefix(err.Error(), "Permission denied") {
			t.Errorf("%s: %v", a.name, err)
		}
		return no
	case err != nil:
		return yes // not for lack of rights
	case a.shows == "" || bytes.Contains(resp.Body, []byte(a.shows)):
		return yes
	}
	return nothing
}

// seed puts in what the requests are about.
func seed(t *testing.T, s *Set) {
	t.Helper()
	for _, c := range []store.Command{
		{Kind: store.CmdRegister, Payload: mustEncode(&store.RegisterCommand{Node: store.Node{Node: "n1", Address: "10.0.0.1", Datacenter: "dc1"},
			Service: &store.Service{Name: "web", ID: "web"}, Checks: []*store.Check{
				{CheckID: "nodecheck", Name: "nodecheck", Status: store.Passing}, {CheckID: "webcheck", Name: "webcheck", Status: store.Passing, ServiceID: "web"}}})},
		{Kind: store.CmdKV, Payload: mustEncode(&store.KVCommand{Op: store.KVSet, Entry: store.KVEntry{Key: "app/db", Value: []byte("v")}})},
		{Kind: store.CmdSession, Payload: mustEncode(&store.SessionCommand{Op: store.SessionCreate, Session: store.Session{ID: newUUID(), Node: "n1", Behavior: store.BehaviorRelease}})},
		{Kind: store.CmdQuery, Payload: mustEncode(&store.QueryCommand{Op: store.QueryCreate, Query: store.PreparedQuery{ID: newUUID(), Name: "q1", Service: store.QueryService{Service: "web"}}})},
		{Kind: store.CmdCoordinates, Ignorable: true, Payload: mustEncode(&store.CoordinatesCommand{Updates: []*store.Coordinate{{Node: "n1", Coord: store.Coord{Vec: make([]float64, 8)}}}})},
		{Kind: store.CmdAutopilot, Payload: mustEncode(&store.AutopilotCommand{})},
	} {
		var res [1]store.Result
		s.state.Apply([]store.Command{c}, res[:])
		if res[0].Err != nil {
			t.Fatalf("command %d: %v", c.Kind, res[0].Err)
		}
	}
}

// A blocking query ends with its token, and sees with the rights of the moment.
func TestBlockingQueriesEndWithTheirToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newSet(t)
		seed(t, s)
		apply := func(changes ...store.ACLChange) {
			var res [1]store.Result
			s.state.Apply([]store.Command{{Kind: store.CmdACL, Payload: mustEncode(&store.ACLCommand{Changes: changes})}}, res[:])
		}
		policy := &store.ACLPolicy{ID: "p", Name: "p", Rules: acl.GlobalReadOnly}
		token := func(secret string, expires time.Time) store.ACLChange {
			tok := &store.ACLToken{AccessorID: "id-" + secret, SecretID: secret, ExpirationTime: expires, ACLGrants: store.ACLGrants{Policies: []store.ACLLink{{ID: "p"}}}}
			tok.Seal()
			return store.SetACL(store.ACLSet, tok)
		}
		apply(store.SetACL(store.ACLSet, policy), token("deleted", time.Time{}), token("expires", time.Now().Add(time.Hour)), token("weakened", time.Time{}))
		resolver, err := identity.NewState(identity.Config{Datacenter: "dc1", State: s.state})
		if err != nil {
			t.Fatal(err)
		}
		s.cfg.Tokens = resolver
		type end struct {
			err   error
			resp  *rpc.Response
			after time.Duration
		}
		begin := time.Now()
		wait := func(secret string, m rpc.MethodID, name string) chan end {
			c := make(chan end, 1)
			go func() {
				req := &rpc.Request{Method: m, Token: secret, Query: store.Query{Name: name}, MinIndex: 1 << 40, Wait: 9 * time.Minute}
				if secret == "expires" {
					req.Wait = 3 * time.Hour
				}
				resp, err := s.Do(t.Context(), req)
				c <- end{err, resp, time.Since(begin)}
			}()
			synctest.Wait()
			return c
		}
		s.cfg.MaxQueryTime = 3 * time.Hour
		deleted, expires, weakened, listed := wait("deleted", rpc.KVGet, "app/db"), wait("expires", rpc.KVGet, "app/db"), wait("weakened", rpc.KVGet, "app/db"), wait("weakened", rpc.HealthService, "web")
		time.Sleep(time.Minute)
		apply(store.DeleteACL(store.ACLTokens, "id-deleted"))
		if e := <-deleted; !errors.Is(e.err, store.ErrACLNotFound) || e.after != time.Minute {
			t.Errorf("deleted: %v after %s", e.err, e.after)
		}
		apply(store.SetACL(store.ACLSet, &store.ACLPolicy{ID: "p", Name: "p", Rules: `node_prefix "" { policy = "read" }`}))
		if e := <-weakened; store.KindOf(e.err) != store.KindPermissionDenied || e.after != time.Minute {
			t.Errorf("weakened: %v after %s", e.err, e.after)
		}
		if e := <-listed; e.err != nil || string(e.resp.Body) != "[]" || !e.resp.Filtered {
			t.Errorf("a list, weakened: %v", e.err)
		}
		if e := <-expires; store.KindOf(e.err) != store.KindPermissionDenied {
			t.Errorf("expired: %v after %s", e.err, e.after) // weakened as well
		}
		apply(store.SetACL(store.ACLSet, policy))
		expires = wait("expires", rpc.KVGet, "app/db")
		if e := <-expires; !errors.Is(e.err, store.ErrACLNotFound) || e.after != time.Hour {
			t.Errorf("expired: %v after %s", e.err, e.after)
		}
	})
}

// An authorised read costs what it costs without ACLs and a few microseconds.
func BenchmarkAuthorised(b *testing.B) {
	for _, on := range []bool{false, true} {
		name := "off"
		if on {
			name = "on"
		}
		b.Run(name, func(b *testing.B) {
			s, _ := newSet(b)
			st := s.state
			for i := range 100 {
				var res [1]store.Result
				st.Apply([]store.Command{{Kind: store.CmdRegister, Payload: mustEncode(&store.RegisterCommand{Node: store.Node{Node: "n" + string(rune('a'+i%26)) + string(rune('a'+i/26)), Address: "10.0.0.1"}, Service: &store.Service{Name: "web", ID: "web"}})}}, res[:])
			}
			if on {
				tok := &store.ACLToken{AccessorID: "id", SecretID: "8a1c9f3e-27d7-4e65-9c1b-7c3f5f6f2b11", ACLGrants: store.ACLGrants{Policies: []store.ACLLink{{ID: "p"}}}}
				tok.Seal()
				var res [1]store.Result
				st.Apply([]store.Command{{Kind: store.CmdACL, Payload: mustEncode(&store.ACLCommand{Changes: []store.ACLChange{
					store.SetACL(store.ACLSet, &store.ACLPolicy{ID: "p", Name: "p", Rules: `service_prefix "" { policy = "read" } node_prefix "" { policy = "read" } key_prefix "a/" { policy = "write" }`}), store.SetACL(store.ACLSet, tok)}})}}, res[:])
				r, err := identity.NewState(identity.Config{Datacenter: "dc1", State: st})
				if err != nil {
					b.Fatal(err)
				}
				s.cfg.Tokens = r
			}
			req := &rpc.Request{Method: rpc.HealthService, Token: "8a1c9f3e-27d7-4e65-9c1b-7c3f5f6f2b11", Consistency: store.Stale, Query: store.Query{Name: "web"}}
			b.ReportAllocs()
			for b.Loop() {
				if resp, err := s.Do(b.Context(), req); err != nil || len(resp.Body) < 1000 {
					b.Fatal(resp, err)
				}
			}
		})
	}
}
