// Package layout checks what a newcomer is told about the folders: who may
// import whom, that each package says what it is for, and that names mean what
// they say. There is no code here, only the test.
package layout

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

type pkg struct {
	ImportPath string
	Doc        string
	Name       string
	Imports    []string
	GoFiles    []string
}

// rules: top folder -> what it may import, with the reason. The four neighbours
// (lan, wan, forwarding, acl_replication) meet through interfaces that federation
// plugs together, so that each is tested without the others.
var rules = map[string][]string{
	"cmd":             {"federation", "store", "metrics"},
	"federation":      {"lan", "wan", "forwarding", "acl_replication", "store", "metrics"},
	"lan":             {"store", "metrics"},
	"wan":             {"store", "metrics"},
	"forwarding":      {"store", "metrics"},
	"acl_replication": {"store", "metrics"},
	"store":           {"metrics"},
	"metrics":         {},
}

// exceptions: importing package -> imported package, and why.
var exceptions = map[string]string{
	// The WAN pool is the LAN pool with another profile and transport.
	"landbridge/wan/gossip": "landbridge/lan/gossip",
}

// configMakers map settings to the parts' own Config types.
var configMakers = []string{"landbridge/cmd/internal/config", "landbridge/cmd/internal/cli"}

func packages(t *testing.T) []pkg {
	out, err := exec.Command("go", "list", "-json=ImportPath,Doc,Name,Imports,GoFiles", "landbridge/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func top(path string) string {
	rest := strings.TrimPrefix(path, "landbridge/")
	folder, _, _ := strings.Cut(rest, "/")
	return folder
}

func TestImportDirections(t *testing.T) {
	for _, p := range packages(t) {
		from := top(p.ImportPath)
		allowed, ok := rules[from]
		if !ok {
			t.Errorf("%s: no rule for the top-level folder %q", p.ImportPath, from)
		}
		for _, imp := range p.Imports {
			if !strings.HasPrefix(imp, "landbridge/") {
				continue
			}
			to := top(imp)
			if to == from || slices.Contains(allowed, to) || exceptions[p.ImportPath] == imp {
				continue
			}
			if from == "cmd" && to == "lan" && slices.Contains(configMakers, p.ImportPath) && imp == "landbridge/lan/agent" {
				continue // service and check definitions are read from files into their own types
			}
			t.Errorf("%s imports %s: %s may import only %v", p.ImportPath, imp, from, allowed)
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.GoFiles) > 0 && len(p.Doc) < 20 {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
		if strings.ContainsAny(p.Name, "_ABCDEFGHIJKLMNOPQRSTUVWXYZ") {
			t.Errorf("%s: package name %q has an underscore or capital", p.ImportPath, p.Name)
		}
		for _, vague := range []string{"util", "utils", "common", "types", "helpers", "structs", "base"} {
			if p.Name == vague {
				t.Errorf("%s: %q says nothing", p.ImportPath, vague)
			}
		}
	}
}
