package httpapi

import (
	"fmt"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	jsonType  = "application/json"
	errorType = "text/plain; charset=utf-8"
)

// exchange is one request and what must be answered. A body that begins with ~
// is a regular expression, otherwise the whole.
type exchange struct {
	method, target, body string
	headers              []string // of the request
	status               int
	typ                  string // "-": none
	want                 string
	has                  map[string]string // headers of the answer, "": absent, ~ a regular expression
}

func (n *testNode) check(t *testing.T, list []exchange) {
	t.Helper()
	for _, e := range list {
		w := n.ask(t, e.method, e.target, e.body, e.headers...)
		name := e.method + " " + e.target + " " + e.body[:min(len(e.body), 60)]
		if w.Code != e.status {
			t.Errorf("%s: status %d (%s), want %d", name, w.Code, w.Body, e.status)
		}
		if e.typ != "" {
			got := w.Header().Get("Content-Type")
			if got != e.typ && !(e.typ == "-" && got == "") {
				t.Errorf("%s: type %q, want %q", name, got, e.typ)
			}
		}
		if !matches(w.Body.String(), e.want) {
			t.Errorf("%s: got %.400q, want %q", name, w.Body, e.want)
		}
		for h, want := range e.has {
			got := w.Header().Get(h)
			if want == "" && len(w.Header().Values(h)) > 0 || want != "" && !matches(got, want) {
				t.Errorf("%s: header %s is %q, want %q", name, h, got, want)
			}
		}
		if w.Header().Get("X-Consul-Default-ACL-Policy") != "allow" || !slices.Contains(w.Header().Values("Vary"), "Accept-Encoding") {
			t.Errorf("%s: headers %v", name, w.Header())
		}
	}
}

func matches(got, want string) bool {
	if re, ok := strings.CutPrefix(want, "~"); ok {
		return regexp.MustCompile(re).MatchString(got)
	}
	return got == want
}

// indexed is what every answer of a blocking read carries.
var indexed = map[string]string{"X-Consul-Index": `~^[1-9]\d*$`, "X-Consul-KnownLeader": "true", "X-Consul-LastContact": "0",
	"X-Consul-Query-Backend": "blocking-query", "X-Consul-Effective-Consistency": ""}

// discovery is the same for the catalog and health.
var discovery = map[string]string{"X-Consul-Index": `~^[1-9]\d*$`, "X-Consul-KnownLeader": "true", "X-Consul-LastContact": "0",
	"X-Consul-Query-Backend": "blocking-query", "X-Consul-Effective-Consistency": "leader"}

var unindexed = map[string]string{"X-Consul-Index": "", "X-Consul-KnownLeader": ""}

