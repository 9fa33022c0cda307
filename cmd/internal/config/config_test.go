package config

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// machine is a machine with one private address.
func machine() Machine {
	return Machine{
		Hostname:   func() (string, error) { return "box", nil },
		Interfaces: func() ([]netip.Prefix, error) { return prefixes("127.0.0.1/8", "10.1.2.3/24", "fe80::1/64"), nil },
		Template: func(s string) (string, error) {
			switch s {
			case "{{ GetPrivateIP }}":
				return "10.1.2.3", nil
			case "{{ two }}":
				return "10.0.0.1 10.0.0.2", nil
			case "{{ none }}":
				return "", nil
			}
			return "", errors.New("function not defined")
		},
	}
}

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// load parses command-line arguments and loads. Files in the arguments are
// relative to dir.
func load(t *testing.T, args ...string) (*Config, []string, error) {
	t.Helper()
	l := &Loader{Machine: machine()}
	fs := flag.NewFlagSet("agent", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	l.AddFlags(fs)
	if err := fs.Parse(args); err != nil {
		return nil, nil, err
	}
	return l.Load()
}

// write makes a file and returns its path.
func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestServersProbeMoreOften(t *testing.T) {
	for _, c := range []struct {
		args []string
		want time.Duration
	}{
		{nil, time.Second},
		{[]string{"-server"}, 750 * time.Millisecond},
		{[]string{"-server", "-hcl=gossip_lan { gossip_nodes = 4 }"}, 750 * time.Millisecond},
		{[]string{"-server", "-hcl=gossip_lan { probe_interval = \"1s\" }"}, time.Second},
		{[]string{"-server", "-hcl=gossip_lan { probe_timeout = \"900ms\" }"}, time.Second},
		{[]string{"-dev"}, 100 * time.Millisecond},
	} {
		got, _, err := load(t, append([]string{"-data-dir=/nonexistent/x"}, c.args...)...)
		if err != nil || got.GossipLAN.ProbeInterval != c.want {
			t.Errorf("%v: gossip_lan.probe_interval %v, %v; want %v", c.args, got.GossipLAN.ProbeInterval, err, c.want)
		}
	}
}

func TestClientAgentsGossipLessOften(t *testing.T) {
	servers := Gossip{GossipNodes: 3, GossipInterval: 200 * time.Millisecond, RetransmitMult: 4}
	clients := Gossip{GossipNodes: 8, GossipInterval: 500 * time.Millisecond, RetransmitMult: 5}
	for _, c := range []struct {
		args []string
		want Gossip
	}{
		{nil, clients},
		{[]string{"-server"}, servers},
		{[]string{"-hcl=gossip_lan { probe_interval = \"2s\" }"}, clients},
		{[]string{"-hcl=gossip_lan { retransmit_mult = 4 }"}, servers},
		{[]string{"-hcl=gossip_lan { gossip_nodes = 3 }"}, servers},
		{[]string{"-hcl=gossip_lan { gossip_interval = \"200ms\" }"}, servers},
	} {
		got, _, err := load(t, append([]string{"-data-dir=/nonexistent/x"}, c.args...)...)
		if err != nil {
			t.Errorf("%v: %v", c.args, err)
			continue
		}
		g := got.GossipLAN
		if g.GossipNodes != c.want.GossipNodes || g.GossipInterval != c.want.GossipInterval || g.RetransmitMult != c.want.RetransmitMult {
			t.Errorf("%v: gossip_lan %+v, want %+v", c.args, g, c.want)
		}
	}
}

func TestDefaultsAreTheSpecs(t *testing.T) {
	c, warnings, err := load(t, "-data-dir=/nonexistent/x")
	if err != nil {
		t.Fatal(err)
	}
	if len(warnings) > 0 {
		t.Errorf("warnings %q", warnings)
	}
	got := map[string]any{
		"dc": c.Datacenter, "node": c.NodeName, "lan": c.LAN.String(), "wan": c.WAN.String(), "http": c.Listen.HTTP, "dns": c.Listen.DNS,
		"https": c.Listen.HTTPS, "mult": c.Performance.RaftMultiplier, "leave": *c.LeaveOnTerminate, "skip": *c.SkipLeaveOnInterrupt,
		"reconnect": c.ReconnectTimeout, "kv": c.Limits.KVMaxValueSize, "txn": c.Limits.TxnMaxReqLen, "suspicion": c.GossipLAN.SuspicionMult, "domain": c.Domain,
	}
	want := map[string]any{
		"dc": "dc1", "node": "box", "lan": "10.1.2.3", "wan": "10.1.2.3",
		"http": []Addr{{AddrPort: netip.MustParseAddrPort("127.0.0.1:8500")}}, "dns": []Addr{{AddrPort: netip.MustParseAddrPort("127.0.0.1:8600")}},
		"https": []Addr(nil), "mult": 5, "leave": true, "skip": false,
		"reconnect": 72 * time.Hour, "kv": 524288, "txn": 524288, "suspicion": 3, "domain": "consul.",
	}
	if d := cmp.Diff(fmt.Sprint(want), fmt.Sprint(got)); d != "" {
		t.Error(d)
	}
}

func TestServersDoNotLeaveByThemselves(t *testing.T) {
	c, _, err := load(t, "-data-dir=x", "-server", "-bootstrap")
	if err != nil {
		t.Fatal(err)
	}
	if *c.LeaveOnTerminate || !*c.SkipLeaveOnInterrupt {
		t.Errorf("leave_on_terminate %v, skip_leave_on_interrupt %v, want false, true", *c.LeaveOnTerminate, *c.SkipLeaveOnInterrupt)
	}
}

func TestMerge(t *testing.T) {
	dir := t.TempDir()
	a := write(t, dir, "a.hcl", `
datacenter = "a"
retry_join = ["a1", "a2"]
node_meta { x = "1" y = "1" }
ports { http = 1001 dns = 1002 }
service { name = "one" }
service { name = "two" port = 8080 }
`)
	b := write(t, dir, "b.json", `{"datacenter":"b","retry_join":"b1","node_meta":{"y":"2"},"ports":{"http":2001},
		"segments":null,"services":[{"Name":"three","EnableTagOverride":true,"checks":{"TTL":"10s"}}],"data_dir":"d"}`)
	c, _, err := load(t, "-config-file", a, "-config-file", b, "-hcl", `retry_join = ["h1"]`, "-hcl", `ports { server = 3001 }`,
		"-retry-join=f1", "-join", "f2", "-http-port=4001", "-node-meta=z:3")
	if err != nil {
		t.Fatal(err)
	}
	if c.Datacenter != "b" {
		t.Errorf("datacenter %q: the last file wins", c.Datacenter)
	}
	if want := []string{"f1", "f2", "a1", "a2", "b1", "h1"}; !slices.Equal(c.RetryJoin, want) {
		t.Errorf("retry_join %q, want %q: flags first, then files, then fragments", c.RetryJoin, want)
	}
	if want := map[string]string{"x": "1", "y": "2", "z": "3"}; !reflect.DeepEqual(c.NodeMeta, want) {
		t.Errorf("node_meta %v, want %v", c.NodeMeta, want)
	}
	if c.Ports.HTTP != 4001 || c.Ports.DNS != 1002 || c.Ports.Server != 3001 {
		t.Errorf("ports %+v: flags win over files, maps merge", c.Ports)
	}
	var names []string
	for _, s := range c.Services {
		names = append(names, s.Name)
	}
	if want := []string{"one", "two", "three"}; !slices.Equal(names, want) {
		t.Errorf("services %q, want %q", names, want)
	}
	if s := c.Services[2]; !s.EnableTagOverride || len(s.Checks) != 1 || s.Checks[0].TTL != 10*time.Second {
		t.Errorf("CamelCase service %+v", s)
	}
	// Loading again, as a reload does, gives the same.
	again, _, err := load(t, "-config-dir", dir, "-hcl", `retry_join = ["h1"]`, "-hcl", `ports { server = 3001 }`,
		"-retry-join=f1", "-join", "f2", "-http-port=4001", "-node-meta=z:3")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(c, again, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); d != "" {
		t.Error("a directory differs from its files: " + d)
	}
}

func TestReloadingDoesNotAccumulate(t *testing.T) {
	l := &Loader{Machine: machine(), HCL: []string{`data_dir = "x" retry_join = ["b"] node_meta { k = "v" }`}}
	fs := flag.NewFlagSet("agent", flag.ContinueOnError)
	l.AddFlags(fs)
	if err := fs.Parse([]string{"-retry-join=a", "-node-meta=j:w"}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		c, _, err := l.Load()
		if err != nil {
			t.Fatal(err)
		}
		if want := []string{"a", "b"}; !slices.Equal(c.RetryJoin, want) || len(c.NodeMeta) != 2 {
			t.Fatalf("retry_join %q, node_meta %v", c.RetryJoin, c.NodeMeta)
		}
	}
}

func TestErrors(t *testing.T) {
	dir := t.TempDir()
	plain := write(t, dir, "3.txt", "server = true")
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"no data_dir", nil, "data_dir cannot be empty"},
		{"datacenter", []string{"-datacenter=a b"}, `datacenter can only contain lowercase alphanumeric, - or _ characters. received: "a b"`},
		{"port", []string{"-http-port=70000"}, "ports.http: invalid port: 70000"},
		{"both bootstraps", []string{"-server", "-bootstrap", "-bootstrap-expect=3"}, "'bootstrap_expect > 0' and 'bootstrap = true' are mutually exclusive"},
		{"multiplier", []string{"-hcl", "performance { raft_multiplier = 11 }"}, "performance.raft_multiplier cannot be 11. Must be between 1 and 10"},
		{"empty bind", []string{"-bind={{ none }}"}, "bind_addr cannot be empty"},
		{"two binds", []string{"-bind={{ two }}"}, "bind_addr cannot contain multiple addresses: 10.0.0.1 10.0.0.2"},
		{"bad template", []string{"-bind={{ bogus }}"}, `bind_addr: template "{{ bogus }}": function not defined`},
		{"encrypt length", []string{"-encrypt=YWJj"}, "encrypt has invalid key: must be 16, 24 or 32 bytes, is 3"},
		{"encrypt text", []string{"-encrypt=!!!"}, "encrypt has invalid key: illegal base64"},
		{"unknown key", []string{"-hcl", "bogus = 1"}, "invalid config key bogus"},
		{"unknown nested", []string{"-hcl", "ports { htpp = 1 }"}, "-hcl: invalid config key ports.htpp; did you mean ports.http?"},
		{"unknown near", []string{"-hcl", "bootstrap_expct = 1"}, "did you mean bootstrap_expect?"},
		{"right key, wrong place", []string{"-hcl", "raft_multiplier = 1"}, "invalid config key raft_multiplier; did you mean performance.raft_multiplier?"},
		{"unknown in service", []string{"-hcl", `service { name = "a" prot = 1 }`}, "invalid config key service.prot; did you mean service.port?"},
		{"wrong type", []string{"-hcl", `ports { http = "many" }`}, "ports.http: expected a number, got a string that is not one"},
		{"duration", []string{"-hcl", `retry_interval = 30`}, `retry_interval: expected a duration such as "30s", got the number 30`},
		{"segments", []string{"-hcl", `segment = "a"`}, "Network segments are not supported in this version of Consul"},
		{"config entries", []string{"-hcl", `config_entries { bootstrap = [{ kind = "proxy-defaults" }] }`}, "config_entries.bootstrap: config entries are not built yet"},
		{"statsd", []string{"-hcl", `telemetry { statsd_address = "collector" }`}, `telemetry.statsd_address: "collector" is not HOST:PORT`},
		{"tags", []string{"-hcl", `telemetry { dogstatsd_tags = ["a|b"] }`}, `telemetry.dogstatsd_tags: "a|b" is not a tag`},
		{"two maps", []string{"-hcl", "telemetry { } \n telemetry { }"}, "'telemetry' expected a map, got 'slice'"},
		{"unknown extension", []string{"-config-file", plain}, "file " + plain + " has unknown extension; must be .hcl or .json, or config format must be set"},
		{"missing file", []string{"-config-file", dir + "/none.hcl"}, "no such file"},
		{"certificates from servers", []string{"-hcl", "auto_encrypt { tls = true }"}, "auto_encrypt.tls is not built yet and protects something"},
		{"settings from servers", []string{"-hcl", "auto_config { enabled = true }"}, "auto_config.enabled is not built yet and protects something"},
		{"acl default", []string{"-hcl", `acl_default_policy = "maybe"`}, `acl.default_policy must be allow or deny, is "maybe"`},
		{"txn limit", []string{"-hcl", "limits { txn_max_req_len = 0 }"}, "limits.txn_max_req_len cannot be 0. Must be at least 1"},
		{"cidrs", []string{"-serf-lan-allowed-cidrs=10.0.0.0/8", "-serf-lan-allowed-cidrs=ten"}, `serf_lan_allowed_cidrs: "ten" is not a network such as 10.0.0.0/8`},
		{"WAN cidrs", []string{"-serf-wan-allowed-cidrs=10.0.0.0/99"}, `serf_wan_allowed_cidrs: "10.0.0.0/99" is not a network such as 10.0.0.0/8`},
		{"server forgotten", []string{"-dev", "-hcl", `advertise_reconnect_timeout = "15m"`}, "advertise_reconnect_timeout can only be used on a client"},
		{"rejoin age", []string{"-hcl", `server_rejoin_age_max = "1h"`}, "server_rejoin_age_max must be at least 6h0m0s, is 1h0m0s"},
		{"rate limit", []string{"-hcl", "limits { rpc_rate = 0 }"}, "limits.rpc_rate cannot be 0, which lets nothing through"},
		{"burst", []string{"-hcl", "limits { rpc_max_burst = 0 }"}, "limits.rpc_max_burst cannot be 0. Must be at least 1"},
		{"write limit", []string{"-hcl", "limits { request_limits { write_rate = 0.0 } }"}, "limits.request_limits.write_rate cannot be 0"},
		{"limit mode", []string{"-hcl", `limits { request_limits { mode = "strict" } }`}, `limits.request_limits.mode must be disabled, permissive or enforcing, is "strict"`},
		{"cache burst", []string{"-hcl", "cache { entry_fetch_max_burst = 0 }"}, "cache.entry_fetch_max_burst cannot be 0"},
		{"cache age", []string{"-hcl", `dns_config { cache_max_age = "-1s" }`}, "dns_config.cache_max_age must be at least 0s"},
		{"node meta", []string{"-node-meta=bad"}, "must be key:value"},
		{"cloud", []string{"-retry-join", "provider=aws secret_access_key=hunter2"}, `cloud auto-join is not supported ("provider=aws")`},
		{"reconnect", []string{"-hcl", `reconnect_timeout = "1h"`}, "reconnect_timeout must be at least 8h0m0s"},
		{"log level", []string{"-log-level=loud"}, "Invalid log level: LOUD"},
		{"client server keys", []string{"-bootstrap-expect=3"}, "'bootstrap_expect > 0' requires 'server = true'"},
		{"verify without CA", []string{"-hcl", "tls { internal_rpc { verify_incoming = true } }"}, "tls.internal_rpc.verify_incoming is set, and there is no ca_file or ca_path"},
		{"https without cert", []string{"-https-port=8501"}, "ports.https is 8501, and tls.https has no cert_file and key_file"},
		{"same ports", []string{"-http-port=8300"}, "ports.server port 8300 already configured for ports.http"},
		{"sidecar ports", []string{"-hcl", "ports { sidecar_min_port = 22000 }"}, "ports.sidecar_min_port 22000 is above ports.sidecar_max_port 21255"},
		{"advertise family", []string{"-hcl", `advertise_addr_ipv4 = "::1"`}, "advertise_addr_ipv4 must be an IPv4 address, is ::1"},
		{"WAN advertise family", []string{"-hcl", `advertise_addr_wan_ipv6 = "10.0.0.1"`}, "advertise_addr_wan_ipv6 must be an IPv6 address, is 10.0.0.1"},
		{"bind name", []string{"-bind=localhost"}, `bind_addr: "localhost" is not an IP address`},
		{"format", []string{"-config-format=toml"}, "-config-format must be hcl or json"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := load(t, c.args...)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Error("the error shows a secret")
			}
		})
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	_, _, err := load(t, "-datacenter=A B", "-http-port=70000", "-hcl", "performance { raft_multiplier = 0 }", "-hcl", "tls { grpc { verify_incoming = true } }")
	if got := len(Problems(err)); got != 5 {
		t.Errorf("%d problems, want 5:\n%v", got, err)
	}
	_, _, err = load(t, "-hcl", "bogus = 1", "-hcl", "ports { htp = 1 dsn = 2 }")
	if got := len(Problems(err)); got != 3 {
		t.Errorf("%d problems, want 3:\n%v", got, err)
	}
}

