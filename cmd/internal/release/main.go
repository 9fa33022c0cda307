// Command release makes what packages hold beside the binary: manual pages from the
// command line's own help, and a list of what a binary was built from (CycloneDX).
// Its output depends on the sources and the binary alone.
//
//	release man DIR
//	release sbom BINARY FILE
package main

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	"landbridge/cmd/internal/cli"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "man":
		return man(args[1])
	case len(args) == 3 && args[0] == "sbom":
		info, err := buildinfo.ReadFile(args[1])
		if err != nil {
			return err
		}
		doc, err := sbom(info)
		if err != nil {
			return err
		}
		return os.WriteFile(args[2], doc, 0o644)
	}
	return errors.New("usage: release man DIR | release sbom BINARY FILE")
}

// man writes all pages into dir, which is made.
func man(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, page := range cli.ManPages() {
		if err := os.WriteFile(filepath.Join(dir, name), page, 0o644); err != nil {
			return err
		}
	}
	return nil
}

type component struct {
	Type    string `json:"type"`
	Ref     string `json:"bom-ref,omitempty"`
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	PURL    string `json:"purl,omitempty"`
}

// sbom lists the modules and the Go release that a binary was built from. It has
// neither a serial number nor a date: the same binary gives the same bytes.
func sbom(info *debug.BuildInfo) ([]byte, error) {
	setting := func(key string) string {
		for _, s := range info.Settings {
			if s.Key == key {
				return s.Value
			}
		}
		return ""
	}
	var list []component
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		purl := "pkg:golang/" + strings.ToLower(m.Path) + "@" + m.Version
		list = append(list, component{Type: "library", Ref: purl, Name: m.Path, Version: m.Version, PURL: purl})
	}
	std := "pkg:golang/std@" + strings.TrimPrefix(info.GoVersion, "go")
	list = append(list, component{Type: "library", Ref: std, Name: "std", Version: info.GoVersion, PURL: std})
	slices.SortFunc(list, func(a, b component) int { return strings.Compare(a.Ref, b.Ref) })
	doc := struct {
		Format   string `json:"bomFormat"`
		Spec     string `json:"specVersion"`
		Version  int    `json:"version"`
		Metadata struct {
			Component  component           `json:"component"`
			Properties []map[string]string `json:"properties"`
		} `json:"metadata"`
		Components []component `json:"components"`
	}{Format: "CycloneDX", Spec: "1.5", Version: 1, Components: list}
	doc.Metadata.Component = component{Type: "application", Ref: "landbridge", Name: info.Main.Path, Version: cli.Release}
	for _, key := range []string{"vcs.revision", "vcs.modified", "GOOS", "GOARCH", "CGO_ENABLED"} {
		if v := setting(key); v != "" {
			doc.Metadata.Properties = append(doc.Metadata.Properties, map[string]string{"name": "go:" + key, "value": v})
		}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(doc)
	return b.Bytes(), err
}
