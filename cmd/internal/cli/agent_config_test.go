package cli

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"landbridge/cmd/internal/config"
	"landbridge/federation/watch"
)

func TestWatchDefinitions(t *testing.T) {
	l := &config.Loader{HCL: []string{`bind_addr = "127.0.0.1" data_dir = "x"
		watches = [{ type = "service", service = "web", tag = "a", tags = ["b"], passingonly = "true", Datacenter = "dc2",
			token = "t", stale = true, filter = "f", args = ["prog", "-x"] }]`, `
		watches { type = "checks" state = "any" handler_type = "http"
			http_handler_config { path = "http://h/" method = "PUT" header { x-a = ["1"] } timeout = "3s" tls_skip_verify = true } }
		watches { type = "event" name = "n" handler = "line" }`}}
	cfg, warnings, err := l.Load()
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	want := []watch.Definition{
		{Spec: watch.Spec{Type: "service", Service: "web", Tags: []string{"a", "b"}, PassingOnly: true, Datacenter: "dc2",
			Token: "t", Stale: true, Filter: "f"}, Args: []string{"prog", "-x"}},
		{Spec: watch.Spec{Type: "checks", State: "any"}, HTTP: &watch.Target{URL: "http://h/", Method: "PUT",
			Header: map[string][]string{"x-a": {"1"}}, Timeout: 3 * time.Second, TLSSkipVerify: true}},
		{Spec: watch.Spec{Type: "event", Name: "n"}, Script: "line"},
	}
	if diff := cmp.Diff(want, watchDefinitions(cfg.Watches)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if err := tryWatches(cfg); err != nil {
		t.Error(err)
	}
}