func TestKV(t *testing.T) {
	n := newNode(t, nil)
	n.check(t, []exchange{
		{method: "GET", target: "/v1/kv/missing", status: 404, typ: "-", has: indexed},
		{method: "GET", target: "/v1/kv/missing?keys", status: 404, typ: "-", has: indexed},
		{method: "GET", target: "/v1/kv/missing?raw", status: 404, typ: "-", has: indexed},
		{method: "GET", target: "/v1/kv/missing?recurse=", status: 404, typ: "-", has: indexed},
		{method: "PUT", target: "/v1/kv/s/a", body: "one", status: 200, typ: jsonType, want: "true", has: unindexed},
		{method: "PUT", target: "/v1/kv/s/b?flags=18446744073709551615", body: "two", status: 200, typ: jsonType, want: "true"},
		{method: "PUT", target: "/v1/kv/s/empty", status: 200, typ: jsonType, want: "true"},
		{method: "PUT", target: "/v1/kv/sp%20ace%2Fx/", body: "v", status: 200, want: "true"},
		{method: "PUT", target: "/v1/kv/d%2F%2Fe", body: "v", status: 200, want: "true"},
		{method: "GET", target: "/v1/kv/sp%20ace/x/", status: 200, want: `~"Key":"sp ace/x/"`},
		{method: "GET", target: "/v1/kv/sp%20ace/x", status: 404},
		{method: "GET", target: "/v1/kv/?keys", status: 200, want: `["d//e","s/a","s/b","s/empty","sp ace/x/"]`, has: indexed},
		{method: "GET", target: "/v1/kv/s/a", status: 200, typ: jsonType, has: indexed,
			want: `~^\[\{"LockIndex":0,"Key":"s/a","Flags":0,"Value":"b25l","CreateIndex":\d+,"ModifyIndex":\d+\}\]$`},
		{method: "GET", target: "/v1/kv/s/b", status: 200, want: `~"Flags":18446744073709551615,`},
		{method: "GET", target: "/v1/kv/s/empty", status: 200, want: `~"Value":null`},
		{method: "GET", target: "/v1/kv/s/a?raw", status: 200, typ: "text/plain", want: "one",
			has: map[string]string{"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox", "X-Consul-Index": `~^\d+$`}},
		{method: "GET", target: "/v1/kv/s/empty?raw", status: 200, typ: "text/plain"},
		{method: "GET", target: "/v1/kv/s/?raw&recurse", status: 200, typ: jsonType, want: `~^\[\{"LockIndex":0,"Key":"s/a"`},
		{method: "GET", target: "/v1/kv/s/?keys&separator=/&pretty", status: 200, want: "[\n    \"s/a\",\n    \"s/b\",\n    \"s/empty\"\n]\n"},
		{method: "GET", target: "/v1/kv/", status: 400, typ: errorType, want: "Missing key name"},
		{method: "PUT", target: "/v1/kv/", body: "x", status: 400, typ: errorType, want: "Missing key name"},
		{method: "DELETE", target: "/v1/kv/", status: 400, typ: errorType, want: "Missing key name"},
		{method: "PUT", target: "/v1/kv/" + strings.Repeat("k", maxKey+1), status: 400, want: "~too long"},
		{method: "PUT", target: "/v1/kv/s/a?cas=0", body: "z", status: 200, want: "false"},
		{method: "PUT", target: "/v1/kv/s/new?cas=0", body: "z", status: 200, want: "true"},
		{method: "PUT", target: "/v1/kv/s/a?cas=abc", status: 500, typ: errorType, want: `strconv.ParseUint: parsing "abc": invalid syntax`},
		{method: "PUT", target: "/v1/kv/s/a?flags=-1", status: 500, typ: errorType, want: `~invalid syntax`},
		{method: "PUT", target: "/v1/kv/s/a?cas=0&acquire=x", status: 400, typ: errorType, want: "Conflicting flags: acquire=x&cas=0\n"},
		{method: "PUT", target: "/v1/kv/s/a?acquire=x", status: 500, typ: errorType, want: `raft apply failed: invalid session "x"`},
		{method: "DELETE", target: "/v1/kv/s/new?cas=0", status: 200, want: "false"},
		{method: "DELETE", target: "/v1/kv/s/new?cas=1", status: 200, want: "false"},
		{method: "DELETE", target: "/v1/kv/s/a?recurse&token=secret&cas=1", status: 400, want: "Conflicting flags: cas=1&recurse=\n"},
		{method: "DELETE", target: "/v1/kv/never", status: 200, typ: jsonType, want: "true", has: unindexed},
		{method: "DELETE", target: "/v1/kv/s?recurse", status: 200, want: "true"},
		{method: "GET", target: "/v1/kv/?keys", status: 200, want: `["d//e"]`},
		{method: "GET", target: "/v1/kv/d%2F%2Fe?stale", status: 200, want: `~"Key":"d//e"`, has: indexed},
		{method: "GET", target: "/v1/kv/x?dc=nowhere", status: 500, typ: errorType, want: "No path to datacenter",
			has: map[string]string{"X-Consul-Index": "1", "X-Consul-KnownLeader": "false", "X-Consul-LastContact": "0"}},
		{method: "PUT", target: "/v1/kv/x?dc=nowhere", body: "x", status: 500, typ: errorType, want: "No path to datacenter", has: unindexed},
		{method: "PUT", target: "/v1/kv/far?dc=dc2", body: "far", status: 200, want: "true"},
		{method: "GET", target: "/v1/kv/far?raw", status: 404},
		{method: "GET", target: "/v1/kv/far?raw&dc=dc2", status: 200, want: "far"},
	})
}

