package main

import (
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// fake is a program that answers `version` like a binary to measure.
func fake(t *testing.T, name, version string) string {
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho '"+version+"'\necho more\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOptions(t *testing.T) {
	lb, peer := fake(t, "lb-new", "Landbridge v0.1.0"), fake(t, "consul", "Consul v1.21")
	o, err := parseOptions(&wanSuite, []string{"-a", peer, "-b", lb, "-label-b", "new", "-only", "w4,W1", "-rounds", "3", "-conf", `{"enable_debug":true}`}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	a, b := o.binaries[0], o.binaries[1]
	if a.Label != "consul" || a.Version != "Consul v1.21" || strings.Join(a.wanJoin, " ") != "join -wan" || a.isLandbridge() {
		t.Errorf("A is %+v", a)
	}
	if b.Label != "new" || strings.Join(b.wanJoin, " ") != "wan join" || !b.isLandbridge() || len(b.SHA256) != 64 {
		t.Errorf("B is %+v", b)
	}
	var names []string
	for _, s := range o.scenarios {
		names = append(names, s.name)
	}
	if want := []string{"W1", "W4.join", "W4.kill", "W4.cut"}; !slices.Equal(names, want) {
		t.Errorf("scenarios %v, want %v", names, want)
	}
	if o.rounds != 3 || o.conf["enable_debug"] != true || o.congestion != "cubic" {
		t.Errorf("%+v", o)
	}
	if o, err = parseOptions(&lanSuite, []string{"-a", lb, "-quick"}, io.Discard); err != nil || o.rounds != 1 || len(o.scenarios) != len(lanSuite.scenarios) {
		t.Errorf("quick: %+v, %v", o, err)
	}
}

func TestOptionsThatAreWrong(t *testing.T) {
	lb := fake(t, "landbridge", "Landbridge v0.1.0")
	for _, x := range []struct {
		args []string
		want string
	}{
		{nil, "-a: name the binary to measure"},
		{[]string{"-a", "/nonexistent"}, "-a: open /nonexistent"},
		{[]string{"-a", lb, "-b", lb}, `both binaries are called "landbridge"`},
		{[]string{"-a", lb, "-only", "S99"}, `-only: no scenario "S99"`},
		{[]string{"-a", lb, "-only", "W1"}, `-only: no scenario "W1"`},
		{[]string{"-a", lb, "-rounds", "0"}, "-rounds 0: want 1 to 20"},
		{[]string{"-a", lb, "-nice", "40"}, "-nice 40: want -20 to 19"},
		{[]string{"-a", lb, "-conf", "[]"}, "-conf: want a JSON object"},
		{[]string{"-a", lb, "-add"}, "-add: name the file"},
		{[]string{"-a", lb, "-out", "/nonexistent/result.json"}, "-out: stat /nonexistent"},
		{[]string{"-a", lb, "S1"}, `unexpected argument "S1"`},
		{[]string{"-a", lb, "-cc", "bbr"}, "flag provided but not defined: -cc"},
	} {
		_, err := parseOptions(&lanSuite, x.args, io.Discard)
		if err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%q: error %v, want %q", x.args, err, x.want)
		}
	}
}

func TestHelpTeaches(t *testing.T) {
	var out strings.Builder
	if _, err := parseOptions(&wanSuite, []string{"-h"}, &out); !errors.Is(err, flag.ErrHelp) {
		t.Fatal(err)
	}
	for _, want := range []string{"usage: landbridge-bench wan -a BINARY", "/dev/net/tun", "-wanlink binary", "-wanjoin-b arguments", "-lock file"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
}

func TestExitStatus(t *testing.T) {
	for _, x := range []struct {
		args   string
		status int
		stdout string
		stderr string
	}{
		{"", exitUsage, "", "usage:"},
		{"-h", exitOK, "usage:", ""},
		{"moon", exitUsage, "", "usage:"},
		{"lan -list", exitOK, "S2       KV PUT", ""},
		{"wan -list", exitOK, "W4.cut   ", ""},
		{"lan -h", exitOK, "", "usage: landbridge-bench lan"},
		{"lan", exitUsage, "", "landbridge-bench lan: -a: name the binary"},
	} {
		var stdout, stderr strings.Builder
		if got := run(strings.Fields(x.args), &stdout, &stderr); got != x.status {
			t.Errorf("%q: exit status %d, want %d", x.args, got, x.status)
		}
		if !strings.Contains(stdout.String(), x.stdout) || !strings.Contains(stderr.String(), x.stderr) {
			t.Errorf("%q: stdout %q, stderr %q", x.args, stdout.String(), stderr.String())
		}
	}
}
