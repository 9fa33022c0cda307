package cli

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"landbridge/cmd/internal/config"
	"landbridge/federation/node"
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

func TestTransactionLimit(t *testing.T) {
	for _, tc := range []struct {
		hcl  string
		want int64
	}{
		{``, 512 << 10},
		{`limits { txn_max_req_len = 700000 }`, 700000},
		{`limits { txn_max_req_len = 700000 kv_max_value_size = 800000 }`, 800000},
		{`limits { kv_max_value_size = 1000 }`, 512 << 10},
	} {
		cfg, warnings, err := (&config.Loader{HCL: []string{`bind_addr = "127.0.0.1" data_dir = "x"`, tc.hcl}}).Load()
		if err != nil || len(warnings) > 0 {
			t.Fatal(err, warnings)
		}
		if got := nodeConfig(cfg, tlsFilesOf(cfg)).Limits.TxnMaxReqLen; got != tc.want {
			t.Errorf("%q: %d, want %d", tc.hcl, got, tc.want)
		}
	}
}

func TestCheckEnvironment(t *testing.T) {
	env := map[string]string{}
	getenv := func(name string) string { return env[name] }
	var nc node.Config
	checkEnvironment(&nc, getenv)
	if nc.DockerHost != "" || nc.DockerTLS != nil || nc.SystemBus != "" {
		t.Errorf("without variables: %+v", nc)
	}
	env["DOCKER_HOST"], env["DBUS_SYSTEM_BUS_ADDRESS"], env["DOCKER_CERT_PATH"] = "tcp://h:2376", "unix:path=/bus", t.TempDir()
	checkEnvironment(&nc, getenv)
	if nc.DockerHost != "tcp://h:2376" || nc.SystemBus != "unix:path=/bus" || nc.DockerTLS == nil {
		t.Errorf("with variables: %+v", nc)
	}
	if _, err := nc.DockerTLS(); err == nil {
		t.Error("no error for a folder without certificates")
	}
}

// TestScriptChecksInFiles starts with a script in a file, as an agent and
// `landbridge validate` check it.
func TestScriptChecksInFiles(t *testing.T) {
	const script = ` bind_addr = "127.0.0.1" data_dir = "x" service { name = "web" check { id = "c" args = ["true"] interval = "10s" } }`
	const want = "service \"web\": check \"c\": Scripts are disabled on this agent; to enable, configure 'enable_script_checks' or 'enable_local_script_checks' to true"
	for setting, allowed := range map[string]bool{"": false, "enable_local_script_checks = true": true, "enable_script_checks = true": true} {
		cfg, _, err := (&config.Loader{HCL: []string{setting + script}}).Load()
		if err != nil {
			t.Fatal(err)
		}
		if err := tryDefinitions(cfg); (err == nil) != allowed || err != nil && err.Error() != want {
			t.Errorf("%q: %v", setting, err)
		}
		nc := nodeConfig(cfg, tlsFilesOf(cfg))
		if nc.EnableScriptChecks != cfg.EnableScriptChecks || nc.EnableLocalScriptChecks != cfg.EnableLocalScriptChecks {
			t.Errorf("%q: the node's configuration says %t, %t", setting, nc.EnableScriptChecks, nc.EnableLocalScriptChecks)
		}
	}
}

// Blocks of the service mesh reach the agent, and the body of a registration, as
// the file has them.
func TestMeshBlocksOfServices(t *testing.T) {
	l := &config.Loader{HCL: []string{`bind_addr = "127.0.0.1" data_dir = "x"
		service { name = "db" port = 1
			locality { region = "eu" }
			connect { sidecar_service { proxy {
				upstreams { destination_name = "a" }
				upstreams { destination_name = "b" }
				config { a_b = 1.5 } } } } }
		service { name = "p" kind = "connect-proxy" port = 2 proxy { destination_service_name = "db" } }`}}
	cfg, warnings, err := l.Load()
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	got := serviceDefinitions(cfg.Services)
	const connect = `{"sidecar_service":{"proxy":{"config":{"a_b":1.5},"upstreams":[{"destination_name":"a"},{"destination_name":"b"}]}}}`
	if string(got[0].Connect) != connect || string(got[0].Locality) != `{"region":"eu"}` || string(got[1].Proxy) != `{"destination_service_name":"db"}` || got[1].Connect != nil {
		t.Errorf("got %s %s %s", got[0].Connect, got[0].Locality, got[1].Proxy)
	}
	if err := tryDefinitions(cfg); err != nil {
		t.Error(err)
	}
	body, err := json.Marshal(serviceBody(cfg.Services[0])["Connect"])
	if err != nil || string(body) != connect {
		t.Errorf("registered as %s, %v", body, err)
	}
}

func TestEnrolmentByKey(t *testing.T) {
	for _, tc := range []struct {
		hcl  string
		want bool
	}{
		{``, true},
		{`acl { enabled = true }`, false},
		{`acl { enabled = true } federation { enroll_by_key = true }`, true},
		{`federation { enroll_by_key = false }`, false},
	} {
		cfg, _, err := (&config.Loader{HCL: []string{`bind_addr = "127.0.0.1" data_dir = "x"`, tc.hcl}}).Load()
		if err != nil {
			t.Fatal(err)
		}
		if got := nodeConfig(cfg, tlsFilesOf(cfg)).EnrollByKey; got != tc.want {
			t.Errorf("%q: %v, want %v", tc.hcl, got, tc.want)
		}
	}
}
