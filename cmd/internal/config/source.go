package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl"
)

// maxFile bounds one configuration file: nobody writes more by hand, and a
// mistyped path to a log or an image must not fill the memory.
const maxFile = 16 << 20

// files lists the files that the paths on the command line stand for: files as
// they are, directories with their .hcl and .json files in order of names.
// Directories are not entered further.
func files(paths []string, format string) (list []string, warnings []string, err error) {
	var errs []error
	for _, p := range paths {
		fi, err := os.Stat(p)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if !fi.IsDir() {
			switch {
			case format != "" || formatOf(p) != "":
				list = append(list, p)
			case len(paths) == 1:
				errs = append(errs, fmt.Errorf("file %s has unknown extension; must be .hcl or .json, or config format must be set", p))
			default:
				warnings = append(warnings, fmt.Sprintf("skipping file %s, extension must be .hcl or .json, or config format must be set", p))
			}
			continue
		}
		entries, err := os.ReadDir(p) // sorted by name
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, e := range entries {
			path := filepath.Join(p, e.Name())
			// Stat and not the entry: Kubernetes mounts files as links.
			if fi, err := os.Stat(path); err != nil || fi.IsDir() || formatOf(path) == "" && format == "" {
				continue
			}
			list = append(list, path)
		}
	}
	return list, warnings, errors.Join(errs...)
}

func formatOf(path string) string {
	switch ext := strings.ToLower(filepath.Ext(path)); ext {
	case ".hcl", ".json":
		return ext[1:]
	}
	return ""
}

// readFile parses one file; format "" goes by the extension.
func readFile(path, format string) (map[string]any, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s: larger than %d MB", path, maxFile>>20)
	}
	if format == "" {
		format = formatOf(path)
	}
	raw, err := parse(data, format)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return raw, nil
}

func parse(data []byte, format string) (map[string]any, error) {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	raw := map[string]any{}
	if format != "json" {
		err := hcl.Decode(&raw, string(data))
		if err == nil && raw == nil {
			raw = map[string]any{}
		}
		return raw, err
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return raw, nil
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := dec.Decode(&raw); err != nil {
		return nil, jsonError(data, dec.InputOffset(), err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, jsonError(data, dec.InputOffset(), errors.New("something follows the closing brace"))
	}
	if raw == nil { // the file says null
		raw = map[string]any{}
	}
	return raw, nil
}

// jsonError adds the line to a parser's error.
func jsonError(data []byte, offset int64, err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		offset = syntax.Offset
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		offset = int64(len(data))
	}
	line := 1 + bytes.Count(data[:min(int(offset), len(data))], []byte("\n"))
	return fmt.Errorf("line %d: %w", line, err)
}

// unique keeps the first of each string.
func unique(list []string) []string {
	var out []string
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}