func TestReadOptions(t *testing.T) {
	n := newNode(t, nil)
	n.check(t, []exchange{
		{method: "PUT", target: "/v1/kv/k", body: "v", status: 200, want: "true"},
		{method: "GET", target: "/v1/kv/k?index=abc", status: 400, typ: errorType, want: "Invalid index"},
		{method: "GET", target: "/v1/kv/k?index=-1", status: 400, want: "Invalid index"},
		{method: "GET", target: "/v1/kv/k?wait=abc", status: 400, want: "Invalid wait time"},
		{method: "GET", target: "/v1/kv/k?wait=10", status: 400, want: "Invalid wait time"},
		{method: "GET", target: "/v1/kv/k?index=99999&wait=-1s", status: 200, want: `~"Value":"dg=="`},
		{method: "GET", target: "/v1/kv/k?index=99999&wait=10ms", status: 200, want: `~"Value":"dg=="`},
		{method: "GET", target: "/v1/kv/none?index=99999&wait=10ms", status: 404, typ: "-", has: indexed},
		{method: "GET", target: "/v1/kv/k?stale&consistent", status: 400, want: "Cannot specify ?stale with ?consistent, conflicting semantics."},
		{method: "GET", target: "/v1/kv/k?cached&consistent", status: 400, want: "Cannot specify ?cached with ?consistent, conflicting semantics."},
		{method: "GET", target: "/v1/kv/k?stale&max_stale=bad", status: 400, want: `Invalid max_stale value "bad"`},
		{method: "GET", target: "/v1/catalog/nodes?consistent", status: 200, want: "~^\\[", has: map[string]string{"X-Consul-Effective-Consistency": "consistent"}},
		{method: "GET", target: "/v1/catalog/nodes?stale=", status: 200, want: "~^\\[", has: map[string]string{"X-Consul-Effective-Consistency": "stale"}},
		{method: "GET", target: "/v1/catalog/nodes?max_stale=1s", status: 200, want: "~^\\[", has: map[string]string{"X-Consul-Effective-Consistency": "stale"}},
		{method: "GET", target: "/v1/catalog/nodes?stale&leader", status: 200, want: "~^\\[", has: map[string]string{"X-Consul-Effective-Consistency": "leader"}},
		{method: "GET", target: "/v1/kv/k?ns=foo", status: 400, typ: errorType, want: `Invalid query parameter: "ns" - Namespaces are a Consul Enterprise feature`},
		{method: "GET", target: "/v1/kv/k?partition=foo", status: 400, want: `Invalid query parameter: "partition" - Partitions are a Consul Enterprise feature`},
		{method: "GET", target: "/v1/kv/k?ns=&partition=", status: 200, want: "~dg=="},
		{method: "GET", target: "/v1/kv/k", headers: []string{"X-Consul-Namespace: foo"}, status: 400, want: `Invalid header: "X-Consul-Namespace" - Namespaces are a Consul Enterprise feature`},
		{method: "GET", target: "/v1/kv/k", headers: []string{"X-Consul-Partition: foo"}, status: 400, want: `~^Invalid header: "X-Consul-Partition" - `},
		{method: "GET", target: "/v1/catalog/nodes?ns=foo", status: 200, want: "~^\\["},
		{method: "GET", target: "/v1/catalog/nodes?partition=foo", status: 400, want: `~"partition"`},
		{method: "GET", target: "/v1/status/leader?ns=x&partition=x", status: 200, want: `"127.0.0.1:8300"`},
		{method: "GET", target: "/v1/health/service/consul?sg=x", status: 500, want: "sameness groups are not supported in consul CE"},
		{method: "GET", target: "/v1/health/service/consul?near=_agent&merge-central-config&peer=", status: 200, want: `~"Node":"a"`},
	})
	n.Reload(Reloadable{DiscoveryMaxStale: 5e9})
	n.check(t, []exchange{
		{method: "GET", target: "/v1/catalog/nodes", status: 200, want: "~^\\[", has: map[string]string{"X-Consul-Effective-Consistency": "stale"}},
		{method: "GET", target: "/v1/catalog/nodes?leader", status: 200, want: "~^\\[", has: map[string]string{"X-Consul-Effective-Consistency": "leader"}},
	})
}

