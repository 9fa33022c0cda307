package httpapi

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const uuidPattern = `[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`

func TestSessions(t *testing.T) {
	n := newNode(t, nil)
	create := func(body string) string {
		t.Helper()
		w := n.ask(t, "PUT", "/v1/session/create", body)
		var got struct{ ID string }
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK {
			t.Fatalf("%s: %d %s", body, w.Code, w.Body)
		}
		return got.ID
	}
	ids := `"ID":"` + uuidPattern + `","Name":`
	n.check(t, []exchange{
		{method: "GET", target: "/v1/session/list", status: 200, typ: jsonType, want: "[]", has: indexed},
		{method: "PUT", target: "/v1/session/create", status: 200, typ: jsonType, want: `~^\{"ID":"` + uuidPattern + `"\}$`, has: unindexed},
		{method: "GET", target: "/v1/session/list", status: 200, typ: jsonType, has: indexed, want: `~^\[\{` + ids +
			`"","Node":"a","LockDelay":15000000000,"Behavior":"release","TTL":"","NodeChecks":\["serfHealth"\],"ServiceChecks":null,"CreateIndex":(\d+),"ModifyIndex":\d+\}\]$`},
	})
	n.check(t, []exchange{
		{method: "PUT", target: "/v1/session/create", body: `{"TTL":"9s"}`, status: 500, typ: errorType,
			want: "Invalid Session TTL '9000000000', must be between [10s=24h0m0s]"},
		{method: "PUT", target: "/v1/session/create", body: `{"TTL":"86401s"}`, status: 500, want: "~^Invalid Session TTL '86401000000000'"},
		{method: "PUT", target: "/v1/session/create", body: `{"TTL":"-10s"}`, status: 500, want: "~^Invalid Session TTL '-10000000000'"},
		{method: "PUT", target: "/v1/session/create", body: `{"TTL":"bad"}`, status: 500, typ: errorType, want: `Session TTL 'bad' invalid: time: invalid duration "bad"`},
		{method: "PUT", target: "/v1/session/create", body: `{"Behavior":"x"}`, status: 500, typ: errorType, want: "Invalid Behavior setting 'x'"},
		{method: "PUT", target: "/v1/session/create", body: `{"Node":"zip"}`, status: 500, typ: errorType, want: "apply failed: Missing node registration"},
		{method: "PUT", target: "/v1/session/create", body: `{"NodeChecks":["x"]}`, status: 500, typ: errorType, want: "apply failed: Missing check 'x' registration"},
		{method: "PUT", target: "/v1/session/create", body: `{"NodeChecks":[],"Checks":["y"]}`, status: 500, want: "apply failed: Missing check 'y' registration"},
		{method: "PUT", target: "/v1/session/create", body: `{"LockDelay":"5"}`, status: 400, typ: errorType, want: `Request decode failed: time: missing unit in duration "5"`},
		{method: "PUT", target: "/v1/session/create", body: `{"LockDelay":"-5s"}`, status: 400, typ: errorType, want: "~^Invalid LockDelay '-5s'"},
		{method: "PUT", target: "/v1/session/create", body: `{bad`, status: 400, typ: errorType, want: "~^Request decode failed: "},
		{method: "PUT", target: "/v1/session/create", body: `{"TTL":5}`, status: 400, want: "~^Request decode failed: "},
		{method: "PUT", target: "/v1/session/create?ns=x", status: 400, want: "~Namespaces"},
		{method: "GET", target: "/v1/session/create", status: 405, want: "method GET not allowed"},
		{method: "PUT", target: "/v1/session/destroy/", status: 400, typ: errorType, want: "Missing session"},
		{method: "PUT", target: "/v1/session/renew/", status: 400, typ: errorType, want: "Missing session"},
		{method: "GET", target: "/v1/session/info/", status: 400, typ: errorType, want: "Missing session"},
		{method: "GET", target: "/v1/session/node/", status: 400, typ: errorType, want: "Missing node name"},
		{method: "GET", target: "/v1/session/info/notauuid", status: 200, typ: jsonType, want: "[]", has: indexed},
		{method: "GET", target: "/v1/session/node/none", status: 200, typ: jsonType, want: "[]", has: indexed},
		{method: "GET", target: "/v1/session/node/A", status: 200, want: `~^\[\{` + ids},
		{method: "PUT", target: "/v1/session/renew/x", status: 404, typ: errorType, want: "Session id 'x' not found", has: unindexed},
		{method: "PUT", target: "/v1/session/destroy/x", status: 200, typ: jsonType, want: "true", has: unindexed},
		{method: "PUT", target: "/v1/session/create?dc=dc2", status: 500, want: "apply failed: Missing node registration"},
		{method: "PUT", target: "/v1/session/create?dc=dc2", body: `{"Node":"b"}`, status: 200, want: "~ID"},
		{method: "GET", target: "/v1/session/list?dc=dc2", status: 200, want: `~"Node":"b"`, has: indexed},
	})
	s := create(`{"name":"n","TTL":"15s","LockDelay":5,"Behavior":"delete","NodeChecks":[],"Unknown":1,"ID":"mine"} and more`)
	full := `[{"ID":"` + s + `","Name":"n","Node":"a","LockDelay":5000000000,"Behavior":"delete","TTL":"15s","NodeChecks":[],"ServiceChecks":null,"CreateIndex":`
	other := create("")
	n.check(t, []exchange{
		{method: "GET", target: "/v1/session/info/" + s, status: 200, typ: jsonType, want: "~^" + strings.NewReplacer("[", `\[`, "{", `\{`, "]", `\]`).Replace(full), has: indexed},
		{method: "PUT", target: "/v1/session/renew/" + s, status: 200, typ: jsonType, want: "~" + s, has: unindexed},
		{method: "PUT", target: "/v1/kv/l?acquire=", body: "x", status: 500, typ: errorType, want: "raft apply failed: missing session"},
		{method: "PUT", target: "/v1/kv/l?acquire=" + s, body: "1", status: 200, typ: jsonType, want: "true"},
		{method: "PUT", target: "/v1/kv/l?acquire=" + other, body: "2", status: 200, want: "false"},
		{method: "PUT", target: "/v1/kv/l?flags=3", body: "plain", status: 200, want: "true"},
		{method: "GET", target: "/v1/kv/l", status: 200, want: `~"LockIndex":1,"Key":"l","Flags":3,"Value":"cGxhaW4=","Session":"` + s + `",`},
		{method: "PUT", target: "/v1/kv/l?release=" + other, body: "2", status: 200, want: "false"},
		{method: "PUT", target: "/v1/kv/l?release=nosuch", body: "2", status: 200, want: "false"},
		{method: "PUT", target: "/v1/session/destroy/" + s, status: 200, want: "true"},
		{method: "GET", target: "/v1/kv/l", status: 404, typ: "-", has: indexed},
		{method: "PUT", target: "/v1/kv/free?acquire=" + other, body: "1", status: 200, want: "true"},
		{method: "PUT", target: "/v1/kv/free?release=" + other, body: "bye", status: 200, want: "true"},
		{method: "GET", target: "/v1/kv/free", status: 200, want: `~^\[\{"LockIndex":1,"Key":"free","Flags":0,"Value":"Ynll","CreateIndex":`},
	})
}

