package authmethod

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/go-bexpr"

	"landbridge/store"
	"landbridge/store/acl"
)

// maxSteps bounds the parser of selectors, which backtracks.
const maxSteps = 1_000_000

// maxSelector bounds a selector's length.
const maxSelector = 16 << 10

// CheckRule refuses a rule that could not bind anything. Its errors are of
// KindInvalid.
func CheckRule(m *store.ACLAuthMethod, r *store.ACLBindingRule) error {
	bad := func(format string, args ...any) error {
		return store.Errorf(store.KindInvalid, "Invalid Binding Rule: "+format, args...)
	}
	switch {
	case r.BindType == "":
		return bad("no BindType is set")
	case r.BindName == "":
		return bad("no BindName is set")
	}
	if r.Selector != "" {
		if _, err := selector(r.Selector); err != nil {
			return bad("invalid Selector: %w", err)
		}
	}
	switch r.BindType {
	case store.BindService, store.BindNode, store.BindRole, store.BindPolicy:
		if r.BindVars != "" {
			return bad("invalid BindName or BindVars: bind vars are only for BindType %q", store.BindTemplated)
		}
	case store.BindTemplated:
	default:
		return bad("invalid BindName or BindVars: unknown BindType %q", r.BindType)
	}
	names, err := variables(m)
	if err != nil {
		return err
	}
	values := make(map[string]string, len(names))
	for _, n := range names {
		values[n] = "fake" // a value that is a valid name
	}
	if _, err := replace(r.BindName, values); err != nil {
		return bad("invalid BindName or BindVars: %w", err)
	}
	name, err := replace(r.BindVars, values)
	if err != nil {
		return bad("invalid BindName or BindVars: %w", err)
	}
	if r.BindType == store.BindTemplated {
		t := acl.TemplateNamed(r.BindName)
		if t == nil {
			return bad("invalid BindName or BindVars: no such ACL templated policy with Name %q", r.BindName)
		}
		if _, err := t.Expand(name); err != nil {
			return bad("invalid BindName or BindVars: %w", err)
		}
	}
	return nil
}

func selector(text string) (*bexpr.Evaluator, error) {
	if len(text) > maxSelector {
		return nil, fmt.Errorf("it has %d bytes, at most %d", len(text), maxSelector)
	}
	return bexpr.CreateEvaluator(text, bexpr.WithMaxExpressions(maxSteps))
}

// replace puts values in the place of ${name}.
func replace(text string, values map[string]string) (string, error) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, "${")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return "", fmt.Errorf("%q has no closing brace", "${"+rest)
		}
		v, ok := values[strings.TrimSpace(name)]
		if !ok {
			return "", fmt.Errorf("unknown variable accessed: %s", strings.TrimSpace(name))
		}
		b.WriteString(v)
		text = after
	}
}

// Bound is what the rules give: rights by name, which may not exist.
type Bound struct {
	Services, Nodes, Roles, Policies []string
	Templates                        []store.TemplatedPolicy
}

// Bind applies the rules whose selectors match. A rule that makes a name which
// nothing can have is an error: what its writer meant cannot be told.
func Bind(rules []*store.ACLBindingRule, id *Identity) (*Bound, error) {
	b := new(Bound)
	add := func(to *[]string, name string) {
		if !slices.Contains(*to, name) {
			*to = append(*to, name)
		}
	}
	for _, r := range rules {
		if !matches(r.Selector, id) {
			continue
		}
		name, err := replace(r.BindName, id.values)
		if err != nil {
			return nil, store.Errorf(store.KindInvalid, "cannot compute bind name of binding rule %s: %w", r.ID, err)
		}
		invalid := func() error {
			return store.Errorf(store.KindInvalid, "computed %q bind name for bind target is invalid: %q", r.BindType, name)
		}
		switch r.BindType {
		case store.BindService, store.BindNode:
			if name = strings.ToLower(name); !acl.ValidName(name) {
				return nil, invalid()
			}
			if r.BindType == store.BindService {
				add(&b.Services, name)
			} else {
				add(&b.Nodes, name)
			}
		case store.BindRole:
			if name == "" {
				return nil, invalid()
			}
			add(&b.Roles, name)
		case store.BindPolicy:
			if name == "" {
				return nil, invalid()
			}
			add(&b.Policies, name)
		case store.BindTemplated:
			t := acl.TemplateNamed(name)
			v, err := replace(r.BindVars, id.values)
			if t == nil || err != nil {
				return nil, invalid()
			}
			v = strings.ToLower(v)
			if _, err := t.Expand(v); err != nil {
				return nil, err
			}
			if !t.NeedsName {
				v = ""
			}
			tp := store.TemplatedPolicy{TemplateID: t.ID, TemplateName: t.Name, Name: v}
			if !slices.ContainsFunc(b.Templates, func(o store.TemplatedPolicy) bool { return o.TemplateID == tp.TemplateID && o.Name == tp.Name }) {
				b.Templates = append(b.Templates, tp)
			}
		}
	}
	return b, nil
}

// matches evaluates a selector. One that asks for what the identity does not have
// does not match.
func matches(text string, id *Identity) bool {
	if text == "" {
		return true
	}
	e, err := selector(text)
	if err != nil {
		return false
	}
	ok, err := e.Evaluate(id.fields)
	return err == nil && ok
}
