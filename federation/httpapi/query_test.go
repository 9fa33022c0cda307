package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"landbridge/store"
)

// createdQuery posts a definition and returns its id.
func (n *testNode) createdQuery(t testing.TB, target, body string) string {
	t.Helper()
	w := n.ask(t, "POST", target, body)
	var got struct{ ID string }
	if err := json.Unmarshal(w.Body.Bytes(), &got); w.Code != 200 || err != nil || store.CheckQueryID(got.ID) != nil {
		t.Fatalf("POST %s %s: %d %s", target, body, w.Code, w.Body)
	}
	return got.ID
}

func TestQueries(t *testing.T) {
	n := newNode(t, nil)
	n.check(t, []exchange{
		{method: "GET", target: "/v1/query", status: 200, typ: jsonType, want: "[]", has: discovery},
		{method: "POST", target: "/v1/query", body: `{"Service":{"Service":"consul"}}`, status: 500, typ: errorType, want: "Invalid prepared query: Must be bound to a session"},
		{method: "POST", target: "/v1/query", body: `{"Name":"x"}`, status: 500, want: "Invalid prepared query: Must provide a Service name to query"},
		{method: "POST", target: "/v1/query", body: `{"Name":"x","Service":{"Service":"consul","Failover":{"NearestN":-1}}}`, status: 500, want: "Invalid prepared query: Bad NearestN '-1', must be >= 0"},
		{method: "POST", target: "/v1/query", body: `{"Name":"x","Service":{"Service":"consul"},"DNS":{"TTL":"bad"}}`, status: 500, want: `Invalid prepared query: Bad DNS TTL 'bad': time: invalid duration "bad"`},
		{method: "POST", target: "/v1/query", body: `{"Name":"x","Session":"bad","Service":{"Service":"consul"}}`, status: 500, want: `raft apply failed: invalid session "bad"`},
		{method: "POST", target: "/v1/query", body: `{"Name":"x","Template":{"Type":"bogus"},"Service":{"Service":"consul"}}`, status: 500, want: "raft apply failed: failed compiling template: Bad Template.Type 'bogus'"},
		{method: "POST", target: "/v1/query", body: `{"Name":"x","Template":{"Type":"name_prefix_match","Regexp":"("},"Service":{"Service":"consul"}}`, status: 500, want: "~^raft apply failed: failed compiling template: Bad Regexp: "},
		{method: "POST", target: "/v1/query", body: `{"Name":"x","Bogus":1,"Service":{"Service":"consul"}}`, status: 400, typ: errorType, want: `Request decode failed: json: unknown field "Bogus"`},
		{method: "POST", target: "/v1/query", body: `{"Name":"x","Service":{"Service":"consul","SamenessGroup":"g"}}`, status: 500, want: "~sameness groups are not supported"},
		{method: "POST", target: "/v1/query", body: `{"Name":"x","Service":{"Service":"consul","Namespace":"n"}}`, status: 400, want: `~unknown field "Namespace"`},
		{method: "POST", target: "/v1/query", status: 400, want: "Request decode failed: EOF"},
		{method: "PUT", target: "/v1/query", body: "{}", status: 405, want: "method PUT not allowed", has: map[string]string{"Allow": "OPTIONS,GET,POST"}},
		{method: "GET", target: "/v1/query/q1", status: 500, typ: errorType, want: "failed prepared query lookup: index error: UUID must be 36 characters"},
		{method: "GET", target: "/v1/query/00000000-0000-0000-0000-000000000000", status: 404, typ: errorType, want: "Query not found", has: map[string]string{"X-Consul-Index": "1"}},
		{method: "GET", target: "/v1/query/none/execute", status: 404, typ: errorType, want: "Query not found", has: map[string]string{"X-Consul-Index": "1"}},
		{method: "GET", target: "/v1/query/none/explain", status: 404, typ: errorType, want: "Query not found"},
		{method: "PUT", target: "/v1/query/00000000-0000-0000-0000-000000000000", body: `{"Name":"x","Service":{"Service":"consul"}}`, status: 500, typ: errorType,
			want: "Cannot modify non-existent prepared query: '00000000-0000-0000-0000-000000000000'"},
		{method: "DELETE", target: "/v1/query/00000000-0000-0000-0000-000000000000", status: 500, want: "Cannot delete non-existent prepared query: '00000000-0000-0000-0000-000000000000'"},
		{method: "DELETE", target: "/v1/query/q1", status: 500, want: "failed prepared query lookup: index error: UUID must be 36 characters"},
	})
	id := n.createdQuery(t, "/v1/query", `{"ID":"ignored","name":"q1","Service":{"Service":"consul","Tags":["!x"],"Partition":""},"DNS":{"TTL":"7s"},"Template":null}`)
	// The whole definition comes back, and can be written again.
	w := n.ask(t, "GET", "/v1/query/"+id, "")
	object := strings.TrimSuffix(strings.TrimPrefix(w.Body.String(), "["), "]")
	want := fmt.Sprintf(`"Name":"q1","Session":"","Token":"","Template":{"Type":"","Regexp":"","RemoveEmptyTags":false},"Service":{"Service":"consul","SamenessGroup":"",` +
		`"Failover":{"SkipLocalDatacenter":false,"NearestN":0,"Datacenters":null,"Targets":null},"IncludeAll":false,"OnlyPassing":false,"IgnoreCheckIDs":null,"Near":"",` +
		`"Tags":["!x"],"NodeMeta":null,"ServiceMeta":null,"Connect":false,"Peer":""},"DNS":{"TTL":"7s"},"CreateIndex":`)
	if w.Code != 200 || !strings.HasPrefix(object, `{"ID":"`+id+`",`+want) || w.Header().Get("X-Consul-Index") == "" {
		t.Errorf("GET: %d %s, want %s", w.Code, object, want)
	}
	const result = `~^\{"Service":"consul","Nodes":\[\{"Node":\{.*\}\],"DNS":\{"TTL":"7s"\},"Datacenter":"dc1","PeerName":"","Failovers":0,` +
		`"Index":1,"LastContact":0,"KnownLeader":true,"ConsistencyLevel":"leader","NotModified":false,"Backend":0,"ResultsFilteredByACLs":false\}$`
	n.check(t, []exchange{
		{method: "PUT", target: "/v1/query/" + id, body: object, status: 200},
		{method: "POST", target: "/v1/query", body: `{"Name":"Q1","Service":{"Service":"consul"}}`, status: 500, want: "raft apply failed: name 'Q1' aliases an existing query name"},
		{method: "GET", target: "/v1/query/q1/execute", status: 200, typ: jsonType, want: result, has: map[string]string{"X-Consul-Index": "1", "X-Consul-KnownLeader": "true", "X-Consul-LastContact": "0", "X-Consul-Effective-Consistency": "leader"}},
		{method: "GET", target: "/v1/query/" + id + "/execute?index=5&wait=10m", status: 200, want: result},
		{method: "GET", target: "/v1/query/Q1/execute?limit=1&near=_agent", status: 200, want: result},
		{method: "GET", target: "/v1/query/q1/execute?limit=x", status: 500, typ: errorType, want: `Bad limit: strconv.Atoi: parsing "x": invalid syntax`},
		{method: "GET", target: "/v1/query/q1/execute?connect=true", status: 200, want: `~^\{"Service":"consul","Nodes":\[\],`},
		{method: "GET", target: "/v1/query/q1/execute?stale", status: 200, want: `~"ConsistencyLevel":"stale"`, has: map[string]string{"X-Consul-Effective-Consistency": "stale"}},
		{method: "GET", target: "/v1/query/q1/execute?stale&consistent", status: 400, want: "Cannot specify ?stale with ?consistent, conflicting semantics."},
		{method: "GET", target: "/v1/query/q1/execute?pretty", status: 200, want: "~^\\{\n    \"Service\": \"consul\",(.|\n)*\\}\n$"},
		{method: "GET", target: "/v1/query/q1/execute?dc=dc2", status: 404, want: "Query not found"},
		{method: "GET", target: "/v1/query/q1/execute?dc=nowhere", status: 500, want: "No path to datacenter"},
		{method: "GET", target: "/v1/query/q1/explain", status: 200, want: `~^\{"Query":\{"ID":"` + id + `","Name":"q1",.*\},"Index":1,"LastContact":0,"KnownLeader":true,`, has: map[string]string{"X-Consul-Index": "1"}},
		{method: "DELETE", target: "/v1/query/" + id, status: 200},
		{method: "GET", target: "/v1/query/q1/execute", status: 404, want: "Query not found"},
	})
	// Another datacenter's queries are its own.
	n.createdQuery(t, "/v1/query?dc=dc2", `{"Name":"far","Service":{"Service":"consul"}}`)
	n.createdQuery(t, "/v1/query", `{"Name":"a/b c","Service":{"Service":"consul"}}`)
	n.check(t, []exchange{
		{method: "GET", target: "/v1/query/far/execute?dc=dc2", status: 200, want: `~"Datacenter":"dc2"`},
		{method: "GET", target: "/v1/query/far/execute", status: 404, want: "Query not found"},
		{method: "GET", target: "/v1/query/a%2Fb%20c/execute", status: 200, want: `~^\{"Service":"consul"`},
	})
}

