package metrics

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	gometrics "github.com/hashicorp/go-metrics"
	"github.com/prometheus/client_golang/prometheus"
)

func TestCollector(t *testing.T) {
	for _, c := range []struct {
		kind   string
		tagged bool
		want   []string
	}{
		{"statsd", false, []string{"consul.raft.apply:2|c", "consul.raft.commit_Time:1.5|ms", "consul.serf.members.a_b:7|g",
			"consul.landbridge_calls_total.get:3|c", "consul.landbridge_calls_total.get:2|c", "consul.landbridge_open:4|g", "consul.landbridge_took_seconds_count:1|c"}},
		{"dogstatsd", true, []string{"consul.raft.apply:2|c|#env:test", "consul.serf.members:7|g|#env:test,node:a_b", "consul.landbridge_calls_total:3|c|#env:test,method:get"}},
	} {
		t.Run(c.kind, func(t *testing.T) {
			conn, err := net.ListenPacket("udp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			reg := prometheus.NewRegistry()
			calls := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "landbridge_calls_total"}, []string{"method"})
			open := prometheus.NewGauge(prometheus.GaugeOpts{Name: "landbridge_open"})
			took := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "landbridge_took_seconds"})
			other := prometheus.NewGauge(prometheus.GaugeOpts{Name: "consul_raft_apply"})
			reg.MustRegister(calls, open, took, other)
			col, err := NewCollector(CollectorConfig{Kind: c.kind, Network: "udp", Addr: conn.LocalAddr().String(), Tagged: c.tagged, Tags: []string{"env:test"},
				Prefix: "consul", Gatherer: reg, Logger: slog.New(slog.DiscardHandler), Registerer: reg})
			if err != nil {
				t.Fatal(err)
			}
			col.IncrCounter([]string{"consul", "raft", "apply"}, 2)
			col.AddSample([]string{"consul", "raft", "commit:Time"}, 1.5)
			col.SetGaugeWithLabels([]string{"consul", "serf", "members"}, 7, []gometrics.Label{{Name: "node", Value: "a b"}})
			calls.WithLabelValues("get").Add(3)
			col.gather()
			calls.WithLabelValues("get").Add(2)
			open.Set(4)
			took.Observe(1)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			col.Run(ctx) // sends what there is
			var got strings.Builder
			buf := make([]byte, 64<<10)
			_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			for !strings.Contains(got.String(), "took_seconds_sum") || !strings.Contains(got.String(), "raft.apply") {
				n, _, err := conn.ReadFrom(buf)
				if err != nil {
					t.Fatalf("%v after\n%s", err, got.String())
				}
				got.Write(buf[:n])
			}
			all := "\n" + got.String()
			for _, want := range c.want {
				if !strings.Contains(all, "\n"+want+"\n") {
					t.Errorf("lacks %q", want)
				}
			}
			if strings.Contains(all, "consul.consul_raft_apply") {
				t.Error("a library's series is sent twice")
			}
			if t.Failed() {
				t.Log(all)
			}
		})
	}
}

func TestCollectorThatIsAway(t *testing.T) {
	const addr = "127.0.0.1:1" // nobody is given this port
	reg := prometheus.NewRegistry()
	cfg := CollectorConfig{Kind: "statsite", Network: "tcp", Addr: addr, Prefix: "consul", Gatherer: reg, Logger: slog.New(slog.DiscardHandler), Registerer: reg}
	if _, err := NewCollector(cfg); err == nil || !strings.Contains(err.Error(), "statsite: dial tcp") {
		t.Errorf("start without retry_failed_connection: %v", err)
	}
	cfg.Retry = true
	col, err := NewCollector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for range collectorLines + 5 { // never blocks
		col.IncrCounter([]string{"consul", "x"}, 1)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	col.Run(ctx)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if got := families[0].GetMetric()[0].GetCounter().GetValue(); got < collectorLines+5 {
		t.Errorf("%v lines dropped, want all %d", got, collectorLines+5)
	}
}
