package httpapi

import "testing"

func TestSimpleRequests(t *testing.T) {
	n := newNode(t, nil)
	for target, want := range map[string]bool{
		"/v1/kv/a": true, "/v1/kv/a?stale&dc=dc2&wait=10s": true, "/v1/kv/a?raw=%20": true, "/v1/health/service/web?passing=1": true,
		"/v1/kv/a?index=7": false, "/v1/kv/a?stale&index=7&wait=1s": false, "/v1/kv/a?%69ndex=7": false, "/v1/kv/a?index": false,
		"/v1/agent/service/web?hash=x": false, "/v1/agent/monitor": false, "/v1/snapshot": false, "/metrics": false, "/": false, "/v1/none": false,
		"/v1/kv": false,
	} {
		if got := n.isSimple("GET", target); got != want {
			t.Errorf("isSimple(%q) = %v, want %v", target, got, want)
		}
	}
}
