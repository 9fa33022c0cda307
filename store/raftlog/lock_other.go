//go:build !unix

package raftlog

import (
	"fmt"
	"os"
	"path/filepath"
)

// lockFolder relies on the lock of wal-meta.db where there is no flock: a
// second process waits there.
func lockFolder(raftDir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(raftDir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("raft log: %w", err)
	}
	return f, nil
}
