package endpoint

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"landbridge/forwarding/rpc"
	"landbridge/store"
	"landbridge/store/acl"
	"landbridge/store/state"
)

// federation is a few datacenters whose servers reach each other at once; some
// may be cut off, and the calls are noted.
type federation struct {
	sets map[string]*Set
	down map[string]error
	hang map[string]bool

	mu    sync.Mutex
	calls []string
}

func newFederation(t testing.TB, names ...string) *federation {
	f := &federation{sets: map[string]*Set{}, down: map[string]error{}, hang: map[string]bool{}}
	for _, dc := range names {
		st := state.New()
		raft := newFakeRaft(st)
		// Nearest first, as the names are given.
		order := append([]string{dc}, slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == dc })...)
		s, err := New(Config{
			Datacenter: dc, State: st, Consensus: raft,
			Servers:     func() ([]RaftServer, error) { return nil, nil },
			Datacenters: func() []string { return order },
			Remote:      rpc.DoerFunc(f.do),
			Status:      func() store.ServerStatus { return store.ServerStatus{} }, RenewSession: raft.renew,
			Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
		})
		if err != nil {
			t.Fatal(err)
		}
		f.sets[dc] = s
	}
	return f
}

func (f *federation) do(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	f.mu.Lock()
	f.calls = append(f.calls, req.Datacenter)
	f.mu.Unlock()
	if f.hang[req.Datacenter] {
		<-ctx.Done()
		return nil, store.Errorf(store.KindTimeout, "dc %q did not answer", req.Datacenter)
	}
	if err := f.down[req.Datacenter]; err != nil {
		return nil, err
	}
	s := f.sets[req.Datacenter]
	if s == nil {
		return nil, store.ErrNoPath
	}
	return s.Do(ctx, req)
}

func createQuery(t testing.TB, s *Set, change func(*store.PreparedQuery)) string {
	t.Helper()
	cmd := &store.QueryCommand{Op: store.QueryCreate}
	cmd.Query.Name, cmd.Query.Service.Service = "q", "web"
	if change != nil {
		change(&cmd.Query)
	}
	var got struct{ ID string }
	if err := json.Unmarshal([]byte(body(t, s, &rpc.Request{Method: rpc.QueryApply, Body: cmd.AppendWire(nil)})), &got); err != nil || store.CheckQueryID(got.ID) != nil {
		t.Fatalf("creation: %+v, %v", got, err)
	}
	return got.ID
}

func execute(t testing.TB, s *Set, name, near string, args store.QueryExecute) *store.QueryResult {
	t.Helper()
	req := &rpc.Request{Method: rpc.QueryExecute, Representation: rpc.Records, Query: store.Query{Name: name, Near: near}, Body: args.AppendWire(nil)}
	r := new(store.QueryResult)
	if err := r.DecodeWire([]byte(body(t, s, req))); err != nil {
		t.Fatal(err)
	}
	return r
}

func nodesOf(r *store.QueryResult) []string {
	var names []string
	for _, i := range r.Nodes {
		names = append(names, i.Node.Node)
	}
	slices.Sort(names)
	return names
}

