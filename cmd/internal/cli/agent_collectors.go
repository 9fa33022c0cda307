package cli

import (
	"context"
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"landbridge/cmd/internal/config"
	"landbridge/metrics"
)

// collectors are those that the telemetry stanza sends metrics to.
func collectors(cfg *config.Config, reg *prometheus.Registry, log *slog.Logger) ([]*metrics.Collector, error) {
	t := cfg.Telemetry
	var list []*metrics.Collector
	for _, c := range []metrics.CollectorConfig{
		{Kind: "statsd", Network: "udp", Addr: t.StatsdAddr},
		{Kind: "statsite", Network: "tcp", Addr: t.StatsiteAddr},
		{Kind: "dogstatsd", Network: "udp", Addr: t.DogStatsdAddr, Tagged: true, Tags: t.DogStatsdTags},
	} {
		if c.Addr == "" {
			continue
		}
		c.Prefix, c.Retry = t.MetricsPrefix, t.RetryConnection
		c.Gatherer, c.Registerer, c.Logger = reg, reg, log.With("component", "metrics")
		made, err := metrics.NewCollector(c)
		if err != nil {
			return nil, err
		}
		list = append(list, made)
	}
	return list, nil
}

// runCollectors runs them until stop, which waits for what is left to be sent.
func runCollectors(list []*metrics.Collector) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, c := range list {
		running.Go(func() { c.Run(ctx) })
	}
	return func() {
		cancel()
		running.Wait()
	}
}
