package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var (
	consul = &binary{Label: "consul", Path: "/bin/consul", Version: "Consul v1", Bytes: 1 << 20, SHA256: "c0"}
	ours   = &binary{Label: "landbridge", Path: "/bin/landbridge", Version: "Landbridge v1", Bytes: 3 << 19, SHA256: "1a"}
)

func testResults(binaries ...*binary) *results {
	return newResults(&lanSuite, &options{binaries: binaries, rounds: 2}, map[string]string{"cores": "2"})
}

func TestTable(t *testing.T) {
	r := testResults(consul, ours)
	f := func(scenario, kase, name, unit string, b better) figure {
		return figure{Scenario: scenario, Case: kase, Name: name, Unit: unit, Better: b}
	}
	r.add(0, f("S3", "leader", "rate", "requests/s", higher), 100)
	r.add(1, f("S3", "leader", "rate", "requests/s", higher), 250)
	for _, v := range []float64{10, 30, 20} {
		r.add(0, f("S2", "leader", "p50", "ms", lower), v)
	}
	r.add(1, f("S2", "leader", "p50", "ms", lower), 5)
	r.add(0, f("S2", "leader", "CPU of others", "% of a core", neither), 50)
	r.add(1, f("S2", "follower", "p50", "ms", lower), 0)
	r.addNote(&r.Failures, "S5", "consul", "no answers")
	r.addNote(&r.Notes, "S3", "landbridge", "a note")
	var out strings.Builder
	r.writeTable(&out)
	want := `A: consul, /bin/consul (Consul v1, 1.0 MiB)
B: landbridge, /bin/landbridge (Landbridge v1, 1.5 MiB)

### S2 KV PUT, 3 servers, values of 128 bytes

| case | figure | unit | consul | landbridge | B/A | better |
|---|---|---|--:|--:|--:|---|
| leader | p50 | ms | 20 (10 to 30) | 5 | 0.25 | landbridge |
|  | CPU of others | % of a core | 50 | - | - |  |
| follower | p50 | ms | - | 0 | - |  |

### S3 KV GET, 3 servers

| case | figure | unit | consul | landbridge | B/A | better |
|---|---|---|--:|--:|--:|---|
| leader | rate | requests/s | 100 | 250 | 2.50 | landbridge |

Notes:

- S3 landbridge: a note

Failed:

- S5 consul: no answers
`
	if got := out.String(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestTableOfOneBinary(t *testing.T) {
	r := testResults(ours)
	r.add(0, figure{Scenario: "S1", Case: "binary", Name: "size", Unit: "MiB"}, 1.5)
	var out strings.Builder
	r.writeTable(&out)
	if want := "| case | figure | unit | landbridge |\n|---|---|---|--:|\n| binary | size | MiB | 1.50 |\n"; !strings.HasSuffix(out.String(), want) {
		t.Errorf("got:\n%s", out.String())
	}
}

// TestResultFile writes a file and goes on with it: with -add samples join those of
// before, without it a scenario that runs again begins anew and the others stay.
func TestResultFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "result.json")
	first := testResults(consul, ours)
	if err := first.load(path, nil, false); err != nil {
		t.Fatalf("a file that does not exist: %v", err)
	}
	for _, scenario := range []string{"S2", "S3"} {
		first.add(0, figure{Scenario: scenario, Case: "c", Name: "p50"}, 1)
		first.add(1, figure{Scenario: scenario, Case: "c", Name: "p50"}, 2)
		first.addNote(&first.Notes, scenario, "consul", "n")
		first.addNote(&first.Failures, scenario, "consul", "f")
	}
	if err := first.save(path); err != nil {
		t.Fatal(err)
	}
	again := lanSuite.scenarios[1:2]
	if again[0].name != "S2" {
		t.Fatal("S2 has moved")
	}
	for _, x := range []struct {
		add            bool
		s2, s3, beside int // samples of A; notes and failures
	}{{true, 2, 1, 2}, {false, 1, 1, 1}} {
		r := testResults(consul, ours)
		if err := r.load(path, again, x.add); err != nil {
			t.Fatal(err)
		}
		r.add(0, figure{Scenario: "S2", Case: "c", Name: "p50"}, 3)
		r.finish()
		count := func(scenario string) int {
			return len(r.Figures[slices.IndexFunc(r.Figures, func(f *figure) bool { return f.Scenario == scenario })].A)
		}
		if count("S2") != x.s2 || count("S3") != x.s3 || len(r.Notes) != x.beside || len(r.Failures) != x.beside {
			t.Errorf("add %t: %d and %d samples, %d notes, %d failures; want %+v", x.add, count("S2"), count("S3"), len(r.Notes), len(r.Failures), x)
		}
	}
}

func TestResultFileOfOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "result.json")
	if err := testResults(ours).save(path); err != nil {
		t.Fatal(err)
	}
	if err := testResults(consul).load(path, nil, true); err == nil || !strings.Contains(err.Error(), path+" holds figures of lan for other binaries") {
		t.Errorf("other binaries: %v", err)
	}
	if err := os.WriteFile(path, []byte("| a table |"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := testResults(ours).load(path, nil, true); err == nil || !strings.Contains(err.Error(), path+": not a result file") {
		t.Errorf("no JSON: %v", err)
	}
}
