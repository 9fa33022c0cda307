package httpapi

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
)

const readOnly = `"Index":1,"LastContact":0,"KnownLeader":true,"ConsistencyLevel":"","NotModified":false,"Backend":0,"ResultsFilteredByACLs":false}`

var readHeaders = map[string]string{"X-Consul-KnownLeader": "true", "X-Consul-LastContact": "0", "X-Consul-Index": ""}

func TestTxnKeys(t *testing.T) {
	n := newNode(t, nil)
	const path = "/v1/txn"
	kv := func(verb, key, rest string) string {
		return fmt.Sprintf(`{"KV":{"Verb":%q,"Key":%q%s}}`, verb, key, rest)
	}
	failed := func(errs ...string) string {
		return `{"Results":null,"Errors":[` + strings.Join(errs, ",") + `]}`
	}
	what := func(op int, text string) string { return fmt.Sprintf(`{"OpIndex":%d,"What":%q}`, op, text) }
	n.check(t, []exchange{
		{method: "PUT", target: path, body: `[` + kv("set", "t/1", `,"Value":"eA==","Flags":7`) + `,` + kv("get", "t/1", "") + `,` + kv("get-or-empty", "t/none", "") + `]`, status: 200, typ: jsonType, has: unindexed,
			want: `~^\{"Results":\[\{"KV":\{"LockIndex":0,"Key":"t/1","Flags":7,"Value":null,"CreateIndex":(\d+),"ModifyIndex":\d+\}\},` +
				`\{"KV":\{"LockIndex":0,"Key":"t/1","Flags":7,"Value":"eA==","CreateIndex":\d+,"ModifyIndex":\d+\}\},` +
				`\{"KV":\{"LockIndex":0,"Key":"t/none","Flags":0,"Value":null,"CreateIndex":0,"ModifyIndex":0\}\}\],"Errors":null\}$`},
		{method: "PUT", target: path, body: `[` + kv("set", "t/2", `,"Value":"eQ=="`) + `,` + kv("get", "t/none", "") + `,` + kv("check-not-exists", "t/1", "") + `]`, status: 409, typ: jsonType,
			want: failed(what(1, `key "t/none" doesn't exist`), what(2, `key "t/1" exists`))},
		{method: "GET", target: "/v1/kv/t/2", status: 404},
		// Reads need no log, and say so.
		{method: "PUT", target: path, body: `[]`, status: 200, typ: jsonType, has: readHeaders, want: `{"Results":[],"Errors":null,` + readOnly},
		{method: "PUT", target: path, body: `null`, status: 200, want: `{"Results":[],"Errors":null,` + readOnly},
		{method: "PUT", target: path + "?consistent", body: `[` + kv("get-tree", "t/", "") + `]`, status: 200, has: readHeaders,
			want: `~^\{"Results":\[\{"KV":\{"LockIndex":0,"Key":"t/1","Flags":7,"Value":"eA==",.*\],"Errors":null,` + readOnly + `$`},
		{method: "PUT", target: path + "?stale", body: `[` + kv("get", "t/9", "") + `]`, status: 409, typ: jsonType, has: readHeaders,
			want: `{"Results":null,"Errors":[` + what(0, `key "t/9" doesn't exist`) + `],` + readOnly},
		{method: "PUT", target: path + "?stale&consistent", body: `[]`, status: 400, typ: errorType, want: "Cannot specify ?stale with ?consistent, conflicting semantics."},
		{method: "PUT", target: path, body: `[` + kv("check-index", "t/1", `,"Index":1`) + `,` + kv("check-session", "t/1", `,"Session":"x"`) + `]`, status: 409,
			want: `~^\{"Results":null,"Errors":\[\{"OpIndex":0,"What":"failed index check for key \\"t/1\\", current modify index \d+ != 1"\},` +
				`\{"OpIndex":1,"What":"failed session check for key \\"t/1\\", current session \\"\\" != \\"x\\""\}\],"Index"`},
		// What is wrong with any operation is told before any is run.
		{method: "PUT", target: path, body: `[` + kv("get", "t/none", "") + `,` + kv("odd", "t/2", "") + `,` + kv("set", "", "") + `,{}]`, status: 409,
			want: failed(what(1, "unknown KV operation: odd"), what(2, "Must provide key"), what(3, "an operation must have exactly one of KV, Node, Service and Check"))},
		{method: "PUT", target: path, body: `[` + kv("odd", "t/2", "") + `]`, status: 409, want: `~^\{"Results":null,"Errors":\[\{"OpIndex":0,"What":"unknown KV operation: odd"\}\],"Index":1`},
		{method: "PUT", target: path, body: `[` + kv("cas", "t/1", `,"Index":0,"Value":"eA=="`) + `,` + kv("delete-cas", "t/1", `,"Index":1`) + `]`, status: 409,
			want: failed(what(0, `failed to set key "t/1", index is stale`), what(1, `failed to delete key "t/1", index is stale`))},
		{method: "PUT", target: path, body: `[` + kv("lock", "t/1", `,"Session":"nope"`) + `,` + kv("unlock", "t/1", `,"Session":"nope"`) + `]`, status: 409,
			want: failed(what(0, `invalid session "nope"`), what(1, `failed to unlock key "t/1", lock isn't held, or is held by another session`))},
		{method: "PUT", target: path, body: `[` + kv("delete-tree", "t/", "") + `]`, status: 200, want: `{"Results":[],"Errors":null}`},
		{method: "PUT", target: path + "?dc=dc2", body: `[` + kv("set", "far", `,"Value":"eA=="`) + `]`, status: 200, want: `~"Key":"far"`},
		{method: "GET", target: "/v1/kv/far?raw", status: 404},
		{method: "GET", target: "/v1/kv/far?raw&dc=dc2", status: 200, want: "x"},
		{method: "PUT", target: path + "?dc=nowhere", body: `[]`, status: 500, typ: errorType, want: "No path to datacenter"},
		{method: "PUT", target: path + "?pretty", body: `[]`, status: 200, want: "~\"Results\": \\[\\],\n    \"Errors\": null,\n"},

		{method: "PUT", target: path, body: "", status: 400, typ: errorType, want: "Failed to parse body: EOF"},
		{method: "PUT", target: path, body: `[{"Bad":1}]`, status: 400, want: `Failed to parse body: json: unknown field "Bad"`},
		{method: "PUT", target: path, body: `[{"Session":{"Verb":"delete"}}]`, status: 400, want: `Failed to parse body: json: unknown field "Session"`},
		{method: "PUT", target: path, body: `[{"KV":{"Verb":"set","Key":"a","Value":"?"}}]`, status: 400, want: "~^Failed to parse body: illegal base64 data"},
		{method: "PUT", target: path, body: `[{"KV":`, status: 400, want: "Failed to parse body: unexpected EOF"},
		{method: "PUT", target: path, body: `not json`, status: 400, want: "~^Failed to parse body: invalid character"},
		{method: "POST", target: path, body: `[]`, status: 405, want: "method POST not allowed", has: map[string]string{"Allow": "OPTIONS,PUT"}},
	})
}

