package watch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Spec says what to watch, in the words of the configuration. Which fields a type
// takes is in kinds; the others must be zero.
type Spec struct {
	Type       string
	Datacenter string // "" is the agent's own
	Token      string // "" is the source's own
	Stale      bool
	Filter     string

	Key         string
	Prefix      string
	Service     string
	Tags        []string
	PassingOnly bool
	State       string
	Name        string
	ServiceID   string
}

// kind is a type of watch.
type kind struct {
	params   []string // the parameters it takes, of those that are not for all
	required string   // the one it needs, and what to call it
	path     func(*Spec) string
	query    func(*Spec, url.Values)
	value    func(*Answer) ([]byte, error)
	hash     bool // blocks by content hash, not by index
	events   bool // a list that grows; its index may only be compared for equality
}

// everywhere are the parameters of all types that servers answer.
var everywhere = []string{"datacenter", "stale"}

var kinds = map[string]*kind{
	"key": {
		params: append([]string{"key"}, everywhere...), required: "key",
		path:  func(s *Spec) string { return keyPath(s.Key) },
		value: oneKey,
	},
	"keyprefix": {
		params: append([]string{"prefix"}, everywhere...), required: "prefix",
		path:  func(s *Spec) string { return keyPath(s.Prefix) },
		query: func(_ *Spec, q url.Values) { q.Set("recurse", "") },
		value: manyKeys,
	},
	"services": {
		params: append([]string{"filter"}, everywhere...),
		path:   func(*Spec) string { return "/v1/catalog/services" },
	},
	"nodes": {
		params: append([]string{"filter"}, everywhere...),
		path:   func(*Spec) string { return "/v1/catalog/nodes" },
	},
	"service": {
		params: append([]string{"service", "tag", "passingonly", "filter"}, everywhere...), required: "service",
		path: func(s *Spec) string { return "/v1/health/service/" + url.PathEscape(s.Service) },
		query: func(s *Spec, q url.Values) {
			for _, t := range s.Tags {
				q.Add("tag", t)
			}
			if s.PassingOnly {
				q.Set("passing", "1")
			}
		},
	},
	"checks": {
		params: append([]string{"service", "state", "filter"}, everywhere...),
		path: func(s *Spec) string {
			switch {
			case s.Service != "":
				return "/v1/health/checks/" + url.PathEscape(s.Service)
			case s.State != "":
				return "/v1/health/state/" + url.PathEscape(s.State)
			}
			return "/v1/health/state/any"
		},
	},
	"event": {
		params: []string{"name", "datacenter"},
		path:   func(*Spec) string { return "/v1/event/list" },
		query: func(s *Spec, q url.Values) {
			if s.Name != "" {
				q.Set("name", s.Name)
			}
		},
		events: true,
	},
	"agent_service": {
		params: []string{"service_id"}, required: "service_id",
		path:  func(s *Spec) string { return "/v1/agent/service/" + url.PathEscape(s.ServiceID) },
		value: orNull,
		hash:  true,
	},
	"connect_roots": {
		path: func(*Spec) string { return "/v1/agent/connect/ca/roots" },
	},
}

