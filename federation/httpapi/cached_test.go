package httpapi

import (
	"context"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landbridge/forwarding/rpc"
	"landbridge/forwarding/view"
	"landbridge/store"
)

// upstream is the servers of a client agent: a datacenter that may go away.
type upstream struct {
	do   rpc.Doer
	away atomic.Bool
}

func (u *upstream) Do(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	if u.away.Load() {
		return nil, store.ErrNoServers
	}
	return u.do.Do(ctx, req)
}

// cachedNode is a node whose answers to ?cached come from views over up.
func cachedNode(t *testing.T, server bool, edit func(*Config)) (*testNode, *upstream) {
	up := &upstream{}
	n := newNode(t, func(c *Config) {
		up.do = c.Do
		views := view.New(view.Config{Do: up, Datacenter: c.Datacenter, Server: server, Logger: c.Logger, Registerer: prometheus.NewRegistry()})
		t.Cleanup(func() {
			if err := views.Stop(context.Background()); err != nil {
				t.Error(err)
			}
		})
		c.Do, c.Cache, c.Streaming = views, views, true
		if edit != nil {
			edit(c)
		}
	})
	n.must(t, "PUT", "/v1/catalog/register", `{"Node":"x","Address":"10.1.1.1","Service":{"Service":"web"}}`)
	n.must(t, "POST", "/v1/query", `{"Name":"q","Service":{"Service":"web"}}`)
	return n, up
}

func (n *testNode) must(t *testing.T, method, target, body string) {
	t.Helper()
	if w := n.ask(t, method, target, body); w.Code != 200 {
		t.Fatalf("%s %s: %d %s", method, target, w.Code, w.Body)
	}
}

// headers asked for, in one line; "-" for one that is absent.
func headersOf(w *httptest.ResponseRecorder, names ...string) string {
	var list []string
	for _, name := range names {
		v := w.Header().Get(name)
		if v == "" {
			v = "-"
		}
		list = append(list, v)
	}
	return strings.Join(list, " ")
}

