package metrics

import (
	"fmt"
	"sync"
	"time"

	gometrics "github.com/hashicorp/go-metrics"
	gmprom "github.com/hashicorp/go-metrics/prometheus"
	"github.com/prometheus/client_golang/prometheus"
)

// Bridge is where raft, memberlist and serf report to. It keeps the last complete
// interval for the JSON form and registers the same series for Prometheus. It adds
// the names that users of the interface know and reads them off our own series.
type Bridge struct {
	cfg    BridgeConfig
	inmem  *gometrics.InmemSink
	global *gometrics.Metrics
	names  []known

	mu           sync.Mutex
	allow, block []string         // prefixes
	last         map[string]value // at the end of the last interval; nil before the first
	lastAt       time.Time
	current      Summary       // of the last interval, of our own series only
	ticked       chan struct{} // closed when an interval ends
}

// BridgeConfig names the telemetry settings (spec/config.md 4) the bridge honours.
type BridgeConfig struct {
	Prefix          string // telemetry.metrics_prefix, "consul"
	HostName        string // put into gauge names of the JSON form unless DisableHostname
	DisableHostname bool
	FilterDefault   bool
	AllowedPrefixes []string
	BlockedPrefixes []string
	Collectors      []*Collector // get what comes too
	Registerer      prometheus.Registerer
	Gatherer        prometheus.Gatherer // of our own series
}

// InstallBridge takes over go-metrics' process-global sink; call it once, from cmd.
func InstallBridge(cfg BridgeConfig) (*Bridge, error) {
	b := &Bridge{cfg: cfg, allow: cfg.AllowedPrefixes, block: cfg.BlockedPrefixes, inmem: gometrics.NewInmemSink(interval, time.Minute), names: knownNames(), lastAt: time.Now(), ticked: make(chan struct{})}
	prom, err := gmprom.NewPrometheusSinkFrom(gmprom.PrometheusOpts{
		// Series of members and peers that are gone are forgotten after this.
		Expiration: 10 * time.Minute,
		Registerer: cfg.Registerer,
	})
	if err != nil {
		return nil, fmt.Errorf("metrics bridge: %w", err)
	}
	sinks := gometrics.FanoutSink{b.inmem, hostless{prom, cfg.HostName}}
	for _, c := range cfg.Collectors {
		sinks = append(sinks, c)
	}
	conf := gometrics.DefaultConfig(cfg.Prefix)
	conf.HostName = cfg.HostName
	conf.EnableHostname = !cfg.DisableHostname
	conf.FilterDefault = cfg.FilterDefault
	conf.AllowedPrefixes = cfg.AllowedPrefixes
	conf.BlockedPrefixes = cfg.BlockedPrefixes
	conf.EnableRuntimeMetrics = false // once a second stops the world of an idle agent for nothing: see tick
	if b.global, err = gometrics.NewGlobal(conf, sinks); err != nil {
		return nil, fmt.Errorf("metrics bridge: %w", err)
	}
	b.global.EmitRuntimeStats()
	return b, nil
}

// SetFilter replaces the allowed and blocked prefixes.
func (b *Bridge) SetFilter(allowed, blocked []string) {
	b.global.UpdateFilter(allowed, blocked)
	b.mu.Lock()
	b.allow, b.block = allowed, blocked
	b.mu.Unlock()
}

// hostless drops the host from gauge names on their way to Prometheus, where the
// instance label says it.
type hostless struct {
	gometrics.MetricSink
	host string
}

func (h hostless) trim(key []string) []string {
	if len(key) > 1 && h.host != "" && key[1] == h.host {
		return append([]string{key[0]}, key[2:]...)
	}
	return key
}

func (h hostless) SetGauge(key []string, v float32) { h.MetricSink.SetGauge(h.trim(key), v) }

func (h hostless) SetGaugeWithLabels(key []string, v float32, labels []gometrics.Label) {
	h.MetricSink.SetGaugeWithLabels(h.trim(key), v, labels)
}
