package store

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// CheckTemplate refuses a template that could not be rendered: its type, its
// expression, and every string it interpolates. A plain query is never refused.
func (q *PreparedQuery) CheckTemplate() error {
	if !q.IsTemplate() {
		return nil
	}
	if q.Template.Type != NamePrefixMatch {
		return badTemplate("Bad Template.Type '%s'", q.Template.Type)
	}
	_, err := q.Render(q.Name)
	return err
}

func badTemplate(format string, args ...any) error {
	return Errorf(KindInvalid, "raft apply failed: failed compiling template: "+format, args...)
}

// Render returns the query that a template makes of a name it matches: a copy
// with every string of Service interpolated. The name begins with q.Name,
// without regard to case.
func (q *PreparedQuery) Render(name string) (*PreparedQuery, error) {
	v := templateValues{full: name, prefix: q.Name, suffix: foldedCut(name, strings.ToLower(q.Name))}
	if q.Template.Regexp != "" {
		re := q.compiled.Load()
		if re == nil {
			var err error
			if re, err = regexp.Compile(q.Template.Regexp); err != nil {
				return nil, badTemplate("Bad Regexp: %w", err)
			}
			q.compiled.Store(re)
		}
		v.groups = re.FindStringSubmatch(name)
	}
	out := q.Clone()
	var failed error
	out.Service.eachString(func(where, s string) string {
		r, err := v.expand(s)
		if err != nil && failed == nil {
			failed = badTemplate("Bad format '%s' in %s: %w", s, where, err)
		}
		return r
	})
	if failed != nil {
		return nil, failed
	}
	if q.Template.RemoveEmptyTags {
		out.Service.Tags = slices.DeleteFunc(out.Service.Tags, func(tag string) bool { return tag == "" })
	}
	return out, nil
}

// eachString replaces every string by what f makes of it; keys of maps stay.
func (s *QueryService) eachString(f func(where, s string) string) {
	one := func(where string, p *string) { *p = f("Service."+where, *p) }
	list := func(where string, l []string) {
		for i := range l {
			one(where, &l[i])
		}
	}
	values := func(where string, m map[string]string) {
		for _, k := range sortedKeys(m) {
			m[k] = f("Service."+where, m[k])
		}
	}
	one("Service", &s.Service)
	list("Failover.Datacenters", s.Failover.Datacenters)
	for i := range s.Failover.Targets {
		one("Failover.Targets", &s.Failover.Targets[i].Datacenter)
		one("Failover.Targets", &s.Failover.Targets[i].Peer)
	}
	list("IgnoreCheckIDs", s.IgnoreCheckIDs)
	one("Near", &s.Near)
	list("Tags", s.Tags)
	values("NodeMeta", s.NodeMeta)
	values("ServiceMeta", s.ServiceMeta)
	one("Peer", &s.Peer)
}

func (s *QueryService) clone() QueryService {
	c := *s
	c.Failover.Datacenters = slices.Clone(s.Failover.Datacenters)
	c.Failover.Targets = slices.Clone(s.Failover.Targets)
	c.IgnoreCheckIDs = slices.Clone(s.IgnoreCheckIDs)
	c.Tags = slices.Clone(s.Tags)
	c.NodeMeta = maps.Clone(s.NodeMeta)
	c.ServiceMeta = maps.Clone(s.ServiceMeta)
	return c
}

// templateValues are what a template's strings can refer to.
type templateValues struct {
	full, prefix, suffix string
	groups               []string // of Regexp; none if it did not match
}

// expand replaces each ${expression} of s; $${ stands for ${.
func (v *templateValues) expand(s string) (string, error) {
	var b strings.Builder
	for {
		i := strings.Index(s, "${")
		if i < 0 {
			b.WriteString(s)
			return b.String(), nil
		}
		if i > 0 && s[i-1] == '$' {
			b.WriteString(s[:i-1])
			b.WriteString("${")
			s = s[i+2:]
			continue
		}
		b.WriteString(s[:i])
		end := strings.IndexByte(s[i:], '}')
		if end < 0 {
			return "", fmt.Errorf("no } ends it")
		}
		text, err := v.value(strings.TrimSpace(s[i+2 : i+end]))
		if err != nil {
			return "", err
		}
		b.WriteString(text)
		s = s[i+end+1:]
	}
}

func (v *templateValues) value(expr string) (string, error) {
	switch expr {
	case "name.full":
		return v.full, nil
	case "name.prefix":
		return v.prefix, nil
	case "name.suffix":
		return v.suffix, nil
	case "agent.segment": // there are no segments
		return "", nil
	}
	arg, ok := strings.CutPrefix(expr, "match(")
	if ok {
		arg, ok = strings.CutSuffix(arg, ")")
	}
	if !ok {
		return "", fmt.Errorf("unknown variable accessed: %s", expr)
	}
	n, err := strconv.Atoi(strings.TrimSpace(arg))
	if err != nil || n < 0 {
		return "", fmt.Errorf("match takes the number of a group, not %q", arg)
	}
	if n < len(v.groups) {
		return v.groups[n], nil
	}
	return "", nil
}