func TestCatalogAndHealth(t *testing.T) {
	n := newNode(t, nil)
	n.check(t, []exchange{
		{method: "PUT", target: "/v1/catalog/register", status: 200, typ: jsonType, want: "true", has: unindexed,
			body: `{"Node":"ext","Address":"10.1.2.3","Service":{"Service":"db","Port":5432,"Tags":["p"]}}`},
		{method: "PUT", target: "/v1/catalog/register", body: `{"Node":"ext2"}`, status: 500, typ: errorType, want: "Must provide address if SkipNodeUpdate is not set"},
		{method: "PUT", target: "/v1/catalog/register", body: `{"Address":"10.0.0.1"}`, status: 500, want: "Must provide node"},
		{method: "PUT", target: "/v1/catalog/register", body: `{"Node":"e","Address":"x","Namespace":"n"}`, status: 400, want: `Request decode failed: json: unknown field "Namespace"`},
		{method: "PUT", target: "/v1/catalog/register", body: `{"Node":"e","Address":"x","tagged_addresses":{}}`, status: 400, want: `~unknown field "tagged_addresses"`},
		{method: "PUT", target: "/v1/catalog/register", body: `{"node":"lower","ADDRESS":"10.0.0.9"} trailing`, status: 200, want: "true"},
		{method: "PUT", target: "/v1/catalog/register", status: 400, want: "Request decode failed: EOF"},
		{method: "PUT", target: "/v1/catalog/register", body: `{"Node":"e","Address":"x","Service":{"ID":"i"}}`, status: 500, want: "~^Must provide service name"},
		{method: "PUT", target: "/v1/catalog/register", body: `{"Node":"e","Address":"x","Check":{"Name":"c","ServiceID":"nope"}}`, status: 500, want: "Unknown service ID 'nope' for check ID 'c'"},
		{method: "PUT", target: "/v1/catalog/register", body: `{"Node":"ext","SkipNodeUpdate":true,"Check":{"Name":"c2","Status":"passing","Definition":{"HTTP":"http://x","Interval":"5s","Timeout":1000000000}},"Checks":[{"CheckID":"c3","ServiceID":"db"}]}`, status: 200, want: "true"},
		{method: "PUT", target: "/v1/catalog/register", body: `{"Node":"x","Address":"x","Datacenter":"nowhere"}`, status: 500, want: "No path to datacenter"},
		{method: "PUT", target: "/v1/catalog/register?dc=nowhere", body: `{"Node":"farther","Address":"x","Datacenter":"dc2"}`, status: 200, want: "true"},
		{method: "GET", target: "/v1/catalog/node/farther?dc=dc2", status: 200, want: `~"Datacenter":"dc2"`},
		{method: "GET", target: "/v1/health/node/ext", status: 200, has: discovery,
			want: `~^\[\{"Node":"ext","CheckID":"c2","Name":"c2","Status":"passing".*"Type":"http".*"Definition":\{"Interval":"5s","Timeout":"1s","HTTP":"http://x"\}.*"CheckID":"c3".*"Status":"critical".*"ServiceName":"db"`},
		{method: "GET", target: "/v1/catalog/node/ext", status: 200, has: discovery, want: `~"Services":\{"db":\{"ID":"db","Service":"db","Tags":\["p"\].*"Weights":\{"Passing":1,"Warning":1\}`},
		{method: "GET", target: "/v1/catalog/node/none", status: 200, typ: jsonType, want: "null", has: discovery},
		{method: "GET", target: "/v1/catalog/node-services/none", status: 200, want: `{"Node":null,"Services":null}`},
		{method: "GET", target: "/v1/catalog/node-services/a", status: 200, want: `~^\{"Node":\{.*"Services":\[\{"ID":"consul","Service":"consul"`},
		{method: "GET", target: "/v1/catalog/service/none", status: 200, want: "[]", has: discovery},
		{method: "GET", target: "/v1/catalog/service/db?tag=P&node-meta=", status: 200, want: "[]"},
		{method: "GET", target: "/v1/catalog/service/db?tag=P", status: 200, want: `~"ServiceID":"db","ServiceName":"db"`},
		{method: "GET", target: "/v1/catalog/connect/db", status: 200, want: "[]"},
		{method: "GET", target: "/v1/catalog/services", status: 200, want: `{"consul":[],"db":["p"]}`},
		{method: "GET", target: "/v1/catalog/services?dc=dc2", status: 200, want: `{"consul":[]}`},
		{method: "GET", target: "/v1/catalog/datacenters", status: 200, typ: jsonType, want: `["dc1","dc2"]`, has: unindexed},
		{method: "GET", target: "/v1/catalog/nodes?filter=Node==ext", status: 200,
			want: `~^\[\{"ID":"","Node":"ext","Address":"10.1.2.3","Datacenter":"dc1","TaggedAddresses":null,"Meta":null,"CreateIndex":\d+,"ModifyIndex":\d+\}\]$`},
		{method: "GET", target: "/v1/catalog/nodes?filter=bad+syntax", status: 500, typ: errorType, want: "~^Failed to create boolean expression evaluator: 1:", has: map[string]string{"X-Consul-Index": "1"}},
		{method: "GET", target: "/v1/catalog/nodes?filter=Nope==x", status: 500, want: `Failed to create boolean expression evaluator: Selector "Nope" is not valid`},
		{method: "GET", target: "/v1/catalog/nodes?dc=nowhere", status: 500, want: "No path to datacenter"},
		{method: "GET", target: "/v1/catalog/service/", status: 400, typ: errorType, want: "Missing service name"},
		{method: "GET", target: "/v1/catalog/node/", status: 400, want: "Missing node name"},
		{method: "GET", target: "/v1/health/service/", status: 400, want: "Missing service name"},
		{method: "GET", target: "/v1/health/node/", status: 400, want: "Missing node name"},
		{method: "GET", target: "/v1/health/state/", status: 400, want: "Missing check state"},
		{method: "GET", target: "/v1/health/service/none", status: 200, want: "[]", has: discovery},
		{method: "GET", target: "/v1/health/service/consul?passing=1", status: 200, want: `~"Node":"a".*"Checks":\[\{"Node":"a","CheckID":"serfHealth"`},
		{method: "GET", target: "/v1/health/service/db?passing", status: 200, want: "[]"},
		{method: "GET", target: "/v1/health/service/db?passing=0", status: 200, want: `~"Node":"ext"`},
		{method: "GET", target: "/v1/health/service/db?passing=xyz", status: 400, typ: errorType, want: "Invalid value for ?passing"},
		{method: "GET", target: "/v1/health/service/consul?dc=dc2", status: 200, want: `~"Node":"b","Address":"127.0.0.1","Datacenter":"dc2"`},
		{method: "GET", target: "/v1/health/connect/consul", status: 200, want: "[]"},
		{method: "GET", target: "/v1/health/checks/db", status: 200, want: `~"CheckID":"c3"`},
		{method: "GET", target: "/v1/health/state/passing?filter=CheckID==serfHealth", status: 200, want: `~^\[\{"Node":"a","CheckID":"serfHealth"`},
		{method: "GET", target: "/v1/health/state/odd", status: 200, want: "[]"},
		{method: "PUT", target: "/v1/catalog/deregister", body: `{"Node":"ext"}`, status: 200, typ: jsonType, want: "true"},
		{method: "PUT", target: "/v1/catalog/deregister", body: `{"Node":"never-was"}`, status: 200, want: "true"},
		{method: "PUT", target: "/v1/catalog/deregister", body: `{}`, status: 500, typ: errorType, want: "Must provide node"},
		{method: "GET", target: "/v1/health/node/ext", status: 200, want: "[]"},
	})
}

