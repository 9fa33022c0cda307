package acl

import (
	"cmp"
	"slices"
	"strings"
)

// Defaults are what holds where no rule says anything.
type Defaults struct {
	Allow           bool // acl.default_policy = "allow"
	AllowIntentions bool // default_intention_policy, or else Allow
}

// level is the default of a resource.
func (d Defaults) level(r Resource) level {
	switch {
	case r == ACL:
		return deny
	case r == Intention && d.AllowIntentions, r != Intention && d.Allow:
		return write
	}
	return deny
}

// Authorizer decides what one set of policies allows.
type Authorizer struct {
	matchers [named]matcher
	scalars  [resources]level // resolved: fallbacks and defaults are in
}

// matcher holds the rules about one resource with names.
type matcher struct {
	folds     bool
	exact     map[string]level
	prefixes  map[string]level
	lengths   []int   // of the prefixes, each once, longest first
	sorted    []entry // all rules by label
	every     level   // what is allowed whatever the name
	otherwise level
}

type entry struct {
	label string
	level level
}

// Compile joins the rules of all policies of a token.
func Compile(d Defaults, policies ...*Rules) *Authorizer {
	a := new(Authorizer)
	for r := range a.matchers {
		m := &a.matchers[r]
		m.folds, m.otherwise = Resource(r).folds(), d.level(Resource(r))
	}
	for _, p := range policies {
		for _, r := range p.labelled {
			a.matchers[r.resource].add(r)
		}
		for r, l := range p.scalars {
			a.scalars[r] = a.scalars[r].merge(l)
		}
	}
	for r := range a.matchers {
		a.matchers[r].finish()
	}
	for r := named; r < resources; r++ {
		if a.scalars[r] == unset && (r == Mesh || r == Peering) {
			a.scalars[r] = a.scalars[Operator] // which comes first, and is resolved
		}
		if a.scalars[r] == unset {
			a.scalars[r] = d.level(r)
		}
	}
	return a
}

func (m *matcher) add(r rule) {
	at := &m.exact
	if r.prefix {
		at = &m.prefixes
	}
	if *at == nil {
		*at = make(map[string]level)
	}
	(*at)[r.label] = (*at)[r.label].merge(r.level)
}

func (m *matcher) finish() {
	for label, l := range m.exact {
		m.sorted = append(m.sorted, entry{label, l})
	}
	for label, l := range m.prefixes {
		m.sorted = append(m.sorted, entry{label, l})
		if !slices.Contains(m.lengths, len(label)) {
			m.lengths = append(m.lengths, len(label))
		}
	}
	slices.SortFunc(m.lengths, func(a, b int) int { return b - a })
	slices.SortFunc(m.sorted, func(a, b entry) int { return cmp.Compare(a.label, b.label) })
	m.every = m.prefixLevel("")
	for _, e := range m.sorted {
		m.every = min(m.every, e.level)
	}
}

// level is what the rules say about a name.
func (m *matcher) level(name string) level {
	if l, ok := m.exact[name]; ok {
		return l
	}
	return m.prefixLevel(name)
}

func (m *matcher) prefixLevel(name string) level {
	for _, n := range m.lengths {
		if n > len(name) {
			continue
		}
		if l, ok := m.prefixes[name[:n]]; ok {
			return l
		}
	}
	return m.otherwise
}

// Can is whether access to the thing of that name is allowed. Resources without
// names ignore it.
func (a *Authorizer) Can(r Resource, name string, want Access) bool {
	if r >= named {
		return r < resources && a.scalars[r].allows(want)
	}
	m := &a.matchers[r]
	if m.every.allows(want) {
		return true
	}
	if m.folds && upper(name) {
		name = strings.ToLower(name)
	}
	return m.level(name).allows(want)
}

// CanAll is whether access is allowed whatever the name: lists need not be looked
// through then.
func (a *Authorizer) CanAll(r Resource, want Access) bool {
	if r >= named {
		return a.Can(r, "", want)
	}
	return a.matchers[r].every.allows(want)
}

// CanBelow is whether access to everything whose name begins with prefix is
// allowed, whatever there is: the prefix itself must allow it, and no rule about
// something below it may allow less.
func (a *Authorizer) CanBelow(r Resource, prefix string, want Access) bool {
	if r >= named {
		return a.Can(r, "", want)
	}
	m := &a.matchers[r]
	if m.folds {
		prefix = strings.ToLower(prefix)
	}
	if !m.prefixLevel(prefix).allows(want) {
		return false
	}
	i, _ := slices.BinarySearchFunc(m.sorted, prefix, func(e entry, p string) int { return cmp.Compare(e.label, p) })
	for ; i < len(m.sorted) && strings.HasPrefix(m.sorted[i].label, prefix); i++ {
		if !m.sorted[i].level.allows(want) {
			return false
		}
	}
	return true
}

// CanSome is whether there may be a name to which access is allowed: by the
// default or by any rule.
func (a *Authorizer) CanSome(r Resource, want Access) bool {
	if r >= named {
		return a.Can(r, "", want)
	}
	m := &a.matchers[r]
	if m.prefixLevel("").allows(want) {
		return true
	}
	return slices.ContainsFunc(m.sorted, func(e entry) bool { return e.level.allows(want) })
}

// CanAny is whether there may be anything to which access is allowed.
func (a *Authorizer) CanAny(want Access) bool {
	for r := range resources {
		if a.CanSome(r, want) {
			return true
		}
	}
	return false
}

// upper is whether folding would change the name, or may.
func upper(name string) bool {
	for i := range len(name) {
		if c := name[i]; c >= 'A' && c <= 'Z' || c >= 0x80 {
			return true
		}
	}
	return false
}