// Types lists the types of watches.
func Types() []string {
	var list []string
	for name := range kinds {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

// Plan is a checked Spec: what to ask, and how to read the answer.
type Plan struct {
	spec  Spec
	kind  *kind
	path  string
	query url.Values
}

// NewPlan checks a Spec. The error names everything that is wrong with it.
func NewPlan(s Spec) (*Plan, error) {
	switch s.Type {
	case "":
		return nil, errors.New("Watch type must be specified") //nolint:staticcheck // the text is part of the interface
	case "connect_leaf":
		return nil, errors.New("watch type connect_leaf needs certificates of the service mesh, which landbridge does not issue yet")
	}
	k := kinds[s.Type]
	if k == nil {
		return nil, fmt.Errorf("Unsupported watch type: %s", s.Type) //nolint:staticcheck // the text is part of the interface
	}
	var errs []error
	for _, p := range s.params() {
		if p.set && !slices.Contains(k.params, p.name) {
			errs = append(errs, fmt.Errorf("a watch of type %s has no parameter %s", s.Type, p.name))
		}
		if !p.set && p.name == k.required {
			errs = append(errs, fmt.Errorf("Must specify a single %s to watch", strings.ReplaceAll(p.name, "_", " "))) //nolint:staticcheck // the text is part of the interface
		}
	}
	if s.Service != "" && s.State != "" {
		errs = append(errs, errors.New("Cannot specify service and state")) //nolint:staticcheck // the text is part of the interface
	}
	if s.State != "" && !slices.Contains([]string{"any", "passing", "warning", "critical"}, s.State) {
		errs = append(errs, fmt.Errorf("state must be any, passing, warning or critical, is %q", s.State))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	p := &Plan{spec: s, kind: k, path: k.path(&s), query: url.Values{}}
	if s.Datacenter != "" {
		p.query.Set("dc", s.Datacenter)
	}
	if s.Stale {
		p.query.Set("stale", "")
	}
	if s.Filter != "" {
		p.query.Set("filter", s.Filter)
	}
	if k.query != nil {
		k.query(&s, p.query)
	}
	return p, nil
}

type param struct {
	name string
	set  bool
}

func (s *Spec) params() []param {
	return []param{
		{"datacenter", s.Datacenter != ""}, {"stale", s.Stale}, {"filter", s.Filter != ""}, {"key", s.Key != ""}, {"prefix", s.Prefix != ""},
		{"service", s.Service != ""}, {"tag", len(s.Tags) > 0}, {"passingonly", s.PassingOnly}, {"state", s.State != ""},
		{"name", s.Name != ""}, {"service_id", s.ServiceID != ""},
	}
}

// String names the watch for logs: its type and what it follows, no secrets.
func (p *Plan) String() string {
	s := &p.spec
	out := s.Type
	for _, part := range []string{s.Key, s.Prefix, s.Service, s.State, s.Name, s.ServiceID} {
		if part != "" {
			out += " " + part
		}
	}
	if s.Datacenter != "" {
		out += " in " + s.Datacenter
	}
	return out
}

// keyPath is the path of a key. Its slashes stay slashes, unless servers would
// clean the path and so make another key of it.
func keyPath(key string) string {
	parts := strings.Split(key, "/")
	for i, part := range parts {
		if part == "." || part == ".." || part == "" && i < len(parts)-1 {
			return "/v1/kv/" + strings.ReplaceAll(url.PathEscape(key), ".", "%2E")
		}
		parts[i] = url.PathEscape(part)
	}
	return "/v1/kv/" + strings.Join(parts, "/")
}

// StatusError is an answer that is no value.
type StatusError struct {
	Code int
	Body string
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("Unexpected response code: %d (%s)", e.Code, e.Body)
}

// read takes the value out of an answer, as compact JSON.
func (p *Plan) read(a *Answer) ([]byte, error) {
	if a.Status != http.StatusOK && (a.Status != http.StatusNotFound || p.kind.value == nil) {
		return nil, &StatusError{a.Status, string(bytes.TrimSpace(a.Body[:min(len(a.Body), 4<<10)]))}
	}
	if p.kind.value != nil {
		return p.kind.value(a)
	}
	return compact(a.Body)
}

func compact(body []byte) ([]byte, error) {
	var b bytes.Buffer
	b.Grow(len(body))
	if err := json.Compact(&b, body); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	return b.Bytes(), nil
}

// pair is a key as handlers get it: with its session, also where there is none.
type pair struct {
	Key         string
	CreateIndex uint64
	ModifyIndex uint64
	LockIndex   uint64
	Flags       uint64
	Value       []byte
	Session     string
}

func pairs(a *Answer) ([]pair, error) {
	list := []pair{}
	if a.Status == http.StatusNotFound {
		return list, nil
	}
	if err := json.Unmarshal(a.Body, &list); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	return list, nil
}

// oneKey is the key, or null if there is none.
func oneKey(a *Answer) ([]byte, error) {
	list, err := pairs(a)
	if err != nil || len(list) == 0 {
		return []byte("null"), err
	}
	return json.Marshal(list[0])
}

func manyKeys(a *Answer) ([]byte, error) {
	list, err := pairs(a)
	if err != nil {
		return nil, err
	}
	return json.Marshal(list)
}

// orNull is the answer, or null where there is nothing.
func orNull(a *Answer) ([]byte, error) {
	if a.Status == http.StatusNotFound {
		return []byte("null"), nil
	}
	return compact(a.Body)
}