func TestWarnings(t *testing.T) {
	for _, c := range []struct {
		name, hcl string
		want      string // "" is none
	}{
		{"later", `ui = true auto_encrypt { allow_tls = true }`, "landbridge does not have these yet; they are accepted and have no effect: auto_encrypt.allow_tls, ui_config.enabled"},
		{"later at its default", `ports { grpc = -1 } ui_config { enabled = false content_path = "/ui/" } acl { default_policy = "allow" tokens {} }`, ""},
		{"no effect", `disable_update_check = true peering { enabled = false } version = "1.2"`, ""},
		{"enterprise", `license_path = "x"`, `"license_path" is a Consul Enterprise configuration and will have no effect`},
		{"enterprise nested", `autopilot { redundancy_zone_tag = "zone" }`, `"autopilot.redundancy_zone_tag" is a Consul Enterprise configuration and will have no effect`},
		{"old", `start_join = ["a"]`, "The 'start_join' field is deprecated. Use the 'retry_join' field instead."},
		{"even", `server = true bootstrap_expect = 4`, "bootstrap_expect is even number: 4"},
		{"node name", `node_name = "a b"`, `Node name "a b" will not be discoverable via DNS due to invalid characters.`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, warnings, err := load(t, "-data-dir=x", "-hcl", c.hcl)
			if err != nil {
				t.Fatal(err)
			}
			all := strings.Join(warnings, "\n")
			if c.want == "" && all != "" || !strings.Contains(all, c.want) {
				t.Errorf("warnings %q, want %q", all, c.want)
			}
		})
	}
}

