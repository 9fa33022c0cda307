//go:build unix

package raftlog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// lockFolder holds raft/lock until the file is closed. Without it a second
// agent on the same folder would wait in silence for wal-meta.db's own lock.
func lockFolder(raftDir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(raftDir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("raft log: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("raft log: %s is in use by another process", raftDir)
		}
		return nil, fmt.Errorf("raft log: lock %s: %w", raftDir, err)
	}
	return f, nil
}
