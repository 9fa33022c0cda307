package httpapi

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestReadsOfWhatCannotBe(t *testing.T) {
	n := newNode(t, nil)
	n.ask(t, "PUT", "/v1/catalog/register", `{"Node":"n1","Address":"10.0.0.1","Service":{"Service":"web"},"Check":{"CheckID":"c","Status":"passing","ServiceID":"web"}}`)
	for _, c := range []struct {
		path string
		code int
		body string
	}{
		{"/v1/config/", 200, "[]"},
		{"/v1/config/service-defaults", 200, "[]"},
		{"/v1/config/service-defaults?filter=Name==web", 200, "[]"},
		{"/v1/config/odd", 500, "invalid config entry kind: odd"},
		{"/v1/config/service-defaults/web", 404, `Config entry not found for "service-defaults" / "web"`},
		{"/v1/connect/intentions", 200, "[]"},
		{"/v1/connect/intentions/exact?source=a&destination=b", 404, "Intention not found"},
		{"/v1/connect/intentions/check?source=a&destination=b", 500, "Connect is not built yet"},
		{"/v1/health/ingress/web", 200, "[]"},
		{"/v1/health/ingress/", 400, "Missing service name"},
		{"/v1/catalog/gateway-services/gw", 200, "[]"},
		{"/v1/exported-services", 200, "[]"},
		{"/v1/internal/federation-states", 200, "[]"},
		{"/v1/peerings", 200, "[]"},
		{"/v1/catalog/nodes?peer=p", 200, "[]"},
		{"/v1/catalog/services?peer=p", 200, "{}"},
		{"/v1/catalog/service/web?peer=p", 200, "[]"},
		{"/v1/catalog/node/n1?peer=p", 200, "null"},
		{"/v1/catalog/node-services/n1?peer=p", 200, `{"Node":null,"Services":null}`},
		{"/v1/health/service/web?peer=p&passing", 200, "[]"},
		{"/v1/health/node/n1?peer=p", 200, "[]"},
		{"/v1/health/state/any?peer=p", 200, "[]"},
		{"/v1/health/state/any?peer=p&stale&consistent", 400, "Cannot specify ?stale with ?consistent, conflicting semantics."},
	} {
		w := n.ask(t, "GET", c.path, "")
		if w.Code != c.code || w.Body.String() != c.body && w.Body.String() != c.body+"\n" {
			t.Errorf("%s: got %d %q, want %d %q", c.path, w.Code, w.Body, c.code, c.body)
		}
		if (c.code == 200 || c.code == 404) && (w.Header().Get("X-Consul-Index") == "" || w.Header().Get("X-Consul-Knownleader") != "true") {
			t.Errorf("%s: no index to wait from: %v", c.path, w.Header())
		}
	}
	if w := n.ask(t, "GET", "/v1/health/state/any?peer=", ""); w.Body.String() == "[]" {
		t.Error("an empty ?peer hid the rows of this datacenter")
	}
}

// Whoever waits for a change of such a list must not be sent round in circles.
func TestNothingKeepsCallersWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, nil)
		index := n.ask(t, "GET", "/v1/config/service-defaults", "").Header().Get("X-Consul-Index")
		start := time.Now()
		w := n.ask(t, "GET", "/v1/config/service-defaults?wait=10s&index="+index, "")
		if d := time.Since(start); w.Code != 200 || w.Body.String() != "[]" || d < 10*time.Second || d > 11*time.Second {
			t.Errorf("got %d %q after %v, want [] after 10 to 10.6 s", w.Code, w.Body, d)
		}
	})
}