func TestOldSpellings(t *testing.T) {
	_, _, err := load(t, "-data-dir=x", "-hcl", `acl_datacenter = "main" start_join = ["a"] retry_join = ["b"] start_join_wan = ["c"] server = true
		acl { tokens { master = "m" agent = "a" } } raft_boltdb { NoFreelistSync = true }`)
	if err == nil || !strings.Contains(err.Error(), "NoFreelistSync") {
		t.Errorf("a key of an old block is not looked at: %v", err)
	}
	c, _, err := load(t, "-data-dir=x", "-hcl", `acl_datacenter = "main" start_join = ["a"] retry_join = ["b"] start_join_wan = ["c"] server = true
		acl { tokens { master = "m" agent = "a" } } raft_boltdb { no_freelist_sync = true }`)
	if err != nil {
		t.Fatal(err)
	}
	if c.PrimaryDatacenter != "main" || !slices.Equal(c.RetryJoin, []string{"b", "a"}) || !slices.Equal(c.RetryJoinWAN, []string{"c"}) {
		t.Errorf("primary %q, retry_join %q, wan %q", c.PrimaryDatacenter, c.RetryJoin, c.RetryJoinWAN)
	}
}

func TestTheHarnessFileIsAccepted(t *testing.T) {
	dir := t.TempDir()
	f := write(t, dir, "c.json", `{"node_name":"node-1","node_id":"e2c3d7f3-4d0f-44c1-8b9a-111111111111","node_meta":{"k":"v"},
		"performance":{"raft_multiplier":1},"bootstrap":true,"server":true,"data_dir":"`+dir+`/not/yet","segments":null,
		"disable_update_check":true,"log_level":"debug","bind_addr":"127.0.0.1","addresses":{"http":"unix://`+dir+`/s.sock"},
		"ports":{"dns":19000,"http":19001,"https":-1,"serf_lan":19003,"serf_wan":19004,"server":19005,"grpc":19006,"grpc_tls":19007},
		"acl":{"tokens":{"master":"m","agent":"a"}},"connect":{"enabled":true,"ca_config":{"cluster_id":"11111111-2222-3333-4444-555555555555"}},
		"skip_leave_on_interrupt":true,"peering":{"enabled":true},"version":"1.21.4","retry_join":["127.0.0.1:1"],
		"encrypt":"bGFuZGJyaWRnZS1iZW5jaC1zaGFyZWQta2V5LTMyYnk=","enable_debug":true,"enable_script_checks":true,
		"autopilot":{"server_stabilization_time":"5s"},"raft_protocol":3}`)
	c, warnings, err := load(t, "-config-file", f)
	if err != nil {
		t.Fatal(err)
	}
	if c.Connect.CAConfig.ClusterID != "11111111-2222-3333-4444-555555555555" || len(c.Key) != 32 || !c.EnableDebug ||
		c.Listen.HTTP[0].Unix != dir+"/s.sock" || c.LAN.String() != "127.0.0.1" || c.Ports.SerfWAN != 19004 {
		t.Errorf("%+v", c)
	}
	for _, w := range warnings {
		if strings.Contains(w, "bGFu") {
			t.Error("a warning shows a secret")
		}
	}
}