func TestTxnLimits(t *testing.T) {
	n := newNode(t, func(c *Config) { c.KVMaxValueSize, c.TxnMaxReqLen = 1000, 20000 })
	list := func(ops int) string {
		return "[" + strings.TrimSuffix(strings.Repeat(`{"KV":{"Verb":"set","Key":"k"}},`, ops), ",") + "]"
	}
	value := func(size int) string {
		return `[{"KV":{"Verb":"set","Key":"k","Value":"` + base64.StdEncoding.EncodeToString(make([]byte, size)) + `"}}]`
	}
	n.check(t, []exchange{
		{method: "PUT", target: "/v1/txn", body: list(128), status: 200, want: `~"Errors":null}$`},
		{method: "PUT", target: "/v1/txn", body: list(129), status: 413, typ: errorType, want: "Transaction contains too many operations (129 > 128)"},
		{method: "PUT", target: "/v1/txn", body: value(1000), status: 200, want: `~"Errors":null}$`},
		{method: "PUT", target: "/v1/txn", body: value(1001), status: 413, want: `Value for key "k" is too large (1001 > 1000 bytes)`},
		{method: "PUT", target: "/v1/txn", body: strings.Repeat(" ", 20001), status: 413, typ: errorType,
			want: "~^Request body\\(20001 bytes\\) too large, max size: 20000 bytes. See .*#txn_max_req_len\\.$"},
		{method: "PUT", target: "/v1/txn", body: `[{"KV":{"Verb":"get","Key":"` + strings.Repeat("k", maxKey+1) + `"}}]`, status: 413, want: "~too large"},
	})
	// What counts is what was read, not what was said.
	r := httptest.NewRequest("PUT", "/v1/txn", io.MultiReader(strings.NewReader(strings.Repeat(" ", 15000)), strings.NewReader(strings.Repeat(" ", 15000))))
	if r.ContentLength != -1 {
		t.Fatal("the body's length is declared")
	}
	w := httptest.NewRecorder()
	n.ServeHTTP(w, r)
	if w.Code != 413 || !strings.HasPrefix(w.Body.String(), "Request body(") {
		t.Errorf("chunked: got %d %q", w.Code, w.Body)
	}
}