func TestStatusAndOperator(t *testing.T) {
	n := newNode(t, nil)
	n.check(t, []exchange{
		{method: "GET", target: "/v1/status/leader", status: 200, typ: jsonType, want: `"127.0.0.1:8300"`, has: unindexed},
		{method: "GET", target: "/v1/status/leader?pretty", status: 200, want: "\"127.0.0.1:8300\"\n"},
		{method: "GET", target: "/v1/status/peers?dc=dc2", status: 200, want: `["127.0.0.1:8300"]`},
		{method: "GET", target: "/v1/status/leader?dc=nowhere", status: 500, want: "No path to datacenter", has: unindexed},
		{method: "GET", target: "/v1/operator/raft/configuration?stale", status: 200, has: unindexed,
			want: `~^\{"Servers":\[\{"ID":"[0-9a-f-]{36}","Node":"a","Address":"127.0.0.1:8300","Leader":true,"ProtocolVersion":"3","Voter":true,"LastIndex":7\}\],"Index":0\}$`},
		{method: "GET", target: "/v1/operator/autopilot/configuration", status: 200, has: unindexed,
			want: `~^\{"CleanupDeadServers":true,"LastContactThreshold":"200ms","MaxTrailingLogs":250,"MinQuorum":0,"ServerStabilizationTime":"10s"`},
		{method: "PUT", target: "/v1/operator/autopilot/configuration", body: `{"Bogus":1}`, status: 400, want: `Error parsing autopilot config: json: unknown field "Bogus"`},
		{method: "PUT", target: "/v1/operator/autopilot/configuration", body: `{"LastContactThreshold":"-1s"}`, status: 400, want: `Error parsing autopilot config: LastContactThreshold '-1s' must not be negative`},
		{method: "PUT", target: "/v1/operator/autopilot/configuration?cas=1", body: `{"MinQuorum":3}`, status: 200, want: "false"},
		{method: "PUT", target: "/v1/operator/autopilot/configuration", body: `{"MinQuorum":3,"LastContactThreshold":"1s"}`, status: 200, want: "true"},
		{method: "GET", target: "/v1/operator/autopilot/configuration", status: 200, want: `~"LastContactThreshold":"1s".*"MinQuorum":3`},
		{method: "PUT", target: "/v1/operator/autopilot/configuration?cas=x", body: `{}`, status: 400, want: `~^Error parsing cas value`},
		{method: "PUT", target: "/v1/operator/autopilot/configuration", status: 400, want: `Error parsing autopilot config: EOF`},
		{method: "GET", target: "/v1/operator/autopilot/health", status: 200, typ: jsonType, has: unindexed,
			want: `~^\{"Healthy":true,"FailureTolerance":0,"Servers":\[\{"ID":"id1","Name":"a".*"SerfStatus":"alive","Version":"","Leader":true,"LastContact":"0s"`},
		{method: "GET", target: "/v1/operator/autopilot/health?dc=dc2&pretty", status: 429, typ: jsonType, want: `~^\{\n    "Healthy": false,`},
		{method: "GET", target: "/v1/operator/autopilot/health?dc=nowhere", status: 500, want: "No path to datacenter", has: unindexed},
		{method: "GET", target: "/v1/operator/autopilot/state", status: 200, has: unindexed, want: `~^\{"Healthy":true,.*"Servers":\{"id1":\{.*"Leader":"id1","Voters":\["id1"\]\}$`},
		{method: "DELETE", target: "/v1/operator/raft/peer", status: 400, typ: errorType, want: "Must specify either ?id with the server's ID or ?address with IP:port of peer to remove"},
		{method: "DELETE", target: "/v1/operator/raft/peer?id=a&address=b", status: 400, typ: errorType, want: "Must specify only one of ?id or ?address"},
		{method: "DELETE", target: "/v1/operator/raft/peer?id=zz", status: 500, typ: errorType, want: `id "zz" was not found in the Raft configuration`},
		{method: "DELETE", target: "/v1/operator/raft/peer?address=127.0.0.1:8300", status: 200, typ: jsonType, want: "", has: unindexed},
		{method: "GET", target: "/v1/operator/raft/peer", status: 405, want: "method GET not allowed"},
		{method: "POST", target: "/v1/operator/raft/transfer-leader", status: 200, typ: jsonType, want: `{"Success":true}`, has: unindexed},
		{method: "POST", target: "/v1/operator/raft/transfer-leader?id=zz", status: 500, typ: errorType, want: `id "zz" was not found in the Raft configuration`},
		{method: "PUT", target: "/v1/operator/raft/transfer-leader", status: 405, want: "method PUT not allowed"},
		{method: "GET", target: "/v1/operator/usage", status: 200, has: discovery, want: `~^\{"Usage":\{"dc1":\{"Services":1,"ServiceInstances":1,.*"BillableServiceInstances":0,"Nodes":1\}\},"Index":\d+,.*"ConsistencyLevel":"leader"`},
		{method: "GET", target: "/v1/operator/usage?dc=dc2&stale&global=false", status: 200, want: `~^\{"Usage":\{"dc2":.*"ConsistencyLevel":"stale"`},
		{method: "GET", target: "/v1/operator/usage?index=x", status: 400, want: "Invalid index"},
		{method: "GET", target: "/v1/connect/ca/roots", status: 200, want: `~^\{"ActiveRootID"`, has: indexed},
		{method: "GET", target: "/v1/agent/connect/ca/roots?dc=nowhere", status: 200, want: `~^\{"ActiveRootID"`},
		{method: "GET", target: "/v1/connect/ca/roots?pem=true", status: 200, typ: "application/pem-certificate-chain", want: "PEM\n"},
		{method: "GET", target: "/v1/agent/host", status: 200, want: `{"CollectionTime":1}`},
		{method: "GET", target: "/v1/internal/federation", status: 200, want: `{"Datacenters":["dc1"]}`},
	})
}