func TestCheckKeys(t *testing.T) {
	const dangerous, useless = "enable_script_checks lets whoever reaches the HTTP API", "enable_agent_tls_for_checks is set, and neither"
	for _, c := range []struct {
		hcl         string
		all, local  bool
		wantWarning string
	}{
		{``, false, false, ""},
		{`enable_local_script_checks = true`, false, true, ""},
		{`enable_script_checks = true`, true, false, dangerous},
		{`enable_script_checks = true http_config { allow_write_http_from = ["127.0.0.0/8"] }`, true, false, ""},
		{`enable_agent_tls_for_checks = true`, false, false, useless},
	} {
		cfg, warnings, err := load(t, "-dev", "-hcl", c.hcl)
		if err != nil {
			t.Fatal(err)
		}
		if cfg.EnableScriptChecks != c.all || cfg.EnableLocalScriptChecks != c.local {
			t.Errorf("%s: %+v", c.hcl, cfg)
		}
		got := strings.Join(warnings, "\n")
		if c.wantWarning == "" && got != "" || !strings.Contains(got, c.wantWarning) {
			t.Errorf("%s: warns %q, want %q", c.hcl, got, c.wantWarning)
		}
	}
}

func TestDev(t *testing.T) {
	c, _, err := load(t, "-dev")
	if err != nil {
		t.Fatal(err)
	}
	if !c.Dev || !c.Server || !c.Bootstrap || c.Bind.String() != "127.0.0.1" || !c.EnableDebug || c.DataDir != "" || c.Performance.RaftMultiplier != 1 {
		t.Errorf("%+v", c)
	}
	c, _, err = load(t, "-dev", "-client=0.0.0.0", "-hcl", `performance { raft_multiplier = 3 } datacenter = "X"`)
	if err != nil {
		t.Fatal(err)
	}
	if c.ClientAddr != "0.0.0.0" || c.Performance.RaftMultiplier != 3 || c.Datacenter != "x" {
		t.Errorf("files and flags must win over -dev: %+v", c)
	}
}

