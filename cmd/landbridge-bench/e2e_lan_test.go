//go:build e2e

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLAN measures the real binary for a few seconds, and looks whether the figures
// are there. What they are depends on the machine, and decides nothing.
func TestLAN(t *testing.T) {
	bin := os.Getenv("LANDBRIDGE_BIN")
	if bin == "" {
		t.Fatal("LANDBRIDGE_BIN is not set")
	}
	out := filepath.Join(t.TempDir(), "result.json")
	var stdout, stderr strings.Builder
	if status := run([]string{"lan", "-quick", "-only", "S2", "-a", bin, "-out", out, "-tmp", t.TempDir()}, &stdout, &stderr); status != exitOK {
		t.Fatalf("exit status %d\n%s%s", status, stdout.String(), stderr.String())
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var r results
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	samples := map[string]float64{}
	for _, f := range r.Figures {
		if len(f.A) != 1 || f.MedianA == nil {
			t.Errorf("%s, %s: samples %v, median %v", f.Case, f.Name, f.A, f.MedianA)
			continue
		}
		samples[f.Case+": "+f.Name] = f.A[0]
	}
	for _, kase := range []string{"leader c=1", "leader c=64", "leader c=256", "follower c=64"} {
		for _, name := range []string{"rate", "p50", "CPU of the agents per request"} {
			if samples[kase+": "+name] <= 0 {
				t.Errorf("%s: %s is %g", kase, name, samples[kase+": "+name])
			}
		}
		if n, ok := samples[kase+": failed requests"]; ok {
			t.Errorf("%s: %g requests failed: %v", kase, n, r.Notes)
		}
	}
	if samples["after the load: RSS per server"] <= 0 || !strings.Contains(stdout.String(), "| leader c=64 | rate | requests/s |") {
		t.Errorf("the table:\n%s", stdout.String())
	}
}
