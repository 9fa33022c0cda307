package config

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"landbridge/cmd/internal/nearest"
)

// tree is a configuration after its keys and shapes were checked: nested maps
// under canonical keys, with leaves of exactly the types that kind lists.
type tree = map[string]any

// reader turns what a parser gave for one source into a tree and collects what
// is wrong with it.
type reader struct {
	source   string // for messages: the file's path, "-hcl", or a flag's name
	errs     []error
	warnings []string
}

func (r *reader) bad(format string, args ...any) {
	msg := fmt.Sprintf(format, args...)
	if r.source != "" {
		msg = r.source + ": " + msg
	}
	r.errs = append(r.errs, fmt.Errorf("%s", msg))
}

func (r *reader) warn(format string, args ...any) {
	r.warnings = append(r.warnings, fmt.Sprintf(format, args...))
}

// root reads a whole source.
func (r *reader) root(raw map[string]any) tree {
	r.renameKeys(raw)
	return r.object(keys(), raw, "")
}

// object reads the keys of n from raw. at is n's path as the user wrote it,
// with positions in lists.
func (r *reader) object(n *node, raw map[string]any, at string) tree {
	out := make(tree, len(raw))
	for _, name := range sortedKeys(raw) {
		v := raw[name]
		path := join(at, name)
		c := n.child(name)
		if c == nil {
			r.unknown(n, path, name)
			continue
		}
		if v == nil { // JSON null: as if it were not there
			continue
		}
		key := lastName(c.path)
		switch c.fate {
		case refused:
			if !empty(v) {
				r.bad("%s: %s", path, c.note)
			}
			continue
		case noEffect:
			continue
		case enterprise:
			r.warn("%q is a Consul Enterprise configuration and will have no effect", path)
			continue
		case alias:
			c, key = n.children[c.note], c.note
		}
		val, ok := r.value(c, v, path)
		if !ok {
			continue
		}
		if have, twice := out[key]; twice {
			val = mergeValue(have, val)
		}
		out[key] = val
	}
	return out
}

func (r *reader) unknown(n *node, path, name string) {
	parent := strings.TrimSuffix(path, name)
	if near, ok := nearest.Word(strings.ToLower(name), n.names); ok {
		r.bad("invalid config key %s; did you mean %s%s?", path, parent, near)
		return
	}
	// The key may be right and its place wrong.
	var elsewhere string
	keys().walk(func(k *node) {
		if elsewhere == "" && k.kind != kObject && lastName(k.path) == name {
			elsewhere = k.path
		}
	})
	if elsewhere != "" {
		r.bad("invalid config key %s; did you mean %s?", path, elsewhere)
		return
	}
	near, _ := nearest.Word(strings.ToLower(name), n.names)
	r.bad("invalid config key %s; the nearest known key is %s%s", path, parent, near)
}

// value reads v as n's kind.
func (r *reader) value(n *node, v any, path string) (any, bool) {
	wrong := func() (any, bool) {
		r.bad("%s: expected %s, got %s", path, n.kind, describe(v))
		return nil, false
	}
	switch n.kind {
	case kAny:
		return plain(v), true
	case kList:
		list, ok := v.([]any)
		if maps, isMaps := v.([]map[string]any); isMaps {
			for _, m := range maps {
				list = append(list, m)
			}
		} else if !ok {
			list = []any{v} // one where several may stand
			if s, isString := v.(string); isString && lastName(n.path) == "tls_cipher_suites" {
				list = nil
				for _, suite := range strings.FieldsFunc(s, func(c rune) bool { return c == ',' || c == ' ' }) {
					list = append(list, suite)
				}
			}
		}
		out := make([]any, 0, len(list))
		for i, e := range list {
			at := path
			if len(list) > 1 {
				at = fmt.Sprintf("%s[%d]", path, i)
			}
			if ev, ok := r.value(n.elem, e, at); ok {
				out = append(out, ev)
			}
		}
		return out, true
	case kMap, kObject:
		if maps, ok := v.([]map[string]any); ok && len(maps) > 1 {
			r.bad("'%s' expected a map, got 'slice': the block stands %d times in one file", path, len(maps))
			return nil, false
		}
		m, ok := asMap(v)
		if !ok {
			return wrong()
		}
		if n.kind == kObject {
			return r.object(n, m, path), true
		}
		out := make(tree, len(m))
		for _, k := range sortedKeys(m) {
			if ev, ok := r.value(n.elem, m[k], join(path, k)); ok {
				out[k] = ev
			}
		}
		return out, true
	}
	// One value in a list stands for the value.
	if list, ok := v.([]any); ok && len(list) == 1 {
		v = list[0]
	}
	if out, ok := scalar(n.kind, v); ok {
		return out, true
	}
	return wrong()
}

// scalar converts v, as the parsers give it, to one of the scalar kinds.
func scalar(k kind, v any) (any, bool) {
	text := ""
	switch x := v.(type) {
	case string:
		text = strings.TrimSpace(x)
		if k == kString {
			return x, true
		}
	case bool:
		text = strconv.FormatBool(x)
		if k == kInt || k == kFloat || k == kDuration {
			return nil, false
		}
	case int:
		text = strconv.Itoa(x)
	case float64:
		text = strconv.FormatFloat(x, 'f', -1, 64)
	case json.Number:
		text = x.String()
	default:
		return nil, false
	}
	switch k {
	case kString:
		return text, true
	case kBool:
		b, err := strconv.ParseBool(text)
		return b, err == nil
	case kInt:
		i, err := strconv.ParseInt(text, 10, strconv.IntSize)
		return i, err == nil
	case kFloat:
		f, err := strconv.ParseFloat(text, 64)
		return f, err == nil && !math.IsNaN(f)
	case kDuration:
		d, err := time.ParseDuration(text)
		return d, err == nil
	}
	return nil, false
}