// Whoever blocks on a lock is woken when its holder's session ends.
func TestEndOfASessionWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, nil)
		var s struct{ ID string }
		if err := json.Unmarshal(n.ask(t, "PUT", "/v1/session/create", `{"LockDelay":0}`).Body.Bytes(), &s); err != nil {
			t.Fatal(err)
		}
		n.ask(t, "PUT", "/v1/kv/l?acquire="+s.ID, "x")
		index := n.ask(t, "GET", "/v1/kv/l", "").Header().Get("X-Consul-Index")
		done := make(chan string, 1)
		go func() { done <- n.ask(t, "GET", "/v1/kv/l?wait=1m&index="+index, "").Body.String() }()
		synctest.Wait()
		if n.state.Counts().Watches == 0 {
			t.Error("nobody waits")
		}
		n.ask(t, "PUT", "/v1/session/destroy/"+s.ID, "")
		synctest.Wait()
		select {
		case body := <-done:
			if strings.Contains(body, "Session") || !strings.Contains(body, `"Key":"l"`) {
				t.Errorf("woken with %s", body)
			}
		default:
			t.Error("not woken")
		}
	})
}

func TestLockDelayForms(t *testing.T) {
	for in, want := range map[string]time.Duration{
		`"10s"`: 10 * time.Second, `"1m30s"`: 90 * time.Second, `"0s"`: 0, `"0"`: 0, `0`: 0, `5`: 5 * time.Second, `999`: 999 * time.Second,
		`1000`: 1000, `"999ns"`: 999 * time.Second, `15000000000`: 15 * time.Second, `-5`: -5 * time.Second, `null`: 15 * time.Second, `"70s"`: 70 * time.Second,
	} {
		d := lockDelay(15 * time.Second)
		if err := json.Unmarshal([]byte(in), &d); err != nil || time.Duration(d) != want {
			t.Errorf("%s: %v, %v; want %v", in, time.Duration(d), err, want)
		}
	}
	for _, in := range []string{`"5"`, `"x"`, `{}`, `1.5`} {
		if err := json.Unmarshal([]byte(in), new(lockDelay)); err == nil {
			t.Errorf("%s was taken", in)
		}
	}
}