func TestAgentItself(t *testing.T) {
	n := newNode(t, nil)
	n.check(t, []exchange{
		{method: "GET", target: "/v1/agent/self", status: 200, typ: jsonType, has: unindexed,
			want: `~^\{"Config":\{"Datacenter":"dc1","PrimaryDatacenter":"dc1","NodeName":"a","NodeID":"[0-9a-f-]{36}".*"DebugConfig":.*"Member":\{"Name":"a","Addr":"127.0.0.1","Port":8301,"Tags":\{.*\},"Status":1,"ProtocolMin":1,"ProtocolMax":5,"ProtocolCur":2,"DelegateMin":2,"DelegateMax":5,"DelegateCur":4\}.*"Stats":.*"Meta":\{"consul-network-segment":""`},
		{method: "GET", target: "/v1/agent/version", status: 200, want: `{"SHA":"","BuildDate":"1970-01-01T00:00:01Z","HumanVersion":"1.21.4","FIPS":"","Release":"0.1.0"}`},
		{method: "GET", target: "/v1/agent/members?wan", status: 200, want: `~^\[\{"Name":"a"`}, // without a value it is absent
		{method: "GET", target: "/v1/agent/members?wan=1", status: 200, want: "null"},
		{method: "GET", target: "/v1/agent/members?segment=_all", status: 200, want: "~^\\["},
		{method: "GET", target: "/v1/agent/members?segment=foo", status: 500, want: "Network segments are not supported in this version of Consul"},
		{method: "PUT", target: "/v1/agent/join/127.0.0.1:8301", status: 200, typ: jsonType},
		{method: "PUT", target: "/v1/agent/join/127.0.0.1:8302?wan=1", status: 200},
		{method: "PUT", target: "/v1/agent/force-leave/gone?prune&wan=true", status: 200},
		{method: "PUT", target: "/v1/agent/force-leave/none", status: 500, typ: errorType, want: "agent: No node found with name 'none'"},
		{method: "PUT", target: "/v1/agent/reload", status: 200, typ: jsonType},
		{method: "PUT", target: "/v1/agent/leave", status: 200, typ: jsonType},
		{method: "GET", target: "/v1/agent/metrics", status: 200, typ: jsonType, want: `~^\{"Timestamp":"[^"]+ \+0000 UTC","Gauges":\[`},
		{method: "GET", target: "/v1/agent/metrics?format=odd", status: 200, typ: jsonType, want: "~^\\{"},
		{method: "GET", target: "/v1/agent/metrics?format=prometheus", status: 200, want: `~landbridge_httpapi_requests_total\{code="2xx",family="agent"\} \d+`},
		{method: "GET", target: "/v1/agent/metrics", headers: []string{"Accept: application/openmetrics-text;version=1.0.0"}, status: 200, want: "~# HELP"},
		{method: "GET", target: "/v1/agent/monitor?loglevel=bogus", status: 400, want: "Unknown log level: bogus"},
		{method: "PUT", target: "/v1/agent/maintenance", status: 400, want: "Missing value for enable"},
		{method: "PUT", target: "/v1/agent/maintenance?enable=junk", status: 400, want: `Invalid value for enable: "junk"`},
		{method: "PUT", target: "/v1/agent/maintenance?enable=true&reason=r", status: 200, typ: jsonType},
		{method: "GET", target: "/v1/agent/checks", status: 200, want: `~^\{"_node_maintenance":\{"Node":"a","CheckID":"_node_maintenance"`},
		{method: "PUT", target: "/v1/agent/maintenance?enable=false", status: 200},
		{method: "GET", target: "/v1/agent/checks", status: 200, want: "{}"},
	})
	if got, want := fmt.Sprint(n.agent.calls), "[join 127.0.0.1:8301 join 127.0.0.1:8302 wan force-leave gone prune wan reload leave]"; got != want {
		t.Errorf("the agent was asked for %s, want %s", got, want)
	}
}

