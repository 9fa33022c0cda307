package identity

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"sync"

	"landbridge/store"
	"landbridge/store/acl"
	"landbridge/store/state"
)

// policy is one set of rules that a token has.
type policy struct {
	key  string // names the rules: equal keys, equal rules
	text string
}

// policiesOf lists what a token may do in a datacenter: its policies and those of
// its roles, and what identities and templates stand for. The order is always the
// same.
func policiesOf(id *state.ACLIdentity, dc string) ([]policy, error) {
	var list []policy
	for _, p := range id.Policies {
		if !applies(p.Datacenters, dc) {
			continue
		}
		// The text is part of the key by its hash: after a restore an index may come
		// a second time with other rules.
		sum := sha256.Sum256([]byte(p.Rules))
		list = append(list, policy{p.ID + "@" + strconv.FormatUint(uint64(p.ModifyIndex), 10) + "#" + hex.EncodeToString(sum[:8]), p.Rules})
	}
	grants := []*store.ACLGrants{&id.Token.ACLGrants}
	for _, r := range id.Roles {
		grants = append(grants, &r.ACLGrants)
	}
	for _, g := range grants {
		for _, s := range g.ServiceIdentities {
			if !applies(s.Datacenters, dc) {
				continue
			}
			text, err := acl.ServiceIdentity(s.ServiceName)
			if err != nil {
				return nil, err
			}
			list = append(list, policy{"service:" + s.ServiceName, text})
		}
		for _, n := range g.NodeIdentities {
			if !strings.EqualFold(n.Datacenter, dc) {
				continue
			}
			text, err := acl.NodeIdentity(n.NodeName)
			if err != nil {
				return nil, err
			}
			list = append(list, policy{"node:" + n.NodeName, text})
		}
		for _, t := range g.TemplatedPolicies {
			if !applies(t.Datacenters, dc) {
				continue
			}
			tmpl := acl.TemplateNamed(t.TemplateName)
			if tmpl == nil {
				tmpl = acl.TemplateNamed(t.TemplateID)
			}
			if tmpl == nil {
				return nil, store.Errorf(store.KindInternal, "the templated policy %q is unknown to this version of landbridge", t.TemplateName)
			}
			text, err := tmpl.Expand(t.Name)
			if err != nil {
				return nil, err
			}
			list = append(list, policy{tmpl.Name + ":" + t.Name, text})
		}
	}
	slices.SortFunc(list, func(a, b policy) int { return strings.Compare(a.key, b.key) })
	return slices.CompactFunc(list, func(a, b policy) bool { return a.key == b.key }), nil
}

// applies is whether something that is limited to datacenters holds in one.
func applies(dcs []string, dc string) bool {
	return len(dcs) == 0 || slices.ContainsFunc(dcs, func(d string) bool { return strings.EqualFold(d, dc) })
}

// maxCompiled bounds what is kept of either kind below. Beyond it all is dropped
// and made anew: nobody has so many policies that differ.
const maxCompiled = 1024

// compiler shares rules among tokens, and authorizers among tokens that have the
// same ones.
type compiler struct {
	defaults acl.Defaults

	mu          sync.Mutex
	rules       map[string]*acl.Rules
	authorizers map[string]*acl.Authorizer
}

func newCompiler(d acl.Defaults) *compiler {
	return &compiler{defaults: d, rules: make(map[string]*acl.Rules), authorizers: make(map[string]*acl.Authorizer)}
}

// compile returns the authorizer of policies. One that cannot be read may be the
// one that denies something: then there is none.
func (c *compiler) compile(list []policy) (*acl.Authorizer, error) {
	var key strings.Builder
	for _, p := range list {
		key.WriteString(p.key)
		key.WriteByte('\n')
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := c.authorizers[key.String()]; a != nil {
		return a, nil
	}
	all := make([]*acl.Rules, len(list))
	for i, p := range list {
		r := c.rules[p.key]
		if r == nil {
			var err error
			if r, err = acl.Parse(p.text); err != nil {
				return nil, store.Errorf(store.KindInternal, "the rules of a policy of the token cannot be read: %w", err)
			}
			if len(c.rules) >= maxCompiled {
				clear(c.rules)
			}
			c.rules[p.key] = r
		}
		all[i] = r
	}
	if len(c.authorizers) >= maxCompiled {
		clear(c.authorizers)
	}
	a := acl.Compile(c.defaults, all...)
	c.authorizers[key.String()] = a
	return a, nil
}