// describe names a value's shape and, when that helps and is short, its text.
// The text of strings is left out: it may be a secret.
func describe(v any) string {
	switch x := v.(type) {
	case string:
		return "a string that is not one"
	case bool:
		return strconv.FormatBool(x)
	case int, float64, json.Number:
		return fmt.Sprintf("the number %v", x)
	case []any:
		return fmt.Sprintf("a list of %d", len(x))
	}
	return "a map"
}

// asMap unwraps what the parsers give for an object: HCL blocks come as a list
// of one map.
func asMap(v any) (map[string]any, bool) {
	switch x := v.(type) {
	case map[string]any:
		return x, true
	case []map[string]any:
		if len(x) == 1 {
			return x[0], true
		}
	case []any:
		if len(x) == 1 {
			m, ok := x[0].(map[string]any)
			return m, ok
		}
	}
	return nil, false
}

// plain makes an opaque value independent of the format it was written in.
func plain(v any) any {
	switch x := v.(type) {
	case []map[string]any:
		if len(x) == 1 {
			return plain(x[0])
		}
		list := make([]any, len(x))
		for i, m := range x {
			list[i] = plain(m)
		}
		return list
	case map[string]any:
		m := make(tree, len(x))
		for k, e := range x {
			m[k] = plain(e)
		}
		return m
	case []any:
		list := make([]any, len(x))
		for i, e := range x {
			list[i] = plain(e)
		}
		return list
	case int:
		return int64(x)
	case json.Number:
		if i, err := x.Int64(); err == nil {
			return i
		}
		f, _ := x.Float64()
		return f
	}
	return v
}

func empty(v any) bool {
	switch x := plain(v).(type) {
	case nil:
		return true
	case []any:
		return len(x) == 0
	case tree:
		return len(x) == 0
	default:
		return reflect.ValueOf(x).IsZero()
	}
}

// renameKeys moves the values of old spellings to the keys that replaced them.
// Where both stand in one source the current spelling wins.
func (r *reader) renameKeys(raw map[string]any) {
	keys().walk(func(n *node) {
		if n.fate != renamed {
			return
		}
		v, ok := take(raw, n.path)
		if !ok || v == nil {
			return
		}
		r.warn("The '%s' field is deprecated. Use the '%s' field instead.", n.path, n.note)
		put(raw, n.note, v)
	})
}

// take removes and returns the value at a path.
func take(raw map[string]any, path string) (any, bool) {
	name, rest, deeper := strings.Cut(path, ".")
	v, ok := raw[name]
	if !ok {
		return nil, false
	}
	if !deeper {
		delete(raw, name)
		return v, true
	}
	m, ok := asMap(v)
	if !ok {
		return nil, false
	}
	return take(m, rest)
}

// put sets the value at a path unless there is one; lists are joined.
func put(raw map[string]any, path string, v any) {
	name, rest, deeper := strings.Cut(path, ".")
	if !deeper {
		have, ok := raw[name]
		if !ok || have == nil {
			raw[name] = v
			return
		}
		if a, isList := have.([]any); isList {
			b, isList := v.([]any)
			if !isList {
				b = []any{v}
			}
			raw[name] = append(slices.Clip(a), b...)
		}
		return
	}
	m, ok := asMap(raw[name])
	if !ok {
		if raw[name] != nil {
			return // of a wrong shape, which is reported where it stands
		}
		m = map[string]any{}
		raw[name] = m
	}
	put(m, rest, v)
}

// merge puts b over a: scalars are replaced, lists appended, maps merged.
func merge(a, b tree) tree {
	for k, v := range b {
		if have, ok := a[k]; ok {
			v = mergeValue(have, v)
		}
		a[k] = v
	}
	return a
}

func mergeValue(a, b any) any {
	switch bv := b.(type) {
	case tree:
		if av, ok := a.(tree); ok {
			return merge(av, bv)
		}
	case []any:
		if av, ok := a.([]any); ok {
			return append(slices.Clip(av), bv...)
		}
	}
	return b
}

// over puts the flags' tree over the rest: their scalars win, yet their list
// elements come first.
func over(rest, flags tree) tree {
	for k, f := range flags {
		have, ok := rest[k]
		if !ok {
			rest[k] = f
			continue
		}
		switch fv := f.(type) {
		case tree:
			if hv, ok := have.(tree); ok {
				rest[k] = over(hv, fv)
				continue
			}
		case []any:
			if hv, ok := have.([]any); ok {
				rest[k] = append(slices.Clip(fv), hv...)
				continue
			}
		}
		rest[k] = f
	}
	return rest
}

func sortedKeys(m map[string]any) []string {
	names := make([]string, 0, len(m))
	for k := range m {
		names = append(names, k)
	}
	slices.Sort(names)
	return names
}

func lastName(path string) string { return path[strings.LastIndexByte(path, '.')+1:] }