func TestTxnCatalog(t *testing.T) {
	n := newNode(t, nil)
	op := func(kind, verb, rest string) string { return fmt.Sprintf(`{%q:{"Verb":%q,%s}}`, kind, verb, rest) }
	txn := func(ops ...string) string { return "[" + strings.Join(ops, ",") + "]" }
	const node = `"Node":{"Node":"alpha","Address":"10.0.0.1","Meta":{"k":"v"}}`
	n.check(t, []exchange{
		{method: "PUT", target: "/v1/txn", body: txn(
			op("Node", "set", node),
			op("Service", "set", `"Node":"alpha","Service":{"ID":"api1","Service":"api","Tags":["a"],"Port":80,"Weights":{"Passing":0,"Warning":0}}`),
			op("Check", "set", `"Check":{"Node":"alpha","CheckID":"c","Name":"n","ServiceID":"api1","Status":"passing","Definition":{"Interval":"10s","HTTP":"http://x"}}`),
			op("Check", "get", `"Check":{"Node":"ALPHA","CheckID":"c"}`)),
			status: 200, typ: jsonType,
			want: `~^\{"Results":\[\{"Node":\{"ID":"","Node":"alpha","Address":"10\.0\.0\.1","Datacenter":"dc1","TaggedAddresses":null,"Meta":\{"k":"v"\},"CreateIndex":(\d+),"ModifyIndex":\d+\}\},` +
				`\{"Service":\{"ID":"api1","Service":"api","Tags":\["a"\],"Address":"","Meta":.*,"Port":80,"Weights":\{"Passing":1,"Warning":1\},"EnableTagOverride":false,.*"CreateIndex":\d+,"ModifyIndex":\d+\}\},` +
				`\{"Check":\{"Node":"alpha","CheckID":"c","Name":"n","Status":"passing","Notes":"","Output":"","ServiceID":"api1","ServiceName":"api","ServiceTags":\["a"\],"Type":"http",.*"Definition":\{"Interval":"10s","HTTP":"http://x"\},.*\}\},` +
				`\{"Check":\{"Node":"alpha","CheckID":"c",.*\}\}\],"Errors":null\}$`},
		{method: "GET", target: "/v1/health/service/api?passing", status: 200, want: `~"CheckID":"c"`},
		{method: "PUT", target: "/v1/txn", body: txn(
			op("Node", "get", `"Node":{"Node":"zip"}`),
			op("Service", "get", `"Node":"alpha","Service":{"ID":"zip","Service":"zip"}`),
			op("Check", "get", `"Check":{"Node":"alpha","CheckID":"nope"}`)), status: 409, has: readHeaders,
			want: `{"Results":null,"Errors":[{"OpIndex":0,"What":"node \"zip\" doesn't exist"},{"OpIndex":1,"What":"service \"zip\" on node \"alpha\" doesn't exist"},` +
				`{"OpIndex":2,"What":"check \"nope\" on node \"alpha\" doesn't exist"}],` + readOnly},
		{method: "PUT", target: "/v1/txn", body: txn(
			op("Node", "cas", `"Node":{"Node":"alpha","Address":"10.0.0.2","ModifyIndex":1}`),
			op("Service", "cas", `"Node":"alpha","Service":{"ID":"api1","Service":"api","ModifyIndex":0}`),
			op("Check", "cas", `"Check":{"Node":"alpha","CheckID":"c","ModifyIndex":1}`),
			op("Service", "set", `"Node":"zip","Service":{"Service":"api"}`),
			op("Check", "set", `"Check":{"Node":"zip","CheckID":"c"}`),
			op("Check", "set", `"Check":{"Node":"alpha","CheckID":"c","ServiceID":"nope"}`),
			op("Node", "delete-cas", `"Node":{"Node":"alpha","ModifyIndex":1}`)), status: 409,
			want: `{"Results":null,"Errors":[{"OpIndex":0,"What":"failed to set node \"alpha\", index is stale"},{"OpIndex":1,"What":"failed to set service \"api1\" on node \"alpha\", index is stale"},` +
				`{"OpIndex":2,"What":"failed to set check \"c\" on node \"alpha\", index is stale"},{"OpIndex":3,"What":"Missing node registration"},{"OpIndex":4,"What":"Missing node registration"},` +
				`{"OpIndex":5,"What":"Unknown service ID 'nope' for check ID 'c'"},{"OpIndex":6,"What":"failed to delete node \"alpha\", index is stale"}]}`},
		{method: "PUT", target: "/v1/txn", body: txn(
			op("Service", "get", `"Node":"alpha","Service":{"ID":"api1"}`),
			op("Service", "lock", `"Node":"alpha","Service":{"Service":"api"}`),
			op("Node", "set", `"Node":{}`),
			op("Node", "set", `"Node":{"Node":"n","ID":"x"}`),
			op("Check", "delete", `"Check":{"CheckID":"c"}`)), status: 409,
			want: `{"Results":null,"Errors":[{"OpIndex":0,"What":"Must provide service name (Service.Service) when service ID is provided"},{"OpIndex":1,"What":"unknown Service operation: lock"},` +
				`{"OpIndex":2,"What":"Must provide node"},{"OpIndex":3,"What":"Bad node ID: uuid string is wrong length"},{"OpIndex":4,"What":"Must provide node"}]}`},
		{method: "PUT", target: "/v1/txn", body: txn(op("Node", "get", `"Node":{"ID":"0e0b2a0c-7e5b-4f0b-8d3e-000000000001"}`)), status: 200, want: `~"Node":"a"`},
		{method: "PUT", target: "/v1/txn", body: txn(
			op("Check", "delete", `"Check":{"Node":"alpha","CheckID":"c"}`),
			op("Service", "delete", `"Node":"alpha","Service":{"Service":"api","ID":"api1"}`),
			op("Node", "delete", `"Node":{"Node":"alpha"}`)), status: 200, want: `{"Results":[],"Errors":null}`},
		{method: "GET", target: "/v1/catalog/node/alpha", status: 200, want: "null"},
	})
}
