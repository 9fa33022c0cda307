package node

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"landbridge/forwarding/endpoint"
	"landbridge/forwarding/endpoint/authmethod"
	"landbridge/lan/leader"
	"landbridge/store"
)

// aclMethods is what the methods about access control need; nil where it is off.
func (s *server) aclMethods() *endpoint.ACL {
	cfg := &s.n.cfg
	if !cfg.ACL.Enabled {
		return nil
	}
	return &endpoint.ACL{
		Primary: s.aclPrimary, Fenced: s.fencedACL, LocalTokens: cfg.ACL.TokenReplication,
		Node: cfg.NodeName, DefaultPolicy: cfg.ACL.DefaultPolicy, DownPolicy: cfg.ACL.DownPolicy,
		BootstrapReset: s.bootstrapReset, Methods: authmethod.New(), Replication: s.replicationStatus,
		Audit: cfg.ACL.Audit,
	}
}

// leaderACL is what a leader does for access control; nil where it is off.
func (s *server) leaderACL() *leader.ACL {
	cfg := &s.n.cfg
	if !cfg.ACL.Enabled {
		return nil
	}
	return &leader.ACL{Primary: s.ownsACLs, InitialManagement: cfg.ACL.Tokens.InitialManagement}
}

// bootstrapResetFile is where an operator writes the number that a refused bootstrap
// names, to let it happen once more.
const bootstrapResetFile = "acl-bootstrap-reset"

// bootstrapReset reads that file, and returns what removes it.
func (s *server) bootstrapReset() (store.Index, func() error) {
	kept := func() error { return nil }
	if s.n.cfg.DataDir == "" {
		return 0, kept
	}
	name := filepath.Join(s.n.cfg.DataDir, bootstrapResetFile)
	raw, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, kept
	}
	if err != nil {
		s.n.log.Error("the bootstrap reset file cannot be read", "file", name, "err", err)
		return 0, kept
	}
	index, err := strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 64)
	if err != nil {
		s.n.log.Error("the bootstrap reset file holds no number", "file", name)
		return 0, kept
	}
	return store.Index(index), func() error { return os.Remove(name) }
}
