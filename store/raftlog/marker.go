package raftlog

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

const (
	raftFolder = "raft"
	markerFile = "raft.marker"
)

// ErrStateMissing is wrapped by the error of Open when this server had Raft
// state and does not find it. The process should exit with code 78 (EX_CONFIG),
// so that a service manager does not try again.
var ErrStateMissing = errors.New("raft state is missing")

// ErrOverruled is wrapped by the error of Open when the group that this server
// belonged to goes on without it, by the decision of an operator. The process
// should exit with code 78, too.
var ErrOverruled = errors.New("the Raft group was recovered without this server")

func overruled(dir string, mk *Marker) error {
	return fmt.Errorf("%w: what server %s of cluster %q holds is a past that the group has left (recovery %d); "+
		"run `landbridge operator raft forget -yes -data-dir=%s` on this machine, so that it joins the others as a new server",
		ErrOverruled, mk.RaftID, mk.ClusterID, mk.Overruled, dir)
}

const wayOut = "bring the folder back (mount, backup); or, if it is gone for good and other servers live, " +
	"run `landbridge operator raft forget -yes -data-dir=%s` on this machine, so that it joins them as a new server"

func missing(dir string, mk *Marker, found string) error {
	return fmt.Errorf("%w: %s says that server %s of cluster %q had reached term %d, but %s; "+wayOut,
		ErrStateMissing, filepath.Join(dir, markerFile), mk.RaftID, mk.ClusterID, mk.Term, found, dir)
}

// Marker is the content of raft.marker.
type Marker struct {
	Version   int    `json:"version"`
	RaftID    string `json:"raft_id"`
	ClusterID string `json:"cluster_id,omitempty"` // "" before the first leader made one
	Term      uint64 `json:"term"`                 // of a durable entry: never above CurrentTerm
	// Recoveries of the cluster as last seen in the state (store.Cluster).
	Recoveries uint64 `json:"recoveries,omitempty"`
	// Overruled is which recovery of the group left this server out, 0: none did.
	Overruled uint64 `json:"overruled_by_recovery,omitempty"`
}

// ReadMarker returns the marker of a data folder, nil if there is none.
func ReadMarker(dir string) (*Marker, error) { return readMarker(dir) }

func readMarker(dir string) (*Marker, error) {
	b, err := os.ReadFile(filepath.Join(dir, markerFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("raft log: %w", err)
	}
	var m Marker
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("raft log: %s: %w", filepath.Join(dir, markerFile), err)
	}
	return &m, nil
}

// Forget makes the data folder that of a server that never had Raft state: it
// moves a raft folder aside (its name is returned, "" if there was none) and
// removes the marker. It refuses while a process uses the folder. The caller
// also gives the server a new id: its old one may have voted.
func Forget(dir string) (moved string, err error) {
	raftDir := filepath.Join(dir, raftFolder)
	if exists(raftDir) {
		lock, err := lockFolder(raftDir)
		if err != nil {
			return "", err
		}
		defer lock.Close()
		moved = raftDir + ".forgotten-" + time.Now().UTC().Format("20060102T150405.000")
		if err := os.Rename(raftDir, moved); err != nil {
			return "", fmt.Errorf("raft log: %w", err)
		}
	}
	if err := os.Remove(filepath.Join(dir, markerFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return moved, fmt.Errorf("raft log: %w", err)
	}
	return moved, syncDir(dir)
}

// marker writes raft.marker when there is something durable to vouch for.
type marker struct {
	dir    string
	logger *slog.Logger
	// written is the term in the file, 0 if there is none: looked at on each
	// append without the mutex. Terms of entries begin at 1.
	written atomic.Uint64

	mu   sync.Mutex
	want Marker
	gone bool // forgotten: write no more
}

func newMarker(dir, raftID string, found *Marker, logger *slog.Logger) *marker {
	m := &marker{dir: dir, logger: logger, want: Marker{Version: 1, RaftID: raftID}}
	if found != nil {
		m.want.ClusterID = found.ClusterID
		m.want.Term = found.Term
		m.want.Recoveries, m.want.Overruled = found.Recoveries, found.Overruled
		if found.RaftID == raftID {
			m.written.Store(found.Term)
		}
	}
	return m
}

// durable says that an entry or snapshot of the term is on disk. It cannot
// fail the append that is already durable: an error is logged, and the next
// append tries again.
func (m *marker) durable(term uint64) {
	if term <= m.written.Load() {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.want.Term = max(m.want.Term, term)
	if err := m.writeLocked(); err != nil {
		m.logger.Error("cannot write the marker that guards against a lost raft log", "err", err)
	}
}

func (m *marker) setCluster(id string, recoveries uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.want.ClusterID == id && m.want.Recoveries == recoveries {
		return nil
	}
	m.want.ClusterID, m.want.Recoveries = id, recoveries
	if m.want.Term == 0 {
		return nil // nothing durable yet
	}
	return m.writeLocked()
}

func (m *marker) overrule(recovery uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.want.Overruled = recovery
	return m.writeLocked()
}

func (m *marker) writeLocked() error {
	if m.gone {
		return nil
	}
	b, err := json.Marshal(m.want)
	if err != nil {
		return err
	}
	if err := WriteFile(filepath.Join(m.dir, markerFile), append(b, '\n')); err != nil {
		return fmt.Errorf("raft log: %w", err)
	}
	m.written.Store(m.want.Term)
	return nil
}

func (m *marker) forget() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gone = true
	if err := os.Remove(filepath.Join(m.dir, markerFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("raft log: %w", err)
	}
	return syncDir(m.dir)
}