func TestQuerySelection(t *testing.T) {
	s, _ := newSet(t)
	web(t, s, "n1", store.Passing, "V1", "blue")
	web(t, s, "n2", store.Warning, "v1")
	web(t, s, "n3", store.Critical, "v1")
	web(t, s, "n4", "odd", "V2")
	register(t, s, &store.RegisterCommand{Node: store.Node{Node: "n5", Address: "10.0.0.5"},
		Service: &store.Service{ID: "p", Name: "web-proxy", Kind: "connect-proxy", Proxy: []byte(`{"DestinationServiceName":"web"}`)}})
	for _, c := range []struct {
		name string
		svc  store.QueryService
		args store.QueryExecute
		want string
	}{
		{name: "all but critical", want: "[n1 n2 n4]"},
		{name: "only passing", svc: store.QueryService{OnlyPassing: true}, want: "[n1]"},
		{name: "ignored check", svc: store.QueryService{IgnoreCheckIDs: []string{"other", "web:1"}}, want: "[n1 n2 n3 n4]"},
		{name: "ignored check, only passing", svc: store.QueryService{IgnoreCheckIDs: []string{"web:1"}, OnlyPassing: true}, want: "[n1 n2 n3 n4]"},
		{name: "tag", svc: store.QueryService{Tags: []string{"v1"}}, want: "[n1 n2]"},
		{name: "tags", svc: store.QueryService{Tags: []string{"BLUE", "v1"}}, want: "[n1]"},
		{name: "absent tag", svc: store.QueryService{Tags: []string{"!Blue"}}, want: "[n2 n4]"},
		{name: "both", svc: store.QueryService{Tags: []string{"v1", "!blue"}}, want: "[n2]"},
		{name: "node meta", svc: store.QueryService{NodeMeta: map[string]string{"rack": "n2"}}, want: "[n2]"},
		{name: "service meta", svc: store.QueryService{ServiceMeta: map[string]string{"v": "n4"}}, want: "[n4]"},
		{name: "service meta without value", svc: store.QueryService{ServiceMeta: map[string]string{"w": ""}}, want: "[]"},
		{name: "connect", svc: store.QueryService{Connect: true}, want: "[n5]"},
		{name: "connect by the asker", args: store.QueryExecute{Connect: true}, want: "[n5]"},
		{name: "peer", svc: store.QueryService{Peer: "p"}, want: "[]"},
		{name: "without the own datacenter", svc: store.QueryService{Failover: store.QueryFailover{SkipLocalDatacenter: true}}, want: "[]"},
		{name: "another service", svc: store.QueryService{Service: "none"}, want: "[]"},
	} {
		id := createQuery(t, s, func(q *store.PreparedQuery) {
			q.Name = c.name
			if q.Service = c.svc; c.svc.Service == "" {
				q.Service.Service = "WEB"
			}
			q.TTL = "7s"
		})
		for _, name := range []string{c.name, strings.ToUpper(c.name), id} {
			r := execute(t, s, name, "", c.args)
			if got := fmt.Sprint(nodesOf(r)); got != c.want || r.Datacenter != "dc1" || r.Failovers != 0 || r.TTL != "7s" {
				t.Errorf("%s by %q: got %s (%+v), want %s", c.name, name, got, r, c.want)
			}
		}
	}
	// Shuffled, and cut after that: every instance comes first at some time.
	first := map[string]bool{}
	for range 200 {
		r := execute(t, s, "all but critical", "", store.QueryExecute{Limit: 1})
		if len(r.Nodes) != 1 {
			t.Fatalf("limit 1: %d instances", len(r.Nodes))
		}
		first[r.Nodes[0].Node.Node] = true
	}
	if len(first) != 3 {
		t.Errorf("in 200 executions only %v came first", first)
	}
	// The list of the state is shared: an execution must not have shuffled it.
	if got := body(t, s, &rpc.Request{Method: rpc.HealthService, Query: store.Query{Name: "web"}}); strings.Index(got, `"Node":"n1"`) > strings.Index(got, `"Node":"n2"`) {
		t.Errorf("an execution changed the state's list: %s", got)
	}
}