func TestAdvertise(t *testing.T) {
	for _, c := range []struct {
		name       string
		interfaces []netip.Prefix
		args       []string
		want, err  string
	}{
		{"one private", prefixes("127.0.0.1/8", "192.168.1.5/24", "8.8.8.8/24"), nil, "192.168.1.5", ""},
		{"two private", prefixes("192.168.1.5/24", "10.0.0.1/8"), nil, "", "Multiple private IPv4 addresses found. Please configure one with 'bind' and/or 'advertise'."},
		{"no private", prefixes("127.0.0.1/8", "8.8.8.8/24"), nil, "", "No private IPv4 address found."},
		{"two private, one chosen", prefixes("192.168.1.5/24", "10.0.0.1/8"), []string{"-advertise=10.0.0.1"}, "10.0.0.1", ""},
		{"bound", prefixes("192.168.1.5/24", "10.0.0.1/8"), []string{"-bind=10.0.0.1"}, "10.0.0.1", ""},
		{"bound by template", nil, []string{"-bind={{ GetPrivateIP }}"}, "10.1.2.3", ""},
		{"public v6", prefixes("fe80::1/64", "fd00::1/64", "2001:db8::7/64"), []string{"-bind=::"}, "2001:db8::7", ""},
		{"advertise any", prefixes(), []string{"-advertise=0.0.0.0"}, "", "advertise_addr cannot be 0.0.0.0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := machine()
			m.Interfaces = func() ([]netip.Prefix, error) { return c.interfaces, nil }
			l := &Loader{Machine: m}
			fs := flag.NewFlagSet("agent", flag.ContinueOnError)
			l.AddFlags(fs)
			if err := fs.Parse(append(c.args, "-data-dir=x")); err != nil {
				t.Fatal(err)
			}
			got, _, err := l.Load()
			switch {
			case c.err != "":
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error %v, want %q", err, c.err)
				}
			case err != nil:
				t.Error(err)
			case got.LAN.String() != c.want || got.WAN.String() != c.want:
				t.Errorf("advertise %s, wan %s, want %s", got.LAN, got.WAN, c.want)
			}
		})
	}
}

