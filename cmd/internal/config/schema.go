package config

import (
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
)

// kind is the shape a key's value must have.
type kind uint8

const (
	kAny      kind = iota // opaque: not looked into
	kString               // string
	kBool                 // bool
	kInt                  // int64
	kFloat                // float64
	kDuration             // time.Duration
	kList                 // []any of elem
	kMap                  // map[string]any of elem, keys are the user's
	kObject               // map[string]any, keys are ours
)

func (k kind) String() string {
	return [...]string{"a value", "a string", "a boolean", "a number", "a number",
		`a duration such as "30s"`, "a list", "a map", "a map"}[k]
}

// node is one key in the tree of all keys. The tree is built once and never
// changed, so it may be shared.
type node struct {
	path     string // "ports.http"
	kind     kind
	children map[string]*node // kObject
	names    []string         // children's names, sorted
	elem     *node            // kList, kMap
	loose    bool             // names are found in any spelling: CamelCase, any case
	fate     fate
	note     string // what to say about it, by fate
	def      string // the default's text, for fates that ask "is it another value?"
}

// keys returns the tree of all keys, made on first use from the fields of
// Config and the table of keys.go.
var keys = sync.OnceValue(func() *node {
	root := objectNode(reflect.TypeFor[Config](), "", false)
	for _, e := range otherKeys() {
		for path := range strings.FieldsSeq(e.paths) {
			root.add(path, e)
		}
	}
	root.finish()
	return root
})

func objectNode(t reflect.Type, path string, loose bool) *node {
	n := &node{path: path, kind: kObject, children: map[string]*node{}, loose: loose}
	for i := range t.NumField() {
		f := t.Field(i)
		key, ok := f.Tag.Lookup("key")
		switch {
		case ok:
			n.children[key] = typeNode(f.Type, join(path, key), loose)
		case f.Anonymous:
			for k, c := range objectNode(f.Type, path, loose).children {
				n.children[k] = c
			}
		}
	}
	return n
}

func typeNode(t reflect.Type, path string, loose bool) *node {
	if t == reflect.TypeFor[time.Duration]() {
		return &node{path: path, kind: kDuration}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return typeNode(t.Elem(), path, loose)
	case reflect.String:
		return &node{path: path, kind: kString}
	case reflect.Bool:
		return &node{path: path, kind: kBool}
	case reflect.Int:
		return &node{path: path, kind: kInt}
	case reflect.Float64:
		return &node{path: path, kind: kFloat}
	case reflect.Slice:
		// Lists of objects are definitions: their keys are matched loosely.
		return &node{path: path, kind: kList, elem: typeNode(t.Elem(), path, t.Elem().Kind() == reflect.Struct)}
	case reflect.Map:
		return &node{path: path, kind: kMap, elem: typeNode(t.Elem(), path, loose)}
	case reflect.Struct:
		return objectNode(t, path, loose)
	case reflect.Interface:
		return &node{path: path, kind: kAny}
	}
	panic("config: no kind of key for " + path + " " + t.String())
}

// add puts a key of the table at its path, with the objects above it. A path
// through a list ("services.proxy") continues in the list's elements.
func (n *node) add(path string, e keyEntry) {
	name, rest, deeper := strings.Cut(path, ".")
	if n.kind == kList {
		n = n.elem
	}
	child := n.children[name]
	if child == nil {
		child = &node{path: join(n.path, name), kind: kObject, children: map[string]*node{}, loose: n.loose}
		if !deeper {
			child.kind = e.kind
		}
		n.children[name] = child
	}
	if deeper {
		child.add(rest, e)
		return
	}
	child.fate, child.note, child.def = e.fate, e.note, e.def
}

func (n *node) finish() {
	if n.elem != nil {
		n.elem.finish()
	}
	for name, c := range n.children {
		n.names = append(n.names, name)
		c.finish()
	}
	slices.Sort(n.names)
}

// child finds a key by the name a user wrote.
func (n *node) child(name string) *node {
	if c := n.children[name]; c != nil || !n.loose {
		return c
	}
	want := squash(name)
	for _, k := range n.names {
		if squash(k) == want {
			return n.children[k]
		}
	}
	return nil
}

// squash makes service_id, ServiceID and serviceid equal.
func squash(s string) string { return strings.ReplaceAll(strings.ToLower(s), "_", "") }

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// walk visits n's keys in order, depth first.
func (n *node) walk(visit func(*node)) {
	visit(n)
	if n.elem != nil {
		n.elem.walk(visit)
	}
	for _, name := range n.names {
		n.children[name].walk(visit)
	}
}