func TestQueryFormsAndErrors(t *testing.T) {
	s, raft := newSet(t)
	web(t, s, "n1", store.Passing)
	id := createQuery(t, s, func(q *store.PreparedQuery) { q.Name = "q1" })
	tpl := createQuery(t, s, func(q *store.PreparedQuery) {
		q.Name, q.Template = "geo-", store.QueryTemplate{Type: store.NamePrefixMatch, Regexp: "^geo-(.*)$"}
		q.Service.Service, q.Service.Tags, q.TTL = "${match(1)}", []string{"!${name.full}"}, "5s"
	})
	do := func(m rpc.MethodID, name string, form rpc.Representation) string {
		resp, err := s.Do(t.Context(), &rpc.Request{Method: m, Representation: form, Query: store.Query{Name: name}})
		if err != nil {
			return fmt.Sprintf("%d %v", store.KindOf(err), err)
		}
		return string(resp.Body)
	}
	for _, c := range []struct {
		m          rpc.MethodID
		name, want string
	}{
		{rpc.QueryGet, "q1", "1 failed prepared query lookup: index error: UUID must be 36 characters"},
		{rpc.QueryGet, strings.Repeat("x", 36), "1 failed prepared query lookup: index error: uuid is improperly formatted"},
		{rpc.QueryGet, "00000000-0000-0000-0000-000000000000", "3 Query not found"},
		{rpc.QueryExecute, "nope", "3 Query not found"},
		{rpc.QueryExplain, "nope", "3 Query not found"},
		{rpc.QueryExecute, tpl, "1 the prepared query '" + tpl + "' is a template: it can only be resolved by name, not by ID"},
		{rpc.QueryExecuteHere, "q1", "1 PreparedQuery.ExecuteHere: no query"},
	} {
		if got := do(c.m, c.name, rpc.JSON); got != c.want {
			t.Errorf("%s %s: got %s, want %s", rpc.Lookup(c.m).Name, c.name, got, c.want)
		}
	}
	if got := do(rpc.QueryGet, id, rpc.JSON); !strings.HasPrefix(got, `[{"ID":"`+id+`","Name":"q1",`) {
		t.Errorf("get: %s", got)
	}
	if got := do(rpc.QueryList, "", rpc.JSON); strings.Count(got, `"ID":`) != 2 {
		t.Errorf("list: %s", got)
	}
	const fresh = `,"Index":1,"LastContact":0,"KnownLeader":true,"ConsistencyLevel":"leader","NotModified":false,"Backend":0,"ResultsFilteredByACLs":false}`
	if got := do(rpc.QueryExplain, "Geo-web", rpc.JSON); !strings.HasPrefix(got, `{"Query":{"ID":"`+tpl+`","Name":"geo-",`) ||
		!strings.Contains(got, `"Service":{"Service":"web",`) && !strings.Contains(got, `"Tags":["!Geo-web"]`) || !strings.HasSuffix(got, fresh) {
		t.Errorf("explain: %s", got)
	}
	got := do(rpc.QueryExecute, "geo-web", rpc.JSON)
	if !strings.HasPrefix(got, `{"Service":"web","Nodes":[{"Node":{`) ||
		!strings.HasSuffix(got, `],"DNS":{"TTL":"5s"},"Datacenter":"dc1","PeerName":"","Failovers":0`+fresh) {
		t.Errorf("execute: %s", got)
	}
	if got := do(rpc.QueryExecute, "geo-none", rpc.JSON); got != `{"Service":"none","Nodes":[],"DNS":{"TTL":"5s"},"Datacenter":"dc1","PeerName":"","Failovers":0`+fresh {
		t.Errorf("empty result: %s", got)
	}
	if got := do(rpc.QueryExecute, "q1", rpc.Pretty); !strings.HasPrefix(got, "{\n    \"Service\": \"web\",") {
		t.Errorf("pretty: %s", got)
	}
	// On a server that does not lead only stale ones are answered.
	raft.lose()
	if got := do(rpc.QueryExecute, "q1", rpc.JSON); got != "5 No cluster leader" {
		t.Errorf("without a leader: %s", got)
	}
	resp, err := s.Do(t.Context(), &rpc.Request{Method: rpc.QueryExecute, Consistency: store.Stale, Query: store.Query{Name: "q1"}})
	if err != nil || resp.Index != 1 || resp.KnownLeader || !strings.Contains(string(resp.Body), `"KnownLeader":false,"ConsistencyLevel":"stale"`) {
		t.Errorf("stale: %+v, %v", resp, err)
	}
}

func TestQueryListBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newSet(t)
		id := createQuery(t, s, nil)
		first, err := s.Do(t.Context(), &rpc.Request{Method: rpc.QueryList})
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan *rpc.Response, 2)
		for _, req := range []*rpc.Request{{Method: rpc.QueryList, MinIndex: first.Index}, {Method: rpc.QueryGet, MinIndex: first.Index, Query: store.Query{Name: id}}} {
			go func() {
				resp, err := s.Do(t.Context(), req)
				if err != nil {
					t.Error(err)
				}
				got <- resp
			}()
		}
		synctest.Wait()
		createQuery(t, s, func(q *store.PreparedQuery) { q.Name = "another" })
		if resp := <-got; resp == nil || strings.Count(string(resp.Body), `"ID":`) != 2 {
			t.Errorf("the list was woken with %+v", resp)
		}
		synctest.Wait()
		if len(got) > 0 {
			t.Error("a reader of one query was woken by another's creation")
		}
		cmd := &store.QueryCommand{Op: store.QueryUpdate}
		cmd.Query.ID, cmd.Query.Name, cmd.Query.Service.Service = id, "q", "db"
		body(t, s, &rpc.Request{Method: rpc.QueryApply, Body: cmd.AppendWire(nil)})
		if resp := <-got; resp == nil || !strings.Contains(string(resp.Body), `"Service":"db"`) {
			t.Errorf("the query's reader was woken with %+v", resp)
		}
	})
}