func TestAgentServicesAndChecks(t *testing.T) {
	n := newNode(t, nil)
	const unknownCheck = `Unknown check ID "none". Ensure that the check ID is passed, not the check name.`
	const unknownService = `Unknown service ID "none". Ensure that the service ID is passed, not the service name.`
	n.check(t, []exchange{
		{method: "PUT", target: "/v1/agent/service/register", body: `{"Name":"web","Port":80,"Tags":["x"],"Check":{"TTL":"60s"}}`, status: 200, typ: jsonType, has: unindexed},
		{method: "PUT", target: "/v1/agent/service/register", body: `{"Port":80}`, status: 400, typ: errorType, want: "Missing service name"},
		{method: "PUT", target: "/v1/agent/service/register", body: `{"Name":"web","Bogus":1}`, status: 400, want: `~unknown field "Bogus"`},
		{method: "PUT", target: "/v1/agent/service/register", status: 400, want: "Request decode failed: EOF"},
		{method: "PUT", target: "/v1/agent/service/register", body: `{"Name":"w2","Check":{"Interval":"10s"}}`, status: 400, want: "Invalid check: TTL must be > 0 for TTL checks"},
		{method: "PUT", target: "/v1/agent/service/register", body: `{"name":"lower","port":"81"}`, status: 400, want: "~^Request decode failed"},
		{method: "GET", target: "/v1/agent/services", status: 200, typ: jsonType, has: unindexed,
			want: `{"web":{"ID":"web","Service":"web","Tags":["x"],"Meta":{},"Port":80,"Address":"","Weights":{"Passing":1,"Warning":1},"EnableTagOverride":false,"Datacenter":"dc1"}}`},
		{method: "GET", target: "/v1/agent/services?filter=Service==db", status: 200, want: "{}"},
		{method: "GET", target: "/v1/agent/services?filter=Bogus==db", status: 500, want: `~Selector "Bogus" is not valid`, has: unindexed},
		{method: "GET", target: "/v1/agent/service/web", status: 200, want: `~"ContentHash":"[0-9a-f]{16}","Datacenter":"dc1"\}$`, has: map[string]string{"X-Consul-ContentHash": "~^[0-9a-f]{16}$"}},
		{method: "GET", target: "/v1/agent/service/web?hash=other&wait=1m", status: 200, want: `~"ID":"web"`},
		{method: "GET", target: "/v1/agent/service/none", status: 404, typ: errorType, want: "unknown service ID: none"},
		{method: "GET", target: "/v1/agent/service/none?hash=x", status: 404, want: "unknown service ID: none"},
		{method: "GET", target: "/v1/agent/service/web?hash=x&wait=10", status: 400, want: "Invalid wait time"},
		{method: "GET", target: "/v1/health/service/web", status: 200, want: `~"Service":"web"`}, // registration waits for the catalog
		{method: "GET", target: "/v1/agent/health/service/name/web", status: 503, typ: jsonType, want: `~^\[\{"AggregatedStatus":"critical","Service":\{"ID":"web".*"Checks":\[\{"Node":"a","CheckID":"service:web"`, has: map[string]string{"X-Consul-Reason": "critical"}},
		{method: "GET", target: "/v1/agent/health/service/name/web?format=text", status: 503, typ: "text/plain", want: "critical"},
		{method: "GET", target: "/v1/agent/health/service/name/none", status: 404, typ: jsonType, want: "[]", has: map[string]string{"X-Consul-Reason": "ServiceName none Not Found"}},
		{method: "GET", target: "/v1/agent/health/service/id/none", status: 404, typ: jsonType, want: `{"AggregatedStatus":"critical","Service":null,"Checks":null}`, has: map[string]string{"X-Consul-Reason": "ServiceId none not found"}},
		{method: "GET", target: "/v1/agent/health/service/id/none?format=text", status: 404, typ: "text/plain", want: "ServiceId none not found"},
		{method: "GET", target: "/v1/agent/health/service/name/", status: 500, want: "Missing service Name"},
		{method: "GET", target: "/v1/agent/health/service/id/", status: 500, want: "Missing serviceID"},
		{method: "PUT", target: "/v1/agent/check/warn/service%3Aweb?note=hm", status: 200},
		{method: "GET", target: "/v1/agent/health/service/id/web?format=text", status: 429, typ: "text/plain", want: "warning"},
		{method: "PUT", target: "/v1/agent/check/pass/service:web?note=ok", status: 200, typ: jsonType},
		{method: "GET", target: "/v1/agent/health/service/name/web?format=text", status: 200, want: "passing", has: map[string]string{"X-Consul-Reason": "passing"}},
		{method: "GET", target: "/v1/agent/checks?filter=CheckID==%22service:web%22", status: 200, want: `~^\{"service:web":\{"Node":"a","CheckID":"service:web","Name":"Service 'web' check","Status":"passing","Notes":"","Output":"ok".*"Type":"ttl"`},
		{method: "PUT", target: "/v1/agent/service/maintenance/web?enable=true", status: 200, typ: jsonType},
		{method: "GET", target: "/v1/agent/health/service/id/web?format=text", status: 503, want: "maintenance"},
		{method: "PUT", target: "/v1/agent/service/maintenance/web?enable=false", status: 200},
		{method: "PUT", target: "/v1/agent/service/maintenance/web", status: 400, want: "Missing value for enable"},
		{method: "PUT", target: "/v1/agent/service/maintenance/web?enable=perhaps", status: 400, want: `Invalid value for enable: "perhaps"`},
		{method: "PUT", target: "/v1/agent/service/maintenance/", status: 400, want: "Missing service ID"},
		{method: "PUT", target: "/v1/agent/service/maintenance/none?enable=true", status: 404, want: unknownService},
		{method: "PUT", target: "/v1/agent/check/pass/none", status: 404, typ: errorType, want: unknownCheck},
		{method: "PUT", target: "/v1/agent/check/update/service:web", body: `{"Status":"odd"}`, status: 400, want: "Invalid check status: 'odd'"},
		{method: "PUT", target: "/v1/agent/check/update/service:web", body: `{"Status":"critical","Output":"down"}`, status: 200},
		{method: "PUT", target: "/v1/agent/check/update/service:web", status: 400, want: "Request decode failed: EOF"},
		{method: "PUT", target: "/v1/agent/check/update/none", body: `{"Status":"passing"}`, status: 404, want: unknownCheck},
		{method: "PUT", target: "/v1/agent/check/register", body: `{"Name":"c1"}`, status: 400, want: "Invalid check: TTL must be > 0 for TTL checks"},
		{method: "PUT", target: "/v1/agent/check/register", body: `{"TTL":"1s"}`, status: 400, want: "Missing check name"},
		{method: "PUT", target: "/v1/agent/check/register", body: `{"Name":"c","TTL":"1m","ServiceID":"nope"}`, status: 404, want: `ServiceID "nope" does not exist`},
		{method: "PUT", target: "/v1/agent/check/register", body: `{"Name":"c","TTL":"1m"}`, status: 200, typ: jsonType},
		{method: "PUT", target: "/v1/agent/check/fail/c", status: 200},
		{method: "PUT", target: "/v1/agent/check/deregister/c", status: 200},
		{method: "PUT", target: "/v1/agent/check/deregister/c", status: 404, want: `~^Unknown check ID "c"`},
		{method: "PUT", target: "/v1/agent/service/deregister/none", status: 404, typ: errorType, want: unknownService},
		{method: "PUT", target: "/v1/agent/service/deregister/web", status: 200, typ: jsonType},
		{method: "GET", target: "/v1/health/service/web", status: 200, want: "[]"},
		{method: "GET", target: "/v1/agent/services", status: 200, want: "{}"},
	})
}