func TestListen(t *testing.T) {
	c, _, err := load(t, "-data-dir=x", "-client", "127.0.0.1 ::1 unix:///run/l.sock", "-dns-port=-1", "-hcl", `addresses { https = "10.0.0.9" }`)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Listen.HTTP) != 3 || c.Listen.HTTP[1].String() != "[::1]:8500" || c.Listen.HTTP[2].Unix != "/run/l.sock" || c.Listen.DNS != nil || c.Listen.HTTPS != nil {
		t.Errorf("%+v", c.Listen)
	}
	c, _, err = load(t, "-data-dir=x", "-client", "127.0.0.1 unix:///run/l.sock")
	if err != nil || len(c.Listen.DNS) != 1 {
		t.Errorf("DNS on %+v, %v: want the IP address only", c, err)
	}
}

func TestDiff(t *testing.T) {
	base := []string{"-data-dir=x", "-hcl", `node_meta { a = "1" } services = [{name = "a"}]`}
	a, _, err := load(t, base...)
	if err != nil {
		t.Fatal(err)
	}
	b, _, err := load(t, append(base, "-log-level=debug", "-node-meta=a:2", "-datacenter=other", "-http-port=1",
		"-hcl", `services = [{name = "b"}] dns_config { node_ttl = "5s" } limits { http_max_conns_per_client = 7 } tls { internal_rpc { tls_min_version = "TLSv1_3" } }`)...)
	if err != nil {
		t.Fatal(err)
	}
	reload, restart := Diff(a, b)
	if want := []string{"dns_config.node_ttl", "limits.http_max_conns_per_client", "log_level", "node_meta", "services"}; !slices.Equal(reload, want) {
		t.Errorf("reload %q, want %q", reload, want)
	}
	if want := []string{"datacenter", "ports.http", "tls.internal_rpc.tls_min_version"}; !slices.Equal(restart, want) {
		t.Errorf("restart %q, want %q", restart, want)
	}
	if reload, restart := Diff(a, a); reload != nil || restart != nil {
		t.Errorf("a configuration differs from itself: %q %q", reload, restart)
	}
}