func TestQueryFailover(t *testing.T) {
	unreachable := store.Errorf(store.KindUnreachable, "nobody there")
	for _, c := range []struct {
		name     string
		failover store.QueryFailover
		web      []string // datacenters with an instance
		down     map[string]error
		calls    string
		dc       string
		asked    int
	}{
		{name: "at home", failover: store.QueryFailover{NearestN: 3}, web: []string{"dc1", "dc2"}, calls: "[]", dc: "dc1"},
		{name: "no failover", web: []string{"dc2"}, calls: "[]", dc: "dc1"},
		{name: "nearest", failover: store.QueryFailover{NearestN: 1}, web: []string{"dc2", "dc3"}, calls: "[dc2]", dc: "dc2", asked: 1},
		{name: "second nearest", failover: store.QueryFailover{NearestN: 2}, web: []string{"dc3"}, calls: "[dc2 dc3]", dc: "dc3", asked: 2},
		{name: "too far", failover: store.QueryFailover{NearestN: 1}, web: []string{"dc3"}, calls: "[dc2]", dc: "dc1", asked: 1},
		{name: "listed after the nearest, once", failover: store.QueryFailover{NearestN: 1, Datacenters: []string{"dc2", "dc1", "dc4"}},
			web: []string{"dc4"}, calls: "[dc2 dc4]", dc: "dc4", asked: 2},
		{name: "unreachable", failover: store.QueryFailover{NearestN: 3}, web: []string{"dc3"},
			down: map[string]error{"dc2": unreachable}, calls: "[dc2 dc3]", dc: "dc3", asked: 2},
		{name: "unknown ones do not count", failover: store.QueryFailover{Datacenters: []string{"dc9", "dc3"}}, web: []string{"dc3"},
			calls: "[dc9 dc3]", dc: "dc3", asked: 1},
		{name: "targets", failover: store.QueryFailover{Targets: []store.QueryTarget{{Peer: "p"}, {Datacenter: "dc4"}, {Datacenter: "dc2"}}},
			web: []string{"dc2"}, calls: "[dc4 dc2]", dc: "dc2", asked: 2},
		{name: "not at home", failover: store.QueryFailover{SkipLocalDatacenter: true, NearestN: 1}, web: []string{"dc1", "dc2"}, calls: "[dc2]", dc: "dc2", asked: 1},
		{name: "nowhere", failover: store.QueryFailover{NearestN: 9}, calls: "[dc2 dc3 dc4]", dc: "dc1", asked: 3},
	} {
		f := newFederation(t, "dc1", "dc2", "dc3", "dc4")
		for _, dc := range c.web {
			web(t, f.sets[dc], dc+"-node", store.Passing)
		}
		f.down = c.down
		s := f.sets["dc1"]
		createQuery(t, s, func(q *store.PreparedQuery) {
			q.Name, q.Template.Type = "geo-", store.NamePrefixMatch
			q.Service.Service, q.Service.Failover = "${name.suffix}", c.failover
		})
		r := execute(t, s, "geo-web", "", store.QueryExecute{Limit: 1})
		want := []string{c.dc + "-node"}
		if !slices.Contains(c.web, c.dc) {
			want = nil
		}
		if fmt.Sprint(f.calls) != c.calls || r.Datacenter != c.dc || r.Failovers != c.asked || !slices.Equal(nodesOf(r), want) || r.Service != "web" {
			t.Errorf("%s: asked %v, got %v of %s (%s) after %d; want %s, %v of %s after %d",
				c.name, f.calls, nodesOf(r), r.Datacenter, r.Service, r.Failovers, c.calls, want, c.dc, c.asked)
		}
	}
}

// What the asker wants travels: WAN addresses, connect, and the query's token.
func TestQueryFailoverCarries(t *testing.T) {
	f := newFederation(t, "dc1", "dc2")
	web(t, f.sets["dc2"], "far", store.Passing)
	tokens := tokensOf(t, map[string]string{"stored": acl.GlobalReadOnly, "caller": acl.GlobalReadOnly})
	f.sets["dc2"].cfg.Tokens = tokens
	s := f.sets["dc1"]
	createQuery(t, s, func(q *store.PreparedQuery) { q.Service.Failover.NearestN, q.Token = 1, "stored" })
	createQuery(t, s, func(q *store.PreparedQuery) { q.Service.Failover.NearestN, q.Name = 1, "other" })
	for _, name := range []string{"q", "other"} {
		resp, err := s.Do(t.Context(), &rpc.Request{Method: rpc.QueryExecute, TranslateWAN: true, SourceDC: "dc1", Token: "caller", Query: store.Query{Name: name}})
		if err != nil || !strings.Contains(string(resp.Body), `"Address":"8.8.8.8"`) || !strings.Contains(string(resp.Body), `"Address":"9.9.9.9"`) {
			t.Errorf("%s: %v, %v; want WAN addresses", name, resp, err)
		}
	}
	if n := testutil.ToFloat64(s.metrics.failover.ok); n != 2 {
		t.Errorf("%v failovers counted, want 2", n)
	}
	if fmt.Sprint(tokens.asked) != "[stored caller]" {
		t.Errorf("the other datacenter saw the tokens %v", tokens.asked)
	}
}

