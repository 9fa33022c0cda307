package config

import (
	"strings"
)

// KVReplication is a block of kv_replication: a one-way copy of keys.
type KVReplication struct {
	Source  string   `key:"source"`
	Prefix  string   `key:"prefix"`
	Target  string   `key:"target"`
	Exclude []string `key:"exclude"`
}

// mostExcluded bounds the prefixes that a block leaves out.
const mostExcluded = 256

func (k *checker) checkKVReplication(c *Config) {
	for i := range c.KVReplication {
		r := &c.KVReplication[i]
		if r.Source = strings.ToLower(r.Source); !datacenterRE.MatchString(r.Source) || r.Source == c.Datacenter {
			k.bad("kv_replication[%d].source must be another datacenter, is %q", i, r.Source)
		}
		if r.Prefix == "" {
			k.bad("kv_replication[%d].prefix is missing: it says which keys of the source are copied", i)
		}
		if r.Target == "" {
			r.Target = r.Prefix
		}
		if len(r.Exclude) > mostExcluded {
			k.bad("kv_replication[%d].exclude has %d entries, at most %d are possible", i, len(r.Exclude), mostExcluded)
		}
		for _, x := range r.Exclude {
			if !strings.HasPrefix(x, r.Prefix) || x == r.Prefix {
				k.bad("kv_replication[%d].exclude: %q is not below the prefix %q", i, x, r.Prefix)
			}
		}
		for j := range i {
			o := &c.KVReplication[j]
			if r.Target != "" && o.Target != "" && (strings.HasPrefix(r.Target, o.Target) || strings.HasPrefix(o.Target, r.Target)) {
				k.bad("kv_replication[%d].target %q overlaps with %q of kv_replication[%d]: each would delete what the other copies", i, r.Target, o.Target, j)
			}
		}
	}
	if len(c.KVReplication) > 0 && !c.Server {
		k.warn("kv_replication has no effect on a client agent: servers copy keys")
	}
}
