package config

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// Machine is what a configuration may ask of the machine.
type Machine struct {
	Hostname   func() (string, error)
	Interfaces func() ([]netip.Prefix, error) // addresses of the interfaces that are up
	Template   func(string) (string, error)   // renders a go-sockaddr template
}

// Load reads all sources and returns the configuration, with warnings the user
// should see. The error joins everything that is wrong, one problem each.
func (l *Loader) Load() (*Config, []string, error) {
	if l.Format != "" && l.Format != "hcl" && l.Format != "json" {
		return nil, nil, fmt.Errorf("-config-format must be hcl or json")
	}
	t, warnings, err := l.merged()
	if err != nil {
		return nil, warnings, err
	}
	unbuilt, err := fates(t)
	if len(unbuilt) > 0 {
		warnings = append(warnings, "landbridge does not have these yet; they are accepted and have no effect: "+strings.Join(unbuilt, ", "))
	}
	c := defaults()
	if l.Dev {
		devDefaults(&c)
	}
	decode(t, &c)
	if gossip, _ := t["gossip_lan"].(tree); !l.Dev {
		c.GossipLAN.byRole(c.Server, gossip)
	}
	if l.Dev {
		if c.BootstrapExpect > 0 {
			err = errors.Join(err, errors.New("'bootstrap_expect > 0' not allowed in dev mode"))
		}
		c.DataDir = ""
	}
	more, invalid := c.finish(l.Machine.orReal())
	warnings = append(warnings, more...)
	if err = errors.Join(err, invalid); err != nil {
		return nil, unique(warnings), flatten(err)
	}
	l.watched(&c)
	return &c, unique(warnings), nil
}

// LoadDefinitions reads the services and checks that files define, for commands
// that register them through the API.
func (l *Loader) LoadDefinitions() ([]Service, []Check, error) {
	t, _, err := l.merged()
	if err != nil {
		return nil, nil, err
	}
	var c Config
	decode(t, &c)
	return c.Services, c.Checks, nil
}

// merged reads the sources into one tree.
func (l *Loader) merged() (tree, []string, error) {
	list, warnings, err := files(l.Files, l.Format)
	if err != nil {
		return nil, warnings, flatten(err)
	}
	all := tree{}
	var errs []error
	add := func(source string, raw map[string]any, err error) {
		if err != nil {
			errs = append(errs, err)
			return
		}
		r := reader{source: source}
		merge(all, r.root(raw))
		errs, warnings = append(errs, r.errs...), append(warnings, r.warnings...)
	}
	for _, path := range list {
		raw, err := readFile(path, l.Format)
		add(path, raw, err)
	}
	for _, text := range l.HCL {
		raw, err := parse([]byte(text), "hcl")
		if err != nil {
			err = fmt.Errorf("-hcl: %w", err)
		}
		add("-hcl", raw, err)
	}
	l.credentials(add)
	if len(errs) > 0 {
		return nil, unique(warnings), flatten(errors.Join(errs...))
	}
	return over(all, clone(l.flags)), unique(warnings), nil
}

// clone copies the maps of a tree, so that merging does not change the original.
func clone(t tree) tree {
	out := make(tree, len(t))
	for k, v := range t {
		if m, ok := v.(tree); ok {
			v = clone(m)
		}
		out[k] = v
	}
	return out
}

// fates looks for keys that landbridge does not have: those to warn about, and
// an error for each that must not be ignored.
func fates(t tree) (unbuilt []string, err error) {
	var errs []error
	var visit func(n *node, v any)
	visit = func(n *node, v any) {
		switch {
		case n.fate == later || n.fate == protects:
			if s := text(v); s == n.def || n.def == "" && empty(v) {
				return
			}
			if n.fate == protects {
				errs = append(errs, fmt.Errorf("%s is not built yet and protects something, so it is not ignored: remove it, or set its default (%s)",
					n.path, orNone(n.def)))
				return
			}
			unbuilt = append(unbuilt, n.path)
		case n.kind == kObject:
			m, _ := v.(tree)
			for _, name := range n.names {
				if c, ok := m[name]; ok {
					visit(n.children[name], c)
				}
			}
		case n.kind == kList && n.elem.kind == kObject:
			list, _ := v.([]any)
			for _, e := range list {
				visit(n.elem, e)
			}
		}
	}
	visit(keys(), t)
	slices.Sort(unbuilt)
	return slices.Compact(unbuilt), errors.Join(errs...)
}

func text(v any) string { return fmt.Sprint(v) }

func orNone(s string) string {
	if s == "" {
		return "empty"
	}
	return s
}

// Problems lists the single problems of an error that Load returned.
func Problems(err error) []error {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var list []error
		for _, e := range many.Unwrap() {
			list = append(list, Problems(e)...)
		}
		return list
	}
	return []error{err}
}

// flatten makes a nest of joined errors one list without repetitions.
func flatten(err error) error {
	if err == nil {
		return nil
	}
	var list []error
	seen := map[string]bool{}
	for _, e := range Problems(err) {
		if !seen[e.Error()] {
			seen[e.Error()] = true
			list = append(list, e)
		}
	}
	if len(list) == 1 {
		return list[0]
	}
	return errors.Join(list...)
}

func (m Machine) orReal() Machine {
	if m.Hostname == nil {
		m.Hostname = os.Hostname
	}
	if m.Interfaces == nil {
		m.Interfaces = interfaces
	}
	if m.Template == nil {
		m.Template = renderTemplate
	}
	return m
}
