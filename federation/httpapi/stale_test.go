package httpapi

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"landbridge/forwarding/view"
)

// A read that takes an older answer says how old it is, and why.
func TestStaleIfError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, up := cachedNode(t, false, func(c *Config) { c.Bounded = c.Do.(*view.Set) })
		n.must(t, "PUT", "/v1/kv/a", "1")
		step := func(target string, status int, want string) {
			t.Helper()
			w := n.ask(t, "GET", target, "")
			got := headersOf(w, "Age", "X-Landbridge-Stale-Reason", "X-Landbridge-Stale-Source", "X-Consul-Knownleader", "X-Consul-Lastcontact")
			if w.Code != status || got != want {
				t.Errorf("GET %s: %d %s, want %d %s", target, w.Code, got, status, want)
			}
		}
		reads := []string{"/v1/kv/a?stale-if-error=10m", "/v1/kv/a?raw&stale-if-error=600", "/v1/health/service/web?stale-if-error=10m", "/v1/query/q/execute?stale-if-error=10m"}
		for _, r := range reads {
			step(r, 200, "- - - true 0")
		}
		up.away.Store(true)
		time.Sleep(time.Minute)
		for _, r := range reads {
			step(r, 200, "60 unreachable dc1 through a false 60000")
		}
		synctest.Wait() // the outage is known by then: there is no error of this request to tell
		if w := n.ask(t, "GET", reads[0], ""); w.Header().Get("X-Landbridge-Stale-Error") != "" {
			t.Errorf("in an outage that is known: error %q", w.Header().Get("X-Landbridge-Stale-Error"))
		}
		step("/v1/kv/a", 500, "- - - false 0")
		step("/v1/kv/a?stale-if-error=30s", 500, "- - - false 0")
		step("/v1/kv/a?stale-if-error=0", 500, "- - - false 0")
		step("/v1/status/peers?stale-if-error=10m", 500, "- - - - -")

		live := *n.live.Load()
		live.StaleIfError = 10 * time.Minute
		n.Reload(live)
		step("/v1/kv/a", 200, "60 unreachable dc1 through a false 60000")
		step("/v1/kv/a?stale-if-error=0", 500, "- - - false 0")
		step("/v1/kv/a?consistent", 500, "- - - false 0")

		for target, want := range map[string]string{
			"/v1/kv/a?stale-if-error=soon":           `"soon"`,
			"/v1/kv/a?stale-if-error=-1s":            `"-1s"`,
			"/v1/kv/a?stale-if-error":                `""`,
			"/v1/kv/a?consistent&stale-if-error=10m": "conflicting",
		} {
			if w := n.ask(t, "GET", target, ""); w.Code != 400 || !strings.Contains(w.Body.String(), want) {
				t.Errorf("GET %s: %d %s", target, w.Code, w.Body)
			}
		}
	})
}
