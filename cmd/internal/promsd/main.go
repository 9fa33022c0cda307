// Command promsd runs Prometheus's own Consul service discovery and hands what it
// finds to a Prometheus that is built without it, as Debian's is. It is a module of
// its own, so that what it needs stays out of the product's go.mod; `make e2e`
// builds it and follows what it says.
//
//	promsd -config FILE -dir DIR
//
// FILE is YAML: for each scrape job a list of consul_sd_config, as in the
// configuration of Prometheus. Whenever the targets change, DIR/JOB.json is written
// for file_sd, and standard output has one line of JSON: the targets of each job
// with all their labels, and how many requests failed so far.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/consul"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"go.yaml.in/yaml/v2"
)

func main() {
	config := flag.String("config", "", "the jobs and their consul_sd_config lists (YAML)")
	dir := flag.String("dir", "", "where the target files are written")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *config, *dir); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "promsd:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, config, dir string) error {
	raw, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	var jobs map[string][]*consul.SDConfig
	if err := yaml.UnmarshalStrict(raw, &jobs); err != nil {
		return fmt.Errorf("%s: %w", config, err)
	}
	configs := map[string]discovery.Configs{}
	for job, list := range jobs {
		for _, c := range list {
			configs[job] = append(configs[job], c)
		}
	}
	reg := prometheus.NewRegistry()
	metrics, err := discovery.CreateAndRegisterSDMetrics(reg)
	if err != nil {
		return err
	}
	// Prometheus itself gathers updates for 5 s.
	m := discovery.NewManager(ctx, slog.New(slog.NewTextHandler(os.Stderr, nil)), reg, metrics, discovery.Updatert(50*time.Millisecond))
	if m == nil {
		return errors.New("the discovery manager refused its settings")
	}
	if err := m.ApplyConfig(configs); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- m.Run() }()
	out := json.NewEncoder(os.Stdout)
	for update := range m.SyncCh() {
		u := state{Jobs: map[string][]model.LabelSet{}}
		for job, groups := range update {
			u.Jobs[job] = targets(groups)
			if err := write(filepath.Join(dir, job+".json"), u.Jobs[job]); err != nil {
				return err
			}
		}
		if u.Failures, err = failures(reg); err != nil {
			return err
		}
		if err := out.Encode(u); err != nil {
			return err
		}
	}
	return <-ended
}

// state is one line of the output.
type state struct {
	Jobs     map[string][]model.LabelSet `json:"jobs"`
	Failures float64                     `json:"failures"`
}

// targets gives every target the labels of its group.
func targets(groups []*targetgroup.Group) []model.LabelSet {
	all := []model.LabelSet{}
	for _, g := range groups {
		for _, t := range g.Targets {
			all = append(all, g.Labels.Merge(t))
		}
	}
	return all
}

// write replaces a file for file_sd, which reads the address apart from the labels.
func write(file string, all []model.LabelSet) error {
	type entry struct {
		Targets []string       `json:"targets"`
		Labels  model.LabelSet `json:"labels"`
	}
	entries := []entry{}
	for _, t := range all {
		labels := t.Clone()
		delete(labels, model.AddressLabel)
		entries = append(entries, entry{[]string{string(t[model.AddressLabel])}, labels})
	}
	raw, err := json.Marshal(entries)
	if err != nil {
		return err
	}
	if old, err := os.ReadFile(file); err == nil && bytes.Equal(old, raw) {
		return nil
	}
	if err := os.WriteFile(file+".new", raw, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

func failures(reg prometheus.Gatherer) (float64, error) {
	families, err := reg.Gather()
	if err != nil {
		return 0, err
	}
	for _, f := range families {
		if f.GetName() == "prometheus_sd_consul_rpc_failures_total" {
			return f.GetMetric()[0].GetCounter().GetValue(), nil
		}
	}
	return 0, errors.New("the discovery does not count its failures")
}
