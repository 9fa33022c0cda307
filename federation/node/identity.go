package node

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"landbridge/federation/node/internal/machine"
)

var uuidRE = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// nodeID returns the configured id, else the one in the data folder, else a new
// one, which is kept there (node-id, spec config.md 11): random, or made from the
// machine's own.
func nodeID(cfg *Config) (string, error) {
	if cfg.NodeID != "" {
		id := strings.ToLower(cfg.NodeID)
		if !uuidRE.MatchString(id) {
			return "", fmt.Errorf("node_id %q is not a UUID", cfg.NodeID)
		}
		return id, keepNodeID(cfg, id)
	}
	if cfg.DataDir != "" {
		raw, err := os.ReadFile(filepath.Join(cfg.DataDir, "node-id"))
		switch {
		case err == nil:
			id := strings.ToLower(strings.TrimSpace(string(raw)))
			if !uuidRE.MatchString(id) {
				return "", fmt.Errorf("%s does not hold a UUID; remove it to get a new one", filepath.Join(cfg.DataDir, "node-id"))
			}
			return id, nil
		case !errors.Is(err, fs.ErrNotExist):
			return "", fmt.Errorf("node id: %w", err)
		}
	}
	id := newUUID()
	if cfg.HostNodeID {
		// Not with the machine's ID as it is: that one is not to be shown.
		if host := machine.HostID(); host != "" {
			id = host
		} else {
			cfg.Logger.Warn("the machine has no ID of its own, using a random node ID", "component", "agent")
		}
	}
	return id, keepNodeID(cfg, id)
}

// keepNodeID writes the id durably: a server that came back under another id
// would be a stranger to its own Raft group.
func keepNodeID(cfg *Config, id string) error {
	if cfg.DataDir == "" {
		return nil
	}
	file := filepath.Join(cfg.DataDir, "node-id")
	if old, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(old)) == id {
		return nil
	}
	if err := writeDurably(cfg.DataDir, "node-id", []byte(id)); err != nil {
		return fmt.Errorf("node id: %w", err)
	}
	return nil
}

// newUUID returns a random UUID (RFC 9562 version 4).
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: it would crash the process instead
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
