package config

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write types, defaults and missing keys into docs/configuration.md")

const pagePath = "../../../docs/configuration.md"

// sameAs are keys that the page describes once for several places.
var sameAs = []string{"services.checks.", "tls.https.", "tls.internal_rpc."}

func described(path string) bool {
	if path == "tls.internal_rpc.verify_server_hostname" {
		return true
	}
	for _, p := range sameAs {
		if strings.HasPrefix(path, p) {
			return false
		}
	}
	return true
}

// defaultTexts are the defaults of all keys, as users would write them.
func defaultTexts() map[string]string {
	out := map[string]string{}
	var visit func(v reflect.Value, path string)
	visit = func(v reflect.Value, path string) {
		for i := range v.NumField() {
			key, ok := v.Type().Field(i).Tag.Lookup("key")
			if !ok {
				continue
			}
			at, f := join(path, key), v.Field(i)
			switch x := f.Interface().(type) {
			case time.Duration:
				out[at] = shortDuration(x)
			case bool, int, float64:
				out[at] = fmt.Sprint(x)
			case string:
				out[at] = x
			default:
				if f.Kind() == reflect.Struct {
					visit(f, at)
				}
			}
		}
	}
	c := defaults()
	visit(reflect.ValueOf(c), "")
	return out
}

func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// pageCells are the second to fourth cell of each key's row: its type, its
// default, and R, "warning" or "refused".
func pageCells() map[string][3]string {
	texts, out := defaultTexts(), map[string][3]string{}
	reloadable := map[string]bool{}
	var mark func(t reflect.Type, path string, can bool)
	mark = func(t reflect.Type, path string, can bool) {
		for i := range t.NumField() {
			f := t.Field(i)
			key, ok := f.Tag.Lookup("key")
			if !ok && !f.Anonymous {
				continue
			}
			at, can := path, can || f.Tag.Get("reload") != ""
			if ok {
				at = join(path, key)
			}
			switch ft := f.Type; {
			case ft.Kind() == reflect.Struct:
				mark(ft, at, can)
			case ft.Kind() == reflect.Slice && ft.Elem().Kind() == reflect.Struct:
				mark(ft.Elem(), at, can)
			default:
				reloadable[at] = can
			}
		}
	}
	mark(reflect.TypeFor[Config](), "", false)
	var visit func(n *node)
	visit = func(n *node) {
		kind := map[kind]string{kString: "string", kBool: "boolean", kInt: "number", kFloat: "number", kDuration: "duration", kMap: "map", kList: "list", kAny: "value"}[n.kind]
		if n.kind == kObject || n.kind == kList && n.elem.kind == kObject {
			from := n
			if n.kind == kList {
				from = n.elem
			}
			for _, name := range from.names {
				visit(from.children[name])
			}
			return
		}
		if !described(n.path) {
			return
		}
		switch n.fate {
		case takesEffect:
			r := ""
			if reloadable[n.path] {
				r = "R"
			}
			out[n.path] = [3]string{kind, texts[n.path], r}
		case later:
			out[n.path] = [3]string{kind, n.def, "warning"}
		case protects:
			out[n.path] = [3]string{kind, n.def, "refused"}
		}
	}
	visit(keys())
	return out
}

var rowRE = regexp.MustCompile("^\\| `([a-z0-9_.]+)` \\| ([^|]*) \\| ([^|]*) \\| ([^|]*) \\| (.*) \\|$")

// TestConfigurationPage holds docs/configuration.md against the table of keys.
func TestConfigurationPage(t *testing.T) {
	raw, err := os.ReadFile(pagePath)
	if err != nil {
		t.Fatal(err)
	}
	cell := func(s string) string {
		if s == "" {
			return ""
		}
		return "`" + s + "`"
	}
	want := pageCells()
	missing := map[string]bool{}
	for path := range want {
		missing[path] = true
	}
	lines := strings.Split(strings.TrimRight(string(raw), "\n"), "\n")
	for i, line := range lines {
		m := rowRE.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		path, meaning := m[1], strings.TrimSpace(m[5])
		w, known := want[path]
		switch {
		case !known:
			t.Errorf("line %d: `%s` is no key that takes effect or is still to be built", i+1, path)
			continue
		case !missing[path]:
			t.Errorf("line %d: `%s` stands on the page twice", i+1, path)
		case meaning == "":
			t.Errorf("line %d: `%s` has no description", i+1, path)
		}
		delete(missing, path)
		if now := fmt.Sprintf("| `%s` | %s | %s | %s | %s |", path, w[0], cell(w[1]), w[2], meaning); now != line {
			if *update {
				lines[i] = now
			} else {
				t.Errorf("line %d: got\n%s\nwant\n%s", i+1, line, now)
			}
		}
	}
	for _, path := range sortedKeys(anyMap(missing)) {
		t.Errorf("`%s` is not on the page: run this test with -update, and describe it", path)
		lines = append(lines, fmt.Sprintf("| `%s` | %s | %s | %s |  |", path, want[path][0], cell(want[path][1]), want[path][2]))
	}
	page := strings.Join(lines, "\n") + "\n"
	keys().walk(func(n *node) {
		text := ""
		switch n.fate {
		case noEffect, enterprise, refused:
			text = "`" + n.path + "`"
		case renamed:
			text = "| `" + n.path + "` | `" + n.note + "` |"
		}
		if described(n.path) && !strings.Contains(page, text) {
			t.Errorf("the page lacks %s", text)
		}
	})
	if *update {
		if err := os.WriteFile(pagePath, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func anyMap(m map[string]bool) map[string]any {
	out := map[string]any{}
	for k := range m {
		out[k] = nil
	}
	return out
}