func TestQueryTemplates(t *testing.T) {
	n := newNode(t, nil)
	n.createdQuery(t, "/v1/query", `{"Name":"","Template":{"Type":"name_prefix_match"},"Service":{"Service":"${name.full}"}}`)
	n.createdQuery(t, "/v1/query", `{"Name":"geo-","Template":{"Type":"name_prefix_match","Regexp":"^geo-(.*)-(.*)$","RemoveEmptyTags":true},"Service":{"Service":"${match(1)}","Tags":["${match(3)}","!${match(2)}"]}}`)
	n.createdQuery(t, "/v1/query", `{"Name":"geo-exact","Service":{"Service":"exact"}}`)
	for name, want := range map[string]string{
		"consul":     `"Service":{"Service":"consul",`,
		"geo-exact":  `"Service":{"Service":"exact",`,
		"GEO-EXACT":  `"Service":{"Service":"exact",`,
		"geo-a-b":    `"Tags":["!b"],`,
		"geo-consul": `"Service":{"Service":"",`,
	} {
		if got := n.ask(t, "GET", "/v1/query/"+name+"/explain", "").Body.String(); !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	n.check(t, []exchange{{method: "GET", target: "/v1/query/consul/execute", status: 200, want: `~^\{"Service":"consul","Nodes":\[\{`}})
}

func TestQueryBlocking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, nil)
		n.createdQuery(t, "/v1/query", `{"Name":"a","Service":{"Service":"consul"}}`)
		index := n.ask(t, "GET", "/v1/query", "").Header().Get("X-Consul-Index")
		got := make(chan string, 1)
		go func() { got <- n.ask(t, "GET", "/v1/query?wait=1m&index="+index, "").Body.String() }()
		synctest.Wait()
		if len(got) > 0 {
			t.Fatalf("the list did not wait: %s", <-got)
		}
		n.createdQuery(t, "/v1/query", `{"Name":"b","Service":{"Service":"consul"}}`)
		if b := <-got; strings.Count(b, `"ID":`) != 2 {
			t.Errorf("woken with %s", b)
		}
	})
}

