package node

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"landbridge/metrics"
)

// TestSeries checks the series a server has before it does anything: they are well
// named and explained, and each part's are there from the start.
func TestSeries(t *testing.T) {
	loopback := netip.MustParseAddr("127.0.0.1")
	reg := prometheus.NewRegistry()
	n, err := New(Config{
		NodeName: "n", Datacenter: "dc1", Domain: "consul", Version: "1.21.4", Release: "0.0.0",
		Server: true, BootstrapExpect: 1, Primary: "dc0",
		ACL:      ACL{Enabled: true, DownPolicy: "deny", TokenTTL: time.Minute, PolicyTTL: time.Minute, RoleTTL: time.Minute},
		DataDir:  t.TempDir(),
		BindAddr: loopback, AdvertiseLAN: loopback, Ports: Ports{HTTPS: -1, GRPC: -1, GRPCTLS: -1},
		RaftMultiplier: 1, RPCHoldTimeout: time.Second, ConnectEnabled: true,
		Limits: Limits{RPCClientTimeout: time.Minute}, DefaultQueryTime: time.Minute, MaxQueryTime: time.Minute,
		Logger: slog.New(slog.DiscardHandler), Registerer: reg, Gatherer: reg,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	problems, err := testutil.GatherAndLint(reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, f := range families {
		have[f.GetName()] = true
		if !strings.HasPrefix(f.GetName(), "landbridge_") {
			t.Errorf("%s is not in our namespace", f.GetName())
		}
	}
	for _, name := range metrics.Sources() {
		switch name {
		case "landbridge_build_info": // cmd has it
		case "landbridge_httpapi_endpoint_seconds", "landbridge_forwarding_remote_seconds": // of what was asked for
		default:
			if !have[name] {
				t.Errorf("%s does not exist, and users look for what is read off it", name)
			}
		}
	}
	for _, want := range []string{
		"landbridge_agent_sync_calls_total", "landbridge_consensus_commit_seconds", "landbridge_consensus_is_leader",
		"landbridge_dnsapi_questions_total", "landbridge_endpoint_blocking_queries", "landbridge_federation_datacenters",
		"landbridge_forwarding_no_path_total", "landbridge_forwarding_requests_total", "landbridge_httpapi_requests_total",
		"landbridge_lan_members", "landbridge_leader_autopilot_healthy_state", "landbridge_raftlog_sync_seconds",
		"landbridge_rpc_client_in_flight_calls", "landbridge_store_records", "landbridge_stream_connections",
		"landbridge_trust_certificate_expiry_timestamp_seconds", "landbridge_view_requests_total", "landbridge_wan_connections", "landbridge_wan_members",
	} {
		if !have[want] {
			t.Errorf("%s does not exist from the start", want)
		}
	}
}
