package config

import (
	"slices"
	"strings"
	"time"
)

// Values of acl.default_policy, acl.replicate_secrets and acl.down_policy.
var (
	defaultPolicies = []string{"allow", "deny"}
	secretForms     = []string{"plain", "hashed"}
	downPolicies    = []string{"allow", "deny", "extend-cache", "async-cache"}
)

func (k *checker) checkACL(a *ACL) {
	if !slices.Contains(defaultPolicies, a.DefaultPolicy) {
		k.bad("acl.default_policy must be %s, is %q", strings.Join(defaultPolicies, " or "), a.DefaultPolicy)
	}
	if !slices.Contains(downPolicies, a.DownPolicy) {
		k.bad("acl.down_policy must be one of %s, is %q", strings.Join(downPolicies, ", "), a.DownPolicy)
	}
	if !slices.Contains(secretForms, a.ReplicateSecrets) {
		k.bad("acl.replicate_secrets must be %s, is %q", strings.Join(secretForms, " or "), a.ReplicateSecrets)
	} else if a.ReplicateSecrets == "hashed" && !a.EnableTokenReplication {
		k.warn(`acl.replicate_secrets = "hashed" is about tokens, which are not replicated without acl.enable_token_replication`)
	}
	if strings.HasSuffix(a.AuditFile, "/") {
		k.bad("acl.audit_file must be a file, is the directory %q", a.AuditFile)
	}
	if a.AuditFile != "" && !a.Enabled {
		k.warn("acl.audit_file is about access control, which is off (acl.enabled)")
	}
	for _, ttl := range []struct {
		key string
		at  *time.Duration
	}{{"acl.token_ttl", &a.TokenTTL}, {"acl.policy_ttl", &a.PolicyTTL}, {"acl.role_ttl", &a.RoleTTL}} {
		if *ttl.at < 0 {
			k.bad("%s must be at least 0s, is %s", ttl.key, *ttl.at)
		}
	}
	if g := a.ReplicationGuard; g.Min < 0 {
		k.bad("acl.replication_guard.min must be at least 0, is %d", g.Min)
	}
	if g := a.ReplicationGuard; !(g.Share >= 0 && g.Share <= 1) {
		k.bad("acl.replication_guard.share must be between 0 and 1, is %v", g.Share)
	}
	if a.RoleTTL == 0 {
		a.RoleTTL = 30 * time.Second
	}
}
