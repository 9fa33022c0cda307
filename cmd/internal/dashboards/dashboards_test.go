package main

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landbridge/federation/node"
	"landbridge/metrics"
)

const dir = "../../../deploy/prometheus/"

// TestGenerated: the files are what the program writes.
func TestGenerated(t *testing.T) {
	for _, d := range dashboards() {
		have, err := os.ReadFile(dir + d.file())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(have, d.json()) {
			t.Errorf("%s is not what its source says: run `make generate`", d.file())
		}
	}
}

// names records what is registered, whether it has values or not.
type names struct {
	prometheus.Registerer
	known map[string]bool
}

func (n names) Register(c prometheus.Collector) error {
	ch := make(chan *prometheus.Desc, 100)
	go func() { c.Describe(ch); close(ch) }()
	for d := range ch {
		if m := fqName.FindStringSubmatch(d.String()); m != nil {
			n.known[m[1]] = true
		}
	}
	return n.Registerer.Register(c)
}

func (n names) MustRegister(list ...prometheus.Collector) {
	for _, c := range list {
		if err := n.Register(c); err != nil {
			panic(err)
		}
	}
}

var fqName = regexp.MustCompile(`fqName: "([^"]+)"`)

// inFile finds metrics in rules and dashboards; recorded names hold colons.
var inFile = regexp.MustCompile(`[a-zA-Z_:]*(?:landbridge|process|go)_[a-zA-Z0-9_:]+`)

// TestNamesExist: rules, their tests and dashboards name only what a server has.
func TestNamesExist(t *testing.T) {
	reg := metrics.NewRegistry()
	rec := names{reg, map[string]bool{}}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		rec.known[f.GetName()] = true
	}
	metrics.NewBuildInfo(rec, "0", "0")
	loopback := netip.MustParseAddr("127.0.0.1")
	n, err := node.New(node.Config{
		NodeName: "n", Datacenter: "dc1", Domain: "consul", Version: "1.21.4", Release: "0.0.0",
		Server: true, BootstrapExpect: 1, DataDir: t.TempDir(),
		BindAddr: loopback, AdvertiseLAN: loopback, Ports: node.Ports{HTTPS: -1, GRPC: -1, GRPCTLS: -1},
		RaftMultiplier: 1, RPCHoldTimeout: time.Second, ConnectEnabled: true,
		Limits: node.Limits{RPCClientTimeout: time.Minute}, DefaultQueryTime: time.Minute, MaxQueryTime: time.Minute,
		Primary: "dc0", ACL: node.ACL{Enabled: true, DefaultPolicy: "deny", DownPolicy: "extend-cache", TokenReplication: true},
		Logger: slog.New(slog.DiscardHandler), Registerer: rec, Gatherer: reg,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	// The bar of 2,000 series a server: what is there before anything is asked.
	if families, err = reg.Gather(); err != nil {
		t.Fatal(err)
	}
	series := 0
	by := map[string]int{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			n := 1
			if h := m.GetHistogram(); h != nil {
				n = len(h.GetBucket()) + 3 // with that of all, the sum and the count
			}
			if s := m.GetSummary(); s != nil {
				n = len(s.GetQuantile()) + 2
			}
			by[f.GetName()] += n
			series += n
		}
	}
	if series > 800 {
		t.Errorf("%d series of an idle server, want at most 800: the rest is for what is asked\n%v", series, by)
	}
	files := []string{"rules.yml", "rules_test.yml", "../../docs/operations/metrics.md", "../../docs/operations/limits.md"}
	for _, d := range dashboards() {
		files = append(files, d.file())
	}
	rules, err := os.ReadFile(dir + "rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, file := range files {
		b, err := os.ReadFile(dir + file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range inFile.FindAllString(string(b), -1) {
			found++
			if strings.Contains(name, ":") {
				if !strings.Contains(string(rules), "record: "+name+"\n") {
					t.Errorf("%s: nothing records %s", file, name)
				}
				continue
			}
			base := name
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				base = strings.TrimSuffix(base, suffix)
			}
			if !rec.known[name] && !rec.known[base] {
				t.Errorf("%s: there is no metric %s", file, name)
			}
		}
	}
	if found < 100 {
		t.Errorf("%d names found in all files: this looks at too little", found)
	}
}

// TestRules has Prometheus's own tool check and test the rules.
func TestRules(t *testing.T) {
	tool, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("LANDBRIDGE_CLIENTS") == "all" { // as CI says, which installs them
			t.Fatal("promtool is not installed (Debian's prometheus)")
		}
		t.Skip("promtool is not installed (Debian's prometheus)")
	}
	for _, args := range [][]string{{"check", "rules", "rules.yml"}, {"test", "rules", "rules_test.yml"}} {
		cmd := exec.Command(tool, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}