// Datacenters that never answer cost a bounded time, and leave some for those
// behind them and for the answer.
func TestQueryFailoverIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFederation(t, "dc1", "dc2", "dc3", "dc4")
		web(t, f.sets["dc4"], "far", store.Passing)
		f.hang = map[string]bool{"dc2": true, "dc3": true}
		s := f.sets["dc1"]
		createQuery(t, s, func(q *store.PreparedQuery) { q.Service.Failover.NearestN = 3 })
		for _, c := range []struct{ deadline, want time.Duration }{{time.Minute, 2 * failoverTimeout}, {4 * time.Second, 2 * time.Second}} {
			ctx, cancel := context.WithTimeout(t.Context(), c.deadline)
			began := time.Now()
			resp, err := s.Do(ctx, &rpc.Request{Method: rpc.QueryExecute, Query: store.Query{Name: "q"}})
			cancel()
			if took := time.Since(began); err != nil || !strings.Contains(string(resp.Body), `"Datacenter":"dc4","PeerName":"","Failovers":3`) || took != c.want {
				t.Errorf("with %s: %v, %v after %s; want dc4 after %s", c.deadline, resp, err, took, c.want)
			}
		}
	})
}

func TestQueryNear(t *testing.T) {
	s, raft := newSet(t)
	for node, ms := range map[string]float64{"a": 0, "b": 40, "c": 10, "d": 12, "e": -1} {
		place(t, s, raft, node, ms)
	}
	register(t, s, &store.RegisterCommand{Node: store.Node{Node: "b", Address: "10.9.9.9"}})
	for _, near := range []string{"", "a", "_agent", "_ip"} {
		createQuery(t, s, func(q *store.PreparedQuery) { q.Name, q.Service.Near = "near"+near, near })
	}
	for _, c := range []struct {
		query, near string
		args        store.QueryExecute
		want        string
		bySource    bool
	}{
		{query: "neara", want: "a c d b e"},
		{query: "neara", near: "B", want: "b d c a e"}, // the asker's word counts
		{query: "near", near: "d", want: "d c a b e"},
		{query: "near_agent", args: store.QueryExecute{Agent: "c"}, want: "c d a b e"},
		{query: "near_ip", args: store.QueryExecute{Agent: "c", Source: "10.9.9.9"}, want: "b d c a e", bySource: true},
		{query: "near", near: "_ip", args: store.QueryExecute{Source: "::ffff:10.9.9.9"}, want: "b d c a e", bySource: true},
		{query: "near", near: "a", args: store.QueryExecute{Limit: 2}, want: "a c"}, // cut after sorting
	} {
		for range 20 { // shuffled before
			r := execute(t, s, c.query, c.near, c.args)
			var got []string
			for _, i := range r.Nodes {
				got = append(got, i.Node.Node)
			}
			if strings.Join(got, " ") != c.want || r.BySource != c.bySource {
				t.Fatalf("%s near %q %+v: got %v (by source %v), want %s (%v)", c.query, c.near, c.args, got, r.BySource, c.want, c.bySource)
			}
		}
	}
	// What cannot be placed leaves the order to chance.
	for _, c := range []struct{ near, source string }{{"nobody", ""}, {"e", ""}, {"_ip", "192.0.2.1"}, {"_ip", "no address"}} {
		first := map[string]bool{}
		for range 200 {
			first[execute(t, s, "near", c.near, store.QueryExecute{Source: c.source}).Nodes[0].Node.Node] = true
		}
		if len(first) != 5 {
			t.Errorf("near %+v: only %v came first", c, first)
		}
	}
}

func BenchmarkQueryExecute(b *testing.B) {
	for _, n := range []int{3, 100} {
		s, _ := newSet(b)
		for i := range n {
			web(b, s, fmt.Sprintf("n%03d", i), store.Passing, "v1")
		}
		createQuery(b, s, func(q *store.PreparedQuery) {
			q.Name, q.Template.Type, q.Service.Service, q.Service.Tags = "", store.NamePrefixMatch, "${name.full}", []string{"v1", "!old"}
		})
		for name, form := range map[string]rpc.Representation{"json": rpc.JSON, "records": rpc.Records} {
			b.Run(fmt.Sprintf("%d/%s", n, name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := s.Do(b.Context(), &rpc.Request{Method: rpc.QueryExecute, Representation: form, Query: store.Query{Name: "web"}}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