// TestDiffNamesEveryKey changes each key by itself: a running agent either takes
// it over or has to say that it waits for a restart.
func TestDiffNamesEveryKey(t *testing.T) {
	base := defaults()
	var visit func(v reflect.Value, path string, can bool)
	visit = func(v reflect.Value, path string, can bool) {
		for i := range v.NumField() {
			f := v.Type().Field(i)
			key, ok := f.Tag.Lookup("key")
			if !ok && !f.Anonymous {
				continue
			}
			at, can := path, can || f.Tag.Get("reload") != ""
			if ok {
				at = join(path, key)
			}
			fv := v.Field(i)
			if fv.Kind() == reflect.Struct {
				visit(fv, at, can)
				continue
			}
			before := reflect.ValueOf(fv.Interface())
			switch fv.Kind() {
			case reflect.String:
				fv.SetString("changed")
			case reflect.Bool:
				fv.SetBool(!fv.Bool())
			case reflect.Int, reflect.Int64:
				fv.SetInt(fv.Int() + 1)
			case reflect.Float64:
				fv.SetFloat(fv.Float() + 1)
			case reflect.Slice:
				fv.Set(reflect.MakeSlice(fv.Type(), 1, 1))
			case reflect.Map:
				fv.Set(reflect.MakeMap(fv.Type()))
			case reflect.Pointer:
				fv.Set(reflect.New(fv.Type().Elem()))
			default:
				t.Fatalf("%s is of kind %s", at, fv.Kind())
			}
			want := []string{at}
			fresh := defaults()
			reload, restart := Diff(&fresh, &base)
			if can && (!slices.Equal(reload, want) || restart != nil) || !can && (!slices.Equal(restart, want) || reload != nil) {
				t.Errorf("%s, which a running agent can take over: %t: reload %q, restart %q", at, can, reload, restart)
			}
			fv.Set(before)
		}
	}
	visit(reflect.ValueOf(&base).Elem(), "", false)
}

