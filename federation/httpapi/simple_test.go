package httpapi

import (
	"testing"

	"landbridge/federation/httpapi/h1"
)

func TestKinds(t *testing.T) {
	n := newNode(t, nil)
	for target, want := range map[string]h1.Kind{
		"/v1/kv/a": h1.Quick, "/v1/kv/a?stale&dc=dc2&wait=10s": h1.Quick, "/v1/kv/a?raw=%20": h1.Quick, "/v1/health/service/web?passing=1": h1.Quick,
		"/v1/kv/a?index=7": h1.Waiting, "/v1/kv/a?stale&index=7&wait=1s": h1.Waiting, "/v1/kv/a?index": h1.Waiting, "/v1/agent/service/web?hash=x": h1.Waiting,
		"/v1/kv/a?%69ndex=7": h1.General, "/v1/agent/monitor": h1.General, "/v1/snapshot": h1.General, "/metrics": h1.General, "/": h1.General,
		"/v1/none": h1.General, "/v1/kv": h1.General,
	} {
		if got := n.kind("GET", target); got != want {
			t.Errorf("%q is of kind %d, want %d", target, got, want)
		}
	}
}