func TestCached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, up := cachedNode(t, false, nil)
		step := func(target, control string, status int, want string) {
			t.Helper()
			var headers []string
			if control != "" {
				headers = []string{"Cache-Control: " + control}
			}
			w := n.ask(t, "GET", target, "", headers...)
			got := headersOf(w, "X-Cache", "Age", "X-Consul-Query-Backend", "X-Consul-Effective-Consistency")
			if w.Code != status || got != want {
				t.Errorf("%s (%s): %d %q, want %d %q (%s)", target, control, w.Code, got, status, want, w.Body)
			}
		}
		for _, one := range []struct{ target, backend, consistency string }{
			{"/v1/catalog/services?cached", "blocking-query", "stale"},
			{"/v1/catalog/service/web?cached", "blocking-query", "stale"},
			{"/v1/catalog/connect/web?cached", "blocking-query", "stale"},
			{"/v1/health/service/web?cached", "streaming", "stale"},
			{"/v1/health/connect/web?cached", "streaming", "stale"},
			{"/v1/query/q/execute?cached", "blocking-query", "stale"},
			{"/v1/catalog/datacenters?cached", "-", "-"},
			{"/v1/agent/connect/ca/roots", "blocking-query", "-"},
		} {
			step(one.target, "", 200, "MISS - "+one.backend+" "+one.consistency)
			step(one.target, "", 200, "HIT 0 "+one.backend+" "+one.consistency)
		}
		// Others do not know the parameter, or are of another consistency.
		step("/v1/catalog/nodes?cached", "", 200, "- - blocking-query leader")
		step("/v1/health/state/any?cached", "", 200, "- - blocking-query leader")
		step("/v1/health/node/x?cached", "", 200, "- - blocking-query leader")
		step("/v1/connect/ca/roots?cached", "", 200, "- - blocking-query -")
		step("/v1/health/service/web", "", 200, "- - blocking-query leader")
		step("/v1/health/service/web?index=1", "", 200, "- - streaming leader")
		step("/v1/health/service/web?cached&consistent", "", 400, "- - - -")
		step("/v1/health/service/web?cached", "max-age=x", 400, "- - - -")

		// What can be followed is, whatever Cache-Control says; a wait ends with the change.
		step("/v1/health/service/web?cached", "max-age=0, must-revalidate", 200, "HIT 0 streaming stale")
		index := n.ask(t, "GET", "/v1/health/service/web?cached", "").Header().Get("X-Consul-Index")
		time.AfterFunc(time.Minute, func() {
			n.must(t, "PUT", "/v1/catalog/register", `{"Node":"y","Address":"10.1.1.2","Service":{"Service":"web"}}`)
		})
		start := time.Now()
		w := n.ask(t, "GET", "/v1/health/service/web?cached&index="+index+"&wait=5m", "")
		if took := time.Since(start); took != time.Minute || headersOf(w, "X-Cache", "Age") != "HIT 0" || !strings.Contains(w.Body.String(), "10.1.1.2") {
			t.Errorf("a wait for a change: after %v, %v %s", took, w.Header(), w.Body)
		}
		// What cannot be followed is fetched again as Cache-Control says.
		time.Sleep(10 * time.Second)
		step("/v1/query/q/execute?cached", "", 200, "HIT 70 blocking-query stale")
		step("/v1/query/q/execute?cached", "max-age=100", 200, "HIT 70 blocking-query stale")
		step("/v1/query/q/execute?cached", "max-age=30", 200, "MISS - blocking-query stale")
		time.Sleep(10 * time.Second)
		step("/v1/query/q/execute?cached", "must-revalidate", 200, "MISS - blocking-query stale")

		up.away.Store(true)
		time.Sleep(6 * time.Minute) // the waits at the servers are over
		step("/v1/query/q/execute?cached", "must-revalidate", 500, "- - - -")
		step("/v1/query/q/execute?cached", "max-age=1, stale-if-error=600", 200, "HIT 360 blocking-query stale")
		step("/v1/query/q/execute?cached", "max-age=1, stale-if-error=60", 500, "- - - -")
		w = n.ask(t, "GET", "/v1/health/service/web?cached", "")
		if headersOf(w, "X-Cache", "X-Consul-KnownLeader") != "HIT false" || w.Header().Get("Age") == "0" || w.Header().Get("X-Consul-LastContact") == "0" {
			t.Errorf("nobody is there: %v", w.Header())
		}
		if w = n.ask(t, "GET", "/v1/health/service/web?cached&max_stale=1s", ""); w.Code != 500 || w.Body.String() != "No known Consul servers" {
			t.Errorf("nobody is there, and the view is too old: %d %s", w.Code, w.Body)
		}
	})
}

// On a server the first answer is a miss as well, though nothing is fetched.
func TestCachedOnAServer(t *testing.T) {
	n, _ := cachedNode(t, true, nil)
	for _, want := range []string{"MISS - streaming stale", "HIT 0 streaming stale"} {
		w := n.ask(t, "GET", "/v1/health/service/web?cached", "")
		if got := headersOf(w, "X-Cache", "Age", "X-Consul-Query-Backend", "X-Consul-Effective-Consistency"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if w := n.ask(t, "GET", "/v1/agent/connect/ca/roots", ""); headersOf(w, "X-Cache", "Age") != "HIT 0" {
		t.Errorf("roots: %v", w.Header())
	}
}

// http_config.use_cache and use_streaming_backend turn their headers off.
func TestCacheOff(t *testing.T) {
	n, _ := cachedNode(t, false, func(c *Config) { c.Cache, c.Streaming = nil, false })
	for range 2 {
		w := n.ask(t, "GET", "/v1/health/service/web?cached", "", "Cache-Control: max-age=x")
		if got := headersOf(w, "X-Cache", "Age", "X-Consul-Query-Backend", "X-Consul-Effective-Consistency"); w.Code != 200 || got != "- - blocking-query leader" {
			t.Errorf("%d %q", w.Code, got)
		}
	}
}