// TestEveryKeyIsKnown holds the list of the interface's keys against the tree.
func TestEveryKeyIsKnown(t *testing.T) {
	list, err := os.ReadFile("testdata/keys.txt")
	if err != nil {
		t.Fatal(err)
	}
	for path := range strings.FieldsSeq(string(list)) {
		n := keys()
		for name := range strings.SplitSeq(path, ".") {
			if n.kind == kList {
				n = n.elem
			}
			if n = n.children[name]; n == nil {
				t.Errorf("%s is not known", path)
				break
			}
		}
	}
}

// TestTheTableIsSound checks that renamed keys lead to keys, and that every
// default in the table is a value its key accepts.
func TestTheTableIsSound(t *testing.T) {
	keys().walk(func(n *node) {
		switch n.fate {
		case renamed:
			if to := keys().find(n.note); to.fate == renamed {
				t.Errorf("%s leads to %s, which is an old spelling itself", n.path, n.note)
			}
		case later, protects:
			if n.def == "" {
				return
			}
			v, ok := scalar(n.kind, n.def)
			if !ok || text(v) != n.def {
				t.Errorf("%s: the default %q reads as %v", n.path, n.def, v)
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add(`a = 1 b { c = ["x", { d = 2 }] }`, "hcl")
	f.Add(`{"a":1,"services":[{"name":null}],"ports":{"http":"x"}}`, "json")
	f.Add("services { checks = 5 }\nservice = [1,2]", "hcl")
	f.Fuzz(func(t *testing.T, text, format string) {
		raw, err := parse([]byte(text), format)
		if err != nil {
			return
		}
		r := reader{source: "fuzz"}
		tr := r.root(raw)
		if len(r.errs) > 0 {
			return
		}
		c := defaults()
		decode(tr, &c)
		c.finish(machine())
		if _, err := json.Marshal(c.Services); err != nil {
			t.Error(err)
		}
	})
}

func TestRecursors(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		want []string
		warn string
		err  string
	}{
		{"ports", []string{"-recursor=192.0.2.1", "-recursor=192.0.2.2:5353", "-recursor=2001:db8::1", "-recursor=[2001:db8::2]:54", "-recursor=192.0.2.1:53"},
			[]string{"192.0.2.1:53", "192.0.2.2:5353", "[2001:db8::1]:53", "[2001:db8::2]:54"}, "", ""},
		{"a template", []string{"-recursor={{ GetPrivateIP }}"}, []string{"10.1.2.3:53"}, "", ""},
		{"itself", []string{"-client=127.0.0.1", "-recursor=127.0.0.1:8600", "-recursor=127.0.0.1"}, []string{"127.0.0.1:53"}, "recursors: 127.0.0.1:8600 is this agent's own DNS address: left out", ""},
		{"itself on every address", []string{"-client=0.0.0.0", "-recursor=10.1.2.3:8600", "-recursor=10.1.2.4:8600"}, []string{"10.1.2.4:8600"}, "recursors: 10.1.2.3:8600 is", ""},
		{"itself on both families", []string{"-client=::", "-recursor=127.0.0.1:8600", "-recursor=[::1]:8600", "-recursor=192.0.2.1"}, []string{"192.0.2.1:53"}, "recursors: 127.0.0.1:8600 is", ""},
		{"not itself", []string{"-client=0.0.0.0", "-recursor=[::1]:8600"}, []string{"[::1]:8600"}, "", ""},
		{"a name", []string{"-recursor=dns.example"}, nil, "", `recursors: "dns.example" is not an IP address, with or without a port`},
	} {
		got, warnings, err := load(t, append([]string{"-data-dir=x"}, c.args...)...)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: error %v, want %s", c.name, err, c.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if !slices.Equal(got.Recursors, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, got.Recursors, c.want)
		}
		if text := strings.Join(warnings, "; "); (c.warn == "") == strings.Contains(text, "recursors:") || !strings.Contains(text, c.warn) {
			t.Errorf("%s: warnings %q, want %q", c.name, text, c.warn)
		}
	}
}
