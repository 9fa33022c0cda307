package metrics

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	gometrics "github.com/hashicorp/go-metrics"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// bridge is one that raft and the like do not report to: that is global.
func bridge(cfg BridgeConfig, reg *prometheus.Registry) *Bridge {
	cfg.Gatherer = reg
	return &Bridge{cfg: cfg, allow: cfg.AllowedPrefixes, block: cfg.BlockedPrefixes, inmem: gometrics.NewInmemSink(interval, time.Minute), names: knownNames(), lastAt: time.Now(), ticked: make(chan struct{})}
}

// ours registers some of the series that names are read off.
type ours struct {
	leader  prometheus.Gauge
	calls   *prometheus.CounterVec
	put     Timing
	expires prometheus.Gauge
}

var (
	writesDesc    = prometheus.NewDesc("landbridge_endpoint_write_seconds", "h", []string{"method"}, nil)
	endpointsDesc = prometheus.NewDesc("landbridge_httpapi_endpoint_seconds", "h", []string{"method", "path"}, nil)
)

func (o *ours) Describe(ch chan<- *prometheus.Desc) { ch <- writesDesc; ch <- endpointsDesc }
func (o *ours) Collect(ch chan<- prometheus.Metric) {
	var s Timings
	s.Add(&o.put)
	ch <- s.Summary(writesDesc, "KV.Apply")
	ch <- s.Summary(endpointsDesc, "PUT", "v1_kv__")
}

func newOurs(reg *prometheus.Registry) *ours {
	o := &ours{
		leader: prometheus.NewGauge(prometheus.GaugeOpts{Name: "landbridge_consensus_is_leader"}),
		calls:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "landbridge_rpc_server_calls_total"}, []string{"method", "outcome"}),
		expires: prometheus.NewGauge(prometheus.GaugeOpts{Name: "landbridge_trust_certificate_expiry_timestamp_seconds",
			ConstLabels: prometheus.Labels{"certificate": "server"}}),
	}
	reg.MustRegister(o, o.leader, o.calls, o.expires)
	return o
}

func TestKnownNamesForPrometheus(t *testing.T) {
	reg := prometheus.NewRegistry()
	o := newOurs(reg)
	b := bridge(BridgeConfig{Prefix: "consul"}, reg)
	o.leader.Set(1)
	healthy := prometheus.NewGauge(prometheus.GaugeOpts{Name: "landbridge_leader_autopilot_healthy_state"})
	reg.MustRegister(healthy)
	healthy.Set(1)
	o.calls.WithLabelValues("a", "ok").Add(3)
	o.calls.WithLabelValues("b", "error").Add(4)
	o.put.Observe(2 * time.Millisecond)
	o.put.Observe(2 * time.Millisecond)
	o.expires.Set(float64(time.Now().Unix() + 3600))
	const want = `
# HELP consul_server_isLeader The name that existing dashboards know: server.isLeader.
# TYPE consul_server_isLeader gauge
consul_server_isLeader 1
# HELP consul_rpc_request The name that existing dashboards know: rpc.request.
# TYPE consul_rpc_request counter
consul_rpc_request 7
# HELP consul_rpc_request_error The name that existing dashboards know: rpc.request_error.
# TYPE consul_rpc_request_error counter
consul_rpc_request_error 4
# HELP consul_raft_state_candidate The name that existing dashboards know: raft.state.candidate.
# TYPE consul_raft_state_candidate counter
consul_raft_state_candidate 0
# HELP consul_kvs_apply The name that existing dashboards know: kvs.apply.
# TYPE consul_kvs_apply summary
consul_kvs_apply{quantile="0.5"} 1.75
consul_kvs_apply{quantile="0.9"} 2.35
consul_kvs_apply{quantile="0.99"} 2.4850000000000003
consul_kvs_apply_sum 4
consul_kvs_apply_count 2
# HELP consul_txn_apply The name that existing dashboards know: txn.apply.
# TYPE consul_txn_apply summary
consul_txn_apply{quantile="0.5"} NaN
consul_txn_apply{quantile="0.9"} NaN
consul_txn_apply{quantile="0.99"} NaN
consul_txn_apply_sum 0
consul_txn_apply_count 0
# HELP consul_api_http The name that existing dashboards know: api.http.
# TYPE consul_api_http summary
consul_api_http{method="PUT",path="v1_kv__",quantile="0.5"} 1.75
consul_api_http{method="PUT",path="v1_kv__",quantile="0.9"} 2.35
consul_api_http{method="PUT",path="v1_kv__",quantile="0.99"} 2.4850000000000003
consul_api_http_sum{method="PUT",path="v1_kv__"} 4
consul_api_http_count{method="PUT",path="v1_kv__"} 2
`
	if err := testutil.GatherAndCompare(b, strings.NewReader(want), "consul_server_isLeader", "consul_rpc_request", "consul_rpc_request_error",
		"consul_raft_state_candidate", "consul_kvs_apply", "consul_txn_apply", "consul_api_http", "consul_state_nodes", endpointSeconds); err != nil {
		t.Error(err)
	}
	autopilot := func(text string) string {
		return "# HELP consul_autopilot_healthy The name that existing dashboards know: autopilot.healthy.\n# TYPE consul_autopilot_healthy gauge\nconsul_autopilot_healthy " + text + "\n"
	}
	if err := testutil.GatherAndCompare(b, strings.NewReader(autopilot("1")), "consul_autopilot_healthy"); err != nil {
		t.Error(err)
	}
	o.leader.Set(0) // alerts look for 0: who does not lead does not know
	if err := testutil.GatherAndCompare(b, strings.NewReader(autopilot("NaN")), "consul_autopilot_healthy"); err != nil {
		t.Error(err)
	}
	families, err := b.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "consul_agent_tls_cert_expiry" {
			if v := f.Metric[0].Gauge.GetValue(); v < 3590 || v > 3600 {
				t.Errorf("the certificate has %v s", v)
			}
			return
		}
	}
	t.Error("no consul_agent_tls_cert_expiry")
}

func TestKnownNamesInIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		o := newOurs(reg)
		b := bridge(BridgeConfig{Prefix: "consul", HostName: "h1", FilterDefault: true, BlockedPrefixes: []string{"consul.rpc"}, AllowedPrefixes: []string{"consul.rpc.request_"}}, reg)
		b.inmem.SetGauge([]string{"consul", "h1", "bad"}, float32(math.NaN()))
		b.inmem.SetGauge([]string{"consul", "h1", "runtime", "alloc_bytes"}, 12345678)
		b.inmem.IncrCounter([]string{"consul", "raft", "apply"}, 1)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- b.Run(ctx) }()
		show := func() map[string]string {
			t.Helper()
			v, err := b.Summary()
			if err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			var s struct {
				Timestamp                 string
				Gauges, Counters, Samples []json.RawMessage
				Points                    []any
			}
			if err := json.Unmarshal(text, &s); err != nil || s.Points == nil {
				t.Fatalf("%s %v", text, err)
			}
			m := map[string]string{}
			for _, list := range [][]json.RawMessage{s.Gauges, s.Counters, s.Samples} {
				for _, raw := range list {
					var n struct{ Name string }
					_ = json.Unmarshal(raw, &n)
					m[n.Name] = string(raw)
				}
			}
			return m
		}
		want := func(have map[string]string, name, json string) {
			t.Helper()
			if have[name] != json {
				t.Errorf("%s: got %s want %s", name, have[name], json)
			}
		}
		o.leader.Set(1)
		o.calls.WithLabelValues("a", "error").Add(3)
		first := show() // since the start
		want(first, "consul.h1.server.isLeader", `{"Name":"consul.h1.server.isLeader","Value":1,"Labels":{}}`)
		want(first, "consul.h1.bad", `{"Name":"consul.h1.bad","Value":null,"Labels":{}}`)
		want(first, "consul.h1.runtime.alloc_bytes", `{"Name":"consul.h1.runtime.alloc_bytes","Value":12345678,"Labels":{}}`)
		want(first, "consul.raft.apply", `{"Name":"consul.raft.apply","Count":1,"Rate":0.1,"Sum":1,"Min":1,"Max":1,"Mean":1,"Stddev":0,"Labels":{}}`)
		want(first, "consul.rpc.request_error", `{"Name":"consul.rpc.request_error","Count":3,"Rate":3,"Sum":3,"Min":1,"Max":1,"Mean":1,"Stddev":0,"Labels":{}}`)
		want(first, "consul.rpc.request", "")

		lines := 0
		stop := errors.New("enough")
		followed := make(chan error, 1)
		go func() {
			followed <- b.Follow(ctx, func(any) error {
				if lines++; lines == 2 {
					return stop
				}
				return nil
			})
		}()
		time.Sleep(interval + time.Second)
		for range 5 {
			o.put.Observe(2 * time.Millisecond)
		}
		time.Sleep(interval)
		second := show()
		want(second, "consul.kvs.apply", `{"Name":"consul.kvs.apply","Count":5,"Rate":1,"Sum":10,"Min":2,"Max":2,"Mean":2,"Stddev":0,"Labels":{}}`)
		want(second, "consul.api.http", `{"Name":"consul.api.http","Count":5,"Rate":1,"Sum":10,"Min":2,"Max":2,"Mean":2,"Stddev":0,"Labels":{"method":"PUT","path":"v1_kv__"}}`)
		want(second, "consul.rpc.request_error", "") // nothing in this interval
		time.Sleep(interval)
		want(show(), "consul.kvs.apply", "")
		if err := <-followed; err != stop || lines != 2 {
			t.Errorf("followed %d intervals: %v", lines, err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A known name without a source is only there for libraries to report under it:
// any other would say 0 for ever.
func TestKnownNamesHaveASource(t *testing.T) {
	for _, k := range knownNames() {
		if k.from != "" {
			continue
		}
		switch lib, _, _ := strings.Cut(k.name, "."); lib {
		case "raft", "serf", "memberlist":
		default:
			t.Errorf("%s has no source", k.name)
		}
	}
}