func TestUnprintablePaths(t *testing.T) {
	for allow, status := range map[bool]int{false: 400, true: 404} {
		n := newNode(t, func(c *Config) { c.AllowUnprintable = allow })
		for target, want := range map[string]int{"/v1/kv/a%0ab": status, "/v1/kv/a%C2%A0b": status, "/v1/kv/a%7f": status, "/v1/kv/a%20b%C3%A4": 404} {
			w := httptest.NewRecorder()
			n.ServeHTTP(w, httptest.NewRequest("GET", target, nil))
			if w.Code != want {
				t.Errorf("%s with AllowUnprintable = %t: %d %s, want %d", target, allow, w.Code, w.Body, want)
			}
		}
	}
}

func TestRestrictions(t *testing.T) {
	n := newNode(t, func(c *Config) {
		c.BlockEndpoints = []string{"/v1/agent/self", "/v1/operator/"}
		c.AllowWriteFrom = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		c.ResponseHeaders = map[string]string{"access-control-allow-origin": "*"}
	})
	ask := func(method, target, from string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, target, nil)
		r.RemoteAddr = from
		w := httptest.NewRecorder()
		n.ServeHTTP(w, r)
		if w.Header().Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s %s: headers %v", method, target, w.Header())
		}
		return w
	}
	for _, tc := range []struct {
		method, target, from string
		status               int
		want                 string
	}{
		{"GET", "/v1/agent/self", "10.0.0.1:1", 403, "Endpoint is blocked by agent configuration"},
		{"GET", "/v1/agent/%73elf", "10.0.0.1:1", 403, "Endpoint is blocked by agent configuration"},
		{"GET", "/v1/operator/raft/configuration", "10.0.0.1:1", 403, "Endpoint is blocked by agent configuration"},
		{"GET", "/v1/status/leader", "192.168.0.1:1", 200, `"127.0.0.1:8300"`},
		{"PUT", "/v1/kv/x", "192.168.0.1:1", 403, "Access is restricted"},
		{"DELETE", "/v1/kv/x", "[::1]:1", 403, "Access is restricted"},
		{"PUT", "/v1/kv/x", "10.1.2.3:1", 200, "true"},
		{"PUT", "/v1/kv/x", "[::ffff:10.1.2.3]:1", 200, "true"},
		{"OPTIONS", "/v1/kv/x", "192.168.0.1:1", 200, ""},
		{"GET", "/v1/nosuch", "192.168.0.1:1", 404, errUnknownAPI},
	} {
		if w := ask(tc.method, tc.target, tc.from); w.Code != tc.status || w.Body.String() != tc.want {
			t.Errorf("%s %s from %s: got %d %q, want %d %q", tc.method, tc.target, tc.from, w.Code, w.Body, tc.status, tc.want)
		}
	}
}

func TestDevModeIndents(t *testing.T) {
	n := newNode(t, func(c *Config) { c.DevMode = true })
	n.check(t, []exchange{
		{method: "GET", target: "/v1/status/peers", status: 200, want: "[\n    \"127.0.0.1:8300\"\n]"},
		{method: "GET", target: "/v1/status/peers?pretty", status: 200, want: "[\n    \"127.0.0.1:8300\"\n]\n"},
	})
}

func TestMetricsStream(t *testing.T) {
	n := newNode(t, nil)
	w := n.ask(t, "GET", "/v1/agent/metrics/stream", "")
	if w.Code != 200 || w.Header().Get("Content-Type") != "application/json" || w.Body.String() != "{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n" {
		t.Errorf("got %d %v %q", w.Code, w.Header(), w.Body)
	}
}