func TestQuerySource(t *testing.T) {
	for _, c := range []struct{ remote, forwarded, want string }{
		{"10.1.2.3:4567", "", "10.1.2.3"},
		{"[2001:db8::1]:4567", "", "2001:db8::1"},
		{"10.1.2.3:4567", "192.0.2.7, 10.0.0.1", "192.0.2.7"},
		{"10.1.2.3:4567", " , 10.0.0.1", "10.1.2.3"},
		{"@", "", ""},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = c.remote
		if c.forwarded != "" {
			r.Header.Set("X-Forwarded-For", c.forwarded)
		}
		if got := (&call{r: r}).source(); got != c.want {
			t.Errorf("%+v: got %q", c, got)
		}
	}
}

// What the body's decoder takes becomes a command that travels, and an answer
// that can be written again.
func FuzzQueryBody(f *testing.F) {
	f.Add(`{"Name":"q","Service":{"Service":"web","Failover":{"NearestN":3,"Datacenters":["dc2"],"Targets":[{"Peer":"p"}]},"Tags":["!a"]},"DNS":{"TTL":"7s"}}`)
	f.Add(`{"name":"","Template":{"Type":"name_prefix_match","Regexp":"^(.*)$"},"Service":{"Service":"${match(1)}","NodeMeta":{"a":"${name.full}"}}}`)
	f.Add(`{"Service":{"Failover":null,"Tags":null},"DNS":{}}`)
	f.Fuzz(func(t *testing.T, body string) {
		d := json.NewDecoder(strings.NewReader(body))
		d.DisallowUnknownFields()
		var b queryBody
		var first, again store.QueryCommand
		if d.Decode(&b) != nil || b.fill(&first.Query) != nil {
			return
		}
		if err := again.DecodeWire(first.AppendWire(nil)); err != nil {
			t.Fatal(err)
		}
		shown := string(again.Query.AppendJSON(nil))
		d = json.NewDecoder(strings.NewReader(shown))
		d.DisallowUnknownFields()
		var back queryBody
		if err := d.Decode(&back); err != nil {
			t.Fatalf("%s: %v", shown, err)
		}
		var third store.PreparedQuery
		if err := back.fill(&third); err != nil {
			t.Fatalf("%s: %v", shown, err)
		}
		if got := string(third.AppendJSON(nil)); got != shown {
			t.Fatalf("written again:\n%s\n%s", shown, got)
		}
	})
}
