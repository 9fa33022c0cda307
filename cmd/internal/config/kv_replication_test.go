package config

import (
	"strings"
	"testing"
)

func TestKVReplication(t *testing.T) {
	for _, tc := range []struct{ name, hcl, want string }{
		{"a block", `kv_replication { source = "DC2" prefix = "app/" exclude = ["app/x/"] }`, ""},
		{"two", `kv_replication = [{ source = "dc2" prefix = "a/" }, { source = "dc3" prefix = "a/" target = "from-dc3/" }]`, ""},
		{"from here", `kv_replication { source = "dc1" prefix = "app/" }`, `kv_replication[0].source must be another datacenter, is "dc1"`},
		{"no source", `kv_replication { prefix = "app/" }`, `kv_replication[0].source must be another datacenter, is ""`},
		{"no prefix", `kv_replication { source = "dc2" target = "x/" }`, `kv_replication[0].prefix is missing`},
		{"excluded elsewhere", `kv_replication { source = "dc2" prefix = "app/" exclude = ["other/"] }`, `kv_replication[0].exclude: "other/" is not below the prefix "app/"`},
		{"all excluded", `kv_replication { source = "dc2" prefix = "app/" exclude = ["app/"] }`, `"app/" is not below the prefix`},
		{"one in the other", `kv_replication = [{ source = "dc2" prefix = "a/" }, { source = "dc3" prefix = "a/b/" }]`, `kv_replication[1].target "a/b/" overlaps with "a/" of kv_replication[0]`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, warnings, err := (&Loader{HCL: []string{`bind_addr = "127.0.0.1" data_dir = "x" server = true`, tc.hcl}}).Load()
			switch {
			case tc.want == "" && (err != nil || len(warnings) > 0):
				t.Errorf("%v, %q", err, warnings)
			case tc.want == "" && (c.KVReplication[0].Source != "dc2" || c.KVReplication[0].Target != c.KVReplication[0].Prefix):
				t.Errorf("read as %+v", c.KVReplication)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}
